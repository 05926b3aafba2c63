import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { PacketfsError } from "../../../packets/errors.ts";
import { FaultCode } from "../../../packets/faults.ts";
import type { ExecutorProcess } from "../../../runtime/sandbox/process/executor-process.ts";
import { BusyLoops } from "../../suites/busy-loops.ts";
import { loadProgram, runFrame, runOnce, startExecutor } from "./harness.ts";
import { programCode } from "../../program-code.ts";

let executor: ExecutorProcess;
beforeAll(async () => {
  executor = await startExecutor({ rssBytesMax: 900 * 1024 * 1024 });
});
afterAll(async () => {
  await executor.close();
});

function program(limits: string, body: string): string {
  return `export default { input: { kind: "lines" }, limits: { ${limits} }, ${body} };`;
}

const HONEST = `export default { input: { kind: "lines" }, map: (line) => line.length, combine: (a, b) => a + b };`;

async function stillWorks(): Promise<void> {
  expect(await runOnce(executor, HONEST, "abc\nd")).toMatchObject({
    status: 0,
    text: "4\n",
  });
}

/** A process of their own: each of these ends it, or stops it. */
describe("time", () => {
  const LIMIT_MS = 300;
  /** What ending a program may take beyond its limit, in CPU time. */
  const BEYOND_MS = 750;
  /** Loops when it is told to, and otherwise works for so many million steps. */
  const worker = program(
    `timeMs: ${LIMIT_MS}`,
    `map(line) {
      if (line === "loop") for (;;);
      const steps = Number(line) * 1e6;
      let sum = 0;
      for (let step = 0; step < steps; step++) sum = (sum + step) | 0;
      return sum;
    }, combine: (a) => a`,
  );

  it("ends a packet that burns more than its limit, soon after it, though the machine is busy", async () => {
    await using loops = new BusyLoops();
    await using hostile = await startExecutor();
    const lane = await loadProgram(hostile, worker);
    const late = await runFrame(hostile, lane, [{ bytes: "loop" }]).catch((error: unknown) => error);
    expect(loops.count).toBeGreaterThan(0);
    expect(late).toMatchObject({ code: "PFS_EXECUTOR_DEADLINE" });
    const { limitMs, cpuMs } = (late as PacketfsError).data as { limitMs: number; cpuMs: number };
    expect(limitMs).toBeGreaterThanOrEqual(LIMIT_MS);
    expect(cpuMs).toBeGreaterThan(LIMIT_MS);
    expect(cpuMs).toBeLessThan(LIMIT_MS + BEYOND_MS);
    expect(await hostile.ended).toMatchObject({ reason: "deadline" });
  });

  it("costs a program nothing while its process is stopped, or waits for a CPU", async () => {
    await using _loops = new BusyLoops();
    await using stopped = await startExecutor();
    const lane = await loadProgram(stopped, worker);
    const running = runFrame(stopped, lane, [{ bytes: "30" }]);
    process.kill(stopped.pid, "SIGSTOP");
    await sleep(LIMIT_MS * 5);
    process.kill(stopped.pid, "SIGCONT");
    expect(await running).toMatchObject([{ status: 0 }]);
  });

  it("is that of the packet's own thread", async () => {
    await using both = await startExecutor({ threads: 2 });
    const lane = await loadProgram(both, worker);
    const frames = Array.from({ length: 20 }, () => runFrame(both, lane, [{ bytes: "50" }]));
    for (const results of await Promise.all(frames)) expect(results).toMatchObject([{ status: 0 }]);
  });

  it("bounds loading, in CPU time too", async () => {
    await using impatient = await startExecutor({ loadTimeMs: 150 });
    const inspected = impatient.inspect(programCode(HONEST));
    process.kill(impatient.pid, "SIGSTOP");
    await sleep(1000);
    process.kill(impatient.pid, "SIGCONT");
    await expect(inspected).resolves.toMatchObject({ hasCombine: true });
    const reason = "it takes longer to load than 150ms of CPU time";
    await expect(impatient.inspect(programCode("for (;;); export default {}"))).rejects.toMatchObject({
      code: "PFS_PROGRAM_INVALID",
      data: { reason },
    });
    expect(await impatient.ended).toMatchObject({ reason: "deadline" });
  });
});

