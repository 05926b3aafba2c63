/** Where the inputs of EXEC packets come from: chunks and streams, those that were read last kept in memory. */
import type { Ref } from "../../packets/digest.ts";
import { PacketError, PacketErrorCode } from "../../packets/errors.ts";
import { INPUT_CACHE_BYTES, INPUT_STREAMS_MAX } from "../limits.ts";
import { describeStream } from "./describe.ts";
import type { ChunkSource } from "../contracts/chunks.ts";
import { ChunkCache, chunkKey } from "./chunk-cache.ts";
import { StreamInput } from "./stream-input.ts";
import type { StreamFacts } from "./stream-input.ts";

export class InputSource {
  readonly #source: ChunkSource;
  readonly #streams = new Map<string, StreamFacts>();

  constructor(source: ChunkSource) {
    this.#source = new ChunkCache(source, INPUT_CACHE_BYTES);
  }

  /** Chunks in the order asked. Rejects with PFS_CHUNK_MISSING or PFS_CHUNK_DAMAGED. */
  chunks(refs: readonly Ref[], signal: AbortSignal): Promise<Uint8Array[]> {
    return this.#source.read(refs, signal);
  }

  /** The stream `root`, to be read in ranges. Rejects with what describing it rejects with. */
  async stream(root: Ref, signal: AbortSignal): Promise<StreamInput> {
    const key = chunkKey(root);
    const facts = this.#streams.get(key) ?? (await this.#describe(root, signal));
    this.#streams.delete(key);
    this.#streams.set(key, facts);
    for (const oldest of this.#streams.keys()) {
      if (this.#streams.size <= INPUT_STREAMS_MAX) break;
      this.#streams.delete(oldest);
    }
    return new StreamInput(this.#source, facts, signal);
  }

  async #describe(root: Ref, signal: AbortSignal): Promise<StreamFacts> {
    const own = root.slice();
    const { length, isPlain } = await describeStream(this.#source, own, signal);
    if (!isPlain) {
      throw new PacketError(PacketErrorCode.notPlain, "it is a stream that has to be computed first", {
        op: "EXEC",
      });
    }
    return { root: own, length, head: undefined };
  }
}
