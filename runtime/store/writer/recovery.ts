/** Brings a store's index and segments to one state when a writer opens it, whatever happened to the one before. */
import { existsSync, rmSync } from "node:fs";
import { SEGMENT_BYTES_MAX, UNCOMMITTED_BYTES_MAX } from "../../limits.ts";
import { transaction } from "../../sqlite.ts";
import { truncateFile } from "../disk.ts";
import type { Disk } from "../disk.ts";
import { isIndexDamage, isSound, matchesIndexCheck, openIndexForWriting } from "../index/database.ts";
import { IndexTables, rowsInSegment } from "../index/tables.ts";
import { addRecords, rebuildIndex, removeUnfinishedIndex, segmentEnds } from "../index/rebuild.ts";
import { SEGMENT_HEADER_BYTES, offsetOf, recordBytes } from "../segments/format.ts";
import type { SegmentPosition } from "../segments/format.ts";
import { acknowledgedIn, scanSegment } from "../segments/scan.ts";
import { listSegments, readSegmentHeader, segmentBytes, segmentPath } from "../directory.ts";
import type { StorePaths } from "../directory.ts";

export interface Recovered {
  readonly tables: IndexTables;
  /** The largest that a record has. */
  readonly sequence: number;
  /** Where to go on writing; undefined to begin a segment. */
  readonly position: SegmentPosition | undefined;
  /** The first number that no segment has or had. */
  readonly nextSegment: number;
  /** What was found and done, for people. */
  readonly notes: readonly string[];
}

export interface RecoverOptions {
  readonly paths: StorePaths;
  /** The store's check seed. */
  readonly seed: number;
  readonly disk: Disk;
  /** An index that knows nothing of more bytes than these is built again. */
  readonly uncommittedBytesMax?: number | undefined;
}

/** Rejects as the disk does; no connection to the index is left open then. */
export async function recover({ paths, seed, disk, ...options }: RecoverOptions): Promise<Recovered> {
  const { uncommittedBytesMax = UNCOMMITTED_BYTES_MAX } = options;
  const notes: string[] = [];
  removeUnfinishedIndex(paths);
  const settling = { paths, seed, disk, notes };
  try {
    return await settle({ ...settling, tables: openOrRebuild(paths, seed, notes) }, uncommittedBytesMax);
  } catch (error) {
    if (!isIndexDamage(error)) throw error;
    notes.push(DAMAGED_NOTE);
    return settle({ ...settling, tables: rebuilt(paths, seed) }, uncommittedBytesMax);
  }
}

interface Recovery {
  readonly tables: IndexTables;
  readonly paths: StorePaths;
  readonly seed: number;
  readonly disk: Disk;
  readonly notes: string[];
}

/**
 * Makes index and segments agree. Throws what `isIndexDamage` recognises when the index is worse than it looked. The tables are
 * its own: those that it was given, or made, are closed when it throws.
 */
async function settle(recovery: Recovery, uncommittedBytesMax: number): Promise<Recovered> {
  const { paths, seed, disk, notes } = recovery;
  let tables: IndexTables | undefined = recovery.tables;
  try {
    // From here on the file changes: were it left, a later damage would be measured against an old check.
    rmSync(paths.indexCheck, { force: true });
    await disk.syncDirectory(paths.directory);
    if (uncommittedBytes(tables, paths) > uncommittedBytesMax) {
      notes.push("the index was older than the segments and was built again");
      tables.close();
      tables = undefined;
      tables = rebuilt(paths, seed);
    }
    return await agree({ ...recovery, tables });
  } catch (error) {
    tables?.close();
    throw error;
  }
}

async function agree(recovery: Recovery): Promise<Recovered> {
  const { tables, paths, disk, notes } = recovery;
  await finishDropping(tables, paths, disk);
  const rows = tables.segments();
  const committed = new Map(rows.map((row) => [row.number, row.committedBytes]));
  const lastNumber = rows.at(-1)?.number ?? 0;
  for (const number of listSegments(paths)) {
    const bytes = committed.get(number);
    // The index knows all that there is of a segment when it knows another one behind it.
    if (bytes !== undefined && number < lastNumber) await cutOff(recovery, number, bytes);
    else await replayTail(recovery, number, bytes ?? 0);
  }
  markMissing(tables, paths, notes);
  return { tables, sequence: tables.sequence, ...nextPosition(tables, paths), notes };
}

const DAMAGED_NOTE = "the index was damaged and was built again from the segments";

function rebuilt(paths: StorePaths, seed: number): IndexTables {
  rebuildIndex(paths, seed);
  return new IndexTables(openIndexForWriting(paths.index, seed));
}

function openOrRebuild(paths: StorePaths, seed: number, notes: string[]): IndexTables {
  if (existsSync(paths.index)) {
    const tables = openSound(paths, seed);
    if (tables !== undefined) return tables;
    notes.push(DAMAGED_NOTE);
  } else if (listSegments(paths).length > 0) {
    notes.push("the index was lost and was built again from the segments");
  }
  return rebuilt(paths, seed);
}

