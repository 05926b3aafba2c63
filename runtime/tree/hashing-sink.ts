/** Finds out the refs of chunks and keeps none, for those who ask what would be stored: what is claimed of it is taken for there. */
import { sha256 } from "../../packets/digest.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import type { ChunkSink, Lease, WrittenChunks } from "../contracts/chunks.ts";

export class HashingSink implements ChunkSink, Pick<Lease, "claim"> {
  async write(block: Uint8Array<ArrayBuffer>, lengths: Uint32Array<ArrayBuffer>): Promise<WrittenChunks> {
    const refs = new Uint8Array(lengths.length * REF_BYTES);
    let at = 0;
    for (const [index, length] of lengths.entries())
      refs.set(sha256(block.subarray(at, (at += length))), index * REF_BYTES);
    return { refs, newChunks: 0, newBytes: 0, storedBytes: 0 };
  }

  async claim(refs: Uint8Array): Promise<Uint8Array> {
    return new Uint8Array(refs.length / REF_BYTES).fill(1);
  }
}
