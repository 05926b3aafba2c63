/** What was read last, the least recently used forgotten first: chunks as they were verified, and streams as they were parsed. */
import { refKey, refToHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { Stream } from "../../packets/stream-reader.ts";
import type { Evaluator } from "../contracts/evaluator.ts";
import type { ChunkSource } from "../contracts/chunks.ts";
import { CACHED_CHUNK_COST_BYTES, STREAMS_CACHED } from "../limits.ts";

/** Packets of one frame and of the next often read the same chunks, stream chunks above all. */
export class ChunkCache implements ChunkSource {
  readonly #source: ChunkSource;
  readonly #bytesMax: number;
  /** In order of use, the latest last. */
  readonly #chunks = new Map<string, Uint8Array>();
  #bytes = 0;

  constructor(source: ChunkSource, bytesMax: number) {
    this.#source = source;
    this.#bytesMax = bytesMax;
  }

  async read(refs: readonly Ref[], signal?: AbortSignal): Promise<Uint8Array[]> {
    signal?.throwIfAborted();
    const found = refs.map((ref) => this.#touch(refKey(ref)));
    const missing = refs.filter((_ref, index) => found[index] === undefined);
    if (missing.length === 0) return found as Uint8Array[];
    const fetched = await this.#source.read(missing, signal);
    missing.forEach((ref, index) => this.#keep(refKey(ref), fetched[index]!));
    let next = 0;
    return found.map((bytes) => bytes ?? fetched[next++]!);
  }

  /** The chunks in the order asked, where all of them are in memory. */
  cached(refs: readonly Ref[]): Uint8Array[] | undefined {
    const chunks: Uint8Array[] = [];
    for (const ref of refs) {
      const bytes = this.#touch(refKey(ref));
      if (bytes === undefined) return undefined;
      chunks.push(bytes);
    }
    return chunks;
  }

  /** What is asked for next is read anew. */
  clear(): void {
    this.#chunks.clear();
    this.#bytes = 0;
  }

  #touch(key: string): Uint8Array | undefined {
    const bytes = this.#chunks.get(key);
    if (bytes === undefined) return undefined;
    this.#chunks.delete(key);
    this.#chunks.set(key, bytes);
    return bytes;
  }

  #keep(key: string, bytes: Uint8Array): void {
    if (bytes.byteLength + CACHED_CHUNK_COST_BYTES > this.#bytesMax || this.#chunks.has(key)) return;
    // A view would keep the whole block alive that its neighbours were read with.
    const own = bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes);
    this.#chunks.set(key, own);
    this.#bytes += own.byteLength + CACHED_CHUNK_COST_BYTES;
    for (const [oldest, { byteLength }] of this.#chunks) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#chunks.delete(oldest);
      this.#bytes -= byteLength + CACHED_CHUNK_COST_BYTES;
    }
  }
}

export class StreamCache {
  readonly #source: ChunkSource;
  readonly #signal: AbortSignal | undefined;
  /** By ref as hex, in the order of their last use. */
  readonly #streams: Map<string, Stream> = new Map();

  readonly #evaluator: Evaluator | undefined;

  constructor(source: ChunkSource, signal: AbortSignal | undefined, evaluator?: Evaluator) {
    this.#source = source;
    this.#signal = signal;
    this.#evaluator = evaluator;
  }

  /**
   * The stream, or, where there is an evaluator, the plain one that a derived one yields. Rejects with PFS_CHUNK_MISSING,
   * PFS_CHUNK_DAMAGED, PFS_PACKET_INVALID or PFS_STREAM_INVALID.
   */
  async get(ref: Ref): Promise<Stream> {
    const key = refToHex(ref);
    const stream =
      this.#streams.get(key) ?? (await readStream(this.#source, ref, this.#signal, this.#evaluator));
    this.#streams.delete(key);
    this.#streams.set(key, stream);
    if (this.#streams.size > STREAMS_CACHED) this.#streams.delete(this.#streams.keys().next().value!);
    return stream;
  }
}

export async function readStream(
  source: ChunkSource,
  ref: Ref,
  signal?: AbortSignal,
  evaluator?: Evaluator,
): Promise<Stream> {
  const [bytes] = await source.read([ref], signal);
  const stream = Stream.parse(bytes!);
  if (stream.isPlain || evaluator === undefined) return stream;
  // What it answers with is read as it is: one that is derived again is refused like any other.
  return await readStream(source, await evaluator.evaluate(ref, signal), signal);
}
