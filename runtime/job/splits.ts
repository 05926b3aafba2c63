/**
 * How the bytes of a job's inputs are dealt out: one EXEC packet a split, in the order of the inputs.
 *
 *   │ size            │ size       │ …           │ half  │ half │      the last quarter of all bytes in halves, so that
 *   ├──────┴┬─┴─┬──┴──┼──┬──┴──┬───┼─┴──┬──┴─ …  ┼──┬──┴┬─┴─┬──┤      nobody waits long for the last one
 *    leaves of the stream: a split ends where two of them meet
 *
 * The plan follows from the inputs, the program and the options, and from nothing else: not from who is there to work. So
 * a job that adds up decimals gives the same digits on a laptop and in a network, and after a node died.
 */
import type { Ref } from "../../packets/digest.ts";
import { Flag, Op } from "../../packets/layout.ts";
import { encodePacket, writeNumbered } from "../../packets/packet.ts";
import { JobError, JobErrorCode } from "../errors.ts";
import {
  BLOCK_SPLITS,
  BLOCK_SPLIT_BYTES,
  BLOCK_SPLIT_BYTES_MIN,
  CODE_SPLITS,
  CODE_SPLIT_BYTES,
  CODE_SPLIT_BYTES_MIN,
  GROUPS_FEW_BYTES,
  GROUPS_SPLITS,
  GROUPS_SPLITS_MANY,
  GROUPS_SPLIT_BYTES,
  GROUPS_SPLIT_BYTES_MANY_MIN,
  GROUPS_SPLIT_BYTES_MIN,
  JOB_TASKS_MAX,
  RECORD_BYTES_MAX,
  SPLITS,
  SPLITS_MANY,
  SPLIT_BYTES,
  SPLIT_BYTES_MAX,
  SPLIT_BYTES_MIN,
  SPLIT_SLACK_BYTES,
  TURN_STEP_PACKETS,
} from "../limits.ts";
import type { ProgramKind } from "../contracts/executor.ts";
import type { JobInput, Yields } from "../contracts/jobs.ts";
import { rowRanges } from "../program/csv-rows.ts";
import type { CsvScan, RowRange } from "../program/csv-rows.ts";
import { readsBlocks, rowBytes } from "../program/readers.ts";
import type { ReaderSpec } from "../program/readers.ts";
import type { LeafBorders } from "../stream/leaves.ts";
import type { PacketSource } from "./batch.ts";

/** Splits in the order of their tasks: task `i` reads `length[i]` bytes of input `input[i]` from `from[i]` on. */
export interface Splits {
  readonly count: number;
  readonly bytes: number;
  readonly input: Uint32Array;
  readonly from: Float64Array;
  readonly length: Float64Array;
}

export interface SplitOptions {
  readonly reader: ReaderSpec;
  readonly yields: Yields;
  /** JavaScript, unless it says otherwise. */
  readonly kind?: ProgramKind;
  /** Asked for by the user: every split has as many, whatever the content. */
  readonly splitBytes?: number | undefined;
}

/** The sizes that splits are to have. */
interface Sizes {
  /** Of one in the first three quarters of all bytes; half of it later. Infinity where `exact` counts. */
  readonly whole: number;
  /** Asked for by the user. */
  readonly exact: number | undefined;
  /** Splits begin at a multiple of this: no record of fixed size straddles them. */
  readonly unit: number;
}

/**
 * Every input is split on its own, an empty one not at all. `borders[i]` are those of the leaves of input `i`, as far as
 * they are known; beyond them sizes alone decide. Throws PFS_JOB_OVER_LIMIT {tasks, max} when the size asked for, or the
 * number of inputs, makes too many tasks. A million take a while: it may be left for some time wherever it yields.
 */
