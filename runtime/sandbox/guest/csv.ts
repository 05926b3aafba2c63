/**
 * CSV by RFC 4180, and strict where leniency would let this parser and the one that settles the borders of splits
 * disagree: a quote begins a field or is doubled within one, and nothing but a separator or a line end follows a closing
 * one. Empty lines are skipped; a row that is shorter than the header is filled up with empty text.
 */
import type { Faults } from "./faults.ts";
import type { Primordials } from "./primordials.ts";
import type { PacketInput, Place, Visit } from "./readers.ts";

export type CsvParser = (input: PacketInput, separator: string, header: boolean, visit: Visit) => void;

export function makeCsvParser(p: Primordials, faults: Faults, place: Place, badRecord: number): CsvParser {
  const QUOTE = '"';
  const LF = 10;
  const CR = 13;
  // More properties than this do not fit one shape, and code for them would only be slow to make.
  const SHAPE_MAX = 512;
  type Named = (fields: string[]) => object;

  let text = "";
  let end = 0;
  let at = 0;
  let recordStart = 0;
  let separator = ",";
  let separatorUnit = 44;
  let lastHeader: string | undefined;
  let lastNamed: Named | undefined;
  let lastCount = 0;

  function bad(reason: string): never {
    place.move(recordStart);
    return faults.fail(badRecord, reason);
  }

  function isSeparator(position: number): boolean {
    if (p.charCodeAt(text, position) !== separatorUnit) return false;
    return separator.length === 1 || p.charCodeAt(text, position + 1) === p.charCodeAt(separator, 1);
  }

  /** A quoted field's value; `at` stands on its first quote and moves behind its last. */
  function quotedField(): string {
    let value = "";
    let from = at + 1;
    for (;;) {
      const close = p.indexOf(text, QUOTE, from);
      if (close < 0 || close >= end) bad("a quoted field has no closing quote");
      const part = p.slice(text, from, close);
      value += part;
      at = close + 1;
      if (at >= end || p.charCodeAt(text, at) !== 34) return value;
      value += QUOTE;
      from = at + 1;
    }
  }

  /** Up to the next separator or line end, on which `at` stands afterwards. */
  function plainField(): string {
    const from = at;
    while (at < end) {
      const unit = p.charCodeAt(text, at);
      if (unit === LF) break;
      if (unit === CR && at + 1 < end && p.charCodeAt(text, at + 1) === LF) break;
      if (unit === 34) bad("a quote stands within a field that does not begin with one");
      if (unit === separatorUnit && isSeparator(at)) break;
      at++;
    }
    return p.slice(text, from, at);
  }

  /** A record with quotes in it; `at` moves behind its line end. */
  function quotedRecord(): string[] {
    const fields: string[] = [];
    for (let count = 0; ; count++) {
      const quoted = at < end && p.charCodeAt(text, at) === 34;
      const value = quoted ? quotedField() : plainField();
      fields[count] = value;
      if (at >= end) return fields;
      const unit = p.charCodeAt(text, at);
      if (isSeparator(at)) {
        at += separator.length;
        continue;
      }
      if (unit === CR && at + 1 < end && p.charCodeAt(text, at + 1) === LF) at++;
      else if (unit !== LF) bad("a closing quote is followed by text");
      at++;
      return fields;
    }
  }

  function namesOf(fields: string[]): Named {
    const key = p.stringify(fields)!;
    if (key === lastHeader) return lastNamed!;
    const seen = new p.Map<string, true>();
    for (let index = 0; index < fields.length; index++) {
      const name = fields[index]!;
      if (p.mapGet(seen, name)) bad(`the header names the column ${p.stringify(name)} twice`);
      p.mapSet(seen, name, true);
    }
    lastHeader = key;
    lastCount = fields.length;
    lastNamed = fields.length > SHAPE_MAX ? slowNamed(fields) : fastNamed(fields);
    return lastNamed;
  }

  function fastNamed(names: string[]): Named {
    let literal = "";
    for (let index = 0; index < names.length; index++) {
      literal += `[${p.stringify(names[index])}]: fields[${index}] ?? "",`;
    }
    return p.Function("fields", `"use strict"; return {${literal}};`) as unknown as Named;
  }

  function slowNamed(names: string[]): Named {
    return (fields) => {
      const record = {};
      for (let index = 0; index < names.length; index++) {
        const value = fields[index] ?? "";
        p.defineProperty(record, names[index]!, {
          value,
          writable: true,
          enumerable: true,
          configurable: true,
        });
      }
      return record;
    };
  }

  return function parseCsv(input, separatorText, header, visit) {
    text = input.text;
    end = input.end;
    at = input.start;
    separator = separatorText;
    separatorUnit = p.charCodeAt(separator, 0);
    let named: Named | undefined;
    let quote = -1;
    while (at < end) {
      const start = at;
      recordStart = start - input.start;
      const found = p.indexOf(text, "\n", at);
      const whole = found >= 0 && found < end;
      const stop = whole ? found : end;
      if (quote < at) quote = nextQuote(at);
      let fields: string[];
      if (quote > stop) {
        const cut = whole && stop > at && p.charCodeAt(text, stop - 1) === CR ? stop - 1 : stop;
        at = stop + 1;
        if (cut === start) continue;
        fields = p.split(p.slice(text, start, cut), separator);
      } else {
        fields = quotedRecord();
      }
      if (header && named === undefined) {
        named = namesOf(fields);
      } else if (named === undefined) {
        visit(fields, recordStart);
      } else {
        if (fields.length > lastCount) {
          bad(`a row has ${fields.length} fields, the header ${lastCount}`);
        }
        visit(named(fields), recordStart);
      }
    }
  };

  /** The next quote of the packet, or a place behind its end. Looks no further, since frames have many packets. */
  function nextQuote(from: number): number {
    const found = p.indexOf(text.length === end ? text : p.slice(text, 0, end), QUOTE, from);
    return found < 0 ? end + 1 : found;
  }
}
