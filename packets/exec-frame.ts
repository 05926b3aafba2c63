/** The way into a lane: what the caller sends is checked, copied and made the lane's own. */
import { packetCheck } from "./crc32.ts";
import { PacketError, PacketErrorCode } from "./errors.ts";
import { readInteger32, writeInteger } from "./integer.ts";
import { Offset, Op, PACKET_BYTES } from "./layout.ts";
import { FRAME_PACKETS_MAX } from "./limits.ts";
import { opAt, packetCount, requirePacket, sealPacket } from "./packet.ts";

/**
 * A copy of the frame whose packets have `lane` as their lane; which one they had does not matter. Throws
 * PFS_PACKET_INVALID {index, reason} when a packet is malformed or no EXEC; nothing of the frame is to be run then.
 */
export function takeIn(frame: Uint8Array, lane: number): Uint8Array {
  if (packetCount(frame) > FRAME_PACKETS_MAX) {
    throw refused(FRAME_PACKETS_MAX, `a frame has at most ${FRAME_PACKETS_MAX}`);
  }
  return copyExecs(frame, lane);
}

/** The same for any number of packets; with `base`, the i-th has `base` + i as its `at`. */
export function copyExecs(frame: Uint8Array, lane: number, base?: number): Uint8Array {
  const count = packetCount(frame);
  if (count * PACKET_BYTES !== frame.byteLength) throw refused(count, "shorter than 64 bytes");
  const own = new Uint8Array(frame);
  for (let index = 0; index < count; index++) {
    const start = index * PACKET_BYTES;
    if (readInteger32(own, start + Offset.check) !== packetCheck(own, start)) {
      throw refused(index, "check does not match");
    }
    own[start + Offset.lane] = lane;
    own[start + Offset.lane + 1] = lane >>> 8;
    if (base !== undefined) writeInteger(own, start + Offset.at, base + index);
    sealPacket(own, index);
    requirePacket(own, index);
    if (opAt(own, index) !== Op.EXEC) throw refused(index, "not an EXEC");
  }
  return own;
}

function refused(index: number, reason: string): PacketError {
  return new PacketError(PacketErrorCode.invalidPacket, `packet ${index} cannot be executed: ${reason}`, {
    index,
    reason,
  });
}
