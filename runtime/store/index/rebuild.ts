/** Builds the index again from the segments, which hold everything that it says: when it is lost, or found damaged while it is used. */
import { closeSync, fsyncSync, openSync, renameSync, rmSync, statSync } from "node:fs";
import { listSegments, segmentPath } from "../directory.ts";
import type { StorePaths } from "../directory.ts";
import { diskError } from "../disk.ts";
import { RecordKind, decodeName, placeOf } from "../segments/format.ts";
import { scanSegment } from "../segments/scan.ts";
import type { ScannedRecord } from "../segments/scan.ts";
import { createIndex, isIndexDamage, openIndexForWriting, transaction } from "./database.ts";
import { IndexTables } from "./tables.ts";

/** Replaces the index file. No connection may be open. A crash on the way leaves the old one, or none. */
export function rebuildIndex(paths: StorePaths, seed: number): void {
  const temporary = `${paths.index}.new`;
  rmSync(temporary, { force: true });
  const tables = new IndexTables(createIndex(temporary));
  try {
    fill(tables, paths, seed);
  } finally {
    tables.close();
  }
  const file = openSync(temporary, "r+");
  fsyncSync(file);
  closeSync(file);
  // What the old index had not yet taken over from its log must not be applied to the new one.
  for (const suffix of ["-wal", "-shm"]) rmSync(`${paths.index}${suffix}`, { force: true });
  rmSync(paths.indexCheck, { force: true });
  renameSync(temporary, paths.index);
}

/** An index in memory, for a process that may not write and finds none that it can use. */
export function buildIndexInMemory(paths: StorePaths, seed: number): IndexTables {
  const tables = new IndexTables(createIndex(":memory:"));
  fill(tables, paths, seed);
  return tables;
}

function fill(tables: IndexTables, paths: StorePaths, seed: number): void {
  const numbers = listSegments(paths);
  for (const segment of numbers) {
    // A segment is durable before the next one is begun: only in the last one can a crash have torn a chunk.
    const isLast = segment === numbers.at(-1);
    const path = segmentPath(paths, segment);
    const options = { path, segment, seed, from: 0, damage: "search", checksChunks: isLast } as const;
    transaction(tables.database, () => {
      const end = addRecords(tables, scanSegment(options), (event, sequence) =>
        tables.names.insert(event, sequence, segment),
      );
      const committedBytes = isLast ? end : statSync(path).size;
      tables.putSegment({ number: segment, committedBytes, isDropped: false });
    });
  }
  transaction(tables.database, () => tables.names.relistAll());
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
  /** Resolves when what was appended is on the disk: an index must not know of anything else. */
  readonly settle: () => Promise<unknown>;
  readonly onRepaired: (generation: number, note: string) => void;
}

/** The writer's connection to the index, and how it gets a new one when the old one turns out to be damaged. */
export class IndexKeeper {
  readonly #options: IndexKeeperOptions;
  #tables: IndexTables;
  #generation = 0;
  #repairing: Promise<void> | undefined;

  constructor(options: IndexKeeperOptions) {
    this.#options = options;
    this.#tables = options.tables;
  }

  get tables(): IndexTables {
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
    await settle();
    this.#tables.close();
    rebuildIndex(paths, seed);
    this.#tables = new IndexTables(openIndexForWriting(paths.index));
    this.#generation++;
    onRepaired(this.#generation, "the index was found damaged and was built again from the segments");
  }
}
