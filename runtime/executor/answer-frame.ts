/**
 * RETURN and FAULT packets for a frame of EXEC packets. An answer is its question with other fields: lane and `at` stay
 * where they are. A status of 0 is a RETURN, any other the code of a FAULT.
 */
import type { Ref } from "../../packets/digest.ts";
import { writeInteger } from "../../packets/integer.ts";
import { Flag, INLINE_BYTES_MAX, Offset, Op, PACKET_BYTES } from "../../packets/layout.ts";
import { sealPacket } from "../../packets/packet.ts";

export class AnswerFrame {
  /** n × 64 bytes, complete once every packet got its answer. */
  readonly bytes: Uint8Array;

  /** The first `count` packets of `frame` will be answered. The frame stays as it is. */
  constructor(frame: Uint8Array, count: number) {
    this.bytes = new Uint8Array(frame.subarray(0, count * PACKET_BYTES));
  }

  /** Answers with `length` ≤ 32 bytes of `source` from `from` on. */
  inline(index: number, status: number, source: Uint8Array, from: number, length: number): void {
    const ref = this.#begin(index, status, Flag.INLINE, length);
    for (let at = 0; at < length; at++) this.bytes[ref + at] = source[from + at]!;
    this.bytes.fill(0, ref + length, ref + INLINE_BYTES_MAX);
    sealPacket(this.bytes, index);
  }

  /** Answers with `length` bytes in the chunk or stream `target`. */
  reference(index: number, status: number, length: number, target: Ref, isStream: boolean): void {
    const ref = this.#begin(index, status, isStream ? Flag.STREAM : 0, length);
    this.bytes.set(target, ref);
    sealPacket(this.bytes, index);
  }

  #begin(index: number, status: number, flags: number, length: number): number {
    const start = index * PACKET_BYTES;
    this.bytes[start] = status === 0 ? Op.RETURN : Op.FAULT;
    this.bytes[start + Offset.flags] = flags;
    writeInteger(this.bytes, start + Offset.length, length);
    writeInteger(this.bytes, start + Offset.from, status);
    return start + Offset.ref;
  }
}
