/**
 * The index as a process sees it that does not write to it: in the writer's own process beside the writer's thread, or in
 * another one, with or without a writer somewhere.
 *
 *   live       a writer is there, or was killed: an ordinary connection, which sees each commit
 *   immutable  no writer: the file alone, nothing is made beside it; opened again as soon as the file is not what it was
 *   memory     the file is lost or damaged and nobody is there to build it again: built from the segments for this process
 */
import { existsSync, statSync } from "node:fs";
import { StoreError, StoreErrorCode } from "../../errors.ts";
import { sqliteCode } from "../../sqlite.ts";
import { diskError, isWithoutSharedMemory } from "../disk.ts";
import { IndexDamaged, hasWal, isIndexDamage, matchesIndexCheck, openIndexForReading } from "./database.ts";
import { IndexTables } from "./tables.ts";
import { buildIndexInMemory } from "./rebuild.ts";
import { listSegments, segmentBytes } from "../directory.ts";
import type { StorePaths } from "../directory.ts";
import { refAt, refKey } from "../../../packets/digest.ts";
import type { ChunkRow } from "./tables.ts";
import { PLACE_NUMBERS } from "../writer/protocol.ts";

export interface IndexReaderOptions {
  readonly paths: StorePaths;
  /** The store's check seed. */
  readonly seed: number;
  /** Has the writer build the index again, and returns when that is done. Undefined where there is no writer to ask. */
  readonly repair: (() => void) | undefined;
  /** Called where there is nobody to ask who could be waited for, when the file cannot be used. */
  readonly onUnusable?: (() => void) | undefined;
  readonly onNote: (note: string) => void;
}

type Mode = "live" | "immutable" | "memory";

/** Opening the file and finding it changed is tried so often before it is called a failure. */
const ATTEMPTS_MAX = 5;
/** SQLITE_PERM, SQLITE_READONLY, SQLITE_CANTOPEN: a log is there and may not be used. On a full disk it has no room to be. */
const REFUSED = new Set([3, 8, 14]);

export class IndexReader {
  readonly #options: IndexReaderOptions;
  #tables: IndexTables | undefined;
  #mode: Mode = "live";
  /** What the file looked like when it was opened. */
  #stamp = "";
  #isClosed = false;

  constructor(options: IndexReaderOptions) {
    this.#options = options;
  }

