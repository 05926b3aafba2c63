/** Builds the index again from the segments, which hold everything that it says: when it is lost, or found damaged while it is used. */
import { closeSync, fsyncSync, openSync, renameSync, rmSync, statSync } from "node:fs";
import { transaction } from "../../sqlite.ts";
import { listSegments, readSegmentHeader, segmentPath } from "../directory.ts";
import type { StorePaths } from "../directory.ts";
import { diskError } from "../disk.ts";
import {
  RecordKind,
  SEGMENT_HEADER_BYTES,
  decodeName,
  offsetOf,
  placeOf,
  segmentOf,
} from "../segments/format.ts";
import { acknowledgedIn, scanSegment } from "../segments/scan.ts";
import type { ScannedRecord } from "../segments/scan.ts";
import { IN_MEMORY, createIndex, isIndexDamage, openIndexForWriting, placeOfIndexCheck } from "./database.ts";
import { IndexTables } from "./tables.ts";

/** Replaces the index file. No connection may be open. A crash on the way leaves the old one, or none. */
export function rebuildIndex(paths: StorePaths, seed: number): void {
  buildIndex(paths, seed);
  installIndex(paths);
}

/**
 * Builds the index beside the one that is there. `durablePlace` is for whoever writes to the segments: what stands before it
 * is on the disk, and what does not is none of the index's business yet.
 */
function buildIndex(paths: StorePaths, seed: number, durablePlace?: number): void {
  const temporary = builtPath(paths);
  rmSync(temporary, { force: true });
  const tables = new IndexTables(createIndex(temporary, seed));
  try {
    fill(tables, paths, seed, durablePlace);
  } finally {
    tables.close();
  }
  const file = openSync(temporary, "r+");
  fsyncSync(file);
  closeSync(file);
}

/** Removes what somebody left who was interrupted while he built an index, or wrote down what it looks like. */
export function removeUnfinishedIndex(paths: StorePaths): void {
  for (const path of [builtPath(paths), `${paths.indexCheck}.new`]) rmSync(path, { force: true });
}

function builtPath(paths: StorePaths): string {
  return `${paths.index}.new`;
}

function installIndex(paths: StorePaths): void {
  // What the old index had not yet taken over from its log must not be applied to the new one.
  for (const suffix of ["-wal", "-shm"]) rmSync(`${paths.index}${suffix}`, { force: true });
  rmSync(paths.indexCheck, { force: true });
  renameSync(builtPath(paths), paths.index);
}

/** An index in memory, for a process that may not write and finds none that it can use. */
export function buildIndexInMemory(paths: StorePaths, seed: number): IndexTables {
  const tables = new IndexTables(createIndex(IN_MEMORY, seed));
  fill(tables, paths, seed);
  return tables;
}

function fill(tables: IndexTables, paths: StorePaths, seed: number, durablePlace?: number): void {
  for (const { segment, ...toRead } of segmentsToRead(paths, seed, durablePlace)) {
    const options = { path: segmentPath(paths, segment), segment, seed, from: 0, ...toRead };
    transaction(tables.database, () => {
      const end = addRecords(tables, scanSegment(options), (event, sequence) =>
        tables.names.insert(event, sequence, segment),
      );
      if (end > SEGMENT_HEADER_BYTES)
        tables.putSegment({ number: segment, committedBytes: end, isDropped: false });
    });
  }
  transaction(tables.database, () => tables.names.relistAll());
}

interface SegmentToRead {
  readonly segment: number;
  /** See ScanOptions. */
  readonly endBytes: number;
  readonly acknowledgedBytes: number;
  readonly checksChunks: boolean;
}

