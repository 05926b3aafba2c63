/** More lanes of a program than have runners of their own, and more programs than there are processes. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Op } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import type { Ref } from "../../../packets/digest.ts";
import { RUNNERS_MAX, SHARED_LANE_PACKETS_MAX } from "../../../runtime/limits.ts";
import type { Lane } from "../../../runtime/contracts/executor.ts";
import { Collector } from "../../suites/collector.ts";
import { execStream, seededBytes } from "../../suites/exec-packets.ts";
import { ECHO } from "../../suites/executor.ts";
import { LocalHarness } from "./local-harness.ts";

const never = new AbortController().signal;
/** Yields how often its module was asked, which is once for each packet, and its input. */
const COUNTS = `let asked = 0;
export default { input: { kind: "bytes" }, yields: "bytes", map: (bytes, { write }) => {
  write(Uint8Array.of(++asked)); write(bytes);
  if (bytes.length === 3) console.log("three");
  if (bytes.length === 5) throw new Error("five");
} };`;
/** Takes CPU time for each byte. */
const SLOW = `export default { input: { kind: "bytes" }, yields: "bytes", map: (bytes, { write }) => {
  let sum = 0;
  for (let step = 0; step < bytes.length * 1e5; step++) sum = (sum + step) | 0;
  if (sum !== 0.5) write(bytes);
} };`;

let harness: LocalHarness;
const file = seededBytes(100_000, 9);
let root: Ref;

async function begin(options?: Parameters<typeof LocalHarness.open>[0]): Promise<void> {
  harness = await LocalHarness.open(options);
  root = await harness.putFile(file);
}

interface Heard {
  readonly lane: Lane;
  readonly answers: Collector;
}

async function load(manifest: Ref, count: number): Promise<Heard[]> {
  const heard: Heard[] = [];
  for (let index = 0; index < count; index++) {
    const answers = new Collector();
    heard.push({ lane: await harness.executor.load(manifest, answers, never), answers });
  }
  return heard;
}

describe("lanes of one program, more than have runners of their own,", () => {
  const COUNT = RUNNERS_MAX + 30;
  beforeEach(() => begin());
  afterEach(() => harness.close());

  it("hear the answers of their own packets, and are told what these took", async () => {
    const started = harness.processes.length;
    const lanes = await load(await harness.putProgram(COUNTS), COUNT);
    for (const [index, { lane }] of lanes.entries()) {
      // A frame of no packets is none.
      lane.exec(new Uint8Array(0));
      const packets = [index, 3, 5].map((length, at) => execStream(at, root, index, length));
      // Whatever number a lane has where its packets come from, and those of one of them are called by two.
      const numbers = index === COUNT - 1 ? [7, 8, 7] : [index % 5, index % 5, index % 5].map((it) => it + 1);
      lane.exec(encodeFrame(packets.map((packet, at) => ({ ...packet, lane: numbers[at]! }))));
    }
    for (const [index, { answers }] of lanes.entries()) {
      await answers.answered(3);
      const [own, three, five] = [0, 1, 2].map((at) => answers.answer(at));
      expect([own!.op, three!.op, five!.op]).toEqual(
        index === 5 ? [Op.FAULT, Op.RETURN, Op.FAULT] : [Op.RETURN, Op.RETURN, Op.FAULT],
      );
      expect(Array.from(three!.ref.slice(0, 4))).toEqual([1, ...file.slice(index, index + 3)]);
      if (index > 31)
        expect([...(await harness.readChunk(own!.ref))]).toEqual([1, ...file.slice(index, 2 * index)]);
      const numbers = index === COUNT - 1 ? [7, 8, 7] : Array<number>(3).fill((index % 5) + 1);
      expect([own!.lane, three!.lane, five!.lane]).toEqual(numbers);
      expect(answers.logs.filter(({ text }) => text === "three").length).toBeGreaterThan(0);
      expect(answers.offences).toEqual([]);
    }
    expect(harness.processes.length - started).toBe(1);
    const { open, lanes: infos } = harness.lanes.info(COUNT);
    expect(open).toBe(COUNT);
    for (const { packets, faults, inputBytes, inFlight, cpuMs, lane } of infos) {
      const index = lane - 1;
      expect([packets, faults, inputBytes, inFlight]).toEqual([3, index === 5 ? 2 : 1, index + 8, 0]);
      expect(cpuMs).toBeGreaterThan(0);
    }
    expect(infos.filter(({ state }) => state === "resting").length).toBeGreaterThanOrEqual(20);
    await Promise.all(lanes.map(({ lane }) => lane.close()));
    expect([harness.lanes.info(0).open, harness.writers]).toEqual([0, 0]);
  });

  it("are answered when their process is killed, and keep what they made", async () => {
    const lanes = await load(await harness.putProgram(SLOW), COUNT);
    const each = SHARED_LANE_PACKETS_MAX + 10;
    const last = lanes.at(-1)!;
    for (const { lane } of lanes.slice(0, -1)) lane.exec(encodeFrame([execStream(0, root, 0, 2)]));
    last.lane.exec(
      encodeFrame(
        Array.from({ length: each }, (_, at) => execStream(at, root, at * 40, 40 * Number(at > 4))),
      ),
    );
    await lanes[COUNT - 2]!.answers.until(() => lanes.some(({ answers }) => answers.answers.size > 0));
    process.kill(harness.processes.at(-1)!.pid, "SIGKILL");
    for (const { answers } of lanes) await answers.answered(answers === last.answers ? each : 1);
    for (const { answers } of lanes)
      expect([answers.answer(0).op, answers.offences]).toEqual([Op.RETURN, []]);
    const returns = Array.from({ length: each }, (_, at) => last.answers.answer(at));
    await last.lane.keep("kept", encodeFrame(returns));
    await Promise.all(lanes.map(({ lane }) => lane.close()));
    expect(Buffer.compare(await harness.readName("kept"), file.subarray(200, each * 40))).toBe(0);
  });

  it("take turns with the shared memory of their process, when it is too small for all of them", async () => {
    await harness.close();
    const inputBytes = 1024 * 1024;
    await begin({ inputBytes, threads: 1 });
    const large = seededBytes(inputBytes, 10);
    const input = await harness.putFile(large);
    const lanes = await load(await harness.putProgram(ECHO), 8);
    for (const { lane } of lanes)
      lane.exec(encodeFrame([0, 1].map((at) => execStream(at, input, at, inputBytes - 1))));
    for (const { answers } of lanes) {
      await answers.answered(2);
      expect([answers.answer(0).op, answers.answer(1).op]).toEqual([Op.RETURN, Op.RETURN]);
    }
    await Promise.all(lanes.map(({ lane }) => lane.close()));
  });

  it("do not wait for packets of those that are closed", async () => {
    const lanes = await load(await harness.putProgram(SLOW), COUNT);
    // Half a minute of CPU time each, were they all run.
    const closing = lanes.slice(RUNNERS_MAX + 1, -1);
    for (const { lane } of lanes.slice(0, RUNNERS_MAX + 1))
      lane.exec(encodeFrame([execStream(0, root, 0, 20)]));
    for (const { lane } of closing)
      lane.exec(encodeFrame(Array.from({ length: 1000 }, (_, at) => execStream(at, root, at, 30))));
    const cpu = harness.lanes.use.cpuMs;
    await Promise.all(closing.map(({ lane }) => lane.close()));
    const { lane, answers } = lanes.at(-1)!;
    lane.exec(encodeFrame([execStream(0, root, 0, 10)]));
    await answers.answered(1);
    for (const { answers: others } of closing) expect(others.answers.size).toBeLessThan(1000);
    expect(harness.lanes.use.cpuMs - cpu).toBeLessThan(10_000);
    await Promise.all(lanes.map((each) => each.lane.close()));
    expect(harness.lanes.info(0).open).toBe(0);
  });
});

