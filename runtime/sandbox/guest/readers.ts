/**
 * Readers: how a packet's bytes become records. Where records begin and end between packets was settled outside, so a
 * packet's bytes are whole records here. Readers of text get the frame as one string, in which each packet's text has a
 * line end behind it; the others get bytes.
 */
import type { CsvParser } from "./csv.ts";
import type { Faults } from "./faults.ts";
import type { Primordials } from "./primordials.ts";
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
}

/** Where the record is that is being looked at, which faults and `context.offset` name. */
export interface Place {
  /** A record begins at this unit or byte of its packet; -1: no record is being looked at. */
  move(position: number): void;
  /** Byte position in the file of what `move` was told last, -1 where there is no record. */
  offset(): number;
}

/** Takes a record and where it begins in the packet: its first unit or byte. */
export type Visit = (record: unknown, position: number) => void;
export type ReadRecords = (input: PacketInput, visit: Visit) => void;

export interface ReaderTools {
  readonly faults: Faults;
  readonly place: Place;
  readonly parseCsv: CsvParser;
  readonly spec: ReaderSpec;
  /** FaultCode. */
  readonly badRecord: number;
}

export function makeReader(p: Primordials, tools: ReaderTools): ReadRecords {
  const { faults, place, parseCsv, spec, badRecord } = tools;
  const LF = "\n";
  const CR = 13;

  /** Lines without their ends. A CR belongs to the end only in front of an LF. */
  const lines: ReadRecords = ({ text, start, end }, visit) => {
    for (let at = start; at < end;) {
      const found = p.indexOf(text, LF, at);
      const whole = found >= 0 && found < end;
      let stop = whole ? found : end;
      const next = stop + 1;
      if (whole && stop > at && p.charCodeAt(text, stop - 1) === CR) stop--;
      visit(p.slice(text, at, stop), at - start);
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

  const jsonLines: ReadRecords = (input, visit) => {
    lines(input, (record, position) => {
      const text = record as string;
      let value: unknown;
      try {
        value = p.parse(text);
      } catch (error) {
        if (isBlank(text)) return;
        place.move(position);
        faults.fail(badRecord, `the line is not JSON: ${(error as Error).message}`);
      }
      visit(value, position);
    });
  };

  function wholeRows(bytes: number, size: number): number {
    const over = bytes % size;
    if (over !== 0) faults.fail(badRecord, `the input ends ${over} bytes into a row of ${size} bytes`);
    return bytes / size;
  }

  function fixed(size: number): ReadRecords {
    return ({ bytes, byteLength }, visit) => {
      wholeRows(byteLength, size);
      for (let at = 0; at < byteLength; at += size) visit(new p.Uint8Array(bytes.buffer, at, size), at);
    };
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
      wholeRows(byteLength, size);
      const view = new p.DataView(bytes.buffer, 0, byteLength);
      for (let at = 0; at < byteLength; at += size) visit(row(view, at), at);
    };
  }

  switch (spec.kind) {
    case "lines":
      return lines;
    case "json-lines":
      return jsonLines;
    case "csv":
      return (input, visit) => parseCsv(input, spec.separator, spec.header, visit);
    case "columns":
      return columns(spec.fields);
    case "blocks":
      return ({ bytes, byteLength }, visit) => {
        if (byteLength > 0) visit(bytes, 0);
      };
    case "bytes":
      return spec.size === undefined ? ({ bytes }, visit) => visit(bytes, 0) : fixed(spec.size);
  }
}
