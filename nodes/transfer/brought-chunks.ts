/** Chunks that came along with a message, verified, before others: who looks for one of them asks nobody. */
import { refAt, refKey } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import type { ChunkSizes, ChunkSource } from "../../runtime/contracts/chunks.ts";
import type { Chunk } from "./chunk-batch.ts";

export class BroughtChunks {
  readonly #chunks = new Map<string, Uint8Array>();

  add(chunks: readonly Chunk[]): void {
    for (const { ref, bytes } of chunks) this.#chunks.set(refKey(ref), bytes);
  }

  /** All that is asked for together comes from `others` where one of it did not come along. */
  before(others: ChunkSource): ChunkSource {
    return {
      read: async (refs, signal) => {
        const found = refs.flatMap((ref) => this.#chunks.get(refKey(ref)) ?? []);
        return found.length === refs.length ? found : await others.read(refs, signal);
      },
    };
  }

  /** One byte (0 or 1) per ref; `others` is asked about all where one did not come along. */
  async has(refs: Uint8Array, others: (refs: Uint8Array) => Promise<Uint8Array>): Promise<Uint8Array> {
    const found = this.#each(refs);
    if (!found.includes(undefined)) return new Uint8Array(found.length).fill(1);
    const there = await others(refs);
    return Uint8Array.from(found, (bytes, index) => (bytes === undefined ? there[index]! : 1));
  }

  sizesBefore(others: ChunkSizes): ChunkSizes {
    return {
      sizes: async (refs) => {
        const found = this.#each(refs);
        if (!found.includes(undefined)) return Float64Array.from(found, (bytes) => bytes!.byteLength);
        const sizes = await others.sizes(refs);
        return Float64Array.from(found, (bytes, index) => bytes?.byteLength ?? sizes[index]!);
      },
    };
  }

  #each(refs: Uint8Array): (Uint8Array | undefined)[] {
    return Array.from({ length: refs.byteLength / REF_BYTES }, (_, index) => this.#get(refAt(refs, index)));
  }

  #get(ref: Ref): Uint8Array | undefined {
    return this.#chunks.get(refKey(ref));
  }
}
