/** What writes a store: opens it, then answers calls until it is told to close, in whatever thread it was started. */
import { accessSync, constants, rmSync, statfsSync } from "node:fs";
import { errorToJson, hasCode } from "../../../packets/errors.ts";
import { makeDirectory } from "../../durable-file.ts";
import { StoreError, StoreErrorCode, systemCode } from "../../errors.ts";
import { WriterLock, createStore, readStoreId, repairFormat, storePaths } from "../directory.ts";
import type { StorePaths } from "../directory.ts";
import { sqliteCode } from "../../sqlite.ts";
import { diskError, isDiskFull, nodeDisk } from "../disk.ts";
import type { FromWriter, ToWriter, WriterData, WriterRequest } from "./protocol.ts";
import { reserveBytesMax, segmentBytes } from "./reserve.ts";
import { WriterThread } from "./thread.ts";

/** Who uses the store, as what writes it sees them. */
export interface WriterPort {
  /** What is in `transfer` is not used here any more. */
  readonly post: (message: FromWriter, transfer?: readonly ArrayBuffer[]) => void;
  /** Calls `take` with each message from here on. */
  readonly listen: (take: (message: ToWriter) => void) => void;
  readonly close: () => void;
}

type Post = WriterPort["post"];

/** Resolves when the store is open, or has been told not to open. Never rejects. */
export async function serveWriter(data: WriterData, port: WriterPort): Promise<void> {
  try {
    const writer = await openWriter(data, port.post);
    port.listen((message) => void serve(writer, message, data, port));
    port.post({ kind: "opened", id: writer.storeId, notes: writer.notes });
  } catch (error) {
    port.post({ kind: "not-opened", error: errorToJson(placed(error, data)) });
  }
}

async function openWriter({ directory, lockWaitMs }: WriterData, post: Post): Promise<WriterThread> {
  const paths = storePaths(directory);
  let isStore = false;
  try {
    isStore = readStoreId(paths) !== undefined;
    await makeDirectory(directory);
    const lock = WriterLock.acquire(paths, lockWaitMs);
    try {
      return await openWithReserve(paths, lock, post);
    } catch (error) {
      lock.release();
      throw error;
    }
  } catch (error) {
    throw openError(paths, error, isStore);
  }
}

/** Whoever opens a store on a full disk may be about to make room. */
async function openWithReserve(paths: StorePaths, lock: WriterLock, post: Post): Promise<WriterThread> {
  try {
    return await openLocked(paths, lock, post);
  } catch (error) {
    if (!isDiskFull(error)) throw error;
  }
  rmSync(paths.reserve, { force: true });
  return openLocked(paths, lock, post);
}

async function openLocked(paths: StorePaths, lock: WriterLock, post: Post): Promise<WriterThread> {
  const storeId = readStoreId(paths) ?? (await createStore(paths));
  await repairFormat(paths, storeId);
  const bytes = diskBytes(paths);
  return WriterThread.open({
    paths,
    storeId,
    disk: nodeDisk,
    lock,
    segmentBytesMax: segmentBytes(bytes),
    reserveBytesMax: reserveBytesMax(bytes),
    onCommitted: (place) => post({ kind: "committed", place }),
    onNote: (text) => post({ kind: "note", text }),
    onDropped: (segment) => post({ kind: "dropped", segment }),
    onRepaired: (generation, note) => post({ kind: "repaired", generation, note }),
  });
}

function diskBytes({ directory }: StorePaths): number {
  const { blocks, bsize } = statfsSync(directory);
  return blocks * bsize;
}

const REFUSALS = new Set(["EACCES", "EPERM", "EROFS", "ENOTDIR", "EISDIR", "EEXIST", "ENOENT"]);
/** SQLITE_PERM, SQLITE_READONLY, SQLITE_CANTOPEN */
const SQLITE_REFUSALS = new Set([3, 8, 14]);

/** Why somebody who may read a store may not write to it. */
const READ_ONLY: Readonly<Record<string, string>> = {
  EROFS: "its file system is read-only",
  EACCES: "this user may not write there",
  EPERM: "this user may not write there",
};

