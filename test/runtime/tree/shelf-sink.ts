/** Chunks in memory, to be written to and read from. */
import { refAt, refToHex, sha256 } from "../../../packets/digest.ts";
import { REF_BYTES } from "../../../packets/layout.ts";
import type { ChunkSink, Lease, WrittenChunks } from "../../../runtime/contracts/chunks.ts";
import { ShelfSource } from "../stream/shelf-source.ts";

export class ShelfSink extends ShelfSource implements ChunkSink, Pick<Lease, "claim"> {
  /** Chunks that claiming does not find. */
  readonly lost: Set<string> = new Set();

  async write(block: Uint8Array<ArrayBuffer>, lengths: Uint32Array<ArrayBuffer>): Promise<WrittenChunks> {
    const refs = new Uint8Array(lengths.length * REF_BYTES);
    let at = 0;
    let newChunks = 0;
    let newBytes = 0;
    for (const [index, length] of lengths.entries()) {
      const chunk = block.slice(at, (at += length));
      const ref = sha256(chunk);
      refs.set(ref, index * REF_BYTES);
      if (this.shelf.has(ref)) continue;
      this.shelf.put(chunk);
      newChunks++;
      newBytes += length;
    }
    return { refs, newChunks, newBytes, storedBytes: newBytes };
  }

  async claim(refs: Uint8Array): Promise<Uint8Array> {
    return new Uint8Array(refs.length / REF_BYTES).map((_, index) => {
      const ref = refAt(refs, index);
      return this.shelf.has(ref) && !this.lost.has(refToHex(ref)) ? 1 : 0;
    });
  }
}
