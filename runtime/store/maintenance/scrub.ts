/**
 * Looks for records that nothing reads as long as the index is there: headers of chunks, and names. Damage to them would be
 * found only when the index has to be built again from them, and then it is too late.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { systemCode } from "../disk.ts";
import type { IndexReader } from "../index/index-reader.ts";
import type { SegmentRow } from "../index/index-tables.ts";
import { RecordKind, offsetOf } from "../segments/segment-format.ts";
import { scanSegment } from "../segments/segment-scan.ts";
import type { StorePaths } from "../store-directory.ts";
import { idFromSegment, segmentPath } from "../store-directory.ts";

export interface ScrubOptions {
  readonly index: IndexReader;
  readonly paths: StorePaths;
  /** The store's check seed. */
  readonly seed: number;
  readonly signal: AbortSignal | undefined;
}

export interface ScrubbedSegment {
  readonly segment: number;
  /** Records that the index knows and a scan does not find; the segment's own header counts as one. */
  readonly lostRecords: number;
}

const RECORDS_PER_TURN = 2048;

/** Yields the segments in which records are lost. */
export async function* scrubSegments(
  options: ScrubOptions,
): AsyncGenerator<ScrubbedSegment, void, undefined> {
  for (const row of options.index.use((tables) => tables.segments())) {
    if (row.isDropped) continue;
    const lostRecords = await lostIn(row, options);
    if (lostRecords > 0) yield { segment: row.number, lostRecords };
  }
}

async function lostIn(row: SegmentRow, { index, paths, seed, signal }: ScrubOptions): Promise<number> {
  const segment = row.number;
  // What is appended from now on is not looked for.
  const sequence = index.use((tables) => tables.sequence);
  const offsets: Set<number> = new Set();
  const sequences: Set<number> = new Set();
  const scan = { path: segmentPath(paths, segment), segment, seed, from: 0 };
  let lost = 0;
  try {
    if (idFromSegment(paths, segment) === undefined) lost++;
    let records = 0;
    for (const { header } of scanSegment({ ...scan, damage: "search", checksChunks: false })) {
      if (header.kind === RecordKind.chunk) offsets.add(header.offset);
      else sequences.add(header.sequence);
      if (++records % RECORDS_PER_TURN !== 0) continue;
      await nextTurn();
      signal?.throwIfAborted();
    }
  } catch (error) {
    // A segment that is gone is gone in the index by now, or all its chunks are damaged and were found to be.
    if (systemCode(error) === "ENOENT") return 0;
    throw error;
  }
  const lostRows = index.use(({ chunks, names }) => {
    let rows = 0;
    for (const { place, isDamaged } of chunks.inSegment(segment)) {
      const offset = offsetOf(place);
      if (!isDamaged && offset < row.committedBytes && !offsets.has(offset)) rows++;
    }
    for (const name of names.inSegment(segment)) {
      if (name.sequence <= sequence && !sequences.has(name.sequence)) rows++;
    }
    return rows;
  });
  return lost + lostRows;
}
