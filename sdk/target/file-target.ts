/**
 * Where a file is fetched to, treated as cp treats it: links are followed, and what stands there keeps its mode and its owner. A
 * file is as it was until all bytes have come:
 *
 *   no file yet, or one that can be replaced                 a temporary file beside it, synced, renamed over it, and the
 *                                                            directory synced
 *   a file with other names, a mount point, another's file   a temporary file, copied into it
 *   a device, a pipe, a descriptor                           written to while the bytes come
 */
import type { Stats } from "node:fs";
import { access, constants, lstat, open, readlink, realpath, rename, rm, stat } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, resolve } from "node:path";
import { PRIVATE_FILE_MODE, syncDirectory } from "../../runtime/durable-file.ts";
import { unlessAborted } from "../../runtime/unless-aborted.ts";
import { writeAll } from "../../runtime/write-all.ts";
import { fileError, systemCode, UsageError } from "../errors.ts";
import { leavePart, openPart, removeLeftParts } from "./part-file.ts";
import type { PartFile } from "./part-file.ts";

export { PART_AGE_MS_MAX, removeDeadParts } from "./part-file.ts";

/** Bytes that are written at once; as many may be on their way before them. */
const WRITE_BYTES: number = 1 * 1024 * 1024;
const NEW_FILE_MODE = 0o666;
const MODE_BITS = 0o7777;
/** Paths of open files. What they lead to may be a file without that name, or of which somebody has written a part. */
const DESCRIPTOR = /^\/dev\/(stdin|stdout|stderr|fd\/\d+)$|^\/proc\/(self|\d+)\/fd\/\d+$/;
/** What replacing a file fails with where writing into it may not: a mount point, a sticky directory, another's file. */
const NOT_REPLACED = ["EBUSY", "EXDEV", "EPERM", "EACCES"];
const NOTHING_BESIDE = ["EACCES", "EPERM", "EROFS"];
/** What syncing a directory fails with that one may write to but not read, or whose file system has no such thing. */
const NOT_SYNCED = ["EACCES", "EPERM", "EINVAL", "ENOTSUP"];

/** What is to be written. */
export interface Content {
  /** Whether the file that is there has these bytes and no others: then nothing is written. Asked once, before the others. */
  isThere?(): Promise<boolean>;
  /** All of it, in order. `held` are files that may hold some of it already; they are there until it has been read. */
  read(held: readonly string[]): AsyncIterable<Uint8Array>;
  /**
   * Has it written where it belongs in a file that nobody else uses, where there is such a file. Resolves with its bytes, or with
   * undefined where it has to be read after all.
   */
  fill?(part: Part): Promise<number | undefined>;
  /** Whether what was written of it until this error is of use to whoever tries again. */
  survives?(error: unknown): boolean;
}

export interface Part {
  readonly handle: FileHandle;
  readonly path: string;
  /** Where a journal of it can be: it is there still when the part is taken over from an earlier try, and goes with it otherwise. */
  readonly journal: string;
  /** Other files that may hold some of the content. */
  readonly held: readonly string[];
}

/** Where bytes can be written to. */
export interface FileTarget {
  /** Whether there is a file that they are to replace. */
  readonly isFile: boolean;
  /** Resolves with the bytes written. */
  write(content: Content): Promise<number>;
}

/**
 * Looks at `path` before anything is fetched for it. Rejects with PFS_FILE_FAILED, PFS_FILE_NOT_FOUND or PFS_USAGE where it
 * cannot be written to. Nobody waits any more after `signal`: a pipe that nobody reads would keep whoever writes for ever.
 */
export async function findTarget(path: string, signal: AbortSignal | undefined): Promise<FileTarget> {
  try {
    const found = await statOf(path);
    if (found === undefined) return await newFile(await endOfLinks(path), path);
    if (found.isDirectory()) throw new UsageError(`${path} is a directory; name a file in it`);
    await access(path, constants.W_OK);
    if (found.isFile() && !DESCRIPTOR.test(path)) return oldFile(await realpath(path), path, found);
    return {
      isFile: false,
      write: (content) => unlessAborted(writeInto(path, path, content.read([])), signal),
    };
  } catch (error) {
    throw fileError(error, "write", path);
  }
}

/** Whether files can be written into `path`, or it is spelled as if they could. */
export async function isDirectory(path: string): Promise<boolean> {
  return path.endsWith("/") || (await statOf(path).catch(() => undefined))?.isDirectory() === true;
}

async function newFile(path: string, shown: string): Promise<FileTarget> {
  const directory = dirname(path);
  if (!(await stat(directory)).isDirectory()) {
    throw new UsageError(`cannot write ${shown}: ${directory} is not a directory`);
  }
  return {
    isFile: false,
    write: async (content) => {
      await using temporary = await openTemporary([directory], path, NEW_FILE_MODE, shown);
      const bytes = await temporary.fill(content, []);
      await temporary.rename(path).catch((error: unknown) => {
        throw fileError(error, "write", shown);
      });
      await syncName(path, shown);
      return bytes;
    },
  };
}

function oldFile(path: string, shown: string, found: Stats): FileTarget {
  return {
    isFile: true,
    write: async (content) => {
      await using temporary = await openTemporary([dirname(path), tmpdir()], path, PRIVATE_FILE_MODE, shown);
      const bytes = await temporary.fill(content, [path]);
      // Its other names are to show the new bytes too.
      const isReplaced = found.nlink === 1 && (await replace(path, shown, found, temporary));
      if (isReplaced) await syncName(path, shown);
      else await writeInto(path, shown, temporary.read());
      return bytes;
    },
  };
}

