/**
 * Packets where they cost least: on a wire, against packets that both sides have. What follows from the other fields is left
 * out first, so that a packet has the same bytes wherever it stands and one that both sides have is found again; then zstd
 * finds it.
 *
 *   check   is what the other fields say                                           → zero
 *   at      is mostly the sum of the lengths since the last HALT, of a HALT the
 *           number of packets since then                                           → what it is, XOR that
 */
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import { readInteger32, writeInteger32 } from "./integer.ts";
import { Offset, Op, PACKET_BYTES } from "./layout.ts";
import { PATCH_STREAM_PACKETS_MAX, PATCH_WINDOW_BITS_MAX } from "./limits.ts";
import { lengthAt, opAt, packetCount, sealPacket } from "./packet.ts";

/** Packets are few beside the bytes that they stand for. */
const LEVEL = 6;

const TWO_32 = 0x1_0000_0000;

/** Packs whole, valid packets against `dictionary`, packets that the reader has. */
export async function packPackets(
  frame: Uint8Array,
  dictionary: Uint8Array = new Uint8Array(0),
): Promise<Uint8Array> {
  const params = { [constants.ZSTD_c_compressionLevel]: LEVEL };
  return await new Promise((resolve, reject) => {
    zstdCompress(barePackets(frame), { dictionary: barePackets(dictionary), params }, (error, packed) =>
      error === null ? resolve(packed) : reject(error),
    );
  });
}

/**
 * The `count` packets that were packed, at most PATCH_STREAM_PACKETS_MAX; undefined where the bytes are not that many. Their checks
 * are right, and nothing else of them is looked at.
 */
export async function unpackPackets(
  packed: Uint8Array,
  count: number,
  dictionary: Uint8Array = new Uint8Array(0),
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  if (count < 1 || count > PATCH_STREAM_PACKETS_MAX) return undefined;
  const plainBytes = count * PACKET_BYTES;
  const options = {
    dictionary: barePackets(dictionary),
    maxOutputLength: plainBytes,
    chunkSize: plainBytes + 1,
    params: { [constants.ZSTD_d_windowLogMax]: PATCH_WINDOW_BITS_MAX },
  };
  const bare = await new Promise<Uint8Array | undefined>((resolve) => {
    // What is no frame, or one of more bytes, is told by whoever knows what it was to be.
    zstdDecompress(packed, options, (error, bytes) => resolve(error === null ? bytes : undefined));
  });
  if (bare?.byteLength !== plainBytes) return undefined;
  const frame = new Uint8Array(bare);
  foretell(frame);
  for (let index = 0; index < count; index++) sealPacket(frame, index);
  return frame;
}

/** The packets without what follows from the rest of them, in bytes of their own. */
function barePackets(frame: Uint8Array): Uint8Array {
  const bare = new Uint8Array(frame);
  const count = packetCount(bare);
  for (let index = 0; index < count; index++) {
    const check = index * PACKET_BYTES + Offset.check;
    bare.fill(0, check, check + 4);
  }
  foretell(bare);
  return bare;
}

/** XORs each `at` with what it is expected to be: done twice, it is what it was. Nothing that is expected follows from an `at`. */
function foretell(frame: Uint8Array): void {
  const count = packetCount(frame);
  let sum = 0;
  let packets = 0;
  for (let index = 0; index < count; index++) {
    const ends = opAt(frame, index) === Op.HALT;
    xorInteger(frame, index * PACKET_BYTES + Offset.at, ends ? packets : sum);
    packets = ends ? 0 : packets + 1;
    sum = ends ? 0 : sum + lengthAt(frame, index);
    // What is no packet yet may have any length.
    if (!Number.isSafeInteger(sum)) sum = 0;
  }
}

function xorInteger(frame: Uint8Array, offset: number, value: number): void {
  if (value === 0) return;
  const low = value >>> 0;
  writeInteger32(frame, offset, (readInteger32(frame, offset) ^ low) >>> 0);
  if (value === low) return;
  writeInteger32(frame, offset + 4, (readInteger32(frame, offset + 4) ^ ((value - low) / TWO_32)) >>> 0);
}
