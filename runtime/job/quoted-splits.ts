/**
 * Which splits of CSV files begin inside a quoted field: those with an odd number of quotes before them in their file. So
 * the quotes of every split are counted first, but of the last one of each file, which nothing follows.
 */
import { JobError, JobErrorCode } from "../errors.ts";
import type { Splits } from "./splits.ts";

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
