/**
 * Packet code as people read it: the calls of builders that make it, such as `lines().filter(contains("ERROR")).count()`.
 * Columns have lost their names and are called by type and place, `u32@4`.
 */
import { ColumnType, valuesOf } from "./column-type.ts";
import type { ValueRange } from "./column-type.ts";
import { Aggregate, Filter, Records, Stage, decodeCode, invalidCode } from "./format.ts";
import type { Code } from "./format.ts";

/** The program as the builders' calls; `INVALID` and why, of bytes that are none. */
export function codeText(bytes: Uint8Array): string {
  const reason = invalidCode(bytes);
  if (reason !== null) return `INVALID ${reason}`;
  const code = decodeCode(bytes);
  const text = `${recordsText(code)}${filterText(code)}.${aggregateText(code)}`;
  if (code.stage === Stage.MAP) return text;
  return `${code.stage === Stage.MERGE ? "merge" : "finish"} of ${text}`;
}

function recordsText(code: Code): string {
  if (code.records === Records.LINES) {
    const isPlain = code.separator.byteLength === 1 && code.separator[0] === 0x0a;
    return isPlain ? "lines()" : `lines(${bytesText(code.separator)})`;
  }
  return code.rowBytes === 1 ? "bytes()" : `rows(${code.rowBytes})`;
}

function filterText(code: Code): string {
  const { filter, isNot, needle } = code;
  const negated = (text: string): string => `.filter(${isNot ? `not(${text})` : text})`;
  switch (filter) {
    case Filter.ALL:
      return "";
    case Filter.IN:
      return rangesText(code);
    case Filter.AT:
      return negated(`at(${code.filterOffset}, ${bytesText(needle)})`);
    case Filter.CONTAINS:
      return negated(`contains(${bytesText(needle)})`);
    case Filter.BEGINS:
      return negated(`begins(${bytesText(needle)})`);
    case Filter.ENDS:
      return negated(`ends(${bytesText(needle)})`);
  }
}

function rangesText(code: Code): string {
  const { ranges, isNot } = code;
  const type = code.filterType as ColumnType;
  if (isBytes(code) && type === ColumnType.u8) {
    const set = `anyOf(${byteSet(ranges)})`;
    return `.filter(${isNot ? `not(${set})` : set})`;
  }
  const column = columnText(code, type, code.filterOffset);
  const [{ low, high }, more] = [ranges[0]!, ranges.length > 1];
  if (!more && low === high) return `.filter(${column}, "${isNot ? "!=" : "="}", ${valueText(low)})`;
  const all = valuesOf(type);
  if (!more && !isNot && low === all.low) return `.filter(${column}, "<=", ${valueText(high)})`;
  if (!more && !isNot && high === all.high) return `.filter(${column}, ">=", ${valueText(low)})`;
  const set = `anyOf(${ranges.map((range) => rangeText(range)).join(", ")})`;
  return `.filter(${column}, ${isNot ? `not(${set})` : set})`;
}

function aggregateText(code: Code): string {
  const { aggregate, type, offset } = code;
  const column =
    type === 0 || code.records === Records.LINES || (isBytes(code) && type === ColumnType.u8)
      ? ""
      : columnText(code, type, offset);
  switch (aggregate) {
    case Aggregate.COUNT:
      return "count()";
    case Aggregate.SUM:
      return `sum(${column})`;
    case Aggregate.MIN:
      return `min(${column})`;
    case Aggregate.MAX:
      return `max(${column})`;
    case Aggregate.MEAN:
      return `mean(${column})`;
    case Aggregate.XOR:
      return `xor(${column})`;
    case Aggregate.HISTOGRAM:
      return `histogram(${column})`;
    case Aggregate.CRC32:
      return "crc32()";
  }
}

function isBytes({ records, rowBytes }: Code): boolean {
  return records === Records.ROWS && rowBytes === 1;
}

function columnText({ records }: Code, type: ColumnType, offset: number): string {
  if (records === Records.LINES) return '"length"';
  const name = Object.entries(ColumnType).find(([, number]) => number === type)![0];
  return `"${name}@${offset}"`;
}

function byteSet(ranges: readonly ValueRange[]): string {
  const items: string[] = [];
  let characters = "";
  for (const { low, high } of ranges) {
    const isShort = Number(high) - Number(low) < 3;
    for (let byte = Number(low); isShort && byte <= Number(high); byte++) {
      if (byte < 0x80) characters += String.fromCharCode(byte);
      else items.push(String(byte));
    }
    if (!isShort) items.push(`range(${byteText(Number(low))}, ${byteText(Number(high))})`);
  }
  return [...(characters === "" ? [] : [quoted(characters)]), ...items].join(", ");
}

function byteText(byte: number): string {
  return byte > 0x20 && byte < 0x7f ? quoted(String.fromCharCode(byte)) : String(byte);
}

function rangeText({ low, high }: ValueRange): string {
  return low === high ? valueText(low) : `range(${valueText(low)}, ${valueText(high)})`;
}

/** Digits that the parser of builders' calls reads as the same value, bigints too. */
function valueText(value: number | bigint): string {
  return String(value);
}

/** Text in quotes where the bytes are text; their hexadecimal digits where they are not. */
function bytesText(bytes: Uint8Array): string {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return quoted(text);
  } catch {
    return `hex("${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}")`;
  }
}

function quoted(text: string): string {
  // Whatever could do something to a terminal is escaped.
  return JSON.stringify(text).replace(
    /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
