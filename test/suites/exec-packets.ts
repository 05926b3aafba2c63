/** EXEC packets, and bytes for them to read. */
import type { Ref } from "../../packets/digest.ts";
import { Flag, Op } from "../../packets/layout.ts";
import { atOf, encodeFrame, packetCount } from "../../packets/packet.ts";
import type { PacketFields } from "../../packets/packet.ts";

export const ZERO_REF: Ref = new Uint8Array(32);

export function exec(at: number, ref: Ref, from: number, length: number, flags = 0): PacketFields {
  return { op: Op.EXEC, lane: 1, at, ref, from, length, flags };
}

export function execStream(at: number, root: Ref, from: number, length: number, flags = 0): PacketFields {
  return exec(at, root, from, length, Flag.STREAM | flags);
}

/** `count` packets without input, their `at` from `first` on. */
export function emptyFrame(count: number, first = 0): Uint8Array {
  return encodeFrame(Array.from({ length: count }, (_, index) => exec(first + index, ZERO_REF, 0, 0)));
}

export function atsOf(frame: Uint8Array): number[] {
  return Array.from({ length: packetCount(frame) }, (_, index) => atOf(frame, index));
}

/** Bytes that look random and are always the same. */
export function seededBytes(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed * 2_654_435_761 + 1;
  for (let index = 0; index < length; index++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    bytes[index] = state >>> 16;
  }
  return bytes;
}