/** Puts the new file where the old one is, with its mode and owner. False where that cannot be. */
async function replace(path: string, shown: string, old: Stats, temporary: Temporary): Promise<boolean> {
  const { handle } = temporary;
  try {
    const { uid, gid } = await handle.stat();
    if (uid !== old.uid || gid !== old.gid) await handle.chown(old.uid, old.gid);
    await handle.chmod(old.mode & MODE_BITS);
    await temporary.rename(path);
    return true;
  } catch (error) {
    if (NOT_REPLACED.includes(systemCode(error) ?? "")) return false;
    throw fileError(error, "write", shown);
  }
}

/** Makes durable that the file of this name is the new one, where that can be done. */
async function syncName(path: string, shown: string): Promise<void> {
  try {
    await syncDirectory(dirname(path));
  } catch (error) {
    if (!NOT_SYNCED.includes(systemCode(error) ?? "")) throw fileError(error, "write", shown);
  }
}

/** A file that is gone when it is disposed of, unless it was renamed or is left to whoever tries again. */
interface Temporary extends AsyncDisposable {
  readonly handle: FileHandle;
  /** Resolves with the bytes, which are durable then. `held` may hold some of them, and so may what an earlier try left here. */
  fill(content: Content, held: readonly string[]): Promise<number>;
  read(): AsyncIterable<Uint8Array>;
  rename(path: string): Promise<void>;
}

/** In the first of the directories that lets it. */
async function openTemporary(
  [directory, ...others]: readonly [string, ...string[]],
  target: string,
  mode: number,
  shown: string,
): Promise<Temporary> {
  const failed = (error: unknown): unknown => fileError(error, "write", shown);
  let part: PartFile;
  try {
    part = await openPart(directory, target, mode);
  } catch (error) {
    const [next, ...rest] = others;
    if (next === undefined || !NOTHING_BESIDE.includes(systemCode(error) ?? "")) throw failed(error);
    return openTemporary([next, ...rest], target, mode, shown);
  }
  const { handle, path, journal, isTakenOver } = part;
  let isKept = false;
  let isLeft = false;
  return {
    handle,
    fill: async (content, held) => {
      const own = isTakenOver ? [path, ...held] : held;
      let bytes: number;
      try {
        bytes =
          (await content.fill?.({ handle, path, journal, held })) ??
          (await writePieces(handle, content.read(own), failed));
      } catch (error) {
        isLeft = content.survives?.(error) === true;
        throw error;
      }
      if (isTakenOver) await cutOff(handle, bytes, failed);
      await handle.sync();
      await removeLeftParts(directory, target);
      return bytes;
    },
    read: () => handle.createReadStream({ start: 0, autoClose: false, highWaterMark: WRITE_BYTES }),
    rename: async (target) => {
      await rename(path, target);
      isKept = true;
      await rm(journal, { force: true });
    },
    [Symbol.asyncDispose]: async () => {
      await handle.close();
      if (isLeft) await leavePart(directory, part);
      if (isLeft || isKept) return;
      await rm(path, { force: true });
      await rm(journal, { force: true });
    },
  };
}

/** Nothing stands behind the bytes that were written, whatever the file held before. */
async function cutOff(handle: FileHandle, bytes: number, failed: (error: unknown) => unknown): Promise<void> {
  await handle.truncate(bytes).catch((error: unknown) => {
    throw failed(error);
  });
}

/** Writes into what is there, which then holds these bytes and no others. */
async function writeInto(path: string, shown: string, content: AsyncIterable<Uint8Array>): Promise<number> {
  const failed = (error: unknown): unknown => fileError(error, "write", shown);
  const handle = await open(path, "w").catch((error: unknown) => {
    throw failed(error);
  });
  try {
    return await writePieces(handle, content, failed);
  } finally {
    await handle.close();
  }
}

async function statOf(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (systemCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** Where a link leads that leads to nothing yet; another path is its own end. */
async function endOfLinks(path: string): Promise<string> {
  const found = await lstat(path).catch(() => undefined);
  if (found?.isSymbolicLink() !== true) return path;
  return endOfLinks(resolve(dirname(path), await readlink(path)));
}

/**
 * Writes pieces of bytes to a file: many at a time, and the next ones are fetched meanwhile. Resolves with the bytes
 * written. A write that fails rejects with what `failed` makes of its error.
 */
async function writePieces(
  handle: FileHandle,
  content: AsyncIterable<Uint8Array>,
  failed: (error: unknown) => unknown,
): Promise<number> {
  let total = 0;
  let pieces: Uint8Array[] = [];
  let waiting = 0;
  let writing: Promise<void> = Promise.resolve();
  let failure: { readonly error: unknown } | undefined;
  const flush = async (): Promise<void> => {
    await writing;
    if (failure !== undefined) throw failed(failure.error);
    const batch = pieces;
    pieces = [];
    waiting = 0;
    writing = writeAll(handle.fd, batch, undefined).catch((error: unknown) => {
      failure = { error };
    });
  };
  try {
    for await (const piece of content) {
      pieces.push(piece);
      waiting += piece.byteLength;
      total += piece.byteLength;
      if (waiting >= WRITE_BYTES) await flush();
    }
    await flush();
    await writing;
    if (failure !== undefined) throw failed((failure as { readonly error: unknown }).error);
    return total;
  } finally {
    // Nobody may close the file while something is still being written.
    await writing;
  }
}