function segmentsToRead(paths: StorePaths, seed: number, durablePlace?: number): SegmentToRead[] {
  const numbers = listSegments(paths);
  const ends = segmentEnds(paths, numbers);
  const place = durablePlace ?? placeOfIndexCheck(paths);
  const segments: SegmentToRead[] = [];
  for (const segment of numbers) {
    const path = segmentPath(paths, segment);
    const bytesBefore = segmentOf(place) === segment ? offsetOf(place) : 0;
    const isBounded = durablePlace !== undefined && segment >= segmentOf(place);
    const endBytes = isBounded ? bytesBefore : (ends.get(segment) ?? statSync(path).size);
    if (endBytes <= SEGMENT_HEADER_BYTES) continue;
    const isLast = segment === numbers.at(-1);
    // Those of version 1 do not say what was acknowledged. A crash can have torn any chunk of the last one.
    const checksChunks = isLast && readSegmentHeader(paths, segment)?.version === 1;
    // A segment is durable before the next one is begun.
    const isAcknowledged = durablePlace !== undefined || !isLast || checksChunks;
    const acknowledgedBytes = isAcknowledged
      ? endBytes
      : Math.max(bytesBefore, acknowledgedIn({ path, segment, seed, from: 0 }));
    segments.push({ segment, endBytes, acknowledgedBytes, checksChunks });
  }
  return segments;
}

/** Where segments ended, as the headers of those behind them say. */
export function segmentEnds(paths: StorePaths, numbers: readonly number[]): Map<number, number> {
  const headers = numbers.map((number) => readSegmentHeader(paths, number)?.previous);
  return new Map(headers.filter((end) => end !== undefined).map(({ segment, bytes }) => [segment, bytes]));
}

/** Adds what a scan finds and returns where it ended. A chunk that is found twice is where it was found last. */
export function addRecords(
  tables: IndexTables,
  records: Generator<ScannedRecord, number, undefined>,
  addName: (event: NonNullable<ReturnType<typeof decodeName>>, sequence: number) => void,
): number {
  let sequence = tables.sequence;
  let next = records.next();
  for (; next.done !== true; next = records.next()) {
    const { header, body } = next.value;
    sequence = Math.max(sequence, header.sequence);
    if (header.kind === RecordKind.chunk) {
      const { storedBytes, plainBytes, codec } = header;
      const place = placeOf(header.segment, header.offset);
      tables.chunks.put(header.ref, { place, storedBytes, plainBytes, codec });
    } else if (header.kind === RecordKind.name && body !== undefined) {
      const event = decodeName(body);
      if (event !== undefined) addName(event, header.sequence);
    }
  }
  tables.sequence = sequence;
  return next.value;
}

export interface IndexKeeperOptions {
  readonly paths: StorePaths;
  readonly seed: number;
  readonly tables: IndexTables;
  /** Resolves with the place before which everything is on the disk: an index must not know of anything else. */
  readonly settle: () => Promise<number>;
  readonly onRepaired: (generation: number, note: string) => void;
}

/** The writer's connection to the index, and how it gets a new one when the old one turns out to be damaged. */
export class IndexKeeper {
  readonly #options: IndexKeeperOptions;
  /** Undefined when a new index could not be opened yet. */
  #tables: IndexTables | undefined;
  #generation = 0;
  #repairing: Promise<void> | undefined;

  constructor(options: IndexKeeperOptions) {
    this.#options = options;
    this.#tables = options.tables;
  }

  get tables(): IndexTables {
    const { paths, seed } = this.#options;
    this.#tables ??= new IndexTables(openIndexForWriting(paths.index, seed));
    return this.#tables;
  }

  /** Runs `work`; once more when it came upon a damaged index. What it rejects with is an error for the world. */
  async attempt<T>(work: () => Promise<T>): Promise<T> {
    const generation = this.#generation;
    try {
      return await work();
    } catch (error) {
      if (!isIndexDamage(error)) throw diskError(error);
    }
    try {
      await this.repair(generation);
      return await work();
    } catch (error) {
      throw diskError(error);
    }
  }

  /** Builds the index again, unless that has been done since it had this generation. */
  async repair(generation: number): Promise<void> {
    if (generation !== this.#generation) return;
    this.#repairing ??= this.#rebuild().finally(() => (this.#repairing = undefined));
    await this.#repairing;
  }

  async #rebuild(): Promise<void> {
    const { paths, seed, settle, onRepaired } = this.#options;
    const durablePlace = await settle();
    buildIndex(paths, seed, durablePlace);
    this.#tables?.close();
    this.#tables = undefined;
    installIndex(paths);
    this.#generation++;
    onRepaired(this.#generation, "the index was found damaged and was built again from the segments");
  }
}
