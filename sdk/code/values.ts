/** What filters of packet code compare values with: sets and comparisons, as the ranges that their operand has room for. */
import { ColumnType, isFloat, valuesOf } from "../../packets/code/column-type.ts";
import type { ValueRange } from "../../packets/code/column-type.ts";
import { Filter, invalid } from "../../packets/code/format.ts";
import type { CodeFields } from "../../packets/code/format.ts";

export type Comparison = "=" | "!=" | "<" | "<=" | ">" | ">=";
/** An exact integer, as a bigint where it is beyond ±(2^53 − 1). */
export type Integer = number | bigint;

/** Values that a filter passes. */
export class ValueSet {
  readonly items: readonly (string | number | bigint | SetRange)[];
  readonly isNot: boolean;

  constructor(items: ValueSet["items"], isNot: boolean) {
    this.items = items;
    this.isNot = isNot;
  }
}

/** All values from the first to the last, both among them. */
export class SetRange {
  readonly low: string | number | bigint;
  readonly high: string | number | bigint;

  constructor(low: SetRange["low"], high: SetRange["high"]) {
    this.low = low;
    this.high = high;
  }
}

/** A column of rows: what its values are, and the byte of a row that they begin at. */
export interface Column {
  readonly type: ColumnType;
  readonly offset: number;
}

/** The column that somebody calls so: by its name, or its type and place as in "u32@4"; without a place it is the row's beginning. */
export type ColumnOf = (name: string) => Column;

/** Bytes: a string is those of its UTF-8. */
export type Text = string | Uint8Array;

/** A string is a set of its bytes. Throws PFS_CODE_INVALID for anything else. */
export function setOf(what: unknown): ValueSet {
  if (what instanceof ValueSet) return what;
  if (typeof what === "string") return new ValueSet([what], false);
  throw invalid("a set is anyOf(…), or a string of the bytes in it");
}

/** The filter that passes values of the set. Throws PFS_CODE_INVALID for what is no value of the column, or a string that is not ASCII. */
export function rangesFields({ type, offset }: Column, { items, isNot }: ValueSet): Partial<CodeFields> {
  const ranges = items.flatMap((item) => rangesOf(item, type));
  if (ranges.length === 0) throw invalid("a set has one value or more");
  return {
    filter: Filter.IN,
    isNot,
    filterType: type,
    filterOffset: offset,
    ranges: joined(ranges, type),
  };
}

/**
 * The filter that passes what compares so; `name` is what the column is called. NaN compares as JavaScript has it, and so only "!=" passes it. Throws
 * PFS_CODE_INVALID for what is no value of the column, and where nothing would pass.
 */
export function comparisonFields(
  name: string,
  { type, offset }: Column,
  comparison: Comparison,
  operand: Integer | undefined,
): Partial<CodeFields> {
  if (typeof operand !== "number" && typeof operand !== "bigint")
    throw invalid("a column is compared with a number");
  const limit = valueOfType(operand, type);
  const all = valuesOf(type);
  const range = ((): ValueRange => {
    switch (comparison) {
      case "=":
      case "!=":
        return { low: limit, high: limit };
      case "<":
        return { low: all.low, high: neighbour(limit, type, -1) };
      case "<=":
        return { low: all.low, high: limit };
      case ">":
        return { low: neighbour(limit, type, 1), high: all.high };
      case ">=":
        return { low: limit, high: all.high };
      default:
        throw invalid(`${JSON.stringify(comparison)} is no comparison: there are = != < <= > >=`);
    }
  })();
  if (!(range.low <= range.high)) throw invalid(`no ${name} is ${comparison} ${String(operand)}`);
  return {
    filter: Filter.IN,
    isNot: comparison === "!=",
    filterType: type,
    filterOffset: offset,
    ranges: [range],
  };
}

