/** The chunks that the packets of a frame name, read together: a frame often names one chunk many times. */
import { Flag, Offset, PACKET_BYTES } from "../../packets/layout.ts";
import { refKey } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { PacketfsError } from "../../packets/errors.ts";
import { flagsAt, lengthAt, packetCount, refOf } from "../../packets/packet.ts";
import type { InputSource } from "../stream/inputs.ts";

const NO_BYTES = new Uint8Array(0);

export class FrameChunks {
  /** Per packet, which of the chunks it names: index + 1, or 0 for none. */
  readonly #slots: Uint16Array;
  #chunks: readonly (Uint8Array | PacketfsError)[] = [];

  private constructor(count: number) {
    this.#slots = new Uint16Array(count);
  }

  /** Rejects with defects and aborts only: what cannot be had is thrown when it is asked for. */
  static async read(frame: Uint8Array, inputs: InputSource, signal: AbortSignal): Promise<FrameChunks> {
    const count = packetCount(frame);
    const chunks = new FrameChunks(count);
    const refs: Ref[] = [];
    const slots = new Map<string, number>();
    for (let index = 0; index < count; index++) {
      if ((flagsAt(frame, index) & Flag.STREAM) !== 0 || lengthAt(frame, index) === 0) continue;
      if (chunks.#slots[index - 1]! > 0 && sameRef(frame, index)) {
        chunks.#slots[index] = chunks.#slots[index - 1]!;
        continue;
      }
      const ref = refOf(frame, index);
      const key = refKey(ref);
      let slot = slots.get(key);
      if (slot === undefined) {
        slot = refs.push(ref);
        slots.set(key, slot);
      }
      chunks.#slots[index] = slot;
    }
    if (refs.length > 0) chunks.#chunks = await readEach(refs, inputs, signal);
    return chunks;
  }

  /** The chunk that packet `index` names; no bytes where it wants none. Throws what reading it was refused with. */
  at(index: number): Uint8Array {
    const slot = this.#slots[index]!;
    const chunk = slot === 0 ? NO_BYTES : this.#chunks[slot - 1]!;
    if (chunk instanceof PacketfsError) throw chunk;
    return chunk;
  }
}

/** Whether the packet at `index` names what the one before it names. */
function sameRef(frame: Uint8Array, index: number): boolean {
  const start = index * PACKET_BYTES;
  for (let at = start + Offset.ref; at < start + PACKET_BYTES; at++) {
    if (frame[at] !== frame[at - PACKET_BYTES]) return false;
  }
  return true;
}

async function readEach(
  refs: readonly Ref[],
  inputs: InputSource,
  signal: AbortSignal,
): Promise<readonly (Uint8Array | PacketfsError)[]> {
  try {
    return await inputs.chunks(refs, signal);
  } catch (error) {
    if (!(error instanceof PacketfsError)) throw error;
    if (refs.length === 1) return [error];
    // One that is missing must not fail the packets that name others.
    const halves = [refs.slice(0, refs.length >>> 1), refs.slice(refs.length >>> 1)];
    return (await Promise.all(halves.map((half) => readEach(half, inputs, signal)))).flat();
  }
}
