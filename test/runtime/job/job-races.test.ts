import { describe, expect, test } from "vitest";
import { refFromHex } from "../../../packets/digest.ts";
import { FaultCode } from "../../../packets/faults.ts";
import { Flag, Op } from "../../../packets/layout.ts";
import { decodePacket, encodeFrame } from "../../../packets/packet.ts";
import { StreamWriter } from "../../../packets/stream-writer.ts";
import { PacketBudget } from "../../../runtime/job/packet-budget.ts";
import { JobError, JobErrorCode } from "../../../runtime/errors.ts";
import { EXECUTORS_WAIT_MS, JOBS_MAX, JOBS_REMEMBERED } from "../../../runtime/limits.ts";
import { CsvRows, encodeScan } from "../../../runtime/program/csv-rows.ts";
import { RUN_TRAILER_BYTES } from "../../../runtime/program/program.ts";
import type { ScriptedExecutor, Waiting } from "./scripted-executor.ts";
import { ScriptedWorld, settle } from "./scripted-world.ts";

/** More than fits into an answer, so that it is gone with the executor that made it. */
function long(text: string): string {
  return text.padEnd(40, ".");
}

/** What a real program would: maps yield their range, everything above the ranges of its input. */
function ranges({ packet, entry }: Waiting): string {
  return entry === "finish" ? '"result"' : long(`${entry} ${packet.at}`);
}

/** A stream that calls one of so many bytes so many times. */
function streamOf(executor: ScriptedExecutor, packets: number, bytes: number): Uint8Array {
  let stream = new Uint8Array(0);
  const inner = new StreamWriter((_ref, chunk) => void executor.put(chunk));
  inner.fill(Uint8Array.of(10), bytes);
  const { root } = inner.finish();
  const writer = new StreamWriter((_ref, chunk) => (stream = chunk));
  for (let packet = 0; packet < packets; packet++) writer.call(root, packet, Math.floor(bytes / packets));
  writer.call(root, 0, bytes % packets);
  writer.finish();
  return stream;
}

function notesOf(world: ScriptedWorld): string[] {
  return world.events.flatMap((event) => (event.kind === "note" ? [event.text] : []));
}

