/**
 * EXEC packets that cross a border of trust: into a program that somebody opened, into a lane, off the wire. What the caller
 * gave is checked once, copied, and made the callee's own; whoever wrote a frame itself does not check it again.
 */
import { packetCheck } from "./crc32.ts";
import { PacketError, PacketErrorCode } from "./errors.ts";
import { readInteger32, writeInteger } from "./integer.ts";
import { Offset, Op, PACKET_BYTES } from "./layout.ts";
import { FRAME_PACKETS_MAX } from "./limits.ts";
import { laneAt, opAt, packetCount, sealPacket } from "./packet.ts";
import { invalidFields } from "./validate.ts";

/**
 * Throws PFS_PACKET_INVALID {index, reason} for what `execFrame` refuses: for whoever passes a frame on as it is, to
 * somebody who takes it in.
 */
export function requireExecFrame(frame: Uint8Array): void {
  const count = frameCount(frame);
  for (let index = 0; index < count; index++) {
    requireCheck(frame, index);
    requireExec(frame, index);
  }
}

/**
 * A copy of a frame whose packets have `lane` as their lane; which one they had does not matter. Throws PFS_PACKET_INVALID
 * {index, reason} when a packet is malformed or no EXEC, or there are more than FRAME_PACKETS_MAX; nothing of the frame is
 * to be run then.
 */
export function execFrame(frame: Uint8Array, lane: number): Uint8Array {
  frameCount(frame);
  return execPackets(frame, lane);
}

/** The same for any number of packets; with `base`, the i-th has `base` + i as its `at`. */
export function execPackets(frame: Uint8Array, lane: number, base?: number): Uint8Array {
  const count = wholePackets(frame);
  const own = new Uint8Array(frame);
  for (let index = 0; index < count; index++) {
    const start = index * PACKET_BYTES;
    requireCheck(own, index);
    const isChanged = base !== undefined || laneAt(own, index) !== lane;
    own[start + Offset.lane] = lane;
    own[start + Offset.lane + 1] = lane >>> 8;
    if (base !== undefined) writeInteger(own, start + Offset.at, base + index);
    requireExec(own, index);
    if (isChanged) sealPacket(own, index);
  }
  return own;
}

function frameCount(frame: Uint8Array): number {
  const count = wholePackets(frame);
  if (count > FRAME_PACKETS_MAX) {
    throw refused(FRAME_PACKETS_MAX, `a frame has at most ${FRAME_PACKETS_MAX}`);
  }
  return count;
}

function wholePackets(frame: Uint8Array): number {
  const count = packetCount(frame);
  if (count * PACKET_BYTES !== frame.byteLength) throw refused(count, "shorter than 64 bytes");
  return count;
}

function requireCheck(packets: Uint8Array, index: number): void {
  const start = index * PACKET_BYTES;
  if (readInteger32(packets, start + Offset.check) !== packetCheck(packets, start)) {
    throw refused(index, "check does not match");
  }
}

/** Of a packet whose check is right, or about to be made so. */
function requireExec(packets: Uint8Array, index: number): void {
  const reason = invalidFields(packets, index);
  if (reason !== null) throw refused(index, reason);
  if (opAt(packets, index) !== Op.EXEC) throw refused(index, "not an EXEC");
}

function refused(index: number, reason: string): PacketError {
  return new PacketError(PacketErrorCode.invalidPacket, `packet ${index} cannot be executed: ${reason}`, {
    index,
    reason,
  });
}
