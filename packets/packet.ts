/**
 * Packets as values, one at a time, for code that is not hot; frames of packets are plain bytes and are read field by
 * field with `opAt`, `atOf` and their neighbours.
 */
import { checkChange, packetCheck, wordChange } from "./crc32.ts";
import type { Ref } from "./digest.ts";
import { PacketError, PacketErrorCode } from "./errors.ts";
import { readInteger, readInteger32, writeInteger, writeInteger32 } from "./integer.ts";
import { Offset, PACKET_BYTES, REF_BYTES } from "./layout.ts";
import type { Op } from "./layout.ts";
import { invalidPacket } from "./validate.ts";

const WORD_BYTES = 4;
const TWO_32 = 0x1_0000_0000;
export const WORDS_PER_PACKET: number = PACKET_BYTES / WORD_BYTES;

/** A packet's fields. `length` and `from` are bytes; `ref` is 32 bytes, or inline payload of up to 32. */
export interface Packet {
  readonly op: Op;
  readonly flags: number;
  readonly lane: number;
  readonly at: number;
  readonly length: number;
  readonly from: number;
  readonly ref: Ref;
}

/** The fields that are not zero. */
export type PacketFields = Pick<Packet, "op"> & Partial<Omit<Packet, "op">>;

export { readInteger } from "./integer.ts";

/** Writes a packet at `index` of a frame, its check included. The caller vouches for the fields. */
export function writePacket(frame: Uint8Array, index: number, fields: PacketFields): void {
  const start = index * PACKET_BYTES;
  const { op, flags = 0, lane = 0, at = 0, length = 0, from = 0, ref } = fields;
  frame.fill(0, start + Offset.ref, start + PACKET_BYTES);
  frame[start] = op;
  frame[start + Offset.flags] = flags;
  frame[start + Offset.lane] = lane;
  frame[start + Offset.lane + 1] = lane >>> 8;
  writeInteger(frame, start + Offset.at, at);
  writeInteger(frame, start + Offset.length, length);
  writeInteger(frame, start + Offset.from, from);
  if (ref !== undefined) frame.set(ref, start + Offset.ref);
  sealPacket(frame, index);
}

/** Recomputes the check of the packet at `index`, after a field was changed in place. */
export function sealPacket(frame: Uint8Array, index: number): void {
  const start = index * PACKET_BYTES;
  writeInteger32(frame, start + Offset.check, packetCheck(frame, start));
}

/** Gives the packet at `index` another lane and another `at`. Its check is right afterwards if it was before. */
export function renumberPacket(frame: Uint8Array, index: number, lane: number, at: number): void {
  const start = index * PACKET_BYTES;
  const low = at >>> 0;
  const high = ((at - low) / TWO_32) >>> 0;
  const change =
    exchange(frame, start, Offset.lane, lane & 0xff) ^
    exchange(frame, start, Offset.lane + 1, lane >>> 8) ^
    exchangeWord(frame, start, Offset.at, low) ^
    exchangeWord(frame, start, Offset.at + WORD_BYTES, high);
  if (change === 0) return;
  writeInteger32(frame, start + Offset.check, readInteger32(frame, start + Offset.check) ^ change);
}

/**
 * Gives `count` packets from the one at `first` on the numbers `at`, at + 1, … as their `at`, and another lane where one is
 * given. Their checks are right afterwards if they were before.
 */
export function renumberPackets(
  frame: Uint8Array,
  first: number,
  count: number,
  at: number,
  lane?: number,
): void {
  if (count === 1) return renumberPacket(frame, first, lane ?? laneAt(frame, first), at);
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  for (let index = 0; index < count; index++) {
    const start = (first + index) * PACKET_BYTES;
    const low = (at + index) >>> 0;
    const high = (at + index - low) / TWO_32;
    const lowChange = view.getUint32(start + Offset.at, true) ^ low;
    const highChange = view.getUint32(start + Offset.at + WORD_BYTES, true) ^ high;
    let change = lowChange === 0 ? 0 : wordChange(Offset.at, lowChange);
    if (highChange !== 0) change ^= wordChange(Offset.at + WORD_BYTES, highChange);
    view.setUint32(start + Offset.at, low, true);
    view.setUint32(start + Offset.at + WORD_BYTES, high, true);
    if (lane !== undefined) {
      const laneChange = view.getUint16(start + Offset.lane, true) ^ lane;
      if (laneChange !== 0) {
        view.setUint16(start + Offset.lane, lane, true);
        change ^=
          checkChange(Offset.lane, laneChange & 0xff) ^ checkChange(Offset.lane + 1, laneChange >>> 8);
      }
    }
    const check = start + Offset.check;
    if (change !== 0) view.setUint32(check, view.getUint32(check, true) ^ change, true);
  }
}

/**
 * Writes `packet`, 64 bytes whose `at`, `length` and `from` are zero, at `index` of a frame with these instead: for many
 * packets that differ in nothing else.
 */
export function writeNumbered(
  frame: Uint8Array,
  index: number,
  packet: Uint8Array,
  at: number,
  length: number,
  from: number,
): void {
  const start = index * PACKET_BYTES;
  frame.set(packet, start);
  const change =
    setInteger(frame, start, Offset.at, at) ^
    setInteger(frame, start, Offset.length, length) ^
    setInteger(frame, start, Offset.from, from);
  writeInteger32(frame, start + Offset.check, readInteger32(packet, Offset.check) ^ change);
}