export function* planSplits(
  inputs: readonly JobInput[],
  options: SplitOptions,
  borders: readonly (LeafBorders | undefined)[] = [],
): Generator<void, Splits, undefined> {
  const bytes = bytesOf(inputs);
  const sizes = sizesFor(inputs, options);
  const { exact } = sizes;
  if (exact !== undefined) checkCount(countOf(inputs, exact));
  const columns = new SplitColumns(exact === undefined ? 0 : countOf(inputs, exact));
  let before = 0;
  for (const [index, { length }] of inputs.entries()) {
    const places = new Places(borders[index]);
    for (let at = 0; at < length;) {
      if (columns.count % TURN_STEP_PACKETS === 0) yield;
      const left = length - at;
      const size = exact ?? sizeAt(sizes, bytes - before - at, bytes);
      const slack = exact === undefined ? slackOf(size) : 0;
      // What is left over would not be worth a split of its own.
      // Nor is there more than is left, where a record may be longer than a split would be.
      const end =
        left <= size + slack
          ? length
          : Math.min(length, at + aligned(places.nearest(at, size, slack) - at, sizes));
      columns.add(index, at, end - at);
      at = end;
    }
    before += length;
    checkCount(columns.count);
  }
  return columns.splits(bytes);
}

/** Splits that are added one by one: there may be a million. */
class SplitColumns {
  count = 0;
  #input: Uint32Array;
  #from: Float64Array;
  #length: Float64Array;

  constructor(expected: number) {
    this.#input = new Uint32Array(expected);
    this.#from = new Float64Array(expected);
    this.#length = new Float64Array(expected);
  }