function rangesOf(item: ValueSet["items"][number], type: ColumnType): ValueRange[] {
  if (item instanceof SetRange) {
    const [low, high] = [valueOfType(endOf(item.low), type), valueOfType(endOf(item.high), type)];
    if (low > high) throw invalid(`the range from ${String(low)} to ${String(high)} ends before it begins`);
    return [{ low, high }];
  }
  if (typeof item !== "string") {
    const value = valueOfType(item, type);
    return [{ low: value, high: value }];
  }
  const set = bytesOf(item);
  if (type !== ColumnType.u8) throw invalid("a string is a set of bytes, and this column has none");
  if (set.some((byte) => byte >= 0x80))
    throw invalid(`a set of bytes takes ASCII characters, and ${JSON.stringify(item)} has others`);
  return Array.from(set, (byte) => ({ low: byte, high: byte }));
}

function endOf(end: string | number | bigint): number | bigint {
  if (typeof end !== "string") return end;
  const ascii = bytesOf(end);
  if (ascii.byteLength !== 1 || ascii[0]! >= 0x80)
    throw invalid("a range goes from one ASCII character to another");
  return ascii[0]!;
}

/** The value as a column of this type has it. */
function valueOfType(given: number | bigint, type: ColumnType): number | bigint {
  const text = String(given);
  const { low, high } = valuesOf(type);
  if (isFloat(type)) {
    const float = Number(given);
    if (Number.isNaN(float)) throw invalid("NaN is compared with nothing");
    const exact = type === ColumnType.f32 ? Math.fround(float) : float;
    if (exact !== float) throw invalid(`${text} is no f32: the nearest is ${exact}`);
    return exact === 0 ? 0 : exact;
  }
  const isInteger = typeof given === "bigint" || Number.isInteger(given);
  if (!isInteger || given < low || given > high)
    throw invalid(`${text} is no value from ${String(low)} to ${String(high)}`);
  return typeof low === "bigint" ? BigInt(given) : Number(given);
}

/** The next value of a type; behind the last one there is a larger one, so that a range to it is empty. */
function neighbour(of: number | bigint, type: ColumnType, step: 1 | -1): number | bigint {
  if (typeof of === "bigint") return of + BigInt(step);
  if (!isFloat(type)) return of + step;
  if (of === step * Infinity) return NaN;
  if (of === -step * Infinity)
    return type === ColumnType.f64 ? -step * Number.MAX_VALUE : -step * 3.4028234663852886e38;
  if (type === ColumnType.f32)
    return neighbourBits(of, step, new Float32Array(1), (buffer) => new Int32Array(buffer));
  return neighbourBits(of, step, new Float64Array(1), (buffer) => new BigInt64Array(buffer));
}

function neighbourBits(
  of: number,
  step: 1 | -1,
  float: Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>,
  bitsOf: (buffer: ArrayBuffer) => Int32Array | BigInt64Array,
): number {
  const bits = bitsOf(float.buffer);
  if (of === 0) {
    bits[0] = bits instanceof Int32Array ? 1 : 1n;
    return step * float[0]!;
  }
  float[0] = of;
  const away = of > 0 === step > 0;
  if (bits instanceof Int32Array) bits[0]! += away ? 1 : -1;
  else bits[0]! += away ? 1n : -1n;
  return float[0]! === 0 ? 0 : float[0]!;
}

/** Ascending, and those that touch as one. */
function joined(ranges: readonly ValueRange[], type: ColumnType): ValueRange[] {
  const out: ValueRange[] = [];
  for (const range of ranges.toSorted((a, b) => (a.low < b.low ? -1 : a.low > b.low ? 1 : 0))) {
    const last = out.at(-1);
    const touches = last !== undefined && range.low <= (isFloat(type) ? last.high : after(last.high));
    if (!touches) out.push(range);
    else if (range.high > last.high) out[out.length - 1] = { low: last.low, high: range.high };
  }
  return out;
}

function after(integer: number | bigint): number | bigint {
  return typeof integer === "bigint" ? integer + 1n : integer + 1;
}

export function bytesOf(text: Text): Uint8Array {
  if (typeof text === "string") return new TextEncoder().encode(text);
  if (text instanceof Uint8Array) return text;
  throw invalid("this takes a string, or bytes");
}
