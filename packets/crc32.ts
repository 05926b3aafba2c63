/**
 * CRC-32 (IEEE 802.3, reflected, polynomial 0xEDB88320) of one packet, by slicing-by-8
 * (Kounavis and Berry, "A Systematic Approach to Building High Performance Software-Based CRC Generators", 2005).
 * zlib's is faster per byte, but its call costs more than these 64 bytes.
 */
import { Offset, PACKET_BYTES } from "./layout.ts";

const TABLES = 8;
const table = new Uint32Array(TABLES * 256);
for (let byte = 0; byte < 256; byte++) {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  table[byte] = crc;
}
for (let index = 256; index < table.length; index++) {
  const previous = table[index - 256]!;
  table[index] = (previous >>> 8) ^ table[previous & 0xff]!;
}

/**
 * CRC-32 is linear: what a byte adds to a packet's check depends on its offset and on nothing else in the packet. So the
 * check of a packet that is given another lane and other numbers follows from the one that it had.
 */
const CHANGED_BYTES: number = Offset.ref;
const changes = new Uint32Array(CHANGED_BYTES * 256);

/** CRC-32 of the 64 bytes at `start`, the check field read as zero. An unsigned 32-bit number. */
export function packetCheck(bytes: Uint8Array, start: number): number {
  let crc = 0xffffffff;
  for (let at = start; at < start + PACKET_BYTES; at += 8) {
    const low = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    const mixed = crc ^ low;
    // The check field is the high half of the first eight bytes; as zero it adds nothing.
    const high = at === start + Offset.check - 4 ? 0 : at + 4;
    crc =
      table[1792 + (mixed & 0xff)]! ^
      table[1536 + ((mixed >>> 8) & 0xff)]! ^
      table[1280 + ((mixed >>> 16) & 0xff)]! ^
      table[1024 + (mixed >>> 24)]! ^
      (high === 0
        ? table[768]! ^ table[512]! ^ table[256]! ^ table[0]!
        : table[768 + bytes[high]!]! ^
          table[512 + bytes[high + 1]!]! ^
          table[256 + bytes[high + 2]!]! ^
          table[bytes[high + 3]!]!);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

const zeros = new Uint8Array(PACKET_BYTES);
const zerosCheck = packetCheck(zeros, 0);
for (let offset = 0; offset < CHANGED_BYTES; offset++) {
  for (let value = 1; value < 256; value++) {
    const lowest = value & -value;
    if (lowest !== value) {
      changes[offset * 256 + value] =
        changes[offset * 256 + value - lowest]! ^ changes[offset * 256 + lowest]!;
      continue;
    }
    zeros[offset] = value;
    changes[offset * 256 + value] = packetCheck(zeros, 0) ^ zerosCheck;
    zeros[offset] = 0;
  }
}

/** By what a packet's check changes when the byte at `offset`, in front of its ref, becomes `difference` XOR itself. */
export function checkChange(offset: number, difference: number): number {
  return changes[offset * 256 + difference]!;
}
