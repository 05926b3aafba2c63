/**
 * `invalidPacket(frame, index)` says in a few words why 64 bytes are no packet, or returns null. Everything that came
 * from outside goes through here before a field of it is believed.
 */
import { packetCheck } from "./crc32.ts";
import { readInteger, readInteger32 } from "./integer.ts";
import {
  FLAGS_ALLOWED,
  Flag,
  INLINE_BYTES_MAX,
  OP_NAMES,
  Offset,
  Op,
  PACKET_BYTES,
  REF_BYTES,
} from "./layout.ts";
import { CHUNK_BYTES_MAX } from "./limits.ts";

/** FLAGS_ALLOWED by op. */
const FLAGS: readonly number[] = OP_NAMES.map((name) => FLAGS_ALLOWED[name]);

export function invalidPacket(frame: Uint8Array, index: number): string | null {
  const start = index * PACKET_BYTES;
  if (start + PACKET_BYTES > frame.byteLength) return "shorter than 64 bytes";
  if (OP_NAMES[frame[start]! as Op] === undefined) return "unknown op";
  if (readInteger32(frame, start + Offset.check) !== packetCheck(frame, start)) return "check does not match";
  return invalidFields(frame, index);
}

/** The same for 64 bytes that are there and whose check was compared before a field of them was changed. */
export function invalidFields(frame: Uint8Array, index: number): string | null {
  const start = index * PACKET_BYTES;
  const op = frame[start]! as Op;
  const allowed = FLAGS[op];
  if (allowed === undefined) return "unknown op";
  const flags = frame[start + Offset.flags]!;
  if ((flags & ~allowed) !== 0) return "undefined flag";
  const at = readInteger(frame, start + Offset.at);
  const length = readInteger(frame, start + Offset.length);
  const from = readInteger(frame, start + Offset.from);
  if (!Number.isSafeInteger(at) || !Number.isSafeInteger(length) || !Number.isSafeInteger(from)) {
    return "integer above 2^53 - 1";
  }
  // Only packets that yield bytes have them at `at`; elsewhere it counts tasks or packets.
  const end = op <= Op.CALL ? at + length : length;
  if (!Number.isSafeInteger(end) || !Number.isSafeInteger(from + length)) return "end above 2^53 - 1";
  const lane = frame[start + Offset.lane]! | (frame[start + Offset.lane + 1]! << 8);
  const usesLane = op >= Op.LOAD && op <= Op.FAULT;
  if (usesLane !== lane > 0) return usesLane ? "no lane" : "lane on a packet that uses none";
  return invalidForOp(op, flags, at, length, from, frame, start + Offset.ref);
}

function invalidForOp(
  op: Op,
  flags: number,
  at: number,
  length: number,
  from: number,
  frame: Uint8Array,
  ref: number,
): string | null {
  switch (op) {
    case Op.NOP:
      return at + length + from === 0 && isZero(frame, ref, 0) ? null : "unused field is not zero";
    case Op.DATA:
      if (length < 1 || length > INLINE_BYTES_MAX) return "DATA yields 1 to 32 bytes";
      return from === 0 && isZero(frame, ref, length) ? null : "unused field is not zero";
    case Op.FILL:
      if (flags < 1 || flags > INLINE_BYTES_MAX) return "FILL's pattern has 1 to 32 bytes";
      if (length < 1) return "yields no bytes";
      return from === 0 && isZero(frame, ref, flags) ? null : "unused field is not zero";
    case Op.COPY:
      if (length < 1) return "yields no bytes";
      return from + length > CHUNK_BYTES_MAX ? "reads beyond the largest chunk" : null;
    case Op.CALL:
      return length < 1 ? "yields no bytes" : null;
    case Op.LOAD:
      return at + length + from === 0 ? null : "unused field is not zero";
    case Op.EXEC:
      if (flags & Flag.STREAM) return null;
      return from + length > CHUNK_BYTES_MAX ? "reads beyond the largest chunk" : null;
    case Op.RETURN:
      if (from !== 0) return "unused field is not zero";
      if ((flags & Flag.INLINE) === 0) {
        if (length === 0) return "an empty result is inline";
        return (flags & Flag.STREAM) === 0 && length > CHUNK_BYTES_MAX
          ? "longer than the largest chunk"
          : null;
      }
      if (flags & Flag.STREAM) return "INLINE and STREAM exclude each other";
      if (length > INLINE_BYTES_MAX) return "inline bytes above 32";
      return isZero(frame, ref, length) ? null : "unused field is not zero";
    case Op.FAULT:
      if ((flags & Flag.INLINE) === 0)
        return length > CHUNK_BYTES_MAX ? "longer than the largest chunk" : null;
      if (length > INLINE_BYTES_MAX) return "inline bytes above 32";
      return isZero(frame, ref, length) ? null : "unused field is not zero";
    case Op.HALT:
      if (from !== 0) return "unused field is not zero";
      if (flags & Flag.OPEN) {
        if (flags & Flag.DIGEST || length !== 0) return "an open HALT knows neither length nor digest";
        if (flags & Flag.TREE) return "an open HALT says nothing of a tree";
      }
      return flags & Flag.DIGEST || isZero(frame, ref, 0) ? null : "unused field is not zero";
  }
}

/** Whether the ref's bytes from its `used`-th on are zero. */
function isZero(frame: Uint8Array, ref: number, used: number): boolean {
  for (let offset = ref + used; offset < ref + REF_BYTES; offset++) if (frame[offset] !== 0) return false;
  return true;
}
