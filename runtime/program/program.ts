/** What a program says of itself, and what the sandbox needs to run it. Plain data: it crosses processes and machines. */
import type { ProgramKind } from "../contracts/executor.ts";
import type { Yields } from "../contracts/jobs.ts";
import type { Engine } from "../contracts/kernels.ts";
import type { Kernel, KernelDeclaration } from "./kernel/kernel.ts";
import type { ReaderSpec } from "./readers.ts";

/** What a program may use, per packet. */
export interface ProgramLimits {
  /** CPU time: waiting for its input, or for a CPU, does not count, nor does being stopped. */
  readonly timeMs: number;
  readonly memoryBytes: number;
  /** What it may yield, */
  readonly outputBytes: number;
  /** and what of its console output is kept. */
  readonly logBytes: number;
}

/** What inspecting a program's module tells, without running its map. */
export interface ProgramDescription {
  readonly reader: ReaderSpec;
  readonly yields: Yields;
  readonly hasCombine: boolean;
  readonly hasReduce: boolean;
  /** Whether it gives the largest groups alone. */
  readonly hasTop: boolean;
  readonly limits: ProgramLimits;
  /** Those that it has, in the order in which it defines them; absent where it has none. */
  readonly kernels?: readonly Kernel[];
}

/**
 * What a program is, where it is no packet code: one whose results depend on the engine that computes its kernels is a kind of its own.
 * So is one whose kernels are asked to be a GPU's: only who has a GPU gets its packets.
 */
export function programKind({ kernels = [] }: ProgramDescription, engine: Engine | undefined): ProgramKind {
  if (kernels.length > 0 && engine === "gpu") return "kernel";
  return kernels.every(({ result }) => result === "exact") ? "js" : "kernel";
}

/** What a program's module says: its kernels as they are declared, in their order; absent where it has none. */
export interface InspectedProgram extends ProgramDescription {
  readonly kernels?: never;
  readonly declared?: readonly KernelDeclaration[];
}

/**
 * Which of a program's functions a lane runs.
 *  map     records of a split → a partial result, or bytes when the program yields bytes
 *  merge   partial results, back to back → one partial result, combined
 *  finish  partial results, back to back → the text of the result (values.ts): the value, or a line [key,value] per group
 *  order   sorted runs of such lines → one sequence of them
 *  scan    for each state that a split of CSV may begin in, the one that it ends in and where its first row begins
 *          (csv-rows.ts). Runs none of the program's code.
 *  estimate  records of a split → the calls of kernels that map would make, of each record the first, as JSON (KernelEstimate)
 *
 * A partial result of "value" is a line, the text of the value: so little around it that most stand in their answers. One of "groups" is
 * lines {"k":[keys],"v":[values]}, each the text of such an object, the n-th value belonging to the n-th key. Where the program
 * combines, a value is what was folded, for its key, left to right; where it does not, it is the array of values in order. A
 * key stands in it again where what was folded before had become too much to keep. A partial result without values is
 * empty, and partial results that stand back to back are read in that order. One of groups stands in buckets, 1 to 256, a
 * power of two, each ended by an empty line: bucket n of 2^b has the keys whose hash has n as its highest b bits.
 *
 * What merges, finishes and orders take in has lines of the runtime's in it (Directive).
 *
 * The result of "value" is the folded value, the array of all values where the program does not combine, or what
 * reduce(value, args) makes of either; null when it combines and there was none. In "groups" a key has the folded value, the array of all
 * its values, or what reduce(key, values, args) makes of the values (one where the program combines); its bigints are in decimal. Keys are in the
 * order of their UTF-16 units, or the largest groups come first where the program wants the top of them. Merging and finishing bytes passes them on.
 *
 * A sorted run is such lines, and behind them its index: [[key, byte], …] as JSON, the first key of each of its blocks and where
 * that begins, and in the last RUN_TRAILER_BYTES how many bytes the index has, in decimal.
 */
export type Entry = "map" | "merge" | "finish" | "order" | "scan" | "estimate";

/**
 * A line that says what to do with groups that follow, until the next says otherwise: take all of them, which is what is
 * done without one, or those of one of so many partitions of the hashes. Or what is to become of all: a sorted run, which
 * in an order's input begins each run, or rows of CSV. An order's input begins with {"from":key,"to":key} too, the first
 * key that it takes and the first that it leaves, null where it takes all before or behind.
 */
export type Directive = "whole" | `partition ${number} ${number}` | "run" | "csv";

export const RUN_TRAILER_BYTES = 16;

/** A stored file that a program has beside what it reads: the root of its stream, as hex, and its bytes. */
export interface ManifestFile {
  readonly root: string;
  readonly length: number;
}

/** The content of a manifest chunk, which a LOAD packet's ref names. `code` is the root of the bundle's stream, as hex. */
export interface Manifest {
  readonly version: 1;
  readonly kind: ProgramKind;
  readonly name: string;
  readonly code: string;
  readonly entry: Entry;
  readonly description: ProgramDescription;
  /** What shall compute its kernels; left out where that is left open. */
  readonly engine?: Engine;
  /** By the names that the program knows them by; left out where there are none. */
  readonly files?: Readonly<Record<string, ManifestFile>>;
  /** JSON text. */
  readonly args: string;
}
