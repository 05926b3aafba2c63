/** Programs that misbehave, each beside a lane that does not: what they end as, and when. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FaultCode } from "../../../packets/faults.ts";
import { Op } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import type { PacketFields } from "../../../packets/packet.ts";
import type { Lane } from "../../../runtime/contracts/executor.ts";
import { BusiestThread } from "../../suites/cpu-time.ts";
import { Collector } from "../../suites/collector.ts";
import { execStream } from "../../suites/exec-packets.ts";
import { LocalHarness } from "./local-harness.ts";

/** CPU time that ending a program may take on top of its limit. */
const GRACE_MS = 750;
const never = new AbortController().signal;

/** Misbehaves on input that begins with an exclamation mark, and yields any other. */
function program(misbehaviour: string, limits = "{}"): string {
  return `
    function misbehave() { ${misbehaviour} }
    export default {
      input: { kind: "bytes" },
      yields: "bytes",
      limits: ${limits},
      map: (bytes, { write }) => write(bytes[0] === 33 ? misbehave() : bytes),
    };`;
}

const HOSTILE = [
  { name: "loops", limitMs: 300, misbehaviour: "while (true) {}", codes: [FaultCode.timeLimit] },
  {
    name: "grows an array",
    limitMs: 1000,
    misbehaviour: "const array = []; while (true) array.push(array.length);",
    codes: [FaultCode.memoryLimit, FaultCode.timeLimit],
  },
  {
    name: "throws an error whose stack loops",
    limitMs: 300,
    misbehaviour: `
      const error = new Error("look at my stack");
      Object.defineProperty(error, "stack", { get() { while (true) {} } });
      throw error;`,
    codes: [FaultCode.timeLimit, FaultCode.threw],
  },
  {
    name: "is stuck in a built-in",
    limitMs: 300,
    misbehaviour: "Array.prototype.indexOf.call({ length: 2 ** 53 - 1 }, 1);",
    codes: [FaultCode.timeLimit],
  },
];

describe("hostile programs", () => {
  let harness: LocalHarness;
  let innocent: { lane: Lane; collector: Collector };
  let sent = 0;
  beforeAll(async () => {
    harness = await LocalHarness.open();
    innocent = await load(program(""), "innocent");
  });
  afterAll(() => harness.close());

  async function load(source: string, name: string): Promise<{ lane: Lane; collector: Collector }> {
    const collector = new Collector();
    const lane = await harness.executor.load(await harness.putProgram(source, { name }), collector, never);
    return { lane, collector };
  }

  async function textOf(collector: Collector, at: number): Promise<string> {
    return new TextDecoder().decode(await harness.readChunk(collector.answer(at).ref));
  }

  for (const { name, limitMs, misbehaviour, codes } of HOSTILE) {
    it(`one that ${name} ends as a fault in time, and its neighbour is untouched`, async () => {
      const hostile = await load(program(misbehaviour, `{ timeMs: ${limitMs} }`), name);
      const text = new TextEncoder().encode("!fine");
      const root = await harness.putFile(text);
      const good = (at: number): PacketFields => execStream(at, root, 1, 4);
      const neighbour = setInterval(() => {
        innocent.lane.exec(encodeFrame(Array.from({ length: 50 }, () => good(sent++))));
      }, 20);
      const busiest = new BusiestThread(harness.processes.at(-1)!.pid);
      hostile.lane.exec(encodeFrame([execStream(7, root, 0, 5)]));
      await hostile.collector.answered(1);
      clearInterval(neighbour);
      busiest.close();

      const answer = hostile.collector.answer(7);
      expect(answer.op).toBe(Op.FAULT);
      expect(codes).toContain(answer.from);
      const message = await textOf(hostile.collector, 7);
      expect(message).toContain(`"${name}"`);
      expect(message).toContain("packet 7");
      expect(busiest.milliseconds).toBeLessThan(limitMs + GRACE_MS);

      // The same lane goes on, whatever became of its process.
      hostile.lane.exec(encodeFrame([good(8)]));
      await hostile.collector.answered(2);
      expect(hostile.collector.answer(8).op).toBe(Op.RETURN);

      await innocent.collector.answered(sent);
      expect(innocent.collector.notes).toEqual([]);
      const wrong = [...innocent.collector.answers.values()].filter(
        ({ op, ref }) => op !== Op.RETURN || Buffer.compare(ref.subarray(0, 4), text.subarray(1)) !== 0,
      );
      expect(wrong).toEqual([]);
      await hostile.lane.close();
      expect([...hostile.collector.offences, ...innocent.collector.offences]).toEqual([]);
    });
  }

  it.each([
    ["memory", HOSTILE[1]!.misbehaviour, "{ memoryBytes: 16 * 1024 * 1024 }"],
    ["time", HOSTILE[0]!.misbehaviour, "{ timeMs: 300 }"],
  ])("harm none of the packets that run beside them in their own lane: %s", async (_what, body, limits) => {
    const { lane, collector } = await load(program(body, limits), "mixed");
    const text = new TextEncoder().encode("!fine");
    const root = await harness.putFile(text);
    const isHostile = (at: number): boolean => at % 100 === 50;
    const packets = Array.from({ length: 100 }, (_, at) => {
      return isHostile(at) ? execStream(at, root, 0, 5) : execStream(at, root, 1, 4);
    });
    lane.exec(encodeFrame(packets));
    await collector.answered(packets.length);
    const failed = [...collector.answers.values()].filter(({ op }) => op === Op.FAULT).map(({ at }) => at);
    expect(failed.toSorted((a, b) => a - b)).toEqual([50]);
    await lane.close();
    expect(collector.offences).toEqual([]);
  });
});
