/** Files that bodies are read from and written to, open as long as they are in use and a moment longer. */
import { close, open, readv, writev, writevSync } from "node:fs";
import { messageOf } from "../../../packets/errors.ts";
import { systemCode } from "../../../runtime/errors.ts";
import { WireError, WireErrorCode } from "../../errors.ts";
import {
  BULK_FILES_IDLE_MS,
  BULK_FILES_OPEN_MAX,
  BULK_READ_GAP_BYTES_MAX,
  BULK_READ_PIECES_MAX,
} from "../../limits.ts";
import type { FileName, FileRanges } from "./protocol.ts";

interface OpenFile {
  readonly descriptor: Promise<number>;
  users: number;
}

export class OpenFiles {
  readonly #flags: "r" | "r+";
  /** By path, the least recently used first. */
  readonly #open = new Map<string, OpenFile>();
  #idle: NodeJS.Timeout | undefined;
  readonly #between = new Uint8Array(BULK_READ_GAP_BYTES_MAX);

  /** For reading, or for writing to files that are there. */
  constructor(flags: "r" | "r+") {
    this.#flags = flags;
  }

  /** Fills the memory with the ranges, which are as many bytes. Rejects with PFS_BULK_FILE_FAILED. */
  async read(ranges: FileRanges, memory: Uint8Array): Promise<void> {
    const { files, file, offset, bytes } = ranges;
    let at = 0;
    for (let row = 0; row < file.length;) {
      const name = files[file[row]!]!;
      const from = offset[row]!;
      const pieces: Uint8Array[] = [];
      let end = from;
      // What stands near each other is read in one go: what is between goes to memory that nobody looks at.
      for (const first = row; row < file.length; row++) {
        const gap = offset[row]! - end;
        if (file[row] !== file[first] || gap < 0 || gap > BULK_READ_GAP_BYTES_MAX) break;
        if (pieces.length + 2 > BULK_READ_PIECES_MAX) break;
        if (gap > 0) pieces.push(this.#between.subarray(0, gap));
        pieces.push(memory.subarray(at, (at += bytes[row]!)));
        end = offset[row]! + bytes[row]!;
      }
      await this.#with(name, (fd) => readFully(fd, pieces, from));
    }
  }

  /** Writes pieces one behind the other. Rejects with PFS_BULK_FILE_FAILED. */
  async write(name: FileName, pieces: readonly Uint8Array[], offset: number): Promise<void> {
    await this.#with(name, (fd) => writeFully(fd, pieces, offset));
  }

  /** As `write`, of a file that is open, at once: what stays in the system's memory is not worth a thread's waking. */
  writeNow(descriptor: number, pieces: readonly Uint8Array[], offset: number): void {
    try {
      let rest = pieces.filter(({ byteLength }) => byteLength > 0);
      for (let at = offset; rest.length > 0;) {
        const bytes = writevSync(descriptor, rest, at);
        at += bytes;
        rest = behind(rest, bytes);
      }
    } catch (error) {
      throw unusable(descriptor, error);
    }
  }

  close(): void {
    clearTimeout(this.#idle);
    this.#closeUnused(0);
  }

  async #with(name: FileName, use: (descriptor: number) => Promise<void>): Promise<void> {
    try {
      if (typeof name === "number") return await use(name);
      const file = this.#take(name);
      try {
        await use(await file.descriptor);
      } finally {
        file.users--;
        this.#closeLater();
      }
    } catch (error) {
      if (typeof name === "string") this.#forget(name);
      throw unusable(name, error);
    }
  }

  #take(name: string): OpenFile {
    const file = this.#open.get(name) ?? { descriptor: openFile(name, this.#flags), users: 0 };
    this.#open.delete(name);
    this.#open.set(name, file);
    file.users++;
    if (this.#open.size > BULK_FILES_OPEN_MAX) this.#closeUnused(BULK_FILES_OPEN_MAX);
    return file;
  }

  /** A file that was removed keeps its bytes on the disk while it is open. */
  #closeLater(): void {
    this.#idle ??= setTimeout(() => this.#closeUnused(0), BULK_FILES_IDLE_MS).unref();
    // Also one that has run.
    this.#idle.refresh();
  }

  #closeUnused(kept: number): void {
    for (const [name, file] of this.#open) {
      if (this.#open.size <= kept) return;
      if (file.users === 0) this.#forget(name);
    }
  }

  #forget(name: string): void {
    const file = this.#open.get(name);
    if (file === undefined || file.users > 0) return;
    this.#open.delete(name);
    void file.descriptor.then(
      (fd) => close(fd, () => undefined),
      () => undefined,
    );
  }
}

function unusable(name: FileName, error: unknown): WireError {
  const text = `a file cannot be used: ${messageOf(error)}`;
  const data = { file: String(name), system: systemCode(error) };
  return new WireError(WireErrorCode.bulkFileFailed, text, data, { cause: error });
}

function openFile(path: string, flags: "r" | "r+"): Promise<number> {
  return new Promise((resolve, reject) => {
    open(path, flags, (error, fd) => (error === null ? resolve(fd) : reject(error)));
  });
}

async function readFully(fd: number, pieces: readonly Uint8Array[], offset: number): Promise<void> {
  let rest = pieces.filter(({ byteLength }) => byteLength > 0);
  let at = offset;
  while (rest.length > 0) {
    const bytes = await new Promise<number>((resolve, reject) => {
      readv(fd, rest, at, (error, count) => (error === null ? resolve(count) : reject(error)));
    });
    if (bytes === 0) throw new Error("it ends before its bytes do");
    at += bytes;
    rest = behind(rest, bytes);
  }
}

async function writeFully(fd: number, pieces: readonly Uint8Array[], offset: number): Promise<void> {
  let rest = pieces.filter(({ byteLength }) => byteLength > 0);
  let at = offset;
  while (rest.length > 0) {
    const bytes = await new Promise<number>((resolve, reject) => {
      writev(fd, rest, at, (error, count) => (error === null ? resolve(count) : reject(error)));
    });
    at += bytes;
    rest = behind(rest, bytes);
  }
}

/** What of the pieces comes behind so many bytes. */
function behind(pieces: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let [first, left] = [0, bytes];
  while (first < pieces.length && left >= pieces[first]!.byteLength) left -= pieces[first++]!.byteLength;
  const rest = pieces.slice(first);
  if (left > 0) rest[0] = rest[0]!.subarray(left);
  return rest;
}
