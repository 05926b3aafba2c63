/** A store's directory: what is in it, what it is called, whether it is one, and who may write to it. */
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { crc32 } from "node:zlib";
import {
  PRIVATE_FILE_MODE,
  makeDirectory,
  removeLeftTemporaries,
  replaceFile,
  syncDirectory,
} from "../durable-file.ts";
import { StoreError, StoreErrorCode, systemCode } from "../errors.ts";
import { sqliteCode } from "../sqlite.ts";
import { diskError } from "./disk.ts";
import {
  SEGMENT_HEADER_BYTES,
  SEGMENT_NUMBER_MAX,
  STORE_ID_BYTES,
  decodeSegmentHeader,
} from "./segments/format.ts";

const FORMAT = "packetfs-store";
/** Stores of version 1 are read as they are, and become ones of version 2 when they are first opened for writing. */
const VERSION = 2;

export interface StorePaths {
  readonly directory: string;
  /** Says that this is a store, of which version, and its id. */
  readonly format: string;
  readonly segments: string;
  readonly index: string;
  /** Size and check of an index that was closed in order. */
  readonly indexCheck: string;
  /** Bytes of no meaning, see writer/reserve.ts. */
  readonly reserve: string;
  readonly lock: string;
  readonly pid: string;
}

export function storePaths(directory: string): StorePaths {
  return {
    directory,
    format: join(directory, "format.json"),
    segments: join(directory, "segments"),
    index: join(directory, "index.db"),
    indexCheck: join(directory, "index.check"),
    reserve: join(directory, "reserve"),
    lock: join(directory, "writer.lock"),
    pid: join(directory, "writer.pid"),
  };
}

export function segmentPath(paths: StorePaths, number: number): string {
  return join(paths.segments, `${String(number).padStart(8, "0")}.seg`);
}

const SEGMENT_FILE = /^(\d{8})\.seg$/;

/** The numbers of the segment files that are there, ascending. */
export function listSegments(paths: StorePaths): number[] {
  const numbers: number[] = [];
  for (const entry of readdirSync(paths.segments)) {
    const match = SEGMENT_FILE.exec(entry);
    const number = Number(match?.[1]);
    if (number >= 1 && number <= SEGMENT_NUMBER_MAX) numbers.push(number);
  }
  return numbers.toSorted((a, b) => a - b);
}

/** The length of a segment's file, 0 when there is none. */
export function segmentBytes(paths: StorePaths, number: number): number {
  return statSync(segmentPath(paths, number), { throwIfNoEntry: false })?.size ?? 0;
}

/** Says nothing about the directory: there may be more of it the next time. */
const EXHAUSTED = new Set(["EMFILE", "ENFILE", "ENOMEM"]);

/**
 * The id of the store in the directory; undefined when the directory is missing or empty, so that one can be made there.
 * Throws PFS_STORE_UNREADABLE {directory, reason} for anything else, PFS_STORE_IO when nothing more can be opened.
 */
export function readStoreId(paths: StorePaths): Buffer | undefined {
  try {
    if (!existsSync(paths.directory)) return undefined;
    const entries = readdirSync(paths.directory);
    requireFiles(paths, readFiles(paths));
    // Where they are on a disk of their own that is not mounted, all would be taken for lost.
    if (entries.includes("format.json") && !existsSync(paths.segments))
      throw unreadable(paths, "the directory of its segments is missing");
    if (entries.includes("format.json")) return readFormat(paths)?.id ?? idFromSegments(paths);
    if (isUnfinished(paths, entries)) return undefined;
    if (entries.includes("segments")) return idFromSegments(paths);
  } catch (error) {
    if (error instanceof StoreError) throw error;
    if (EXHAUSTED.has(systemCode(error))) throw diskError(error);
    throw unreadable(paths, refusal(error), error);
  }
  throw unreadable(paths, "the directory is not empty and not a store");
}

/**
 * Throws for what stands where a store has files and is none: to read a pipe is to wait for somebody who writes to it, and
 * what a device yields may have no end.
 */
function requireFiles(paths: StorePaths, files: readonly string[]): void {
  for (const path of files) {
    const found = statSync(path, { throwIfNoEntry: false });
    if (found !== undefined && !found.isFile())
      throw unreadable(paths, `${relative(paths.directory, path)} is not a file`);
  }
}

/** What whoever reads a store opens, but for the segments that are files as they should be. */
function readFiles({ format, index, indexCheck, segments }: StorePaths): string[] {
  // Of thousands of segments only those are looked at again that the directory does not call files; links are none.
  const odd = existsSync(segments)
    ? readdirSync(segments, { withFileTypes: true })
        .filter((entry) => SEGMENT_FILE.test(entry.name) && !entry.isFile())
        .map(({ name }) => join(segments, name))
    : [];
  return [format, index, `${index}-wal`, `${index}-shm`, indexCheck, ...odd];
}

/**
 * Whether a directory without a format file holds nothing but what a writer makes before it, and so was left by one that
 * ended then: the lock, the directory of the segments, a format file under another name.
 */
function isUnfinished(paths: StorePaths, entries: readonly string[]): boolean {
  return entries.every(
    (entry) =>
      entry.startsWith("writer.") ||
      isTemporaryFormat(entry) ||
      (entry === "segments" && readdirSync(paths.segments).length === 0),
  );
}

function isTemporaryFormat(entry: string): boolean {
  return entry.startsWith("format.json.");
}

/** Makes a store in the directory, durably, and returns its id. */
export async function createStore(paths: StorePaths): Promise<Buffer> {
  const id = randomBytes(STORE_ID_BYTES);
  // Whoever made the directory, maybe a writer that was killed at once, need not have made its name durable.
  await syncDirectory(dirname(paths.directory));
  await makeDirectory(paths.segments);
  await syncDirectory(paths.directory);
  await writeFormat(paths, id);
  return id;
}