  add(input: number, from: number, length: number): void {
    if (this.count === this.#input.length) this.#grow();
    // It is 0 already, and the system gives no memory for zeros that nobody has written.
    if (input > 0) this.#input[this.count] = input;
    this.#from[this.count] = from;
    this.#length[this.count++] = length;
  }

  splits(bytes: number): Splits {
    const { count } = this;
    return {
      count,
      bytes,
      input: this.#input.subarray(0, count),
      from: this.#from.subarray(0, count),
      length: this.#length.subarray(0, count),
    };
  }

  #grow(): void {
    const rows = Math.max(64, this.count * 2);
    const larger = {
      input: new Uint32Array(rows),
      from: new Float64Array(rows),
      length: new Float64Array(rows),
    };
    larger.input.set(this.#input);
    larger.from.set(this.#from);
    larger.length.set(this.#length);
    this.#input = larger.input;
    this.#from = larger.from;
    this.#length = larger.length;
  }
}

function countOf(inputs: readonly JobInput[], size: number): number {
  return inputs.reduce((sum, { length }) => sum + Math.ceil(length / size), 0);
}

/** About how many splits the plan will have, as far as sizes alone say. */
export function expectedSplits(inputs: readonly JobInput[], options: SplitOptions): number {
  const { whole, exact } = sizesFor(inputs, options);
  // The last quarter of all bytes is in halves.
  const each = exact ?? whole / 1.25;
  return inputs.reduce((sum, { length }) => sum + Math.ceil(length / each), 0);
}

/** The indexes of the inputs that are split where their leaves meet: `planSplits` wants to know those borders. */
export function inputsToCut(inputs: readonly JobInput[], options: SplitOptions): number[] {
  const { whole, exact } = sizesFor(inputs, options);
  // Packet code is through a file in the time that it takes to go through its packets.
  if (exact !== undefined || options.kind === "code") return [];
  const undivided = whole / 2 + slackOf(whole / 2);
  return [...inputs.keys()].filter((index) => inputs[index]!.length > undivided);
}

/** Places where a split may end, gone through in ascending order. */
class Places {
  readonly #at: Float64Array;
  readonly #rank: Uint32Array;
  #next = 0;

  constructor({ at, rank }: LeafBorders = { at: new Float64Array(0), rank: new Uint32Array(0) }) {
    this.#at = at;
    this.#rank = rank;
  }

  /**
   * Of the places at most `slack` off `start + size`, the one with the lowest rank: the content chooses it, so two files
   * that differ before soon have the same again. `start + size` where there is none.
   */
  nearest(start: number, size: number, slack: number): number {
    let best = start + size;
    let lowest = Infinity;
    while (this.#next < this.#at.length && this.#at[this.#next]! < start + size - slack) this.#next++;
    for (let index = this.#next; index < this.#at.length; index++) {
      if (this.#at[index]! > start + size + slack) break;
      if (this.#rank[index]! >= lowest) continue;
      lowest = this.#rank[index]!;
      best = this.#at[index]!;
    }
    return best;
  }
}

/** Powers of two, so that a file that has grown a little is split as before. */
function sizesFor(inputs: readonly JobInput[], { reader, yields, kind, splitBytes }: SplitOptions): Sizes {
  const unit = recordBytesOf(reader);
  if (splitBytes !== undefined) {
    return { whole: Infinity, exact: Math.max(unit, splitBytes - (splitBytes % unit)), unit };
  }
  const bytes = bytesOf(inputs);
  const isLarge = kind === "code" || readsBlocks(reader);
  const wanted = yields === "groups" && !isLarge ? groupsBytes(bytes) : usualBytes(bytes, kind, isLarge);
  // A quarter of all bytes in halves, all of them as small as they may be, and one more split for each input.
  const possible = (1.5 * bytes) / Math.max(1, JOB_TASKS_MAX - inputs.length);
  return { whole: Math.max(wanted, 2 ** Math.ceil(Math.log2(possible))), exact: undefined, unit };
}

/** About so many bytes each, as far as that makes them neither tiny nor huge; once there are many, larger ones instead of more. */
function usualBytes(bytes: number, kind: ProgramKind | undefined, isOfBlocks: boolean): number {
  const [splits, most, least] =
    kind === "code"
      ? [CODE_SPLITS, CODE_SPLIT_BYTES, CODE_SPLIT_BYTES_MIN]
      : isOfBlocks
        ? [BLOCK_SPLITS, BLOCK_SPLIT_BYTES, BLOCK_SPLIT_BYTES_MIN]
        : [SPLITS, SPLIT_BYTES, SPLIT_BYTES_MIN];
  const usual = Math.min(most, Math.max(least, nearestPower(bytes / splits)));
  return Math.max(usual, Math.min(SPLIT_BYTES_MAX, nearestPower(bytes / SPLITS_MANY)));
}

/** A partial result of many groups costs what some megabytes of input cost, so there are few, and larger ones of a file that is large. */
function groupsBytes(bytes: number): number {
  const [splits, most, least] =
    bytes <= GROUPS_FEW_BYTES
      ? [GROUPS_SPLITS, GROUPS_SPLIT_BYTES, GROUPS_SPLIT_BYTES_MIN]
      : [GROUPS_SPLITS_MANY, SPLIT_BYTES_MAX, GROUPS_SPLIT_BYTES_MANY_MIN];
  return Math.min(most, Math.max(least, nearestPower(bytes / splits)));
}

function sizeAt({ whole }: Sizes, left: number, bytes: number): number {
  return left * 4 <= bytes ? whole / 2 : whole;
}

/** How much longer or shorter than `size` a split may be. */
function slackOf(size: number): number {
  return Math.min(size / 2, Math.max(size / 8, SPLIT_SLACK_BYTES));
}

function aligned(length: number, { unit }: Sizes): number {
  return Math.max(unit, length - (length % unit));
}

function nearestPower(value: number): number {
  return 2 ** Math.round(Math.log2(Math.max(1, value)));
}

function bytesOf(inputs: readonly JobInput[]): number {
  return inputs.reduce((sum, { length }) => sum + length, 0);
}

function recordBytesOf(reader: ReaderSpec): number {
  switch (reader.kind) {
    case "columns":
    case "matrix":
      return rowBytes(reader) * (reader.rows ?? 1);
    case "bytes":
    case "block":
      return reader.size ?? 1;
    default:
      return 1;
  }
}

function checkCount(count: number): void {
  if (count <= JOB_TASKS_MAX) return;
  throw new JobError(
    JobErrorCode.overLimit,
    `this makes ${count} packets, a job has at most ${JOB_TASKS_MAX}: ask for larger splits`,
    { tasks: count, max: JOB_TASKS_MAX },
  );
}

/**
 * The splits as EXEC packets, which are made when they are sent: a million would be 64 MB. `rows` are the ranges of whole rows
 * of splits, where those are known.
 */
export class SplitPackets implements PacketSource {
  readonly count: number;
  readonly bytes: Float64Array;
  readonly #splits: Splits;
  readonly #rows: readonly (RowRange | undefined)[];
  /** By input, its packet without numbers; one of whole records behind it. */
  readonly #packets: readonly (readonly [records: Uint8Array, whole: Uint8Array])[];

  constructor(splits: Splits, inputs: readonly JobInput[], rows: readonly (RowRange | undefined)[] = []) {
    this.count = splits.count;
    this.#splits = splits;
    this.#rows = rows;
    this.bytes =
      rows.length === 0 ? splits.length : splits.length.map((bytes, task) => rows[task]?.length ?? bytes);
    const packet = (ref: Ref, flags: number): Uint8Array =>
      encodePacket({ op: Op.EXEC, flags, lane: 1, ref });
    this.#packets = inputs.map(({ root }) => [
      packet(root, Flag.STREAM),
      packet(root, Flag.STREAM | Flag.WHOLE),
    ]);
  }

  write(tasks: Uint32Array, frame: Uint8Array): void {
    const { input, from, length } = this.#splits;
    for (let index = 0; index < tasks.length; index++) {
      const task = tasks[index]!;
      const [records, whole] = this.#packets[input[task]!]!;
      const row = this.#rows[task];
      if (row === undefined) writeNumbered(frame, index, records, task, length[task]!, from[task]!);
      else writeNumbered(frame, index, row.whole ? whole : records, task, row.length, row.from);
    }
  }
}

// ── CSV ──

/** The tasks that have to be scanned: those of files of several splits. */
export function splitsToScan(splits: Splits): Uint32Array {
  const { count, input } = splits;
  const tasks = Array.from({ length: count }, (_, task) => task);
  return Uint32Array.from(
    tasks.filter((task) => input[task] === input[task - 1] || input[task] === input[task + 1]),
  );
}

/** The splits to scan as splits of their own. */
export function selectSplits(splits: Splits, tasks: Uint32Array): Splits {
  const length = Float64Array.from(tasks, (task) => splits.length[task]!);
  return {
    count: tasks.length,
    bytes: length.reduce((sum, bytes) => sum + bytes, 0),
    input: Uint32Array.from(tasks, (task) => splits.input[task]!),
    from: Float64Array.from(tasks, (task) => splits.from[task]!),
    length,
  };
}

/** The rows of each scanned split, by its task. `scans[i]` is that of `scanned[i]`. */
export function scannedRows(
  splits: Splits,
  scanned: Uint32Array,
  scans: readonly CsvScan[],
): (RowRange | undefined)[] {
  const rows: (RowRange | undefined)[] = [];
  for (let first = 0; first < scanned.length;) {
    let behind = first;
    while (behind < scanned.length && splits.input[scanned[behind]!] === splits.input[scanned[first]!])
      behind++;
    const tasks = [...scanned.subarray(first, behind)];
    const ends = tasks.map((task) => splits.from[task]! + splits.length[task]!);
    const ranges = rowRanges(scans.slice(first, behind), ends, RECORD_BYTES_MAX);
    ranges.forEach((range, index) => (rows[tasks[index]!] = range));
    first = behind;
  }
  return rows;
}
