/** A writer as its users hold it; the thread knows it by its number. */
import { REF_BYTES } from "../../../packets/layout.ts";
import type { Ref } from "../../../packets/digest.ts";
import { StoreError, StoreErrorCode } from "../../errors.ts";
import { WRITE_BLOCK_BYTES_MAX } from "../../limits.ts";
import { invalidBlock } from "./block-append.ts";
import type { PendingPlaces } from "../index/pending-places.ts";
import type { NameRecord } from "../../contracts/catalog.ts";
import type { StoreWriter, WrittenChunks } from "../../contracts/chunks.ts";
import type { WriteAnswer } from "./writer-protocol.ts";
import type { WriterClient } from "./writer-client.ts";

export class ClientWriter implements StoreWriter, AsyncDisposable {
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
    const reason = invalidBlock(block, lengths);
    if (reason !== null) throw new RangeError(reason);
    if (block.byteLength > WRITE_BLOCK_BYTES_MAX) {
      throw new RangeError(`a block has at most ${WRITE_BLOCK_BYTES_MAX} bytes, not ${block.byteLength}`);
    }
    const { places, ...written }: WriteAnswer = await this.#writer.call(
      { kind: "write", writer, block, lengths },
      [block.buffer],
    );
    this.#pending.add(written.refs, places);
    return written;
  }

  async claim(refs: Uint8Array): Promise<Uint8Array> {
    return this.#writer.call({ kind: "claim", writer: this.#open(), refs });
  }

  async flush(): Promise<void> {
    return this.#writer.call({ kind: "flush", writer: this.#open() });
  }

  async setName(name: string, root: Ref, length: number): Promise<NameRecord> {
    if (root.byteLength !== REF_BYTES) throw new RangeError(`a root has ${REF_BYTES} bytes`);
    if (!Number.isSafeInteger(length) || length < 0) throw new RangeError(`no file has ${length} bytes`);
    return this.#writer.call({ kind: "set-name", writer: this.#open(), name, root, length });
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

  #open(): number {
    if (this.#isClosed) throw new StoreError(StoreErrorCode.closed, "the writer is closed");
    return this.#id;
  }
}
