/**
 * EXEC packets that cross a border of trust: into a program that somebody opened, and off the wire. They are checked once
 * there; whoever wrote a frame itself, or has it from one who did, does not check it again.
 */
import { packetCheck } from "./crc32.ts";
import { PacketError, PacketErrorCode } from "./errors.ts";
import { readInteger32 } from "./integer.ts";
import { Offset, Op, PACKET_BYTES } from "./layout.ts";
import { FRAME_PACKETS_MAX } from "./limits.ts";
import { opAt, packetCount, renumberPacket } from "./packet.ts";
import { invalidFields } from "./validate.ts";

/**
 * Throws PFS_PACKET_INVALID {index, reason} when a packet is malformed or no EXEC, or there are more than FRAME_PACKETS_MAX:
 * for whoever passes a frame on as it came. Nothing of it is to be run then.
 */
export function requireExecFrame(frame: Uint8Array): void {
  const count = wholePackets(frame);
  if (count > FRAME_PACKETS_MAX) {
    throw notExecutable(FRAME_PACKETS_MAX, `a frame has at most ${FRAME_PACKETS_MAX}`);
  }
  for (let index = 0; index < count; index++) {
    requireCheck(frame, index);
    requireExec(frame, index);
  }
}

/**
 * A copy of EXEC packets, of any number, that all have `lane` as their lane, and the i-th `base` + i as its `at`; what they
 * had does not matter. It is in `own`, which has as many bytes, or else in bytes of its own. Throws PFS_PACKET_INVALID
 * {index, reason}.
 */
export function execPackets(
  frame: Uint8Array,
  lane: number,
  base: number,
  own: Uint8Array = new Uint8Array(frame.byteLength),
): Uint8Array {
  const count = wholePackets(frame);
  own.set(frame);
  for (let index = 0; index < count; index++) {
    requireCheck(own, index);
    renumberPacket(own, index, lane, base + index);
    requireExec(own, index);
  }
  return own;
}

function wholePackets(frame: Uint8Array): number {
  const count = packetCount(frame);
  if (count * PACKET_BYTES !== frame.byteLength) throw notExecutable(count, "shorter than 64 bytes");
  return count;
}

function requireCheck(packets: Uint8Array, index: number): void {
  const start = index * PACKET_BYTES;
  if (readInteger32(packets, start + Offset.check) !== packetCheck(packets, start)) {
    throw notExecutable(index, "check does not match");
  }
}

/** Of a packet whose check is right, or about to be made so. */
function requireExec(packets: Uint8Array, index: number): void {
  const reason = invalidFields(packets, index);
  if (reason !== null) throw notExecutable(index, reason);
  if (opAt(packets, index) !== Op.EXEC) throw notExecutable(index, "not an EXEC");
}

/** What a packet that cannot be executed is refused with: `index` is its place in its frame. */
export function notExecutable(index: number, reason: string): PacketError {
  return new PacketError(PacketErrorCode.invalidPacket, `packet ${index} cannot be executed: ${reason}`, {
    index,
    reason,
  });
}
