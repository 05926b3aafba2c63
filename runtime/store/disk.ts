/** The few file operations that a writer's promises rest on, behind an interface so that tests can make each of them fail. */
import { fstatSync } from "node:fs";
import { open, statfs, unlink } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { PRIVATE_FILE_MODE, syncDirectory } from "../durable-file.ts";
import { PacketfsError, hasCode } from "../../packets/errors.ts";
import { StoreError, StoreErrorCode, systemCode } from "../errors.ts";
import { sqliteCode } from "../sqlite.ts";
import { WRITE_HERE_BYTES_MAX } from "../limits.ts";
import { writeAll, writeAllSync } from "../write-all.ts";

export interface Disk {
  /** A new file. Rejects when it exists. */
  create(path: string): Promise<DiskFile>;
  open(path: string): Promise<DiskFile>;
  remove(path: string): Promise<void>;
  /** Makes the creation and removal of files in `path` durable. */
  syncDirectory(path: string): Promise<void>;
  /** Bytes that can still be stored under `path`, as far as the system says. */
  freeBytes(path: string): Promise<number>;
}

export interface DiskFile {
  /** Writes all of `buffers`, back to back, at `position`. When it rejects, some of them may have been written. */
  write(buffers: readonly Uint8Array[], position: number): Promise<void>;
  /** What was written before the call is durable when it resolves. Rejects when the file has been deleted. */
  sync(): Promise<void>;
  truncate(length: number): Promise<void>;
  close(): Promise<void>;
}

export const nodeDisk: Disk = {
  create: async (path) => new NodeFile(await open(path, "wx", PRIVATE_FILE_MODE)),
  open: async (path) => new NodeFile(await open(path, "r+")),
  remove: (path) => unlink(path),
  syncDirectory,
  freeBytes: async (path) => {
    const { bavail, bsize } = await statfs(path);
    return bavail * bsize;
  },
};

/** Cuts a file off behind `length` bytes. Rejects as the system does. */
export async function truncateFile(disk: Disk, path: string, length: number): Promise<void> {
  const file = await disk.open(path);
  try {
    await file.truncate(length);
  } finally {
    await file.close();
  }
}

class NodeFile implements DiskFile {
  readonly #handle: FileHandle;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  async write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    const bytes = buffers.reduce((sum, { byteLength }) => sum + byteLength, 0);
    // The system takes a few bytes sooner than another thread is there to hand them to it.
    if (bytes <= WRITE_HERE_BYTES_MAX) writeAllSync(this.#handle.fd, buffers, position);
    else await writeAll(this.#handle.fd, buffers, position);
  }

  async sync(): Promise<void> {
    const synced = this.#handle.datasync();
    // Who cannot be looked at fails for that.
    synced.catch(() => {});
    // The system synchronises what has no name any more without a word, and nobody will ever find it. Looked at meanwhile, since the
    // file may be closed as soon as it is done.
    const { nlink } = fstatSync(this.#handle.fd);
    await synced;
    if (nlink === 0) throw deletedFile();
  }

  async truncate(length: number): Promise<void> {
    await this.#handle.truncate(length);
    await this.#handle.sync();
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

function deletedFile(): StoreError {
  return new StoreError(StoreErrorCode.io, "a file of the store was deleted while it was written to", {
    system: "ENOENT",
  });
}

const FULL = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** A refusal of the operating system or of SQLite as an error for the world; any other error as it is. */
export function diskError(error: unknown): Error {
  if (!(error instanceof Error) || error instanceof PacketfsError) return error as Error;
  const system = systemCode(error);
  if (sqliteCode(error) === 0 && !/^E[A-Z0-9]+$/.test(system)) return error;
  const isFull = FULL.has(system) || sqliteCode(error) === SQLITE_FULL || isSharedMemoryShort(error);
  return new StoreError(
    isFull ? StoreErrorCode.full : StoreErrorCode.io,
    isFull ? "the disk is full" : `the disk refuses: ${error.message}`,
    { system },
    { cause: error },
  );
}

/** Whether an error says that there is no room: of the system, of SQLite, or ours. */
export function isDiskFull(error: unknown): boolean {
  return hasCode(diskError(error), StoreErrorCode.full);
}

const SQLITE_FULL = 13;
/** The file beside the index that processes share could not be made longer, or not be opened. */
const SQLITE_IOERR_SHMSIZE = 4874;
const SQLITE_IOERR_SHMOPEN = 4618;

function isSharedMemoryShort(error: Error): boolean {
  return "errcode" in error && error.errcode === SQLITE_IOERR_SHMSIZE;
}

/** Whether an error says that there is none of what the processes share that use the index. */
export function isWithoutSharedMemory(error: unknown): boolean {
  if (!(error instanceof Error) || !("errcode" in error)) return false;
  return isSharedMemoryShort(error) || error.errcode === SQLITE_IOERR_SHMOPEN;
}
