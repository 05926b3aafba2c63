/** The chunks of one peer, over a link: which it has, and reading them. */
import { MessageType, Priority } from "../../packets/envelope.ts";
import { refToHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import type { ChunkSource } from "../../runtime/contracts/chunks.ts";
import { WireError } from "../errors.ts";
import {
  FILE_REQUESTS_IN_FLIGHT,
  QUESTION_TIMEOUT_MS,
  REFS_PER_REQUEST_MAX,
  REFS_PER_WANT_MAX,
  TRANSFER_TIMEOUT_MS,
} from "../limits.ts";
import { FileDataMeta } from "../messages.ts";
import type { WantMeta } from "../messages.ts";
import { readMeta } from "../wire/session/meta.ts";
import type { Link } from "../wire/link.ts";
import { unpackChunks } from "./chunk-batch.ts";

export interface RemoteChunksOptions {
  /** Whether the peer may answer only with what it has itself. Set between nodes, so that two cannot ask in circles. */
  readonly here: boolean;
}

/** Chunks that came from a peer, and what they were on the wire. */
export interface FetchedChunks {
  /** In the order asked, every one verified. */
  readonly chunks: Uint8Array[];
  readonly wireBytes: number;
}

/** Whom requests go to: a link, or what stands for one link after the other. */
export type Asked = Pick<Link, "peer" | "isSuspect" | "request">;

export class RemoteChunks implements ChunkSource {
  /** The peer's id. */
  readonly id: string;
  readonly #link: Asked;
  readonly #here: boolean;

  constructor(link: Asked, { here }: RemoteChunksOptions) {
    this.id = link.peer.id;
    this.#link = link;
    this.#here = here;
  }

  /** Whether the peer left a request without a word lately: it is to be asked last. */
  get isSuspect(): boolean {
    return this.#link.isSuspect;
  }

  /** One byte (0 or 1) per ref: which the peer says that it has. */
  async has(refs: Uint8Array, signal?: AbortSignal): Promise<Uint8Array> {
    return await this.#ask(refs, { here: this.#here }, signal);
  }

  /** The same, and the peer keeps those that it has until the put ends. */
  async claim(refs: Uint8Array, put: string): Promise<Uint8Array> {
    return await this.#ask(refs, { here: this.#here, put }, undefined);
  }

  async read(refs: readonly Ref[], signal?: AbortSignal): Promise<Uint8Array[]> {
    return (await this.fetch(refs, signal)).chunks;
  }

  /** As `read`. */
  async fetch(refs: readonly Ref[], signal?: AbortSignal): Promise<FetchedChunks> {
    signal?.throwIfAborted();
    const failed = new AbortController();
    const either = signal === undefined ? failed.signal : AbortSignal.any([signal, failed.signal]);
    const chunks: Uint8Array[] = Array.from({ length: refs.length });
    let wireBytes = 0;
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < refs.length) {
        const start = next;
        next = Math.min(refs.length, start + REFS_PER_REQUEST_MAX);
        wireBytes += await this.#readSpan(refs.slice(start, next), chunks, start, either);
      }
    };
    try {
      await Promise.all(Array.from({ length: FILE_REQUESTS_IN_FLIGHT }, worker));
      return { chunks, wireBytes };
    } catch (error) {
      // What the other workers have asked for is of no use any more.
      failed.abort();
      signal?.throwIfAborted();
      throw error;
    }
  }

  async #ask(refs: Uint8Array, meta: WantMeta, signal: AbortSignal | undefined): Promise<Uint8Array> {
    signal?.throwIfAborted();
    const count = refs.byteLength / REF_BYTES;
    const answers = new Uint8Array(count);
    const ask = async (start: number): Promise<void> => {
      const chunks = refs.subarray(start * REF_BYTES, (start + REFS_PER_WANT_MAX) * REF_BYTES);
      const request = { type: MessageType.WANT, meta, chunks };
      const { chunks: bits } = await this.#link.request(request, {
        timeoutMs: QUESTION_TIMEOUT_MS,
        ...(signal === undefined ? {} : { signal }),
      });
      if (bits.byteLength !== chunks.byteLength / REF_BYTES || bits.some((bit) => bit > 1)) {
        throw batchInvalid("does not say of each chunk whether it has it");
      }
      answers.set(bits, start);
    };
    try {
      const starts = Array.from({ length: Math.ceil(count / REFS_PER_WANT_MAX) }, (_, index) => index);
      await Promise.all(starts.map((index) => ask(index * REFS_PER_WANT_MAX)));
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    }
    return answers;
  }

  /** What a chunk cannot be had for, as the peer says. Throws when it was not asked for it. */
  #lost(ref: string | undefined, isDamaged: boolean): WireError {
    if (ref === undefined) throw batchInvalid("says that it lacks what it was not asked for");
    if (!isDamaged)
      return new WireError("PFS_CHUNK_MISSING", `chunk ${ref} is on no node that answers`, { ref });
    // Others may have a chunk of a peer that was asked for what it has itself.
    const place = this.#here ? this.#link.peer.label : "the hub, and no node that answers has it";
    return new WireError("PFS_CHUNK_DAMAGED", `the bytes of chunk ${ref} are damaged at ${place}`, { ref });
  }

  /**
   * Asks until all of `refs` are in `results` from `at` on: a peer sends as many at a time as fit one message. Resolves
   * with the bytes that crossed the wire.
   */
  async #readSpan(
    refs: readonly Ref[],
    results: Uint8Array[],
    at: number,
    signal: AbortSignal,
  ): Promise<number> {
    const wanted = new Map<string, number[]>();
    for (const [index, ref] of refs.entries()) {
      const hex = refToHex(ref);
      const indexes = wanted.get(hex);
      if (indexes === undefined) wanted.set(hex, [at + index]);
      else indexes.push(at + index);
    }
    let wireBytes = 0;
    while (wanted.size > 0) {
      const asked = [...wanted.keys()];
      const request = {
        type: MessageType.FILE_REQUEST,
        priority: Priority.bulk,
        meta: { here: this.#here },
        chunks: Buffer.from(asked.join(""), "hex"),
      };
      const reply = await this.#link.request(request, { signal, timeoutMs: TRANSFER_TIMEOUT_MS });
      const { codec, missing, damaged } = readMeta(FileDataMeta, reply);
      const [lacking] = missing;
      if (lacking !== undefined) throw this.#lost(asked[lacking], damaged.includes(lacking));
      wireBytes += reply.packets.byteLength + reply.chunks.byteLength;
      const chunks = await unpackChunks({ packets: reply.packets, body: reply.chunks, codec });
      for (const { ref, bytes } of chunks) {
        const hex = refToHex(ref);
        for (const index of wanted.get(hex) ?? []) results[index] = bytes;
        wanted.delete(hex);
      }
      if (wanted.size === asked.length)
        throw batchInvalid("answered a request for chunks without any of them");
    }
    return wireBytes;
  }
}

/** What a peer answered makes no sense; `what` completes "a peer …". */
export function batchInvalid(what: string): WireError {
  return new WireError("PFS_CHUNK_BATCH_INVALID", `a peer ${what}`, { reason: what });
}
