/** Answers for chunks: which are here, here they are, and (for those who may) here are new ones. */
import { refAt, sameBytes } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { MessageType, Priority } from "../../packets/envelope.ts";
import { hasCode } from "../../packets/errors.ts";
import type { PacketfsError } from "../../packets/errors.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import { blockOf } from "../../runtime/block.ts";
import type { Block } from "../../runtime/block.ts";
import type {
  ChunkSource,
  ChunkStore,
  StoredFormWriter,
  WrittenChunks,
} from "../../runtime/contracts/chunks.ts";
import { readEach } from "../../runtime/read-each.ts";
import { estimateUpdate } from "../../runtime/stream/patch/estimate.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import {
  BATCH_BYTES_MAX,
  FILE_REQUESTS_AT_WORK_MAX,
  PUTS_PER_LINK_MAX,
  REFS_PER_REQUEST_MAX,
  REFS_PER_WANT_MAX,
  STORES_AT_WORK_MAX,
  TRANSFER_BASES_MAX,
} from "../limits.ts";
import { FileRequestMeta, StoreMeta, WantMeta } from "../messages.ts";
import type { FileCostMeta } from "../messages.ts";
import { ChunkPacker, unpackChunks } from "../transfer/chunk-batch.ts";
import type { Chunk } from "../transfer/chunk-batch.ts";
import { readableRoots } from "../transfer/sent-root.ts";
import type { OutMessage, Reply, WireMessage } from "../wire/link.ts";
import { readMeta } from "../wire/session/meta.ts";
import type { HeldPuts } from "./held-puts.ts";
import { mayReturn } from "./service.ts";
import type { Handler, Service } from "./service.ts";
import type { Usage } from "./usage.ts";
import { WorkPlaces } from "./work-places.ts";

export interface ChunkServiceOptions {
  /** What this machine has itself. */
  readonly store: Pick<ChunkStore, "read" | "has">;
  /** What it can get, from others too. */
  readonly source: ChunkSource;
  /** Which chunks are somewhere in the network, one byte per ref. */
  readonly hasAnywhere: (refs: Uint8Array) => Promise<Uint8Array>;
  /** Present when the peer may write. */
  readonly puts?: PutWriters;
  /** Whose chunks it writes. */
  readonly usage?: Usage;
}

/** Chunks that are read at once while a reply is being filled: bounds what a reply may overshoot in memory. */
const READ_STEP = 16;

export class ChunkService implements Service {
  readonly handlers: ReadonlyMap<MessageType, Handler>;
  readonly #options: ChunkServiceOptions;
  readonly #packer = new ChunkPacker();
  // A request of a few kilobytes makes this machine read, or unpack, some megabytes: not those of thousands at once.
  readonly #sending = new WorkPlaces(FILE_REQUESTS_AT_WORK_MAX);
  readonly #storing = new WorkPlaces(STORES_AT_WORK_MAX);

  constructor(options: ChunkServiceOptions) {
    this.#options = options;
    const handlers = new Map<MessageType, Handler>([
      [MessageType.WANT, (message) => this.#want(message)],
      [MessageType.FILE_REQUEST, (message, reply) => this.#sendInPlace(message, reply)],
    ]);
    const puts = options.puts;
    if (puts !== undefined) {
      handlers.set(MessageType.STORE, (message, reply) =>
        this.#storing.run(() => {
          reply.signal.throwIfAborted();
          return this.#store(message, puts);
        }),
      );
    }
    this.handlers = handlers;
  }

  async #want(message: WireMessage): Promise<OutMessage> {
    const { put, here } = readMeta(WantMeta, message);
    const refs = checkedRefs(message.chunks, REFS_PER_WANT_MAX);
    const { puts, store, hasAnywhere } = this.#options;
    if (put !== undefined && puts !== undefined) {
      const writer = await puts.get(put);
      return { type: MessageType.HAVE, chunks: await writer.claim(refs) };
    }
    return {
      type: MessageType.HAVE,
      chunks: here === true ? await store.has(refs) : await hasAnywhere(refs),
    };
  }

  /** Reads what the peer has room for. */
  async #sendInPlace(message: WireMessage, reply: Reply): Promise<OutMessage> {
    return await this.#sending.run(async () => {
      await reply.room();
      // Nobody waits for it any more.
      reply.signal.throwIfAborted();
      const { here, cost } = readMeta(FileRequestMeta, message);
      return cost === true ? await this.#cost(message, reply.signal) : await this.#send(message, here);
    });
  }

  /** Writes some of what it would send. */
  async #cost(message: WireMessage, signal: AbortSignal): Promise<OutMessage> {
    const refs = checkedRefs(message.chunks, 1 + TRANSFER_BASES_MAX);
    const { source } = this.#options;
    const [root, ...others] = refList(refs);
    const bases = await readableRoots(source, others, signal);
    const { plainBytes, wireBytes, isExact } = await estimateUpdate(source, root!, bases, { signal });
    const meta: FileCostMeta = { plainBytes, wireBytes, isExact };
    return { type: MessageType.FILE_COMPLETE, meta };
  }

  async #send(message: WireMessage, here: boolean): Promise<OutMessage> {
    const refs = checkedRefs(message.chunks, REFS_PER_REQUEST_MAX);
    const source = here ? this.#options.store : this.#options.source;
    const all = refList(refs);
    const chunks: Chunk[] = [];
    const missing: number[] = [];
    const damaged: number[] = [];
    let bytes = 0;
    for (let start = 0; start < all.length && bytes < BATCH_BYTES_MAX; start += READ_STEP) {
      const step = all.slice(start, start + READ_STEP);
      const found = await readEach(source, step);
      for (const [index, chunk] of found.entries()) {
        if (!(chunk instanceof Uint8Array)) {
          missing.push(start + index);
          if (hasCode(chunk, "PFS_CHUNK_DAMAGED")) damaged.push(start + index);
        } else if (chunks.length === 0 || bytes + chunk.byteLength <= BATCH_BYTES_MAX) {
          chunks.push({ ref: step[index]!, bytes: chunk });
          bytes += chunk.byteLength;
        } else {
          bytes = BATCH_BYTES_MAX;
          break;
        }
      }
    }
    const { packets, body, codec } = await this.#packer.pack(chunks);
    const meta = { codec, missing, damaged };
    return { type: MessageType.FILE_DATA, priority: Priority.bulk, meta, packets, chunks: body };
  }

  async #store(message: WireMessage, puts: PutWriters): Promise<OutMessage> {
    const { put, codec } = readMeta(StoreMeta, message);
    const chunks = await unpackChunks({ packets: message.packets, body: message.chunks, codec });
    const { newChunks, newBytes, storedBytes } = await writeChunks(
      chunks,
      this.#options.usage,
      async (block) => (await puts.get(put)).write(block.block, block.lengths),
    );
    return { type: MessageType.STORED, meta: { newChunks, newBytes, storedBytes } };
  }

  ended(reason: PacketfsError): void {
    this.#options.puts?.ended(reason);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#options.puts?.[Symbol.asyncDispose]();
  }
}

