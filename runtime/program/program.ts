/** What a program says of itself, and what the sandbox needs to run it. Plain data: it crosses processes and machines. */

import type { ProgramKind } from "../contracts/executor.ts";
import type { Yields } from "../contracts/jobs.ts";

/** How the bytes of a split become records. Borders are settled outside the sandbox; inside, records are whole. */
export type ReaderSpec =
  /** `size` bytes a record; without `size` the split's bytes are one record. */
  | { readonly kind: "bytes"; readonly size?: number }
  /** All lines of a split as one Uint8Array, for programs that scan bytes themselves. */
  | { readonly kind: "blocks" }
  /** One line as a string, without its line end (LF or CRLF). */
  | { readonly kind: "lines" }
  /** One JSON value a line; empty lines are skipped. */
  | { readonly kind: "json-lines" }
  /** RFC 4180. With `header`, records are objects by column name, otherwise arrays of strings. */
  | { readonly kind: "csv"; readonly separator: string; readonly header: boolean }
  /** Fixed-size binary rows, little-endian, fields back to back. Records are objects by field name. */
  | {
      readonly kind: "columns";
      readonly fields: readonly { readonly name: string; readonly type: ColumnType }[];
    };

export type ColumnType = "u8" | "i8" | "u16" | "i16" | "u32" | "i32" | "u64" | "i64" | "f32" | "f64";

/** What a program may use, per packet. */
export interface ProgramLimits {
  readonly timeMs: number;
  readonly memoryBytes: number;
  readonly outputBytes: number;
  readonly logBytes: number;
}

/** What inspecting a program's module tells, without running its map. */
export interface ProgramDescription {
  readonly reader: ReaderSpec;
  readonly yields: Yields;
  readonly hasCombine: boolean;
  readonly hasReduce: boolean;
  readonly limits: ProgramLimits;
}

/**
 * Which of a program's functions a lane runs.
 *  map     records of a split → a partial result, or bytes when the program yields bytes
 *  merge   partial results, back to back → one partial result, combined
 *  finish  partial results, back to back → the result as JSON: the value, or [[key, value], …] sorted by key
 *  scan    the number of quote characters in the range, as decimal text: how CSV splits learn whether they begin inside
 *          a quoted field. Runs none of the program's code.
 *
 * A partial result is JSON lines {"k":[keys],"v":[values]}, each key once, the n-th value belonging to the n-th key. Where
 * the program combines, a value is what was folded for its key, left to right; where it does not, it is the array of all
 * values of its key in order. A value without a key has the key "". A partial result without values is empty, and partial
 * results that stand back to back are read in that order.
 *
 * The result of "value" is the folded value, the array of all values where the program does not combine, or what
 * reduce(value, args) makes of either; null when there was none. In "groups" a key has the folded value, the array of all
 * its values, or what reduce(key, values, args) makes of the values (one where the program combines). Keys are in the
 * order of their UTF-16 units. Merging and finishing bytes passes them on.
 */
export type Entry = "map" | "merge" | "finish" | "scan";

/** The content of a manifest chunk, which a LOAD packet's ref names. `code` is the root of the bundle's stream, as hex. */
export interface Manifest {
  readonly version: 1;
  readonly kind: ProgramKind;
  readonly name: string;
  readonly code: string;
  readonly entry: Entry;
  readonly description: ProgramDescription;
  /** JSON text. */
  readonly args: string;
}
