/** The store of a hub or node, over a link: its chunks, its names, and writers of new ones. */
import { randomUUID } from "node:crypto";
import { refAt, refToHex, sha256 } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { MessageType, Priority } from "../../packets/envelope.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import { checkBlock, chunksOf } from "../../runtime/block.ts";
import type { Binding, NameCondition, NameRecord } from "../../runtime/contracts/catalog.ts";
import type { ChunkStore, StoreWriter, WrittenChunks } from "../../runtime/contracts/chunks.ts";
import { StoreError, StoreErrorCode } from "../../runtime/errors.ts";
import { BATCH_BYTES_MAX } from "../limits.ts";
import { StoredMeta } from "../messages.ts";
import { ChunkPacker } from "../transfer/chunk-batch.ts";
import type { Chunk } from "../transfer/chunk-batch.ts";
import { RemoteChunks, batchInvalid } from "../transfer/remote-chunks.ts";
import type { RemoteChunksOptions } from "../transfer/remote-chunks.ts";
import type { Link } from "../wire/link.ts";
import { readMeta } from "../wire/session/meta.ts";
import { RemoteCatalog } from "./remote-catalog.ts";

export class RemoteStore implements ChunkStore {
  readonly link: Link;
  readonly catalog: RemoteCatalog;
  readonly #chunks: RemoteChunks;

  constructor(link: Link, options: RemoteChunksOptions) {
    this.link = link;
    this.catalog = new RemoteCatalog(link);
    this.#chunks = new RemoteChunks(link, options);
  }

  has(refs: Uint8Array, signal?: AbortSignal): Promise<Uint8Array> {
    return this.#chunks.has(refs, signal);
  }

  read(refs: readonly Ref[], signal?: AbortSignal): Promise<Uint8Array[]> {
    return this.#chunks.read(refs, signal);
  }

  /** Nothing is sent until it writes. A peer that takes no chunks from here answers that with PFS_NOT_ALLOWED. */
  async openWriter(): Promise<StoreWriter> {
    return new RemoteWriter(this.link, this.catalog);
  }
}

/** Writes through a link: asks what the peer lacks and sends just that. The peer knows the writer as a put. */
class RemoteWriter implements StoreWriter {
  readonly #link: Link;
  readonly #catalog: RemoteCatalog;
  readonly #chunks: RemoteChunks;
  readonly #put: string = randomUUID();
  readonly #packer = new ChunkPacker();
  #isClosed = false;

  constructor(link: Link, catalog: RemoteCatalog) {
    this.#link = link;
    this.#catalog = catalog;
    this.#chunks = new RemoteChunks(link, { here: true });
  }

  async write(block: Uint8Array<ArrayBuffer>, lengths: Uint32Array<ArrayBuffer>): Promise<WrittenChunks> {
    const put = this.#open();
    checkBlock(block, lengths);
    const refs = new Uint8Array(lengths.length * REF_BYTES);
    const chunks: Chunk[] = chunksOf({ block, lengths }).map((bytes, index) => {
      refs.set(sha256(bytes), index * REF_BYTES);
      return { ref: refAt(refs, index), bytes };
    });
    const there = await this.#chunks.claim(refs, put);
    const sent = new Set<string>();
    const lacking = chunks.filter(({ ref }, index) => {
      const hex = refToHex(ref);
      if (there[index] === 1 || sent.has(hex)) return false;
      sent.add(hex);
      return true;
    });
    return { refs, ...(await this.#send(lacking, put)) };
  }

  async claim(refs: Uint8Array): Promise<Uint8Array> {
    return await this.#chunks.claim(refs, this.#open());
  }

  async flush(): Promise<void> {
    await this.#catalog.flush(this.#open());
  }

  async bind(binding: Binding, condition?: NameCondition): Promise<NameRecord> {
    return await this.#catalog.bind(binding, condition, this.#open());
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    // Whoever cannot be told has lost the link, and ends its puts with it.
    await this.#catalog.endPut(this.#put).catch(() => undefined);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The put's name, as long as there is one: a write after the end would begin another that nobody ends. */
  #open(): string {
    if (this.#isClosed) throw new StoreError(StoreErrorCode.closed, "the writer is closed");
    return this.#put;
  }

  async #send(chunks: readonly Chunk[], put: string): Promise<StoredMeta> {
    const total = { newChunks: 0, newBytes: 0, storedBytes: 0 };
    for (let start = 0; start < chunks.length;) {
      let end = start;
      let bytes = 0;
      while (
        end < chunks.length &&
        (end === start || bytes + chunks[end]!.bytes.byteLength <= BATCH_BYTES_MAX)
      ) {
        bytes += chunks[end++]!.bytes.byteLength;
      }
      const { packets, body, codec } = this.#packer.pack(chunks.slice(start, end));
      const reply = await this.#link.request({
        type: MessageType.STORE,
        priority: Priority.bulk,
        meta: { put, codec },
        packets,
        chunks: body,
      });
      const stored = readMeta(StoredMeta, reply);
      if (stored.newChunks > end - start || stored.newBytes > bytes) {
        throw batchInvalid("says that it stored more than it was sent");
      }
      total.newChunks += stored.newChunks;
      total.newBytes += stored.newBytes;
      // What the put cost is what crossed the wire.
      total.storedBytes += body.byteLength + packets.byteLength;
      start = end;
    }
    return total;
  }
}
