import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Ref } from "../../../packets/digest.ts";
import { Op } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import { Collector } from "../../suites/collector.ts";
import { execStream, seededBytes } from "../../suites/exec-packets.ts";
import {
  EXECUTOR_BASE_BYTES,
  EXECUTOR_THREAD_BYTES,
  PROCESSES_KEPT_MAX,
  PROGRAM_LIMITS_DEFAULT,
} from "../../../runtime/limits.ts";
import type { Lane } from "../../../runtime/contracts/executor.ts";
import type { LaneProcess } from "../../../runtime/executor/lane-process.ts";
import { SharedProcesses, processOptions } from "../../../runtime/executor/shared-processes.ts";
import { ExecutorProcess } from "../../../runtime/sandbox/process/executor-process.ts";
import { LocalHarness } from "./local-harness.ts";
import { programCode } from "../../program-code.ts";

const ECHO = `export default { input: { kind: "bytes" }, yields: "bytes", map: (bytes, { write }) => write(bytes) };`;
const never = new AbortController().signal;

let harness: LocalHarness;
beforeEach(async () => {
  harness = await LocalHarness.open();
});
afterEach(async () => await harness.close());

describe("processes of tenants", () => {
  it("are shared by the lanes of one program, and end some time after the last of them", async () => {
    await harness.close();
    harness = await LocalHarness.open({ processKeptMs: 1 });
    const root = await harness.putFile(seededBytes(5000, 1));
    const manifest = await harness.putProgram(ECHO);
    const started = harness.processes.length;
    const [one, two] = [new Collector(), new Collector()];
    const first = await harness.executor.load(manifest, one, never);
    const second = await harness.executor.load(manifest, two, never);
    expect(harness.processes.length - started).toBe(1);
    const process = harness.processes.at(-1)!;
    first.exec(encodeFrame([execStream(0, root, 0, 100)]));
    await one.answered(1);
    await first.close();
    second.exec(encodeFrame([execStream(0, root, 100, 100)]));
    await two.answered(1);
    expect(process.closed).toBe(false);
    await second.close();
    await process.ended;
  });

  it("are kept for the next lane of the same program, arguments and limits, and for no other", async () => {
    const root = await harness.putFile(seededBytes(5000, 3));
    const started = harness.processes.length;
    const use = async (manifest: Ref, at: number): Promise<ExecutorProcess> => {
      const answers = new Collector();
      const lane = await harness.executor.load(manifest, answers, never);
      lane.exec(encodeFrame([execStream(0, root, at, 100)]));
      await answers.answered(1);
      await lane.close();
      return harness.processes.at(-1)!;
    };
    const manifest = await harness.putProgram(ECHO);
    const process = await use(manifest, 0);
    // More often than it keeps lanes loaded.
    for (let at = 1; at < 8; at++) expect(await use(manifest, at)).toBe(process);
    expect(harness.processes.length - started).toBe(1);
    expect(process.closed).toBe(false);
    const others = [
      await harness.putProgram(ECHO, { args: 1 }),
      await harness.putProgram(`${ECHO}//`),
      await harness.putProgram(ECHO.replace("{", "{ limits: { timeMs: 1000 }, ")),
    ];
    for (const other of others) expect(await use(other, 9)).not.toBe(process);
    expect(harness.processes.length - started).toBe(1 + others.length);
  });

  it("are never shared by two tenants, nor kept for another than theirs", async () => {
    await harness.close();
    harness = await LocalHarness.open({ processKeptMs: 600_000 });
    const manifest = await harness.putProgram(ECHO);
    const [ours, theirs] = ["aa", "bb"];
    const load = (tenant?: string): Promise<Lane> =>
      harness.executor.load(manifest, new Collector(), never, tenant);
    const started = harness.processes.length;
    const lanes = [await load(), await load(ours), await load(theirs), await load(ours)];
    expect(harness.processes.length - started).toBe(3);
    await Promise.all(lanes.map((lane) => lane.close()));
    // Kept for who had it, though whoever comes first is another.
    lanes.splice(0, lanes.length, await load("cc"), await load(theirs), await load(ours), await load());
    expect(harness.processes.length - started).toBe(4);
    await Promise.all(lanes.map((lane) => lane.close()));
  });

  it("that are kept are few, the last used, and end with the executor", async () => {
    await harness.close();
    harness = await LocalHarness.open({ processKeptMs: 600_000 });
    const started = harness.processes.length;
    for (let args = 0; args < PROCESSES_KEPT_MAX + 2; args++) {
      const manifest = await harness.putProgram(ECHO, { args });
      await (await harness.executor.load(manifest, new Collector(), never)).close();
    }
    const closed = (): boolean[] => harness.processes.slice(started).map((process) => process.closed);
    const kept = Array<boolean>(PROCESSES_KEPT_MAX).fill(false);
    expect(closed()).toEqual([true, true, ...kept]);
    await harness.executor.close();
    expect(closed()).not.toContain(false);
  });

  it("are not kept while they run what nobody waits for, nor with more memory than one needs to wait", async () => {
    const root = await harness.putFile(seededBytes(100, 4));
    const loops = await harness.putProgram(
      `export default { input: { kind: "bytes" }, map: ({ length }) => { while (length > 1); } };`,
    );
    const first = new Collector();
    const busy = await harness.executor.load(loops, first, never);
    const looping = harness.processes.at(-1)!;
    busy.exec(encodeFrame([execStream(0, root, 0, 1)]));
    await first.answered(1);
    await vi.waitUntil(() => looping.pending === 0);
    busy.exec(encodeFrame([execStream(1, root, 0, 2)]));
    await vi.waitUntil(() => looping.pending > 0);
    await busy.close();
    expect(looping.closed).toBe(true);
    const grows = await harness.putProgram(
      `export default { input: { kind: "bytes" }, map: () => { return new Uint8Array(220e6).fill(1)[0]; } };`,
    );
    const answers = new Collector();
    const large = await harness.executor.load(grows, answers, never);
    large.exec(encodeFrame([execStream(0, root, 0, 1), execStream(1, root, 1, 1)]));
    await answers.answered(2);
    const holds = harness.processes.at(-1)!;
    const bytes = holds.residentBytes;
    await large.close();
    expect(holds.closed).toBe(bytes > EXECUTOR_BASE_BYTES + 2 * EXECUTOR_THREAD_BYTES);
  });

  it("are not shared by programs that differ", async () => {
    const started = harness.processes.length;
    const first = await harness.executor.load(await harness.putProgram(ECHO), new Collector(), never);
    const second = await harness.executor.load(await harness.putProgram(`${ECHO}//`), new Collector(), never);
    expect(harness.processes.length - started).toBe(2);
    await first.close();
    await second.close();
  });

  it("that are about to end are nobody else's any more", async () => {
    const root = await harness.putFile(seededBytes(100, 5));
    const manifests = [await harness.putProgram(ECHO), await harness.putProgram(ECHO, { entry: "finish" })];
    const answers = manifests.map(() => new Collector());
    const lanes = [await harness.executor.load(manifests[0]!, answers[0]!, never)];
    const process = harness.processes.at(-1)!;
    process.kill("memory", "it had more than it may");
    // Loading the program did not end it, whoever asks for it before the system tells of the end.
    lanes.push(await harness.executor.load(manifests[1]!, answers[1]!, never));
    for (const lane of lanes) lane.exec(encodeFrame([execStream(0, root, 0, 100)]));
    await Promise.all(answers.map((each) => each.answered(1)));
    expect(answers.map(({ notes }) => notes.length)).toEqual([1, 0]);
    await Promise.all(lanes.map((lane) => lane.close()));
  });

  it("that end are not put down to packets that had those of other lanes beside them", async () => {
    const input = await harness.putFile(seededBytes(1000, 6));
    // A millisecond or so for each byte.
    const slow = await harness.putProgram(`export default { input: { kind: "bytes" }, map({ length }) {
      let sum = 0;
      for (let step = 0; step < length * 1e6; step++) sum = (sum + step) | 0;
      return sum === 0.5;
    } };`);
    const answers = [new Collector(), new Collector()];
    const lanes = [await harness.executor.load(slow, answers[0]!, never)];
    lanes.push(await harness.executor.load(slow, answers[1]!, never));
    const process = harness.processes.at(-1)!;
    for (const lane of lanes) lane.exec(encodeFrame([execStream(0, input, 0, 200)]));
    await vi.waitUntil(() => process.pending === 2);
    process.kill("memory", "it had more than it may");
    await Promise.all(answers.map((each) => each.answered(1)));
    expect(answers.map((each) => each.answer(0).op)).toEqual([Op.RETURN, Op.RETURN]);
    await Promise.all(lanes.map((lane) => lane.close()));
  });

  it("that end are replaced for all their lanes, and every packet is answered", async () => {
    const root = await harness.putFile(seededBytes(5000, 2));
    const manifest = await harness.putProgram(ECHO);
    const [one, two] = [new Collector(), new Collector()];
    const first = await harness.executor.load(manifest, one, never);
    const second = await harness.executor.load(manifest, two, never);
    const frame = encodeFrame(Array.from({ length: 200 }, (_, at) => execStream(at, root, at, 50)));
    first.exec(frame);
    second.exec(frame);
    process.kill(harness.processes.at(-1)!.pid, "SIGKILL");
    await one.answered(200);
    await two.answered(200);
    await first.close();
    await second.close();
  });

  it("of programs that are looked into at the same time are all closed, and one program needs one", async () => {
    const started = harness.processes.length;
    const codes = [0, 1, 2].map((index) => programCode(`${ECHO}// ${index}`));
    await Promise.all([...codes, ...codes].map((code) => harness.executor.inspect(code)));
    expect(harness.processes.length - started).toBe(codes.length);
    const late = harness.executor.inspect(programCode(`${ECHO}// late`));
    await Promise.all([harness.executor.close(), late]);
    expect(harness.processes.slice(started).map(({ closed }) => closed)).not.toContain(false);
  });

  it("leave no room unused while somebody waits for it", async () => {
    const options = processOptions(PROGRAM_LIMITS_DEFAULT, 1, 1024 * 1024);
    const processes = new SharedProcesses(
      { take: (wanted) => ExecutorProcess.start(wanted!) },
      { processesMax: 2, keptMs: 0 },
    );
    const take = (program: string): Promise<LaneProcess> =>
      processes.take({ program, code: programCode(ECHO), options });
    const first = [await take("a"), await take("b")];
    // Two of one program are told that there is room, of which they need half.
    const waiting = [take("c"), take("c"), take("d")];
    await Promise.all(first.map((part) => part.close()));
    const parts = await Promise.all(waiting);
    expect(new Set(parts.map(({ pid }) => pid)).size).toBe(2);
    await Promise.all(parts.map((part) => part.close()));
    await processes.close();
  });

  it("that a program was looked into in serve its first lane", async () => {
    const manifest = await harness.putProgram(ECHO);
    const started = harness.processes.length;
    await harness.executor.inspect(programCode(ECHO));
    const lane = await harness.executor.load(manifest, new Collector(), never);
    expect(harness.processes.length - started).toBe(1);
    await lane.close();
  });
});
