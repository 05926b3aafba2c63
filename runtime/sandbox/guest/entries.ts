/** What a packet runs, by entry: the program's map over records, or its combine and reduce over partial results. */
import type { Blocks } from "./blocks.ts";
import type { Freeze } from "./freeze.ts";
import type { Kernels } from "./kernels.ts";
import type { Output } from "./output.ts";
import type { Primordials } from "./primordials.ts";
import type { PacketInput, Place, ReadRecords, Visit } from "./readers.ts";
import type { ProgramFunctions, Values } from "./values.ts";
import type { GivenFile } from "../process/protocol.ts";
import type { Entry } from "../../program/program.ts";
import type { Yields } from "../../contracts/jobs.ts";

export type RunEntry = (input: PacketInput) => void;

export interface EntryTools {
  readonly entry: Entry;
  readonly yields: Yields;
  /** The program, fresh for a packet. */
  readonly program: () => ProgramFunctions;
  readonly args: unknown;
  readonly files: readonly GivenFile[];
  readonly blocks: Blocks;
  readonly read: ReadRecords;
  readonly place: Place;
  readonly values: Values;
  readonly kernels: Kernels;
  readonly output: Output;
  readonly freeze: Freeze;
  /** Fails the packet, or the frame where it has ended: something was yielded too late to belong to a record. */
  readonly late: (sentence: string) => never;
}

export function makeEntry(p: Primordials, tools: EntryTools): RunEntry {
  const { entry, yields, args, read, place, values, kernels, output } = tools;
  let program: ProgramFunctions;
  let state: unknown;
  let index = 0;
  let ownLength = 0;
  let files: object | undefined;
  /** Whether map is being called, and nothing else of the program within it. */
  let isMapping = false;

  function checkMapping(what: string): void {
    if (!isMapping)
      tools.late(`TypeError: ${what} was called after the call of map that it was given to had ended`);
  }

  function emit(key: string, value: unknown): void {
    checkMapping("emit");
    if (yields === "bytes") throw new p.TypeError('emit is for programs that yield "groups"; use write');
    if (yields === "value")
      throw new p.TypeError('emit is for programs that yield "groups"; return the value');
    if (typeof key !== "string") throw new p.TypeError(`emit takes a string as its key, not ${typeof key}`);
    if (value === undefined && arguments.length < 2) throw new p.TypeError("emit was called without a value");
    // What stands in a value, and combine, are the program's too, and may not emit.
    isMapping = false;
    try {
      values.add(key, value, "emit was given");
    } finally {
      isMapping = true;
    }
  }

  function write(part: unknown): void {
    checkMapping("write");
    if (yields !== "bytes") throw new p.TypeError('write is for programs that yield "bytes"');
    writePart(part, "write takes a Uint8Array or a string");
  }

  function writePart(part: unknown, otherwise: string): void {
    if (typeof part === "string") return output.text(part);
    const kind = typeof part === "object" && part !== null ? p.arrayKind(part) : undefined;
    if (kind !== "Uint8Array") {
      throw new p.TypeError(
        p.isPromise(part) ? "map returned a promise, but programs are synchronous" : otherwise,
      );
    }
    output.bytes(part as Uint8Array, p.bytesLength(part as Uint8Array));
  }

  /** New to each packet, as what is read of them is. */
  function filesOf(): object {
    const all = {};
    for (let at = 0; at < tools.files.length; at++) {
      const { name, length } = tools.files[at]!;
      const value = tools.blocks.file({ origin: -1 - at, from: 0, length, staged: undefined });
      p.defineProperty(all, name, { value, enumerable: true });
    }
    return p.freeze(all);
  }

  const context = tools.freeze.deep({
    args,
    get files() {
      return (files ??= filesOf());
    },
    get state() {
      return state;
    },
    get offset() {
      return place.offset();
    },
    get index() {
      return index;
    },
    get ownLength() {
      return ownLength;
    },
    emit,
    write,
  });

  const visit: Visit = (record, position, own) => {
    place.move(position);
    ownLength = own;
    isMapping = true;
    const value = program.map(record, context);
    isMapping = false;
    if (value !== undefined) {
      if (yields === "value") values.add("", value, "map returned");
      else if (yields === "bytes") writePart(value, "map returned neither a Uint8Array nor a string");
      else if (p.isPromise(value))
        throw new p.TypeError("map returned a promise, but programs are synchronous");
      else throw new p.TypeError("map returned a value beside what it emits, which would be lost");
    }
    index++;
  };

  /** As far as the first kernel that map calls: of each record, what it does besides counts for nothing. */
  const estimate: Visit = (record, position, own) => {
    place.move(position);
    ownLength = own;
    isMapping = true;
    kernels.estimate(() => program.map(record, context));
    isMapping = false;
    index++;
  };

  function begin(): void {
    isMapping = false;
    files = undefined;
    program = tools.program();
    values.begin(program, entry === "finish");
  }

  function readAll(input: PacketInput, each: Visit): void {
    begin();
    index = 0;
    state = program.init === undefined ? undefined : program.init(args);
    if (p.isPromise(state)) throw new p.TypeError("init returned a promise, but programs are synchronous");
    read(input, each);
    place.endOfText();
    place.move(-1);
    state = undefined;
  }

  function map(input: PacketInput): void {
    readAll(input, visit);
    if (yields !== "bytes") values.partial();
  }

  function estimateAll(input: PacketInput): void {
    const start = output.length();
    // Of a packet that failed.
    kernels.takeEstimates();
    readAll(input, estimate);
    output.cut(start);
    output.text(p.stringify(kernels.takeEstimates())!);
  }

  /** Partial results are JSON lines; bytes have no other partial result than themselves. */
  function gather({ text, start, end }: PacketInput): void {
    begin();
    place.endOfText();
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
    case "estimate":
      return estimateAll;
    case "order":
      return ({ text, start, end }) => {
        begin();
        place.endOfText();
        values.order(text, start, end);
      };
    case "merge":
    case "finish":
      if (yields === "bytes") return ({ bytes, byteLength }) => output.bytes(bytes, byteLength);
      return (input) => {
        gather(input);
        if (entry === "merge") values.partial();
        else values.result(args);
      };
    case "scan":
      throw new p.Error("a scan runs without a program");
  }
}
