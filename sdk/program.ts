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
 * What a program may count on:
 *
 * A packet starts clean. Each split (and each merge) evaluates the module anew, built-ins are frozen, and arguments cannot
 * be written to, so nothing that one split left can be seen by another: `let n = 0` in a module is 0 again for each. The
 * clock stands still and Math.random follows from what the split reads, so an answer depends on the program, its arguments
 * and its input alone, however often and wherever it is computed.
 *
 * Data is made once. JSON that a program imports, and what it wraps in `shared`, costs nothing per split.
 *
 * Values arrive as they were, or not at all. What `map` returns, `emit` is given and `combine` and `reduce` return is
 * carried exactly, at any depth: `new Uint32Array(256)` is one in `job.value` too, and so are Map, Set, Date, bigints of
 * any size, NaN, Infinity, −0 and undefined. A promise, a function, a symbol, an instance of a class, an array with holes
 * and a cycle are faults that say where, and so is what a copy would be without: a symbol as a key, a property that is not
 * enumerable, and a property of an array beside its elements (give `[...match]`, not a match): `map returned a value that
 * cannot be carried: $.sum is a function`. Where a value is shown as JSON, what JSON lacks is an object whose "$" names it:
 * `{"$":"number","v":"Infinity"}`, `{"$":"bigint","v":"10"}`, `{"$":"Uint32Array","v":[0,1]}`,
 * `{"$":"Uint8Array","v":"00ff"}`, `{"$":"Map","v":[["a",1]]}`.
 *
 * Three things are the machine's, and no program shall let its answer depend on them. How deep calls may go before a
 * RangeError follows from how V8 compiled them: do not catch that error. The bits of a NaN do too: do not read them by way of a
 * DataView or another view of a Float64Array (as a value, NaN is one). And how much memory is left: a buffer that cannot be
 * allocated fails the packet as PFS_PROGRAM_MEMORY_LIMIT, though the program catches the error.
 *
 * Everything happens at once. Programs are synchronous: what is emitted or written when no `map` runs, and a promise
 * that is rejected and nobody handles, fail their packet. What a promise of a packet has still to do is done before the next
 * packet begins.
 */
import type { ProgramLimits } from "../runtime/program/program.ts";
import type { Dimension, ElementType } from "../runtime/program/kernel/kernel.ts";
import type { ColumnType, RaggedRows, ReaderSpec, TextEncoding } from "../runtime/program/readers.ts";
import type { Block, Matrix, RowBlock, StoredFile } from "./blocks.ts";
import type { TensorOptions, TensorType } from "./kernel.ts";

export { defineKernel, f32, i32, u32 } from "./kernel.ts";
export type { Block, Matrix, RowBlock, StoredFile } from "./blocks.ts";
export type { Dimensions, KernelFunction, KernelScope, TensorOptions, TensorType } from "./kernel.ts";
export { wasmProgram } from "./wasm-program.ts";
export type { WasmArgument, WasmModule, WasmProgram, WasmSignature } from "./wasm-program.ts";

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
  /**
   * Stored files that the job was given beside its input, by the names that it was given them by:
   * `pfs run product.ts a.f32 --with b=b.f32`, `pfs.run(program, "a.f32", { files: { b: "b.f32" } })`.
   */
  readonly files: Readonly<Record<string, StoredFile>>;
  /** What `init` returned; one for all records of a split. */
  readonly state: State;
  /** Where the record begins: bytes from the start of its file. */
  readonly offset: number;
  /** The number of the record in its split, from 0. */
  readonly index: number;
  /**
   * How much of a record of text or bytes is its own, in its own units: `record.length`, or less where the reader has
   * `overlapBytes`. Whatever begins behind it belongs to records that follow. 0 for records that are neither.
   */
  readonly ownLength: number;
}

export interface GroupsContext<Args, State, Value> extends ProgramContext<Args, State> {
  /** Adds a value under a key. Values of one key are combined within the split, and again between splits. */
  readonly emit: (key: string, value: Value) => void;
}

/** Which groups a job gives: see `top`. */
export interface Top {
  readonly top: number;
}
export interface TopBy<Value> extends Top {
  readonly by: (value: Value, key: string) => number | bigint;
}