/** Writes an integer where a packet has zero, and returns by what that changes its check. */
function setInteger(frame: Uint8Array, start: number, offset: number, value: number): number {
  let change = 0;
  let at = offset;
  for (let rest = value; rest > 0; rest = rest > 0xffff_ffff ? Math.floor(rest / 256) : rest >>> 8) {
    const byte = rest & 0xff;
    frame[start + at] = byte;
    change ^= checkChange(at++, byte);
  }
  return change;
}

/** Writes four bytes of a packet, mostly those that it has, and returns by what that changes its check. */
function exchangeWord(frame: Uint8Array, start: number, offset: number, word: number): number {
  const difference = readInteger32(frame, start + offset) ^ word;
  if (difference === 0) return 0;
  writeInteger32(frame, start + offset, word);
  return wordChange(offset, difference);
}

/** Writes one byte of a packet, and returns by what that changes its check. */
function exchange(frame: Uint8Array, start: number, offset: number, byte: number): number {
  const difference = frame[start + offset]! ^ byte;
  if (difference === 0) return 0;
  frame[start + offset] = byte;
  return checkChange(offset, difference);
}

/** One packet in bytes of its own. */
export function encodePacket(fields: PacketFields): Uint8Array {
  const bytes = new Uint8Array(PACKET_BYTES);
  writePacket(bytes, 0, fields);
  return bytes;
}

/** Packets back to back. */
export function encodeFrame(packets: readonly PacketFields[]): Uint8Array {
  const frame = new Uint8Array(packets.length * PACKET_BYTES);
  packets.forEach((fields, index) => writePacket(frame, index, fields));
  return frame;
}

/** Reads the packet at `index`. `ref` is a view into the frame. Throws PFS_PACKET_INVALID. */
export function decodePacket(frame: Uint8Array, index = 0): Packet {
  requirePacket(frame, index);
  const start = index * PACKET_BYTES;
  return {
    op: opAt(frame, index),
    flags: flagsAt(frame, index),
    lane: laneAt(frame, index),
    at: atOf(frame, index),
    length: lengthAt(frame, index),
    from: fromAt(frame, index),
    ref: frame.subarray(start + Offset.ref, start + Offset.ref + REF_BYTES),
  };
}

/** Throws PFS_PACKET_INVALID {index, reason} when the 64 bytes at `index` are no packet. */
export function requirePacket(frame: Uint8Array, index: number): void {
  const reason = invalidPacket(frame, index);
  if (reason === null) return;
  throw new PacketError(PacketErrorCode.invalidPacket, `packet ${index} is invalid: ${reason}`, {
    index,
    reason,
  });
}

/** How many whole packets `frame` holds. */
export function packetCount(frame: Uint8Array): number {
  return Math.floor(frame.byteLength / PACKET_BYTES);
}

/** The frame, in bytes of its own where `packetWords` could not have a view of it. */
export function wordAligned(frame: Uint8Array): Uint8Array {
  return frame.byteOffset % WORD_BYTES === 0 ? frame : new Uint8Array(frame);
}

/** A view of aligned packets in WORDS_PER_PACKET words of 32 bits each: to compare and to clear them, in no order of bytes. */
export function packetWords(frame: Uint8Array): Uint32Array {
  return new Uint32Array(frame.buffer, frame.byteOffset, packetCount(frame) * WORDS_PER_PACKET);
}

export function opAt(frame: Uint8Array, index: number): Op {
  return frame[index * PACKET_BYTES] as Op;
}

export function flagsAt(frame: Uint8Array, index: number): number {
  return frame[index * PACKET_BYTES + Offset.flags]!;
}

export function laneAt(frame: Uint8Array, index: number): number {
  const offset = index * PACKET_BYTES + Offset.lane;
  return frame[offset]! | (frame[offset + 1]! << 8);
}

export function atOf(frame: Uint8Array, index: number): number {
  return readInteger(frame, index * PACKET_BYTES + Offset.at);
}

/** The same of a view of the whole frame, which is faster where one packet after the other is looked at. */
export function atIn(frame: DataView, index: number): number {
  const offset = index * PACKET_BYTES + Offset.at;
  return frame.getUint32(offset + WORD_BYTES, true) * TWO_32 + frame.getUint32(offset, true);
}

export function lengthAt(frame: Uint8Array, index: number): number {
  return readInteger(frame, index * PACKET_BYTES + Offset.length);
}

/** The length of each packet. */
export function lengthsOf(frame: Uint8Array): Float64Array<ArrayBuffer> {
  const lengths = new Float64Array(packetCount(frame));
  if (lengths.length === 1) {
    lengths[0] = lengthAt(frame, 0);
    return lengths;
  }
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  for (let index = 0; index < lengths.length; index++) {
    const offset = index * PACKET_BYTES + Offset.length;
    lengths[index] = view.getUint32(offset + WORD_BYTES, true) * TWO_32 + view.getUint32(offset, true);
  }
  return lengths;
}

/** The sum of the lengths of the first `count` packets. */
export function lengthSum(frame: Uint8Array, count: number): number {
  if (count === 1) return lengthAt(frame, 0);
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  let sum = 0;
  for (let index = 0; index < count; index++) {
    const offset = index * PACKET_BYTES + Offset.length;
    sum += view.getUint32(offset + WORD_BYTES, true) * TWO_32 + view.getUint32(offset, true);
  }
  return sum;
}

export function fromAt(frame: Uint8Array, index: number): number {
  return readInteger(frame, index * PACKET_BYTES + Offset.from);
}

/** The ref of the packet at `index`: a view, not a copy. */
export function refOf(frame: Uint8Array, index: number): Ref {
  const start = index * PACKET_BYTES + Offset.ref;
  return frame.subarray(start, start + REF_BYTES);
}
