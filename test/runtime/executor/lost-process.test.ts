/** What becomes of packets when the process under them ends, or the machine cannot give what a lane needs. */
import { readdirSync, readFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { FaultCode } from "../../../packets/faults.ts";
import { Op } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import { LANE_PACKETS_MAX } from "../../../runtime/limits.ts";
import type { Lane } from "../../../runtime/contracts/executor.ts";
import { usesCpu } from "../../suites/cpu-time.ts";
import { Collector } from "../../suites/collector.ts";
import { emptyFrame, exec, execStream, seededBytes } from "../../suites/exec-packets.ts";
import { ECHO } from "../../suites/executor.ts";
import { LocalHarness } from "./local-harness.ts";
import { until } from "../../suites/until.ts";

const INPUT_BYTES = 4 * 1024 * 1024;
const never = new AbortController().signal;

/** Takes a millisecond or so per byte of its input, and yields it. */
const SLOW = `export default {
  input: { kind: "bytes" },
  yields: "bytes",
  map(bytes, { write }) {
    let sum = 0;
    for (let step = 0; step < bytes.length * 1e6; step++) sum = (sum + step) | 0;
    if (sum !== 0.5) write(bytes);
  },
}`;

describe("a lane", () => {
  let harness: LocalHarness;
  let collector: Collector;
  let lane: Lane;

  async function open(program: string): Promise<void> {
    collector = new Collector();
    lane = await harness.executor.load(
      await harness.putProgram(program, { name: "victim" }),
      collector,
      never,
    );
  }

  function kill(): void {
    process.kill(harness.processes.at(-1)!.pid, "SIGKILL");
  }

  async function textOf(at: number): Promise<string> {
    return new TextDecoder().decode(await harness.readChunk(collector.answer(at).ref));
  }

  beforeAll(async () => {
    harness = await LocalHarness.open({ inputBytes: INPUT_BYTES, processKeptMs: 0 });
  });
  afterEach(async () => {
    harness.sinkFails = false;
    harness.takeFails = false;
    harness.ceilingMs = undefined;
    await lane.close();
    expect(collector.offences).toEqual([]);
    expect(harness.writers).toBe(0);
  });
  afterAll(() => harness.close());

  it("answers every packet rightly when its process is killed again and again", async () => {
    await open(SLOW);
    const count = 100;
    const bytes = seededBytes(count * 2, 1);
    const root = await harness.putFile(bytes);
    lane.exec(encodeFrame(Array.from({ length: count }, (_, at) => execStream(at, root, at * 2, 2))));
    for (const answered of [1, 30]) {
      await collector.answered(answered);
      kill();
      await collector.until(() => collector.notes.length > 0);
      collector.notes.length = 0;
    }
    await collector.answered(count);
    for (let at = 0; at < count; at++) {
      const answer = collector.answer(at);
      expect(answer.op).toBe(Op.RETURN);
      expect(answer.ref.slice(0, 2)).toEqual(bytes.slice(at * 2, at * 2 + 2));
    }
  });

  it("goes on in another process when its own dies while nothing is in flight", async () => {
    await open(ECHO);
    const chunk = await harness.putChunk(new Uint8Array([5]));
    for (let at = 0; at < 2; at++) {
      kill();
      await collector.until(() => collector.notes.length > at);
      expect(collector.notes[at]).toMatch(/^executor process \d+ of program "victim" ended \(crash/);
      lane.exec(encodeFrame([exec(at, chunk, 0, 1)]));
      await collector.answered(at + 1);
      expect(collector.answer(at).op).toBe(Op.RETURN);
    }
  });

  it("waits with what it is sent while its process is about to end", async () => {
    await open(ECHO);
    const chunk = await harness.putChunk(new Uint8Array([5]));
    // As the watch of its memory ends it: the system tells of the end later.
    harness.processes.at(-1)!.kill("memory", "it had more than it may");
    lane.exec(encodeFrame([exec(0, chunk, 0, 1)]));
    await collector.answered(1);
    expect(collector.answer(0).op).toBe(Op.RETURN);
    expect(collector.notes).toEqual([expect.stringContaining("ended (memory: it had more than it may)")]);
  });

  it("gives up a packet that was twice in a process that died, the second time alone", async () => {
    await open(SLOW);
    const chunk = await harness.putChunk(new Uint8Array(2000));
    lane.exec(encodeFrame([exec(3, chunk, 0, 2000)]));
    const before = harness.processes.length;
    for (let death = 1; death <= 2; death++) {
      // In the process that took the place of the one before, the packet is being worked on.
      await until(() => harness.processes.length >= before + death - 1);
      await usesCpu(harness.processes.at(-1)!.pid, 200);
      kill();
      await collector.until(() => collector.notes.length === death);
    }
    await collector.answered(1);
    expect(collector.answer(3)).toMatchObject({ op: Op.FAULT, from: FaultCode.quarantined });
    expect(await textOf(3)).toMatch(/^program "victim" failed on packet 3: ended its executor process twice/);
  });

  it("runs a packet again whose process stands still, and does not blame its program", async () => {
    harness.ceilingMs = 5000;
    await open(`${ECHO} // stands still`);
    harness.ceilingMs = undefined;
    const chunk = await harness.putChunk(new Uint8Array([6]));
    const { pid } = harness.processes.at(-1)!;
    process.kill(pid, "SIGSTOP");
    // A thread that is on a processor goes on until another of the process has got the signal.
    await vi.waitUntil(() => threadStates(pid).every((state) => state === "T"));
    lane.exec(encodeFrame([exec(0, chunk, 0, 1)]));
    await collector.answered(1);
    expect(collector.answer(0)).toMatchObject({ op: Op.RETURN, length: 1 });
    expect(collector.notes).toEqual([
      expect.stringMatching(`process ${pid} of .* ended .stalled: .*5000 ms`),
    ]);
  });

  it("is lost when no process can be had", async () => {
    await open(ECHO);
    harness.takeFails = true;
    kill();
    await collector.until(() => collector.error !== undefined);
    expect(collector.error).toMatchObject({ code: "PFS_LANE_BROKEN" });
    lane.exec(emptyFrame(1));
    await expect(lane.keep("late", new Uint8Array(0))).rejects.toMatchObject({ code: "PFS_LANE_CLOSED" });
  });

  it("is lost when it is sent more than it takes", async () => {
    await open(SLOW);
    for (let sent = 0; sent <= LANE_PACKETS_MAX; sent += 4096) lane.exec(emptyFrame(4096, sent));
    expect(collector.error).toMatchObject({ code: "PFS_LANE_OVERFULL", data: { max: LANE_PACKETS_MAX } });
  });

  it("is lost when results cannot be stored", async () => {
    await open(ECHO);
    const chunk = await harness.putChunk(seededBytes(100, 2));
    harness.sinkFails = true;
    lane.exec(encodeFrame([exec(0, chunk, 0, 100)]));
    await collector.until(() => collector.error !== undefined);
    expect(collector.error).toMatchObject({ code: "PFS_STORE_FULL" });
  });

  it("works on inputs that are together far more than there is room for", async () => {
    await open(ECHO);
    const bytes = seededBytes(3 * 1024 * 1024, 3);
    const root = await harness.putFile(bytes);
    const packets = Array.from({ length: 12 }, (_, at) => execStream(at, root, 0, bytes.byteLength - at));
    lane.exec(encodeFrame(packets));
    await collector.answered(12);
    for (let at = 0; at < 12; at++) {
      const output = await harness.readStream(collector.answer(at).ref);
      expect(Buffer.compare(output, bytes.subarray(0, bytes.byteLength - at))).toBe(0);
    }
  });

  it("fails a packet whose input is more than there is room for, and no other", async () => {
    await open(ECHO);
    const root = await harness.putFile(seededBytes(6_000_000, 4));
    const lengths = [10, 5_000_000, INPUT_BYTES + 1, INPUT_BYTES, 20];
    lane.exec(encodeFrame(lengths.map((length, at) => execStream(at, root, 0, length))));
    await collector.answered(lengths.length);
    const codes = lengths.map((_, at) =>
      collector.answer(at).op === Op.FAULT ? collector.answer(at).from : 0,
    );
    expect(codes).toEqual([0, FaultCode.memoryLimit, FaultCode.memoryLimit, 0, 0]);
    expect(await textOf(1)).toContain("5 MB");
  });

  it("leaves nothing open", async () => {
    await open(ECHO);
    const descriptors = (): number => readdirSync("/proc/self/fd").length;
    const root = await harness.putFile(seededBytes(10_000, 5));
    const before = descriptors();
    const processes = harness.processes.length;
    for (let round = 0; round < 3; round++) {
      // A program of its own each time, and so a process of its own.
      const program = await harness.putProgram(`${ECHO}\n// ${round}`);
      const other = await harness.executor.load(program, new Collector(), never);
      other.exec(encodeFrame(Array.from({ length: 500 }, (_, at) => execStream(at, root, at, 100))));
      if (round === 1) process.kill(harness.processes.at(-1)!.pid, "SIGKILL");
      await other.close();
    }
    expect(harness.writers).toBe(0);
    const last = harness.processes.slice(processes);
    expect(last.length).toBeGreaterThanOrEqual(3);
    for (const { pid } of last) expect(() => process.kill(pid, 0)).toThrow("ESRCH");
    // The one spare that is kept warm may come and go.
    expect(descriptors()).toBeLessThanOrEqual(before + 8);
  });
});

/** What the system says of each thread of a process: "T" when it is stopped. */
function threadStates(pid: number): string[] {
  const folder = `/proc/${pid}/task`;
  return readdirSync(folder).map(
    (thread) => /^State:\s+(\S)/m.exec(readFileSync(`${folder}/${thread}/status`, "latin1"))![1]!,
  );
}
