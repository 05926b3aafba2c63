/**
 * The index: an SQLite file that says where chunks are and what names there are. It holds nothing that the segments do not,
 * so whenever it is damaged it is thrown away and built again.
 *
 * SQLite does not check what it reads back, so each row carries a check of its own, and a file that was closed in order
 * has a check beside it.
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  fsyncSync,
} from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { pathToFileURL } from "node:url";
import { crc32 } from "node:zlib";
import { PRIVATE_FILE_MODE, makePrivate } from "../../durable-file.ts";
import { sqliteCode, transaction } from "../../sqlite.ts";
import type { StorePaths } from "../directory.ts";

/** 1: of stores of version 1, and not bound to its store. 2: may say that a segment ends before it does. */
const SCHEMA_VERSION = 3;
const SCHEMA = `
  create table chunks (
    ref blob primary key, place integer not null, stored integer not null, plain integer not null,
    codec integer not null, mark integer not null
  ) without rowid;
  create index chunks_by_place on chunks (place);
  create table names (
    name blob not null, sequence integer not null, action integer not null, version integer not null,
    stored_at integer not null, length integer not null, root blob not null, segment integer not null,
    listed integer not null, mark integer not null, primary key (name, sequence)
  ) without rowid;
  create index names_by_segment on names (segment);
  create table name_copies (
    name blob not null, sequence integer not null, segment integer not null, primary key (name, sequence, segment)
  ) without rowid;
  create index name_copies_by_segment on name_copies (segment);
  create table segments (
    number integer primary key, committed integer not null, dropped integer not null, mark integer not null
  );
  create table counters (id integer primary key check (id = 1), sequence integer not null, mark integer not null);
  pragma user_version = ${SCHEMA_VERSION};
`;

/** The index cannot be believed. Never leaves the store: it is answered by building the index again. */
export class IndexDamaged extends Error {
  override readonly name: string = "IndexDamaged";
}

const DAMAGE_CODES: ReadonlySet<number> = new Set([
  // "no such table": the file is valid and empty, or its schema was hit.
  1,
  // SQLITE_CORRUPT, SQLITE_NOTADB, SQLITE_MISMATCH
  11, 26, 20,
]);
const SQLITE_IOERR_SHORT_READ = 522;

/** Whether an error says that the index is damaged, as opposed to the disk being full or our mistake. */
export function isIndexDamage(error: unknown): boolean {
  if (error instanceof IndexDamaged) return true;
  if (!(error instanceof Error)) return false;
  // An integer beyond 2^53, where only smaller ones were written.
  if ("code" in error && error.code === "ERR_OUT_OF_RANGE") return true;
  if ("errcode" in error && error.errcode === SQLITE_IOERR_SHORT_READ) return true;
  return DAMAGE_CODES.has(sqliteCode(error));
}

