/**
 * Runs packet code over the records that begin in a range of a file, whose bytes come in pieces. A record that goes on in
 * the next piece is kept in front of it, so that a kernel sees whole records only, back to back:
 *
 *   memory   ……│ what is left of the piece before │ piece              │ padding ……
 *              ╰──────────────── whole records ──────────────╯╌ left ╌╌╯
 */
import { KERNEL_BYTES } from "../../packets/code/compiler/registers.ts";
import { Records, lookahead } from "../../packets/code/format.ts";
import type { Code } from "../../packets/code/format.ts";
import { cutRow, indexOfBytes, longLine } from "../../packets/code/interpreter.ts";
import type { RecordFault } from "../../packets/code/interpreter.ts";
import type { State } from "../../packets/code/state.ts";
import { CHUNK_BYTES_MAX, CODE_RECORD_BYTES_MAX } from "../../packets/limits.ts";

/** What aggregates records: the interpreter, or a program that was compiled. */
export interface Kernel {
  /**
   * Takes the records between `start` and `end` of the memory: whole rows, or lines with the separators behind them. Returns
   * where the first record that is not whole begins.
   */
  run(memory: Uint8Array, start: number, end: number): number;
  /** What came of all records so far. */
  readonly state: State;
}

/**
 * What a piece needs free before it in memory: what a kernel takes for itself, and room for what is left of the piece before,
 * a line, or a row and what AT looks for.
 */
export const CARRY_BYTES: number = KERNEL_BYTES + CODE_RECORD_BYTES_MAX + 64;
/** And behind it, for what is put where a file ends. */
export const PADDING_BYTES = 64;
/** A piece is a chunk at most. */
export const PIECE_BYTES_MAX: number = CHUNK_BYTES_MAX;
/** Lines are read on for in steps of so many bytes. */
const STEP_BYTES: number = 16 * 1024;

/** Bytes `from` to `from + length` of a file of `total` bytes. */
export interface CodeRange {
  readonly from: number;
  readonly length: number;
  readonly total: number;
}

/** Where the rows begin and end that begin in a range, of code that reads rows. Their end may lie behind that of the file. */
export function rowsOf({ rowBytes }: Code, { from, length }: CodeRange): { start: number; end: number } {
  const start = roundUp(from, rowBytes);
  return { start, end: roundUp(from + length, rowBytes) };
}

export class RangeRun {
  readonly #code: Code;
  readonly #kernel: Kernel;
  readonly #memory: Uint8Array;
  readonly #end: number;
  readonly #total: number;
  /** Where the last row ends, and what AT looks for behind it. */
  readonly #rowsEnd: number;
  readonly #lookahead: number;
  /** The file's byte that the next piece begins with. */
  #position: number;
  /** What is left of the pieces before, in memory. */
  #carryAt = 0;
  #carry = 0;
  /** The first line of the range has not been found yet. */
  #isSeeking: boolean;
  #isDone: boolean;
  #fault: RecordFault | undefined;

