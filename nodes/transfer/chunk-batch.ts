/**
 * Chunks in one message: a COPY packet says each one's ref and length, the bytes stand back to back behind it,
 * compressed together when that pays. Chunks of one file lie next to each other, so compressing them together finds
 * more than compressing each.
 */
import { zstdCompressSync, zstdDecompressSync, constants } from "node:zlib";
import { sameBytes, sha256 } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { Op } from "../../packets/layout.ts";
import { CHUNK_BYTES_MAX, FRAME_PACKETS_MAX } from "../../packets/limits.ts";
import { decodePacket, packetCount, writePacket } from "../../packets/packet.ts";
import { PACKET_BYTES } from "../../packets/layout.ts";
import { WireError } from "../errors.ts";
import { BATCH_BYTES_MAX } from "../limits.ts";

export const Codec = { plain: 0, zstd: 1 } as const;
export type Codec = (typeof Codec)[keyof typeof Codec];

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

/** Compression is given up for a while where it saves less than this share. */
const SAVING_MIN = 0.06;
const SKIPS_MAX = 64;

/** Packs chunks for one link. It remembers whether compression paid lately, so that random bytes cost next to nothing. */
export class ChunkPacker {
  #skips = 0;
  #nextSkips = 1;

  pack(chunks: readonly Chunk[]): ChunkBatch {
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
    return { packets, ...this.#compress(plain) };
  }

  #compress(plain: Uint8Array): { body: Uint8Array; codec: Codec } {
    if (this.#skips > 0) {
      this.#skips--;
      return { body: plain, codec: Codec.plain };
    }
    const packed = zstdCompressSync(plain, { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
    if (packed.byteLength <= plain.byteLength * (1 - SAVING_MIN)) {
      this.#nextSkips = 1;
      return { body: packed, codec: Codec.zstd };
    }
    this.#skips = this.#nextSkips;
    this.#nextSkips = Math.min(SKIPS_MAX, this.#nextSkips * 2);
    return { body: plain, codec: Codec.plain };
  }
}

/**
 * The chunks of a batch, every one verified against its ref. Rejects what a hostile peer may send with
 * PFS_CHUNK_BATCH_INVALID, and bytes that are not what they claim with PFS_CHUNK_DAMAGED.
 */
export function unpackChunks(batch: ChunkBatch): Chunk[] {
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
  if (total > BATCH_BYTES_MAX) throw invalid(`${total} bytes in one message`);
  const plain = batch.codec === Codec.zstd ? decompress(batch.body, total) : batch.body;
  if (plain.byteLength !== total) throw invalid(`${plain.byteLength} bytes where ${total} were announced`);
  return spans.map(({ ref, at, length }) => {
    const bytes = plain.subarray(at, at + length);
    if (!sameBytes(sha256(bytes), ref)) {
      const hex = Buffer.from(ref).toString("hex");
      throw new WireError("PFS_CHUNK_DAMAGED", `a peer sent wrong bytes for chunk ${hex}`, { ref: hex });
    }
    return { ref, bytes };
  });
}

function decompress(body: Uint8Array, total: number): Uint8Array {
  try {
    // One byte more than announced is enough to see that there is more.
    return zstdDecompressSync(body, { maxOutputLength: total + 1 });
  } catch (error) {
    throw invalid(error instanceof Error ? error.message : "not zstd");
  }
}

function invalid(reason: string): WireError {
  return new WireError("PFS_CHUNK_BATCH_INVALID", `a peer sent a malformed chunk message: ${reason}`, {
    reason,
  });
}
