/**
 * Makes of patches what they bring. Nothing that a sender says is believed: it may name the roots that it was told of and no
 * others, ranges within them, and as many bytes as limits allow; and each chunk must be what its ref says.
 */
import { isRefOf, refKey, refToHex, sameBytes, sha256 } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { PATCH_DICTIONARY_BYTES_MAX } from "../../../packets/limits.ts";
import {
  PatchKind,
  decodePart,
  discardPart,
  invalidPatch,
  readChunkPatch,
  readPatchHead,
  readStreamPatch,
} from "../../../packets/patch.ts";
import type { BaseRange, Patch, PatchHead, PatchPart } from "../../../packets/patch.ts";
import type { ChunkSource } from "../../contracts/chunks.ts";
import { turnOver } from "../../turns.ts";
import { BaseBytes } from "./bases.ts";

/** A chunk, verified. */
export interface PatchedChunk {
  readonly ref: Ref;
  readonly bytes: Uint8Array;
  /** Whether it was made of bytes of a base. */
  readonly isPatched: boolean;
}

export class PatchReceiver {
  readonly #bytes: BaseBytes;
  readonly #signal: AbortSignal;
  readonly #roots: ReadonlySet<string>;
  readonly #root: Ref;
  #dictionary: Uint8Array<ArrayBuffer> | undefined;
  /** Bytes of parts that were handed out in chunks. */
  readonly #made: Uint8Array[] = [];

  /** `source` has the bases, and what came of `root` so far. */
  constructor(source: ChunkSource, root: Ref, bases: readonly Ref[], signal: AbortSignal) {
    this.#bytes = new BaseBytes(source, signal);
    this.#signal = signal;
    this.#root = root;
    this.#roots = new Set(bases.map(refKey));
  }

  /**
   * The chunks of a patch in order, stream chunks if that is its kind: whether anybody needs them is the caller's to know. One
   * patch at a time. Rejects with PFS_PATCH_INVALID {reason} for what is none, or makes other chunks than it says; with
   * PFS_PACKET_INVALID and PFS_STREAM_INVALID for packets that are none; and as reading the bases does.
   */
  async *chunks(patch: Patch): AsyncGenerator<PatchedChunk, void, undefined> {
    this.#made.length = 0;
    const head = readPatchHead(patch);
    const isStreams = patch.kind === PatchKind.streams;
    const packets = await this.#packetsOf(head, isStreams);
    if (isStreams) {
      for (const { frame } of await readStreamPatch(patch, head, packets)) {
        await this.#turn();
        yield { ref: sha256(frame), bytes: frame, isPatched: head.dictionary.length > 0 };
      }
      return;
    }
    for (const part of await readChunkPatch(patch, head, packets)) yield* this.#part(part);
  }

  /** Nobody needs the bytes of the last patch's chunks any more: their memory is freed at once. */
  discard(): void {
    for (const plain of this.#made.splice(0)) discardPart(plain);
  }

  async *#part(part: PatchPart): AsyncGenerator<PatchedChunk, void, undefined> {
    await this.#check(part.dictionary, (ref) => this.#roots.has(refKey(ref)));
    const length = part.dictionary.reduce((sum, range) => sum + range.length, 0);
    this.#dictionary ??= new Uint8Array(PATCH_DICTIONARY_BYTES_MAX);
    const dictionary = this.#dictionary.subarray(0, length);
    await this.#bytes.readAll(part.dictionary, dictionary);
    await this.#turn();
    const plain = decodePart(part, dictionary);
    if (plain === undefined) throw invalidPatch("a frame does not make as many bytes as it says");
    // A part that was not packed has no memory of its own.
    if (plain !== part.frame) this.#made.push(plain);
    let at = 0;
    for (const [index, ref] of part.refs.entries()) {
      await this.#turn();
      // No Buffer, whose `slice` would be no copy of what is freed.
      const bytes = new Uint8Array(plain.buffer, plain.byteOffset + at, part.lengths[index]!);
      at += bytes.byteLength;
      if (!isRefOf(ref, bytes)) throw invalidPatch(`it makes other bytes than those of ${refToHex(ref)}`);
      yield { ref, bytes, isPatched: part.dictionary.length > 0 };
    }
  }

  async #packetsOf({ dictionary }: PatchHead, isStreams: boolean): Promise<Uint8Array> {
    await this.#check(dictionary, (ref) =>
      isStreams ? this.#roots.has(refKey(ref)) : sameBytes(ref, this.#root),
    );
    const frames: Uint8Array[] = [];
    let room = PATCH_DICTIONARY_BYTES_MAX;
    for (const { root, from, length } of dictionary) {
      const packets = await this.#bytes.packets(root, from, length, room);
      if (packets === undefined) throw invalidPatch("its list's dictionary is too long");
      room -= packets.reduce((sum, { byteLength }) => sum + byteLength, 0);
      frames.push(...packets);
    }
    return Buffer.concat(frames);
  }

  async #check(ranges: readonly BaseRange[], isKnown: (root: Ref) => boolean): Promise<void> {
    for (const { root, from, length } of ranges) {
      if (!isKnown(root)) throw invalidPatch(`it reads ${refToHex(root)}, which was not offered`);
      if (from + length > (await this.#bytes.lengthOf(root)))
        throw invalidPatch("a range ends beyond its base");
    }
  }

  async #turn(): Promise<void> {
    const over = turnOver();
    if (over !== undefined) await over;
    this.#signal.throwIfAborted();
  }
}
