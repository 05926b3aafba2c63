/**
 * Readers: how a packet's bytes become records. Where records begin and end between packets was settled outside, so a
 * packet's bytes are whole records here. Readers of text get the frame as one string, in which each packet's text has a
 * line end behind it; the others get bytes.
 */
import type { Blocks, BlockSource } from "./blocks.ts";
import type { CsvParser } from "./csv.ts";
import type { Faults } from "./faults.ts";
import type { Primordials } from "./primordials.ts";
import type { TextCodec } from "./text-codec.ts";
import type { ColumnType, ReaderSpec } from "../../program/readers.ts";

/** One packet's part of the frame. `start` and `end` count UTF-16 units of `text`. */
export interface PacketInput {
  readonly text: string;
  readonly start: number;
  readonly end: number;
  /** The packet's bytes in a buffer of their own, for readers of bytes. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly byteLength: number;
  /** Bytes at the beginning that are the file's first, and no records. */
  readonly prefixBytes: number;
  /** Units or bytes at the end in which no record begins. */
  readonly tail: number;
  /** Its place in the frame, */
  readonly packet: number;
  /** and whether its bytes are there: they need not be for readers of blocks. */
  readonly isStaged: boolean;
}

/** Where the record is that is being looked at, which faults and `context.offset` name. */
export interface Place {
  /** A record begins at this unit or byte of its packet; -1: no record is being looked at. */
  move(position: number): void;
  /** Byte position in the file of what `move` was told last, -1 where there is no record. */
  offset(): number;
  /** The bytes that units `from` to `to` of the packet's text were made of; bytes of bytes. */
  bytesBetween(from: number, to: number): number;
  /** Whether bytes follow the packet's text that are not of its encoding. */
  isCut(): boolean;
  /**
   * To be called when all records are visited, and for one that reaches beyond its packet's text: fails the packet where
   * it is cut. Records that end before that come first, whatever split they are in. With `reach`, the bytes behind the text
   * that what a record overlaps holds: up to the last whole character.
   */
  endOfText(reach?: number): void;
}

/**
 * Takes a record, where it begins in the packet (its first unit or byte), and how much of it, in units or bytes, is its
 * own: the rest is what follows it in the file. 0 for records that are neither text nor bytes.
 */
export type Visit = (record: unknown, position: number, own: number) => void;
export type ReadRecords = (input: PacketInput, visit: Visit) => void;

export interface ReaderTools {
  readonly faults: Faults;
  readonly place: Place;
  readonly parseCsv: CsvParser;
  readonly spec: ReaderSpec;
  /** FaultCode. */
  readonly badRecord: number;
  readonly recordBytesMax: number;
  readonly codec: TextCodec;
  readonly blocks: Blocks;
}

