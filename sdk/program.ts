/**
 * The authoring API: what a program imports from "packetfs". It is bundled into the program and runs inside the sandbox,
 * so it imports nothing that is left at run time.
 *
 * A program is a module whose default export is made by `defineProgram`. It says what a record of the input is, what to
 * do with one (`map`), and how results become one (`combine`, `reduce`). PacketFS cuts files into splits, runs `map` over
 * the records of each split wherever its bytes are, combines what comes out there, and merges the rest.
 *
 *   import { defineProgram, lines } from "packetfs";
 *
 *   export default defineProgram({
 *     input: lines(),
 *     map: (line) => line.length,
 *     combine: (a: number, b: number) => Math.max(a, b),
 *   });
 *
 * Programs are deterministic: no clock, no randomness but a seeded one, no files, no network. What they yield must
 * survive JSON, but for the bytes that `context.write` takes.
 */
import type { ProgramLimits } from "../runtime/program/program.ts";
import type { ColumnType, ReaderSpec } from "../runtime/program/readers.ts";

/** Carries the type of a reader's records; never set. */
declare const record: unique symbol;

/** Carries the types of a program's arguments and of its job's value; never set. */
declare const job: unique symbol;

interface JobTypes<Args, Value> {
  readonly [job]?: { readonly args: Args; readonly value: Value };
}

/** What `context.args` of the program is. */
export type JobArgs<Program> = Program extends JobTypes<infer Args, unknown> ? Args : unknown;
/** What the program's job gives as its value: see `PacketFS.run`. */
export type JobValue<Program> = Program extends JobTypes<unknown, infer Value> ? Value : unknown;

/** How the bytes of a file become records of type `Rec`. */
export type Reader<Rec> = ReaderSpec & { readonly [record]?: Rec };

/** What `map` gets beside the record. */
export interface ProgramContext<Args, State> {
  /** The JSON value that the job was started with. */
  readonly args: Args;
  /** What `init` returned; one for all records of a split. */
  readonly state: State;
  /** Where the record begins: bytes from the start of its file. */
  readonly offset: number;
  /** The number of the record in its split, from 0. */
  readonly index: number;
}

export interface GroupsContext<Args, State, Value> extends ProgramContext<Args, State> {
  /** Adds a value under a key. Values of one key are combined within the split, and again between splits. */
  readonly emit: (key: string, value: Value) => void;
}

export interface BytesContext<Args, State> extends ProgramContext<Args, State> {
  /** Appends to the split's output; a string is written as UTF-8. */
  readonly write: (output: Uint8Array | string) => void;
}

interface ProgramParts<Rec, State, Args> {
  /** What a record is: `lines()`, `csv({ header: true })` and their neighbours. */
  readonly input: Reader<Rec>;
  /**
   * Called once per split, before its first record; what it returns is `context.state`. Annotate its parameter to give
   * `args` a type: `init: (args: { pattern: string }) => new RegExp(args.pattern)`.
   */
  readonly init?: (args: Args) => State;
  /** What one packet may use: by default 10 s, 256 MiB of memory, 64 MiB of output and 16 KiB of console output. */
  readonly limits?: Partial<ProgramLimits>;
}

/** A job gives one value: what `map` returned for every record, folded by `combine`; null when it returned nothing. */
export interface ValueProgram<Rec, Value, State, Args, Result>
  extends ProgramParts<Rec, State, Args>, JobTypes<Args, Result | null> {
  readonly yields?: "value";
  /** Undefined means that the record adds nothing. */
  readonly map: (record: Rec, context: ProgramContext<Args, State>) => Value | undefined;
  /** Folds two values into one, and must not mind the grouping: combine(a, combine(b, c)) = combine(combine(a, b), c). */
  readonly combine: (a: Value, b: Value) => Value;
  /** Makes the job's result of the last value. */
  readonly reduce?: (value: Value, args: Args) => Result;
}

/** A job gives a list: what `map` returned, in the order of the input. All of it travels, so it had better be little. */
export interface ListProgram<Rec, Value, State, Args, Result>
  extends ProgramParts<Rec, State, Args>, JobTypes<Args, Result> {
  readonly yields?: "value";
  /** Undefined means that the record adds nothing. */
  readonly map: (record: Rec, context: ProgramContext<Args, State>) => Value | undefined;
  readonly combine?: undefined;
  /** Makes the job's result of the list. */
  readonly reduce?: (values: Value[], args: Args) => Result;
}

