/**
 * What a packet's records yielded, by key: folded where the program combines, otherwise kept as text in the order it came.
 * A value is taken as a copy, so that combine meets the same kinds of values whether a border lies between two of them or
 * not, and a program may go on changing what it has emitted.
 */
import type { ValueCodec } from "../../program/values.ts";
import type { Faults } from "./faults.ts";
import type { KeyTable } from "./key-table.ts";
import type { Output } from "./output.ts";
import type { Partials } from "./partials.ts";
import type { Primordials } from "./primordials.ts";
import type { Runs } from "./runs.ts";

export interface ProgramFunctions {
  readonly map: (record: unknown, context: unknown) => unknown;
  readonly init: ((args: unknown) => unknown) | undefined;
  readonly combine: ((left: unknown, right: unknown) => unknown) | undefined;
  /** reduce(key, values, args) for groups, reduce(value, args) for a value. */
  readonly reduce: ((...args: unknown[]) => unknown) | undefined;
  /** What becomes of groups at the end: the largest of them. */
  readonly result: TopGroups | undefined;
}

/** What top(n, { by }) of the authoring API makes. */
export interface TopGroups {
  readonly top: number;
  readonly by: ((value: unknown, key: string) => unknown) | undefined;
}

export interface Values {
  /** A packet begins, with a program of its own, whose result is partial unless it is for good. */
  begin(program: ProgramFunctions, isForGood: boolean): void;
  /** One value of the program's; `what` says which. */
  add(key: string, value: unknown, what: string): void;
  /** Another packet's partial result: a line of `partial`'s. Or a line that says what to do with those that follow. */
  addPartial(line: string): void;
  /** Writes a partial result: folded values, or an array of all values of a key. */
  partial(): void;
  /** Writes the result: the value, or the groups in their order. */
  result(args: unknown): void;
  /** Writes the groups of sorted runs as one sequence. */
  order(text: string, start: number, end: number): void;
}

export interface ValuesTools {
  readonly faults: Faults;
  readonly output: Output;
  readonly codec: ValueCodec;
  readonly table: KeyTable;
  readonly partials: Partials;
  readonly runs: Runs;
  /** Whether the program combines, */
  readonly combines: boolean;
  /** and whether it yields groups. */
  readonly groups: boolean;
  /** More of them are not folded at once in what is partial. */
  readonly foldedKeysMax: number;
  /** FaultCode. */
  readonly badRecord: number;
}

