/** A writer as its users hold it; the thread knows it by its number. */
import { REF_BYTES } from "../../../packets/layout.ts";
import { StoreError, StoreErrorCode } from "../../errors.ts";
import { WRITE_BLOCK_BYTES_MAX } from "../../limits.ts";
import { checkBinding } from "../catalog.ts";
import { invalidBlock } from "./block-append.ts";
import type { PendingPlaces } from "../index/pending-places.ts";
import type { Binding, NameCondition, NameRecord } from "../../contracts/catalog.ts";
import type { StoreWriter, StoredForms, WrittenChunks } from "../../contracts/chunks.ts";
import type { WriteAnswer } from "./writer-protocol.ts";
import type { WriterClient } from "./writer-client.ts";

export class ClientWriter implements StoreWriter {
  readonly #writer: WriterClient;
  readonly #pending: PendingPlaces;
  readonly #id: number;
  #isClosed = false;

  constructor(writer: WriterClient, pending: PendingPlaces, id: number) {
    this.#writer = writer;
    this.#pending = pending;
    this.#id = id;
  }

  async write(block: Uint8Array<ArrayBuffer>, lengths: Uint32Array<ArrayBuffer>): Promise<WrittenChunks> {
    const writer = this.#open();
    checkBlock(block, lengths);
    return this.#written(await this.#writer.call({ kind: "write", writer, block, lengths }, [block.buffer]));
  }

  async writeStored(block: Uint8Array<ArrayBuffer>, chunks: StoredForms): Promise<WrittenChunks> {
    const writer = this.#open();
    checkBlock(block, chunks.lengths);
    const { refs, lengths, plainLengths, codecs } = chunks;
    if (refs.byteLength !== lengths.length * REF_BYTES)
      throw new RangeError("a ref for each chunk is needed");
    if (plainLengths.length !== lengths.length || codecs.length !== lengths.length)
      throw new RangeError("a plain length and a codec for each chunk are needed");
    return this.#written(
      await this.#writer.call({ kind: "write-stored", writer, block, chunks }, [block.buffer]),
    );
  }

  async claim(refs: Uint8Array): Promise<Uint8Array> {
    return this.#writer.call({ kind: "claim", writer: this.#open(), refs });
  }

  async flush(): Promise<void> {
    return this.#writer.call({ kind: "flush", writer: this.#open() });
  }

  async bind(binding: Binding, condition: NameCondition = {}): Promise<NameRecord> {
    checkBinding(binding);
    const { expected } = condition;
    return this.#writer.call({ kind: "bind", writer: this.#open(), ...binding, expected });
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#writer.call({ kind: "close-writer", writer: this.#id }).catch((error: unknown) => {
      // A store that was closed first has ended its writers too.
      if (!(error instanceof StoreError && error.code === StoreErrorCode.closed)) throw error;
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #written({ places, ...written }: WriteAnswer): WrittenChunks {
    this.#pending.add(written.refs, places);
    return written;
  }

  #open(): number {
    if (this.#isClosed) throw new StoreError(StoreErrorCode.closed, "the writer is closed");
    return this.#id;
  }
}

/** Throws a RangeError for what is no block of chunks, or too much of it. */
function checkBlock(block: Uint8Array, lengths: Uint32Array): void {
  const reason = invalidBlock(block, lengths);
  if (reason !== null) throw new RangeError(reason);
  if (block.byteLength > WRITE_BLOCK_BYTES_MAX) {
    throw new RangeError(`a block has at most ${WRITE_BLOCK_BYTES_MAX} bytes, not ${block.byteLength}`);
  }
}
