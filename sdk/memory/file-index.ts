/**
 * What is remembered of files that were stored or fetched: as what root, so that one that did not change need not be read to know it,
 * and where on this machine bytes of a root lie that a later version is like. An SQLite file in the user's cache, shared by all
 * processes: whatever is wrong with it, or holds it up, it is as if nothing were remembered.
 *
 * Every row is true by itself, and has a check of its own: this path, when the system said this of it, had these bytes. So a row may
 * be old, lost or of a file that is gone, but it names no wrong root. What the files of stored directories are is remembered beside,
 * a file for each directory (runtime/tree/tree-index.ts): small ones are parts of a stream and have no roots, and thousands of them are
 * asked for and exchanged at once.
 */
import { stat } from "node:fs/promises";
import { existsSync, rmSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { crc32 } from "node:zlib";
import { refToHex, sameBytes } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import { makeDirectory, makePrivate } from "../../runtime/durable-file.ts";
import { FILE_SETTLED_MS, FILE_TICK_MS } from "../../runtime/limits.ts";
import { sqliteCode, transaction } from "../../runtime/sqlite.ts";

/** Files that are remembered at most; of more, those go that were not used for the longest. */
const ROWS_MAX: number = 64 * 1024;
/** How long a call may stand still for another process that writes; without, rows of processes that end together would be lost. */
const BUSY_MS = 100;
/** What another version of the format is in has another name: neither throws the other's away. */
const FILE_NAME = "files-2.db";
/** The rows' numbers are the order of their use: of the oldest and the latest there are never more than ROWS_MAX between. */
const SCHEMA = `
  create table if not exists files (
    use integer primary key, path text not null unique, mark text not null, settled integer not null, root blob not null,
    length integer not null, name text not null, kin text not null, check_value integer not null
  );
  create index if not exists files_by_root on files (root);
  create index if not exists files_by_kin on files (kin);
  create table if not exists parts (directory text primary key, since integer not null);
`;
/** So many directories are noted in which something may be left, the latest of them. */
const PARTS_MAX = 256;
const DROP_PARTS = `delete from parts where directory in (select directory from parts order by since desc limit -1 offset ${PARTS_MAX})`;
const MS_NS = 1_000_000n;
const TOUCH = "update files set use = (select max(use) + 1 from files) where use = ?";

/** What the system said of a file. */
export interface SeenFile {
  /** Absolute. */
  readonly path: string;
  readonly length: number;
  /** Tells the file from others, and its state from others: device, number, length, written, changed, in nanoseconds. */
  readonly mark: string;
  /**
   * Whether it was left alone for long before: what was written to just now may be written to once more at the same time of the file
   * system's clock, and would look the same.
   */
  readonly isSettled: boolean;
  /** Whether its bytes were written a tick of the clock, and more, before it got its name: a write since then would show. */
  readonly isSinceNamed: boolean;
  /** When that was, in milliseconds by this process's clock. */
  readonly seenAt: number;
}

/** Undefined for what is not there, or is no regular file. */
export async function seeFile(path: string): Promise<SeenFile | undefined> {
  const now = Date.now();
  const stats = await stat(path, { bigint: true }).catch(() => undefined);
  if (stats?.isFile() !== true) return undefined;
  const { dev, ino, size, mtimeNs, ctimeNs } = stats;
  const last = mtimeNs > ctimeNs ? mtimeNs : ctimeNs;
  return {
    path: resolve(path),
    length: Number(size),
    mark: [dev, ino, size, mtimeNs, ctimeNs].join(" "),
    isSettled: last < BigInt(now - FILE_SETTLED_MS) * 1_000_000n,
    isSinceNamed: ctimeNs % MS_NS !== 0n && ctimeNs - mtimeNs > BigInt(FILE_TICK_MS) * MS_NS,
    seenAt: performance.now(),
  };
}

/**
 * What was seen of a file that this process has just renamed to where it is, and what of that is settled by now: the clock has gone on
 * since, and nobody else wrote to it.
 */
export async function seeAgain(before: SeenFile): Promise<SeenFile> {
  const now = await seeFile(before.path);
  if (now?.mark !== before.mark) return before;
  const isSettled = before.isSinceNamed && now.seenAt - before.seenAt > FILE_TICK_MS;
  return { ...before, isSettled: before.isSettled || isSettled };
}

/** Where bytes of a root lay when that was remembered: whoever reads them there verifies them. */
export interface KnownPlace {
  readonly path: string;
  readonly length: number;
  readonly root: Ref;
  /** As SeenFile has them. */
  readonly mark: string;
  readonly isSettled: boolean;
  /** What it is stored as; empty where it had no name. */
  readonly name: string;
}

interface Row extends KnownPlace {
  readonly use: number;
}

export class FileIndex implements Disposable {
  readonly #path: string;
  #database: DatabaseSync | undefined;
  /** Nothing is remembered any more: it could not be opened, or was damaged twice. */
  #isOff: boolean;
  #wasDamaged = false;

  private constructor(path: string, isOff: boolean) {
    this.#path = path;
    this.#isOff = isOff;
  }

  /** The index in a directory, which is made where it is not there, unless it `isOff`. Never rejects, and neither do its calls. */
  static async open(directory: string, isOff = false): Promise<FileIndex> {
    const isThere =
      !isOff &&
      (await makeDirectory(directory).then(
        () => true,
        () => false,
      ));
    return new FileIndex(join(directory, FILE_NAME), !isThere);
  }

  /** The root of the file as it is, where that is sure; undefined otherwise. */
  rootOf(file: SeenFile): Ref | undefined {
    const found = this.#use((database) => {
      const row = rowAt(database, file.path);
      return row?.isSettled === true && row.mark === file.mark
        ? { row, last: latestUse(database) }
        : undefined;
    });
    if (found === undefined) return undefined;
    const { row, last } = found;
    // Most lookups write nothing: one of the older half is made the latest.
    if (row.use <= last - ROWS_MAX / 2) this.#use((database) => database.prepare(TOUCH).run(row.use));
    return row.root;
  }

  /** Files that had this root when they were remembered, the latest first. */
  placesOf(root: Ref, limit: number): KnownPlace[] {
    return this.#places("select * from files where root = ? order by use desc limit ?", root, limit);
  }

  /** What was remembered of the file at a path, which may be another one by now. */
  placeAt(path: string): KnownPlace | undefined {
    return this.#places("select * from files where path = ?", resolve(path))[0];
  }

  /** Files that were stored or fetched by this name, and then those whose names differ from it in digits alone, each the latest first. */
  placesLike(name: string, limit: number): KnownPlace[] {
    if (name === "") return [];
    const query = "select * from files where kin = ? order by name = ? desc, use desc limit ?";
    return this.#places(query, kinOf(name), name, limit);
  }

  #places(query: string, ...values: (Ref | string | number)[]): KnownPlace[] {
    const found = this.#use((database) =>
      database
        .prepare(query)
        .all(...values)
        .map(readRow),
    );
    return (found ?? []).filter((row) => row !== undefined).map(({ use: _use, ...place }) => place);
  }

  /**
   * Remembers that a file has the bytes of this root, and what it is stored as. `before` is what was seen of it before it was read, or since it was written: a
   * file that is another one by now is not remembered. Resolves with whether it is.
   */
  async remember(before: SeenFile, root: Ref, name: string = ""): Promise<boolean> {
    const now = await seeFile(before.path);
    if (now?.mark !== before.mark) return false;
    const { path, length, mark, isSettled } = before;
    const row = { path, length, mark, isSettled, root, name };
    const done = this.#use((database) =>
      transaction(database, () => {
        const old = rowAt(database, path);
        const isSame = old?.mark === mark && sameBytes(old.root, root) && (name === "" || old.name === name);
        if (isSame && (old.isSettled || !isSettled)) return true;
        const use = latestUse(database) + 1;
        database
          .prepare("insert or replace into files values (?, ?, ?, ?, ?, ?, ?, ?, ?)")
          .run(use, path, mark, isSettled ? 1 : 0, root, length, name, kinOf(name), checkOf(row));
        database.prepare("delete from files where use <= ?").run(use - ROWS_MAX);
        return true;
      }),
    );
    return done === true;
  }

  /** Notes that a file is being fetched into this directory: what a killed process leaves there can be found. */
  notePart(directory: string): void {
    this.#use((database) => {
      database.prepare("insert or ignore into parts values (?, ?)").run(resolve(directory), Date.now());
      database.prepare(DROP_PARTS).run();
    });
  }

  /** Directories that were noted, and when, in milliseconds since 1970; the longest ago first. */
  partDirectories(): { readonly directory: string; readonly since: number }[] {
    const found = this.#use((database) => database.prepare("select * from parts order by since").all());
    return (found ?? []).map(({ directory, since }) => ({
      directory: String(directory),
      since: Number(since),
    }));
  }

  /** Nothing is left in this directory. */
  forgetPart(directory: string): void {
    this.#use((database) => database.prepare("delete from parts where directory = ?").run(directory));
  }

  /** Forgets everything. */
  clear(): void {
    if (!existsSync(this.#path)) return;
    this.#use((database) =>
      database.exec("delete from files; delete from parts; vacuum; pragma wal_checkpoint(truncate)"),
    );
  }

  close(): void {
    this.#isOff = true;
    this.#closeDatabase();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Undefined where the index is of no use, or another process writes to it for long. */
  #use<Result>(work: (database: DatabaseSync) => Result): Result | undefined {
    if (this.#isOff) return undefined;
    try {
      this.#database ??= openDatabase(this.#path);
      return work(this.#database);
    } catch (error) {
      const code = sqliteCode(error);
      if (BUSY_CODES.has(code)) return undefined;
      this.#closeDatabase();
      if (REFUSAL_CODES.has(code) || this.#wasDamaged) this.#isOff = true;
      else {
        this.#wasDamaged = true;
        removeDatabase(this.#path);
      }
      return undefined;
    }
  }

  #closeDatabase(): void {
    const database = this.#database;
    this.#database = undefined;
    try {
      database?.close();
    } catch {
      // Whatever it held is remembered or not.
    }
  }
}

/** SQLITE_BUSY, SQLITE_LOCKED */
const BUSY_CODES: ReadonlySet<number> = new Set([5, 6]);
/** SQLITE_PERM, SQLITE_NOMEM, SQLITE_READONLY, SQLITE_IOERR, SQLITE_FULL, SQLITE_CANTOPEN: nothing is wrong with the file itself. */
const REFUSAL_CODES: ReadonlySet<number> = new Set([3, 7, 8, 10, 13, 14]);

function openDatabase(path: string): DatabaseSync {
  makePrivate(path);
  const database = new DatabaseSync(path, { timeout: BUSY_MS });
  try {
    // A row that is lost is made again: nobody waits for a disk.
    database.exec("pragma journal_mode = wal; pragma synchronous = off; pragma cache_size = -2048");
    database.exec(SCHEMA);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** The log first: what begins anew must not find an old one beside it. */
function removeDatabase(path: string): void {
  for (const ending of ["-wal", "-shm", "-journal", ""]) {
    try {
      rmSync(`${path}${ending}`, { force: true, recursive: true });
    } catch {
      // It stays damaged, and nothing is remembered.
    }
  }
}

/** Undefined for one that is damaged, too. */
function rowAt(database: DatabaseSync, path: string): Row | undefined {
  const row = database.prepare("select * from files where path = ?").get(path);
  return row === undefined ? undefined : readRow(row);
}

function latestUse(database: DatabaseSync): number {
  return Number(database.prepare("select max(use) as last from files").get()?.["last"] ?? 0);
}

function readRow(row: Readonly<Record<string, unknown>>): Row | undefined {
  const { use, path, mark, settled, root, length, name, check_value: check } = row;
  if (
    typeof name !== "string" ||
    typeof use !== "number" ||
    typeof path !== "string" ||
    typeof mark !== "string"
  )
    return undefined;
  if (typeof length !== "number" || !(root instanceof Uint8Array) || root.byteLength !== REF_BYTES)
    return undefined;
  const read = { use, path, mark, isSettled: settled === 1, root: new Uint8Array(root), length, name };
  return checkOf(read) === check ? read : undefined;
}

/** SQLite does not check what it reads back. */
function checkOf({ path, mark, isSettled, root, length, name }: KnownPlace): number {
  return crc32(JSON.stringify([path, mark, isSettled, refToHex(root), length, name]));
}

/** What versions of a file have in common that have their numbers in their names: its last part, without digits. Empty for no name. */
function kinOf(name: string): string {
  return basename(name).replace(/\d+/g, "0");
}
