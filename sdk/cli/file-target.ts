/**
 * Writes a file so that it is there whole or not at all: into a temporary one beside it, synced, then renamed over the
 * target. What is no regular file (a device, a pipe) is written to directly, for it must not be replaced.
 */
import { randomBytes } from "node:crypto";
import { open, realpath, rename, rm, stat } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileError, systemCode, UsageError } from "../errors.ts";

/** Resolves with the bytes written. On failure the target is as it was. */
export async function writeWhole(path: string, content: AsyncIterable<Uint8Array>): Promise<number> {
  const target = await findTarget(path);
  const written = target.direct ? target.path : join(dirname(target.path), temporaryName());
  let handle: FileHandle;
  try {
    handle = await open(written, target.direct ? "w" : "wx");
  } catch (error) {
    throw fileError(error, "write", path);
  }
  try {
    const bytes = await writePieces(handle, content, (error) => fileError(error, "write", path));
    if (!target.direct) {
      await handle.sync();
      await rename(written, target.path);
    }
    return bytes;
  } catch (error) {
    if (!target.direct) await rm(written, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
}

/** Rejects when `path` cannot be written to, before anything is fetched for it. */
export async function checkTarget(path: string): Promise<void> {
  const { path: target } = await findTarget(path);
  try {
    if ((await stat(dirname(target))).isDirectory()) return;
  } catch (error) {
    throw fileError(error, "write", path);
  }
  throw new UsageError(`cannot write ${path}: ${dirname(target)} is not a directory`);
}

interface Target {
  readonly path: string;
  readonly direct: boolean;
}

async function findTarget(path: string): Promise<Target> {
  try {
    const found = await stat(path);
    if (found.isDirectory()) throw new UsageError(`${path} is a directory; name a file in it`);
    // What a symbolic link points to is replaced, not the link.
    return { path: await realpath(path), direct: !found.isFile() };
  } catch (error) {
    if (systemCode(error) === "ENOENT") return { path, direct: false };
    throw fileError(error, "write", path);
  }
}

function temporaryName(): string {
  return `.pfs-${randomBytes(8).toString("hex")}.part`;
}

/** Bytes that are written at once; as many may be on their way before them. */
const WRITE_BYTES: number = 1 * 1024 * 1024;

/**
 * Writes pieces of bytes to a file: many at a time, and the next ones are fetched meanwhile. Resolves with the bytes
 * written. A write that fails rejects with what `failed` makes of its error.
 */
export async function writePieces(
  handle: FileHandle,
  content: AsyncIterable<Uint8Array>,
  failed: (error: unknown) => unknown = (error) => error,
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
    writing = writeAll(handle, batch).catch((error: unknown) => {
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

async function writeAll(handle: FileHandle, pieces: readonly Uint8Array[]): Promise<void> {
  let rest = pieces.filter(({ byteLength }) => byteLength > 0);
  while (rest.length > 0) {
    let { bytesWritten } = await handle.writev(rest);
    const next: Uint8Array[] = [];
    for (const piece of rest) {
      if (bytesWritten >= piece.byteLength) bytesWritten -= piece.byteLength;
      else {
        next.push(piece.subarray(bytesWritten));
        bytesWritten = 0;
      }
    }
    rest = next;
  }
}
