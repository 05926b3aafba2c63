/** EXEC packets that wait for their turn, in order. Frames go in and frames come out, cut and joined as needed. */
import { Offset, PACKET_BYTES } from "../../packets/layout.ts";
import { lengthAt, packetCount } from "../../packets/packet.ts";

export class PacketQueue {
  /** Packets that wait. */
  count = 0;
  readonly #frames: Uint8Array[] = [];

  /** Adds packets at the end. The frame is the queue's from now on. */
  push(frame: Uint8Array): void {
    if (frame.byteLength === 0) return;
    this.#frames.push(frame);
    this.count += packetCount(frame);
  }

  /** Puts packets back in front of all others. */
  unshift(frame: Uint8Array): void {
    if (frame.byteLength === 0) return;
    this.#frames.unshift(frame);
    this.count += packetCount(frame);
  }

  /**
   * Takes the next packets: as many as there are, but at most `packetsMax`, and no more than have `inputBytesMax` bytes of
   * input together, repeated ones not counted; yet one at least. Empty when nothing waits.
   */
  take(packetsMax: number, inputBytesMax: number): Uint8Array {
    const parts: Uint8Array[] = [];
    let packets = 0;
    let inputBytes = 0;
    while (this.#frames.length > 0 && packets < packetsMax) {
      const frame = this.#frames[0]!;
      const frameCount = packetCount(frame);
      let taken = 0;
      while (taken < frameCount && packets < packetsMax) {
        if (taken === 0 || !repeatsInput(frame, taken)) inputBytes += lengthAt(frame, taken);
        if (inputBytes > inputBytesMax && packets > 0) break;
        packets++;
        taken++;
      }
      if (taken > 0) parts.push(frame.subarray(0, taken * PACKET_BYTES));
      if (taken < frameCount) {
        this.#frames[0] = frame.subarray(taken * PACKET_BYTES);
        break;
      }
      this.#frames.shift();
    }
    this.count -= packets;
    return joined(parts, packets);
  }

  /** Forgets everything that waits. */
  clear(): void {
    this.#frames.length = 0;
    this.count = 0;
  }
}

function joined(parts: readonly Uint8Array[], packets: number): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const frame = new Uint8Array(packets * PACKET_BYTES);
  let at = 0;
  for (const part of parts) {
    frame.set(part, at);
    at += part.byteLength;
  }
  return frame;
}

/** Whether the packet at `index` reads the same bytes in the same way as the one before it. */
export function repeatsInput(frame: Uint8Array, index: number): boolean {
  const start = index * PACKET_BYTES;
  if (frame[start + Offset.flags] !== frame[start + Offset.flags - PACKET_BYTES]) return false;
  for (let at = start + Offset.length; at < start + PACKET_BYTES; at++) {
    if (frame[at] !== frame[at - PACKET_BYTES]) return false;
  }
  return true;
}
