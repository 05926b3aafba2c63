/**
 * Calls of kernels from an isolate to an engine and back: over bytes that the isolate never sees, with outputs small and large,
 * calls that are left to the program, and what goes wrong. The engine here computes in this process, from what it was asked;
 * test/exact/kernels.test.ts has real ones.
 */
import { openSync, closeSync, writeSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { refToHex } from "../../../packets/digest.ts";
import { FaultCode } from "../../../packets/faults.ts";
import { Flag, Op } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import type {
  EngineDecision,
  KernelCall,
  KernelEngine,
  KernelUse,
} from "../../../runtime/contracts/kernels.ts";
import { EngineError, EngineErrorCode } from "../../../runtime/errors.ts";
import { outputPlaces, paddedBytes } from "../../../runtime/program/kernel/binding.ts";
import { valueCodec } from "../../../runtime/program/values.ts";
import { Collector } from "../../suites/collector.ts";
import { exec, execStream, seededBytes } from "../../suites/exec-packets.ts";
import { LocalHarness } from "./local-harness.ts";

const MIB = 1024 * 1024;

/** Computes what `programs` below ask for. */
class Engine implements KernelEngine {
  readonly calls: KernelCall[] = [];
  readonly computedMs: number[] = [];
  /** What becomes of the next calls, the first first; a GPU computes those behind. */
  readonly next: ("cpu" | Error)[] = [];
  harness: LocalHarness | undefined;
  waitMs = 0;
  /** Whether blocks are left where they are. */
  mayUse = true;

  mayUseGpu(): boolean {
    return this.mayUse;
  }

  async run(call: KernelCall): Promise<EngineDecision> {
    if (this.waitMs > 0) await new Promise((resolve) => setTimeout(resolve, this.waitMs));
    this.calls.push(call);
    const next = this.next.shift();
    if (next instanceof Error) throw next;
    if (next === "cpu") return { engineClass: "cpu", reason: "it was left to it", predictedMs: 2 };
    const [input] = await Promise.all(call.inputs.map((each) => this.#bytesOf(each)));
    const places = outputPlaces(call.kernel, call.dimensions);
    const last = places.at(-1)!;
    const outputs = new Uint8Array(last.offset + paddedBytes(last.length));
    for (const [index, { offset, length }] of places.entries()) {
      const { type } = call.kernel.outputs[index]!;
      const made = type === "u32" ? histogramOf(input!) : input!.map((byte) => byte ^ 255);
      outputs.set(new Uint8Array(made.buffer, 0, length), offset);
    }
    const times = {
      totalMs: 5,
      waitMs: 1,
      compileMs: 0,
      uploadMs: 1,
      kernelMs: 1,
      downloadMs: 1,
      uploadedBytes: 0,
      residentBytes: 0,
    };
    const decision = { engineClass: "test-gpu", reason: "it is one", predictedMs: 3 };
    if (call.output === undefined) return { answer: { times, outputs }, ...decision };
    const { path, offset, length } = call.output;
    expect(length).toBe(outputs.byteLength);
    const file = openSync(path, "r+");
    writeSync(file, outputs, 0, length, offset);
    closeSync(file);
    return { answer: { times }, ...decision };
  }

  computed(_call: KernelCall, cpuMs: number): void {
    this.computedMs.push(cpuMs);
  }

  async #bytesOf(input: KernelCall["inputs"][number]): Promise<Uint8Array> {
    if ("bytes" in input) return input.bytes.slice();
    const whole = await this.harness!.readStream(input.root);
    return whole.slice(input.from, input.from + input.length);
  }
}

function histogramOf(bytes: Uint8Array): Uint32Array<ArrayBuffer> {
  const counts = new Uint32Array(256);
  for (const byte of bytes) counts[byte]!++;
  return counts;
}

/** A kernel as `defineKernel` declares it. */
function defined(name: string, outputs: string, cpu: string): string {
  return `const ${name} = $packetfs.kernel({
    name: "${name}", kind: "wgsl", hasCpu: true, result: "exact", source: "fn main() {}", operations: "n",
    inputs: [{ name: "data", type: "bytes", shape: ["n"] }], outputs: [${outputs}],
    workgroup: { size: [64, 1, 1], count: ["n / 64", "1", "1"] },
  }, { isSingle: true, cpu: ${cpu} });`;
}

const COUNT = defined(
  "count",
  `{ name: "output", type: "u32", shape: [256], atomic: true }`,
  `({ data }) => { const counts = new Uint32Array(256); for (const byte of data) counts[byte]++; return counts; }`,
);
const INVERT = defined(
  "invert",
  `{ name: "output", type: "bytes", shape: ["n"] }`,
  "({ data }) => data.map((byte) => byte ^ 255)",
);
const BOTH = `$packetfs.kernel({
  name: "both", kind: "wgsl", hasCpu: true, result: "exact", source: "fn main() {}", operations: "n",
  inputs: [{ name: "data", type: "bytes", shape: ["n"] }],
  outputs: [{ name: "inverted", type: "bytes", shape: ["n"] }, { name: "counts", type: "u32", shape: [256] }],
  workgroup: { size: [64, 1, 1], count: ["n / 64", "1", "1"] },
}, { isSingle: false, cpu: ({ data }) => ({ inverted: data.map((byte) => byte ^ 255), counts: new Uint32Array(256) }) })`;

function program(kernel: string, map: string): string {
  return `${kernel}
    export default { input: { kind: "block" }, limits: { memoryBytes: ${512 * MIB} }, map: (block, { files }) => ${map} };`;
}

class Uses extends Collector {
  readonly uses: KernelUse[] = [];
  measured(uses: readonly KernelUse[]): void {
    this.uses.push(...uses);
  }
}

let harness: LocalHarness;
let engine: Engine;
beforeEach(async () => {
  engine = new Engine();
  harness = await LocalHarness.open({ kernels: engine, inputBytes: 96 * MIB });
  engine.harness = harness;
});
afterEach(async () => {
  await harness.close();
});

interface Ran {
  readonly values: unknown[];
  readonly faults: (readonly [code: number, text: string])[];
  readonly uses: readonly KernelUse[];
}

/** Runs it over ranges of a file. */
async function run(
  source: string,
  bytes: Uint8Array,
  ranges: readonly (readonly [from: number, length: number])[] = [[0, bytes.byteLength]],
  files?: Readonly<Record<string, Uint8Array>>,
): Promise<Ran> {
  const given: Record<string, { readonly root: string; readonly length: number }> = {};
  for (const [name, content] of Object.entries(files ?? {}))
    given[name] = { root: refToHex(await harness.putFile(content)), length: content.byteLength };
  const manifest = await harness.putProgram(source, files === undefined ? {} : { files: given });
  const root = await harness.putFile(bytes);
  const listener = new Uses();
  const lane = await harness.executor.load(manifest, listener, new AbortController().signal);
  for (const [at, [from, length]] of ranges.entries())
    lane.exec(encodeFrame([execStream(at, root, from, length)]));
  await listener.answered(ranges.length);
  const values: unknown[] = [];
  const faults: (readonly [number, string])[] = [];
  for (let at = 0; at < ranges.length; at++) {
    const answer = listener.answer(at);
    const isInline = (answer.flags & Flag.INLINE) !== 0;
    const content = isInline
      ? answer.ref.subarray(0, answer.length)
      : answer.flags & Flag.STREAM
        ? await harness.readStream(answer.ref)
        : await harness.readChunk(answer.ref);
    if (answer.op === Op.FAULT) faults.push([answer.from, Buffer.from(content).toString()]);
    else
      values.push(...(valueCodec.decode(`[${Buffer.from(content).toString().trim()}]`) as unknown[]).flat(2));
  }
  expect(listener.offences).toEqual([]);
  await lane.close();
  return { values, faults, uses: listener.uses };
}

const DATA = seededBytes(3 * MIB, 1);

describe("a call of a kernel", () => {
  it("is an engine's, over a range of the stream that the isolate never sees", async () => {
    const ranges = [
      [0, 2 * MIB],
      [2 * MIB, MIB],
    ] as const;
    const { values, uses } = await run(program(COUNT, "[[...count({ data: block })]]"), DATA, ranges);
    expect(values).toEqual(
      ranges.map(([from, length]) => [...histogramOf(DATA.subarray(from, from + length))]),
    );
    const read = engine.calls.map(({ inputs }) => inputs[0] as { readonly from: number });
    expect(read.toSorted((a, b) => a.from - b.from)).toMatchObject(
      ranges.map(([from, length]) => ({ from, length })),
    );
    expect(uses.reduce((sum, { calls }) => sum + calls, 0)).toBe(2);
    expect(uses[0]).toMatchObject({ kernel: 0, engine: "gpu", engineClass: "test-gpu", reason: "it is one" });
    expect(uses.reduce((sum, { milliseconds }) => sum + milliseconds, 0)).toBe(8);
  });

  it("has parts of blocks, bytes of its own and small splits as inputs", async () => {
    const map = `[block.slice(5, -7), block.slice(1).slice(1, 100), new Uint8Array([1, 1, 2])]
      .map((data) => [...count({ data })])`;
    const { values } = await run(program(COUNT, map), DATA, [
      [0, MIB],
      [MIB, 1000],
    ]);
    const expected = [DATA.subarray(0, MIB), DATA.subarray(MIB, MIB + 1000)].flatMap((bytes) => [
      [...histogramOf(bytes.subarray(5, -7))],
      [...histogramOf(bytes.subarray(2, 101))],
      [...histogramOf(Uint8Array.of(1, 1, 2))],
    ]);
    expect(values).toEqual(expected);
  });

  it("names what has come along too, and has bytes of chunks with it", async () => {
    engine.mayUse = false;
    const source = program(COUNT, "[[...count({ data: block.slice(1) })]]");
    const { values } = await run(source, DATA);
    expect(values).toEqual([[...histogramOf(DATA.subarray(1))]]);
    expect(engine.calls.at(-1)?.inputs[0]).toMatchObject({ from: 1, length: DATA.byteLength - 1 });
    const ref = await harness.putChunk(DATA.subarray(0, 5000));
    const listener = new Uses();
    const manifest = await harness.putProgram(source);
    const lane = await harness.executor.load(manifest, listener, new AbortController().signal);
    lane.exec(encodeFrame([exec(0, ref, 0, 10), exec(1, ref, 100, 4000)]));
    await listener.answered(2);
    const inputs = engine.calls
      .slice(-2)
      .map((call) => (call.inputs[0] as { readonly bytes: Uint8Array }).bytes)
      .toSorted((one, other) => one.byteLength - other.byteLength);
    expect(inputs.map((bytes) => Buffer.from(bytes).toString("hex"))).toEqual(
      [DATA.subarray(1, 10), DATA.subarray(101, 4100)].map((bytes) => Buffer.from(bytes).toString("hex")),
    );
    await lane.close();
  });

  it("gives outputs of any size, also where the shared memory has no room for them", async () => {
    const source = program(
      INVERT,
      "[(() => { const own = block.bytes, out = invert({ data: block }); return out.length === own.length && out.every((byte, at) => byte === 255 - own[at]); })()]",
    );
    for (const length of [1, 1001, MIB, MIB + 3, 3 * MIB]) {
      expect((await run(source, DATA.subarray(0, length))).values).toEqual([true]);
    }
    const large = seededBytes(100 * MIB, 3);
    const slim = program(INVERT, `[invert({ data: block }).subarray(-3).join()]`);
    const { values } = await run(slim, large);
    expect(values).toEqual([
      large
        .slice(-3)
        .map((byte) => byte ^ 255)
        .join(),
    ]);
    expect(engine.calls.at(-1)?.output).toBeUndefined();
  });

  it("with several outputs gives each an array of its own", async () => {
    const source = program(
      `const both = ${BOTH};`,
      `[(() => { const { inverted, counts } = both({ data: block }); return [inverted.join(), inverted.buffer.byteLength, counts.length, counts[7]]; })()]`,
    );
    const bytes = Uint8Array.of(7, 7, 0);
    expect((await run(source, bytes)).values).toEqual([["248,248,255", 3, 256, 2]]);
  });

  it("that is left to the program is measured there", async () => {
    engine.next.push("cpu", "cpu");
    const source = program(
      COUNT,
      "[[...count({ data: block })], [...count({ data: block })], [...count({ data: block })]]",
    );
    const { values, uses } = await run(source, DATA);
    const expected = [...histogramOf(DATA)];
    expect(values).toEqual([expected, expected, expected]);
    expect(uses).toMatchObject([
      { engine: "cpu", engineClass: "cpu", calls: 2, predictedMs: 4, reason: "it was left to it" },
      { engine: "gpu", calls: 1 },
    ]);
    expect(engine.computedMs).toHaveLength(2);
    expect(Math.min(...engine.computedMs)).toBeGreaterThan(0);
    expect(uses[0]!.milliseconds).toBeCloseTo(engine.computedMs[0]! + engine.computedMs[1]!);
  });

  it("waits as long as it takes, without being held to the program's time", async () => {
    harness.ceilingMs = 1500;
    engine.waitMs = 2500;
    const { values, faults } = await run(program(COUNT, "[count({ data: block })[0]]"), DATA);
    expect([values, faults]).toEqual([[histogramOf(DATA)[0]], []]);
  });

  it("that no engine runs any more is the environment's fault, and other packets run", async () => {
    engine.next.push(new EngineError(EngineErrorCode.engineLost, "the GPU is gone", {}));
    const source = program(
      COUNT,
      `[(() => { try { return count({ data: block })[0]; } catch { return "caught"; } })()]`,
    );
    const { values, faults } = await run(source, DATA, [
      [0, MIB],
      [MIB, MIB],
    ]);
    expect(faults).toEqual([[FaultCode.engineLost, expect.stringContaining("the GPU is gone")]]);
    // Two run beside each other, and either may have called first.
    const each = [0, MIB].map((from) => histogramOf(DATA.subarray(from, from + MIB))[0]);
    expect([values.length, each.includes(values[0] as number)]).toEqual([1, true]);
  });

  it("beyond a limit of the kernel's fails as the program's", async () => {
    const source = program(
      COUNT.replace(`result: "exact"`, `result: "exact", maxTrip: { n: 1000 }`),
      "count({ data: block })",
    );
    const { faults } = await run(source, DATA);
    expect(faults).toEqual([[FaultCode.threw, expect.stringContaining("its maxTrip says 1000 at most")]]);
    expect(engine.calls).toEqual([]);
  });

  it("that finds the stack full within what it asks leaves the next one alone", async () => {
    const source = program(
      COUNT,
      `(() => {
        const some = new Uint8Array(3);
        let calls = 0;
        const dive = () => {
          try { dive(); } catch {}
          // From where there is no room for a call on, frame by frame, to where there is.
          if (calls++ < 200) try { count({ data: some }); } catch {}
        };
        dive();
        return [calls > 200, count({ data: block })[0]];
      })()`,
    );
    const { values, faults } = await run(source, DATA);
    expect([values, faults]).toEqual([[true, histogramOf(DATA)[0]], []]);
  });

  it("that fails in its cpu leaves the next one alone", async () => {
    engine.next.push("cpu");
    const source = program(
      COUNT.replace(
        "({ data }) =>",
        '({ data }) => { if (data.length < 9) throw new Error("few"); }, rest: ({ data }) =>',
      ),
      `(() => { try { count({ data: new Uint8Array(3) }); } catch (error) { return [error.message, count({ data: block })[0]]; } })()`,
    );
    expect((await run(source, DATA)).values).toEqual(["few", histogramOf(DATA)[0]]);
  });
});

describe("bytes of blocks", () => {
  it("are read where the program looks at them, by records and of stored files", async () => {
    const source = `${COUNT}
      export default { input: { kind: "matrix", type: "u32", columns: 64, rows: 1024 }, map: (rows, { offset, files }) => [[
        offset, rows.rows, rows.values.reduce((sum, value) => (sum + value) % 1000003, 0),
        files.other.length, files.other.bytes[files.other.length - 1], files.other.matrix({ type: "bytes", columns: 7 }).slice(1, 2).values.join(),
      ]] };`;
    const other = seededBytes(2 * MIB - 1, 9);
    const { values } = await run(source, DATA, undefined, { other });
    const numbers = new Uint32Array(DATA.slice().buffer);
    const perRecord = 64 * 1024;
    expect(values).toEqual(
      Array.from({ length: 12 }, (_, index) => [
        index * perRecord * 4,
        1024,
        numbers
          .subarray(index * perRecord, (index + 1) * perRecord)
          .reduce((sum, value) => (sum + value) % 1000003, 0),
        other.length,
        other.at(-1),
        other.slice(7, 14).join(),
      ]),
    );
  });

  it("of a stored file are a kernel's input, and no packet's changes are another's", async () => {
    const source = program(
      COUNT,
      `[(() => { const before = files.other.bytes[0]; files.other.bytes.fill(9); return [before, count({ data: files.other })[0]]; })()]`,
    );
    const other = new Uint8Array(2000);
    const { values } = await run(
      source,
      DATA,
      [
        [0, 100],
        [100, 100],
      ],
      { other },
    );
    expect(values).toEqual([
      [0, 2000],
      [0, 2000],
    ]);
  });

  it("that are missing fail the packet as an input", async () => {
    const missing = refToHex(new Uint8Array(32).fill(3));
    const manifest = await harness.putProgram(program("", "files.other.bytes[0]"), {
      files: { other: { root: missing, length: 10 } },
    });
    const listener = new Collector();
    const lane = await harness.executor.load(manifest, listener, new AbortController().signal);
    lane.exec(encodeFrame([execStream(0, await harness.putFile(DATA), 0, 10)]));
    await listener.answered(1);
    expect(listener.answer(0)).toMatchObject({ op: Op.FAULT, from: FaultCode.inputMissing });
    await lane.close();
  });
});