/** SQLite does not say why it could not open a file. */
function whyReadOnly({ directory }: StorePaths): string | undefined {
  try {
    accessSync(directory, constants.W_OK);
    return undefined;
  } catch (error) {
    return READ_ONLY[systemCode(error)];
  }
}

function openError(paths: StorePaths, error: unknown, isStore: boolean): unknown {
  const isRefusal = REFUSALS.has(systemCode(error)) || SQLITE_REFUSALS.has(sqliteCode(error));
  if (!isRefusal || !(error instanceof Error)) return diskError(error);
  const { directory } = paths;
  const readOnly = isStore ? (READ_ONLY[systemCode(error)] ?? whyReadOnly(paths)) : undefined;
  if (readOnly !== undefined) {
    return new StoreError(
      StoreErrorCode.readOnly,
      `the store ${directory} can only be read: ${readOnly}`,
      { directory, reason: readOnly },
      { cause: error },
    );
  }
  const reason = error.message;
  return new StoreError(
    StoreErrorCode.unreadable,
    `${directory} cannot be opened as a store: ${reason}`,
    { directory, reason },
    { cause: error },
  );
}

/** A machine may have several disks. */
function placed(error: unknown, { directory }: WriterData): unknown {
  if (!hasCode(error, StoreErrorCode.full)) return error;
  const message = `the disk of the store ${directory} is full`;
  return new StoreError(StoreErrorCode.full, message, error.data, { cause: error });
}

async function answer(writer: WriterThread, request: WriterRequest): Promise<unknown> {
  switch (request.kind) {
    case "open-writer":
      return void writer.openWriter(request, request.writer);
    case "close-writer":
      return writer.closeWriter(request.writer);
    case "write":
      return writer.write(request.writer, request.block, request.lengths);
    case "write-stored":
      return writer.writeStored(request.writer, request.block, request.chunks);
    case "claim":
      return writer.claim(request.writer, request.refs);
    case "flush":
      return writer.flush(request.writer);
    case "bind":
      return writer.bind(request.writer, request, request);
    case "put-whole":
      return writer.putWhole(request.block, request.lengths, request, request);
    case "remove-name":
      return writer.removeName(request.name, request);
    case "damaged":
      return writer.markDamaged(request.refs, request.places);
    case "rewrite":
      return writer.rewrite(request.segment);
    case "gc-begin":
      return writer.beginGc();
    case "gc-mark":
      return writer.markLive(request.refs);
    case "gc-sweep":
      return writer.sweep();
    case "gc-stop":
      return writer.stopGc();
    case "gc-end":
      return writer.endGc();
    case "repair":
      return repair(writer, request.generation, request.done);
    case "close":
      return writer.close();
  }
}

/** The other thread stands still until `done` says something, whatever happens here. */
async function repair(
  writer: WriterThread,
  generation: number,
  done: Int32Array<SharedArrayBuffer>,
): Promise<void> {
  let result = 2;
  try {
    await writer.repair(generation);
    result = 1;
  } finally {
    Atomics.store(done, 0, result);
    Atomics.notify(done, 0);
  }
}

/** What of an answer is handed over instead of copied; the block of a write goes back to where it came from. */
function transferOf(value: unknown): ArrayBuffer[] {
  if (typeof value !== "object" || value === null) return [];
  const buffers: ArrayBuffer[] = [];
  if ("refs" in value && value.refs instanceof Uint8Array) buffers.push(value.refs.buffer as ArrayBuffer);
  if ("buffer" in value && value.buffer instanceof ArrayBuffer) buffers.push(value.buffer);
  return buffers;
}

async function serve(
  writer: WriterThread,
  { id, request }: ToWriter,
  data: WriterData,
  port: WriterPort,
): Promise<void> {
  try {
    const value = await answer(writer, request);
    port.post({ kind: "answer", id, value }, transferOf(value));
  } catch (error) {
    port.post({ kind: "failed", id, error: errorToJson(placed(error, data)) });
  }
  if (request.kind === "close") port.close();
}