describe("lanes of more programs than there may be processes", () => {
  afterEach(() => harness.close());

  it("rest while they have nothing to do, and nobody can tell", async () => {
    await begin({ processesMax: 2, threads: 1 });
    const lanes: Heard[] = [];
    for (let args = 0; args < 5; args++)
      lanes.push(...(await load(await harness.putProgram(COUNTS, { args }), 1)));
    const alive = (): number => harness.processes.filter(({ closed }) => !closed).length;
    for (let round = 0; round < 2; round++) {
      for (const { lane } of lanes) lane.exec(encodeFrame([execStream(round, root, round, 2)]));
      for (const { answers } of lanes) {
        await answers.answered(round + 1);
        expect(Array.from(answers.answer(round).ref.slice(0, 3))).toEqual([
          1,
          ...file.slice(round, round + 2),
        ]);
        expect(alive()).toBeLessThanOrEqual(2);
        expect([answers.notes, answers.error]).toEqual([[], undefined]);
      }
    }
    const { lanes: infos } = harness.lanes.info(5);
    expect(infos.map(({ packets }) => packets)).toEqual([2, 2, 2, 2, 2]);
    expect(infos.filter(({ state }) => state === "resting").length).toBeGreaterThanOrEqual(3);
    await Promise.all(lanes.map(({ lane }) => lane.close()));
  });

  it("wait for those that are busy, and may give up waiting", async () => {
    await begin({ processesMax: 1, threads: 1 });
    const [busy] = await load(await harness.putProgram(SLOW), 1);
    const other = await harness.putProgram(ECHO);
    busy!.lane.exec(encodeFrame(Array.from({ length: 20 }, (_, at) => execStream(at, root, 0, 500))));
    const { signal, ...control } = controller();
    const answers = new Collector();
    const given = harness.executor.load(other, answers, signal);
    const waiting = harness.executor.load(other, answers, never);
    control.abort(new Error("not any more"));
    await expect(given).rejects.toThrow("not any more");
    const lane = await waiting;
    expect(busy!.answers.answers.size).toBe(20);
    lane.exec(encodeFrame([execStream(0, root, 0, 4)]));
    await answers.answered(1);
    await vi.waitUntil(() => harness.lanes.info(2).lanes.some(({ state }) => state === "resting"));
    await Promise.all([busy!.lane.close(), lane.close()]);
  });
});

function controller(): { readonly signal: AbortSignal; readonly abort: (reason: Error) => void } {
  const made = new AbortController();
  return { signal: made.signal, abort: (reason) => made.abort(reason) };
}
