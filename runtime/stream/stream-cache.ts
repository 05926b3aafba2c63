/** Stream chunks, read and parsed. */
import { refToHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { Stream } from "../../packets/stream-reader.ts";
import { STREAMS_CACHED } from "../limits.ts";
import type { ChunkSource } from "../contracts/chunks.ts";

/** Those that were parsed last, the least recently used forgotten first. */
export class StreamCache {
  readonly #source: ChunkSource;
  readonly #signal: AbortSignal | undefined;
  /** By ref as hex, in the order of their last use. */
  readonly #streams: Map<string, Stream> = new Map();

  constructor(source: ChunkSource, signal: AbortSignal | undefined) {
    this.#source = source;
    this.#signal = signal;
  }

  /** Rejects with PFS_CHUNK_MISSING, PFS_CHUNK_DAMAGED, PFS_PACKET_INVALID or PFS_STREAM_INVALID. */
  async get(ref: Ref): Promise<Stream> {
    const key = refToHex(ref);
    const stream = this.#streams.get(key) ?? (await readStream(this.#source, ref, this.#signal));
    this.#streams.delete(key);
    this.#streams.set(key, stream);
    if (this.#streams.size > STREAMS_CACHED) this.#streams.delete(this.#streams.keys().next().value!);
    return stream;
  }
}

export async function readStream(source: ChunkSource, ref: Ref, signal?: AbortSignal): Promise<Stream> {
  const [bytes] = await source.read([ref], signal);
  return Stream.parse(bytes!);
}
