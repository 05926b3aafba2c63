/**
 * Readers: what a program may declare as its input, and what everybody outside of the sandbox knows of each.
 *
 * A new reader is three places: its function for authors in sdk/program.ts, its shape, its schema and its borders here, and
 * how its records are made in sandbox/guest/readers.ts; where they have a fixed size, job/splits.ts too. What it must do
 * stands in test/runtime/program/readers.test.ts.
 */
import { isUtf8 } from "node:buffer";
import * as v from "valibot";
import {
  BLOCK_RECORD_BYTES_MAX,
  READER_COLUMN_NAME_MAX,
  READER_COLUMNS_MAX,
  RECORD_SEPARATOR_BYTES_MAX,
  ROW_BYTES_MAX,
} from "../limits.ts";
import type { CsvSpec } from "./csv-rows.ts";
import type { ElementType } from "./kernel/kernel.ts";
import type { Entry, ProgramDescription } from "./program.ts";

/**
 * How the bytes of a split become records. Borders are settled outside the sandbox; inside, records are whole. What is
 * absent has its default, so that one reader has one spelling.
 */
export type ReaderSpec =
  /**
   * `size` bytes a record, the last one of a file as many as are left, each with `overlapBytes` of what follows it behind
   * it; without `size` the split's bytes are one record.
   */
  | { readonly kind: "bytes"; readonly size?: number; readonly overlapBytes?: number }
  /** All lines of a split as one Uint8Array, for programs that scan bytes themselves. */
  | { readonly kind: "blocks" }
  /** One line without its line end (LF or CRLF): a string, or its bytes where it is `raw`. */
  | { readonly kind: "lines"; readonly encoding?: TextEncoding; readonly raw?: boolean }
  /** What stands between separators (hexadecimal bytes): bytes, or a string where there is an encoding. */
  | {
      readonly kind: "records";
      readonly separator: string;
      readonly encoding?: TextEncoding;
      readonly overlapBytes?: number;
    }
  /** One JSON value a line; empty lines are skipped. With `bigint`, integers that numbers cannot hold are bigints. */
  | { readonly kind: "json-lines"; readonly encoding?: TextEncoding; readonly bigint?: boolean }
  /**
   * RFC 4180 and dialects of it. With names, from the first row or `columns`, records are objects, otherwise arrays of
   * strings. `quote` is empty where nothing is quoted; `escape` is the quote unless given.
   */
  | {
      readonly kind: "csv";
      readonly separator: string;
      readonly header: boolean;
      readonly columns?: readonly string[];
      readonly encoding?: TextEncoding;
      readonly quote?: string;
      readonly escape?: string;
      readonly comment?: string;
      readonly relaxQuotes?: boolean;
      readonly trim?: boolean;
      readonly ragged?: RaggedRows;
    }
  /**
   * Fixed-size binary rows, little-endian, fields back to back. Records are objects by field name, or with `rows` so many
   * rows at once.
   */
  | {
      readonly kind: "columns";
      readonly fields: readonly { readonly name: string; readonly type: ColumnType }[];
      readonly rows?: number;
    }
  /** Rows of so many numbers. A record is `rows` of them, the last of a file what is left; without it, all rows of a split. */
  | { readonly kind: "matrix"; readonly type: ElementType; readonly columns: number; readonly rows?: number }
  /** Bytes that are read when they are looked at: `size` a record, the last of a file what is left; without it, all of a split. */
  | { readonly kind: "block"; readonly size?: number };

/** Encodings of text. Whatever is not of its encoding is a fault; nothing is replaced. */
export type TextEncoding = "utf-8" | "latin1" | "utf-16le" | "utf-16be";

/** What becomes of rows with more or fewer fields than there are names. */
export type RaggedRows = "error" | "pad" | "keep";

export type ColumnType = "u8" | "i8" | "u16" | "i16" | "u32" | "i32" | "u64" | "i64" | "f32" | "f64";

const ENCODINGS = ["utf-8", "latin1", "utf-16le", "utf-16be"] as const;

