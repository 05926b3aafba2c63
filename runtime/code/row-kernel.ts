/**
 * Packet code over rows of integers as a kernel for GPUs. What a program looks for (its ranges, its needle) are scalar inputs, so
 * programs that differ in nothing else are one kernel. A thread aggregates rows that lie a grid apart, the threads of a workgroup
 * add up theirs, and what workgroups have becomes the state here. No addition overflows, so the order does not matter, and the
 * state is the interpreter's bit by bit.
 *
 *   rows ──▶ thread: sums of 16-bit parts ──▶ workgroup: sums of the halves of those ──▶ partials ──▶ state
 */
import { ColumnType, isFloat, valueBytes, wideTypeOf } from "../../packets/code/column-type.ts";
import { Aggregate, Filter, Records, Stage, codeCost } from "../../packets/code/format.ts";
import type { Code } from "../../packets/code/format.ts";
import { HISTOGRAM_BINS, emptyState } from "../../packets/code/state.ts";
import type { State } from "../../packets/code/state.ts";
import type { KernelCall, KernelInput } from "../contracts/kernels.ts";
import { CODE_DIRECT_BYTES_MAX, CODE_KERNEL_MS_MAX } from "../limits.ts";
import { kernelSpec, wgslKernel } from "../program/kernel/declaration.ts";
import type { Kernel, Tensor } from "../program/kernel/kernel.ts";

/** Threads of a workgroup, workgroups at most, and what a thread has to do for another workgroup to be worth it. */
const THREADS = 256;
const GROUPS_MAX = 1024;
const STEPS_MIN = 8;
/** Histograms of a workgroup, so that threads which meet the same value at once do not wait for one another. */
const BIN_COPIES = 8;
const WORD_BYTES = 4;
/** Of a GPU, so that some ranges are on their way to it while others are computed. */
const KERNEL_SHARE = 0.25;
/** A sum of so many 16-bit parts fits into 32 bits. */
const THREAD_ROWS_MAX = 65_536;

/** Rows back to back, and what AT looks at behind them: `bytes` of them, at most CODE_DIRECT_BYTES_MAX. */
export interface Rows {
  readonly input: KernelInput;
  readonly bytes: number;
  readonly rows: number;
}

/** Whether the code maps rows, and looks at integers in them and nothing else. */
export function hasRowKernel({ stage, records, aggregate, type, filter, filterType }: Code): boolean {
  if (stage !== Stage.MAP || records !== Records.ROWS || aggregate === Aggregate.CRC32) return false;
  if (aggregate === Aggregate.COUNT && filter === Filter.ALL) return false;
  return !isFloat(type) && !isFloat(filterType);
}

export class RowKernel {
  readonly kernel: Kernel;
  readonly #code: Code;
  readonly #operands: readonly KernelInput[];

  /** Of code that has one. */
  constructor(code: Code) {
    this.#code = code;
    const operands = operandsOf(code);
    this.#operands = operands.map(({ value }) => scalar(value));
    this.kernel = kernelOf(
      code,
      operands.map(({ name }) => name),
    );
  }

