/** Readers: what a program may declare as its input, and what everybody outside of the sandbox knows of each. */
import * as v from "valibot";
import type { Entry, ProgramDescription } from "./program.ts";
import { READER_COLUMN_NAME_MAX, READER_COLUMNS_MAX, RECORD_BYTES_MAX } from "../limits.ts";

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

/** Encodings of text. Whatever is not of its encoding is a fault; nothing is replaced. */
export type TextEncoding = "utf-8" | "latin1" | "utf-16le" | "utf-16be";

export type ColumnType = "u8" | "i8" | "u16" | "i16" | "u32" | "i32" | "u64" | "i64" | "f32" | "f64";

/** How a packet's input is decoded for the guest; undefined where it takes bytes. */
export function inputEncoding(
  entry: Entry,
  { reader, yields }: Pick<ProgramDescription, "reader" | "yields">,
): TextEncoding | undefined {
  if (entry === "scan") return undefined;
  // Partial results are text of the guest's own.
  if (entry !== "map") return yields === "bytes" ? undefined : "utf-8";
  return reader.kind === "lines" || reader.kind === "json-lines" || reader.kind === "csv"
    ? "utf-8"
    : undefined;
}

/** Counts lines as people's editors do. */
export interface LineCounter {
  push(bytes: Uint8Array): void;
  /** The number of the line that what was pushed ends in, from 1. */
  readonly line: number;
}

/** Undefined where records are no lines of text. */
export function lineCounter({ kind }: ReaderSpec): LineCounter | undefined {
  if (kind === "bytes" || kind === "columns") return undefined;
  return new LineFeeds();
}

class LineFeeds implements LineCounter {
  line = 1;

  push(bytes: Uint8Array): void {
    for (let at = bytes.indexOf(0x0a); at >= 0; at = bytes.indexOf(0x0a, at + 1)) this.line++;
  }
}

const COLUMN_BYTES: Readonly<Record<ColumnType, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  u64: 8,
  i64: 8,
  f32: 4,
  f64: 8,
};

/** Bytes of one row: its fields stand back to back. */
export function rowBytes({ fields }: Pick<ReaderSpec & { readonly kind: "columns" }, "fields">): number {
  return fields.reduce((bytes, { type }) => bytes + COLUMN_BYTES[type], 0);
}

const READERS = ["bytes", "blocks", "lines", "json-lines", "csv", "columns"];
const TYPES = ["u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64"] as const;

const column = v.object({
  name: v.pipe(
    v.string("a column's name is a string"),
    v.nonEmpty("a column has no name"),
    v.maxLength(READER_COLUMN_NAME_MAX, "a column's name is too long"),
  ),
  type: v.picklist(TYPES, `a column's type is one of ${TYPES.join(", ")}`),
});

/**
 * Gives its keys in one order, so that one reader has one spelling.
 * @internal So that the types of valibot, which are many, are not part of those that PacketFS publishes.
 */
export const readerSchema: v.GenericSchema<unknown, ReaderSpec> = v.variant(
  "kind",
  [
    v.object({
      kind: v.literal("bytes"),
      size: v.exactOptional(
        v.pipe(
          v.number("input.size is a number of bytes"),
          v.safeInteger("input.size is a whole number"),
          v.minValue(1, "input.size is 1 at least"),
          v.maxValue(RECORD_BYTES_MAX, `input.size is at most ${RECORD_BYTES_MAX}`),
        ),
      ),
    }),
    v.object({ kind: v.literal("blocks") }),
    v.object({ kind: v.literal("lines") }),
    v.object({ kind: v.literal("json-lines") }),
    v.object({
      kind: v.literal("csv"),
      separator: v.pipe(
        v.string("input.separator is a string"),
        v.regex(/^[^"\r\n]$/u, "input.separator is one character and no quote or line end"),
      ),
      header: v.boolean("input.header is true or false"),
    }),
    v.object({
      kind: v.literal("columns"),
      fields: v.pipe(
        v.array(column, "input.fields is an array"),
        v.nonEmpty("input has no columns"),
        v.maxLength(READER_COLUMNS_MAX, `input has more than ${READER_COLUMNS_MAX} columns`),
        v.check(
          (fields) => new Set(fields.map(({ name }) => name)).size === fields.length,
          "a column is named twice",
        ),
        v.check(
          (fields) => rowBytes({ fields }) <= RECORD_BYTES_MAX,
          `a row has at most ${RECORD_BYTES_MAX} bytes`,
        ),
      ),
    }),
  ],
  `input is a reader: ${READERS.join(", ")}`,
);
