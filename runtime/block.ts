/** A block: chunks back to back in one buffer, as they are handed to whoever writes them. */
import { sha256 } from "../packets/digest.ts";
import { joinBytes } from "../packets/join-bytes.ts";
import { REF_BYTES } from "../packets/layout.ts";
import { CHUNK_BYTES_MAX } from "../packets/limits.ts";
import { WRITE_BLOCK_BYTES_MAX } from "./limits.ts";

export interface Block {
  readonly block: Uint8Array<ArrayBuffer>;
  /** Bytes of each chunk. */
  readonly lengths: Uint32Array<ArrayBuffer>;
}

/** Copies chunks into a block of their own, whose buffer can be handed away. */
export function blockOf(chunks: readonly Uint8Array[]): Block {
  return { block: joinBytes(chunks), lengths: Uint32Array.from(chunks, ({ byteLength }) => byteLength) };
}

/** The chunks of a block, which stay where they are. */
export function chunksOf({ block, lengths }: Block): Uint8Array<ArrayBuffer>[] {
  let at = 0;
  return Array.from(lengths, (length) => block.subarray(at, (at += length)));
}

/** The refs of a block's chunks, 32 bytes each, back to back. */
export function refsOf(block: Block): Uint8Array<ArrayBuffer> {
  const refs = new Uint8Array(block.lengths.length * REF_BYTES);
  for (const [index, chunk] of chunksOf(block).entries()) refs.set(sha256(chunk), index * REF_BYTES);
  return refs;
}

/** Throws a RangeError for what is no block of chunks, or too much of it. */
export function checkBlock(block: Uint8Array, lengths: Uint32Array): void {
  let sum = 0;
  for (const length of lengths) {
    if (length < 1 || length > CHUNK_BYTES_MAX)
      throw new RangeError(`a chunk has 1 to ${CHUNK_BYTES_MAX} bytes, not ${length}`);
    sum += length;
  }
  if (sum !== block.byteLength)
    throw new RangeError(`chunks of ${sum} bytes in a block of ${block.byteLength}`);
  if (sum > WRITE_BLOCK_BYTES_MAX)
    throw new RangeError(`a block has at most ${WRITE_BLOCK_BYTES_MAX} bytes, not ${sum}`);
}