describe("memory", () => {
  it("fails a packet when its isolate is full, and the lane goes on", async () => {
    const source = program(
      "memoryBytes: 33554432, timeMs: 5000",
      `map(line) {
        if (line !== "big") return 1;
        let head = null;
        for (;;) head = { head };
      }, combine: (a, b) => a + b`,
    );
    const lane = await loadProgram(executor, source);
    const full = await runFrame(executor, lane, [{ bytes: "big" }]);
    expect(full).toMatchObject([{ status: FaultCode.memoryLimit, text: "" }]);
    expect(await runFrame(executor, lane, [{ bytes: "a" }])).toMatchObject([{ status: 0 }]);
    const some = await runFrame(executor, lane, [{ bytes: "a" }, { bytes: "big" }, { bytes: "b" }]);
    expect(some.length).toBeLessThan(2);
    expect(await runFrame(executor, lane, [{ bytes: "b" }])).toMatchObject([{ status: 0 }]);
  });

  it("fails a packet that allocates a buffer beyond it", async () => {
    const source = program("memoryBytes: 33554432", `map() { return new ArrayBuffer(1 << 30).byteLength; }`);
    expect(await runOnce(executor, source, "a")).toMatchObject({ status: FaultCode.memoryLimit });
    await stillWorks();
  });

  it("does not grow with the text that frames bring", async () => {
    const lane = await loadProgram(executor, HONEST);
    const text = "0123456789abcde\n".repeat(256 * 1024);
    const offset = executor.sharedMemory.alloc(text.length)!;
    await executor.sharedMemory.write(offset, Buffer.from(text));
    const extents = new Float64Array([offset, text.length, 0, 0, 0]);
    const frame = Buffer.alloc(64);
    // 800 MiB of text; a process that kept it would be killed.
    for (let round = 0; round < 200; round++) {
      const { statuses } = await executor.run(lane, frame, extents);
      expect(statuses[0]).toBe(0);
    }
    executor.sharedMemory.free(offset);
    expect(executor.closed).toBe(false);
  });
});

describe("output", () => {
  it.each([
    ["bytes", `yields: "bytes", map(l, c) { for (;;) c.write("0123456789"); }`],
    ["one text", `yields: "bytes", map(l, c) { c.write("é".repeat(600)); }`],
    ["one array", `yields: "bytes", map(l, c) { c.write(new Uint8Array(1001)); }`],
    ["groups", `yields: "groups", map(l, c) { for (let i = 0; i < 1000; i++) c.emit("k" + i, 1); }`],
    ["a value", `map: () => "x".repeat(1000)`],
  ])("is bounded: %s", async (_name, body) => {
    const result = await runOnce(executor, program("outputBytes: 1000", body), "a");
    expect(result).toMatchObject({ status: FaultCode.outputLimit, text: "" });
  });

  it("counts even when the program catches what stops it", async () => {
    const body = `yields: "bytes", map(l, c) { try { c.write("x".repeat(1001)); } catch {} c.write("ok"); }`;
    expect(await runOnce(executor, program("outputBytes: 1000", body), "a")).toMatchObject({
      status: FaultCode.outputLimit,
    });
    const exact = `yields: "bytes", map(l, c) { c.write("é".repeat(500)); }`;
    expect((await runOnce(executor, program("outputBytes: 1000", exact), "a")).text).toBe("é".repeat(500));
  });

  it("ends a frame early when it is large", async () => {
    const source = program("", `yields: "bytes", map(l, c) { c.write("x".repeat(5000000)); }`);
    const lane = await loadProgram(executor, source);
    const results = await runFrame(
      executor,
      lane,
      Array.from({ length: 10 }, () => ({ bytes: "a" })),
    );
    expect(results.map(({ status, text }) => [status, text.length])).toEqual(
      Array.from({ length: 4 }, () => [0, 5_000_000]),
    );
  });
});