/** Nothing, where what was computed would be lost: a promise too. */
type Nothing = void | undefined;

/** Refuses what is not there yet. What never comes, because it throws, is refused by nobody. */
type Now<Value, Name extends string> = [Value] extends [never]
  ? unknown
  : Value extends PromiseLike<unknown>
    ? { readonly [name in Name]: "programs are synchronous: no promise" }
    : unknown;

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
  /**
   * What one packet may use: by default 10 s of CPU time, 256 MiB of memory, 64 MiB of output and 16 KiB of console output. Its calls of
   * kernels may take four times its CPU time of a GPU's own time, all together, or as long as one of them may.
   */
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
  /** Returns nothing: it emits. */
  readonly map: (record: Rec, context: GroupsContext<Args, State, Value>) => Nothing;
  /**
   * Folds two values of one key, and must not mind the grouping. Annotate its parameters to give the values a type:
   * `combine: (a: number, b: number) => a + b`. Without it all values of a key travel to where they are reduced.
   */
  readonly combine?: (a: Value, b: Value) => Value;
  /** Makes a key's result of its values: one value where there is a `combine`, otherwise all that were emitted. */
  readonly reduce?: (key: string, values: Value[], args: Args) => Result;
  /** Fewer groups than all: `result: top(10)`. */
  readonly result?: Top | TopBy<Result>;
}

/** A job gives bytes: what `map` wrote or returned, in the order of the input. They are stored as a file. */
export interface BytesProgram<Rec, State, Args>
  extends ProgramParts<Rec, State, Args>, JobTypes<Args, undefined> {
  readonly yields: "bytes";
  readonly map: (record: Rec, context: BytesContext<Args, State>) => Uint8Array | string | Nothing;
}

/** A part of a program that is as `Fault`, a sentence, says. */
type Wrong<Name extends string, Fault> = [Fault] extends [string]
  ? { readonly [name in Name]: Fault }
  : unknown;

type PromiseFault<Name extends string, Value> = unknown extends Value
  ? undefined
  : [Value] extends [never]
    ? undefined
    : Value extends PromiseLike<unknown>
      ? `programs are synchronous: ${Name} returns a promise`
      : undefined;

type MapFault<Yields, Gives> = unknown extends Gives
  ? undefined
  : PromiseFault<"map", Gives> extends infer Fault extends string
    ? Fault
    : Yields extends "groups"
      ? [Gives] extends [Nothing]
        ? undefined
        : "map returns a value beside what it emits, which would be lost"
      : Yields extends "bytes"
        ? [Gives] extends [Uint8Array | string | Nothing]
          ? undefined
          : "map returns neither a Uint8Array nor a string"
        : undefined;

type CombineFault<Yields, Gives, Value, Folds> = unknown extends Folds
  ? undefined
  : PromiseFault<"combine", Folds> extends infer Fault extends string
    ? Fault
    : [Folds] extends [Value]
      ? Yields extends "value"
        ? [Exclude<Gives, PromiseLike<unknown> | undefined>] extends [Value]
          ? undefined
          : "combine does not take what map returns"
        : undefined
      : "combine returns another type than it takes";

type ResultFault<Yields, Picks> = unknown extends Picks
  ? undefined
  : Yields extends "groups"
    ? Picks extends Top
      ? undefined
      : "result is top(n) or top(n, { by })"
    : "result is for programs that yield groups";

/** A program of any kind, to be told what it lacks. */
interface AnyProgram<Rec, Gives, State, Args, Value, Folds, Result, Picks, Yields> extends ProgramParts<
  Rec,
  State,
  Args
> {
  readonly yields?: Yields;
  readonly map: (
    record: Rec,
    context: GroupsContext<Args, State, Value> & BytesContext<Args, State>,
  ) => Gives;
  readonly combine?: (a: Value, b: Value) => Folds;
  readonly reduce?: (...args: never[]) => Result;
  readonly result?: Picks | Top;
}

