/**
 * CSV by RFC 4180 and the dialects that real exports use. Rows end where csv-rows.ts says, which settles the borders of
 * splits: what is lenient here must not move one. Empty lines and comments are skipped.
 */
import type { Faults } from "./faults.ts";
import type { Primordials } from "./primordials.ts";
import type { PacketInput, Place, Visit } from "./readers.ts";
import type { ReaderSpec } from "../../program/readers.ts";

export type CsvParser = (input: PacketInput, visit: Visit) => void;

export interface CsvTools {
  readonly faults: Faults;
  readonly place: Place;
  /** Of any reader; only that of a CSV is asked to parse. */
  readonly spec: ReaderSpec;
  /** FaultCode. */
  readonly badRecord: number;
  readonly recordBytesMax: number;
}

export function makeCsvParser(p: Primordials, tools: CsvTools): CsvParser {
  const { faults, place, badRecord, recordBytesMax } = tools;
  const spec = (tools.spec.kind === "csv" ? tools.spec : { separator: ",", header: false }) as Extract<
    ReaderSpec,
    { readonly kind: "csv" }
  >;
  const LF = 10;
  const CR = 13;
  const SPACE = 32;
  const TAB = 9;
  const MARK = 0xfeff;
  // More properties than this do not fit one shape, and code for them would only be slow to make.
  const SHAPE_MAX = 512;
  const quote = spec.quote ?? '"';
  const quoteUnit = quote === "" ? -1 : p.charCodeAt(quote, 0);
  const escapeUnit = spec.escape === undefined ? quoteUnit : p.charCodeAt(spec.escape, 0);
  const commentUnit = spec.comment === undefined ? -1 : p.charCodeAt(spec.comment, 0);
  const relax = spec.relaxQuotes === true;
  const trims = spec.trim === true;
  const ragged = spec.ragged ?? "pad";
  const given = spec.columns as string[] | undefined;
  type Named = (fields: string[]) => object;

  let text = "";
  let end = 0;
  let at = 0;
  let inputStart = 0;
  let rowStart = 0;
  let separator = spec.separator;
  let separatorUnit = 0;
  let names: string[] = [];
  let namedBy: string | undefined;
  let named: Named | undefined;
  // The next of each behind `at`, or `end`; looked for again once it has been passed.
  let nextLf = -1;
  let nextCr = -1;
  let nextQuote = -1;

  function bad(reason: string): never {
    place.move(rowStart - inputStart);
    return faults.fail(badRecord, reason);
  }

  function search(part: string, from: number): number {
    const found = p.indexOf(text, part, from);
    return found < 0 || found > end ? end : found;
  }

  /** Where the line that `at` stands in ends, `end` at the latest. */
  function lineEnd(): number {
    if (nextLf < at) nextLf = search("\n", at);
    if (nextCr < at) nextCr = search("\r", at);
    return nextCr < nextLf ? nextCr : nextLf;
  }

  /** Moves `at` behind the line end that it stands on, if it stands on one. */
  function passLineEnd(): void {
    if (at >= end) return;
    const wasCr = p.charCodeAt(text, at) === CR;
    at++;
    if (wasCr && at < end && p.charCodeAt(text, at) === LF) at++;
  }

  function isBlank(unit: number): boolean {
    return (unit === SPACE || unit === TAB) && unit !== separatorUnit;
  }

  function isLineEnd(unit: number): boolean {
    return unit === LF || unit === CR;
  }

  function trimmed(value: string): string {
    let from = 0;
    let to = value.length;
    while (from < to && isBlank(p.charCodeAt(value, from))) from++;
    while (to > from && isBlank(p.charCodeAt(value, to - 1))) to--;
    return from === 0 && to === value.length ? value : p.slice(value, from, to);
  }

  /** Up to the next separator or line end, on which `at` stands afterwards. */
  function plainField(from: number): string {
    while (at < end) {
      const unit = p.charCodeAt(text, at);
      if (unit === separatorUnit || isLineEnd(unit)) break;
      if (unit === quoteUnit && !relax) badHere("a quote stands within a field that does not begin with one");
      at++;
    }
    const value = p.slice(text, from, at);
    return trims ? trimmed(value) : value;
  }

  /** `at` stands on the first quote, and behind the field afterwards. */
  function quotedField(): string {
    const start = at;
    let value = "";
    let from = ++at;
    for (;;) {
      // Escapes are looked for one by one, quotes at once.
      if (escapeUnit === quoteUnit) at = search(quote, at);
      while (at < end && p.charCodeAt(text, at) !== quoteUnit && p.charCodeAt(text, at) !== escapeUnit) at++;
      if (at >= end) {
        endOfText();
        bad("a quoted field has no closing quote");
      }
      const next = at + 1 < end ? p.charCodeAt(text, at + 1) : -1;
      if (p.charCodeAt(text, at) === escapeUnit && (next === quoteUnit || next === escapeUnit)) {
        value += p.slice(text, from, at);
        from = at + 1;
        at += 2;
      } else if (p.charCodeAt(text, at) === quoteUnit) {
        value += p.slice(text, from, at);
        at++;
        break;
      } else {
        // An escape before anything else stands for itself; what is behind it is not looked at.
        at += 2;
      }
    }
    if (trims) while (at < end && isBlank(p.charCodeAt(text, at))) at++;
    if (at >= end) return value;
    const unit = p.charCodeAt(text, at);
    if (unit === separatorUnit || isLineEnd(unit)) return value;
    if (!relax) badHere("a closing quote is followed by text");
    // Then the quotes were text as well.
    return plainField(start);
  }

  /** A row field by field; `at` moves to its line end. */
  function slowRow(): string[] {
    const fields: string[] = [];
    for (;;) {
      const start = at;
      if (trims) while (at < end && isBlank(p.charCodeAt(text, at))) at++;
      const isQuoted = at < end && quoteUnit >= 0 && p.charCodeAt(text, at) === quoteUnit;
      fields.push(isQuoted ? quotedField() : plainField(start));
      if (at >= end || p.charCodeAt(text, at) !== separatorUnit) return fields;
      at++;
    }
  }

  function unusedName(position: number, seen: Map<string, true>): string {
    let name = `column${position + 1}`;
    while (p.mapGet(seen, name)) name += "_";
    return name;
  }

  /** Names of cells that are empty, or are none, say where they stand. */
  function namesOf(cells: string[]): string[] {
    const seen = new p.Map<string, true>();
    for (let index = 0; index < cells.length; index++) {
      const name = cells[index]!;
      if (name === "") continue;
      if (p.mapGet(seen, name)) {
        bad(`the header names the column ${p.stringify(name)} twice: name them with columns`);
      }
      p.mapSet(seen, name, true);
    }
    const all: string[] = [];
    for (let index = 0; index < cells.length; index++) {
      const name = cells[index] === "" ? unusedName(index, seen) : cells[index]!;
      p.mapSet(seen, name, true);
      all[index] = name;
    }
    return all;
  }

  function useNames(cells: string[]): void {
    const key = p.stringify(cells)!;
    if (key === namedBy) return;
    names = namesOf(cells);
    named = names.length > SHAPE_MAX ? namedOneByOne : namedAtOnce(names);
    namedBy = key;
  }

  function namedAtOnce(list: string[]): Named {
    let literal = "";
    for (let index = 0; index < list.length; index++) {
      literal += `[${p.stringify(list[index])}]: fields[${index}],`;
    }
    return p.Function("fields", `"use strict"; return {${literal}};`) as unknown as Named;
  }

  function namedOneByOne(fields: string[]): object {
    const record = {};
    for (let index = 0; index < fields.length; index++) define(record, names[index]!, fields[index]!);
    return record;
  }

  function define(record: object, name: string, value: string): void {
    p.defineProperty(record, name, { value, writable: true, enumerable: true, configurable: true });
  }

  function record(fields: string[]): object {
    const count = names.length;
    if (fields.length === count) return named!(fields);
    if (ragged === "keep") {
      const kept = {};
      const seen = new p.Map<string, true>();
      for (let index = 0; index < count; index++) p.mapSet(seen, names[index]!, true);
      for (let index = 0; index < fields.length; index++) {
        define(kept, index < count ? names[index]! : unusedName(index, seen), fields[index]!);
      }
      return kept;
    }
    // A separator at the end of a row is no field; where rows are padded, nor are more of them.
    let used = fields.length;
    const least = ragged === "pad" ? count : used - 1;
    while (used > count && used > least && fields[used - 1] === "") used--;
    if (used > count || (used < count && ragged === "error")) {
      bad(`a row has ${used} fields, the header ${count}`);
    }
    for (let index = used; index < count; index++) fields[index] = "";
    if (fields.length > count) fields.length = count;
    return named!(fields);
  }

  /** A first line `sep=;` names the separator: it stands in a prefix. */
  function readSeparator(): void {
    if (at < end && p.charCodeAt(text, at) === MARK) at++;
    const stop = lineEnd();
    if (stop - at !== 5) return;
    const word = p.slice(text, at, at + 4);
    const unit = p.charCodeAt(text, at + 4);
    if (word !== "sep=" && word !== "Sep=" && word !== "SEP=") return;
    if ((unit < SPACE && unit !== TAB) || unit > 126) return;
    if (unit === quoteUnit || unit === commentUnit || (spec.escape !== undefined && unit === escapeUnit))
      return;
    separator = p.slice(text, at + 4, at + 5);
    at = stop;
    passLineEnd();
  }

  /** Whatever is wrong with a row behind its first RECORD_BYTES_MAX bytes, it is too long before that. */
  function badHere(reason: string): never {
    checkLength(at + 1, 0);
    return bad(reason);
  }

  /** The row goes on where the text ends: it is too long, or else not of its encoding there. */
  function endOfText(): void {
    checkLength(end, place.isCut() ? 1 : 0);
    place.endOfText();
  }

  function checkLength(to: number, more: number): void {
    // A unit of text is three bytes at most.
    if ((to - rowStart) * 3 + more <= recordBytesMax) return;
    const bytes = place.bytesBetween(rowStart - inputStart, to - inputStart) + more;
    if (bytes > recordBytesMax)
      bad(
        `a record has more than RECORD_BYTES_MAX = ${recordBytesMax} bytes (is a quoted field not closed?)`,
      );
  }

  return function parseCsv(input, visit) {
    text = input.text;
    end = input.end;
    at = inputStart = rowStart = input.start;
    nextLf = nextCr = nextQuote = -1;
    separator = spec.separator;
    // Frames have many packets: what is searched ends with this one.
    if (text.length !== end) text = p.slice(text, 0, end);
    if (input.prefixBytes > 0) readSeparator();
    separatorUnit = p.charCodeAt(separator, 0);
    let isHeader = spec.header;
    const isNamed = isHeader || given !== undefined;
    if (given !== undefined) useNames(given);
    while (at < end) {
      rowStart = at;
      const stop = lineEnd();
      if (quoteUnit >= 0 && nextQuote < at) nextQuote = search(quote, at);
      let fields: string[] | undefined;
      if (stop === at || p.charCodeAt(text, at) === commentUnit) {
        at = stop;
      } else if (quoteUnit < 0 || nextQuote >= stop) {
        at = stop;
        fields = p.split(p.slice(text, rowStart, stop), separator);
        if (trims)
          for (let index = 0; index < fields.length; index++) fields[index] = trimmed(fields[index]!);
      } else {
        fields = slowRow();
      }
      if (at >= end) endOfText();
      passLineEnd();
      checkLength(at, 0);
      if (fields === undefined) continue;
      const position = rowStart - inputStart;
      if (isHeader) {
        isHeader = false;
        if (given === undefined) useNames(fields);
      } else if (isNamed) {
        visit(record(fields), position, 0);
      } else {
        visit(fields, position, 0);
      }
    }
  };
}
