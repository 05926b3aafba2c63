/** Reads everything that a store holds and says what of it is not what it should be. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { refAt, refToHex } from "../../../packets/digest.ts";
import type { Catalog } from "../../contracts/catalog.ts";
import type { StoreReport } from "../../contracts/maintenance.ts";
import { INDEX_PAGE_ROWS, READ_AHEAD_BYTES } from "../../limits.ts";
import { isComplete } from "../../stream/walk.ts";
import { readSegmentHeader, segmentPath } from "../directory.ts";
import type { StorePaths } from "../directory.ts";
import { systemCode } from "../disk.ts";
import type { IndexReader } from "../index/reader.ts";
import type { ChunkRowWithRef, SegmentRow } from "../index/tables.ts";
import type { ChunkReader } from "../segments/chunk-reader.ts";
import { RecordKind, offsetOf } from "../segments/format.ts";
import { scanSegment } from "../segments/scan.ts";

interface Verified {
  readonly chunks: number;
  readonly bytes: number;
  readonly damaged: ReadonlySet<string>;
}

export interface VerifierOptions extends ScrubOptions {
  readonly reader: ChunkReader;
  readonly catalog: Catalog;
  /** Writes the records of a segment anew from what the index knows. */
  readonly rewrite: (segment: number) => Promise<void>;
}

export async function verifyStore(options: VerifierOptions): Promise<StoreReport> {
  const { reader, signal } = options;
  const { chunks, bytes, damaged } = await verifyChunks(options);
  const isSound = async (refs: Uint8Array): Promise<Uint8Array> =>
    reader.has(refs).map((isThere, index) => (damaged.has(refToHex(refAt(refs, index))) ? 0 : isThere));
  const incomplete: string[] = [];
  const seen: Set<string> = new Set();
  for await (const { name, root } of options.catalog.list()) {
    signal?.throwIfAborted();
    const before = seen.size;
    if (await isComplete(reader, root, isSound, { signal, seen })) continue;
    incomplete.push(name);
    // What an incomplete stream calls has to be looked at again for every other name that calls it.
    for (const key of [...seen].slice(before)) seen.delete(key);
  }
  let lostRecords = 0;
  for await (const lost of scrubSegments(options)) {
    lostRecords += lost.lostRecords;
    await options.rewrite(lost.segment);
  }
  return { chunks, bytes, damaged: [...damaged], incomplete, lostRecords };
}

async function verifyChunks({ index, reader, signal }: VerifierOptions): Promise<Verified> {
  const damaged: Set<string> = new Set();
  let chunks = 0;
  let bytes = 0;
  for (let place = 0; ;) {
    const page = index.use((tables) => tables.chunks.page(place, INDEX_PAGE_ROWS));
    if (page.length === 0) return { chunks, bytes, damaged };
    for (const rows of inBatches(page)) {
      const wrong = new Set(
        (
          await reader.check(
            rows.map(({ ref }) => ref),
            signal,
          )
        ).map(refToHex),
      );
      for (const ref of wrong) damaged.add(ref);
      chunks += rows.length;
      for (const { ref, plainBytes } of rows) if (!wrong.has(refToHex(ref))) bytes += plainBytes;
    }
    place = page.at(-1)!.place + 1;
  }
}

/** Rows that are read together. */
function* inBatches(page: readonly ChunkRowWithRef[]): Generator<ChunkRowWithRef[], void, undefined> {
  let batch: ChunkRowWithRef[] = [];
  let bytes = 0;
  for (const row of page) {
    batch.push(row);
    bytes += row.plainBytes;
    if (bytes < READ_AHEAD_BYTES) continue;
    yield batch;
    batch = [];
    bytes = 0;
  }
  if (batch.length > 0) yield batch;
}

interface ScrubOptions {
  readonly index: IndexReader;
  readonly paths: StorePaths;
  /** The store's check seed. */
  readonly seed: number;
  readonly signal: AbortSignal | undefined;
}

interface ScrubbedSegment {
  readonly segment: number;
  /** Records that the index knows and a scan does not find; the segment's own header counts as one. */
  readonly lostRecords: number;
}

const RECORDS_PER_TURN = 2048;

/**
 * Yields the segments in which records are lost that nothing reads as long as the index is there: headers of chunks, and
 * names. Damage to them would be found only when the index has to be built again from them, and then it is too late.
 */
async function* scrubSegments(options: ScrubOptions): AsyncGenerator<ScrubbedSegment, void, undefined> {
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
    if (readSegmentHeader(paths, segment) === undefined) lost++;
    let records = 0;
    for (const { header } of scanSegment({ ...scan, acknowledgedBytes: Infinity, checksChunks: false })) {
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
