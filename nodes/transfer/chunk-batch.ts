/**
 * Chunks in one message: a COPY packet says each one's ref and length, the bytes stand back to back behind it,
 * compressed together when that pays. Chunks of one file lie next to each other, so compressing them together finds
 * more than compressing each.
 */
import { Compressor, decompressAside } from "../../packets/codec.ts";
import type { Codec } from "../../packets/codec.ts";
import { isRefOf, refToHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { Op, PACKET_BYTES } from "../../packets/layout.ts";
import { CHUNK_BYTES_MAX, FRAME_PACKETS_MAX } from "../../packets/limits.ts";
import { decodePacket, packetCount, writePacket } from "../../packets/packet.ts";
import { turnOver } from "../../runtime/turns.ts";
import { WireError } from "../errors.ts";
import { BATCH_BYTES_MAX } from "../limits.ts";

export interface ChunkBatch {
  /** COPY packets, one per chunk; `at` is where the chunk begins in the plain body. */
  readonly packets: Uint8Array;
  readonly body: Uint8Array;
  readonly codec: Codec;
}

export interface Chunk {
  readonly ref: Ref;
  readonly bytes: Uint8Array;
}

/** Packs chunks for one link. It remembers whether compression paid lately, so that random bytes cost next to nothing. */
export class ChunkPacker {
  readonly #compressor: Compressor = new Compressor();

  /** In turns: whoever shares the event loop is served meanwhile. */
  async pack(chunks: readonly Chunk[]): Promise<ChunkBatch> {
    const packets = new Uint8Array(chunks.length * PACKET_BYTES);
    let at = 0;
    chunks.forEach(({ ref, bytes }, index) => {
      writePacket(packets, index, { op: Op.COPY, at, length: bytes.byteLength, ref });
      at += bytes.byteLength;
    });
    const plain =
      chunks.length === 1
        ? chunks[0]!.bytes
        : Buffer.concat(
            chunks.map(({ bytes }) => bytes),
            at,
          );
    const { codec, bytes: body } = await this.#compressor.compressAside(plain);
    return { packets, body, codec };
  }
}

/**
 * The chunks of a batch, of so many plain bytes at most, every one verified against its ref, in turns as they are packed. Rejects what a hostile peer may send with
 * PFS_CHUNK_BATCH_INVALID, and bytes that are not what they claim with PFS_CHUNK_DAMAGED.
 */
export async function unpackChunks(batch: ChunkBatch, bytesMax: number = BATCH_BYTES_MAX): Promise<Chunk[]> {
  const count = packetCount(batch.packets);
  if (count > FRAME_PACKETS_MAX) throw invalid(`${count} chunks in one message`);
  const spans: { ref: Ref; at: number; length: number }[] = [];
  let total = 0;
  for (let index = 0; index < count; index++) {
    const { op, at, length, from, ref } = decodePacket(batch.packets, index);
    if (op !== Op.COPY || from !== 0 || at !== total || length > CHUNK_BYTES_MAX)
      throw invalid(`packet ${index}`);
    spans.push({ ref, at, length });
    total += length;
  }
  if (total > bytesMax) throw invalid(`${total} bytes in one message`);
  const plain = await decompressAside(batch.body, batch.codec, total);
  if (plain === undefined) throw invalid(`its body is not the ${total} bytes that were announced`);
  const chunks: Chunk[] = [];
  for (const { ref, at, length } of spans) {
    const over = turnOver();
    if (over !== undefined) await over;
    const bytes = plain.subarray(at, at + length);
    if (!isRefOf(ref, bytes)) {
      const hex = refToHex(ref);
      throw new WireError("PFS_CHUNK_DAMAGED", `a peer sent wrong bytes for chunk ${hex}`, { ref: hex });
    }
    chunks.push({ ref, bytes });
  }
  return chunks;
}

function invalid(reason: string): WireError {
  return new WireError("PFS_CHUNK_BATCH_INVALID", `a peer sent a malformed chunk message: ${reason}`, {
    reason,
  });
}