/** Whether packets of the entry take records of the reader's, and not what other packets made. */
export function readsRecords(entry: Entry): boolean {
  return entry === "map" || entry === "estimate";
}

/** How a packet's input is decoded for the guest; undefined where it takes bytes. */
export function inputEncoding(
  entry: Entry,
  { reader, yields }: Pick<ProgramDescription, "reader" | "yields">,
): TextEncoding | undefined {
  if (entry === "scan") return undefined;
  // Partial results are text of the guest's own.
  if (!readsRecords(entry)) return yields === "bytes" ? undefined : "utf-8";
  return decodedAs(reader);
}

/** The encoding that a reader decodes; undefined where its records are bytes. */
export function decodedAs(reader: ReaderSpec): TextEncoding | undefined {
  switch (reader.kind) {
    case "lines":
      return reader.raw === true ? undefined : (reader.encoding ?? "utf-8");
    case "json-lines":
    case "csv":
      return reader.encoding ?? "utf-8";
    case "records":
      return reader.encoding;
    default:
      return undefined;
  }
}

/** What settles where the records of a reader begin and end. */
export type Borders =
  /** Splits are records. */
  | { readonly by: "split" }
  /** Every so many bytes. */
  | { readonly by: "size"; readonly size: number; readonly overlapBytes: number }
  /** Behind each separator; the encoding's byte order mark is no part of the first record. */
  | {
      readonly by: "separator";
      readonly separator: Uint8Array;
      readonly encoding: TextEncoding | undefined;
      readonly overlapBytes: number;
    }
  | { readonly by: "rows"; readonly csv: CsvSpec };

export function bordersOf(reader: ReaderSpec): Borders {
  switch (reader.kind) {
    case "bytes": {
      const { size, overlapBytes = 0 } = reader;
      return size === undefined ? { by: "split" } : { by: "size", size, overlapBytes };
    }
    case "columns":
    case "matrix":
      return { by: "size", size: rowBytes(reader) * (reader.rows ?? 1), overlapBytes: 0 };
    case "block":
      return reader.size === undefined ? { by: "split" } : { by: "size", size: reader.size, overlapBytes: 0 };
    case "blocks":
      return { by: "separator", separator: LINE_ENDS["utf-8"], encoding: "utf-8", overlapBytes: 0 };
    case "lines":
    case "json-lines": {
      const { encoding = "utf-8" } = reader;
      return { by: "separator", separator: LINE_ENDS[encoding], encoding, overlapBytes: 0 };
    }
    case "records": {
      const { separator, encoding, overlapBytes = 0 } = reader;
      const bytes = Uint8Array.from(separator.match(/../g)!, (hex) => Number.parseInt(hex, 16));
      return { by: "separator", separator: bytes, encoding, overlapBytes };
    }
    case "csv":
      return { by: "rows", csv: reader };
  }
}

const LINE_ENDS: Readonly<Record<TextEncoding, Uint8Array>> = {
  "utf-8": Uint8Array.of(0x0a),
  latin1: Uint8Array.of(0x0a),
  "utf-16le": Uint8Array.of(0x0a, 0),
  "utf-16be": Uint8Array.of(0, 0x0a),
};

/** Counts lines as people's editors do. */
export interface LineCounter {
  push(bytes: Uint8Array): void;
  /** The number of the line that what was pushed ends in, from 1. */
  readonly line: number;
}

/** Undefined where records are no lines of text. */
export function lineCounter(reader: ReaderSpec): LineCounter | undefined {
  switch (reader.kind) {
    case "bytes":
    case "columns":
    case "matrix":
    case "block":
      return undefined;
    default:
  }
  const encoding = reader.kind === "blocks" ? "utf-8" : reader.encoding;
  return encoding === undefined && reader.kind === "records"
    ? undefined
    : new LineEnds(reader.kind === "csv", encoding);
}

class LineEnds implements LineCounter {
  line = 1;
  readonly #endsAtCr: boolean;
  readonly #encoding: TextEncoding | undefined;
  #position = 0;
  #wasCr = false;
  #first = 0;