export function makeReader(p: Primordials, tools: ReaderTools): ReadRecords {
  const { faults, place, parseCsv, spec, badRecord, recordBytesMax } = tools;
  const LF = "\n";
  const CR = 13;

  function bad(position: number, reason: string): never {
    place.move(position);
    return faults.fail(badRecord, reason);
  }

  /** A record's limit does not depend on which packet it is in, so the longest that reaches here may be too long. */
  function limit(from: number, to: number, more = 0): void {
    // A unit of text is three bytes at most.
    if ((to - from) * 3 + more <= recordBytesMax) return;
    const bytes = place.bytesBetween(from, to) + more;
    if (bytes <= recordBytesMax) return;
    bad(from, `a record has more than RECORD_BYTES_MAX = ${recordBytesMax} bytes`);
  }

  /** The record at `from` goes on where the text ends at `to`: it is too long, or else not of its encoding there. */
  function endOfText(from: number, to: number): void {
    limit(from, to, place.isCut() ? 1 : 0);
    place.endOfText();
  }

  /** Lines without their ends. A CR belongs to the end only in front of an LF. */
  const lines: ReadRecords = ({ text, start, end }, visit) => {
    for (let at = start; at < end;) {
      const found = p.indexOf(text, LF, at);
      const whole = found >= 0 && found < end;
      let stop = whole ? found : end;
      const next = whole ? stop + 1 : end;
      if (!whole) endOfText(at - start, end - start);
      if (whole && stop > at && p.charCodeAt(text, stop - 1) === CR) stop--;
      limit(at - start, next - start);
      visit(p.slice(text, at, stop), at - start, stop - at);
      at = next;
    }
  };

  function isBlank(line: string): boolean {
    for (let index = 0; index < line.length; index++) {
      const unit = p.charCodeAt(line, index);
      if (unit !== 32 && unit !== 9 && unit !== CR) return false;
    }
    return true;
  }

  function jsonLines(bigint: boolean): ReadRecords {
    /** Integers that a number would round, and nothing else, become bigints. */
    const exact = (_key: string, value: unknown, { source }: { readonly source?: string }): unknown => {
      if (typeof value !== "number" || source === undefined || p.isSafeInteger(value)) return value;
      for (let index = p.charCodeAt(source, 0) === 45 ? 1 : 0; index < source.length; index++) {
        const unit = p.charCodeAt(source, index);
        if (unit < 48 || unit > 57) return value;
      }
      return p.BigInt(source);
    };
    return (input, visit) => {
      lines(input, (record, position) => {
        const text = record as string;
        let value: unknown;
        try {
          value = bigint ? p.parse(text, exact) : p.parse(text);
        } catch (error) {
          if (isBlank(text)) return;
          bad(position, `the line is not JSON: ${(error as Error).message}`);
        }
        visit(value, position, 0);
      });
    };
  }

  /** Records of bytes behind each of which stands `separator`, their own first byte and the next one's at a unit. */
  function separated(
    separator: Uint8Array,
    unit: number,
    overlapBytes: number,
    trimCr: Uint8Array,
  ): ReadRecords {
    const length = p.bytesLength(separator);
    const first = separator[0]!;
    const isOne = length === 1;
    const overlapsItself = repeatsItself(separator, length);

    /** Where a separator begins, `end` where none does. */
    function find(bytes: Uint8Array, from: number, end: number): number {
      let at = p.bytesIndexOf(bytes, first, from);
      if (isOne) return at < 0 || at > end ? end : at;
      for (; at >= 0 && at + length <= end; at = p.bytesIndexOf(bytes, first, at + 1)) {
        if (unit === 2 && (at & 1) === 1) continue;
        let same = 1;
        while (same < length && bytes[at + same] === separator[same]) same++;
        if (same === length) return at;
      }
      return end;
    }

    return ({ bytes, byteLength, tail }, visit) => {
      const end = byteLength - tail;
      const trimmed = p.bytesLength(trimCr);
      for (let at = 0; at < end;) {
        const found = find(bytes, at, end);
        let next = found < end ? found + length : end;
        // Separators that overlap one another are one.
        for (let last = found; overlapsItself && last < end;) {
          const stop = p.min(end, next + length - 1);
          last = find(bytes, last + 1, stop);
          if (last === stop) break;
          next = last + length;
        }
        limit(at, next);
        if (overlapBytes > 0) {
          const stop = p.min(byteLength, next + overlapBytes);
          visit(p.bytesSlice(bytes, at, stop), at, next - at);
        } else {
          let stop = found;
          if (trimmed > 0 && found < end && stop - at >= trimmed && endsWith(bytes, stop, trimCr))
            stop -= trimmed;
          visit(p.bytesSlice(bytes, at, stop), at, stop - at);
        }
        at = next;
      }
    };
  }

  function endsWith(bytes: Uint8Array, stop: number, part: Uint8Array): boolean {
    const length = p.bytesLength(part);
    for (let index = 0; index < length; index++) {
      if (bytes[stop - length + index] !== part[index]) return false;
    }
    return true;
  }

  /** Whether some beginning of it is also an end of it. */
  function repeatsItself(units: ArrayLike<unknown>, length: number): boolean {
    for (let shift = 1; shift < length; shift++) {
      let same = 0;
      while (same < length - shift && units[same] === units[same + shift]) same++;
      if (same === length - shift) return true;
    }
    return false;
  }

  /** The same of text. */
  function separatedText(separator: string, overlapBytes: number): ReadRecords {
    const length = separator.length;
    const overlapsItself = repeatsItself(separator, length);
    return ({ text, start, end: textEnd, tail }, visit) => {
      const end = textEnd - tail;
      for (let at = start; at < end;) {
        let found = p.indexOf(text, separator, at);
        if (found < 0 || found + length > end) {
          found = end;
          endOfText(at - start, end - start);
        }
        let next = found < end ? found + length : end;
        for (let last = found; overlapsItself && last < end;) {
          last = p.indexOf(text, separator, last + 1);
          if (last < 0 || last >= next || last + length > end) break;
          next = last + length;
        }
        limit(at - start, next - start);
        if (overlapBytes > 0) {
          let stop = start + overlapped(next - start, textEnd - start, overlapBytes);
          if (stop === textEnd)
            place.endOfText(overlapBytes - place.bytesBetween(next - start, stop - start));
          // Not between the two units of a character.
          if (stop > next && (p.charCodeAt(text, stop - 1) & 0xfc00) === 0xd800) stop--;
          visit(p.slice(text, at, stop), at - start, next - at);
        } else {
          visit(p.slice(text, at, found), at - start, found - at);
        }
        at = next;
      }
    };
  }

  /** As far as units of text of at most `bytes` bytes reach. */
  function overlapped(from: number, end: number, bytes: number): number {
    let least = from;
    let most = p.min(end, from + bytes);
    while (least < most) {
      const middle = (least + most + 1) >> 1;
      if (place.bytesBetween(from, middle) <= bytes) least = middle;
      else most = middle - 1;
    }
    return least;
  }

  /** Only the last record of a file can be short, and what it overlaps is nothing. */
  function fixed(size: number, overlapBytes: number): ReadRecords {
    return ({ bytes, byteLength, tail }, visit) => {
      const end = byteLength - tail;
      for (let at = 0; at < end; at += size) {
        const own = p.min(size, end - at);
        const length = p.min(own + overlapBytes, byteLength - at);
        visit(length === byteLength ? bytes : recordOf(bytes, at, length, overlapBytes), at, own);
      }
    };
  }

  /** Records that overlap must not find each other's changes. */
  function recordOf(
    bytes: Uint8Array<ArrayBuffer>,
    at: number,
    length: number,
    overlapBytes: number,
  ): Uint8Array<ArrayBuffer> {
    if (overlapBytes > 0) return p.bytesSlice(bytes, at, at + length);
    return new p.Uint8Array(bytes.buffer, at, length);
  }

  /** Rows get their shape from one literal, which is what makes their properties fast. */
  function columns(fields: readonly { readonly name: string; readonly type: ColumnType }[]): ReadRecords {
    const CALLS: Readonly<Record<ColumnType, readonly [string, number]>> = {
      u8: ["getUint8", 1],
      i8: ["getInt8", 1],
      u16: ["getUint16", 2],
      i16: ["getInt16", 2],
      u32: ["getUint32", 4],
      i32: ["getInt32", 4],
      u64: ["getBigUint64", 8],
      i64: ["getBigInt64", 8],
      f32: ["getFloat32", 4],
      f64: ["getFloat64", 8],
    };
    let size = 0;
    let literal = "";
    for (let index = 0; index < fields.length; index++) {
      const { name, type } = fields[index]!;
      const [call, bytes] = CALLS[type];
      literal += `[${p.stringify(name)}]: view.${call}(at + ${size}, true),`;
      size += bytes;
    }
    const row = p.Function("view", "at", `"use strict"; return {${literal}};`) as unknown as (
      view: DataView,
      at: number,
    ) => object;
    return ({ bytes, byteLength }, visit) => {
      const view = new p.DataView(bytes.buffer, 0, byteLength);
      const over = byteLength % size;
      const end = byteLength - over;
      for (let at = 0; at < end; at += size) visit(row(view, at), at, 0);
      if (over > 0) bad(end, `the input ends ${over} bytes into a row of ${size} bytes`);
    };
  }

  /** All lines at once. That none of them is too long is seen at a few places: a line end is looked for back from each. */
  const blocks: ReadRecords = ({ bytes, byteLength }, visit) => {
    for (let at = 0; byteLength - at > recordBytesMax;) {
      const lineEnd = p.bytesLastIndexOf(bytes, 10, at + recordBytesMax - 1);
      if (lineEnd < at) bad(at, `a record has more than RECORD_BYTES_MAX = ${recordBytesMax} bytes`);
      at = lineEnd + 1;
    }
    if (byteLength > 0) visit(bytes, 0, byteLength);
  };

  /** Records of up to `size` bytes that are read when the program looks at them; all bytes at once where it is 0. */
  function blocksOf(size: number, rowSize: number, make: (source: BlockSource) => object): ReadRecords {
    return ({ bytes, byteLength, packet, isStaged }, visit) => {
      const over = byteLength % rowSize;
      const end = byteLength - over;
      for (let at = 0; at < end;) {
        const length = size === 0 ? end : p.min(size, end - at);
        const staged = isStaged ? new p.Uint8Array(bytes.buffer, at, length) : undefined;
        visit(make({ origin: packet, from: at, length, staged }), at, length);
        at += length;
      }
      if (over > 0) bad(end, `the input ends ${over} bytes into a row of ${rowSize} bytes`);
    };
  }

  function bytesOf(hex: string): Uint8Array<ArrayBuffer> {
    const bytes = new p.Uint8Array(hex.length / 2);
    for (let index = 0; index < hex.length / 2; index++) {
      bytes[index] = p.parseInt(p.slice(hex, index * 2, index * 2 + 2), 16);
    }
    return bytes;
  }

  switch (spec.kind) {
    case "lines": {
      if (spec.raw !== true) return lines;
      const { encoding } = spec;
      if (encoding === "utf-16le") return separated(bytesOf("0a00"), 2, 0, bytesOf("0d00"));
      if (encoding === "utf-16be") return separated(bytesOf("000a"), 2, 0, bytesOf("000d"));
      return separated(bytesOf("0a"), 1, 0, bytesOf("0d"));
    }
    case "records": {
      const { overlapBytes = 0, encoding } = spec;
      const separator = bytesOf(spec.separator);
      if (encoding === undefined) return separated(separator, 1, overlapBytes, bytesOf(""));
      return separatedText(tools.codec.decodeAs(separator, encoding), overlapBytes);
    }
    case "json-lines":
      return jsonLines(spec.bigint === true);
    case "csv":
      return (input, visit) => parseCsv(input, visit);
    case "columns": {
      const { fields, rows } = spec;
      if (rows === undefined) return columns(fields);
      const size = tools.blocks.rowBytes(fields);
      return blocksOf(size * rows, size, (source) => tools.blocks.rows(source, fields));
    }
    case "matrix": {
      const { type, columns: width, rows = 0 } = spec;
      const size = width * tools.blocks.elementBytes(type);
      return blocksOf(size * rows, size, (source) => tools.blocks.matrix(source, type, width));
    }
    case "block":
      return blocksOf(spec.size ?? 0, 1, (source) => tools.blocks.block(source));
    case "blocks":
      return blocks;
    case "bytes":
      return spec.size === undefined
        ? ({ bytes, byteLength }, visit) => visit(bytes, 0, byteLength)
        : fixed(spec.size, spec.overlapBytes ?? 0);
  }
}