/** Says what a program is. Returns it unchanged; its use is the types, and that it reads well. */
export function defineProgram<Rec, Value, State = undefined, Args = unknown, Result = Value>(
  program: ValueProgram<Rec, Value, State, Args, Result> &
    Now<Value, "map"> &
    Now<State, "init"> &
    Now<Result, "reduce">,
): ValueProgram<Rec, Value, State, Args, Result>;
export function defineProgram<Rec, Value, State = undefined, Args = unknown, Result = Value[]>(
  program: ListProgram<Rec, Value, State, Args, Result> &
    Now<Value, "map"> &
    Now<State, "init"> &
    Now<Result, "reduce">,
): ListProgram<Rec, Value, State, Args, Result>;
export function defineProgram<Rec, Value, State = undefined, Args = unknown, Result = Value>(
  program: GroupsProgram<Rec, Value, State, Args, Result> & Now<State, "init"> & Now<Result, "reduce">,
): GroupsProgram<Rec, Value, State, Args, Result>;
export function defineProgram<Rec, State = undefined, Args = unknown>(
  program: BytesProgram<Rec, State, Args> & Now<State, "init">,
): BytesProgram<Rec, State, Args>;
/** Takes nothing: a compiler tells of the last overload why a program is none, and this one says it in words. */
export function defineProgram<
  Rec,
  Gives,
  State,
  Args,
  Value,
  Folds,
  Result,
  Picks,
  Yields extends "value" | "groups" | "bytes" = "value",
>(
  program: Wrong<"init", PromiseFault<"init", State>> &
    Wrong<"map", MapFault<Yields, Gives>> &
    Wrong<"combine", CombineFault<Yields, Gives, Value, Folds>> &
    Wrong<"reduce", PromiseFault<"reduce", Result>> &
    Wrong<"result", ResultFault<Yields, Picks>> &
    AnyProgram<Rec, Gives, State, Args, Value, Folds, Result, Picks, Yields> &
    (unknown extends Gives ? unknown : { readonly "no kind of program has these types": never }),
): never;
export function defineProgram(program: unknown): unknown {
  return program;
}

/**
 * The `n` largest groups, the largest first, instead of all groups by their keys: `result: top(10)`. Groups are compared by
 * their values (what `reduce` returned, where there is one), or by the number that `by` makes of a value and its key; of two
 * that are as large, the one whose key comes first is the larger. NaN, and what is no number, is a fault. It is applied when
 * everything is combined, so the answer does not depend on how the input was split.
 */
export function top(n: number): Top;
export function top<Value>(
  n: number,
  options: { readonly by: (value: Value, key: string) => number | bigint },
): TopBy<Value>;
export function top(
  n: number,
  options: { readonly by?: (value: never, key: string) => number | bigint } = {},
): Top {
  return { top: n, ...options };
}

/** A typed array that nobody can write to. `at` is as fast as an index into an array, an index is slower. */
export interface SharedArray<Element> extends Iterable<Element> {
  readonly length: number;
  readonly [index: number]: Element;
  at(index: number): Element | undefined;
  indexOf(element: Element, from?: number): number;
}

/** A Map that nobody can write to. */
export interface SharedMap<Key, Value> extends Iterable<[Key, Value]> {
  readonly size: number;
  get(key: Key): Value | undefined;
  has(key: Key): boolean;
  keys(): MapIterator<Key>;
  values(): MapIterator<Value>;
  entries(): MapIterator<[Key, Value]>;
  forEach(visit: (value: Value, key: Key, map: SharedMap<Key, Value>) => void, self?: unknown): void;
}

/** A Set that nobody can write to. */
export interface SharedSet<Element> extends Iterable<Element> {
  readonly size: number;
  has(element: Element): boolean;
  keys(): SetIterator<Element>;
  values(): SetIterator<Element>;
  entries(): SetIterator<[Element, Element]>;
  forEach(visit: (element: Element, same: Element, set: SharedSet<Element>) => void, self?: unknown): void;
}

type SharedElement<Value> = Value extends BigInt64Array | BigUint64Array
  ? bigint
  : Value extends ArrayBufferView & { readonly BYTES_PER_ELEMENT: number }
    ? number
    : never;