  constructor(endsAtCr: boolean, encoding: TextEncoding | undefined) {
    this.#endsAtCr = endsAtCr;
    this.#encoding = encoding;
  }

  push(bytes: Uint8Array): void {
    const isWide = this.#encoding === "utf-16le" || this.#encoding === "utf-16be";
    if (!isWide && !this.#endsAtCr) {
      for (let at = bytes.indexOf(0x0a); at >= 0; at = bytes.indexOf(0x0a, at + 1)) this.line++;
      return;
    }
    for (const byte of bytes) {
      if (!isWide) this.#unit(byte);
      else if (this.#position++ % 2 === 0) this.#first = byte;
      else this.#unit(this.#encoding === "utf-16le" ? this.#first | (byte << 8) : (this.#first << 8) | byte);
    }
  }

  #unit(unit: number): void {
    const isCr = this.#endsAtCr && unit === 0x0d;
    if (isCr || (unit === 0x0a && !this.#wasCr)) this.line++;
    this.#wasCr = isCr;
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

/** Readers of rows, all of one size. */
type RowsSpec = Extract<ReaderSpec, { readonly kind: "columns" | "matrix" }>;

/** Bytes of one row: its fields stand back to back. */
export function rowBytes(reader: RowsSpec): number {
  if (reader.kind === "matrix") return reader.columns * (reader.type === "bytes" ? 1 : 4);
  return reader.fields.reduce((bytes, { type }) => bytes + COLUMN_BYTES[type], 0);
}

/** Whether records are many bytes that nobody need look at. */
export function readsBlocks(reader: ReaderSpec): boolean {
  return (
    reader.kind === "matrix" ||
    reader.kind === "block" ||
    (reader.kind === "columns" && reader.rows !== undefined)
  );
}

const TYPES = ["u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64"] as const;

const flag = (name: string): v.GenericSchema<boolean> => v.boolean(`input.${name} is true or false`);
const encoding = v.exactOptional(v.picklist(ENCODINGS, `input.encoding is one of ${ENCODINGS.join(", ")}`));
const overlapBytes = v.exactOptional(bounded("overlapBytes", 1, ROW_BYTES_MAX));
const character = (name: string): v.GenericSchema<string> =>
  v.pipe(
    v.string(`input.${name} is a string`),
    v.regex(/^[^\r\n]$/u, `input.${name} is one character and no line end`),
  );
const columnName = v.pipe(
  v.string("a column's name is a string"),
  v.nonEmpty("a column has no name"),
  v.maxLength(READER_COLUMN_NAME_MAX, "a column's name is too long"),
);

function bounded(name: string, least: number, most: number): v.GenericSchema<number> {
  const message = `input.${name} is a whole number from ${least} to ${most}`;
  return v.pipe(
    v.number(message),
    v.safeInteger(message),
    v.minValue(least, message),
    v.maxValue(most, message),
  );
}

const csv = v.pipe(
  v.object({
    kind: v.literal("csv"),
    separator: character("separator"),
    header: flag("header"),
    columns: v.exactOptional(
      v.pipe(
        v.array(columnName, "input.columns is an array of names"),
        v.nonEmpty("input.columns names none"),
        v.maxLength(READER_COLUMNS_MAX, `input.columns has more than ${READER_COLUMNS_MAX} names`),
        v.check((names) => new Set(names).size === names.length, "a column is named twice"),
      ),
    ),
    encoding,
    quote: v.exactOptional(
      v.union([v.literal(""), character("quote")], "input.quote is one character, or empty"),
    ),
    escape: v.exactOptional(character("escape")),
    comment: v.exactOptional(character("comment")),
    relaxQuotes: v.exactOptional(flag("relaxQuotes")),
    trim: v.exactOptional(flag("trim")),
    ragged: v.exactOptional(v.picklist(["error", "pad", "keep"], 'input.ragged is "error", "pad" or "keep"')),
  }),
  v.check(({ separator, quote = '"', escape = "", comment = "", encoding: name = "utf-8" }) => {
    // One unit of the encoding each, so that they can be told in bytes.
    const most = name === "utf-8" ? 0x7f : 0xff;
    const special = [separator, quote, escape === quote ? "" : escape, comment].filter((text) => text !== "");
    const isUnit = special.every((text) => text.length === 1 && text.charCodeAt(0) <= most);
    return isUnit && new Set(special).size === special.length;
  }, "input.separator, quote, escape and comment are different ASCII characters (up to U+00FF where the encoding is not utf-8)"),
);

const column = v.object({
  name: columnName,
  type: v.picklist(TYPES, `a column's type is one of ${TYPES.join(", ")}`),
});

const rowsAtOnce = v.exactOptional(bounded("rows", 1, BLOCK_RECORD_BYTES_MAX));
const isRowTooLong = (reader: RowsSpec): boolean => rowBytes(reader) > ROW_BYTES_MAX;
const ROW_TOO_LONG = `a row has at most ${ROW_BYTES_MAX} bytes`;
const areRowsTooMany = (reader: RowsSpec): boolean =>
  rowBytes(reader) * (reader.rows ?? 1) > BLOCK_RECORD_BYTES_MAX;
const ROWS_TOO_MANY = `input.rows are at most ${BLOCK_RECORD_BYTES_MAX} bytes together`;

/**
 * Gives its keys in one order, so that one reader has one spelling.
 * @internal So that the types of valibot, which are many, are not part of those that PacketFS publishes.
 */
export const readerSchema: v.GenericSchema<unknown, ReaderSpec> = v.variant(
  "kind",
  [
    v.pipe(
      v.object({
        kind: v.literal("bytes"),
        size: v.exactOptional(bounded("size", 1, ROW_BYTES_MAX)),
        overlapBytes,
      }),
      v.check(
        (spec) => spec.size !== undefined || spec.overlapBytes === undefined,
        "input.overlapBytes needs a size",
      ),
    ),
    v.object({ kind: v.literal("blocks") }),
    v.object({ kind: v.literal("lines"), encoding, raw: v.exactOptional(flag("raw")) }),
    v.pipe(
      v.object({
        kind: v.literal("records"),
        separator: v.pipe(
          v.string("input.separator is hexadecimal bytes"),
          v.regex(/^(?:[0-9a-f]{2})+$/, "input.separator is some bytes"),
          v.maxLength(
            RECORD_SEPARATOR_BYTES_MAX * 2,
            `input.separator has at most ${RECORD_SEPARATOR_BYTES_MAX} bytes`,
          ),
        ),
        encoding,
        overlapBytes,
      }),
      v.check(
        (spec) => spec.encoding !== "utf-8" || isUtf8(Buffer.from(spec.separator, "hex")),
        "input.separator is text of the encoding",
      ),
      v.check(
        (spec) => spec.encoding?.startsWith("utf-16") !== true || spec.separator.length % 4 === 0,
        "input.separator is whole characters of the encoding",
      ),
    ),
    v.object({ kind: v.literal("json-lines"), encoding, bigint: v.exactOptional(flag("bigint")) }),
    csv,
    v.pipe(
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
        ),
        rows: rowsAtOnce,
      }),
      v.check((spec) => !isRowTooLong(spec), ROW_TOO_LONG),
      v.check((spec) => !areRowsTooMany(spec), ROWS_TOO_MANY),
    ),
    v.pipe(
      v.object({
        kind: v.literal("matrix"),
        type: v.picklist(["f32", "i32", "u32", "bytes"], 'input.type is "f32", "i32", "u32" or "bytes"'),
        columns: bounded("columns", 1, ROW_BYTES_MAX),
        rows: rowsAtOnce,
      }),
      v.check((spec) => !isRowTooLong(spec), ROW_TOO_LONG),
      v.check((spec) => !areRowsTooMany(spec), ROWS_TOO_MANY),
    ),
    v.object({
      kind: v.literal("block"),
      size: v.exactOptional(bounded("size", 1, BLOCK_RECORD_BYTES_MAX)),
    }),
  ],
  `input is a reader: bytes, blocks, lines, records, json-lines, csv, columns, matrix, block`,
);
