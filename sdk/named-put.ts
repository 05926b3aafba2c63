/**
 * Where a file goes that is to have a name. A small one is held until the name is known, and stored with it in one step; as soon as
 * it turns out not to be small, what was held is written, and what follows too.
 *
 *     ingest ──▶ write: few bytes ──────▶ held ───▶ bind: both at once
 *                       more of them ──▶ a writer ─▶ bind
 */
import { refsOf } from "../runtime/block.ts";
import type { Block } from "../runtime/block.ts";
import type { Binding, NameRecord } from "../runtime/contracts/catalog.ts";
import type {
  ChunkSink,
  ChunkStore,
  StoreWriter,
  WholeFiles,
  WrittenChunks,
} from "../runtime/contracts/chunks.ts";
import { PUT_WHOLE_BYTES_MAX } from "../runtime/limits.ts";

/** As WrittenChunks counts. */
export type PutCounts = Pick<WrittenChunks, "newChunks" | "newBytes" | "storedBytes">;

export class NamedPut implements ChunkSink, AsyncDisposable {
  readonly #store: Pick<ChunkStore, "openWriter"> & WholeFiles;
  #held: Block | undefined;
  #writer: Promise<StoreWriter> | undefined;
  #counts: PutCounts = { newChunks: 0, newBytes: 0, storedBytes: 0 };

  constructor(store: Pick<ChunkStore, "openWriter"> & WholeFiles) {
    this.#store = store;
  }

  /** What was new, which is known when the name is bound: what is held is not counted where it is written. */
  get counts(): PutCounts {
    return this.#counts;
  }

  async write(block: Uint8Array<ArrayBuffer>, lengths: Uint32Array<ArrayBuffer>): Promise<WrittenChunks> {
    const isFirst = this.#held === undefined && this.#writer === undefined;
    if (isFirst && block.byteLength <= PUT_WHOLE_BYTES_MAX) {
      this.#held = { block, lengths };
      return { refs: refsOf(this.#held), newChunks: 0, newBytes: 0, storedBytes: 0 };
    }
    this.#writer ??= this.#begin();
    return await this.#writeTo(await this.#writer, { block, lengths });
  }

  /** Durable when it resolves. Rejects as a writer's `bind` does, and as its `write`. */
  async bind(binding: Binding): Promise<NameRecord> {
    const held = this.#held;
    if (held === undefined) return await (await (this.#writer ??= this.#begin())).bind(binding);
    this.#held = undefined;
    const { record, ...written } = await this.#store.putWhole(held.block, held.lengths, binding);
    this.#count(written);
    return record;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#writer?.catch(() => undefined))?.close();
  }

  async #begin(): Promise<StoreWriter> {
    const writer = await this.#store.openWriter();
    const held = this.#held;
    this.#held = undefined;
    try {
      if (held !== undefined) await this.#writeTo(writer, held);
    } catch (error) {
      await writer.close();
      throw error;
    }
    return writer;
  }

  async #writeTo(writer: StoreWriter, { block, lengths }: Block): Promise<WrittenChunks> {
    const written = await writer.write(block, lengths);
    this.#count(written);
    return written;
  }

  #count({ newChunks, newBytes, storedBytes }: PutCounts): void {
    const counts = this.#counts;
    this.#counts = {
      newChunks: counts.newChunks + newChunks,
      newBytes: counts.newBytes + newBytes,
      storedBytes: counts.storedBytes + storedBytes,
    };
  }
}
