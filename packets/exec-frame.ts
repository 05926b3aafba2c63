/**
 * EXEC packets and their answers where they cross a border of trust: into a program that somebody opened, and off the wire. They
 * are checked once there; whoever wrote a frame itself, or has it from one who did, does not check it again.
 */
import { wrongCheckAt } from "./crc32.ts";
import { PacketError, PacketErrorCode } from "./errors.ts";
import { Offset, Op, PACKET_BYTES } from "./layout.ts";
import { FRAME_PACKETS_MAX } from "./limits.ts";
import { opAt, packetCount, renumberPackets } from "./packet.ts";
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
  requireChecks(frame);
  requireExecs(frame);
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
  requireChecks(own);
  renumberPackets(own, 0, count, base, lane);
  requireExecs(own);
  return own;
}

function wholePackets(frame: Uint8Array): number {
  const count = packetCount(frame);
  if (count * PACKET_BYTES !== frame.byteLength) throw notExecutable(count, "shorter than 64 bytes");
  return count;
}

function requireChecks(packets: Uint8Array): void {
  const index = wrongCheckAt(packets);
  if (index >= 0) throw notExecutable(index, "check does not match");
}

/** Of packets whose checks are right. */
function requireExecs(packets: Uint8Array): void {
  const count = packetCount(packets);
  const view = count > 1 ? new DataView(packets.buffer, packets.byteOffset, packets.byteLength) : undefined;
  for (let index = 0; index < count; index++) {
    if (index > 0 && isFineLikeLast(view!, index * PACKET_BYTES)) continue;
    const reason = invalidFields(packets, index);
    if (reason !== null) throw notExecutable(index, reason);
    if (opAt(packets, index) !== Op.EXEC) throw notExecutable(index, "not an EXEC");
  }
}

/** The index of the first packet of a frame that is no answer to an EXEC, -1 where all are. What is cut off is none. */
export function wrongAnswerAt(frame: Uint8Array): number {
  const count = packetCount(frame);
  const wrong = wrongCheckAt(frame);
  const end = wrong < 0 ? count : wrong;
  for (let index = 0; index < end; index++) {
    const op = opAt(frame, index);
    if ((op !== Op.RETURN && op !== Op.FAULT) || invalidFields(frame, index) !== null) return index;
  }
  return count * PACKET_BYTES === frame.byteLength ? wrong : end;
}

/** Above this high half of an integer, it is more than 2^53 - 1. */
const HIGH_MAX = 0x1f_ffff;

/** Whether an EXEC at `start` differs from the one before it, which is valid, in nothing that could make it invalid. */
function isFineLikeLast(view: DataView, start: number): boolean {
  if (view.getUint32(start + Offset.at + 4, true) > HIGH_MAX) return false;
  if (view.getUint32(start, true) !== view.getUint32(start - PACKET_BYTES, true)) return false;
  for (let at = start + Offset.length; at < start + Offset.ref; at += 4)
    if (view.getUint32(at, true) !== view.getUint32(at - PACKET_BYTES, true)) return false;
  return true;
}

/** What a packet that cannot be executed is refused with: `index` is its place in its frame. */
export function notExecutable(index: number, reason: string): PacketError {
  return new PacketError(PacketErrorCode.invalidPacket, `packet ${index} cannot be executed: ${reason}`, {
    index,
    reason,
  });
}
