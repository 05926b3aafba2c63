/**
 * One level of the CALL tree while it is written: the packets of the sub-stream that is not cut yet. Where it is cut is
 * decided by the packets themselves, so that two versions of a file share every sub-stream in which nothing changed.
 */
import type { Ref } from "./digest.ts";
import { readInteger32, writeInteger } from "./integer.ts";
import { Flag, Offset, Op, PACKET_BYTES } from "./layout.ts";
import { sealPacket, writePacket } from "./packet.ts";
import type { PacketFields } from "./packet.ts";

/** A sub-stream that the writer cuts has at least so many packets, its HALT not counted. */
export const CUT_PACKETS_MIN = 256;
/** And so many on average, */
export const CUT_PACKETS_AVERAGE = 1024;
/** and at most so many. */
export const CUT_PACKETS_MAX = 4096;
/** A packet ends its sub-stream when its CRC-32 with `at` read as zero is below this: one in 768 does. */
export const CUT_CHECK_BELOW: number = Math.floor(0x1_0000_0000 / (CUT_PACKETS_AVERAGE - CUT_PACKETS_MIN));

const PACKETS_AT_FIRST = 16;

/** What the HALT of a stream says beside its length. */
export interface StreamEnd {
  /** SHA-256 of everything that the stream yields. */
  readonly digest?: Ref;
  /** The output begins with the manifest of a directory. Default false. */
  readonly isTree?: boolean;
}

export class StreamLevel {
  /** Packets so far. */
  count = 0;
  /** Bytes that they yield. */
  length = 0;
  /** Whether the sub-stream ends here if another packet follows. Never true of an empty one. */
  isComplete = false;
  #frame: Uint8Array = new Uint8Array(PACKETS_AT_FIRST * PACKET_BYTES);

  /** Adds a packet behind the ones before it. `fields.at` must be left out. */
  append(fields: Omit<PacketFields, "at">): void {
    const index = this.count++;
    this.#reserve(this.count);
    const start = index * PACKET_BYTES;
    writePacket(this.#frame, index, fields);
    const check = readInteger32(this.#frame, start + Offset.check);
    if (index > 0) {
      writeInteger(this.#frame, start + Offset.at, this.length);
      sealPacket(this.#frame, index);
    }
    this.length += fields.length ?? 0;
    this.isComplete =
      (this.count >= CUT_PACKETS_MIN && check < CUT_CHECK_BELOW) || this.count === CUT_PACKETS_MAX;
  }

  /** The sub-stream with its HALT, in a buffer of its own; the level is empty again then. */
  take({ digest, isTree = false }: StreamEnd = {}): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array((this.count + 1) * PACKET_BYTES);
    bytes.set(this.#frame.subarray(0, this.count * PACKET_BYTES));
    const flags = (digest === undefined ? 0 : Flag.DIGEST) | (isTree ? Flag.TREE : 0);
    const halt: PacketFields = { op: Op.HALT, flags, at: this.count, length: this.length };
    writePacket(bytes, this.count, digest === undefined ? halt : { ...halt, ref: digest });
    this.count = 0;
    this.length = 0;
    this.isComplete = false;
    return bytes;
  }

  #reserve(packets: number): void {
    if (packets * PACKET_BYTES <= this.#frame.byteLength) return;
    const larger = new Uint8Array(this.#frame.byteLength * 2);
    larger.set(this.#frame);
    this.#frame = larger;
  }
}