  constructor(code: Code, kernel: Kernel, memory: Uint8Array, range: CodeRange) {
    const { from, length, total } = range;
    this.#code = code;
    this.#kernel = kernel;
    this.#memory = memory;
    this.#total = total;
    this.#end = from + length;
    this.#lookahead = lookahead(code);
    const isRows = code.records === Records.ROWS;
    const rows = isRows ? rowsOf(code, range) : { start: from, end: this.#end };
    this.#rowsEnd = rows.end;
    this.#isDone = length === 0 || rows.start >= this.#end;
    this.#isSeeking = !isRows && from > 0;
    this.#position = isRows
      ? rows.start
      : Math.max(0, from - (this.#isSeeking ? code.separator.byteLength : 0));
    if (isRows && !this.#isDone && this.#rowsEnd > total) this.#fail(cutRow(code, total));
  }

  /** The byte of the file that the next piece is to begin with, and the one behind its last; the same where none is wanted. */
  get wanted(): { readonly start: number; readonly end: number } {
    const start = this.#position;
    if (this.#isDone) return { start, end: start };
    const main = this.#code.records === Records.ROWS ? this.#rowsEnd + this.#lookahead : this.#end;
    return { start, end: Math.min(this.#total, start < main ? main : start + STEP_BYTES) };
  }

  get isDone(): boolean {
    return this.#isDone;
  }

  /** A record that no program takes; then nothing else counts. */
  get fault(): RecordFault | undefined {
    return this.#fault;
  }

  /**
   * Takes the next `length` bytes of the file, at most PIECE_BYTES_MAX, from `at` ≥ CARRY_BYTES in memory on. What stands before
   * them, and PADDING_BYTES behind them, is written to; what is kept lies in the first CARRY_BYTES.
   */
  push(at: number, length: number): void {
    if (this.#isDone || length === 0) return;
    const start = at - this.#carry;
    if (this.#carry > 0 && start !== this.#carryAt)
      this.#memory.copyWithin(start, this.#carryAt, this.#carryAt + this.#carry);
    this.#position += length;
    if (this.#code.records === Records.ROWS) this.#pushRows(start, at + length);
    else this.#pushLines(start, at, at + length);
  }

  #pushRows(start: number, end: number): void {
    const { rowBytes, needle } = this.#code;
    let behind = end;
    const left = this.#rowsEnd - (this.#position - (end - start));
    if (this.#position === this.#total && this.#lookahead > 0) {
      // Behind the end of the file stands nothing, and so nothing that is looked for.
      this.#memory.fill(~needle.at(-1)!, end, end + this.#lookahead);
      behind += this.#lookahead;
    }
    const rows = Math.max(0, Math.min(left, behind - start - this.#lookahead));
    const whole = rows - (rows % rowBytes);
    if (whole > 0) this.#kernel.run(this.#memory, start, start + whole);
    if (whole === left) this.#isDone = true;
    this.#keep(start + whole, end);
  }

  #pushLines(first: number, at: number, end: number): void {
    const { separator } = this.#code;
    const bytes = separator.byteLength;
    let start = first;
    const placeOf = (address: number): number => this.#position - (end - address);
    if (this.#isSeeking) {
      const found = indexOfBytes(this.#memory, separator, start, end);
      if (found < 0) {
        if (this.#position >= this.#end) this.#isDone = true;
        return this.#keep(Math.max(start, end - bytes + 1), end);
      }
      start = found + bytes;
      // The first line that begins behind the range is another range's.
      if (placeOf(start) >= this.#end) return void (this.#isDone = true);
      this.#isSeeking = false;
    }
    const isEnd = this.#position === this.#total;
    const longest = CODE_RECORD_BYTES_MAX + (isEnd ? 0 : bytes - 1);
    // What is left of the pieces before has no separator in it, so it is not looked through again.
    const searched = Math.max(start, at - bytes + 1);
    if (start < at) {
      const found = indexOfBytes(this.#memory, separator, searched, end);
      const isTooLong = found < 0 ? end - start > longest : found - start > CODE_RECORD_BYTES_MAX;
      if (isTooLong) return this.#fail(longLine(placeOf(start)));
      if (found < 0 && !isEnd) return this.#keep(start, end);
    }
    const last = this.#position > this.#end - bytes ? this.#lastEnd(searched, end) : -1;
    if (last >= 0) {
      this.#kernel.run(this.#memory, start, last);
      this.#isDone = true;
      return;
    }
    const left = this.#kernel.run(this.#memory, start, end);
    if (end - left > longest) return this.#fail(longLine(placeOf(left)));
    if (!isEnd) return this.#keep(left, end);
    if (left < end) {
      this.#memory.set(separator, end);
      this.#kernel.run(this.#memory, left, end + bytes);
    }
    this.#isDone = true;
  }

  /** Behind the separator of the last line that begins in the range, which is not before `from`; -1 where it has not come yet. */
  #lastEnd(from: number, end: number): number {
    const { separator } = this.#code;
    const rangeEnd = end - (this.#position - this.#end);
    const found = indexOfBytes(this.#memory, separator, Math.max(from, rangeEnd - separator.byteLength), end);
    return found < 0 ? -1 : found + separator.byteLength;
  }

  /** To where no piece is written. */
  #keep(at: number, end: number): void {
    this.#carry = end - at;
    this.#carryAt = CARRY_BYTES - this.#carry;
    if (this.#carry > 0) this.#memory.copyWithin(this.#carryAt, at, end);
  }

  #fail(fault: RecordFault): void {
    this.#fault = fault;
    this.#isDone = true;
  }
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
