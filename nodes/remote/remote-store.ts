/** The store of a hub or node, over a link: its chunks, its names, and writers of new ones. */
import { randomUUID } from "node:crypto";
import { refAt, refKey, refToHex, sha256 } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { MessageType, Priority } from "../../packets/envelope.ts";
import { hasCode } from "../../packets/errors.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import { checkBlock, chunksOf } from "../../runtime/block.ts";
import type { Binding, NameCondition, NameRecord } from "../../runtime/contracts/catalog.ts";
import type {
  ChunkStore,
  StoreWriter,
  WholeFiles,
  WholePut,
  WrittenChunks,
} from "../../runtime/contracts/chunks.ts";
import { StoreError, StoreErrorCode } from "../../runtime/errors.ts";
import type { StoredFiles } from "../../runtime/find-file.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import {
  BATCH_BYTES_MAX,
  REFS_PER_WANT_MAX,
  UNASKED_BYTES_MAX,
  TRANSFER_BASES_MAX,
  TRANSFER_TIMEOUT_MS,
} from "../limits.ts";
import { COST_FEATURE, FileCostMeta, StoredMeta, WHOLE_PUT_FEATURE } from "../messages.ts";
import { BroughtChunks } from "../transfer/brought-chunks.ts";
import { ChunkPacker } from "../transfer/chunk-batch.ts";
import type { Chunk } from "../transfer/chunk-batch.ts";
import { RemoteChunks, batchInvalid } from "../transfer/remote-chunks.ts";
import type { RemoteChunksOptions } from "../transfer/remote-chunks.ts";
import type { Link } from "../wire/link.ts";
import { readMeta } from "../wire/session/meta.ts";
import { LastingLink } from "./lasting-link.ts";
import { RemoteCatalog } from "./remote-catalog.ts";
import type { RemotePut } from "./remote-catalog.ts";
import { TransferClient } from "./transfer-client.ts";

export class RemoteStore implements ChunkStore, WholeFiles {
  readonly link: LastingLink;
  readonly catalog: RemoteCatalog;
  /** Whole files, where the peer takes part in transfers. */
  readonly transfers: TransferClient;
  readonly #chunks: RemoteChunks;
  readonly #own: RemoteChunks;
  readonly #packer = new ChunkPacker();

  constructor(link: Link | LastingLink, options: RemoteChunksOptions) {
    this.link = link instanceof LastingLink ? link : LastingLink.over(link);
    this.catalog = new RemoteCatalog(this.link);
    this.transfers = new TransferClient(this.link);
    this.#chunks = new RemoteChunks(this.link, options);
    this.#own = new RemoteChunks(this.link, { here: true });
  }

  /** The store for whoever reads one file: what came along with the file's name is not asked for again. */
  forOneFile(): StoredFiles {
    const { catalog } = this;
    const brought = new BroughtChunks();
    return {
      catalog: {
        resolve: async (name) => {
          const found = await catalog.resolveFile(name);
          brought.add(found?.chunks ?? []);
          return found?.record;
        },
        history: (name) => catalog.history(name),
        findRoots: (digits, limit) => catalog.findRoots(digits, limit),
      },
      source: brought.before(this),
    };
  }

  has(refs: Uint8Array, signal?: AbortSignal): Promise<Uint8Array> {
    return this.#chunks.has(refs, signal);
  }

  /** As `has`, of the peer's own store, and of no other that it reaches. */
  hasItself(refs: Uint8Array, signal?: AbortSignal): Promise<Uint8Array> {
    return this.#own.has(refs, signal);
  }

  read(refs: readonly Ref[], signal?: AbortSignal): Promise<Uint8Array[]> {
    return this.#chunks.read(refs, signal);
  }

