/**
 * A program's answer does not say who computed its kernels: random programs call kernels over records in random frames, lanes and
 * orders, while each call is a GPU's or the program's own by chance, and every answer has the bytes, and every packet the log, of
 * the one where the program computed all of them. The programs try to notice.
 *
 * PACKETFS_EXACT_PROGRAMS is how many there are (default 12), PACKETFS_EXACT_SEED what they follow from.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hasCode } from "../../packets/errors.ts";
import { Op } from "../../packets/layout.ts";
import { encodeFrame } from "../../packets/packet.ts";
import { findAccelerators } from "../../runtime/accelerator/accelerators.ts";
import type {
  Accelerator,
  EngineDecision,
  KernelCall,
  KernelEngine,
} from "../../runtime/contracts/kernels.ts";
import { KernelErrorCode } from "../../runtime/errors.ts";
import { Random } from "../sim/random.ts";
import { Collector } from "../suites/collector.ts";
import { execStream, seededBytes } from "../suites/exec-packets.ts";
import { noGpu } from "../suites/gpu.ts";
import { imported } from "../wasm-module.ts";
import type { WasmParts } from "../wasm-module.ts";
import { LocalHarness } from "../runtime/executor/local-harness.ts";

const PROGRAMS = Number(process.env["PACKETFS_EXACT_PROGRAMS"] ?? 12);
const SEED = Number(process.env["PACKETFS_EXACT_SEED"] ?? 1);

/** Computes by a GPU, or leaves it to the program. */
class ByChance implements KernelEngine {
  random: Random | undefined;
  gpu: Accelerator | undefined;
  readonly count = { gpu: 0, cpu: 0, refused: 0 };

  async run(call: KernelCall, signal: AbortSignal): Promise<EngineDecision> {
    const isOwn = this.random?.chance(0.5) ?? true;
    if (isOwn) {
      this.count.cpu++;
      return { engineClass: "cpu", reason: "by chance" };
    }
    this.count.gpu++;
    try {
      const answer = await this.gpu!.run(call, signal);
      return { answer, engineClass: "gpu", reason: "by chance" };
    } catch (error) {
      if (!hasCode(error, KernelErrorCode.invalidCall)) throw error;
      this.count.refused++;
      return {
        engineClass: "cpu",
        reason: "it says what is wrong with the inputs, as the engines of programs do",
      };
    }
  }

  computed(): void {
    // Nothing is learned from it.
  }
}

interface Kernel {
  readonly inputs: string;
  readonly outputs: string;
  readonly count: string;
  readonly source: string;
  readonly cpu: string;
}

const MAIN = "fn main(@builtin(global_invocation_id) id: vec3u)";
/** A module that counts in its memory. */
const REMEMBERING: WasmParts = {
  memory: [1],
  functions: [
    {
      name: "stored",
      results: ["i32"],
      code: "i32.const 8 i32.const 8 i32.load 0 i32.const 1 i32.add i32.store 0 i32.const 8 i32.load 0",
    },
  ],
};
/** What each cpu does beside its work: nobody may see it. */
const TRACES =
  'left.calls++; module.call("stored"); left.list.push(left.calls); console.log("computed here", left.calls); left.drawn = Math.random();';

