/**
 * One process at a time writes to a store. The lock is an exclusive transaction on an empty SQLite file: a lock of the
 * operating system, which ends with the process however that ends.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { StoreError, StoreErrorCode } from "../../errors.ts";
import { sqliteCode } from "../disk.ts";
import type { StorePaths } from "../store-directory.ts";

const SQLITE_BUSY = 5;
const SQLITE_NOTADB = 26;

export class WriterLock {
  readonly #database: DatabaseSync;
  readonly #paths: StorePaths;

  private constructor(database: DatabaseSync, paths: StorePaths) {
    this.#database = database;
    this.#paths = paths;
  }

  /** Blocks the thread for up to `waitMs`. Throws PFS_STORE_BUSY {directory, pid}. */
  static acquire(paths: StorePaths, waitMs: number): WriterLock {
    const database = beginExclusive(paths, waitMs);
    // For the sentence that a second writer gets; nothing depends on it.
    writeFileSync(paths.pid, String(process.pid));
    return new WriterLock(database, paths);
  }

  release(): void {
    rmSync(this.#paths.pid, { force: true });
    this.#database.close();
  }
}

function beginExclusive(paths: StorePaths, waitMs: number): DatabaseSync {
  const database = new DatabaseSync(paths.lock, { timeout: waitMs });
  try {
    database.exec("pragma journal_mode = memory; begin exclusive");
    return database;
  } catch (error) {
    database.close();
    if (sqliteCode(error) === SQLITE_BUSY) throw busy(paths);
    if (sqliteCode(error) !== SQLITE_NOTADB) throw error;
    // Nothing is ever written to the file, so what is in it is damage, and who could hold its lock would not run.
    rmSync(paths.lock);
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