  /**
   * What bringing a root from there would cost somebody who has these bases. Undefined where the peer does not tell. Rejects as reading the
   * root and the bases there does.
   */
  async cost(root: Ref, bases: readonly Ref[], signal?: AbortSignal): Promise<FileCostMeta | undefined> {
    if (!this.link.peer.features.includes(COST_FEATURE)) return undefined;
    const chunks = Buffer.concat([root, ...bases.slice(0, TRANSFER_BASES_MAX)]);
    const request = { type: MessageType.FILE_REQUEST, meta: { here: false, cost: true }, chunks };
    const timeoutMs = TRANSFER_TIMEOUT_MS;
    const reply = await this.link.request(request, {
      timeoutMs,
      ...(signal === undefined ? {} : { signal }),
    });
    return readMeta(FileCostMeta, reply);
  }

  /** In one message, where the peer takes such ones and has room without asking what of it is there. */
  async putWhole(
    block: Uint8Array<ArrayBuffer>,
    lengths: Uint32Array<ArrayBuffer>,
    binding: Binding,
    condition?: NameCondition,
  ): Promise<WholePut> {
    const chunks = chunksIn(block, lengths);
    if (this.link.peer.features.includes(WHOLE_PUT_FEATURE)) {
      try {
        const refs = Buffer.concat(chunks.map(({ ref }) => ref));
        const batch = await this.#packer.pack(lacking(chunks));
        return { refs, ...(await this.catalog.bindWhole(binding, batch, condition)) };
      } catch (error) {
        if (!hasCode(error, WireErrorCode.quota)) throw error;
      }
    }
    await using writer = await this.openWriter();
    const written = await writer.write(block, lengths);
    return { ...written, record: await writer.bind(binding, condition) };
  }

  /** Nothing is sent until it writes. A peer that takes no chunks from here answers that with PFS_NOT_ALLOWED. */
  async openWriter(): Promise<StoreWriter> {
    return new RemoteWriter(this.link, this.catalog);
  }
}

function chunksIn(block: Uint8Array<ArrayBuffer>, lengths: Uint32Array<ArrayBuffer>): Chunk[] {
  checkBlock(block, lengths);
  return chunksOf({ block, lengths }).map((bytes) => ({ ref: sha256(bytes), bytes }));
}

/**
 * Writes through a link: asks what the peer lacks and sends just that. The peer knows the writer as a put, which ends with
 * the session. Over the next one the put is begun again by claiming what it has stored, so that nothing that was
 * acknowledged is sent twice.
 */
class RemoteWriter implements StoreWriter {
  readonly #link: LastingLink;
  readonly #catalog: RemoteCatalog;
  readonly #put: RemotePut = { id: randomUUID(), renew: (link) => this.#renew(link) };
  readonly #packer = new ChunkPacker();
  /** What the peer keeps for this put. */
  readonly #kept = new RefList();
  /** The session in which it does, and since when. */
  #renewed: { readonly link: Link; readonly done: Promise<void> } | undefined;
  #isClosed = false;

  constructor(link: LastingLink, catalog: RemoteCatalog) {
    this.#link = link;
    this.#catalog = catalog;
  }

  async write(block: Uint8Array<ArrayBuffer>, lengths: Uint32Array<ArrayBuffer>): Promise<WrittenChunks> {
    const { id } = this.#open();
    const chunks = chunksIn(block, lengths);
    const refs = Buffer.concat(chunks.map(({ ref }) => ref));
    const total = { newChunks: 0, newBytes: 0, storedBytes: 0 };
    await this.#link.repeat(async (link) => {
      await this.#renew(link);
      const isFew = block.byteLength <= UNASKED_BYTES_MAX;
      if (isFew && (await this.#sendUnasked(link, lacking(chunks), total))) return;
      const there = await chunksOver(link).claim(refs, id);
      await this.#send(link, lacking(chunks, there), total);
    });
    this.#kept.push(refs);
    return { refs, ...total };
  }