  /**
   * Runs `work` on the tables, maybe more than once: when the index turns out to be damaged, or was replaced meanwhile.
   * Throws PFS_STORE_CLOSED.
   */
  use<T>(work: (tables: IndexTables) => T): T {
    for (let attempt = 1; ; attempt++) {
      try {
        const tables = this.#open();
        const result = work(tables);
        if (this.#mode === "live" || this.#stamp === this.#look()) return result;
      } catch (error) {
        if (!isIndexDamage(error)) throw diskError(error);
        if (attempt === ATTEMPTS_MAX) throw unusable(error);
        this.#repair();
        continue;
      }
      this.reopen();
      if (attempt === ATTEMPTS_MAX) throw unusable(new IndexDamaged("it changes all the time"));
    }
  }

  /** The next use opens the file anew. */
  reopen(): void {
    this.#tables?.close();
    this.#tables = undefined;
  }

  /** Whether the file was replaced or written to since it was opened, so that what was not found may be there. */
  get isStale(): boolean {
    return this.#tables !== undefined && this.#look() !== this.#stamp;
  }

  close(): void {
    this.reopen();
    this.#isClosed = true;
  }

  #open(): IndexTables {
    if (this.#isClosed) throw new StoreError(StoreErrorCode.closed, "the store is closed");
    const { paths, repair } = this.#options;
    // Where there is a writer to ask it also says when it replaced the file.
    if (repair === undefined && this.isStale) this.reopen();
    if (this.#tables !== undefined) return this.#tables;
    this.#mode = repair !== undefined || hasWal(paths.index) ? "live" : "immutable";
    this.#stamp = this.#look();
    this.#tables = this.#openFile();
    return this.#tables;
  }

  #openFile(): IndexTables {
    const { paths, seed, repair } = this.#options;
    if (repair !== undefined) {
      if (!existsSync(paths.index)) throw new IndexDamaged("the index was deleted");
      return new IndexTables(openIndexForReading(paths.index, seed, false));
    }
    const isUsable =
      existsSync(paths.index) && (this.#mode === "immutable" || existsSync(`${paths.index}-shm`));
    if (!isUsable || matchesIndexCheck(paths) === false) return this.#build();
    try {
      const tables = new IndexTables(openIndexForReading(paths.index, seed, this.#mode === "immutable"));
      // Of a file that was written to meanwhile nothing can be said, and `use` opens it again.
      const isOlder = this.#mode === "immutable" && isBehind(tables, paths) && this.#stamp === this.#look();
      if (!isOlder) return tables;
      tables.close();
      return this.#build();
    } catch (error) {
      const isRefused = REFUSED.has(sqliteCode(error)) || isWithoutSharedMemory(error);
      if (isIndexDamage(error) || isRefused) return this.#build();
      throw error;
    }
  }

  #build(): IndexTables {
    this.#options.onUnusable?.();
    this.#mode = "memory";
    this.#stamp = this.#look();
    this.#options.onNote(
      "the index cannot be used and was built in memory from the segments; whatever writes next, such as a put or gc, makes it anew",
    );
    return buildIndexInMemory(this.#options.paths, this.#options.seed);
  }

  #repair(): void {
    this.reopen();
    const { repair } = this.#options;
    if (repair === undefined) this.#tables = this.#build();
    else repair();
  }

  #look(): string {
    const { index } = this.#options.paths;
    const status = statSync(index, { throwIfNoEntry: false });
    if (status === undefined) return "none";
    // Beside a writer the file changes all the time; what matters then is whether it is still the same file.
    if (this.#mode === "live") return String(status.ino);
    return `${status.ino} ${status.size} ${status.mtimeMs} ${hasWal(index)}`;
  }
}

function unusable(cause: unknown): StoreError {
  return new StoreError(StoreErrorCode.io, "the index of the store cannot be used", {}, { cause });
}

/** Whether the segments go on where an index that nobody writes to ends: it is an older one, which somebody has put back. */
function isBehind(tables: IndexTables, paths: StorePaths): boolean {
  const { number = 0, committedBytes = 0 } = tables.segments().at(-1) ?? {};
  const isLonger = segmentBytes(paths, number) > committedBytes;
  return isLonger || listSegments(paths).some((segment) => segment > number);
}

/** What a write was answered. */
interface Answer {
  readonly refs: Uint8Array;
  readonly places: Float64Array;
}

/**
 * Chunks that this process has written and that are not in the index yet, so that they can be read at once. Kept as the
 * blocks they came in; they are looked into only when somebody asks for a chunk that the index does not know.
 */
export class PendingPlaces {
  /** Answers that nobody has looked into yet. */
  #answers: Answer[] = [];
  readonly #rows: Map<string, ChunkRow> = new Map();

  /** Refs and places as a write answers them. */
  add(refs: Uint8Array, places: Float64Array): void {
    if (places.length > 0) this.#answers.push({ refs, places });
  }

  find(ref: Uint8Array): ChunkRow | undefined {
    for (const answer of this.#answers) this.#unpack(answer);
    this.#answers = [];
    return this.#rows.get(refKey(ref));
  }

  /** Everything before `place` is in the index now. */
  committed(place: number): void {
    this.#answers = this.#answers.filter(({ places }) => places[places.length - PLACE_NUMBERS + 1]! >= place);
    for (const [key, row] of this.#rows) if (row.place < place) this.#rows.delete(key);
  }

  #unpack({ refs, places }: Answer): void {
    for (let at = 0; at < places.length; at += PLACE_NUMBERS) {
      const [index, place, storedBytes, plainBytes, codec] = places.subarray(at, at + PLACE_NUMBERS);
      const row = { place: place!, storedBytes: storedBytes!, plainBytes: plainBytes!, codec: codec! };
      this.#rows.set(refKey(refAt(refs, index!)), { ...row, isDamaged: false });
    }
  }
}
