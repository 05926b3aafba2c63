/** What a packet runs, by entry: the program's map over records, or its combine and reduce over partial results. */
import type { Output } from "./output.ts";
import type { Primordials } from "./primordials.ts";
import type { PacketInput, Place, ReadRecords, Visit } from "./readers.ts";
import type { ProgramFunctions, Values } from "./values.ts";
import type { Entry } from "../../program/program.ts";
import type { Yields } from "../../contracts/jobs.ts";

export type RunEntry = (input: PacketInput) => void;

export interface EntryTools {
  readonly entry: Entry;
  readonly yields: Yields;
  readonly program: ProgramFunctions;
  readonly args: unknown;
  readonly read: ReadRecords;
  readonly place: Place;
  readonly values: Values;
  readonly output: Output;
}

export function makeEntry(p: Primordials, tools: EntryTools): RunEntry {
  const { entry, yields, program, args, read, place, values, output } = tools;
  let state: unknown;
  let index = 0;

  function emit(key: string, value: unknown): void {
    if (typeof key !== "string") throw new p.TypeError(`emit takes a string as its key, not ${typeof key}`);
    if (yields === "bytes") throw new p.TypeError('emit is for programs that yield "groups"; use write');
    if (yields === "value" && key !== "") throw new p.TypeError('keys are for programs that yield "groups"');
    if (value === undefined) throw new p.TypeError("emit was called without a value");
    values.add(key, value);
  }

  function write(part: unknown): void {
    if (yields !== "bytes") throw new p.TypeError('write is for programs that yield "bytes"');
    if (typeof part === "string") return output.text(part);
    const kind = typeof part === "object" && part !== null ? p.arrayKind(part) : undefined;
    if (kind !== "Uint8Array") throw new p.TypeError("write takes a Uint8Array or a string");
    output.bytes(part as Uint8Array, p.bytesLength(part as Uint8Array));
  }

  const context = p.freeze({
    args,
    get state() {
      return state;
    },
    get offset() {
      return place.offset();
    },
    get index() {
      return index;
    },
    emit,
    write,
  });

  const visit: Visit = (record, position) => {
    place.move(position);
    const value = program.map(record, context);
    if (value !== undefined) {
      if (yields === "bytes") write(value);
      else values.add("", value);
    }
    index++;
  };

  function map(input: PacketInput): void {
    values.clear();
    index = 0;
    state = program.init === undefined ? undefined : program.init(args);
    read(input, visit);
    place.move(-1);
    state = undefined;
    if (yields !== "bytes") values.partial();
  }

  /** Partial results are JSON lines; bytes have no other partial result than themselves. */
  function gather({ text, start, end }: PacketInput): void {
    values.clear();
    for (let at = start; at < end;) {
      const found = p.indexOf(text, "\n", at);
      const stop = found < 0 || found > end ? end : found;
      if (stop > at) values.addPartial(p.slice(text, at, stop));
      at = stop + 1;
    }
  }

  switch (entry) {
    case "map":
      return map;
    case "merge":
    case "finish":
      if (yields === "bytes") return ({ bytes, byteLength }) => output.bytes(bytes, byteLength);
      return (input) => {
        gather(input);
        if (entry === "merge") values.partial();
        else values.result(yields === "groups", args);
      };
    case "scan":
      throw new p.Error("a scan runs without a program");
  }
}