export function makeValues(p: Primordials, tools: ValuesTools): Values {
  const { faults, output, codec, table, partials, runs, combines, groups, badRecord } = tools;
  const NODES_SMALL = 64;
  /** The key "" stands apart, since programs that yield one value use no other. */
  const SINGLE = -1;
  const NOTHING = {};
  /** Fewer keys are not worth buckets. */
  const HASHED_KEYS_MIN = 1024;
  const COMBINED = "combine returned";
  const REDUCED = "reduce returned";
  const READ = "a partial result has";
  let program: ProgramFunctions;
  /** What there is for each key of the table. */
  let values: unknown[] = [];
  let single: unknown = NOTHING;
  /** How often combine may still change the value in place before it is looked through again, by its key's number. */
  let unchecked = new p.Map<number, number>();
  /** Whether all keys stay until the packet ends. */
  let keepsAll = false;
  let hasSpilled = false;
  /** What of the partial results that are read is taken: one of so many partitions. */
  let partition = 0;
  let partitions = 1;
  let format: "lines" | "run" | "csv" = "lines";

  /** A first value as it is kept: a copy where it will be folded, otherwise text, joined by commas. */
  function first(value: unknown, what: string): unknown {
    return combines ? codec.copy(value, what) : codec.encode(value, what);
  }

  /** What becomes of the value of the key with that number and another one. */
  function joined(index: number, before: unknown, value: unknown, what: string): unknown {
    if (!combines) return (before as string) + "," + codec.encode(value, what);
    const folded = program.combine!(before, typeof value === "number" ? value : codec.copy(value, what));
    if (typeof folded === "number") return folded;
    if (folded === undefined) throw new p.TypeError("combine returned undefined");
    // What is large and folded in place is looked through once for as many times as it has parts, and at the packet's end:
    // each time would take as long as all that was folded. What combine puts in and takes out again between two looks is seen
    // by nobody, and follows from the packet like all else.
    const left = p.mapGet(unchecked, index) ?? 0;
    if (folded === before && left > 0) {
      p.mapSet(unchecked, index, left - 1);
      return before;
    }
    const copy = codec.copy(folded, COMBINED);
    const nodes = codec.nodes();
    if (nodes > NODES_SMALL) p.mapSet(unchecked, index, nodes);
    else if (left > 0) p.mapSet(unchecked, index, 0);
    return copy;
  }

  function add(key: string, value: unknown, what: string): void {
    addHashed(key, key === "" ? 0 : table.hashOf(key), value, what);
  }

  function addHashed(key: string, hash: number, value: unknown, what: string): void {
    if (key === "") {
      single = single === NOTHING ? first(value, what) : joined(SINGLE, single, value, what);
      return;
    }
    const index = table.find(key, hash);
    if (index >= 0) {
      values[index] = joined(index, values[index], value, what);
      return;
    }
    const taken = first(value, what);
    table.add(key, hash);
    values.push(taken);
    if (!keepsAll && values.length >= tools.foldedKeysMax) spill();
  }

  function valueText(value: unknown): string {
    return combines ? codec.encode(value, COMBINED) : "[" + (value as string) + "]";
  }

  /** What there is, as it stands in a partial result. */
  function partOf(value: unknown): number | string {
    const isPlain = combines && typeof value === "number" && value - value === 0;
    return isPlain && (value !== 0 || 1 / value > 0) ? value : valueText(value);
  }

  /** Writes down what was folded so far, and begins anew: where that happens follows from the packet alone. */
  function spill(): void {
    if (single !== NOTHING) partials.addHashed("", table.hashOf(""), partOf(single));
    for (let index = 0; index < values.length; index++)
      partials.addHashed(table.key(index), table.hash(index), partOf(values[index]));
    clear();
    hasSpilled = true;
  }

  function clear(): void {
    table.clear();
    values = [];
    single = NOTHING;
    if (p.mapSize(unchecked) > 0) unchecked = new p.Map();
  }

  function partial(): void {
    if (!groups) {
      if (single === NOTHING) return;
      const part = partOf(single);
      output.text(typeof part === "string" ? part : `${part}`);
      return output.text("\n");
    }
    if (hasSpilled || values.length >= HASHED_KEYS_MIN) spill();
    if (single !== NOTHING) partials.add("", partOf(single));
    for (let index = 0; index < values.length; index++) partials.add(table.key(index), partOf(values[index]));
    partials.end();
  }

  /** See Directive in program/program.ts. */
  function directive(line: string): void {
    if (line === "run" || line === "csv") format = line;
    else if (line === "whole") partitions = 1;
    else {
      const words = p.split(line, " ");
      if (words.length !== 3 || words[0] !== "partition") notPartial();
      partition = p.parseInt(words[1]!, 10);
      partitions = p.parseInt(words[2]!, 10);
    }
  }

  /** The integer that a line is, not negative, as most sums are; -1 of any other. JSON's own way takes longer. */
  function integerOf(line: string): number {
    const digits = line.length;
    if (digits < 1 || digits > 15) return -1;
    let value = 0;
    for (let at = 0; at < digits; at++) {
      const digit = p.charCodeAt(line, at) - 0x30;
      if (digit < 0 || digit > 9 || (digit === 0 && value === 0 && digits > 1)) return -1;
      value = value * 10 + digit;
    }
    return value;
  }

  /** What a line of a partial result says. */
  function parsed(line: string): unknown {
    try {
      return codec.decode(line);
    } catch {
      return notPartial();
    }
  }

  function addPartial(line: string): void {
    if (groups) return p.charCodeAt(line, 0) === 0x7b ? addGroups(parsed(line)) : directive(line);
    const integer = combines ? integerOf(line) : -1;
    addFrom("", 0, integer >= 0 ? integer : parsed(line));
  }

  /** Adds what a partial result has of a key. */
  function addFrom(key: string, hash: number, value: unknown): void {
    if (combines) return addHashed(key, hash, value, READ);
    if (!p.isArray(value)) return notPartial();
    for (let at = 0; at < value.length; at++) addHashed(key, hash, value[at], READ);
  }

  function addGroups(line: unknown): void {
    const parts = line as { k?: unknown; v?: unknown } | null;
    const keys = parts?.k;
    const given = parts?.v;
    if (!p.isArray(keys) || !p.isArray(given) || keys.length !== given.length) return notPartial();
    for (let index = 0; index < keys.length; index++) {
      const key: unknown = keys[index];
      if (typeof key !== "string") return notPartial();
      const hash = table.hashOf(key);
      if (partitions > 1 && ((hash >>> 24) * partitions) >>> 8 !== partition) continue;
      addFrom(key, hash, given[index]);
    }
  }

  function notPartial(): never {
    return faults.fail(badRecord, "the input is not a partial result of this program");
  }

  /** The values of a key, or of a program without combine, as reduce gets them. */
  function listOf(value: unknown): unknown {
    if (combines) return [decoded(value)];
    return codec.decode("[" + (value as string) + "]");
  }

  /** What reduce gets is what it would get from elsewhere. */
  function decoded(value: unknown): unknown {
    return codec.copy(value, COMBINED);
  }

  function valueResult(args: unknown): string {
    if (combines) {
      if (single === NOTHING) return "null";
      if (program.reduce === undefined) return valueText(single);
      return codec.encode(program.reduce(decoded(single), args), REDUCED);
    }
    const list = single === NOTHING ? "" : single;
    if (program.reduce === undefined) return valueText(list);
    return codec.encode(program.reduce(listOf(list), args), REDUCED);
  }

  function groupText(key: string, value: unknown, args: unknown): string {
    if (program.reduce !== undefined)
      return codec.decimal(codec.encode(program.reduce(key, listOf(value), args), REDUCED));
    const text = valueText(value);
    return typeof value === "number" ? text : codec.decimal(text);
  }

  /** How large a group is. */
  function sizeOf(key: string, text: string, by: TopGroups["by"]): number | bigint {
    const value = codec.decode(text, true);
    const size: unknown = by === undefined ? value : by(value, key);
    if (typeof size === "bigint" || (typeof size === "number" && size === size)) return size;
    const what = by === undefined ? "its value" : "what by returned";
    const kind = typeof size === "number" ? "NaN" : `a ${typeof size}`;
    throw new p.TypeError(
      `top cannot compare the group ${p.stringify(key)}: ${what} is ${kind}, not a number`,
    );
  }

  /** The keys of the largest groups, the largest first; where two are as large, the one whose key is first. */
  function largest(keys: string[], texts: ReadonlyMap<string, string>, { top, by }: TopGroups): string[] {
    const sizes = new p.Map<string, number | bigint>();
    for (let index = 0; index < keys.length; index++) {
      const key = keys[index]!;
      p.mapSet(sizes, key, sizeOf(key, p.mapGet(texts as Map<string, string>, key)!, by));
    }
    const rank = (a: string, b: string): number => {
      const left = p.mapGet(sizes, a)!;
      const right = p.mapGet(sizes, b)!;
      if (left > right) return -1;
      // Sorting is stable, and the keys are in their order.
      return left < right ? 1 : 0;
    };
    const ranked = p.sort(keys, rank);
    if (ranked.length > top) ranked.length = top;
    return ranked;
  }

  function groupsResult(args: unknown): void {
    const { result: top } = program;
    const order = table.sorted();
    runs.begin(format, true);
    if (top === undefined) {
      if (single !== NOTHING) runs.group("", groupText("", single, args));
      for (let at = 0; at < order.length; at++) {
        const key = table.key(order[at]!);
        runs.group(key, groupText(key, values[order[at]!], args));
      }
    } else {
      const keys: string[] = [];
      const texts = new p.Map<string, string>();
      const note = (key: string, value: unknown): void => {
        keys.push(key);
        p.mapSet(texts, key, groupText(key, value, args));
      };
      if (single !== NOTHING) note("", single);
      for (let at = 0; at < order.length; at++) note(table.key(order[at]!), values[order[at]!]);
      const shown = largest(keys, texts, top);
      // What a run has is ranked where all of them come together.
      if (format === "run") p.sort(shown);
      for (let index = 0; index < shown.length; index++)
        runs.group(shown[index]!, p.mapGet(texts, shown[index]!)!);
    }
    runs.end();
  }

  function order(text: string, start: number, end: number): void {
    const { format: wanted, from, to, start: first } = runs.head(text, start, end);
    const { result: top } = program;
    runs.begin(wanted, from === null);
    const keys: string[] = [];
    const texts = new p.Map<string, string>();
    runs.merge(text, first, end, (key, line) => {
      if ((from !== null && key < from) || (to !== null && key >= to)) return;
      if (top === undefined) {
        runs.line(key, p.slice(text, line.start, line.end), line.value - line.start);
        return;
      }
      keys.push(key);
      p.mapSet(texts, key, p.slice(text, line.value + 1, line.end - 2));
    });
    if (top !== undefined) {
      const shown = largest(keys, texts, top);
      for (let index = 0; index < shown.length; index++)
        runs.group(shown[index]!, p.mapGet(texts, shown[index]!)!);
    }
    runs.end();
  }

  return {
    begin(fresh, isForGood) {
      program = fresh;
      keepsAll = isForGood || !groups;
      hasSpilled = false;
      partitions = 1;
      format = "lines";
      clear();
      partials.begin();
    },
    add,
    addPartial,
    partial,
    result(args) {
      if (groups) groupsResult(args);
      else output.text(valueResult(args));
    },
    order,
  };
}
