/**
 * Groups in their order: a finish writes them one after the other, as the result or as a sorted run with its index, and an
 * order makes one sequence of many runs, without a look at the values (program/program.ts says what stands where).
 */
import type { Faults } from "./faults.ts";
import type { Output } from "./output.ts";
import type { Primordials } from "./primordials.ts";

export type GroupsFormat = "lines" | "run" | "csv";

export interface Runs {
  /** The groups that follow are written so; `isFirst` says whether none of other packets stand before them. */
  begin(format: GroupsFormat, isFirst: boolean): void;
  /** `value` is its text. */
  group(key: string, value: string): void;
  end(): void;
  /** Gives the groups of all runs in the text in the order of their keys. Fails the packet where they are none. */
  merge(
    text: string,
    start: number,
    end: number,
    visit: (
      key: string,
      line: { readonly start: number; readonly value: number; readonly end: number },
    ) => void,
  ): void;
  /** What an order's input says that it is to be, and where its first run begins. */
  head(text: string, start: number, end: number): OrderHead;
  /** Writes a line as it stands in a run. */
  line(key: string, text: string, valueAt: number): void;
}

export interface OrderHead {
  readonly format: GroupsFormat;
  readonly from: string | null;
  readonly to: string | null;
  readonly start: number;
}

export interface RunsTools {
  readonly faults: Faults;
  readonly output: Output;
  readonly blockUnits: number;
  readonly trailerBytes: number;
  /** FaultCode. */
  readonly badRecord: number;
}

