/**
 * Files of a directory as they are read to be stored: by the directories that they are in, which stay open from one file to
 * the next, and never through a symbolic link. A file that changes while it is read is read again.
 */
import { close, fstatSync, read, readSync, closeSync } from "node:fs";
import type { BigIntStats } from "node:fs";
import { promisify } from "node:util";
import { TREE_RUN_FILE_BYTES_MAX } from "../../packets/limits.ts";
import { TREE_READ_TRIES } from "../limits.ts";
import type { FillingSource } from "../stream/ingest.ts";
import { DirectoryCursor, isAbsent } from "./open-directory.ts";
import type { OpenDirectory } from "./open-directory.ts";
import { markOf, readError } from "./scan.ts";
import type { FileMark } from "./scan.ts";

const readAsync = promisify(read);
const closeAsync = promisify(close);

/** A directory is not what it was when it was looked through: the caller looks again, or tells it. */
export class ChangedMeanwhile extends Error {
  readonly path: string;
  readonly reason: string;

  constructor(path: string, reason: string) {
    super(`${path} changed: ${reason}`);
    this.path = path;
    this.reason = reason;
  }
}

/** What a file was when its bytes were read. */
export interface ReadFile {
  readonly stats: BigIntStats;
  readonly length: number;
}

export class DiskFiles implements Disposable {
  readonly #cursor: DirectoryCursor;

  constructor(top: OpenDirectory) {
    this.#cursor = new DirectoryCursor(top);
  }

  /**
   * All of a small file, at the beginning of `target`, which has room for one byte more than such a file may have. Throws
   * ChangedMeanwhile for what is none any more, and PFS_FILE_FAILED.
   */
  readSmall(names: readonly string[], target: Uint8Array): ReadFile {
    const path = names.join("/");
    for (let tries = 1; ; tries++) {
      const file = this.#open(names, path);
      try {
        const before = fstatSync(file, { bigint: true });
        if (!before.isFile()) throw new ChangedMeanwhile(path, "it is no file any more");
        if (before.size > TREE_RUN_FILE_BYTES_MAX) throw new ChangedMeanwhile(path, "it has grown");
        const length = readFully(file, target.subarray(0, Number(before.size) + 1));
        const after = fstatSync(file, { bigint: true });
        if (isSame(before, after) && length === Number(after.size)) return { stats: after, length };
        if (tries >= TREE_READ_TRIES) throw new ChangedMeanwhile(path, "it was written to while it was read");
      } catch (error) {
        throw readError(error, path);
      } finally {
        closeSync(file);
      }
    }
  }

  /** The bytes of a small file from `from` on, which must be as it was. Throws ChangedMeanwhile, and PFS_FILE_FAILED. */
  readUnchanged(names: readonly string[], mark: FileMark, from: number, target: Uint8Array): void {
    const path = names.join("/");
    const file = this.#open(names, path);
    try {
      const length = readFully(file, target, from);
      const { device, file: number, changed } = markOf(fstatSync(file, { bigint: true }));
      if (
        device !== mark.device ||
        number !== mark.file ||
        changed !== mark.changed ||
        length !== target.byteLength
      )
        throw new ChangedMeanwhile(path, "it was written to");
    } catch (error) {
      throw readError(error, path);
    } finally {
      closeSync(file);
    }
  }

  /** A file of any length. Reading it to its end throws ChangedMeanwhile where it changed meanwhile. */
  openLarge(names: readonly string[]): LargeFile {
    const path = names.join("/");
    const file = this.#open(names, path);
    const stats = fstatSync(file, { bigint: true });
    if (stats.isFile()) return new LargeFile(path, file, stats);
    closeSync(file);
    throw new ChangedMeanwhile(path, "it is no file any more");
  }

  [Symbol.dispose](): void {
    this.#cursor[Symbol.dispose]();
  }

  #open(names: readonly string[], path: string): number {
    try {
      return this.#cursor.move(names.slice(0, -1)).openFile(names.at(-1)!);
    } catch (error) {
      if (isAbsent(error)) throw new ChangedMeanwhile(path, "it was removed, or another took its place");
      throw readError(error, path);
    }
  }
}

function readFully(file: number, target: Uint8Array, from = 0): number {
  let length = 0;
  while (length < target.byteLength) {
    const count = readSync(file, target, length, target.byteLength - length, from + length);
    if (count === 0) break;
    length += count;
  }
  return length;
}

function isSame(before: BigIntStats, after: BigIntStats): boolean {
  return before.size === after.size && before.mtimeNs === after.mtimeNs && before.ctimeNs === after.ctimeNs;
}

export class LargeFile implements FillingSource {
  readonly stats: BigIntStats;
  readonly #path: string;
  readonly #file: number;
  #at = 0;
  #closed: Promise<void> | undefined;
  #reading: Promise<unknown> = Promise.resolve();

  constructor(path: string, file: number, stats: BigIntStats) {
    this.#path = path;
    this.#file = file;
    this.stats = stats;
  }

  fill(target: Uint8Array): Promise<number> {
    const filled = this.#fill(target);
    this.#reading = filled.catch(() => undefined);
    return filled;
  }

  close(): Promise<void> {
    this.#closed ??= this.#reading.then(() => closeAsync(this.#file));
    return this.#closed;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    for (;;) {
      const buffer = Buffer.allocUnsafeSlow(TREE_RUN_FILE_BYTES_MAX);
      const length = await this.fill(buffer);
      if (length === 0) return;
      yield buffer.subarray(0, length);
    }
  }

  async #fill(target: Uint8Array): Promise<number> {
    let filled = 0;
    try {
      while (filled < target.byteLength) {
        const { bytesRead } = await readAsync(
          this.#file,
          target,
          filled,
          target.byteLength - filled,
          this.#at,
        );
        this.#at += bytesRead;
        filled += bytesRead;
        if (bytesRead > 0) continue;
        const after = fstatSync(this.#file, { bigint: true });
        if (!isSame(this.stats, after) || this.#at !== Number(after.size))
          throw new ChangedMeanwhile(this.#path, "it was written to while it was read");
        break;
      }
    } catch (error) {
      throw readError(error, this.#path);
    }
    return filled;
  }
}
