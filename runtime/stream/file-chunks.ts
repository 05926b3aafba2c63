/**
 * Chunks that files outside of any store hold already, found by cutting the files as a store would: what an older copy of a
 * file has in common with a new one need not be fetched. Files may change at any time, so what is read is verified.
 */
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { isRefOf, refToHex, sha256 } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { Chunker } from "../../packets/chunker.ts";
import type { ChunkSource } from "../contracts/chunks.ts";
import { FILE_CHUNKS_INDEXED_MAX, INGEST_BLOCK_BYTES } from "../limits.ts";
import { BlockSource, cutBlock, IS_STORED } from "./blocks.ts";
import { fileSource } from "./sources.ts";

interface Place {
  readonly file: FileHandle;
  readonly at: number;
  readonly length: number;
}

export class FileChunks implements AsyncDisposable {
  /** By ref as hexadecimal digits. */
  readonly #places = new Map<string, Place>();
  readonly #files: FileHandle[] = [];

  private constructor() {}

  /** Cuts the files. One that cannot be read holds nothing. Rejects with the signal's reason. */
  static async open(paths: readonly string[], signal?: AbortSignal): Promise<FileChunks> {
    const chunks = new FileChunks();
    try {
      for (const path of paths) await chunks.#add(path, signal);
      return chunks;
    } catch (error) {
      await chunks[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** How many chunks were found. */
  get size(): number {
    return this.#places.size;
  }

  /** The chunk's bytes, verified; undefined where no file has it (any more). */
  async read(ref: Ref): Promise<Uint8Array | undefined> {
    const place = this.#places.get(refToHex(ref));
    if (place === undefined) return undefined;
    const { file, at, length } = place;
    const bytes = new Uint8Array(length);
    const read = await file.read(bytes, 0, length, at).catch(() => undefined);
    return read?.bytesRead === length && isRefOf(ref, bytes) ? bytes : undefined;
  }

  /** A source that reads from the files what they have, and the rest from `source`. */
  before(source: ChunkSource): ChunkSource {
    return {
      read: async (refs, signal) => {
        signal?.throwIfAborted();
        const found = await Promise.all(refs.map((ref) => this.read(ref)));
        const lacking = refs.filter((_, index) => found[index] === undefined);
        const others = lacking.length === 0 ? [] : await source.read(lacking, signal);
        let next = 0;
        return found.map((bytes) => bytes ?? others[next++]!);
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#places.clear();
    await Promise.all(this.#files.splice(0).map((file) => file.close()));
  }

  async #add(path: string, signal: AbortSignal | undefined): Promise<void> {
    const file = await open(path, "r").catch(() => undefined);
    if (file === undefined) return;
    this.#files.push(file);
    try {
      await this.#index(path, file, signal);
    } catch {
      // What was found until then is of use all the same.
      signal?.throwIfAborted();
    }
  }

  async #index(path: string, file: FileHandle, signal: AbortSignal | undefined): Promise<void> {
    const chunker = new Chunker();
    const blocks = new BlockSource(fileSource(path, signal), chunker.parameters.maxBytes, INGEST_BLOCK_BYTES);
    let rest: Uint8Array = new Uint8Array(0);
    let at = 0;
    try {
      for (;;) {
        const block = await blocks.next();
        const start = block.start - rest.byteLength;
        block.buffer.set(rest, start);
        const cut = cutBlock(chunker, block.buffer, start, block.end, block.isLast);
        let stored = start;
        for (const [piece, kind] of cut.kinds.entries()) {
          const length = cut.sizes[piece]!;
          if (kind === IS_STORED) {
            const ref = refToHex(sha256(block.buffer.subarray(stored, (stored += length))));
            if (!this.#places.has(ref)) this.#places.set(ref, { file, at, length });
          }
          at += length;
        }
        if (block.isLast || this.#places.size >= FILE_CHUNKS_INDEXED_MAX) return;
        rest = block.buffer.slice(cut.end, block.end);
      }
    } finally {
      await blocks.close();
    }
  }
}