function openSound(paths: StorePaths, seed: number): IndexTables | undefined {
  try {
    const matches = matchesIndexCheck(paths);
    if (matches === false) return undefined;
    const database = openIndexForWriting(paths.index, seed);
    // An index that was not closed in order has no check beside it, but SQLite can tell whether its keys agree.
    if (matches === true || isSound(database)) return new IndexTables(database);
    database.close();
    return undefined;
  } catch (error) {
    if (isIndexDamage(error)) return undefined;
    throw error;
  }
}

function uncommittedBytes(tables: IndexTables, paths: StorePaths): number {
  const rows = new Map(tables.segments().map((row) => [row.number, row]));
  let bytes = 0;
  for (const number of listSegments(paths)) {
    const row = rows.get(number);
    if (row?.isDropped !== true) bytes += segmentBytes(paths, number) - (row?.committedBytes ?? 0);
  }
  return bytes;
}

/** Deletes the segments that gc had emptied when the process ended. See IndexTables.forgetSegment. */
async function finishDropping(tables: IndexTables, paths: StorePaths, disk: Disk): Promise<void> {
  for (const row of tables.segments().filter(({ isDropped }) => isDropped)) {
    rmSync(segmentPath(paths, row.number), { force: true });
    await disk.syncDirectory(paths.segments);
    tables.forgetSegment(row.number);
  }
}

/**
 * Takes over what was written and not committed, and cuts off what was not written whole, or behind where the segment had
 * ended: nobody was told that it is there.
 */
async function replayTail(replay: Recovery, number: number, committed: number): Promise<void> {
  const { tables, paths, seed, disk, notes } = replay;
  const path = segmentPath(paths, number);
  const size = segmentBytes(paths, number);
  if (size <= committed && size > 0) return;
  const endBytes = segmentEnds(paths, listSegments(paths)).get(number);
  if (committed === 0 && Math.min(size, endBytes ?? size) <= SEGMENT_HEADER_BYTES) return disk.remove(path);
  const tail = { path, segment: number, seed, from: committed };
  const acknowledgedBytes = Math.max(committed, acknowledgedIn(tail));
  const options = { ...tail, endBytes, acknowledgedBytes, checksChunks: true };
  // The bytes may be in the system's memory alone; the index must not know of them before the disk does.
  const file = await disk.open(path);
  try {
    await file.sync();
    const end = transaction(tables.database, () => {
      const reached = addRecords(tables, scanSegment(options), (event, sequence) =>
        tables.names.append(event, sequence, number),
      );
      if (reached > SEGMENT_HEADER_BYTES)
        tables.putSegment({ number, committedBytes: reached, isDropped: false });
      return reached;
    });
    // Not even the header of a segment that holds nothing need be whole.
    if (end <= SEGMENT_HEADER_BYTES) await disk.remove(path);
    else if (end < size) {
      notes.push(
        `segment ${number} ended in ${size - end} bytes that were never acknowledged; they were cut off`,
      );
      await file.truncate(end);
    }
  } finally {
    await file.close();
  }
}

/** Cuts off what a gc had moved out of a segment's end, or what could not be written and not be cut off then. */
async function cutOff({ paths, disk }: Recovery, number: number, bytes: number): Promise<void> {
  if (segmentBytes(paths, number) > bytes) await truncateFile(disk, segmentPath(paths, number), bytes);
}

/** Finds what was acknowledged and is gone, so that it counts as absent and can be written again. */
function markMissing(tables: IndexTables, paths: StorePaths, notes: string[]): void {
  for (const { number, committedBytes, isDropped } of tables.segments()) {
    const size = segmentBytes(paths, number);
    if (isDropped || size >= committedBytes) continue;
    notes.push(`segment ${number} misses its last ${committedBytes - size} bytes`);
    transaction(tables.database, () => {
      for (const row of rowsInSegment(() => tables.chunks, number)) {
        const end = offsetOf(row.place) + recordBytes(row.storedBytes);
        if (end > size && !row.isDamaged) tables.chunks.put(row.ref, row, true);
      }
    });
  }
}

function nextPosition(tables: IndexTables, paths: StorePaths): Pick<Recovered, "position" | "nextSegment"> {
  const last = tables.segments().at(-1);
  const nextSegment = (last?.number ?? 0) + 1;
  // What was cut off by somebody else is not written over: the index knows what was there.
  const goesOn =
    last !== undefined &&
    !last.isDropped &&
    last.committedBytes >= SEGMENT_HEADER_BYTES &&
    last.committedBytes < SEGMENT_BYTES_MAX &&
    segmentBytes(paths, last.number) === last.committedBytes &&
    // What is appended to a segment of version 1 would be read by its rules.
    readSegmentHeader(paths, last.number)?.version === 2;
  return { position: goesOn ? { segment: last.number, bytes: last.committedBytes } : undefined, nextSegment };
}
