/**
 * Packet code over rows of integers as a kernel for GPUs. What a program looks for (its ranges, its needle) are scalar inputs, so
 * programs that differ in nothing else are one kernel. A thread aggregates rows that lie a grid apart, the threads of a workgroup
 * add up theirs, and what workgroups have becomes the state here. No addition overflows, so the order does not matter, and the
 * state is the interpreter's bit by bit.
 *
 *   rows ──▶ thread: sums of 16-bit parts ──▶ workgroup: sums of the halves of those ──▶ partials ──▶ state
 */
import { isFloat, valueBytes } from "../../packets/code/column-type.ts";
import type { ColumnType } from "../../packets/code/column-type.ts";
import { Aggregate, Filter, Records, Stage, codeCost } from "../../packets/code/format.ts";
import type { Code } from "../../packets/code/format.ts";
import { HISTOGRAM_BINS, emptyState } from "../../packets/code/state.ts";
import type { State } from "../../packets/code/state.ts";
import type { KernelCall, KernelInput } from "../contracts/kernels.ts";
import { CODE_DIRECT_BYTES_MAX, CODE_KERNEL_MS_MAX } from "../limits.ts";
import { kernelSpec, wgslKernel } from "../program/kernel/declaration.ts";
import type { Kernel, Tensor } from "../program/kernel/kernel.ts";
import {
  ROW_THREADS,
  WORD_BYTES,
  hasBins,
  isSigned,
  isSum,
  partialWords,
  rowSource,
  threadWords,
} from "./row-wgsl.ts";

/** Workgroups at most, and what a thread has to do for another one to be worth it. */
const GROUPS_MAX = 1024;
const STEPS_MIN = 8;
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
  return Math.max(1, Math.min(GROUPS_MAX, Math.ceil(steps / (ROW_THREADS * STEPS_MIN))));
}

if (CODE_DIRECT_BYTES_MAX / (GROUPS_MAX * ROW_THREADS) > THREAD_ROWS_MAX) throw new Error("sums overflow");

// ── from partials to the state ───────────────────────────────────────────────────────────────────────────────────────

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

// ── the kernel ─────────────────────────────────────────────────────────────────────────────────────────────────────────

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
    source: rowSource(code),
    result: "exact",
    hasCpu: true,
    workgroup: { size: [ROW_THREADS], count: ["groups"] },
    operations: `rows * ${codeCost(code)}`,
    limits: { gpuMs: CODE_KERNEL_MS_MAX, gpuBytes: 2 * CODE_DIRECT_BYTES_MAX },
    gpu: KERNEL_SHARE,
  });
  return wgslKernel(spec);
}