const KERNELS: Readonly<Record<string, Kernel>> = {
  histogram: {
    inputs: '[{ name: "data", type: "bytes", shape: ["n"] }]',
    outputs: '[{ name: "output", type: "u32", shape: [256], atomic: true }]',
    count: "n / 64",
    source: `${MAIN} { if (id.x < dims.n) { atomicAdd(&output[(data[id.x / 4] >> (8 * (id.x % 4))) & 255], 1u); } }`,
    cpu: `({ data }) => { ${TRACES} const counts = new Uint32Array(256); for (const byte of data) counts[byte]++; data.fill(0); return counts; }`,
  },
  inverted: {
    inputs: '[{ name: "data", type: "bytes", shape: ["n"] }]',
    outputs: '[{ name: "output", type: "bytes", shape: ["n"] }]',
    count: "n / 256",
    source: `${MAIN} { if (id.x * 4 < dims.n) { output[id.x] = ~data[id.x]; } }`,
    cpu: `({ data }) => { ${TRACES} return left.array = data.map((byte) => byte ^ 255); }`,
  },
  weighted: {
    inputs:
      '[{ name: "rows", type: "i32", shape: ["n", 16] }, { name: "weights", type: "i32", shape: [16] }, { name: "bias", type: "i32", shape: [] }]',
    outputs: '[{ name: "output", type: "i32", shape: ["n"] }]',
    count: "n / 64",
    source: `${MAIN} { if (id.x < dims.n) { var sum = dims.bias; for (var i = 0u; i < 16; i++) { sum += rows[id.x * 16 + i] * weights[i]; } output[id.x] = sum; } }`,
    cpu: `({ rows, weights, bias }, { n }) => { ${TRACES} const sums = new Int32Array(n);
      for (let row = 0; row < n; row++) { let sum = bias; for (let i = 0; i < 16; i++) sum = (sum + Math.imul(rows[row * 16 + i], weights[i])) | 0; sums[row] = sum; }
      weights.fill(7); return sums; }`,
  },
  ramp: {
    inputs: '[{ name: "first", type: "u32", shape: [] }]',
    outputs: '[{ name: "output", type: "u32", shape: ["m", 3] }]',
    count: "m / 16",
    source: `${MAIN} { if (id.x < dims.m * 3) { output[id.x] = dims.first + id.x * id.x; } }`,
    cpu: `({ first }, { m }) => { ${TRACES} return Uint32Array.from({ length: m * 3 }, (_, at) => (first + Math.imul(at, at)) >>> 0); }`,
  },
};

/** Those in JavaScript that GPU.js computes where no GPU does. */
const BY_GPU_JS = `const blurred = $packetfs.kernel({ name: "blurred", kind: "js", hasCpu: false, result: "exact",
    inputs: [{ name: "grid", type: "i32", shape: ["h", "w"] }, { name: "add", type: "i32", shape: [] }],
    outputs: [{ name: "output", type: "i32", shape: ["h", "w"] }], constants: { reach: 2 },
    source: \`function blurred(grid, add) {
      let sum = add;
      for (let dy = 0; dy < 2; dy++) for (let dx = 0; dx < 2; dx++)
        sum += grid[Math.min(this.thread.y + dy, this.constants.h - 1)][Math.min(this.thread.x + dx, this.constants.w - 1)] * (dx + dy + this.constants.reach);
      return sum;
    }\` }, { isSingle: true, cpu: undefined });
  const halves = $packetfs.kernel({ name: "halves", kind: "js", hasCpu: false, result: "exact",
    inputs: [{ name: "list", type: "f32", shape: ["n"] }, { name: "by", type: "f32", shape: [] }],
    outputs: [{ name: "output", type: "f32", shape: ["n"] }],
    source: "function halves(list, by) { return Math.floor(list[this.thread.x]) - by; }" }, { isSingle: true, cpu: undefined });
  const scaled = $packetfs.kernel({ name: "scaled", kind: "js", hasCpu: false, result: "exact",
    inputs: [{ name: "list", type: "f32", shape: ["n"] }, { name: "by", type: "f32", shape: [] }],
    outputs: [{ name: "output", type: "f32", shape: ["n"] }],
    source: \`function scaled(list, by) {
      const product = list[this.thread.x] * by;
      if (product > 0) return product;
      return Math.min(-Math.abs(product), Math.ceil(by < 0 ? -0.5 : by));
    }\` }, { isSingle: true, cpu: undefined });
  const sums = ["i32", "u32", "f32"].map((type) => $packetfs.kernel({ name: "sums " + type, kind: "js", hasCpu: false, result: "exact",
    inputs: [{ name: "a", type: "i32", shape: ["n"] }, { name: "b", type: "i32", shape: ["n"] }, { name: "to", type: "i32", shape: [] }],
    outputs: [{ name: "output", type, shape: ["n"] }], maxTrip: { to: 64 },
    source: \`function sums(a, b, to) {
      let sum = 1;
      for (let i = 0; i < to; i++) sum += a[this.thread.x + i] * b[this.thread.x] - (sum & 4095);
      return sum;
    }\` }, { isSingle: true, cpu: undefined }));
  const attempt = (call) => { try { return call(); } catch (error) { return String(error); } };
  const ints = (bytes, scale, mask) => Int32Array.from(bytes, (byte, at) => ((byte + 1) * scale + at) & mask);`;

