/**
 * What packet code knows of the records that it has seen: a few numbers, the same wherever they were computed. States of
 * neighbouring ranges are merged in the order of the input, along the job's one tree, and become the value at its top.
 */
import { combineCrc32 } from "../crc32.ts";
import { readInteger, writeInteger } from "../integer.ts";
import { ColumnType, isFloat, readValue, wideTypeOf, writeValue } from "./column-type.ts";
import { Aggregate, invalid } from "./format.ts";
import type { Code } from "./format.ts";

/** What a program gives: a bigint where an integer is beyond ±(2^53 − 1); null where there was nothing to take. */
export type CodeValue = number | bigint | null | number[];

/** What a state is made of; of each aggregate some of it. */
export interface State {
  /** Records that were aggregated; of CRC32, bytes. */
  count: number;
  /** An exact sum, the smallest or largest integer, the XOR, or the CRC-32. */
  integer: bigint;
  /** A sum or the smallest or largest of values that are no integers. */
  float: number;
  /** Of HISTOGRAM: records by value. */
  readonly bins: Float64Array | undefined;
}

export const HISTOGRAM_BINS = 256;

/** Bytes of a program's state. */
export function stateBytes({ aggregate, type }: Code): number {
  switch (aggregate) {
    case Aggregate.COUNT:
    case Aggregate.XOR:
      return 8;
    case Aggregate.SUM:
      return isFloat(type) ? 8 : 16;
    case Aggregate.MEAN:
      return isFloat(type) ? 16 : 24;
    case Aggregate.MIN:
    case Aggregate.MAX:
    case Aggregate.CRC32:
      return 16;
    case Aggregate.HISTOGRAM:
      return 8 * HISTOGRAM_BINS;
  }
}

/** The state of no records. */
export function emptyState({ aggregate }: Code): State {
  const bins = aggregate === Aggregate.HISTOGRAM ? new Float64Array(HISTOGRAM_BINS) : undefined;
  return { count: 0, integer: 0n, float: 0, bins };
}

export function encodeState(code: Code, { count, integer, float, bins }: State): Uint8Array {
  const bytes = new Uint8Array(stateBytes(code));
  const { aggregate, type } = code;
  switch (aggregate) {
    case Aggregate.COUNT:
      writeInteger(bytes, 0, count);
      break;
    case Aggregate.SUM:
    case Aggregate.MEAN: {
      const at = isFloat(type) ? writeFloat(bytes, 0, float) : writeWide(bytes, integer);
      if (aggregate === Aggregate.MEAN) writeInteger(bytes, at, count);
      break;
    }
    case Aggregate.MIN:
    case Aggregate.MAX:
      if (isFloat(type)) writeFloat(bytes, 0, count === 0 ? 0 : float);
      else writeValue(bytes, 0, ColumnType.u64, integer);
      writeInteger(bytes, 8, count);
      break;
    case Aggregate.XOR:
      writeValue(bytes, 0, ColumnType.u64, integer);
      break;
    case Aggregate.HISTOGRAM:
      for (const [value, records] of bins!.entries()) writeInteger(bytes, 8 * value, records);
      break;
    case Aggregate.CRC32:
      writeValue(bytes, 0, ColumnType.u64, integer);
      writeInteger(bytes, 8, count);
      break;
  }
  return bytes;
}

/** Reads a state. Throws PFS_CODE_INVALID {reason} for bytes that are none, which only somebody who means harm has written. */
export function decodeState(code: Code, bytes: Uint8Array): State {
  if (bytes.byteLength !== stateBytes(code)) throw invalid("a state of another size");
  const { aggregate, type } = code;
  const state = emptyState(code);
  const hasFloat = isFloat(type);
  switch (aggregate) {
    case Aggregate.COUNT:
      state.count = readCount(bytes, 0);
      break;
    case Aggregate.SUM:
    case Aggregate.MEAN:
      if (hasFloat) state.float = readValue(bytes, 0, ColumnType.f64) as number;
      else state.integer = readWide(bytes);
      if (aggregate === Aggregate.MEAN) state.count = readCount(bytes, hasFloat ? 8 : 16);
      break;
    case Aggregate.MIN:
    case Aggregate.MAX:
      if (hasFloat) state.float = readValue(bytes, 0, ColumnType.f64) as number;
      else state.integer = readValue(bytes, 0, wideTypeOf(type)) as bigint;
      state.count = readCount(bytes, 8);
      if (state.count === 0 && bytes.some((byte) => byte !== 0)) throw invalid("a value of no records");
      break;
    case Aggregate.XOR:
      state.integer = readValue(bytes, 0, wideTypeOf(type)) as bigint;
      break;
    case Aggregate.HISTOGRAM:
      for (let value = 0; value < HISTOGRAM_BINS; value++) state.bins![value] = readCount(bytes, 8 * value);
      break;
    case Aggregate.CRC32:
      state.integer = readValue(bytes, 0, ColumnType.u64) as bigint;
      if (state.integer > 0xffffffffn) throw invalid("a CRC-32 of more than 32 bits");
      state.count = readCount(bytes, 8);
      break;
  }
  return state;
}

