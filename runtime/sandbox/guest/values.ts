/**
 * What a packet's records yielded, by key: folded where the program combines, otherwise kept as JSON text in the order
 * it came, so that a program may go on changing an object it has emitted.
 */
import type { Faults } from "./faults.ts";
import type { Output } from "./output.ts";
import type { Primordials } from "./primordials.ts";

export interface ProgramFunctions {
  readonly map: (record: unknown, context: unknown) => unknown;
  readonly init: ((args: unknown) => unknown) | undefined;
  readonly combine: ((left: unknown, right: unknown) => unknown) | undefined;
  /** reduce(key, values, args) for groups, reduce(value, args) for a value. */
  readonly reduce: ((...args: unknown[]) => unknown) | undefined;
}

export interface Values {
  /** A packet begins. */
  clear(): void;
  /** One value of the program's. */
  add(key: string, value: unknown): void;
  /** Another packet's partial result: a line of `partial`'s. */
  addPartial(line: string): void;
  /** Writes JSON lines {"k":[keys],"v":[values]}: folded values, or an array of all values of a key. */
  partial(): void;
  /** Writes the result: the value, or [[key, value], …] sorted by key. */
  result(groups: boolean, args: unknown): void;
}

export interface ValuesTools {
  readonly faults: Faults;
  readonly output: Output;
  readonly program: ProgramFunctions;
  /** FaultCode. */
  readonly badRecord: number;
}

export function makeValues(p: Primordials, { faults, output, program, badRecord }: ValuesTools): Values {
  const LINE_UNITS = 65536;
  const combines = program.combine !== undefined;
  /** One lookup finds what there is and changes it. */
  let byKey = new p.Map<string, { value: unknown }>();
  /** The key "" apart, since programs that yield one value use no other. */
  let has = false;
  let single: unknown;

  /** JSON text, or a TypeError that says what cannot be JSON. */
  function json(value: unknown, what: string): string {
    if (typeof value === "number") {
      if (!p.isFinite(value)) throw new p.TypeError(`${what} is ${value}, which JSON cannot say`);
      return `${value}`;
    }
    if (typeof value === "bigint") throw new p.TypeError(`${what} is a bigint, which JSON cannot say`);
    if (typeof value === "object" && value !== null && p.isPromise(value)) {
      throw new p.TypeError(`${what} is a promise, but programs are synchronous`);
    }
    const text = p.stringify(value);
    if (text === undefined) throw new p.TypeError(`${what} is ${typeof value}, which JSON cannot say`);
    return text;
  }

  /** A first value as it is kept: as it is where it will be folded, otherwise as JSON text, joined by commas. */
  function first(value: unknown): unknown {
    return combines ? value : json(value, "a value");
  }

  function joined(before: unknown, value: unknown): unknown {
    if (!combines) return (before as string) + "," + json(value, "a value");
    const folded = program.combine!(before, value);
    if (folded === undefined) throw new p.TypeError("combine returned undefined");
    return folded;
  }

  function add(key: string, value: unknown): void {
    if (key === "") {
      single = has ? joined(single, value) : first(value);
      has = true;
      return;
    }
    const cell = p.mapGet(byKey, key);
    if (cell === undefined) p.mapSet(byKey, key, { value: first(value) });
    else cell.value = joined(cell.value, value);
  }

  function valueText(value: unknown): string {
    return combines ? json(value, "what combine returned") : "[" + (value as string) + "]";
  }

  function partial(): void {
    let keys = "";
    let values = "";
    const flush = (): void => {
      if (keys === "") return;
      output.text('{"k":[' + keys + '],"v":[' + values + "]}\n");
      keys = "";
      values = "";
    };
    const write = (value: unknown, key: string): void => {
      const comma = keys === "" ? "" : ",";
      keys += comma + p.stringify(key)!;
      values += comma + valueText(value);
      if (keys.length + values.length > LINE_UNITS) flush();
    };
    if (has) write(single, "");
    p.mapForEach(byKey, (cell, key) => write(cell.value, key));
    flush();
  }

  function addPartial(line: string): void {
    let parsed: { k?: unknown; v?: unknown } | null | undefined;
    try {
      parsed = p.parse(line) as { k?: unknown; v?: unknown } | null;
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
        add(key, value);
        continue;
      }
      if (!p.isArray(value)) return notPartial();
      for (let at = 0; at < value.length; at++) add(key, value[at]);
    }
  }

  function notPartial(): never {
    return faults.fail(badRecord, "the input is not a partial result of this program");
  }

  /** The values of a key as the reduce of groups gets them. */
  function listOf(value: unknown): unknown {
    return combines ? [value] : p.parse("[" + (value as string) + "]");
  }

  function groupText(key: string, value: unknown, args: unknown): string {
    if (program.reduce === undefined) return valueText(value);
    return json(program.reduce(key, listOf(value), args), "what reduce returned");
  }

  function result(groups: boolean, args: unknown): void {
    if (!groups) {
      if (!has) output.text("null");
      else if (program.reduce === undefined) output.text(valueText(single));
      else
        output.text(json(program.reduce(combines ? single : listOf(single), args), "what reduce returned"));
      return;
    }
    const keys: string[] = [];
    let count = 0;
    if (has) keys[count++] = "";
    p.mapForEach(byKey, (_cell, key) => (keys[count++] = key));
    p.sort(keys);
    output.text("[");
    for (let index = 0; index < count; index++) {
      const key = keys[index]!;
      const value = key === "" ? single : p.mapGet(byKey, key)!.value;
      const comma = index === 0 ? "" : ",";
      output.text(comma + "[" + p.stringify(key)! + "," + groupText(key, value, args) + "]");
    }
    output.text("]");
  }

  return {
    clear() {
      if (p.mapSize(byKey) > 0) byKey = new p.Map();
      has = false;
      single = undefined;
    },
    add,
    addPartial,
    partial,
    result,
  };
}
