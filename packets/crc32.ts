/**
 * CRC-32 (IEEE 802.3, reflected, polynomial 0xEDB88320) of one packet, and of bytes that follow each other. By slicing-by-8
 * (Kounavis and Berry, "A Systematic Approach to Building High Performance Software-Based CRC Generators", 2005).
 * zlib's is faster per byte, but its call costs more than these 64 bytes.
 */
import { readInteger32 } from "./integer.ts";
import { Offset, PACKET_BYTES } from "./layout.ts";

/** Of CRC-32, reflected: bit 31 − n stands for xⁿ, and x³² is left out. */
export const CRC32_POLYNOMIAL = 0xedb88320;
const TABLES = 8;
const table = new Uint32Array(TABLES * 256);
// Each process makes them, most for a few packets only, so little is computed twice: of a sum, the check is the sum of checks.
for (let bit = 128, crc = CRC32_POLYNOMIAL; bit > 0; bit >>= 1) {
  table[bit] = crc;
  crc = timesX(crc);
}
for (let byte = 1; byte < 256; byte++) table[byte] = table[byte & (byte - 1)]! ^ table[byte & -byte]!;
for (let index = 256; index < table.length; index++) {
  const previous = table[index - 256]!;
  table[index] = (previous >>> 8) ^ table[previous & 0xff]!;
}

/**
 * CRC-32 is linear: what a byte adds to a packet's check depends on its offset and on nothing else in the packet. So the
 * check of a packet that is given another lane and other numbers follows from the one that it had.
 */
const CHANGED_BYTES: number = Offset.ref;
/** Empty until a first packet is changed. */
let changes = new Uint32Array(0);

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

/**
 * The index of the first packet of a frame whose check is wrong, -1 where all are right. Neighbours are mostly alike but for
 * their numbers: then the check of the one follows from that of the other, which takes a tenth of the time.
 */
export function wrongCheckAt(frame: Uint8Array): number {
  // A view costs as much as some packets do.
  if (frame.byteLength === PACKET_BYTES)
    return packetCheck(frame, 0) === readInteger32(frame, Offset.check) ? -1 : 0;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  let expected = 0;
  for (let start = 0; start + PACKET_BYTES <= frame.byteLength; start += PACKET_BYTES) {
    expected =
      start > 0 && repeatsAllButNumbers(view, start)
        ? (expected ^ numbersChange(view, start)) >>> 0
        : packetCheck(frame, start);
    if (view.getUint32(start + Offset.check, true) !== expected) return start / PACKET_BYTES;
  }
  return -1;
}

/** Whether the packet at `start` has the op, flags, lane and ref of the one before it. */
function repeatsAllButNumbers(view: DataView, start: number): boolean {
  const last = start - PACKET_BYTES;
  if (view.getUint32(start, true) !== view.getUint32(last, true)) return false;
  for (let at = Offset.ref; at < PACKET_BYTES; at += 4)
    if (view.getUint32(start + at, true) !== view.getUint32(last + at, true)) return false;
  return true;
}

/** By what the checks of the packet at `start` and the one before it differ, for their `at`, `length` and `from`. */
function numbersChange(view: DataView, start: number): number {
  let change = 0;
  for (let at: number = Offset.at; at < Offset.ref; at += 4) {
    const difference = view.getUint32(start + at, true) ^ view.getUint32(start + at - PACKET_BYTES, true);
    if (difference !== 0) change ^= wordChange(at, difference);
  }
  return change;
}

/** By what a packet's check changes when the word at `offset`, in front of its ref, becomes `difference` XOR itself. */
export function wordChange(offset: number, difference: number): number {
  return (
    checkChange(offset, difference & 0xff) ^
    checkChange(offset + 1, (difference >>> 8) & 0xff) ^
    checkChange(offset + 2, (difference >>> 16) & 0xff) ^
    checkChange(offset + 3, difference >>> 24)
  );
}

/** By what a packet's check changes when the byte at `offset`, in front of its ref, becomes `difference` XOR itself. */
export function checkChange(offset: number, difference: number): number {
  if (changes.length === 0) changes = allChanges();
  return changes[offset * 256 + difference]!;
}

function allChanges(): Uint32Array<ArrayBuffer> {
  const all = new Uint32Array(CHANGED_BYTES * 256);
  const packet = new Uint8Array(PACKET_BYTES);
  const zerosCheck = packetCheck(packet, 0);
  for (let offset = 0; offset < CHANGED_BYTES; offset++) {
    for (let bit = 1; bit < 256; bit <<= 1) {
      packet[offset] = bit;
      all[offset * 256 + bit] = packetCheck(packet, 0) ^ zerosCheck;
    }
    packet[offset] = 0;
    for (let value = 1; value < 256; value++) {
      const at = offset * 256;
      all[at + value] = all[at + (value & (value - 1))]! ^ all[at + (value & -value)]!;
    }
  }
  return all;
}

/** x^(2^n) for n from 0 to 31; with 32 they begin again. Empty until it is needed. */
let squares = new Int32Array(0);

/**
 * The CRC-32 of bytes and `secondBytes` more that follow them, from those of the two: the first one times x to the power of
 * the second's bits (zlib's crc32_combine). It takes some microseconds, however long they are.
 */
export function combineCrc32(first: number, second: number, secondBytes: number): number {
  if (squares.length === 0) squares = allSquares();
  let crc = first | 0;
  // Eight bits, the third power of two, are a byte.
  for (let left = secondBytes, power = 3; left > 0; left = Math.floor(left / 2), power++)
    if (left % 2 === 1) crc = product(squares[power % 32]!, crc);
  return (crc ^ second) >>> 0;
}

function allSquares(): Int32Array<ArrayBuffer> {
  const all = new Int32Array(32);
  // x itself.
  all[0] = 0x4000_0000;
  for (let power = 1; power < all.length; power++) all[power] = product(all[power - 1]!, all[power - 1]!);
  return all;
}

/** Of two polynomials, modulo that of CRC-32. */
function product(a: number, b: number): number {
  let sum = 0;
  let shifted = b;
  for (let left = a; left !== 0; left <<= 1) {
    if (left < 0) sum ^= shifted;
    shifted = timesX(shifted);
  }
  return sum;
}

function timesX(polynomial: number): number {
  return polynomial & 1 ? (polynomial >>> 1) ^ CRC32_POLYNOMIAL : polynomial >>> 1;
}
