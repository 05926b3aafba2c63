/** Reads everything that a store holds and says what of it is not what it should be. */
import { refAt, refToHex } from "../../../packets/digest.ts";
import type { Catalog, NameRecord } from "../../contracts/catalog.ts";
import type { StoreReport } from "../../contracts/maintenance.ts";
import { CATALOG_PAGE_NAMES, READ_AHEAD_BYTES, VERIFY_PAGE_ROWS } from "../../limits.ts";
import { turnOver } from "../../turns.ts";
import { readSegmentHeader, segmentPath } from "../directory.ts";
import type { StorePaths } from "../directory.ts";
import { systemCode } from "../../errors.ts";
import type { IndexReader } from "../index/reader.ts";
import type { NamePosition } from "../index/name-table.ts";
import type { ChunkRowWithRef } from "../index/tables.ts";
import type { ChunkReader } from "../segments/chunk-reader.ts";
import { RecordKind, offsetOf, placeOf, segmentOf } from "../segments/format.ts";
import { scanSegment } from "../segments/scan.ts";
import { incompleteNames } from "./name-walk.ts";

interface Verified {
  readonly chunks: number;
  readonly bytes: number;
  readonly damaged: ReadonlySet<string>;
}

export interface VerifierOptions extends ScrubOptions {
  readonly reader: ChunkReader;
  readonly catalog: Catalog;
  /** Writes the records of a segment anew from what the index knows; false where it cannot. */
  readonly rewrite: (segment: number) => Promise<boolean>;
}

export async function verifyStore(options: VerifierOptions): Promise<StoreReport> {
  const { reader, catalog, signal } = options;
  const { chunks, bytes, damaged } = await verifyChunks(options);
  const areSound = async (refs: Uint8Array): Promise<boolean> => {
    const there = await reader.has(refs);
    return there.every(
      (is, at) => is === 1 && (damaged.size === 0 || !damaged.has(refToHex(refAt(refs, at)))),
    );
  };
  const pages = inPages(catalog.list());
  const incomplete: string[] = [];
  for await (const { record } of incompleteNames({ pages, source: reader, onRefs: areSound, signal }))
    incomplete.push(record.name);
  let lostRecords = 0;
  let mendedRecords = 0;
  for await (const lost of scrubSegments(options)) {
    lostRecords += lost.lostRecords;
    if (await options.rewrite(lost.segment)) mendedRecords += lost.lostRecords;
  }
  const lost = { damaged: [...damaged], repaired: [], incomplete, lostRecords, mendedRecords, stores: [] };
  return { chunks, bytes, ...lost, unreachable: [] };
}

async function* inPages(names: AsyncIterable<NameRecord>): AsyncGenerator<NameRecord[], void, undefined> {
  let page: NameRecord[] = [];
  for await (const name of names) {
    if (page.push(name) < CATALOG_PAGE_NAMES) continue;
    yield page;
    page = [];
  }
  if (page.length > 0) yield page;
}

async function verifyChunks({ index, reader, signal }: VerifierOptions): Promise<Verified> {
  const damaged: Set<string> = new Set();
  let chunks = 0;
  let bytes = 0;
  for (let place = 0; ;) {
    await turnOver();
    const page = index.use((tables) => tables.chunks.page(place, VERIFY_PAGE_ROWS));
    if (page.length === 0) return { chunks, bytes, damaged };
    for (const rows of inBatches(page)) {
      const wrong = new Set((await reader.check(rows, signal)).map(refToHex));
      for (const ref of wrong) damaged.add(ref);
      chunks += rows.length;
      for (const { ref, plainBytes } of rows)
        if (wrong.size === 0 || !wrong.has(refToHex(ref))) bytes += plainBytes;
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

/**
 * Yields the segments in which records are lost that nothing reads as long as the index is there: headers of chunks, and
 * names. Damage to them would be found only when the index has to be built again from them, and then it is too late.
 */
async function* scrubSegments(options: ScrubOptions): AsyncGenerator<ScrubbedSegment, void, undefined> {
  for (const row of options.index.use((tables) => tables.segments())) {
    if (row.isDropped) continue;
    const lostRecords = await lostIn(row.number, options);
    if (lostRecords > 0) yield { segment: row.number, lostRecords };
  }
}

async function lostIn(segment: number, options: ScrubOptions): Promise<number> {
  const { paths, seed, signal } = options;
  // What is appended from now on is not looked for.
  const { offsets, sequences } = await recordsKnown(segment, options);
  const scan = { path: segmentPath(paths, segment), segment, seed, from: 0 };
  let lost = 0;
  try {
    if (readSegmentHeader(paths, segment) === undefined) lost++;
    let records = 0;
    for (const { header } of scanSegment({ ...scan, acknowledgedBytes: Infinity, checksChunks: false })) {
      if (header.kind === RecordKind.chunk) offsets.delete(header.offset);
      else sequences.delete(header.sequence);
      if (++records % VERIFY_PAGE_ROWS !== 0) continue;
      await turnOver();
      signal?.throwIfAborted();
    }
  } catch (error) {
    // A segment that is gone is gone in the index by now, or all its chunks are damaged and were found to be.
    if (systemCode(error) === "ENOENT") return 0;
    throw error;
  }
  if (offsets.size + sequences.size === 0) return lost;
  // A gc may have moved them meanwhile, or freed them.
  const still = await recordsKnown(segment, options);
  return lost + common(offsets, still.offsets) + common(sequences, still.sequences);
}

function common(some: ReadonlySet<number>, others: ReadonlySet<number>): number {
  return [...some].filter((each) => others.has(each)).length;
}

/** What the index says that a segment has. */
interface KnownRecords {
  /** Where chunks are. Those that are known to be damaged are left out. */
  readonly offsets: Set<number>;
  /** Of names. */
  readonly sequences: Set<number>;
}

async function recordsKnown(segment: number, { index, signal }: ScrubOptions): Promise<KnownRecords> {
  const known: KnownRecords = { offsets: new Set(), sequences: new Set() };
  for (let place = placeOf(segment, 0); ;) {
    const page = index.use(({ chunks }) => chunks.page(place, VERIFY_PAGE_ROWS));
    const rows = page.filter((row) => segmentOf(row.place) === segment);
    for (const row of rows) if (!row.isDamaged) known.offsets.add(offsetOf(row.place));
    if (rows.length < VERIFY_PAGE_ROWS) break;
    place = rows.at(-1)!.place + 1;
    await turnOver();
    signal?.throwIfAborted();
  }
  let last: NamePosition = { name: new Uint8Array(0), sequence: 0 };
  for (;;) {
    const page = index.use(({ names }) => names.pageInSegment(segment, last, VERIFY_PAGE_ROWS));
    for (const row of page) known.sequences.add(row.sequence);
    if (page.length < VERIFY_PAGE_ROWS) return known;
    last = page.at(-1)!;
    await turnOver();
    signal?.throwIfAborted();
  }
}
