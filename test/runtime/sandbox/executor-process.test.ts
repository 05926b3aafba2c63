import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ExecutorProcess } from "../../../runtime/sandbox/process/executor-process.ts";
import { SpareExecutors } from "../../../runtime/sandbox/process/spare-executors.ts";
import { descendantsOf, goneAll, HAS_PROC, runningOf } from "../../suites/processes.ts";
import { usesCpu } from "../../suites/cpu-time.ts";
import { loadProgram, runFrame, runOnce, startExecutor } from "./harness.ts";
import { programCode } from "../../program-code.ts";
import { until } from "../../suites/until.ts";

const ECHO = `export default { input: { kind: "lines" }, yields: "bytes", map(line, c) { c.write(line); } };`;
/** A built-in that V8 cannot interrupt: neither a timeout nor terminating the thread ends it. */
const STUCK = "[].indexOf.call({ length: 2 ** 53 - 1 }, 1)";
/** CPU time of one thread, by which one sees that it is in a loop that does not end. */
const STUCK_MS = 50;

function program(limits: string, body: string): string {
  return `export default { input: { kind: "lines" }, limits: { ${limits} }, map(line) { ${body} } };`;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  // A process that has ended but was not waited for by its parent does not count.
  return !HAS_PROC || runningOf([pid]).length > 0;
}

