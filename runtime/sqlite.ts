/** What all who keep an SQLite file need. */
import type { DatabaseSync } from "node:sqlite";

/** Runs `work` in one transaction, durable where the database is; all of it or nothing. */
export function transaction<T>(database: DatabaseSync, work: () => T): T {
  database.exec("begin immediate");
  try {
    const result = work();
    database.exec("commit");
    return result;
  } catch (error) {
    if (database.isTransaction) database.exec("rollback");
    throw error;
  }
}

/** SQLite's primary result code, or 0 when the error is not one of SQLite's. */
export function sqliteCode(error: unknown): number {
  if (!(error instanceof Error) || !("errcode" in error) || typeof error.errcode !== "number") return 0;
  return error.errcode & 0xff;
}
