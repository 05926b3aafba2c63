/**
 * What a packet's records yielded, by key: folded where the program combines, otherwise kept as text in the order it came.
 * A value is taken as a copy, so that combine meets the same kinds of values whether a border lies between two of them or
 * not, and a program may go on changing what it has emitted.
 */
import type { ValueCodec } from "../../program/values.ts";
import type { Faults } from "./faults.ts";
import type { Output } from "./output.ts";
import type { Primordials } from "./primordials.ts";

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

/** What there is for a key. */
interface Cell {
  value: unknown;
  /** How often combine may still change it in place before it is looked through again. */
  unchecked: number;
}

export interface Values {
  /** A packet begins, with a program of its own. */
  begin(program: ProgramFunctions): void;
  /** One value of the program's; `what` says which. */
  add(key: string, value: unknown, what: string): void;
  /** Another packet's partial result: a line of `partial`'s. */
  addPartial(line: string): void;
  /** Writes lines {"k":[keys],"v":[values]}: folded values, or an array of all values of a key. */
  partial(): void;
  /** Writes the result: the value, or [[key, value], …]. */
  result(groups: boolean, args: unknown): void;
}

export interface ValuesTools {
  readonly faults: Faults;
  readonly output: Output;
  readonly codec: ValueCodec;
  /** Whether the program combines. */
  readonly combines: boolean;
  /** FaultCode. */
  readonly badRecord: number;
}

export function makeValues(p: Primordials, tools: ValuesTools): Values {
  const { faults, output, codec, combines, badRecord } = tools;
  const LINE_UNITS = 65536;
  const NODES_SMALL = 64;
  const COMBINED = "combine returned";
  const REDUCED = "reduce returned";
  let program: ProgramFunctions;
  /** One lookup finds what there is and changes it. */
  let byKey = new p.Map<string, Cell>();
  /** The key "" apart, since programs that yield one value use no other. */
  let single: Cell | undefined;

  /** A first value as it is kept: a copy where it will be folded, otherwise text, joined by commas. */
  function first(value: unknown, what: string): Cell {
    return { value: combines ? codec.copy(value, what) : codec.encode(value, what), unchecked: 0 };
  }

  function join(cell: Cell, value: unknown, what: string): void {
    const { value: before } = cell;
    if (!combines) {
      cell.value = (before as string) + "," + codec.encode(value, what);
      return;
    }
    const folded = program.combine!(before, codec.copy(value, what));
    if (folded === undefined) throw new p.TypeError("combine returned undefined");
    // What is large and folded in place is looked through once for as many times as it has parts, and at the packet's end:
    // each time would take as long as all that was folded. What combine puts in and takes out again between two looks is seen
    // by nobody, and follows from the packet like all else.
    if (folded === before && cell.unchecked > 0) {
      cell.unchecked--;
      return;
    }
    cell.value = codec.copy(folded, COMBINED);
    const nodes = codec.nodes();
    cell.unchecked = nodes > NODES_SMALL ? nodes : 0;
  }

  function add(key: string, value: unknown, what: string): void {
    const cell = key === "" ? single : p.mapGet(byKey, key);
    if (cell !== undefined) join(cell, value, what);
    else if (key === "") single = first(value, what);
    else p.mapSet(byKey, key, first(value, what));
  }

  function valueText(value: unknown): string {
    return combines ? codec.encode(value, COMBINED) : "[" + (value as string) + "]";
  }

  /** JSON's own function takes a third of the time for the keys of a line together. */
  function partial(): void {
    let keys: string[] = [];
    let keyUnits = 0;
    let values = "";
    const flush = (): void => {
      if (keys.length === 0) return;
      output.text('{"k":' + p.stringify(keys)! + ',"v":[' + values + "]}\n");
      keys = [];
      keyUnits = 0;
      values = "";
    };
    const write = (value: unknown, key: string): void => {
      values += (keys.length === 0 ? "" : ",") + valueText(value);
      keys.push(key);
      keyUnits += key.length + 3;
      if (keyUnits + values.length > LINE_UNITS) flush();
    };
    if (single !== undefined) write(single.value, "");
    p.mapForEach(byKey, (cell, key) => write(cell.value, key));
    flush();
  }

  function addPartial(line: string): void {
    let parsed: { k?: unknown; v?: unknown } | null | undefined;
    try {
      parsed = codec.decode(line) as { k?: unknown; v?: unknown } | null;
    } catch {
      parsed = undefined;
    }
    const keys = parsed?.k;
    const values = parsed?.v;
    if (!p.isArray(keys) || !p.isArray(values) || keys.length !== values.length) return notPartial();
    for (let index = 0; index < keys.length; index++) {
      const key: unknown = keys[index];
      const value: unknown = values[index];
      if (typeof key !== "string") return notPartial();
      if (combines) {
        add(key, value, "a partial result has");
        continue;
      }
      if (!p.isArray(value)) return notPartial();
      for (let at = 0; at < value.length; at++) add(key, value[at], "a partial result has");
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
      if (single === undefined) return "null";
      if (program.reduce === undefined) return valueText(single.value);
      return codec.encode(program.reduce(decoded(single.value), args), REDUCED);
    }
    const list = single === undefined ? "" : single.value;
    if (program.reduce === undefined) return valueText(list);
    return codec.encode(program.reduce(listOf(list), args), REDUCED);
  }

  function groupText(key: string, value: unknown, args: unknown): string {
    if (program.reduce === undefined) return valueText(value);
    return codec.encode(program.reduce(key, listOf(value), args), REDUCED);
  }

  /** How large a group is. */
  function sizeOf(key: string, text: string, by: TopGroups["by"]): number | bigint {
    const value = codec.decode(text);
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
    const keys: string[] = [];
    if (single !== undefined) keys.push("");
    p.mapForEach(byKey, (_cell, key) => keys.push(key));
    p.sort(keys);
    const texts = new p.Map<string, string>();
    const textOf = (key: string): string =>
      groupText(key, (key === "" ? single : p.mapGet(byKey, key))!.value, args);
    const { result: top } = program;
    let shown = keys;
    if (top !== undefined) {
      for (let index = 0; index < keys.length; index++) p.mapSet(texts, keys[index]!, textOf(keys[index]!));
      shown = largest(keys, texts, top);
    }
    output.text("[");
    for (let index = 0; index < shown.length; index++) {
      const key = shown[index]!;
      const text = top === undefined ? textOf(key) : p.mapGet(texts, key)!;
      output.text((index === 0 ? "[" : ",[") + p.stringify(key)! + "," + text + "]");
    }
    output.text("]");
  }

  return {
    begin(fresh) {
      program = fresh;
      if (p.mapSize(byKey) > 0) byKey = new p.Map();
      single = undefined;
    },
    add,
    addPartial,
    partial,
    result(groups, args) {
      if (groups) groupsResult(args);
      else output.text(valueResult(args));
    },
  };
}
