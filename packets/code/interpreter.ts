/**
 * Packet code as its specification says it, one record after the other: slow, short, and what everything faster is compared
 * with. It runs what is too little to be worth compiling.
 */
import { CRC32_POLYNOMIAL } from "../crc32.ts";
import { CODE_RECORD_BYTES_MAX } from "../limits.ts";
import { isFloat, readValue } from "./column-type.ts";
import type { ColumnType } from "./column-type.ts";
import { Aggregate, Filter, Records, lookahead } from "./format.ts";
import type { Code } from "./format.ts";
import { emptyState, takeExtreme } from "./state.ts";
import type { State } from "./state.ts";

/** A record that no program takes, and where it begins. */
export interface RecordFault {
  readonly at: number;
  readonly reason: string;
}

export class Interpreter {
  readonly #code: Code;
  readonly state: State;

  constructor(code: Code) {
    this.#code = code;
    this.state = emptyState(code);
  }

  /**
   * Aggregates the records that lie between `start` and `end` in `bytes`: whole rows, or lines with the separators behind
   * them. What AT looks for may go on behind the end. Returns where the first record that is not whole begins.
   */
  run(bytes: Uint8Array, start: number, end: number): number {
    const { records, rowBytes, separator } = this.#code;
    if (records === Records.ROWS) {
      let at = start;
      for (; at + rowBytes <= end; at += rowBytes) this.#add(bytes, at, at + rowBytes);
      return at;
    }
    for (let at = start; ;) {
      const behind = indexOfBytes(bytes, separator, at, end);
      if (behind < 0) return at;
      this.#add(bytes, at, behind);
      at = behind + separator.byteLength;
    }
  }

  #add(bytes: Uint8Array, start: number, end: number): void {
    if (this.#passes(bytes, start, end) === this.#code.isNot) return;
    const { aggregate, type } = this.#code;
    const { state } = this;
    const value = aggregate === Aggregate.COUNT ? 0 : this.#value(bytes, start, end, type, this.#code.offset);
    state.count++;
    switch (aggregate) {
      case Aggregate.COUNT:
        return;
      case Aggregate.SUM:
      case Aggregate.MEAN:
        if (isFloat(type)) state.float += value as number;
        else state.integer += BigInt(value);
        return;
      case Aggregate.MIN:
      case Aggregate.MAX: {
        const wide = isFloat(type) ? (value as number) : BigInt(value);
        if (state.count > 1) takeExtreme(aggregate, type, state, wide);
        else if (typeof wide === "number") state.float = wide;
        else state.integer = wide;
        return;
      }
      case Aggregate.XOR:
        state.integer ^= BigInt(value);
        return;
      case Aggregate.HISTOGRAM:
        state.bins![value as number]!++;
        return;
      case Aggregate.CRC32:
        state.integer = BigInt(crc32(Number(state.integer), value as number));
    }
  }

  #value(
    bytes: Uint8Array,
    start: number,
    end: number,
    type: ColumnType | 0,
    offset: number,
  ): number | bigint {
    if (this.#code.records === Records.LINES) return end - start;
    return readValue(bytes, start + offset, type as ColumnType);
  }

  #passes(bytes: Uint8Array, start: number, end: number): boolean {
    const { filter, filterType, filterOffset, ranges, needle } = this.#code;
    switch (filter) {
      case Filter.ALL:
        return true;
      case Filter.IN: {
        const value = this.#value(bytes, start, end, filterType, filterOffset);
        return ranges.some(({ low, high }) => value >= low && value <= high);
      }
      case Filter.AT:
        return standsAt(bytes, needle, start + filterOffset);
      case Filter.CONTAINS:
        return indexOfBytes(bytes, needle, start, end) >= 0;
      case Filter.BEGINS:
        return needle.byteLength <= end - start && standsAt(bytes, needle, start);
      case Filter.ENDS:
        return needle.byteLength <= end - start && standsAt(bytes, needle, end - needle.byteLength);
    }
  }
}

/**
 * The state of the records that begin in bytes `from` to `from + length` of a file, or the first record among them that no
 * program takes.
 */
export function interpret(code: Code, file: Uint8Array, from: number, length: number): State | RecordFault {
  const interpreter = new Interpreter(code);
  const total = file.byteLength;
  const end = from + length;
  if (code.records === Records.ROWS) {
    const first = Math.ceil(from / code.rowBytes) * code.rowBytes;
    const behind = Math.ceil(end / code.rowBytes) * code.rowBytes;
    if (behind > total && first < end) return cutRow(code, total);
    // Behind the end of the file stands nothing, and so nothing that is looked for.
    const padded = new Uint8Array(total + lookahead(code));
    padded.set(file);
    padded.fill(~(code.needle.at(-1) ?? 0), total);
    if (first < end) interpreter.run(padded, first, behind);
    return interpreter.state;
  }
  const { separator } = code;
  let at = from;
  if (from > 0 && length > 0) {
    const before = indexOfBytes(file, separator, Math.max(0, from - separator.byteLength), total);
    at = before < 0 ? total : before + separator.byteLength;
  }
  while (at < end) {
    const found = indexOfBytes(file, separator, at, total);
    const behind = found < 0 ? total : found;
    if (behind - at > CODE_RECORD_BYTES_MAX) return longLine(at);
    const line = new Uint8Array(behind - at + separator.byteLength);
    line.set(file.subarray(at, behind));
    line.set(separator, behind - at);
    interpreter.run(line, 0, line.byteLength);
    at = behind + separator.byteLength;
  }
  return interpreter.state;
}

/** The fault of a file that ends within a row. */
export function cutRow({ rowBytes }: Code, total: number): RecordFault {
  const at = total - (total % rowBytes);
  return { at, reason: `the file ends within a row: ${total - at} of its ${rowBytes} bytes are there` };
}

/** The fault of a line that begins at `at`. */
export function longLine(at: number): RecordFault {
  return { at, reason: `a line has more than CODE_RECORD_BYTES_MAX = ${CODE_RECORD_BYTES_MAX} bytes` };
}

/** Where `needle` stands first, all of it between `start` and `end`; -1 where it does not. */
export function indexOfBytes(bytes: Uint8Array, needle: Uint8Array, start: number, end: number): number {
  const last = end - needle.byteLength;
  const first = needle[0]!;
  for (let at = start; at <= last; at++) {
    at = bytes.indexOf(first, at);
    if (at < 0 || at > last) return -1;
    if (standsAt(bytes, needle, at)) return at;
  }
  return -1;
}

function standsAt(bytes: Uint8Array, needle: Uint8Array, at: number): boolean {
  for (let index = 0; index < needle.byteLength; index++)
    if (bytes[at + index] !== needle[index]) return false;
  return true;
}

function crc32(before: number, byte: number): number {
  let crc = before ^ 0xffffffff ^ byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ CRC32_POLYNOMIAL : crc >>> 1;
  return (crc ^ 0xffffffff) >>> 0;
}