/** A table as packets see it: plain objects and arrays frozen, everything else as something that can only be read. */
export type Shared<Value> = Value extends (...args: never[]) => unknown
  ? never
  : Value extends ReadonlyMap<infer Key, infer Entry>
    ? SharedMap<Shared<Key>, Shared<Entry>>
    : Value extends ReadonlySet<infer Element>
      ? SharedSet<Shared<Element>>
      : Value extends ArrayBufferView
        ? SharedArray<SharedElement<Value>>
        : Value extends object
          ? { readonly [Name in keyof Value]: Shared<Value[Name]> }
          : Value;

/** What a sandbox gives to modules: see bundle.ts. */
declare const $packetfs: { readonly shared: (make: () => unknown) => unknown } | undefined;

/**
 * A table that is made once instead of for each split, and that nobody can write to:
 *
 *   const WEIGHTS = shared(() => new Map(words.map((word, index) => [word, index])));
 *
 * A Map, a Set and a typed array can be read as ever, and copied (`new Map(WEIGHTS)`); what would change them throws, also
 * what `sort` would. It is made while the program is loaded, by an evaluation of the module that no split uses; what `make` throws keeps the
 * program from loading, and what it does beside making a table is seen by no split. It is for the scope of a module, and for
 * data: a function, a promise or an instance of a class in it is a fault that says where, and so is a Date, an ArrayBuffer or
 * a DataView, which could be written to.
 */
export function shared<Value>(make: () => Value): Shared<Value> {
  return (typeof $packetfs === "undefined" ? make() : $packetfs.shared(make)) as Shared<Value>;
}

// Readers. Records are the same whatever the splits are, but for `bytes()` and `blocks()`, whose records are splits. A line, a
// row and what stands between separators have at most 16 MiB (RECORD_BYTES_MAX) with their end, a record of a fixed size 1 MiB.
// Whatever is not as its reader says is PFS_RECORD_INVALID, and every fault about a record names its file, byte and, of text,
// line. A job tells of the first of its records that is bad or that the program throws at, wherever files are split.

export interface OverlapOptions {
  /**
   * How many bytes of what follows a record stand behind it as well, at most 1 MiB and no more than the file has: for what
   * straddles records. `context.ownLength` says where they begin.
   */
  readonly overlapBytes?: number;
}

export interface TextOptions {
  /**
   * "utf-8" (the default), "latin1" (ISO 8859-1: a byte is a character), "utf-16le" or "utf-16be". Bytes that are not of
   * the encoding are a fault that names the first of them, never replaced. A byte order mark at the beginning of a file is
   * left out, and a fault where it is another encoding's; so are gzip, zip, zstd, xz and bzip2, by name.
   */
  readonly encoding?: TextEncoding;
}

/**
 * Records of `size` bytes each, at most 1 MiB; the last one of a file has what is left. Without a size, all bytes of a split
 * are one record.
 *
 * With `overlapBytes`, records overlap. All k-mers of a file, each once:
 *
 *   input: bytes(4096, { overlapBytes: k - 1 }),
 *   map: (record, { emit }) => { for (let at = 0; at + k <= record.length; at++) … }
 *
 * Of a kernel in WGSL, `bytes(["n"])` is an input or output of bytes.
 */
export function bytes(size?: number, options?: OverlapOptions): Reader<Uint8Array>;
export function bytes<const Shape extends readonly Dimension[]>(
  shape: Shape,
  options?: TensorOptions,
): TensorType<"bytes", Shape>;
export function bytes(
  size?: number | readonly Dimension[],
  options: OverlapOptions & TensorOptions = {},
): ReaderSpec | TensorType {
  if (typeof size === "object") return { type: "bytes", shape: size, ...options };
  return size === undefined ? { kind: "bytes", ...options } : { kind: "bytes", size, ...options };
}

/**
 * All lines of a split (they end with LF) as one record, for programs that scan bytes themselves: line ends are in it, a
 * byte order mark at the beginning of the file is not. No line is cut in two.
 */
export function blocks(): Reader<Uint8Array> {
  return { kind: "blocks" };
}

export interface LinesOptions extends TextOptions {
  /**
   * Records are the bytes of lines, and nothing looks at what they say: the encoding says how line ends and the byte order
   * mark look, which are left out. Default false.
   */
  readonly raw?: boolean;
}