export function makeRuns(p: Primordials, tools: RunsTools): Runs {
  const { faults, output, blockUnits, trailerBytes, badRecord } = tools;
  const RUN = "run\n";
  const QUOTE = 0x22;
  const BACKSLASH = 0x5c;
  const BRACE = 0x7b;
  /** A block has so many times the units of the key that is noted of it: however long keys are, an index is short. */
  const KEY_TIMES = 16;
  let format: GroupsFormat = "lines";
  let began = 0;
  let pending = "";
  /** What is written at once, or is a block of a run. */
  let pendingUnits = blockUnits;
  /** Of a run: the first key of each block, and where it begins. */
  let index: [string, number][] = [];

  function notRuns(): never {
    return faults.fail(badRecord, "the input is not what an order of groups takes in");
  }

  function flush(): void {
    output.text(pending);
    pending = "";
  }

  function write(key: string, line: string): void {
    if (pending === "" && format === "run") {
      index.push([key, output.length() - began]);
      pendingUnits = blockUnits > key.length * KEY_TIMES ? blockUnits : key.length * KEY_TIMES;
    }
    pending += line;
    if (pending.length > pendingUnits) flush();
  }

  function needsQuotes(text: string): boolean {
    for (let at = 0; at < text.length; at++) {
      const unit = p.charCodeAt(text, at);
      if (unit === QUOTE || unit === 0x2c || unit === 0x0a || unit === 0x0d) return true;
    }
    return text === "";
  }

  function field(text: string): string {
    if (!needsQuotes(text)) return text;
    let quoted = '"';
    let at = 0;
    for (let found = p.indexOf(text, '"'); found >= 0; found = p.indexOf(text, '"', at)) {
      quoted += p.slice(text, at, found + 1) + '"';
      at = found + 1;
    }
    return quoted + p.slice(text, at) + '"';
  }

  /** Text, numbers of all kinds and dates as they are, null and undefined as nothing, all else as its JSON. */
  function valueField(text: string): string {
    if (text === "null") return "";
    const first = p.charCodeAt(text, 0);
    if (first !== QUOTE && first !== BRACE) return field(text);
    const value = p.parse(text) as string | { readonly $?: unknown; readonly v?: unknown };
    if (typeof value === "string") return field(value);
    const { $: kind, v } = value;
    if (kind === "undefined" || (kind === "Date" && typeof v !== "string")) return "";
    const isWord = kind === "bigint" || kind === "number" || kind === "Date";
    return field(isWord ? (v as string) : text);
  }

  function group(key: string, value: string): void {
    if (format === "csv") write(key, field(key) + "," + valueField(value) + "\n");
    else write(key, "[" + p.stringify(key)! + "," + value + "]\n");
  }

  function end(): void {
    flush();
    if (format !== "run") return;
    const at = output.length();
    output.text(p.stringify(index)! + "\n");
    let digits = `${output.length() - at}`;
    while (digits.length < trailerBytes) digits = "0" + digits;
    output.text(digits);
    index = [];
  }

  /** Where the key of a line ends, behind its quotes. */
  function keyEnd(text: string, start: number, limit: number): number {
    for (let at = start + 2; at < limit; at++) {
      const unit = p.charCodeAt(text, at);
      if (unit === BACKSLASH) at++;
      else if (unit === QUOTE) return at + 1;
    }
    return notRuns();
  }

  function keyOf(text: string, start: number, behind: number): string {
    const key = p.slice(text, start + 2, behind - 1);
    if (p.indexOf(key, "\\") < 0) return key;
    return p.parse(p.slice(text, start + 1, behind)) as string;
  }

  function head(text: string, start: number, limit: number): OrderHead {
    let at = start;
    let wanted: GroupsFormat = "lines";
    let from: string | null = null;
    let to: string | null = null;
    while (at < limit) {
      const found = p.indexOf(text, "\n", at);
      if (found < 0 || found >= limit) notRuns();
      const line = p.slice(text, at, found);
      if (line === "run") break;
      at = found + 1;
      if (line === "csv") {
        wanted = "csv";
        continue;
      }
      const range = p.parse(line) as { readonly from: string | null; readonly to: string | null };
      from = range.from;
      to = range.to;
    }
    return { format: wanted, from, to, start: at };
  }

  function merge(
    text: string,
    start: number,
    limit: number,
    visit: (
      key: string,
      line: { readonly start: number; readonly value: number; readonly end: number },
    ) => void,
  ): void {
    const runs: { key: string; start: number; value: number; end: number; readonly limit: number }[] = [];
    /** Takes a run's next line; false where there is none. */
    const next = (run: (typeof runs)[number]): boolean => {
      run.start = run.end;
      if (run.start >= run.limit) return false;
      run.value = keyEnd(text, run.start, run.limit);
      run.key = keyOf(text, run.start, run.value);
      const found = p.indexOf(text, "\n", run.value);
      if (found < 0 || found >= run.limit) notRuns();
      run.end = found + 1;
      return true;
    };
    // A heap, the run with the first key on top.
    const sink = (from: number): void => {
      const run = runs[from]!;
      let at = from;
      for (;;) {
        let child = at * 2 + 1;
        if (child >= runs.length) break;
        if (child + 1 < runs.length && runs[child + 1]!.key < runs[child]!.key) child++;
        if (run.key <= runs[child]!.key) break;
        runs[at] = runs[child]!;
        at = child;
      }
      runs[at] = run;
    };
    for (let at = start; at < limit;) {
      const found = p.indexOf(text, "\n" + RUN, at);
      const stop = found < 0 || found >= limit ? limit : found + 1;
      const run = { key: "", start: 0, value: 0, end: at + RUN.length, limit: stop };
      if (next(run)) runs.push(run);
      at = stop;
    }
    for (let at = runs.length >>> 1; at >= 0; at--) if (at < runs.length) sink(at);
    while (runs.length > 0) {
      const run = runs[0]!;
      visit(run.key, run);
      if (next(run)) sink(0);
      else {
        const last = runs.pop()!;
        if (runs.length > 0) {
          runs[0] = last;
          sink(0);
        }
      }
    }
  }

  return {
    begin(wanted, isFirst) {
      format = wanted;
      began = output.length();
      pending = wanted === "csv" && isFirst ? "key,value\n" : "";
      pendingUnits = blockUnits;
      index = [];
    },
    group,
    end,
    merge,
    head,
    line(key, line, valueAt) {
      if (format === "lines") write(key, line);
      else group(key, p.slice(line, valueAt + 1, line.length - 2));
    },
  };
}