describe("ends", () => {
  it("when it is closed, with everything that was in flight", async () => {
    const executor = await startExecutor();
    const lane = await loadProgram(executor, program("timeMs: 60000", "for (;;);"));
    const runs = [0, 1, 2, 3].map(() => runFrame(executor, lane, [{ bytes: "a" }]));
    const settled = Promise.allSettled(runs);
    await usesCpu(executor.pid, STUCK_MS);
    await executor.close();
    for (const { status, reason } of (await settled) as PromiseRejectedResult[]) {
      expect(status).toBe("rejected");
      expect(reason).toMatchObject({ code: "PFS_EXECUTOR_ENDED", data: { reason: "closed" } });
    }
    expect(await executor.ended).toMatchObject({ reason: "closed" });
    expect(isAlive(executor.pid)).toBe(false);
    await expect(executor.inspect(programCode(ECHO))).rejects.toMatchObject({ code: "PFS_EXECUTOR_ENDED" });
    await executor.close();
  });

  it("when a frame is stuck: that one is late, the others are not to blame", async () => {
    await using executor = await startExecutor({ threads: 2 });
    const stuck = await loadProgram(executor, program("timeMs: 200", STUCK));
    const busy = await loadProgram(executor, program("timeMs: 60000", "for (;;);"));
    const late = runFrame(executor, stuck, [{ bytes: "a" }]);
    const innocent = runFrame(executor, busy, [{ bytes: "a" }]);
    const settled = Promise.allSettled([late, innocent]);
    await expect(late).rejects.toMatchObject({ code: "PFS_EXECUTOR_DEADLINE" });
    await expect(innocent).rejects.toMatchObject({
      code: "PFS_EXECUTOR_ENDED",
      data: { reason: "deadline" },
    });
    await settled;
    expect(await executor.ended).toMatchObject({ reason: "deadline" });
  });

  it("when it takes too much memory", async () => {
    await using executor = await startExecutor({ rssBytesMax: 300 * 1024 * 1024 });
    const source = program("timeMs: 10000", "const all = []; for (;;) all.push(new Array(1000).fill(1));");
    await expect(runOnce(executor, source, "a")).rejects.toMatchObject({
      code: "PFS_EXECUTOR_ENDED",
      data: { reason: "memory" },
    });
    expect((await executor.ended).reason).toBe("memory");
  });

  it("when something else kills it", async () => {
    await using executor = await startExecutor();
    const lane = await loadProgram(executor, program("timeMs: 60000", "for (;;);"));
    const run = runFrame(executor, lane, [{ bytes: "a" }]);
    process.kill(executor.pid, "SIGKILL");
    await expect(run).rejects.toMatchObject({ code: "PFS_EXECUTOR_ENDED", data: { reason: "crash" } });
  });

  it("when its node is gone, though a thread is stuck", async () => {
    const node = spawn(
      process.execPath,
      ["--no-node-snapshot", fileURLToPath(new URL("./orphan-main.ts", import.meta.url))],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    const [text] = (await once(node.stdout.setEncoding("utf8"), "data")) as [string];
    const pid = Number(text);
    expect(isAlive(pid)).toBe(true);
    await usesCpu(pid, STUCK_MS);
    node.kill("SIGKILL");
    await until(() => !isAlive(pid));
  });
});

describe("lanes", () => {
  let executor: ExecutorProcess;
  beforeAll(async () => {
    executor = await startExecutor({ threads: 3 });
  });
  afterAll(async () => {
    await executor.close();
  });

  it("are many, of one program and of several", async () => {
    const lanes = Array.from({ length: 500 }, (_, index) => 65_535 - index);
    const values = Array.from({ length: 20 }, (_, index) => index);
    const source = `export default { input: { kind: "lines" }, yields: "bytes", map(line, c) { c.write(line + c.args); } };`;
    const code = programCode(source);
    const description = await executor.inspect(code);
    const program = { name: "many", code, entry: "map", description } as const;
    await Promise.all(lanes.map((lane) => executor.load(lane, { ...program, args: '"same"' })));
    // More programs than a thread keeps isolates for.
    await Promise.all(values.map((value) => executor.load(100 + value, { ...program, args: `${value}` })));
    const results = await Promise.all([
      ...lanes.map((lane) => runFrame(executor, lane, [{ bytes: `${lane}` }])),
      ...values.map((value) => runFrame(executor, 100 + value, [{ bytes: "#" }])),
      ...values.map((value) => runFrame(executor, 100 + value, [{ bytes: "+" }])),
    ]);
    expect(results.map(([result]) => result!.text)).toEqual([
      ...lanes.map((lane) => `${lane}same`),
      ...values.map((value) => `#${value}`),
      ...values.map((value) => `+${value}`),
    ]);
    for (const lane of [...lanes, ...values.map((value) => 100 + value)]) executor.unload(lane);
  });

  it("can be freed while they run, and loaded again", async () => {
    const source = `export default { input: { kind: "bytes" }, yields: "bytes", map(record, c) { c.write("a"); } };`;
    const lane = await loadProgram(executor, source);
    const runs = Array.from({ length: 20 }, () => executor.run(lane, Buffer.alloc(64), new Float64Array(5)));
    executor.unload(lane);
    const texts = (await Promise.all(runs)).map(({ output }) => Buffer.from(output).toString());
    expect(texts).toEqual(Array.from({ length: 20 }, () => "a"));
    await expect(runFrame(executor, lane, [{ bytes: "" }])).rejects.toThrow("is not loaded");
    for (const letter of ["b", "b", "a"]) {
      await loadProgram(executor, source.replace('"a"', `"${letter}"`), { lane });
      expect((await runFrame(executor, lane, [{ bytes: "" }]))[0]!.text).toBe(letter);
    }
  });

  it("answer frames of many packets in any number at once", async () => {
    const lane = await loadProgram(executor, ECHO);
    const frames = Array.from({ length: 40 }, (_, frame) =>
      Array.from({ length: 1 + ((frame * 37) % 300) }, (_unused, packet) => ({
        bytes: `${frame}.${packet}`,
      })),
    );
    const results = await Promise.all(frames.map((sources) => runFrame(executor, lane, sources)));
    expect(results.map((frame) => frame.map(({ text }) => text))).toEqual(
      frames.map((frame) => frame.map(({ bytes }) => bytes)),
    );
    expect(executor.pending).toBe(0);
  });

  it("wait in a queue that is bounded", async () => {
    const lane = await loadProgram(executor, ECHO);
    const frame = Buffer.alloc(64);
    const extents = new Float64Array(5);
    const runs = Array.from({ length: 4_100 }, () => executor.run(lane, frame, extents));
    const settled = await Promise.allSettled(runs);
    const refused = settled.filter(({ status }) => status === "rejected") as PromiseRejectedResult[];
    // What makes the other threads ready may still wait too.
    expect(refused.length).toBe(4);
    expect(refused[0]!.reason).toMatchObject({ code: "PFS_EXECUTOR_BUSY" });
  });

  it("are refused what lies outside of the shared memory", async () => {
    const lane = await loadProgram(executor, ECHO);
    const { bytesMax } = executor.sharedMemory;
    for (const extents of [
      [-1, 1, 0, 0, 0],
      [0, bytesMax + 1, 0, 0, 0],
      [bytesMax, 1, 0, 0, 0],
      [0, 1, 0, 2, 0],
      [0, 2, 0, 1, 2],
      [NaN, 1, 0, 0, 0],
      [0, 1],
    ]) {
      await expect(executor.run(lane, Buffer.alloc(64), new Float64Array(extents))).rejects.toThrow(/extent/);
    }
    await expect(executor.run(lane, Buffer.alloc(63), new Float64Array(5))).rejects.toThrow("a frame has");
    expect((await runFrame(executor, lane, [{ bytes: "ok" }]))[0]!.text).toBe("ok");
  });
});

describe("walls", () => {
  it("leave the process nothing to read and no environment", async () => {
    process.env["PACKETFS_CANARY"] = "here";
    await using executor = await startExecutor();
    delete process.env["PACKETFS_CANARY"];
    const { walls } = executor;
    expect(walls).toContain("empty environment");
    // A package that the process needs and may not read would take this one away.
    expect(walls).toContain("permission model");
    if (existsSync("/usr/bin/setpriv")) expect(walls).toContain("no new privileges");
    if (!HAS_PROC) return;
    const environment = readFileSync(`/proc/${executor.pid}/environ`, "latin1");
    expect(environment.split("\0").filter(Boolean)).toEqual(["TZ=UTC"]);
    if (!walls.includes("no new privileges")) return;
    const status = readFileSync(`/proc/${executor.pid}/status`, "utf8");
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(/^CapEff:\t0+$/m);
  });
});

describe("spares", () => {
  const SPARE = { threads: 1, rssBytesMax: 500_000_000, sharedMemoryBytes: 1 << 20 };

  it("are ready, and another one follows", async () => {
    await using spares = new SpareExecutors(SPARE);
    const first = await spares.take();
    const second = await spares.take({ threads: 1, rssBytesMax: 600_000_000, sharedMemoryBytes: 1 << 16 });
    expect(second.pid).not.toBe(first.pid);
    expect(second.sharedMemory.bytesMax).toBe(1 << 16);
    expect((await runOnce(first, ECHO, "a")).text).toBe("a");
    await Promise.all([first.close(), second.close()]);
    const third = await spares.take({ threads: 2, rssBytesMax: 600_000_000, sharedMemoryBytes: 1 << 20 });
    expect(third.threads).toBe(2);
    await third.close();
    await spares.close();
    await expect(spares.take()).rejects.toMatchObject({ code: "PFS_EXECUTOR_ENDED" });
  });

  it("that died while they waited are replaced", async () => {
    await using spares = new SpareExecutors(SPARE);
    const first = await spares.take();
    await first.close();
    const second = await spares.take();
    expect((await runOnce(second, ECHO, "b")).text).toBe("b");
    await second.close();
  });

  it.runIf(HAS_PROC)("that still start are not waited for when nobody wants them any more", async () => {
    const before = descendantsOf(process.pid);
    const started = (): number[] => descendantsOf(process.pid).filter((pid) => !before.includes(pid));
    const spares = new SpareExecutors(SPARE);
    const [leader] = started();
    expect(leader).toBeDefined();
    // It will never be ready. What its walls are made by comes and goes meanwhile, and is of its group.
    process.kill(-leader!, "SIGSTOP");
    const starting = started();
    expect(starting).toContain(leader);
    await spares.close();
    await goneAll(starting);
  });
});

it("says why a process cannot be started", async () => {
  await expect(ExecutorProcess.start({ threads: 0, rssBytesMax: 1, sharedMemoryBytes: 64 })).rejects.toThrow(
    "threads",
  );
});
