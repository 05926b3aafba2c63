/** Ways by which one packet was seen by another: each answer is the one that the packet gives alone, in any company. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FaultCode } from "../../packets/faults.ts";
import { loadProgram, runFrame, startExecutor } from "../runtime/sandbox/harness.ts";
import { Inputs, openProgram } from "./machine.ts";
import type { Answer, Packet } from "./machine.ts";

let inputs: Inputs;
beforeAll(() => {
  inputs = new Inputs();
});
afterAll(() => {
  inputs.close();
});

function program(scope: string, map: string, rest = ""): string {
  return `${scope}; export default { input: { kind: "lines" }, ${rest} map(line, c) { ${map} } };`;
}

/** The answers that packets give alone, which are those that they give in frames, in one isolate, in either order. */
function answersOf(source: string, texts: readonly string[]): Answer[] {
  const packets = texts.map((input, ref): Packet => ({ entry: "map", input, ref }));
  const guests = Array.from({ length: packets.length + 1 }, () => openProgram(source, "map", null));
  try {
    const alone = packets.map((packet, index) => inputs.run(guests[index]!, [packet])[0]!);
    const shared = guests.at(-1)!;
    expect(inputs.run(shared, packets)).toEqual(alone);
    expect(inputs.run(shared, packets.toReversed()).toReversed()).toEqual(alone);
    for (const [index, packet] of packets.entries())
      expect(inputs.run(shared, [packet])).toEqual([alone[index]]);
    return alone;
  } finally {
    for (const guest of guests) guest.dispose();
  }
}

describe("tables", () => {
  const NOT_MADE = "shared was called for a table that was not made when the program was loaded";

  it("are made by no packet's evaluation, so none sees what making them did", () => {
    const source = program("let n = 0; $packetfs.shared(() => { n = 42; return 0; })", "return n");
    expect(answersOf(source, ["a", "b"])).toEqual(Array(2).fill('0:{"k":[""],"v":[[0]]}\n'));
  });

  it("that loading did not make are missing for every packet, though it catches that", () => {
    const ask = "if (side === 0) $packetfs.shared(() => { n = 42; return 0; });";
    const scope = "let side = 0; let n = 0; $packetfs.shared(() => { side = 1; return 0; });";
    for (const asked of [ask, `try { ${ask} } catch {}`]) {
      for (const answer of answersOf(program(scope + asked, "return n"), ["a", "b"]))
        expect(answer).toMatch(`${FaultCode.threw}:\nTypeError: ${NOT_MADE}`);
    }
  });

  it("that cannot be made keep the program from loading, though it catches that", () => {
    const source = program(
      `try { $packetfs.shared(() => { throw new Error("no table"); }); } catch {}`,
      "return 1",
    );
    expect(() => openProgram(source, "map", null)).toThrow("no table");
  });

  it("that are imported while packets run are theirs alone", () => {
    const source = program(
      "",
      `const make = () => $packetfs.json('{"a":[1]}'); return [make(), make() === make()]`,
    );
    expect(answersOf(source, ["a", "b"])).toEqual(Array(2).fill('0:{"k":[""],"v":[[[{"a":[1]},false]]]}\n'));
  });
});

it("what ends a packet carries nothing to the next that it ends", async () => {
  await using executor = await startExecutor();
  const source = program(
    "",
    `try { c.write("x".repeat(2000)); } catch (stop) { console.log(stop.stack === "mine"); stop.stack = "mine"; }`,
    `yields: "bytes", limits: { outputBytes: 1000 },`,
  );
  const lane = await loadProgram(executor, source);
  for (const frame of [[{ bytes: "a" }], [{ bytes: "a" }, { bytes: "b" }]]) {
    const logs = (await runFrame(executor, lane, frame)).map(({ log }) => log);
    expect(logs).toEqual(frame.map(() => "false"));
  }
});