/** A job gives pairs of key and value, sorted by key: what `map` emitted. */
export interface GroupsProgram<Rec, Value, State, Args, Result>
  extends ProgramParts<Rec, State, Args>, JobTypes<Args, [key: string, value: Result][]> {
  readonly yields: "groups";
  readonly map: (record: Rec, context: GroupsContext<Args, State, Value>) => void;
  /**
   * Folds two values of one key, and must not mind the grouping. Annotate its parameters to give the values a type:
   * `combine: (a: number, b: number) => a + b`. Without it all values of a key travel to where they are reduced.
   */
  readonly combine?: (a: Value, b: Value) => Value;
  /** Makes a key's result of its values: one value where there is a `combine`, otherwise all that were emitted. */
  readonly reduce?: (key: string, values: Value[], args: Args) => Result;
}

/** A job gives bytes: what `map` wrote or returned, in the order of the input. They are stored as a file. */
export interface BytesProgram<Rec, State, Args>
  extends ProgramParts<Rec, State, Args>, JobTypes<Args, undefined> {
  readonly yields: "bytes";
  readonly map: (record: Rec, context: BytesContext<Args, State>) => Uint8Array | string | void;
}

/** Says what a program is. Returns it unchanged; its use is the types, and that it reads well. */
export function defineProgram<Rec, Value, State = undefined, Args = unknown, Result = Value>(
  program: ValueProgram<Rec, Value, State, Args, Result>,
): ValueProgram<Rec, Value, State, Args, Result>;
export function defineProgram<Rec, Value, State = undefined, Args = unknown, Result = Value[]>(
  program: ListProgram<Rec, Value, State, Args, Result>,
): ListProgram<Rec, Value, State, Args, Result>;
export function defineProgram<Rec, Value, State = undefined, Args = unknown, Result = Value>(
  program: GroupsProgram<Rec, Value, State, Args, Result>,
): GroupsProgram<Rec, Value, State, Args, Result>;
export function defineProgram<Rec, State = undefined, Args = unknown>(
  program: BytesProgram<Rec, State, Args>,
): BytesProgram<Rec, State, Args>;
export function defineProgram(program: unknown): unknown {
  return program;
}

/** Records of `size` bytes each; without a size, all bytes of a split are one record. */
export function bytes(size?: number): Reader<Uint8Array> {
  return size === undefined ? { kind: "bytes" } : { kind: "bytes", size };
}

/** All lines of a split as one record, for programs that scan bytes themselves. No line is cut in two. */
export function blocks(): Reader<Uint8Array> {
  return { kind: "blocks" };
}

/** A line of UTF-8 text without its line end (LF or CRLF). */
export function lines(): Reader<string> {
  return { kind: "lines" };
}

/** A JSON value per line; empty lines are skipped. `T` is believed, not checked. */
export function jsonLines<T = unknown>(): Reader<T> {
  return { kind: "json-lines" };
}

export interface CsvOptions {
  /** The first row names the columns, and records are objects by name. Default true. */
  readonly header?: boolean;
  /** One ASCII character. Default ",". */
  readonly separator?: string;
}

/** Rows of CSV (RFC 4180): objects by column name, or arrays of fields where there is no header. Fields are text. */
export function csv(options: CsvOptions & { readonly header: false }): Reader<string[]>;
export function csv(options?: CsvOptions): Reader<Readonly<Record<string, string>>>;
export function csv(options: CsvOptions = {}): ReaderSpec {
  return { kind: "csv", separator: options.separator ?? ",", header: options.header ?? true };
}

/** The record of `columns(fields)`: 64-bit integers are bigints, every other column a number. */
export type ColumnsRecord<Fields extends Readonly<Record<string, ColumnType>>> = {
  readonly [Name in keyof Fields]: Fields[Name] extends "u64" | "i64" ? bigint : number;
};

/** Fixed-size binary rows, little-endian, the fields back to back in the order given: `columns({ id: "u32", x: "f64" })`. */
export function columns<const Fields extends Readonly<Record<string, ColumnType>>>(
  fields: Fields,
): Reader<ColumnsRecord<Fields>> {
  return { kind: "columns", fields: Object.entries(fields).map(([name, type]) => ({ name, type })) };
}