const DEFINED = Object.entries(KERNELS)
  .map(
    ([name, { inputs, outputs, count, source, cpu }]) => `const ${name} = $packetfs.kernel({
      name: "${name}", kind: "wgsl", hasCpu: true, result: "exact", operations: "1", inputs: ${inputs}, outputs: ${outputs},
      source: ${JSON.stringify(source)}, workgroup: { size: [64, 1, 1], count: ["${count}", "1", "1"] } }, { isSingle: true, cpu: ${cpu} });`,
  )
  .join("\n");

/** Expressions of `block` and `matrix`, blocks of a record, and `files`. */
const CALLS = [
  "histogram({ data: block })",
  "histogram({ data: block.slice(3, 1000) })",
  "histogram({ data: block.bytes })",
  "histogram({ data: files.other })",
  "inverted({ data: block }).subarray(-100)",
  "inverted({ data: block.slice(1, 6) })",
  "inverted({ data: files.other.slice(-77) })",
  "weighted({ rows: files.other.slice(0, 6400), weights, bias: -3 })",
  "weighted({ rows: new Int32Array(block.bytes.slice(0, 64).buffer), weights, bias: 2147483647 })",
  "weighted({ rows: files.other.matrix({ type: 'i32', columns: 16 }).slice(-40), weights: [...weights], bias: 1 })",
  "blurred({ grid: Int32Array.from(block.bytes.subarray(0, 96)), add: -7 }, { w: 12 })",
  "blurred({ grid: [1, -2, 3, 4, 5, 6], add: block.bytes[1] }, { h: 3, w: 2 })",
  "halves({ list: Float32Array.from(block.bytes, (byte) => byte / 3 - 20), by: 0.25 })",
  "ramp({ first: 4294967295 }, { m: 1 + block.length % 50 })",
  "scaled({ list: Float32Array.from(few, (byte) => byte - 128), by: 0 })",
  "scaled({ list: Float32Array.from(few, (byte) => 2 ** (-byte / 2.1)), by: 2 ** -64 })",
  "scaled({ list: Float32Array.from(few, (byte) => (byte - 100) / 7), by: -0.1 })",
  "attempt(() => scaled({ list: Float32Array.from(few, (byte) => byte === 7 ? NaN : byte), by: 1 }))",
  "attempt(() => scaled({ list: files.other.matrix({ type: 'f32', columns: 8 }).slice(2, 90), by: 1 }, { n: 704 }))",
  "attempt(() => scaled({ list: [1, 2 ** 100, 3], by: 2 ** 100 }))",
  "sums[2]({ a: ints(few, 65000, 0xffffff), b: ints(few, 9999, 0xfffff), to: 40 })",
  "sums[2]({ a: ints(few, 65000, 0xffffff), b: ints(few, -31, -1), to: 9 })",
  "sums[0]({ a: ints(few, 1, 0xff), b: ints(few, 7, 0xff), to: 3 })",
  "attempt(() => sums[0]({ a: ints(few, 1, 0xfff), b: ints(few, -1, -1), to: 9 }))",
  "attempt(() => sums[1]({ a: ints(few, 1, 0xff), b: ints(few, -1, -1), to: 1 }))",
  "attempt(() => sums[1]({ a: files.other.slice(0, 400), b: ints(few.subarray(0, 100), 1, 0xff), to: 1 }))",
];
const NOTICES = [
  "left.calls",
  "left.list.length",
  "left.drawn",
  "Math.random()",
  "weights[3]",
  "left.array?.[0]",
  'module.call("stored")',
  'console.log("here", Math.random())',
  "block.bytes[0]",
  "(block.bytes[0] = 255, block.bytes[0])",
];

/** Each call once, and what may notice it behind it. */
function allParts(): string[] {
  return CALLS.flatMap((call, at) => [call, NOTICES[at % NOTICES.length]!]);
}

function randomParts(random: Random): string[] {
  const pick = (list: readonly string[]): string => list[random.integer(0, list.length - 1)]!;
  return Array.from({ length: random.integer(2, 7) }, () =>
    random.chance(0.6) ? pick(CALLS) : pick(NOTICES),
  );
}