/**
 * A line of text without its line end, LF or CRLF; a CR alone ends nothing. The last line needs no end.
 *
 *   lines()                              // UTF-8
 *   lines({ encoding: "utf-16le" })
 *   lines({ raw: true })                 // Uint8Array, whatever the bytes are
 */
export function lines(options: LinesOptions & { readonly raw: true }): Reader<Uint8Array>;
export function lines(options?: LinesOptions): Reader<string>;
export function lines(options: LinesOptions = {}): ReaderSpec {
  return { kind: "lines", ...options };
}

export interface RecordsOptions extends OverlapOptions {
  /** What stands behind each record but the last: 1 to 1,024 bytes, or text that is written in the encoding. */
  readonly separator: string | Uint8Array;
}

/**
 * What stands between separators: bytes, or text where there is an `encoding` (as in `lines`). Between two separators side by
 * side, and before one at the beginning of a file, stands an empty record; behind one at its end stands none. Separators that
 * overlap one another are one: with "\n\n", however many empty lines stand between two paragraphs.
 *
 *   records({ separator: "\n>", encoding: "utf-8" })     // FASTA: the first record still has its ">", the last its line end
 *   records({ separator: new Uint8Array([0]) })
 *
 * With `overlapBytes`, a record goes on with its separator and that many bytes behind it, up to the last whole character:
 * for what is longer than a record. Matches of a pattern across lines, each once:
 *
 *   input: records({ separator: "\n", encoding: "utf-8", overlapBytes: 1000 }),
 *   map: (text, { ownLength }) => [...text.matchAll(pattern)].filter(({ index }) => index < ownLength).length
 */