describe("logs", () => {
  it("are cut at their budget, in whole characters", async () => {
    const body = `map() { for (let i = 0; i < 1e5; i++) console.log("é".repeat(7)); return 1; }`;
    const { status, log } = await runOnce(executor, program("logBytes: 100", body), "a");
    expect(status).toBe(0);
    expect(log).toMatch(/^(é{7}\n)+é*… \(log limit reached\)$/);
    expect(Buffer.byteLength(log!)).toBeLessThan(200);
  });

  it("show any value", async () => {
    const body = `map() {
      const loop = {}; loop.loop = loop;
      console.log("text", 1, -0, 2n, true, null, undefined, { a: [1] }, Symbol("s"), () => 1, loop);
      console.warn(new Error("oops"));
      console.error();
    }`;
    const { log } = await runOnce(executor, program("", body), "a");
    const [first, second] = log!.split("\n");
    expect(first).toBe('text 1 0 2n true null undefined {"a":[1]} [symbol] [function] [object]');
    expect(second).toBe("Error: oops");
  });

  it("are absent where the budget is nothing", async () => {
    expect((await runOnce(executor, program("logBytes: 0", `map() { console.log("x"); }`), "a")).log).toBe(
      undefined,
    );
  });
});

describe("declarations", () => {
  it.each([
    ["syntax", "export default {", "SyntaxError"],
    ["a throw", `throw new Error("at load"); export default {};`, "Error: at load\n    at program.js:1:7"],
    ["a thrown string", `throw "words"; export default {};`, "words"],
    ["no default", "const map = 1;", "the module exports nothing by default"],
    ["a number", "export default 3;", "the module exports a number by default, where a program has"],
    ["null", "export default null;", "the module exports null by default"],
    ["a function", "export default function () {}", "the module exports a function by default"],
    ["no map", "export default { input: { kind: 'lines' } };", "has no map"],
    ["map no function", "export default { map: 1 };", "map is not a function"],
    [
      "an import",
      `import fs from "node:fs"; export default { map() {} };`,
      "SyntaxError: Cannot use import statement",
    ],
    ["no reader", "export default { map() {} };", "input is a reader"],
    ["another reader", "export default { map() {}, input: { kind: 'xml' } };", "input is a reader"],
    ["size", "export default { map() {}, input: { kind: 'bytes', size: 0 } };", "input.size"],
    [
      "separator",
      "export default { map() {}, input: { kind: 'csv', separator: '', header: true } };",
      "separator",
    ],
    ["columns", "export default { map() {}, input: { kind: 'columns', fields: [] } };", "no columns"],
    [
      "column twice",
      "const f = { name: 'a', type: 'u8' }; export default { map() {}, input: { kind: 'columns', fields: [f, f] } };",
      "named twice",
    ],
    ["yields", "export default { map() {}, input: { kind: 'lines' }, yields: 'rows' };", "yields is"],
    [
      "limits",
      "export default { map() {}, input: { kind: 'lines' }, limits: { timeMs: 1e9 } };",
      "limits.timeMs",
    ],
    [
      "limits' type",
      "export default { map() {}, input: { kind: 'lines' }, limits: { timeMs: '1' } };",
      "limits.timeMs",
    ],
    [
      "the end of the function around it",
      "}); globalThis.left = 1; (function () { export default { map() {} };",
      "SyntaxError",
    ],
    ["a bigint", "export default { map() {}, input: { kind: 'bytes', size: 1n } };", "BigInt"],
    ["a getter that throws", "export default { get map() { throw new Error('no'); } };", "Error: no"],
    ["waiting for ever", "await new Promise(() => {}); export default { map() {} };", "SyntaxError: await"],
  ])("refuse %s", async (_name, source, reason) => {
    const error: unknown = await executor.inspect(programCode(source)).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "PFS_PROGRAM_INVALID" });
    expect((error as Error).message).toContain(reason);
  });

  it("fill in defaults and keep nothing that is not known", async () => {
    const source = `export default { map() {}, input: { kind: "lines", extra: 1 }, extra: 2, limits: { timeMs: 5 } };`;
    expect(await executor.inspect(programCode(source))).toEqual({
      reader: { kind: "lines" },
      yields: "value",
      hasCombine: false,
      hasReduce: false,
      hasTop: false,
      limits: { timeMs: 5, memoryBytes: 268435456, outputBytes: 67108864, logBytes: 16384 },
    });
  });

  it("that are not the program's are refused when it is loaded", async () => {
    const description = { ...(await executor.inspect(programCode(HONEST))), hasReduce: true };
    const code = programCode(HONEST);
    const load = executor.load(9_000, { name: "x", code, entry: "map", description, args: "null" });
    await expect(load).rejects.toMatchObject({ code: "PFS_PROGRAM_INVALID" });
  });
});
