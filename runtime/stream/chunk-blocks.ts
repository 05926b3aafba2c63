/** Chunks of any sizes, written into a sink in few calls. */
import { RESULT_BLOCK_BYTES } from "../limits.ts";
import type { ChunkSink } from "../contracts/chunks.ts";
import { unwrittenBytes } from "./staging-buffer.ts";

/** Writes the chunks (1 byte to CHUNK_BYTES_MAX each) and resolves with their refs, 32 bytes each, back to back. */
export async function writeChunks(sink: ChunkSink, chunks: readonly Uint8Array[]): Promise<Uint8Array> {
  const refs: Uint8Array[] = [];
  for (let first = 0; first < chunks.length;) {
    let end = first;
    let bytes = 0;
    while (end < chunks.length && (end === first || bytes + chunks[end]!.byteLength <= RESULT_BLOCK_BYTES)) {
      bytes += chunks[end++]!.byteLength;
    }
    const block = unwrittenBytes(bytes);
    const lengths = new Uint32Array(end - first);
    let at = 0;
    for (let index = first; index < end; index++) {
      const chunk = chunks[index]!;
      block.set(chunk, at);
      at += chunk.byteLength;
      lengths[index - first] = chunk.byteLength;
    }
    refs.push((await sink.write(block, lengths)).refs);
    first = end;
  }
  return refs.length === 1 ? refs[0]! : Buffer.concat(refs);
}