describe("an executor is lost", () => {
  test("packets in flight run elsewhere, and their late answers count for nothing", async () => {
    const world = new ScriptedWorld();
    const [first, second] = [world.add("a"), world.add("b")];
    const running = world.run({ inputs: [await world.putFile("x", 800)], splitBytes: 100 });
    await settle();
    expect(first.waiting.length).toBeGreaterThan(0);
    const lost = first.waiting.splice(0);
    world.executors.remove(first);
    for (const { lane, packet } of lost) lane.answer(packet, "wrong");
    while (second.waiting.length > 0) {
      second.answerAll(() => "1");
      await settle();
    }
    const { value, statistics } = await running;
    expect(value).toBe(1);
    expect(statistics.retries).toBeGreaterThanOrEqual(lost.filter(({ entry }) => entry === "map").length);
    expect(statistics.byNode).toEqual({ "node b": 8 });
    expect(statistics.notes).toContain('node "node a" is gone');
    expect(first.lanes.every(({ isClosed }) => isClosed)).toBe(true);
    expect(world.writers).toBe(1);
  });

  test("results that only it had are made again, those that stand in their answers are not", async () => {
    const world = new ScriptedWorld();
    const first = world.add("a", {}, 20);
    const running = world.run({ inputs: [await world.putFile("x", 400)], splitBytes: 100 });
    await settle();
    first.answerAll((waiting) => (waiting.packet.at < 2 ? "3" : long("map")));
    await settle();
    expect(first.waiting.map(({ entry }) => entry)).toEqual(["finish"]);
    const second = world.add("b", {}, 20);
    world.executors.remove(first);
    await settle();
    expect(second.waiting.map(({ entry, packet }) => [entry, packet.at])).toEqual([
      ["map", 2],
      ["map", 3],
    ]);
    second.answerAll(() => long("map"));
    await settle();
    expect(second.waiting.map(({ entry }) => entry)).toEqual(["finish"]);
    second.answerAll(() => "7");
    const { value, statistics } = await running;
    expect(value).toBe(7);
    // Each split counts for the node whose result did: together they are as many as there are.
    expect(statistics).toMatchObject({ tasks: 4, byNode: { "node a": 2, "node b": 2 }, retries: 3 });
  });

  test("merges of merges: only what is still needed is repeated", async () => {
    const world = new ScriptedWorld();
    const first = world.add("a", {}, 1500);
    const running = world.run({ inputs: [await world.putFile("x", 1100)], splitBytes: 1 });
    await settle();
    first.answerAll(ranges);
    await settle();
    first.answerAll(ranges);
    await settle();
    // 1100 maps and 35 merges are done; two merges of merges wait on the executor.
    expect(first.waiting.map(({ entry }) => entry)).toEqual(["merge", "merge"]);
    const second = world.add("b", {}, 1500);
    world.executors.remove(first);
    let repeated = 0;
    for (let round = 0; round < 6; round++) {
      await settle();
      repeated += second.waiting.filter(({ entry }) => entry === "map").length;
      second.answerAll(ranges);
    }
    expect(repeated).toBe(1100);
    expect((await running).value).toBe("result");
  });

  test("groups whose buckets are nowhere, or none, are made again before any partition of them runs", async () => {
    for (const wrong of ["nowhere", "no buckets"]) {
      const world = new ScriptedWorld();
      const first = world.add("a");
      const bytes = 16 * 1024 * 1024;
      const running = world.run({ inputs: [await world.putFile("x", 1)] }, { yields: "groups" });
      await settle();
      const answer = (ref: Uint8Array): void => {
        const [{ lane, packet }] = first.waiting.splice(0) as [Waiting];
        lane.say({ op: Op.RETURN, flags: Flag.STREAM, lane: 1, at: packet.at, length: bytes, ref });
      };
      answer(wrong === "nowhere" ? new Uint8Array(32).fill(7) : first.put(streamOf(first, 6, bytes)));
      await world.pass(400);
      expect(first.waiting.map(({ entry }) => entry)).toEqual(["map"]);
      answer(first.put(streamOf(first, 4, bytes)));
      await settle();
      expect(first.waiting.map(({ entry }) => entry)).toEqual(["finish", "finish", "finish", "finish"]);
      expect(first.waiting.map(({ packet }) => packet.length)).toEqual(
        [0, 1, 2, 3].map(() => "run\n".length + bytes / 4),
      );
      world.jobs.cancel("job");
      await expect(running).rejects.toMatchObject({ code: "PFS_CANCELLED" });
    }
  });

  test("a run of groups that says its index is longer than any is made again, and not read", async () => {
    const world = new ScriptedWorld();
    const first = world.add("a");
    const bytes = 16 * 1024 * 1024;
    const running = world.run({ inputs: [await world.putFile("x", 1)] }, { yields: "groups" });
    await settle();
    const answerAll = (ref: Uint8Array, length: number): void => {
      for (const { lane, packet } of first.waiting.splice(0))
        lane.say({ op: Op.RETURN, flags: Flag.STREAM, lane: 1, at: packet.at, length, ref });
    };
    answerAll(first.put(streamOf(first, 4, bytes)), bytes);
    await settle();
    const finishes = ["finish", "finish", "finish", "finish"];
    expect(first.waiting.map(({ entry }) => entry)).toEqual(finishes);
    let run = new Uint8Array(0);
    const writer = new StreamWriter((_ref, chunk) => (run = chunk));
    const indexBytes = 2 ** 40;
    writer.fill(Uint8Array.of(32), indexBytes);
    writer.data(Buffer.from(String(indexBytes).padStart(RUN_TRAILER_BYTES, "0")));
    writer.finish();
    const before = process.memoryUsage().heapUsed;
    answerAll(first.put(run), indexBytes + RUN_TRAILER_BYTES);
    await world.pass(400);
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(100_000_000);
    expect(first.waiting.map(({ entry }) => entry)).toEqual(finishes);
    world.jobs.cancel("job");
    await expect(running).rejects.toMatchObject({ code: "PFS_CANCELLED" });
  });

  test.each([
    ["is none", { flags: Flag.INLINE, length: 8, ref: new TextEncoder().encode("nonsense") }],
    ["says that it is endless", { flags: Flag.STREAM, length: 2 ** 50, ref: new Uint8Array(32) }],
  ])("a scan that %s is made again", async (_what, wrong) => {
    const world = new ScriptedWorld();
    const executors = [world.add("a"), world.add("b")];
    const reader = { kind: "csv", separator: ",", header: false } as const;
    const running = world.run({ inputs: [await world.putFile("x", 200)], splitBytes: 100 }, { reader });
    const scanner = new CsvRows(reader).scan(0);
    scanner.push(new Uint8Array(100).fill(97));
    const ref = encodeScan(scanner.result());
    let scans = 0;
    const answer = (waiting: Waiting, executor: ScriptedExecutor): void => {
      const { entry, lane, packet } = waiting;
      if (entry !== "scan") return lane.answer(packet, ranges(waiting));
      const right = { flags: 0, length: ref.byteLength, ref: executor.put(ref) };
      lane.say({ op: Op.RETURN, lane: 1, at: packet.at, ...(scans++ === 0 ? wrong : right) });
    };
    for (let round = 0; round < 8; round++) {
      await world.pass(100);
      for (const executor of executors)
        for (const waiting of executor.waiting.splice(0)) answer(waiting, executor);
    }
    expect((await running).value).toBe("result");
    expect(scans).toBeGreaterThanOrEqual(3);
    expect(notesOf(world).join()).toContain("made again: a scan yielded no rows");
  });

  test("the finish is made again when its result cannot be read", async () => {
    const world = new ScriptedWorld();
    const first = world.add("a");
    const running = world.run({ inputs: [await world.putFile("x", 1)] });
    await settle();
    first.answerAll(() => "1");
    await settle();
    first.answerAll(() => `"${long("lost")}"`);
    first.chunks.clear();
    // Its lane is not believed any more, so that another one is loaded; there is no other executor.
    await world.pass(200);
    expect(first.waiting.map(({ entry }) => entry)).toEqual(["finish"]);
    first.answerAll(() => `"${long("found")}"`);
    expect((await running).value).toBe(long("found"));
    expect(notesOf(world).join()).toContain("made again");
  });

  test("a merge that finds its input nowhere has it made again", async () => {
    const world = new ScriptedWorld();
    const first = world.add("a");
    const running = world.run({ inputs: [await world.putFile("x", 200)], splitBytes: 100 });
    await settle();
    first.answerAll(ranges);
    await settle();
    first.chunks.clear();
    await settle();
    const [finish] = first.waiting.splice(0);
    expect(finish!.entry).toBe("finish");
    finish!.lane.fault(finish!.packet, FaultCode.inputMissing);
    await world.pass(200);
    expect(first.waiting.map(({ entry, packet }) => [entry, packet.at])).toEqual([
      ["map", 0],
      ["map", 1],
    ]);
    first.answerAll(ranges);
    await settle();
    first.answerAll(ranges);
    expect((await running).value).toBe("result");
  });
});

