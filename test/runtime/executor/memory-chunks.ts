/** Chunks in memory: a source and a sink for parts that know nothing else of a store. */
import { refToHex, sha256 } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { StoreError, StoreErrorCode } from "../../../runtime/errors.ts";
import type { ChunkSink, ChunkSource, WrittenChunks } from "../../../runtime/contracts/chunks.ts";

export class MemoryChunks implements ChunkSource, ChunkSink {
  /** Calls of `read` and `write`. */
  reads = 0;
  writes = 0;
  readonly #chunks = new Map<string, Uint8Array>();

  put(bytes: Uint8Array): Ref {
    const ref = sha256(bytes);
    this.#chunks.set(refToHex(ref), bytes.slice());
    return ref;
  }

  /** Throws PFS_CHUNK_MISSING. */
  get(ref: Ref): Uint8Array {
    const bytes = this.#chunks.get(refToHex(ref));
    if (bytes !== undefined) return bytes;
    throw new StoreError(StoreErrorCode.chunkMissing, `no chunk ${refToHex(ref)}`, { ref: refToHex(ref) });
  }

  async read(refs: readonly Ref[]): Promise<Uint8Array[]> {
    this.reads++;
    return refs.map((ref) => this.get(ref));
  }

  async write(block: Uint8Array<ArrayBuffer>, lengths: Uint32Array<ArrayBuffer>): Promise<WrittenChunks> {
    this.writes++;
    // As the real one does: whoever touches the block afterwards finds nothing.
    const { byteOffset, byteLength } = block;
    const own = new Uint8Array(block.buffer.transfer(), byteOffset, byteLength);
    const refs: Ref[] = [];
    let at = 0;
    for (const length of lengths) refs.push(this.put(own.subarray(at, (at += length))));
    if (at !== byteLength) throw new Error("lengths do not add up");
    return { refs: Buffer.concat(refs), newChunks: refs.length, newBytes: at, storedBytes: at };
  }
}