/** Adds what follows in the input to a state. */
export function mergeState({ aggregate, type }: Code, state: State, behind: State): void {
  switch (aggregate) {
    case Aggregate.SUM:
    case Aggregate.MEAN:
      state.integer += behind.integer;
      state.float += behind.float;
      break;
    case Aggregate.MIN:
    case Aggregate.MAX:
      if (behind.count === 0) return;
      if (state.count === 0) Object.assign(state, { integer: behind.integer, float: behind.float });
      else takeExtreme(aggregate, type, state, isFloat(type) ? behind.float : behind.integer);
      break;
    case Aggregate.XOR:
      state.integer ^= behind.integer;
      break;
    case Aggregate.HISTOGRAM:
      behind.bins!.forEach((records, value) => (state.bins![value]! += records));
      break;
    case Aggregate.CRC32:
      state.integer = BigInt(combineCrc32(Number(state.integer), Number(behind.integer), behind.count));
      break;
    case Aggregate.COUNT:
      break;
  }
  state.count += behind.count;
}

/** Makes the value the smallest or largest, if it is. NaN is both, and −0 is less than +0. */
export function takeExtreme(
  aggregate: Aggregate,
  type: ColumnType | 0,
  state: State,
  value: number | bigint,
): void {
  const isMin = aggregate === Aggregate.MIN;
  if (isFloat(type))
    state.float = isMin ? Math.min(state.float, value as number) : Math.max(state.float, value as number);
  else if (isMin ? value < state.integer : value > state.integer) state.integer = value as bigint;
}

/** The value of a job whose states came together to this one. */
export function valueOf({ aggregate, type }: Code, { count, integer, float, bins }: State): CodeValue {
  switch (aggregate) {
    case Aggregate.COUNT:
      return count;
    case Aggregate.SUM:
      return isFloat(type) ? float : safeNumber(integer);
    case Aggregate.MEAN:
      if (count === 0) return null;
      return (isFloat(type) ? float : Number(integer)) / count;
    case Aggregate.MIN:
    case Aggregate.MAX:
      if (count === 0) return null;
      return isFloat(type) ? float : safeNumber(integer);
    case Aggregate.XOR:
    case Aggregate.CRC32:
      return safeNumber(integer);
    case Aggregate.HISTOGRAM:
      return Array.from(bins!);
  }
}

function safeNumber(integer: bigint): number | bigint {
  const number = Number(integer);
  return Number.isSafeInteger(number) ? number : integer;
}

function readCount(bytes: Uint8Array, at: number): number {
  const count = readInteger(bytes, at);
  if (!Number.isSafeInteger(count)) throw invalid("a count above 2^53 - 1");
  return count;
}

/** A NaN has one form, whatever bits the machine left. */
function writeFloat(bytes: Uint8Array, at: number, value: number): number {
  writeValue(bytes, at, ColumnType.f64, Number.isNaN(value) ? NaN : value);
  if (Number.isNaN(value)) bytes.set([0, 0, 0, 0, 0, 0, 0xf8, 0x7f], at);
  return at + 8;
}

/** Two's complement in 16 bytes: more than any sum of 2^53 values needs. */
function writeWide(bytes: Uint8Array, integer: bigint): number {
  writeValue(bytes, 0, ColumnType.u64, integer);
  writeValue(bytes, 8, ColumnType.u64, integer >> 64n);
  return 16;
}

function readWide(bytes: Uint8Array): bigint {
  const low = readValue(bytes, 0, ColumnType.u64) as bigint;
  return ((readValue(bytes, 8, ColumnType.i64) as bigint) << 64n) | low;
}