describe("executors that misbehave", () => {
  test("garbage, answers to nothing and cut frames cost the lane, not the job", async () => {
    for (const garbage of [new Uint8Array(64), new Uint8Array(10), encodeFrame([{ op: Op.HALT }])]) {
      const world = new ScriptedWorld();
      const bad = world.add("bad", {
        taken: ({ lane }) => queueMicrotask(() => lane.listener.returned(garbage)),
      });
      const running = world.run({ inputs: [await world.putFile("x", 10)] });
      await settle();
      expect(bad.lanes[0]!.isClosed).toBe(true);
      const good = world.add("good", {
        taken: ({ lane, packet }) => queueMicrotask(() => lane.answer(packet, "5")),
      });
      await world.pass(60_000);
      expect((await running).value).toBe(5);
      expect(good.lanes.length).toBeGreaterThan(0);
    }
  });

  test("answers that were not asked for, or come twice, are ignored", async () => {
    const world = new ScriptedWorld();
    const first = world.add("a");
    const running = world.run({ inputs: [await world.putFile("x", 200)], splitBytes: 100 });
    await settle();
    const [one, two] = first.waiting.splice(0);
    one!.lane.answer({ ...one!.packet, at: 77 }, "0");
    one!.lane.answer({ ...one!.packet, at: 2 ** 53 - 1 }, "0");
    one!.lane.answer(one!.packet, "1");
    one!.lane.answer(one!.packet, "0");
    two!.lane.answer(two!.packet, "2");
    await settle();
    const [finish] = first.waiting.splice(0);
    const input = await world.read(finish!.packet.ref);
    expect(input).toBe("12");
    finish!.lane.answer(finish!.packet, "3");
    expect((await running).value).toBe(3);
  });

  test("a defect of one executor is tried on another, and its own fault ends the job at once", async () => {
    const world = new ScriptedWorld();
    const broken = world.add("broken");
    const running = world.run({ inputs: [await world.putFile("x", 1)] });
    await settle();
    const [map] = broken.waiting.splice(0);
    const good = world.add("good");
    map!.lane.fault(map!.packet, FaultCode.internal, "disk full");
    await settle();
    expect(good.waiting.map(({ entry }) => entry)).toEqual(["map"]);
    const [again] = good.waiting.splice(0);
    again!.lane.fault(again!.packet, FaultCode.threw, "its own fault");
    await expect(running).rejects.toMatchObject({
      code: "PFS_PROGRAM_THREW",
      message: 'its own fault (bytes 0 to 1 of "x", on node "node good")',
    });
    expect([...broken.lanes, ...good.lanes].every(({ isClosed }) => isClosed)).toBe(true);
  });

  test("a program that no executor can load", async () => {
    const world = new ScriptedWorld();
    const refuse = async (): Promise<void> => {
      throw new JobError(JobErrorCode.internal, "no room");
    };
    world.add("a", { loaded: refuse });
    const running = expect(world.run({ inputs: [await world.putFile("x", 1)] })).rejects.toMatchObject({
      code: "PFS_NO_EXECUTOR",
      message: expect.stringContaining("no room"),
    });
    await world.pass(60_000);
    await running;
  });
});

