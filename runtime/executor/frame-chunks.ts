/** The chunks that the packets of a frame name, read together: a frame often names one chunk many times. */
import { refKey } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { PacketfsError } from "../../packets/errors.ts";
import { Flag, REF_BYTES } from "../../packets/layout.ts";
import {
  WORDS_PER_PACKET,
  flagsAt,
  lengthAt,
  packetCount,
  packetWords,
  refOf,
} from "../../packets/packet.ts";
import type { InputSource } from "../stream/inputs.ts";
import { repeatsInput } from "./lane-queue.ts";

const NO_BYTES = new Uint8Array(0);
const REF_WORDS = REF_BYTES / 4;
const REPEATED = 0x8000;
const SLOT = 0x7fff;

export class FrameChunks {
  /** Whether some of the packets read streams, which are none of this one's. */
  readonly hasStreams: boolean;
  /** Per packet, which of the chunks it names: index + 1, or 0 for none; and whether it is REPEATED. */
  readonly #slots: Uint16Array;
  readonly #refs: readonly Ref[];
  #chunks: readonly (Uint8Array | PacketfsError)[] = [];

  constructor(frame: Uint8Array) {
    const count = packetCount(frame);
    const refs: Ref[] = [];
    const slots = new Uint16Array(count);
    const words = count > 1 ? packetWords(frame) : undefined;
    let known: Map<string, number> | undefined;
    let hasStreams = false;
    for (let index = 0; index < count; index++) {
      if (index > 0 && repeatsInput(words!, index)) {
        slots[index] = slots[index - 1]! | REPEATED;
        continue;
      }
      const isStream = (flagsAt(frame, index) & Flag.STREAM) !== 0;
      hasStreams ||= isStream;
      if (isStream || lengthAt(frame, index) === 0) continue;
      if (index > 0 && (slots[index - 1]! & SLOT) > 0 && repeatsRef(words!, index)) {
        slots[index] = slots[index - 1]! & SLOT;
        continue;
      }
      const ref = refOf(frame, index);
      // Of one packet there is nothing to find again.
      const key = count > 1 ? refKey(ref) : undefined;
      let slot = key === undefined ? undefined : known?.get(key);
      slot ??= refs.push(ref);
      if (key !== undefined) (known ??= new Map()).set(key, slot);
      slots[index] = slot;
    }
    this.hasStreams = hasStreams;
    this.#slots = slots;
    this.#refs = refs;
  }

  /** Takes them out of memory. False when they are not all there. */
  takeCached(inputs: InputSource): boolean {
    const chunks = inputs.cachedChunks(this.#refs);
    if (chunks !== undefined) this.#chunks = chunks;
    return chunks !== undefined;
  }

  /** Rejects with defects and aborts only: what cannot be had is thrown when it is asked for. */
  async read(inputs: InputSource, signal: AbortSignal): Promise<void> {
    if (this.#refs.length > 0) this.#chunks = await readEach(this.#refs, inputs, signal);
  }

  /** Whether packet `index` reads what the one before it reads, in the same way. */
  repeats(index: number): boolean {
    return (this.#slots[index]! & REPEATED) !== 0;
  }

  /** The chunk that packet `index` names; no bytes where it wants none. Throws what reading it was refused with. */
  at(index: number): Uint8Array {
    const slot = this.#slots[index]! & SLOT;
    const chunk = slot === 0 ? NO_BYTES : this.#chunks[slot - 1]!;
    if (chunk instanceof PacketfsError) throw chunk;
    return chunk;
  }
}

/** Whether the packet at `index` names what the one before it names. `words`: packetWords of a frame. */
export function repeatsRef(words: Uint32Array, index: number): boolean {
  const end = (index + 1) * WORDS_PER_PACKET;
  for (let at = end - REF_WORDS; at < end; at++) if (words[at] !== words[at - WORDS_PER_PACKET]) return false;
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