/** Writes chunks that were verified already; the store hashes them again, as it does everything. `usage` is whose they are. */
export async function writeChunks<Written extends WrittenChunks>(
  chunks: readonly Chunk[],
  usage: Usage | undefined,
  write: (block: Block) => Promise<Written>,
): Promise<Written> {
  const block = blockOf(chunks.map(({ bytes }) => bytes));
  // The block goes to the store.
  const lengths = block.lengths.slice();
  const store = (): Promise<Written> => write(block);
  const written = await (usage === undefined ? store() : usage.storing(lengths, store));
  chunks.forEach(({ ref }, index) => {
    if (!sameBytes(ref, refAt(written.refs, index)))
      throw new Error("the store hashed a verified chunk differently");
  });
  return written;
}

function refList(refs: Uint8Array): Ref[] {
  return Array.from({ length: refs.byteLength / REF_BYTES }, (_, index) => refAt(refs, index));
}

function checkedRefs(refs: Uint8Array, countMax: number): Uint8Array {
  const count = refs.byteLength / REF_BYTES;
  if (!Number.isInteger(count) || count < 1 || count > countMax) {
    throw new WireError("PFS_MESSAGE_INVALID", `a request names 1 to ${countMax} refs of 32 bytes`, {
      bytes: refs.byteLength,
    });
  }
  return refs;
}

/** The writers that a peer has open here, by the name that the peer gave each put. Gone with the peer's link. */
export class PutWriters implements AsyncDisposable {
  readonly #open: () => Promise<StoredFormWriter>;
  readonly #held: { readonly puts: HeldPuts; readonly key: string } | undefined;
  readonly #writers = new Map<string, Promise<StoredFormWriter>>();
  #isClosed = false;
  #mayReturn = false;

  /** `held`: where those go whose link broke, and come back from. */
  constructor(
    open: () => Promise<StoredFormWriter>,
    held?: { readonly puts: HeldPuts; readonly key: string },
  ) {
    this.#open = open;
    this.#held = held;
  }

  /**
   * The put's writer, opened when it is new. Rejects with PFS_PEER_QUOTA beyond PUTS_PER_LINK_MAX, and with PFS_CANCELLED once
   * the peer is gone: a request that is still being worked on must not open what nobody would close.
   */
  async get(put: string): Promise<StoredFormWriter> {
    if (this.#isClosed) throw new WireError(WireErrorCode.cancelled, "the peer whose put it is has gone");
    const existing = this.#writers.get(put);
    if (existing !== undefined) return await existing;
    if (this.#writers.size >= PUTS_PER_LINK_MAX) {
      throw new WireError("PFS_PEER_QUOTA", `a peer may have ${PUTS_PER_LINK_MAX} puts open at a time`, {
        max: PUTS_PER_LINK_MAX,
      });
    }
    const held = this.#held?.puts.take(this.#held.key, put);
    const opened = held === undefined ? this.#open() : Promise.resolve(held);
    this.#writers.set(put, opened);
    // The put may try again: what it failed for may be gone by then.
    opened.catch(() => {
      if (this.#writers.get(put) === opened) this.#writers.delete(put);
    });
    return await opened;
  }

  async end(put: string): Promise<void> {
    const writer = this.#writers.get(put);
    this.#writers.delete(put);
    await (await writer)?.close();
  }

  /** The link is over, for this reason. */
  ended(reason: PacketfsError): void {
    this.#mayReturn = mayReturn(reason);
  }

  /** Closes them all, also where one cannot be; rejects then with what the first failed with. Those of a link that broke are held. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    const held = this.#mayReturn ? this.#held : undefined;
    const endOf = async (put: string): Promise<void> => {
      const writer = this.#writers.get(put);
      if (held === undefined || writer === undefined) return await this.end(put);
      this.#writers.delete(put);
      held.puts.hold(held.key, put, await writer);
    };
    const ends = await Promise.allSettled([...this.#writers.keys()].map(endOf));
    for (const end of ends) if (end.status === "rejected") throw end.reason;
  }
}