describe("several tasks fail", () => {
  /** The packets with these `at`, which are not there any more. */
  function take(executor: ScriptedExecutor, ...ats: number[]): Waiting[] {
    return ats.map((at) => {
      const index = executor.waiting.findIndex(({ packet }) => packet.at === at);
      return executor.waiting.splice(index, 1)[0]!;
    });
  }

  function fail({ entry, lane, packet }: Waiting, code: FaultCode = FaultCode.threw): void {
    lane.fault(packet, code, `fault of ${entry} ${packet.at}`);
  }

  function stateOf(world: ScriptedWorld): string {
    return world.jobs.jobs()[0]!.state;
  }

  test("the first of them is told, whichever was answered first, and what comes behind it is not run", async () => {
    const world = new ScriptedWorld();
    const first = world.add("a", {}, 4);
    const running = world.run({ inputs: [await world.putFile("x", 5000)], splitBytes: 1 });
    const told = expect(running).rejects.toMatchObject({
      message: 'fault of map 2 (bytes 2 to 3 of "x", on node "node a")',
      data: { task: 2 },
    });
    await settle();
    const sent = first.waiting.length;
    expect(sent).toBeLessThan(5000);
    const [zero, one, two, three, four] = take(first, 0, 1, 2, 3, 4);
    fail(four!);
    await settle();
    fail(two!);
    fail(three!);
    zero!.lane.answer(zero!.packet, "1");
    // What it has already may be answered as it likes.
    for (const waiting of first.waiting.splice(0)) {
      if (waiting.packet.at % 2 === 0) fail(waiting);
      else waiting.lane.answer(waiting.packet, "1");
    }
    await world.pass(5_000);
    expect(stateOf(world)).toBe("running");
    expect(first.waiting).toEqual([]);
    one!.lane.answer(one!.packet, "1");
    await told;
    expect(first.lanes.every(({ isClosed }) => isClosed)).toBe(true);
  });

  test("a merge's fault waits for the maps, and gives way to that of a map", async () => {
    for (const isMapFaulty of [false, true]) {
      const world = new ScriptedWorld();
      const first = world.add("a", {}, 200);
      const running = world.run({ inputs: [await world.putFile("x", 96)], splitBytes: 1 });
      const message = isMapFaulty ? "fault of map 95 (" : "fault of merge 97 (merge of results 32 to 63";
      const told = expect(running).rejects.toMatchObject({ message: expect.stringContaining(message) });
      await settle();
      const [early, late] = take(first, 0, 95);
      first.answerAll(() => "1");
      await settle();
      expect(first.waiting.map(({ packet }) => packet.at)).toEqual([97]);
      fail(take(first, 97)[0]!);
      await settle();
      early!.lane.answer(early!.packet, "1");
      await settle();
      // The merge before it may fail, too.
      const [merge] = take(first, 96);
      merge!.lane.answer(merge!.packet, "1");
      await settle();
      expect(stateOf(world)).toBe("running");
      if (isMapFaulty) fail(late!);
      else late!.lane.answer(late!.packet, "1");
      await told;
      expect(first.waiting).toEqual([]);
    }
  });

  test("a fault that is held outlives the node that it comes from, and results lost with it", async () => {
    const world = new ScriptedWorld();
    const first = world.add("a", {}, 200);
    const running = world.run({ inputs: [await world.putFile("x", 64)], splitBytes: 1 });
    const told = expect(running).rejects.toMatchObject({
      message: expect.stringContaining("fault of merge 65"),
    });
    await settle();
    const [zero] = take(first, 0);
    first.answerAll(() => long("map"));
    await settle();
    fail(take(first, 65)[0]!);
    await settle();
    const second = world.add("b", {}, 200);
    world.executors.remove(first);
    await settle();
    second.answerAll(() => "1");
    await settle();
    expect(zero!.entry).toBe("map");
    expect(second.waiting.map(({ packet }) => packet.at)).toEqual([64]);
    second.answerAll(() => "1");
    await told;
  });

  test("one that says nothing of the program ends the job at once", async () => {
    const world = new ScriptedWorld();
    const first = world.add("a", {}, 200);
    const running = world.run({ inputs: [await world.putFile("x", 4)], splitBytes: 1 });
    const told = expect(running).rejects.toMatchObject({ code: "PFS_INTERNAL", data: { task: 1 } });
    await settle();
    fail(take(first, 2)[0]!);
    for (let attempt = 0; attempt < 3; attempt++) {
      fail(take(first, 1)[0]!, FaultCode.internal);
      await settle();
    }
    await told;
  });

  test("an input that is missing is asked for once where there is no other executor", async () => {
    const world = new ScriptedWorld();
    const first = world.add("a", {}, 200);
    const running = world.run({ inputs: [await world.putFile("x", 4)], splitBytes: 1 });
    const told = expect(running).rejects.toMatchObject({ code: "PFS_INPUT_MISSING", data: { task: 1 } });
    await settle();
    fail(take(first, 1)[0]!, FaultCode.inputMissing);
    await told;
  });
});