  async claim(refs: Uint8Array): Promise<Uint8Array> {
    const { id } = this.#open();
    const there = await this.#link.repeat(async (link) => {
      await this.#renew(link);
      return await chunksOver(link).claim(refs, id);
    });
    there.forEach((bit, index) => {
      if (bit === 1) this.#kept.push(refAt(refs, index));
    });
    return there;
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
    this.#kept.clear();
    // The peer ends the puts of a session with it.
    if (this.#renewed === undefined || this.#renewed.link.ended !== undefined) return;
    // Nobody has to wait for it: what is asked next over the link comes behind it.
    void this.#catalog.endPut(this.#put.id, this.#renewed.link).catch(() => undefined);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The put, as long as there is one: a write after the end would begin another that nobody ends. */
  #open(): RemotePut {
    if (this.#isClosed) throw new StoreError(StoreErrorCode.closed, "the writer is closed");
    return this.#put;
  }

  /** Resolves when the peer keeps, in this session too, what it keeps for the put. */
  async #renew(link: Link): Promise<void> {
    if (this.#renewed?.link !== link) this.#renewed = { link, done: this.#claimKept(link) };
    await this.#renewed!.done;
  }

  /** Rejects with PFS_PUT_LOST when some of it is not there any more. */
  async #claimKept(link: Link): Promise<void> {
    for (const refs of this.#kept.pages(REFS_PER_WANT_MAX)) {
      const missing = (await chunksOver(link).claim(refs, this.#put.id)).indexOf(0);
      if (missing === -1) continue;
      const ref = refToHex(refAt(refs, missing));
      const message = `${link.peer.label} has lost what it had taken of a file that was being stored; store it again`;
      throw new WireError(WireErrorCode.putLost, message, { ref });
    }
  }

  /** False where the peer has no room for what may be there already. It keeps what it is sent, as it would what it has. */
  async #sendUnasked(link: Link, chunks: readonly Chunk[], total: Total): Promise<boolean> {
    try {
      await this.#send(link, chunks, total);
      return true;
    } catch (error) {
      if (hasCode(error, WireErrorCode.quota)) return false;
      throw error;
    }
  }

  /** Adds what was new to `total` as it is acknowledged. */
  async #send(link: Link, chunks: readonly Chunk[], total: Total): Promise<void> {
    for (let start = 0; start < chunks.length;) {
      let end = start;
      let bytes = 0;
      while (
        end < chunks.length &&
        (end === start || bytes + chunks[end]!.bytes.byteLength <= BATCH_BYTES_MAX)
      ) {
        bytes += chunks[end++]!.bytes.byteLength;
      }
      const { packets, body, codec } = await this.#packer.pack(chunks.slice(start, end));
      const reply = await link.request({
        type: MessageType.STORE,
        priority: Priority.bulk,
        meta: { put: this.#put.id, codec },
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
  }
}

interface Total {
  newChunks: number;
  newBytes: number;
  storedBytes: number;
}

/** Each chunk once, without those that are there. */
function lacking(chunks: readonly Chunk[], there?: Uint8Array): Chunk[] {
  const sent = new Set<string>();
  return chunks.filter(({ ref }, index) => {
    const key = refKey(ref);
    if (there?.[index] === 1 || sent.has(key)) return false;
    sent.add(key);
    return true;
  });
}

/** Refs back to back, as many as there come: 32 bytes each and nothing else. */
class RefList {
  #bytes = new Uint8Array(0);
  #length = 0;

  push(refs: Uint8Array): void {
    const length = this.#length + refs.byteLength;
    if (length > this.#bytes.byteLength) {
      const grown = new Uint8Array(Math.max(length, 2 * this.#bytes.byteLength));
      grown.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = grown;
    }
    this.#bytes.set(refs, this.#length);
    this.#length = length;
  }

  clear(): void {
    this.#bytes = new Uint8Array(0);
    this.#length = 0;
  }

  *pages(count: number): Generator<Uint8Array> {
    const end = this.#length;
    for (let at = 0; at < end; at += count * REF_BYTES) {
      yield this.#bytes.slice(at, Math.min(end, at + count * REF_BYTES));
    }
  }
}

/** The peer's own chunks, over one session. */
function chunksOver(link: Link): RemoteChunks {
  return new RemoteChunks(link, { here: true });
}