export function records(options: RecordsOptions & { readonly encoding: TextEncoding }): Reader<string>;
export function records(options: RecordsOptions): Reader<Uint8Array>;
export function records({ separator, ...options }: RecordsOptions & TextOptions): ReaderSpec {
  const separatorBytes =
    typeof separator === "string" ? encoded(separator, options.encoding ?? "utf-8") : separator;
  const hex = Array.from(separatorBytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return { kind: "records", separator: hex, ...options };
}

function encoded(text: string, encoding: TextEncoding): Iterable<number> {
  if (encoding === "utf-8") return new TextEncoder().encode(text);
  return Array.from({ length: text.length }, (_, index) => text.charCodeAt(index)).flatMap((unit) => {
    if (encoding === "latin1") {
      if (unit > 255) throw new RangeError("the separator is no text in latin1");
      return [unit];
    }
    return encoding === "utf-16le" ? [unit & 255, unit >> 8] : [unit >> 8, unit & 255];
  });
}

export interface JsonLinesOptions extends TextOptions {
  /** Integers beyond ±(2^53 - 1), which numbers would round, are bigints; all other numbers are numbers. Default false. */
  readonly bigint?: boolean;
}

/** A JSON value per line; empty lines are skipped. `T` is believed, not checked. */
export function jsonLines<T = unknown>(options: JsonLinesOptions = {}): Reader<T> {
  return { kind: "json-lines", ...options };
}

export interface CsvOptions extends TextOptions {
  /** The first row names the columns, and records are objects by name. Default true, but false where `columns` are given. */
  readonly header?: boolean;
  /** Names of the columns. With `header: true` they stand in for those of the first row. */
  readonly columns?: readonly string[];
  /** One ASCII character. Default ",". A first line `sep=;`, as Excel writes it, is no row and names that of its file. */
  readonly separator?: string;
  /** What fields that hold separators, quotes or line ends are put in. One ASCII character, or "" for none. Default '"'. */
  readonly quote?: string;
  /** What a quote within quotes stands behind. One ASCII character. Default: the quote, which is doubled then. */
  readonly escape?: string;
  /** Lines that begin with this ASCII character are skipped. Default: none. */
  readonly comment?: string;
  /**
   * Takes quotes within fields that do not begin with one, and fields that go on behind their closing quote, as they
   * stand. Default false: they are a fault.
   */
  readonly relaxQuotes?: boolean;
  /** Leaves out spaces and tabs around fields, but not within quotes. Default false. */
  readonly trim?: boolean;
  /**
   * What becomes of rows that do not have a field for each name. "error": a fault, but for a separator at the end of the
   * row. "pad" (the default): fields that are missing are "", and empty ones behind the last name are left out; others there
   * are a fault. "keep": missing ones are absent, and those behind the last name are called as unnamed columns are. Rows
   * without names have the fields that they have.
   */
  readonly ragged?: RaggedRows;
}

/** What the fields of a row are called. */
type CsvNames<Options> = Options extends { readonly columns: readonly (infer Name extends string)[] }
  ? Name
  : string;

/** The record of `csv(options)`. */
export type CsvRecord<Options extends CsvOptions> = Options extends { readonly ragged: "keep" }
  ? Readonly<Partial<Record<CsvNames<Options>, string>>>
  : Readonly<Record<CsvNames<Options>, string>>;

/**
 * Rows of CSV: objects by column name, or arrays of fields where nothing names them. Fields are text. By default RFC 4180;
 * rows end with LF, CR or CRLF, and empty lines are skipped. Columns whose name is empty are called `column3` by their place.
 *
 * Whether a line end is in quotes depends on all that stands before it, so files of several splits are read once more,
 * to find their rows, before they are worked on; whatever the dialect, rows are whole.
 *
 *   csv()                                                // name,city ⏎ Ann,Bonn ⏎
 *   csv({ separator: ";", encoding: "latin1" })
 *   csv({ columns: ["id", "name"], quote: "'", escape: "\\" })
 */
export function csv(
  options: CsvOptions & { readonly header: false; readonly columns?: never },
): Reader<string[]>;
export function csv<const Options extends CsvOptions = Record<never, never>>(
  options?: Options,
): Reader<CsvRecord<Options>>;
export function csv({ separator = ",", header, ...options }: CsvOptions = {}): ReaderSpec {
  return { kind: "csv", separator, header: header ?? options.columns === undefined, ...options };
}

/** Rows of numbers as one record, little-endian, row by row; for kernels, see kernel.ts. A file that ends within a row is PFS_RECORD_INVALID. */
export function matrix<const Type extends ElementType>(options: {
  readonly type: Type;
  readonly columns: number;
  /** Rows of a record, 64 MiB of them at most; the last record of a file has what is left. By default those of a split. */
  readonly rows?: number;
}): Reader<Matrix<Type>>;
export function matrix(options: {
  readonly type: ElementType;
  readonly columns: number;
  readonly rows?: number;
}): ReaderSpec {
  return { kind: "matrix", ...options };
}

/** Bytes as one record that is read when the program looks at it: `size` of them, 64 MiB at most, or all of a split. */
export function block(size?: number): Reader<Block> {
  return size === undefined ? { kind: "block" } : { kind: "block", size };
}

/** The record of `columns(fields)`: 64-bit integers are bigints, every other column a number. */
export type ColumnsRecord<Fields extends Readonly<Record<string, ColumnType>>> = {
  readonly [Name in keyof Fields]: Fields[Name] extends "u64" | "i64" ? bigint : number;
};

export interface RowsOptions {
  /** Rows of a record, 64 MiB of them at most; the last record of a file has what is left. */
  readonly rows: number;
}

/**
 * Fixed-size binary rows, little-endian, the fields back to back in the order given: `columns({ id: "u32", x: "f64" })`. A
 * file that ends within a row is PFS_RECORD_INVALID. With `rows`, so many of them are one record, which is read when the program
 * looks at it.
 */
export function columns<const Fields extends Readonly<Record<string, ColumnType>>>(
  fields: Fields,
  options: RowsOptions,
): Reader<RowBlock<Fields>>;
export function columns<const Fields extends Readonly<Record<string, ColumnType>>>(
  fields: Fields,
): Reader<ColumnsRecord<Fields>>;
export function columns(
  fields: Readonly<Record<string, ColumnType>>,
  options: Partial<RowsOptions> = {},
): ReaderSpec {
  const list = Object.entries(fields).map(([name, type]) => ({ name, type }));
  return { kind: "columns", fields: list, ...options };
}
