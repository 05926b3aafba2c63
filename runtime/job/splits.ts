/** How the bytes of a job's inputs are dealt out: one EXEC packet a split, in the order of the inputs. */
import { Flag, Op, PACKET_BYTES } from "../../packets/layout.ts";
import { writePacket } from "../../packets/packet.ts";
import { JobError, JobErrorCode } from "../errors.ts";
import {
  JOB_TASKS_MAX,
  SPLITS_PER_SLOT,
  SPLIT_BYTES_MAX,
  SPLIT_BYTES_MIN,
  SPLIT_BYTES_STEP,
} from "../limits.ts";
import type { JobInput } from "../contracts/jobs.ts";
import { rowBytes } from "../program/readers.ts";
import type { ReaderSpec } from "../program/readers.ts";

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
  /** Packets that all executors together work on at once. */
  readonly slots: number;
  /** Asked for by the user. */
  readonly splitBytes?: number;
}

/**
 * Every input is split on its own, an empty one not at all. Throws PFS_JOB_OVER_LIMIT {tasks, max} when the size asked
 * for makes too many tasks.
 */
export function planSplits(inputs: readonly JobInput[], options: SplitOptions): Splits {
  const bytes = inputs.reduce((sum, { length }) => sum + length, 0);
  const size = splitBytesFor(bytes, inputs, options);
  const count = inputs.reduce((sum, { length }) => sum + Math.ceil(length / size), 0);
  if (count > JOB_TASKS_MAX) {
    throw new JobError(
      JobErrorCode.overLimit,
      `splits of ${size} bytes make ${count} packets, a job has at most ${JOB_TASKS_MAX}`,
      { tasks: count, max: JOB_TASKS_MAX },
    );
  }
  const input = new Uint32Array(count);
  const from = new Float64Array(count);
  const length = new Float64Array(count);
  let task = 0;
  inputs.forEach(({ length: end }, index) => {
    for (let at = 0; at < end; at += size, task++) {
      input[task] = index;
      from[task] = at;
      length[task] = Math.min(size, end - at);
    }
  });
  return { count, bytes, input, from, length };
}

/** The splits as EXEC packets, those with `quoted[task]` = 1 flagged as beginning inside a quoted field. */
export function encodeSplits(splits: Splits, inputs: readonly JobInput[], quoted?: Uint8Array): Uint8Array {
  const frame = new Uint8Array(splits.count * PACKET_BYTES);
  for (let task = 0; task < splits.count; task++) {
    writePacket(frame, task, {
      op: Op.EXEC,
      flags: quoted?.[task] === 1 ? Flag.STREAM | Flag.QUOTED : Flag.STREAM,
      lane: 1,
      at: task,
      length: splits.length[task]!,
      from: splits.from[task]!,
      ref: inputs[splits.input[task]!]!.root,
    });
  }
  return frame;
}

/** Several splits a slot, so that none waits long for the last one; large enough that a packet's cost does not show. */
function splitBytesFor(
  bytes: number,
  inputs: readonly JobInput[],
  { reader, slots, splitBytes }: SplitOptions,
): number {
  const record = recordBytesOf(reader);
  if (splitBytes !== undefined) return Math.max(record, splitBytes - (splitBytes % record));
  const even = bytes / (Math.max(1, slots) * SPLITS_PER_SLOT);
  const size = Math.min(SPLIT_BYTES_MAX, Math.max(SPLIT_BYTES_MIN, even));
  // Each input may end with a split that is not full: so many packets are spoken for.
  const full = Math.max(1, JOB_TASKS_MAX - inputs.length);
  return roundUp(roundUp(Math.max(size, bytes / full), SPLIT_BYTES_STEP), record);
}

/** Splits begin at a multiple of this: no record of fixed size straddles them. */
function recordBytesOf(reader: ReaderSpec): number {
  if (reader.kind === "columns") return rowBytes(reader);
  return reader.kind === "bytes" ? (reader.size ?? 1) : 1;
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

// ── CSV ──

/** The tasks whose quotes have to be counted. Empty where each file is one split. */
export function splitsToScan(splits: Splits): Uint32Array {
  const tasks: number[] = [];
  for (let task = 0; task + 1 < splits.count; task++) {
    if (splits.input[task] === splits.input[task + 1]) tasks.push(task);
  }
  return Uint32Array.from(tasks);
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

/** 1 for each split that begins quoted. `counts[i]` are the quotes in split `scanned[i]`. */
export function quotedSplits(splits: Splits, scanned: Uint32Array, counts: Float64Array): Uint8Array {
  const quoted = new Uint8Array(splits.count);
  scanned.forEach((task, index) => {
    // The split behind a scanned one is in the same file.
    quoted[task + 1] = (quoted[task]! + (counts[index]! % 2)) % 2;
  });
  return quoted;
}

/** A scan's result: decimal text. Throws PFS_INTERNAL for anything else. */
export function parseQuoteCount(text: string): number {
  const count = /^\d{1,16}$/.test(text) ? Number(text) : NaN;
  if (Number.isSafeInteger(count)) return count;
  throw new JobError(JobErrorCode.internal, `a scan yielded no number of quotes: ${JSON.stringify(text)}`);
}
