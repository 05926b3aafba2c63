/**
 * Patches: chunks, written by what makes them of bytes that the reader has. SPEC.md section 14 is this file in prose. Pure:
 * whoever reads them fetches the bytes.
 *
 *   packets   CALL … HALT         where the list's dictionary is, and how large the list
 *   body      list, packed        for each part COPY … CALL … HALT: its chunks, its dictionary, the bytes of its frame
 *             frame, frame, …     one for each part, in their order
 */
import { constants, zstdCompress, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import type { ZstdOptions } from "node:zlib";
import { DISCARDED_BYTES_MIN, resultOf } from "./codec.ts";
import { differenceBytesMax, undoDifference, writeDifference } from "./difference.ts";
import type { Ref } from "./digest.ts";
import { PacketError, PacketErrorCode } from "./errors.ts";
import { joinBytes } from "./join-bytes.ts";
import { Op, PACKET_BYTES } from "./layout.ts";
import {
  FRAME_PACKETS_MAX,
  PATCH_BYTES_MAX,
  PATCH_DICTIONARIES_BYTES_MAX,
  PATCH_DICTIONARY_BYTES_MAX,
  PATCH_PART_BYTES_MAX,
  PATCH_RANGES_MAX,
  PATCH_STREAM_PACKETS_MAX,
  PATCH_WINDOW_BITS_MAX,
} from "./limits.ts";
import { decodePacket, encodeFrame, opAt, packetCount } from "./packet.ts";
import type { PacketFields } from "./packet.ts";
import { packPackets, unpackPackets } from "./packed-packets.ts";
import { Stream } from "./stream-reader.ts";

/** Higher levels save a twentieth and take twice as long; 1 finds hardly anything of what is far away. */
const LEVEL = 3;
/** Where a core waits for a link anyway: 9 saves a hundredth more, and takes half as long again. */
export const SLOW_LINK_LEVEL = 6;

/** What stands before the frame of a difference: no zstd frame begins so. */
const DIFFERENCE = 0;
/** A part of which no larger share is new is written as a difference, and nothing else is tried. */
const FRESH_SHARE_FEW = 1 / 8;

const NO_BYTES = new Uint8Array(0);

/** What a patch's bytes are. */
export const PatchKind = {
  /** The stream chunks themselves, packed: their refs follow from them. */
  streams: 0,
  /** Chunks in parts. */
  chunks: 1,
} as const;
export type PatchKind = (typeof PatchKind)[keyof typeof PatchKind];

/** One message of a patch. */
export interface Patch {
  readonly kind: PatchKind;
  /** CALL packets, one per range of the dictionary, and a HALT. */
  readonly packets: Uint8Array;
  readonly body: Uint8Array;
}

/** Bytes `from` to `from + length` of what a root yields. */
export interface BaseRange {
  readonly root: Ref;
  readonly from: number;
  readonly length: number;
}

/** Neighbouring chunks that are written together. */
export interface PatchPart {
  readonly refs: readonly Ref[];
  /** Bytes of each chunk. */
  readonly lengths: readonly number[];
  /** What their dictionary is put together of, in this order; none for a frame that needs no other bytes. */
  readonly dictionary: readonly BaseRange[];
  /**
   * A zstd frame of all of them; or DIFFERENCE and one of their difference from the dictionary; or themselves, where it has as many
   * bytes as they and there is no dictionary.
   */
  readonly frame: Uint8Array;
}

/** What a patch says of itself before anything is read for it. */
export interface PatchHead {
  /** The packets of the streams that yield these ranges, those of each range depth first, are the list's dictionary. */
  readonly dictionary: readonly BaseRange[];
  readonly listPackets: number;
  readonly listBytes: number;
}

/** Packs stream chunks, one behind the other. `packets` are those that `dictionary` stands for. */
export async function writeStreamPatch(
  streams: readonly Uint8Array[],
  dictionary: readonly BaseRange[],
  packets: Uint8Array,
): Promise<Patch> {
  return await patchOf(PatchKind.streams, Buffer.concat(streams), [], dictionary, packets);
}

/** Puts parts into one message. `packets` are those that `dictionary` stands for: best of the streams that name the chunks. */
export async function writeChunkPatch(
  parts: readonly PatchPart[],
  dictionary: readonly BaseRange[],
  packets: Uint8Array,
): Promise<Patch> {
  const list = encodeFrame(parts.flatMap(packetsOf));
  const frames = parts.map(({ frame }) => frame);
  return await patchOf(PatchKind.chunks, list, frames, dictionary, packets);
}

async function patchOf(
  kind: PatchKind,
  list: Uint8Array,
  frames: readonly Uint8Array[],
  dictionary: readonly BaseRange[],
  packets: Uint8Array,
): Promise<Patch> {
  const packed = await packPackets(list, packets);
  const head: PacketFields[] = rangePackets(dictionary, 0);
  head.push({ op: Op.HALT, at: packetCount(list), length: packed.byteLength });
  return { kind, packets: encodeFrame(head), body: joinBytes([packed, ...frames]) };
}

function packetsOf({ refs, lengths, dictionary, frame }: PatchPart): PacketFields[] {
  const packets: PacketFields[] = [];
  let at = 0;
  refs.forEach((ref, index) => {
    packets.push({ op: Op.COPY, at, length: lengths[index]!, ref });
    at += lengths[index]!;
  });
  packets.push(...rangePackets(dictionary, at));
  packets.push({ op: Op.HALT, at: packets.length, length: frame.byteLength });
  return packets;
}

function rangePackets(ranges: readonly BaseRange[], start: number): PacketFields[] {
  let at = start;
  return ranges.map(({ root, from, length }) => {
    const packet = { op: Op.CALL, at, length, from, ref: root };
    at += length;
    return packet;
  });
}

/** Checks what a patch says of itself. Throws PFS_PATCH_INVALID {reason} or PFS_PACKET_INVALID. */
export function readPatchHead({ kind, packets, body }: Patch): PatchHead {
  const count = packetCount(packets);
  if (packets.byteLength !== count * PACKET_BYTES || count === 0) throw invalid("its packets are no packets");
  if (count > PATCH_RANGES_MAX + 1) throw invalid("its dictionary has too many ranges");
  const list = new ListReader(packets);
  // What such a range yields may be long: the packets that yield it are counted when they are read.
  const dictionary = list.ranges(Number.MAX_SAFE_INTEGER);
  const { at: listPackets, length: listBytes } = list.halt();
  if (list.index !== count) throw invalid("it goes on behind its HALT");
  const packetsMax = kind === PatchKind.streams ? PATCH_STREAM_PACKETS_MAX : FRAME_PACKETS_MAX;
  if (listPackets < 1 || listPackets > packetsMax) throw invalid(`a list of ${listPackets} packets`);
  if (listBytes > body.byteLength) throw invalid("its list is longer than its body");
  if (kind === PatchKind.streams && listBytes !== body.byteLength) throw invalid("bytes behind the streams");
  return { dictionary, listPackets, listBytes };
}

/** The stream chunks of a patch, each one parsed. Throws as `readPatchHead` does, PFS_STREAM_INVALID or PFS_PACKET_INVALID. */
export async function readStreamPatch(patch: Patch, head: PatchHead, packets: Uint8Array): Promise<Stream[]> {
  const frame = await listOf(patch, head, packets);
  const streams: Stream[] = [];
  let first = 0;
  for (let index = 0; index < head.listPackets; index++) {
    if (opAt(frame, index) !== Op.HALT) continue;
    // Bytes of their own: whoever keeps one stream would keep them all.
    streams.push(Stream.parse(frame.slice(first * PACKET_BYTES, (index + 1) * PACKET_BYTES)));
    first = index + 1;
  }
  if (first !== head.listPackets) throw invalid("its last stream has no end");
  return streams;
}

/**
 * The parts of a patch, every number of theirs within its limit; their frames are views of its body. `packets` are those
 * that its head's dictionary stands for. Throws as `readPatchHead` does.
 */
export async function readChunkPatch(
  patch: Patch,
  head: PatchHead,
  packets: Uint8Array,
): Promise<PatchPart[]> {
  const list = new ListReader(await listOf(patch, head, packets));
  const parts: PatchPart[] = [];
  let at = head.listBytes;
  let total = 0;
  let dictionaries = 0;
  while (list.index < head.listPackets) {
    const { refs, lengths, bytes } = list.chunks();
    const ranges = list.ranges(PATCH_DICTIONARY_BYTES_MAX);
    const { at: count, length: frameBytes } = list.halt();
    if (count !== refs.length + ranges.length) throw invalid("a HALT counts other packets");
    if (frameBytes > bytes || frameBytes > patch.body.byteLength - at) throw invalid("a frame is too long");
    if (ranges.length > 0 && frameBytes === 0) throw invalid("a frame is empty");
    total += bytes;
    dictionaries += ranges.reduce((sum, { length }) => sum + length, 0);
    if (dictionaries > PATCH_DICTIONARIES_BYTES_MAX) throw invalid("its dictionaries are too long together");
    if (total > PATCH_BYTES_MAX) throw invalid("its chunks are too long together");
    parts.push({ refs, lengths, dictionary: ranges, frame: patch.body.subarray(at, at + frameBytes) });
    at += frameBytes;
  }
  if (at !== patch.body.byteLength) throw invalid("bytes behind its last frame");
  return parts;
}

async function listOf({ body }: Patch, head: PatchHead, packets: Uint8Array): Promise<Uint8Array> {
  const list = await unpackPackets(body.subarray(0, head.listBytes), head.listPackets, packets);
  if (list === undefined) throw invalid("its list is not what it says");
  return list;
}

/** Reads packets whose `at` count the lengths since the last HALT. */
class ListReader {
  index = 0;
  readonly #frame: Uint8Array;
  #sum = 0;

  constructor(frame: Uint8Array) {
    this.#frame = frame;
  }

  chunks(): { refs: Ref[]; lengths: number[]; bytes: number } {
    const refs: Ref[] = [];
    const lengths: number[] = [];
    while (this.#is(Op.COPY)) {
      const { ref, length, from } = this.#next();
      if (from !== 0) throw invalid("a chunk that does not begin at its beginning");
      refs.push(ref);
      lengths.push(length);
      if (this.#sum > PATCH_PART_BYTES_MAX) throw invalid("a part is too long");
    }
    if (refs.length === 0) throw invalid("a part without chunks");
    return { refs, lengths, bytes: this.#sum };
  }

  ranges(bytesMax: number): BaseRange[] {
    const ranges: BaseRange[] = [];
    let bytes = 0;
    while (this.#is(Op.CALL)) {
      const { ref, from, length } = this.#next();
      ranges.push({ root: ref, from, length });
      bytes += length;
      if (bytes > bytesMax || ranges.length > PATCH_RANGES_MAX) throw invalid("a dictionary is too long");
    }
    return ranges;
  }

  halt(): { at: number; length: number } {
    if (!this.#is(Op.HALT)) throw invalid("a HALT is missing");
    const { flags, at, length } = decodePacket(this.#frame, this.index++);
    if (flags !== 0) throw invalid("a HALT has flags");
    this.#sum = 0;
    return { at, length };
  }

  #is(op: Op): boolean {
    return this.index < packetCount(this.#frame) && opAt(this.#frame, this.index) === op;
  }

  #next(): { ref: Ref; from: number; length: number } {
    const packet = decodePacket(this.#frame, this.index++);
    if (packet.at !== this.#sum) throw invalid("a gap or an overlap");
    this.#sum += packet.length;
    return packet;
  }
}

/** Compresses a part that has no dictionary, by another thread: it must stay as it is until it resolves. Itself where that saves nothing. */
export async function compressPart(plain: Uint8Array, level: number = LEVEL): Promise<Uint8Array> {
  const options = compressing(plain.byteLength, level);
  const frame = await resultOf((done) => zstdCompress(plain, options, done));
  return frame.byteLength < plain.byteLength ? frame : plain;
}

/** What `encodePart` needs to write to for so many bytes. */
export const scratchBytes: (plainBytes: number) => number = differenceBytesMax;

/** Writes a part against its dictionary; undefined where that saves nothing. `scratch` has `scratchBytes()`. */
export function encodePart(
  plain: Uint8Array,
  dictionary: Uint8Array,
  scratch: Uint8Array = new Uint8Array(scratchBytes(plain.byteLength)),
): Uint8Array | undefined {
  const { frame, isLittle } = encodeDifference(plain, dictionary, scratch);
  if (isLittle) return frame;
  const options = { ...compressing(plain.byteLength, LEVEL), dictionary };
  return smallest(plain, [frame, zstdCompressSync(plain, options)]);
}

/** As `encodePart`, but what takes longest is done by another thread: all three must stay as they are until it resolves. */
export async function encodePartAside(
  plain: Uint8Array,
  dictionary: Uint8Array,
  scratch: Uint8Array,
): Promise<Uint8Array | undefined> {
  const { frame, isLittle } = encodeDifference(plain, dictionary, scratch);
  if (isLittle) return frame;
  const options = { ...compressing(plain.byteLength, LEVEL), dictionary };
  const against = await resultOf((done) => zstdCompress(plain, options, done));
  return smallest(plain, [frame, against]);
}

/** The frame of a part's difference, and whether so little is new that nothing else need be tried: what is the same may help with what is new. */
function encodeDifference(
  plain: Uint8Array,
  dictionary: Uint8Array,
  scratch: Uint8Array,
): { readonly frame: Uint8Array; readonly isLittle: boolean } {
  const { bytes, fresh } = writeDifference(plain, dictionary, scratch);
  const packed = zstdCompressSync(bytes, compressing(bytes.byteLength, LEVEL));
  const frame = joinBytes([Uint8Array.of(DIFFERENCE), packed]);
  const isLittle = fresh <= plain.byteLength * FRESH_SHARE_FEW && frame.byteLength < plain.byteLength;
  return { frame, isLittle };
}

function smallest(plain: Uint8Array, frames: readonly Uint8Array[]): Uint8Array | undefined {
  const [least] = frames.toSorted((a, b) => a.byteLength - b.byteLength);
  return least!.byteLength < plain.byteLength ? least : undefined;
}

function compressing(bytes: number, level: number): ZstdOptions {
  return {
    pledgedSrcSize: bytes,
    // What is written before it is known how little it is would be a buffer as long as the chunks, each time.
    chunkSize: Math.max(constants.Z_MIN_CHUNK, bytes >>> 2),
    params: { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_contentSizeFlag]: 0 },
  };
}

/** The plain bytes of a part, given its dictionary's; undefined where its frame is not as many. */
export function decodePart(
  { frame, lengths }: Pick<PatchPart, "frame" | "lengths">,
  dictionary: Uint8Array,
): Uint8Array | undefined {
  const plainBytes = lengths.reduce((sum, length) => sum + length, 0);
  if (dictionary.byteLength === 0) {
    if (frame.byteLength === plainBytes) return frame;
  } else if (frame[0] === DIFFERENCE) {
    const difference = decompressed(frame.subarray(1), differenceBytesMax(plainBytes), NO_BYTES);
    return difference && undoDifference(difference, plainBytes, dictionary);
  }
  const plain = decompressed(frame, plainBytes, dictionary);
  return plain?.byteLength === plainBytes ? plain : undefined;
}

/** Frees memory at once that `decodePart` made, of which nobody has a part any more; a frame that was the bytes themselves is no such memory. */
export function discardPart(plain: Uint8Array): void {
  const { buffer, byteLength } = plain;
  if (byteLength < DISCARDED_BYTES_MIN || !(buffer instanceof ArrayBuffer)) return;
  // Memory that is much longer is Node's for many short Buffers.
  if (buffer.byteLength <= differenceBytesMax(byteLength) + 1) buffer.transfer(0);
}

function decompressed(frame: Uint8Array, bytesMax: number, dictionary: Uint8Array): Uint8Array | undefined {
  try {
    return zstdDecompressSync(frame, {
      ...(dictionary.byteLength === 0 ? {} : { dictionary }),
      maxOutputLength: bytesMax,
      chunkSize: Math.max(constants.Z_MIN_CHUNK, bytesMax + 1),
      params: { [constants.ZSTD_d_windowLogMax]: PATCH_WINDOW_BITS_MAX },
    });
  } catch {
    // Bytes that are no frame, or one of more bytes: the caller says which part of whose patch it was.
    return undefined;
  }
}

/** A patch that is none. */
export function invalidPatch(reason: string): PacketError {
  return new PacketError(PacketErrorCode.invalidPatch, `this is no patch: ${reason}`, { reason });
}
const invalid = invalidPatch;