  call({ input, bytes, rows }: Rows): KernelCall {
    const groups = groupsFor(this.#code, rows);
    const { kernel } = this;
    return hasBins(this.#code)
      ? { kernel, dimensions: { bytes }, inputs: [input, scalar(rows), scalar(groups), ...this.#operands] }
      : { kernel, dimensions: { bytes, groups }, inputs: [input, scalar(rows), ...this.#operands] };
  }

  /** What the outputs of a call say; undefined where the kernel cannot have given them. */
  state(outputs: Uint8Array, rows: number): State | undefined {
    const isHistogram = hasBins(this.#code);
    const groups = groupsFor(this.#code, rows);
    const count = isHistogram ? HISTOGRAM_BINS : groups * partialWords(this.#code);
    if (outputs.byteLength !== count * WORD_BYTES) return undefined;
    const words = new Uint32Array(Uint8Array.from(outputs).buffer);
    const state = isHistogram ? stateOfBins(this.#code, words) : stateOfPartials(this.#code, words);
    const isAll = this.#code.filter === Filter.ALL;
    return state.count > rows || (isAll && state.count !== rows) ? undefined : state;
  }
}

function groupsFor({ rowBytes }: Code, rows: number): number {
  const steps = rowBytes === 1 ? Math.ceil(rows / WORD_BYTES) : rows;
  return Math.max(1, Math.min(GROUPS_MAX, Math.ceil(steps / (THREADS * STEPS_MIN))));
}

if (CODE_DIRECT_BYTES_MAX / (GROUPS_MAX * THREADS) > THREAD_ROWS_MAX) throw new Error("sums overflow");

// ── from partials to the state ───────────────────────────────────────────────────────────────────────────────────────

/** Words that a workgroup leaves: how many rows passed, and what comes of their values. */
function partialWords(code: Code): number {
  return 1 + (isSum(code) ? 2 : 1) * threadWords(code);
}

/** Words that a thread has of the values: 16-bit parts of a sum, or a value. */
function threadWords(code: Code): number {
  if (code.type === 0) return 0;
  return Math.ceil(valueBytes(code.type) / (isSum(code) ? 2 : WORD_BYTES));
}

function stateOfPartials(code: Code, words: Uint32Array): State {
  const state = emptyState(code);
  const size = partialWords(code);
  const values = Array.from({ length: threadWords(code) }, () => 0n);
  let extreme = 0n;
  for (let at = 0; at < words.length; at += size) {
    state.count += words[at]!;
    if (isSum(code)) {
      for (let part = 0; part < values.length; part++)
        values[part]! += BigInt(words[at + 1 + 2 * part]! + words[at + 2 + 2 * part]! * 2 ** 16);
    } else if (values.length > 0) {
      const wide = BigInt(words[at + 1]!) | (values.length === 2 ? BigInt(words[at + 2]!) << 32n : 0n);
      if (code.aggregate === Aggregate.XOR) state.integer ^= wide;
      else if (wide > extreme) extreme = wide;
    }
  }
  const { type } = code;
  if (type === 0) return state;
  const bits = 8 * valueBytes(type);
  const lowest = isSigned(type) ? 1n << BigInt(bits - 1) : 0n;
  if (isSum(code)) {
    for (const [part, sum] of values.entries()) state.integer += sum << BigInt(16 * part);
    state.integer -= lowest * BigInt(state.count);
  } else if (code.aggregate === Aggregate.XOR) {
    if (isSigned(type)) state.integer = BigInt.asIntN(bits, state.integer);
  } else if (state.count > 0) {
    const key = code.aggregate === Aggregate.MIN ? BigInt.asUintN(bits, ~extreme) : extreme;
    state.integer = key - lowest;
  }
  return state;
}

function stateOfBins(code: Code, words: Uint32Array): State {
  const state = emptyState(code);
  state.bins!.set(words);
  for (const records of words) state.count += records;
  return state;
}

function hasBins({ aggregate }: Code): boolean {
  return aggregate === Aggregate.HISTOGRAM;
}

function isSum({ aggregate }: Code): boolean {
  return aggregate === Aggregate.SUM || aggregate === Aggregate.MEAN;
}

function isSigned(type: ColumnType): boolean {
  return wideTypeOf(type) === ColumnType.i64;
}

// ── operands ─────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Operand {
  readonly name: string;
  readonly value: number;
}

/** Values are compared as unsigned ones: keys, of which the lowest value has 0. */
function keyOf(type: ColumnType, value: number | bigint): bigint {
  const bits = 8 * valueBytes(type);
  const lowest = isSigned(type) ? 1n << BigInt(bits - 1) : 0n;
  return BigInt.asUintN(bits, BigInt(value) + lowest);
}

function operandsOf({ filter, filterType, ranges, needle }: Code): Operand[] {
  if (filter === Filter.AT) {
    const padded = new Uint8Array(Math.ceil(needle.byteLength / WORD_BYTES) * WORD_BYTES);
    padded.set(needle);
    return [...new Uint32Array(padded.buffer)].map((value, index) => ({ name: `needle_${index}`, value }));
  }
  if (filterType === 0) return [];
  const isWide = valueBytes(filterType) === 8;
  return ranges.flatMap(({ low, high }, index) =>
    Object.entries({ low, high }).flatMap(([end, value]) => {
      const key = keyOf(filterType, value);
      const name = `${end}_${index}`;
      const words = [{ name, value: Number(key & 0xffffffffn) }];
      return isWide ? [...words, { name: `${name}_high`, value: Number(key >> 32n) }] : words;
    }),
  );
}

function scalar(value: number): KernelInput {
  return { bytes: new Uint8Array(Uint32Array.of(value).buffer) };
}

// ── WGSL ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

const AGGREGATE_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(Aggregate).map(([name, number]) => [number, name.toLowerCase()]),
);

function kernelOf(code: Code, operands: readonly string[]): Kernel {
  const scalars = ["rows", ...(hasBins(code) ? ["groups"] : []), ...operands];
  const output: Tensor = hasBins(code)
    ? { name: "bins", type: "u32", shape: [HISTOGRAM_BINS], atomic: true }
    : { name: "partials", type: "u32", shape: ["groups", partialWords(code)] };
  const spec = kernelSpec({
    name: AGGREGATE_NAMES.get(code.aggregate)!,
    kind: "wgsl",
    inputs: [
      { name: "data", type: "bytes", shape: ["bytes"] },
      ...scalars.map((name): Tensor => ({ name, type: "u32", shape: [] })),
    ],
    outputs: [output],
    source: sourceOf(code),
    result: "exact",
    hasCpu: true,
    workgroup: { size: [THREADS], count: ["groups"] },
    operations: `rows * ${codeCost(code)}`,
    limits: { gpuMs: CODE_KERNEL_MS_MAX, gpuBytes: 2 * CODE_DIRECT_BYTES_MAX },
    gpu: KERNEL_SHARE,
  });
  return wgslKernel(spec);
}

function sourceOf(code: Code): string {
  const memory = hasBins(code)
    ? `var<workgroup> counts: array<atomic<u32>, ${HISTOGRAM_BINS * BIN_COPIES}>;`
    : `var<workgroup> sums: array<atomic<u32>, ${partialWords(code)}>;`;
  return `${memory}

// The four bytes from \`at\` on; what is behind the data is not to be looked at.
fn word_at(at: u32) -> u32 {
  let low = data[at >> 2u];
  let shift = (at & 3u) * 8u;
  if (shift == 0u) {
    return low;
  }
  return (low >> shift) | (data[(at >> 2u) + 1u] << (32u - shift));
}

fn less_or_same(a: vec2<u32>, b: vec2<u32>) -> bool {
  return a.y < b.y || (a.y == b.y && a.x <= b.x);
}

fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = group.x * ${THREADS}u + local;
  let stride = dims.groups * ${THREADS}u;
${hasBins(code) ? "" : threadVariables(code)}${code.rowBytes === 1 ? byteLoop(code) : rowLoop(code)}
${hasBins(code) ? HISTOGRAM_END : workgroupEnd(code)}
}
`;
}

function threadVariables(code: Code): string {
  const names = ["count", ...Array.from({ length: threadWords(code) }, (_, index) => `value_${index}`)];
  return names.map((name) => `  var ${name} = 0u;\n`).join("");
}

/** Four rows of a byte a turn. */
function byteLoop(code: Code): string {
  return `  for (var index = first; index * 4u < dims.rows; index += stride) {
    let word = data[index];
    for (var byte = 0u; byte < 4u; byte++) {
      let row = index * 4u + byte;
      if (row >= dims.rows) {
        break;
      }
${takeRow(code)}
    }
  }`;
}

function rowLoop(code: Code): string {
  return `  for (var row = first; row < dims.rows; row += stride) {
    {
${takeRow(code)}
    }
  }`;
}

function takeRow(code: Code): string {
  const lines = [
    ...filterLines(code),
    `if (${code.isNot ? "!" : ""}passes) {`,
    ...addLines(code).map((line) => `  ${line}`),
    "}",
  ];
  return lines.map((line) => `      ${line}`).join("\n");
}

/** Says whether the row passes, but for a NOT. */
function filterLines(code: Code): string[] {
  const { filter, filterType, filterOffset, ranges, needle, rowBytes } = code;
  if (filter === Filter.ALL) return ["let passes = true;"];
  if (filter === Filter.AT) {
    const at = `row * ${rowBytes}u + ${filterOffset}u`;
    const words = Math.ceil(needle.byteLength / WORD_BYTES);
    const equal = Array.from({ length: words }, (_, index) => {
      const left = needle.byteLength - index * WORD_BYTES;
      const difference = `(word_at(${at} + ${index * WORD_BYTES}u) ^ dims.needle_${index})`;
      return left >= WORD_BYTES ? `${difference} == 0u` : `(${difference} & ${maskOf(left)}) == 0u`;
    });
    // Behind the end of the file stands nothing, and so nothing that is looked for.
    return [`let passes = ${at} + ${needle.byteLength}u <= dims.bytes && ${equal.join(" && ")};`];
  }
  const type = filterType as ColumnType;
  const [low, high] = keyWords(code, type, filterOffset);
  if (high === undefined) {
    const within = ranges.map((_, index) => `(key >= dims.low_${index} && key <= dims.high_${index})`);
    return [`let key = ${low};`, `let passes = ${within.join(" || ")};`];
  }
  const end = (name: string): string => `vec2<u32>(dims.${name}, dims.${name}_high)`;
  const within = ranges.map(
    (_, index) => `(less_or_same(${end(`low_${index}`)}, key) && less_or_same(key, ${end(`high_${index}`)}))`,
  );
  return [`let key = vec2<u32>(${low}, ${high});`, `let passes = ${within.join(" || ")};`];
}

/** Adds a row that passes to what the thread has. */
function addLines(code: Code): string[] {
  const { aggregate, type, offset } = code;
  if (type === 0) return ["count++;"];
  const isXor = aggregate === Aggregate.XOR;
  const words = isXor ? rawWords(code, type, offset) : keyWords(code, type, offset);
  if (hasBins(code))
    return [`atomicAdd(&counts[(local % ${BIN_COPIES}u) * ${HISTOGRAM_BINS}u + ${words[0]}], 1u);`];
  if (isXor) return ["count++;", ...words.map((word, index) => `value_${index} ^= ${word};`)];
  if (isSum(code)) {
    const isShort = valueBytes(type) <= 2;
    const parts = isShort ? words : words.flatMap((word) => [`(${word}) & 0xffffu`, `(${word}) >> 16u`]);
    return ["count++;", ...parts.map((part, index) => `value_${index} += ${part};`)];
  }
  // The largest key, or the largest of what is largest where keys are smallest.
  const mask = maskOf(Math.min(WORD_BYTES, valueBytes(type)));
  const keys = aggregate === Aggregate.MIN ? words.map((word) => `(${word}) ^ ${mask}`) : words;
  const [low, high] = keys;
  if (high === undefined) return ["count++;", `value_0 = max(value_0, ${low});`];
  return [
    "count++;",
    `let found = vec2<u32>(${low}, ${high});`,
    "if (less_or_same(vec2<u32>(value_0, value_1), found)) {",
    "  value_0 = found.x;",
    "  value_1 = found.y;",
    "}",
  ];
}

/** The bits of a value of the row, as 32 bits or, low ones first, twice as many. */
function rawWords(code: Code, type: ColumnType, offset: number): string[] {
  const bytes = valueBytes(type);
  if (bytes === 8) return [wordOf(code, offset, 4), wordOf(code, offset + 4, 4)];
  return [wordOf(code, offset, bytes)];
}

/** The same, as keys: the highest bit of signed values is turned over. */
function keyWords(code: Code, type: ColumnType, offset: number): string[] {
  const words = rawWords(code, type, offset);
  if (!isSigned(type)) return words;
  const highest = 2 ** (8 * Math.min(WORD_BYTES, valueBytes(type)) - 1);
  return [...words.slice(0, -1), `(${words.at(-1)}) ^ ${highest}u`];
}

/** One to four bytes at `offset` of the row. */
function wordOf({ rowBytes }: Code, offset: number, bytes: number): string {
  if (rowBytes === 1) return "((word >> (8u * byte)) & 0xffu)";
  const masked = (word: string): string =>
    bytes === WORD_BYTES ? `(${word})` : `((${word}) & ${maskOf(bytes)})`;
  if (rowBytes % WORD_BYTES !== 0) return masked(`word_at(row * ${rowBytes}u + ${offset}u)`);
  const index = `row * ${rowBytes / WORD_BYTES}u + ${offset >> 2}u`;
  const shift = (offset % WORD_BYTES) * 8;
  const low = shift === 0 ? `data[${index}]` : `data[${index}] >> ${shift}u`;
  if (shift + 8 * bytes <= 32) return masked(low);
  return masked(`(${low}) | (data[${index} + 1u] << ${32 - shift}u)`);
}

function maskOf(bytes: number): string {
  return `0x${(2 ** (8 * bytes) - 1).toString(16)}u`;
}

const HISTOGRAM_END = `  workgroupBarrier();
  var sum = 0u;
  for (var copy = 0u; copy < ${BIN_COPIES}u; copy++) {
    sum += atomicLoad(&counts[copy * ${HISTOGRAM_BINS}u + local]);
  }
  if (sum > 0u) {
    atomicAdd(&bins[local], sum);
  }`;

/** What the threads have, together, to where partials are. */
function workgroupEnd(code: Code): string {
  const words = threadWords(code);
  const lines = ["atomicAdd(&sums[0], count);"];
  if (isSum(code)) {
    for (let part = 0; part < words; part++) {
      lines.push(`atomicAdd(&sums[${1 + 2 * part}], value_${part} & 0xffffu);`);
      lines.push(`atomicAdd(&sums[${2 + 2 * part}], value_${part} >> 16u);`);
    }
  } else if (code.aggregate === Aggregate.XOR) {
    for (let word = 0; word < words; word++) lines.push(`atomicXor(&sums[${1 + word}], value_${word});`);
  } else if (words === 1) {
    lines.push("atomicMax(&sums[1], value_0);");
  } else if (words === 2) {
    lines.push(
      "atomicMax(&sums[2], value_1);",
      "workgroupBarrier();",
      "if (value_1 == atomicLoad(&sums[2])) {",
      "  atomicMax(&sums[1], value_0);",
      "}",
    );
  }
  const size = partialWords(code);
  lines.push(
    "workgroupBarrier();",
    `if (local < ${size}u) {`,
    `  partials[group.x * ${size}u + local] = atomicLoad(&sums[local]);`,
    "}",
  );
  return lines.map((line) => `  ${line}`).join("\n");
}