/** Opens the writer's connection. Throws what `isIndexDamage` recognises when the file is no index of this store. */
export function openIndexForWriting(path: string, seed: number): DatabaseSync {
  const database = new DatabaseSync(path, { timeout: 5000 });
  try {
    database.exec("pragma journal_mode = wal; pragma synchronous = full; pragma cache_size = -32768");
    requireSchema(database, seed);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/**
 * Opens a connection for reading. `immutable` is for a file that no process writes to: SQLite then neither makes nor needs
 * the files beside it, and the caller has to notice when that is no longer so.
 */
export function openIndexForReading(path: string, seed: number, immutable: boolean): DatabaseSync {
  const url = pathToFileURL(path);
  if (immutable) url.searchParams.set("immutable", "1");
  const database = new DatabaseSync(url, { readOnly: true, timeout: 5000 });
  try {
    database.exec("pragma cache_size = -16384");
    requireSchema(database, seed);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

export const IN_MEMORY = ":memory:";

/** A new, empty index. Not durable until it is closed and synchronised: it is for building under another name. */
export function createIndex(path: string, seed: number): DatabaseSync {
  if (path !== IN_MEMORY) makePrivate(path);
  const database = new DatabaseSync(path);
  try {
    database.exec("pragma journal_mode = off; pragma synchronous = off; pragma cache_size = -65536");
    // An index that was copied from another store would name chunks and names that are not here, and hide those that are.
    database.exec(`${SCHEMA}; pragma application_id = ${seed | 0}`);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

function requireSchema(database: DatabaseSync, seed: number): void {
  const version = database.prepare("pragma user_version").get()?.["user_version"];
  if (version !== SCHEMA_VERSION) throw new IndexDamaged(`the index has schema ${String(version)}`);
  const id = database.prepare("pragma application_id").get()?.["application_id"];
  if (id !== (seed | 0)) throw new IndexDamaged("the index is another store's");
}

/**
 * Whether the file's pages fit together and its trees name the same rows, which finds a key that changed. Reads all of it:
 * 2.5 seconds for a million chunks.
 */
export function isSound(database: DatabaseSync): boolean {
  return database.prepare("pragma integrity_check(1)").get()?.["integrity_check"] === "ok";
}

/** From so many lookups on, one transaction for all of them costs less than one for each, which takes and gives up locks. */
const LOOKUPS_TOGETHER = 8;

/** Does `work`, which looks up so many rows and changes none. */
export function reading<T>(database: DatabaseSync, lookups: number, work: () => T): T {
  if (lookups < LOOKUPS_TOGETHER || database.isTransaction) return work();
  database.exec("begin");
  try {
    return work();
  } finally {
    if (database.isTransaction) database.exec("commit");
  }
}

/**
 * Does `work` in a transaction which a loss of power may undo, with those behind it, though no process that is killed: for what stands in
 * synchronised segments, from which whoever next opens the store to write takes it over again. One that is not so makes it durable, too.
 */
export function recoverableTransaction<T>(database: DatabaseSync, work: () => T): T {
  database.exec("pragma synchronous = normal");
  try {
    return transaction(database, work);
  } finally {
    database.exec("pragma synchronous = full");
  }
}

const PAGE_BYTES = 4096;
const LOG_BYTES: number = 1000 * PAGE_BYTES;
const LOG_BYTES_MIN: number = 8 * PAGE_BYTES;

/** Takes over what is in the log, and lets it become no longer than that: what it has, nobody else can use. */
export function shortenLog(database: DatabaseSync, bytes: number = LOG_BYTES): void {
  const pages = Math.floor(Math.max(bytes, LOG_BYTES_MIN) / PAGE_BYTES);
  database.exec(`pragma wal_autocheckpoint = ${pages}; pragma wal_checkpoint(truncate)`);
}

export function hasWal(path: string): boolean {
  return existsSync(`${path}-wal`);
}

const CHECK_READ_BYTES = 1024 * 1024;

/** "size crc" of a file. */
function fileCheck(path: string): string {
  const file = openSync(path, "r");
  try {
    const { size } = fstatSync(file);
    const buffer = Buffer.allocUnsafe(CHECK_READ_BYTES);
    let crc = 0;
    for (let at = 0; at < size;) {
      const count = readSync(file, buffer, 0, CHECK_READ_BYTES, at);
      if (count === 0) break;
      crc = crc32(buffer.subarray(0, count), crc);
      at += count;
    }
    return `${size} ${crc}`;
  } finally {
    closeSync(file);
  }
}

/** Writes down what the index looks like, after it was closed in order, and before which place everything is durable. */
export function writeIndexCheck(paths: StorePaths, durablePlace: number): void {
  // There whole or not at all: half of one would be taken for that of an index that is damaged.
  const temporary = `${paths.indexCheck}.new`;
  try {
    writeFileSync(temporary, `${fileCheck(paths.index)} ${durablePlace}`, { mode: PRIVATE_FILE_MODE });
    const file = openSync(temporary, "r+");
    fsyncSync(file);
    closeSync(file);
    renameSync(temporary, paths.indexCheck);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/** Whether the index is what it was when it was closed; undefined when it was not closed in order. */
export function matchesIndexCheck(paths: StorePaths): boolean | undefined {
  if (!existsSync(paths.indexCheck) || hasWal(paths.index)) return undefined;
  return readFileSync(paths.indexCheck, "utf8").startsWith(`${fileCheck(paths.index)} `);
}

/** The place before which everything was durable when the index was last closed in order, so far as that is known; else 0. */
export function placeOfIndexCheck(paths: StorePaths): number {
  if (!existsSync(paths.indexCheck)) return 0;
  const place = Number(readFileSync(paths.indexCheck, "utf8").split(" ")[2]);
  return Number.isSafeInteger(place) ? place : 0;
}
