/** The chunks of one peer, over a link: which it has, reading them, and writing those that it lacks. */
import { MessageType, Priority } from "../../packets/envelope.ts";
import { refAt, refToHex, sha256 } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import type { ChunkSink, ChunkSource, WrittenChunks } from "../../runtime/contracts/chunks.ts";
import { WireError } from "../errors.ts";
import {
  BATCH_BYTES_MAX,
  FILE_REQUESTS_IN_FLIGHT,
  REFS_PER_REQUEST_MAX,
  REFS_PER_WANT_MAX,
} from "../limits.ts";
import { FileDataMeta, StoredMeta } from "../messages.ts";
import { readMeta } from "../wire/session/meta.ts";
import type { Link } from "../wire/link.ts";
import { ChunkPacker, unpackChunks } from "./chunk-batch.ts";
import type { Chunk } from "./chunk-batch.ts";

export interface RemoteChunksOptions {
  /** Whether the peer may answer only with what it has itself. Set between nodes, so that two cannot ask in circles. */
  readonly here: boolean;
}

export class RemoteChunks implements ChunkSource {
  readonly #link: Link;
  readonly #here: boolean;

  constructor(link: Link, { here }: RemoteChunksOptions) {
    this.#link = link;
    this.#here = here;
  }

  /** One byte (0 or 1) per ref. With `put`, the peer keeps those it has until that put ends. */
  async has(refs: Uint8Array, put?: string): Promise<Uint8Array> {
    const count = refs.byteLength / REF_BYTES;
    const answers = new Uint8Array(count);
    const asked: Promise<void>[] = [];
    for (let start = 0; start < count; start += REFS_PER_WANT_MAX) {
      const chunks = refs.subarray(start * REF_BYTES, (start + REFS_PER_WANT_MAX) * REF_BYTES);
      const meta = { here: this.#here, ...(put === undefined ? {} : { put }) };
      asked.push(
        this.#link.request({ type: MessageType.WANT, meta, chunks }).then(({ chunks: bits }) => {
          answers.set(bits.subarray(0, Math.min(REFS_PER_WANT_MAX, count - start)), start);
        }),
      );
    }
    await Promise.all(asked);
    return answers;
  }

  async read(refs: readonly Ref[], signal?: AbortSignal): Promise<Uint8Array[]> {
    const results: Uint8Array[] = Array.from({ length: refs.length });
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < refs.length) {
        const start = next;
        next = Math.min(refs.length, start + REFS_PER_REQUEST_MAX);
        await this.#readSpan(refs, start, next, results, signal);
      }
    };
    await Promise.all(Array.from({ length: FILE_REQUESTS_IN_FLIGHT }, worker));
    return results;
  }

  /** Asks until every ref of the span is here: a peer sends as many at a time as fit one message. */
  async #readSpan(
    refs: readonly Ref[],
    start: number,
    end: number,
    results: Uint8Array[],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const wanted = new Map<string, number[]>();
    for (let index = start; index < end; index++) {
      const hex = refToHex(refs[index]!);
      const indexes = wanted.get(hex);
      if (indexes === undefined) wanted.set(hex, [index]);
      else indexes.push(index);
    }
    while (wanted.size > 0) {
      const asked = [...wanted.keys()];
      const reply = await this.#link.request(
        {
          type: MessageType.FILE_REQUEST,
          priority: Priority.bulk,
          meta: { here: this.#here },
          chunks: Buffer.from(asked.join(""), "hex"),
        },
        signal === undefined ? {} : { signal },
      );
      const { codec, missing } = readMeta(FileDataMeta, reply);
      if (missing.length > 0) {
        const ref = asked[missing[0]!] ?? "";
        throw new WireError("PFS_CHUNK_MISSING", `chunk ${ref} is on no node that answers`, { ref });
      }
      const before = wanted.size;
      for (const { ref, bytes } of unpackChunks({ packets: reply.packets, body: reply.chunks, codec })) {
        const hex = refToHex(ref);
        for (const index of wanted.get(hex) ?? []) results[index] = bytes;
        wanted.delete(hex);
      }
      if (wanted.size === before) {
        throw new WireError(
          "PFS_CHUNK_BATCH_INVALID",
          "a peer answered a request for chunks without any",
          {},
        );
      }
    }
  }
}

/** Writes through a link: asks what the peer lacks and sends just that. One per put. */
export class RemoteSink implements ChunkSink {
  readonly #link: Link;
  readonly #put: string;
  readonly #chunks: RemoteChunks;
  readonly #packer = new ChunkPacker();

  constructor(link: Link, put: string) {
    this.#link = link;
    this.#put = put;
    this.#chunks = new RemoteChunks(link, { here: true });
  }

  async write(block: Uint8Array<ArrayBuffer>, lengths: Uint32Array<ArrayBuffer>): Promise<WrittenChunks> {
    const refs = new Uint8Array(lengths.length * REF_BYTES);
    const chunks: Chunk[] = [];
    let at = 0;
    lengths.forEach((length, index) => {
      const bytes = block.subarray(at, at + length);
      refs.set(sha256(bytes), index * REF_BYTES);
      chunks.push({ ref: refAt(refs, index), bytes });
      at += length;
    });
    const there = await this.#chunks.has(refs, this.#put);
    const sent = new Set<string>();
    const lacking = chunks.filter(({ ref }, index) => {
      const hex = refToHex(ref);
      if (there[index] === 1 || sent.has(hex)) return false;
      sent.add(hex);
      return true;
    });
    return { refs, ...(await this.#send(lacking)) };
  }

  async #send(chunks: readonly Chunk[]): Promise<StoredMeta> {
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
        meta: { put: this.#put, codec },
        packets,
        chunks: body,
      });
      const stored = readMeta(StoredMeta, reply);
      total.newChunks += stored.newChunks;
      total.newBytes += stored.newBytes;
      // What the put cost is what crossed the wire.
      total.storedBytes += body.byteLength + packets.byteLength;
      start = end;
    }
    return total;
  }
}
