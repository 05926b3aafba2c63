/** Calls of a loaded program: those of one turn of the event loop share a batch, and nobody notices. */
import { describe, expect, test } from "vitest";
import { FaultCode } from "../../../packets/faults.ts";
import { Flag, Op, PACKET_BYTES } from "../../../packets/layout.ts";
import { decodePacket, encodeFrame, packetCount } from "../../../packets/packet.ts";
import type { ProgramLanes } from "../../../runtime/job/jobs.ts";
import { STRAGGLER_MS_BLIND } from "../../../runtime/limits.ts";
import { ScriptedWorld, settle } from "./scripted-world.ts";
import type { Waiting } from "./scripted-executor.ts";

/** EXEC packets that each say who they are by their place. */
function frameOf(...places: readonly number[]): Uint8Array {
  return encodeFrame(
    places.map((from) => ({ op: Op.EXEC, flags: Flag.STREAM, lane: 9, at: 99, from, length: 1 })),
  );
}

/** What the answers say, each at its own place. */
function textsOf(answers: Uint8Array): string[] {
  return Array.from({ length: packetCount(answers) }, (_, index) => {
    const { at, op, ref, length } = decodePacket(answers, index);
    expect(at).toBe(index);
    return `${op === Op.RETURN ? "" : "!"}${new TextDecoder().decode(ref.subarray(0, length))}`;
  });
}

async function opened(taken?: (waiting: Waiting) => void): Promise<{
  world: ScriptedWorld;
  program: ProgramLanes;
  waiting: Waiting[];
}> {
  const world = new ScriptedWorld();
  const executor = world.add("a", taken === undefined ? {} : { taken });
  return { world, program: await world.jobs.load(world.program()), waiting: executor.waiting };
}

test("an answer to a packet that was sent twice is none to a packet of a later call", async () => {
  const world = new ScriptedWorld();
  const first = world.add("first");
  const second = world.add("second");
  const program = await world.jobs.load(world.program());
  const call = program.exec(frameOf(1));
  await world.pass(STRAGGLER_MS_BLIND * 2);
  const [slow, copy] = [...first.waiting.splice(0), ...second.waiting.splice(0)];
  copy!.lane.answer(copy!.packet, "1");
  expect(textsOf(await call)).toEqual(["1"]);
  const later = program.exec(frameOf(2, 3, 4, 5, 6, 7, 8, 9));
  await settle();
  slow!.lane.answer(slow!.packet, "1");
  for (let round = 0; round < 20; round++) {
    for (const { waiting } of [first, second])
      for (const { lane, packet } of waiting.splice(0)) lane.answer(packet, `${packet.from}`);
    await settle();
  }
  expect(textsOf(await later)).toEqual(["2", "3", "4", "5", "6", "7", "8", "9"]);
});

describe("calls of one turn", () => {
  test("each get the answers to their own packets, faults among them, whatever is answered first", async () => {
    const { program, waiting } = await opened();
    const calls = [[0], [1, 2, 3], [4], [], [5, 6]].map((places) => program.exec(frameOf(...places)));
    const answered: number[] = [];
    calls.forEach((call, index) => void call.then(() => answered.push(index)));
    for (let round = 0; round < 20; round++) {
      await settle();
      // The last first; the first call's packet not before all others are done.
      for (const { lane, packet } of waiting.splice(0).toReversed()) {
        if (packet.from === 0 && answered.length < 4) waiting.push({ entry: "map", lane, packet });
        else if (packet.from === 5) lane.fault(packet, FaultCode.threw, "five");
        else lane.answer(packet, `${packet.from}`);
      }
    }
    expect(answered.at(-1)).toBe(0);
    expect((await Promise.all(calls)).map(textsOf)).toEqual([
      ["0"],
      ["1", "2", "3"],
      ["4"],
      [],
      ["!five", "6"],
    ]);
  });

  test("are refused, aborted and closed one by one", async () => {
    const { program, waiting } = await opened();
    const broken = frameOf(1, 2);
    broken[PACKET_BYTES + 30]! ^= 1;
    const frame = frameOf(3);
    const abort = new AbortController();
    const [first, refused, second, aborted] = [
      program.exec(frameOf(0)),
      program.exec(broken),
      program.exec(frame),
      program.exec(frameOf(4), abort.signal),
    ];
    // It was taken over when it was given.
    frame.fill(0);
    await expect(refused).rejects.toMatchObject({ code: "PFS_PACKET_INVALID", data: { index: 1 } });
    abort.abort(new Error("enough"));
    await expect(aborted).rejects.toThrow("enough");
    await settle();
    for (const { lane, packet } of waiting.splice(0)) lane.answer(packet, `${packet.from}`);
    expect([textsOf(await first!), textsOf(await second!)]).toEqual([["0"], ["3"]]);
    const late = [program.exec(frameOf(7)), program.exec(frameOf(8))];
    await settle();
    waiting.splice(0).forEach(({ lane, packet }) => packet.from === 7 && lane.answer(packet, "7"));
    expect(textsOf(await late[0]!)).toEqual(["7"]);
    const never = program.exec(frameOf(9));
    await program.close();
    for (const call of [late[1]!, never, program.exec(frameOf(1))]) {
      await expect(call).rejects.toMatchObject({ code: "PFS_CANCELLED" });
    }
  });

  test("leave nothing behind: a thousand of them, again and again, find room", async () => {
    const { program } = await opened(({ lane, packet }) =>
      queueMicrotask(() => lane.answer(packet, `${packet.from}`)),
    );
    for (let round = 0; round < 5; round++) {
      const calls = Array.from({ length: 1024 }, (_, index) => program.exec(frameOf(index, index + round)));
      await expect(program.exec(frameOf(0))).rejects.toMatchObject({ code: "PFS_JOB_OVER_LIMIT" });
      for (const [index, answers] of (await Promise.all(calls)).entries()) {
        expect(textsOf(answers)).toEqual([`${index}`, `${index + round}`]);
      }
    }
  });
});