describe("no executors", () => {
  test("a job waits for the first one, but not for ever", async () => {
    const world = new ScriptedWorld();
    const inputs = [await world.putFile("x", 1)];
    const waiting = world.run({ inputs, id: "lucky" });
    await world.pass(EXECUTORS_WAIT_MS / 2);
    const only = world.add("a", {
      taken: ({ lane, packet }) => queueMicrotask(() => lane.answer(packet, "1")),
    });
    expect((await waiting).value).toBe(1);
    world.executors.remove(only);
    const running = expect(world.run({ inputs })).rejects.toMatchObject({ code: "PFS_NO_EXECUTOR" });
    await world.pass(EXECUTORS_WAIT_MS + 1000);
    await running;
  });
});

describe("output files", () => {
  /** Answers maps with their own range, upper case. */
  function shout(world: ScriptedWorld): (executor: ScriptedExecutor) => Promise<void> {
    return async (executor) => {
      for (const { lane, packet } of executor.waiting.splice(0)) {
        const text = (await world.read(packet.ref)).slice(packet.from, packet.from + packet.length);
        lane.answer(packet, text.toUpperCase());
      }
    };
  }

  test("are called from every executor that made a part, neighbours together", async () => {
    const world = new ScriptedWorld();
    const executors = [world.add("a"), world.add("b"), world.add("c")];
    const input = await world.putFile("x", 2000);
    const bytes = { yields: "bytes", hasCombine: false } as const;
    const running = world.run({ inputs: [input], splitBytes: 50, out: "y" }, bytes);
    for (let round = 0; round < 40; round++) {
      await settle();
      await shout(world)(executors[round % 3]!);
    }
    const { file } = await running;
    expect(await world.read(refFromHex(file!.root)!)).toBe((await world.read(input.root)).toUpperCase());
    expect(world.names.get("y")).toMatchObject({ length: 2000 });
    for (const { id, names } of executors) expect([...names.keys()]).toEqual([`.parts/y/${id}`]);
  });

  test("what cannot be kept is made again elsewhere", async () => {
    const world = new ScriptedWorld();
    const fails = world.add("fails", {
      keeps: async () => {
        throw new JobError(JobErrorCode.internal, "disk full");
      },
    });
    const input = await world.putFile("x", 500);
    const bytes = { yields: "bytes", hasCombine: false } as const;
    const running = world.run({ inputs: [input], splitBytes: 100, out: "y" }, bytes);
    await settle();
    const good = world.add("good");
    for (let round = 0; round < 30 && world.names.size === 0; round++) {
      await shout(world)(fails);
      await shout(world)(good);
      await world.pass(50);
      if (round === 5) world.executors.remove(fails);
    }
    const { file, statistics } = await running;
    expect(await world.read(refFromHex(file!.root)!)).toBe((await world.read(input.root)).toUpperCase());
    expect(statistics.notes.join()).toContain("disk full");
  });
});