function programOf(parts: readonly string[], random: Random): string {
  const size = random.chance(0.3) ? `, size: ${random.integer(2000, 200_000)}` : "";
  return `const left = { calls: 0, list: [], drawn: 0, array: undefined };
    const module = ${imported(REMEMBERING)};
    const weights = Int32Array.from({ length: 16 }, (_, at) => at - 7);
    ${DEFINED}
    ${BY_GPU_JS}
    export default { input: { kind: "block"${size} }, map: (block, { files }) => { const few = block.bytes.slice(0, 1000); return [${parts.join(", ")}]; } };`;
}

const DATA = seededBytes(1_500_000, 5);
const OTHER = seededBytes(256_000, 6);

describe.skipIf(noGpu !== undefined)("who computes a kernel", () => {
  const engine = new ByChance();
  let harness: LocalHarness;
  beforeAll(async () => {
    harness = await LocalHarness.open({ kernels: engine });
    const { store } = harness;
    const found = await findAccelerators({ source: store, places: store, isSoftwareUsed: true });
    engine.gpu = found.accelerators[0];
  });
  afterAll(async () => {
    await harness.close();
    await engine.gpu?.close();
  });

  /** Each packet's answer and log, of ranges in their order. */
  async function answersOf(
    manifest: Uint8Array,
    root: Uint8Array,
    ranges: readonly (readonly [number, number])[],
    random: Random,
  ): Promise<string[]> {
    const lanes = random.integer(1, 2);
    const listeners = Array.from({ length: lanes }, () => new Collector());
    const { signal } = new AbortController();
    const opened = await Promise.all(
      listeners.map((listener) => harness.executor.load(manifest, listener, signal)),
    );
    const order = [...ranges.keys()];
    for (let at = order.length - 1; at > 0; at--) {
      const other = random.integer(0, at);
      [order[at], order[other]] = [order[other]!, order[at]!];
    }
    const laneOf = order.map(() => random.integer(0, lanes - 1));
    for (let at = 0; at < order.length;) {
      const lane = laneOf[at]!;
      const frame = [];
      do {
        const [from, length] = ranges[order[at]!]!;
        frame.push(execStream(order[at]!, root, from, length));
      } while (++at < order.length && laneOf[at] === lane && random.chance(0.5));
      opened[lane]!.exec(encodeFrame(frame));
    }
    const texts: string[] = [];
    for (const [lane, listener] of listeners.entries()) {
      await listener.answered(laneOf.filter((each) => each === lane).length);
      for (const [task, answer] of listener.answers) {
        const log = listener.logs.filter(({ at }) => at === task).map(({ text }) => text);
        const content = answer.op === Op.FAULT ? `fault ${answer.from}` : "";
        texts[task] =
          `${content}${answer.flags} ${answer.length} ${Buffer.from(answer.ref).toString("hex")} ${log.join()}`;
      }
    }
    await Promise.all(opened.map((lane) => lane.close()));
    return texts;
  }

  it.each([
    { seed: SEED, what: "all calls", bytes: 200_000 },
    ...Array.from({ length: PROGRAMS }, (_, index) => ({
      seed: SEED + index,
      what: "some calls",
      bytes: 1_500_000,
    })),
  ])("cannot be told ($what, seed $seed)", async ({ seed, what, bytes }) => {
    const random = new Random(seed);
    const parts = what === "all calls" ? allParts() : randomParts(random);
    const files = {
      other: { root: Buffer.from(await harness.putFile(OTHER)).toString("hex"), length: OTHER.byteLength },
    };
    const manifest = await harness.putProgram(programOf(parts, random), { files });
    const data = DATA.subarray(0, bytes);
    const root = await harness.putFile(data);
    const ranges: [number, number][] = [];
    for (let from = 0; from < data.byteLength;) {
      // Some of them are read at once, and some are left where they are.
      const length = Math.min(
        data.byteLength - from,
        random.chance(0.5) ? random.integer(100, 60_000) : random.integer(70_000, 700_000),
      );
      ranges.push([from, length]);
      from += length;
    }
    engine.random = undefined;
    const own = await answersOf(manifest, root, ranges, random);
    expect(own.every((text) => text !== undefined && !text.startsWith("fault"))).toBe(true);
    for (let round = 0; round < 2; round++) {
      engine.random = random;
      expect(await answersOf(manifest, root, ranges, random)).toEqual(own);
    }
  });

  it("was both of them", () => {
    expect(Math.min(engine.count.cpu, engine.count.gpu)).toBeGreaterThan(PROGRAMS);
    expect(engine.count.refused).toBeGreaterThan(0);
  });
});
