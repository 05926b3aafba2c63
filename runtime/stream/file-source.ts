/** A file's bytes for ingest: read straight into the blocks that are handed to the store, the next one while one is cut. */
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { FILE_READ_BYTES } from "../limits.ts";

/** Bytes that can be asked for in a buffer of the asker's, which saves copying them there. */
export interface FillingSource extends AsyncIterable<Uint8Array> {
  /** Fills `target` from its beginning and resolves with how many bytes that were; fewer than asked for only at the end. */
  fill(target: Uint8Array): Promise<number>;
  /** Nothing is asked for any more. */
  close(): Promise<void>;
}

/** The bytes of a regular file, a pipe or a device, from its beginning. Rejects as the system does (ENOENT, EISDIR, …). */
export function fileSource(path: string, signal?: AbortSignal): FillingSource {
  return new FileSource(path, signal);
}

export function isFilling(source: AsyncIterable<Uint8Array>): source is FillingSource {
  return "fill" in source && typeof source.fill === "function";
}

class FileSource implements FillingSource {
  readonly #path: string;
  readonly #signal: AbortSignal | undefined;
  #handle: Promise<FileHandle> | undefined;
  #isClosed = false;

  constructor(path: string, signal: AbortSignal | undefined) {
    this.#path = path;
    this.#signal = signal;
  }

  async fill(target: Uint8Array): Promise<number> {
    this.#handle ??= open(this.#path, "r");
    const handle = await this.#handle;
    let filled = 0;
    while (filled < target.byteLength && !this.#isClosed) {
      this.#signal?.throwIfAborted();
      // Without a position, so that pipes can be read too.
      const { bytesRead } = await handle.read(target, filled, target.byteLength - filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return filled;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const handle = await this.#handle?.catch(() => undefined);
    this.#handle = undefined;
    // Waits for a read that is under way.
    await handle?.close();
  }

  /** Buffers of FILE_READ_BYTES, each its own. One is read ahead. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    const read = async (): Promise<Uint8Array> => {
      const buffer = Buffer.allocUnsafeSlow(FILE_READ_BYTES);
      return buffer.subarray(0, await this.fill(buffer));
    };
    let next = read();
    try {
      for (;;) {
        const buffer = await next;
        if (buffer.byteLength === 0) return;
        next = read();
        next.catch(() => {});
        yield buffer;
      }
    } finally {
      await next.catch(() => {});
      await this.close();
    }
  }
}