describe("locality", () => {
  test("splits go to the executor that has their chunks", async () => {
    const world = new ScriptedWorld();
    const [left, right] = [await world.putFile("left", 40), await world.putFile("right", 41)];
    const leaf = async (root: Uint8Array): Promise<Uint8Array> => {
      const [stream] = await world.source.read([root]);
      return decodePacket(stream!).ref;
    };
    const [leftLeaf, rightLeaf] = [await leaf(left.root), await leaf(right.root)];
    const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
    const a = world.add("a", { has: (ref) => same(ref, rightLeaf) }, 10);
    const b = world.add("b", { has: (ref) => same(ref, leftLeaf) }, 10);
    const running = world.run({ inputs: [left, right], splitBytes: 10 });
    await settle();
    const maps = (executor: ScriptedExecutor): number[] =>
      executor.waiting.filter(({ entry }) => entry === "map").map(({ packet }) => packet.at);
    expect(maps(b)).toEqual([0, 1, 2, 3]);
    expect(maps(a)).toEqual([4, 5, 6, 7, 8]);
    a.answerAll(() => "1");
    b.answerAll(() => "1");
    await settle();
    a.answerAll(() => "9");
    b.answerAll(() => "9");
    expect((await running).value).toBe(9);
  });

  test("an executor that never says what it has holds a job up for a moment only", async () => {
    const world = new ScriptedWorld();
    const answers = { taken: ({ lane, packet }: Waiting) => queueMicrotask(() => lane.answer(packet, "1")) };
    world.add("a", answers);
    const mute = world.add("mute", answers);
    mute.has = () => new Promise(() => {});
    const running = world.run({ inputs: [await world.putFile("x", 10)] });
    await settle();
    await world.pass(2_000);
    expect((await running).value).toBe(1);
  });
});

