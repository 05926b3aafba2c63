/**
 * Where bytes to be stored come from, as something that fills the buffers in which they are handed on: a file is read
 * straight into the blocks that go to the store, the next one while one is cut.
 */
import { close, constants, fstat, open, read } from "node:fs";
import type { BigIntStats } from "node:fs";
import { stat } from "node:fs/promises";
import { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { StreamError, StreamErrorCode, systemCode } from "../errors.ts";
import { DEVICE_RETRY_MS, FILE_READ_BYTES } from "../limits.ts";

/** Bytes that can be asked for in a buffer of the asker's, which saves copying them there. */
export interface FillingSource extends AsyncIterable<Uint8Array> {
  /** Fills `target` from its beginning and resolves with how many bytes that were; fewer than asked for only at the end. */
  fill(target: Uint8Array): Promise<number>;
  /** Nothing is asked for any more. */
  close(): Promise<void>;
}

/**
 * The bytes of a regular file, a pipe or a device, from its beginning. Waiting for a pipe that nobody writes to, or for a
 * terminal, ends as soon as the signal says so. Rejects as the system does (ENOENT, EISDIR, …), or with PFS_INPUT_CHANGED
 * {path, reason} instead of the end of a file that is not what it was when it was opened: such bytes never were a file.
 */
export function fileSource(path: string, signal?: AbortSignal): FillingSource {
  return new FileSource(path, signal);
}

/** The source itself where it can fill buffers, or its pieces one after the other. */
export function fillingFrom(source: AsyncIterable<Uint8Array>): FillingSource {
  return "fill" in source && typeof source.fill === "function"
    ? (source as FillingSource)
    : new IterableSource(source);
}

class FileSource implements FillingSource {
  readonly #path: string;
  readonly #signal: AbortSignal | undefined;
  #opened: Promise<FileReader> | undefined;

  constructor(path: string, signal: AbortSignal | undefined) {
    this.#path = path;
    this.#signal = signal;
  }

  async fill(target: Uint8Array): Promise<number> {
    this.#signal?.throwIfAborted();
    this.#opened ??= openFile(this.#path);
    const reader = await this.#opened;
    const interrupt = (): void => void reader.close();
    this.#signal?.addEventListener("abort", interrupt, { once: true });
    try {
      if (this.#signal?.aborted === true) await reader.close();
      const filled = await reader.fill(target);
      // It may have been interrupted before the end.
      this.#signal?.throwIfAborted();
      return filled;
    } catch (error) {
      this.#signal?.throwIfAborted();
      throw error;
    } finally {
      this.#signal?.removeEventListener("abort", interrupt);
    }
  }

  async close(): Promise<void> {
    const reader = await this.#opened?.catch(() => undefined);
    await reader?.close();
  }

  /** Buffers of FILE_READ_BYTES, each its own. One is read ahead. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    const fill = async (): Promise<Uint8Array> => {
      const buffer = Buffer.allocUnsafeSlow(FILE_READ_BYTES);
      return buffer.subarray(0, await this.fill(buffer));
    };
    let next = fill();
    try {
      for (;;) {
        const buffer = await next;
        if (buffer.byteLength === 0) return;
        next = fill();
        next.catch(() => {});
        yield buffer;
      }
    } finally {
      await this.close();
      await next.catch(() => {});
    }
  }
}

type FileReader = Pick<FillingSource, "fill" | "close">;

const openAsync = promisify(open);
const readAsync = promisify(read);
const closeAsync = promisify(close);
const statOf = promisify<number, { bigint: true }, BigIntStats>(fstat);
/** Windows has neither the flag nor what it is for. */
const NONBLOCK = constants.O_NONBLOCK ?? 0;

/** Without waiting: a named pipe is open at once, whether or not somebody writes to it. */
async function openFile(path: string): Promise<FileReader> {
  const file = await openAsync(path, constants.O_RDONLY | NONBLOCK);
  try {
    const before = await statOf(file, { bigint: true });
    if (!before.isFIFO()) return new DescriptorReader(path, file, before);
  } catch (error) {
    await closeAsync(file);
    throw error;
  }
  // A read of a pipe says "end" while nobody has opened it to write; waiting for it to become readable does not.
  const socket = new Socket({ fd: file, readable: true, writable: false });
  const pieces = new IterableSource(socket);
  return { fill: (target) => pieces.fill(target), close: async () => void socket.destroy() };
}

/** A file or device by its descriptor. */
class DescriptorReader implements FileReader {
  readonly #path: string;
  readonly #file: number;
  readonly #before: BigIntStats;
  readonly #closing = new AbortController();
  /** The read under way; the descriptor must not be closed before it ends. */
  #reading: Promise<unknown> = Promise.resolve();
  #closed: Promise<void> | undefined;
  #bytes = 0;

  constructor(path: string, file: number, before: BigIntStats) {
    this.#path = path;
    this.#file = file;
    this.#before = before;
  }

  fill(target: Uint8Array): Promise<number> {
    const filled = this.#fill(target);
    this.#reading = filled.catch(() => {});
    return filled;
  }

  close(): Promise<void> {
    this.#closing.abort();
    this.#closed ??= this.#reading.then(() => closeAsync(this.#file));
    return this.#closed;
  }

  async #fill(target: Uint8Array): Promise<number> {
    let filled = 0;
    while (filled < target.byteLength && !this.#closing.signal.aborted) {
      const count = await this.#read(target, filled);
      filled += count;
      this.#bytes += count;
      if (count > 0) continue;
      if (this.#before.isFile()) await this.#requireUnchanged();
      break;
    }
    return filled;
  }

  async #read(target: Uint8Array, from: number): Promise<number> {
    for (;;) {
      try {
        // Without a position, which devices have none of.
        return (await readAsync(this.#file, target, from, target.byteLength - from, null)).bytesRead;
      } catch (error) {
        if (systemCode(error) !== "EAGAIN") throw error;
        // A terminal, say, on which nothing was typed yet.
        await delay(DEVICE_RETRY_MS, undefined, { signal: this.#closing.signal }).catch(() => {});
        if (this.#closing.signal.aborted) return 0;
      }
    }
  }

  async #requireUnchanged(): Promise<void> {
    const before = this.#before;
    const after = await statOf(this.#file, { bigint: true });
    const there = await stat(this.#path, { bigint: true }).catch(() => undefined);
    const reason =
      after.size !== before.size
        ? `its size went from ${before.size} to ${after.size} bytes`
        : after.mtimeNs !== before.mtimeNs
          ? "it was written to"
          : // What the system makes up as it is read (/proc) has no blocks, and a size that means nothing.
            this.#bytes !== Number(before.size) && before.blocks > 0n
            ? `it has ${before.size} bytes, and ${this.#bytes} were read`
            : there === undefined
              ? "it was removed"
              : there.ino !== before.ino || there.dev !== before.dev
                ? "another file took its place"
                : undefined;
    if (reason === undefined) return;
    throw inputChanged(this.#path, reason);
  }
}

/** Pieces of any size as a source that fills buffers. */
class IterableSource implements FillingSource {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #piece: Uint8Array = new Uint8Array(0);
  #isDone = false;
  #isWaiting = false;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#iterator = source[Symbol.asyncIterator]();
  }

  async fill(target: Uint8Array): Promise<number> {
    let filled = 0;
    while (filled < target.byteLength) {
      if (this.#piece.byteLength === 0 && !(await this.#advance())) break;
      const part = this.#piece.subarray(0, target.byteLength - filled);
      target.set(part, filled);
      filled += part.byteLength;
      this.#piece = this.#piece.subarray(part.byteLength);
    }
    return filled;
  }

  async close(): Promise<void> {
    if (this.#isDone) return;
    this.#isDone = true;
    const returned = this.#iterator.return?.();
    // A generator that waits for something hears of it when that comes; nobody has to wait with it.
    if (this.#isWaiting) returned?.catch(() => {});
    else await returned;
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return this.#iterator;
  }

  /** False at the end. */
  async #advance(): Promise<boolean> {
    if (this.#isDone) return false;
    this.#isWaiting = true;
    const result = await this.#iterator.next().finally(() => (this.#isWaiting = false));
    if (result.done === true) this.#isDone = true;
    else this.#piece = checkPiece(result.value);
    return result.done !== true;
  }
}

/** A caller without types may hand over anything. Throws PFS_INPUT_INVALID. */
function checkPiece(piece: unknown): Uint8Array {
  if (piece instanceof Uint8Array) return piece;
  throw invalidInput(`a piece of it is ${typeof piece === "object" ? "no Uint8Array" : `a ${typeof piece}`}`);
}

/** For what is no bytes at all; `reason` says what it is instead. */
export function inputChanged(path: string, reason: string): StreamError {
  return new StreamError(StreamErrorCode.inputChanged, `${path} changed while it was being read: ${reason}`, {
    path,
    reason,
  });
}

export function invalidInput(reason: string): StreamError {
  return new StreamError(
    StreamErrorCode.invalidInput,
    `what is to be stored is no bytes: ${reason}; give a Uint8Array, an async iterable of them, or { path }`,
    { reason },
  );
}