/**
 * Puts a format file back whose store was recognised by its segments, or says that it is of this version from now on; and
 * removes what is left of files that were being written when their process was killed.
 */
export async function repairFormat(paths: StorePaths, id: Uint8Array): Promise<void> {
  await removeLeftTemporaries(paths.directory);
  for (const entry of readdirSync(paths.directory).filter(isTemporaryFormat)) {
    rmSync(join(paths.directory, entry), { force: true });
  }
  if (existsSync(paths.format) && readFormat(paths)?.version === VERSION) return;
  await writeFormat(paths, id);
}

async function writeFormat(paths: StorePaths, id: Uint8Array): Promise<void> {
  const fields = { format: FORMAT, version: VERSION, id: Buffer.from(id).toString("hex") };
  await replaceFile(
    paths.format,
    `${JSON.stringify({ ...fields, check: check(fields.version, fields.id) })}\n`,
  );
}

/** Undefined when the file is damaged. Throws when it is whole and of a version that this program does not know. */
function readFormat(paths: StorePaths): { readonly version: number; readonly id: Buffer } | undefined {
  const { format, version, id, check: expected } = parseObject(readFileSync(paths.format, "utf8"));
  if (format !== FORMAT || typeof version !== "number" || typeof id !== "string") return undefined;
  if (check(version, id) !== expected) return undefined;
  if (version === 1 || version === VERSION) return { version, id: Buffer.from(id, "hex") };
  throw unreadable(paths, `the store has version ${version}, this program knows version ${VERSION}`);
}

function check(version: number, id: string): number {
  return crc32(`${FORMAT} ${version} ${id}`);
}

function parseObject(text: string): Partial<Record<"format" | "version" | "id" | "check", unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    return {};
  }
}

function idFromSegments(paths: StorePaths): Buffer {
  for (const number of listSegments(paths)) {
    const id = readSegmentHeader(paths, number)?.storeId;
    if (id !== undefined) return Buffer.from(id);
  }
  throw unreadable(paths, "its format file is missing or damaged");
}

/** The header of a segment; undefined when it is damaged. Throws as the system does. */
export function readSegmentHeader(paths: StorePaths, number: number): ReturnType<typeof decodeSegmentHeader> {
  const header = Buffer.alloc(SEGMENT_HEADER_BYTES);
  const file = openSync(segmentPath(paths, number), "r");
  try {
    readSync(file, header, 0, SEGMENT_HEADER_BYTES, 0);
  } finally {
    closeSync(file);
  }
  return decodeSegmentHeader(header);
}

/** Why the system did not let somebody in. */
function refusal(error: unknown): string {
  const system = systemCode(error);
  if (system === "EACCES" || system === "EPERM") return "permission denied";
  return error instanceof Error ? error.message : String(error);
}

function unreadable(paths: StorePaths, reason: string, cause?: unknown): StoreError {
  return new StoreError(
    StoreErrorCode.unreadable,
    `${paths.directory} cannot be opened as a store: ${reason}`,
    { directory: paths.directory, reason },
    { cause },
  );
}

/**
 * One process at a time writes to a store. The lock is an exclusive transaction on an empty SQLite file: a lock of the
 * operating system, which ends with the process however that ends.
 */
const SQLITE_BUSY = 5;
const SQLITE_NOTADB = 26;

export class WriterLock {
  readonly #database: DatabaseSync;
  readonly #paths: StorePaths;

  private constructor(database: DatabaseSync, paths: StorePaths) {
    this.#database = database;
    this.#paths = paths;
  }

  /** Blocks the thread for up to `waitMs`. Throws PFS_STORE_BUSY {directory, pid} or PFS_STORE_UNREADABLE. */
  static acquire(paths: StorePaths, waitMs: number): WriterLock {
    requireFiles(paths, [paths.lock, paths.pid, paths.reserve]);
    const database = beginExclusive(paths, waitMs);
    // For the sentence that a second writer gets; nothing depends on it.
    try {
      writeFileSync(paths.pid, String(process.pid), { mode: PRIVATE_FILE_MODE });
    } catch {
      // A full disk must not keep away who wants to make room.
    }
    return new WriterLock(database, paths);
  }

  release(): void {
    rmSync(this.#paths.pid, { force: true });
    this.#database.close();
  }
}

/** Nobody else opens the file: whoever closes it releases the locks that all of his process have on it. */
function beginExclusive(paths: StorePaths, waitMs: number): DatabaseSync {
  const isNew = !existsSync(paths.lock);
  const database = new DatabaseSync(paths.lock, { timeout: waitMs });
  try {
    if (isNew) chmodSync(paths.lock, PRIVATE_FILE_MODE);
    database.exec("pragma journal_mode = memory; begin exclusive");
    return database;
  } catch (error) {
    database.close();
    if (sqliteCode(error) === SQLITE_BUSY) throw busy(paths);
    if (sqliteCode(error) !== SQLITE_NOTADB) throw error;
    // Nothing is ever written to the file, so what is in it is damage. Another process may have found that too and have the lock
    // by now: of this file, which stays.
    truncateSync(paths.lock);
    return beginExclusive(paths, waitMs);
  }
}

function busy(paths: StorePaths): StoreError {
  const pid = readPid(paths);
  const who = pid === 0 ? "another process" : `process ${pid}`;
  return new StoreError(StoreErrorCode.busy, `${who} writes to the store ${paths.directory}`, {
    directory: paths.directory,
    pid,
  });
}

function readPid(paths: StorePaths): number {
  try {
    return Number.parseInt(readFileSync(paths.pid, "utf8"), 10) || 0;
  } catch {
    return 0;
  }
}