describe("what is taken on", () => {
  test("so many jobs at once, so many packets of all together, and no more", async () => {
    const world = new ScriptedWorld();
    const inputs = [await world.putFile("x", 1)];
    const waiting = Array.from({ length: JOBS_MAX }, (_, job) => world.run({ inputs, id: `${job}` }));
    await expect(world.run({ inputs })).rejects.toMatchObject({
      code: "PFS_JOB_OVER_LIMIT",
      data: { jobs: JOBS_MAX, max: JOBS_MAX },
    });
    const ended = Promise.allSettled(waiting);
    await world.jobs.close();
    await ended;
    const budget = new PacketBudget(10);
    budget.take(6);
    expect(() => budget.take(5)).toThrow(
      expect.objectContaining({ code: "PFS_JOB_OVER_LIMIT", data: { tasks: 11, max: 10 } }),
    );
    budget.give(1);
    budget.take(5);
  });
});

describe("results without a name", () => {
  test("stay until their job is released, or everything ends, and are freed once", async () => {
    const world = new ScriptedWorld();
    world.add("a", { taken: ({ lane, packet }) => lane.answer(packet, "x".repeat(100)) });
    const inputs = [await world.putFile("x", 1)];
    const bytes = { yields: "bytes", hasCombine: false } as const;
    for (const id of ["one", "two"]) await world.run({ id, inputs }, bytes);
    await world.run({ id: "named", inputs, out: "there" }, bytes);
    expect(world.freed).toEqual([]);
    await world.jobs.release("one");
    await world.jobs.release("one");
    await world.jobs.release("named");
    expect(world.freed).toEqual(["job-one"]);
    await world.jobs.close();
    expect(world.freed).toEqual(["job-one", "job-two"]);
  });
});

describe("what is remembered", () => {
  test("finished jobs, the newest first, and not more than a limit", async () => {
    const world = new ScriptedWorld();
    world.add("a", { taken: ({ lane, packet }) => queueMicrotask(() => lane.answer(packet, "1")) });
    for (let job = 0; job < JOBS_REMEMBERED + 5; job++) await world.run({ id: `job ${job}` });
    const jobs = world.jobs.jobs();
    expect(jobs).toHaveLength(JOBS_REMEMBERED);
    expect(jobs[0]).toMatchObject({ job: `job ${JOBS_REMEMBERED + 4}`, state: "done" });
  });

  test("progress is told at most every hundred milliseconds, and at the end", async () => {
    const world = new ScriptedWorld();
    const only = world.add("a");
    const running = world.run({ inputs: [await world.putFile("x", 100)], splitBytes: 1 });
    await settle();
    while (world.jobs.jobs()[0]!.state === "running") {
      for (const { entry, lane, packet } of only.waiting.splice(0)) {
        if (entry === "map") world.now += 10;
        lane.answer(packet, "1");
      }
      await settle();
    }
    await running;
    const progress = world.events.filter(({ kind }) => kind === "progress");
    expect(progress.length).toBeGreaterThan(5);
    expect(progress.length).toBeLessThan(14);
    expect(progress.at(-1)).toMatchObject({ done: 100, tasks: 100 });
  });

  test("closing cancels what runs and takes nothing on", async () => {
    const world = new ScriptedWorld();
    const only = world.add("a");
    const running = expect(world.run({ inputs: [await world.putFile("x", 1)] })).rejects.toMatchObject({
      code: "PFS_CANCELLED",
    });
    const program = await world.jobs.load(world.program());
    await settle();
    const exec = { op: Op.EXEC, flags: Flag.STREAM, lane: 1, length: 1 } as const;
    const executing = expect(program.exec(encodeFrame([exec]))).rejects.toMatchObject({
      code: "PFS_CANCELLED",
    });
    await settle();
    await world.jobs.close();
    await running;
    await executing;
    expect(only.lanes.every(({ isClosed }) => isClosed)).toBe(true);
    await expect(world.run({})).rejects.toMatchObject({ code: "PFS_CANCELLED" });
    await expect(world.jobs.load(world.program())).rejects.toMatchObject({ code: "PFS_CANCELLED" });
  });
});
