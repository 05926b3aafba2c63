/**
 * Puts the inputs of a frame into the executor's shared memory: resolves what each EXEC names, settles which records belong
 * to it, and says in numbers where its bytes lie. Packets whose input cannot be had are left out.
 */
import { refKey, sameBytes } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { PacketfsError } from "../../packets/errors.ts";
import { FaultCode } from "../../packets/faults.ts";
import { Flag, PACKET_BYTES, REF_BYTES } from "../../packets/layout.ts";
import {
  WORDS_PER_PACKET,
  flagsAt,
  fromAt,
  lengthAt,
  packetCount,
  packetWords,
  refOf,
} from "../../packets/packet.ts";
import { JobErrorCode, SandboxErrorCode, StreamError, StreamErrorCode } from "../errors.ts";
import { repeatsInput } from "./lane-queue.ts";
import type { InputBuffer } from "./input-buffer.ts";
import { EXTENT_NUMBERS } from "../sandbox/process/executor-process.ts";
import { formatBytes } from "../format.ts";
import {
  CARRIED_INPUT_BYTES_MAX,
  GATHER_BYTES_MAX,
  RUN_INPUT_BYTES_MAX,
  RUN_PACKETS_MAX,
} from "../limits.ts";
import type { Manifest } from "../program/program.ts";
import { placedRecords, recordsOfSplit, scannedRange } from "../program/record-borders.ts";
import type { ByteRange, Split, SplitRecords } from "../program/record-borders.ts";
import { inputFault } from "../stream/inputs.ts";
import type { InputSource, StreamInput } from "../stream/inputs.ts";

export interface StagedFrame {
  /** The packets that can run, n × 64 bytes. */
  readonly frame: Uint8Array;
  /** EXTENT_NUMBERS per packet. */
  readonly extents: Float64Array;
  /** Their inputs where these are few bytes: they travel with the packets, which costs less than any other way. */
  readonly inputs?: Uint8Array;
  /** What of the shared memory they hold, to be freed; undefined for none. */
  readonly offset: number | undefined;
  readonly refused: readonly Refusal[];
  /** Packets that did not fit any more, untouched. */
  readonly rest: Uint8Array;
}

export class InputStage {
  readonly #inputs: InputSource;
  readonly #manifest: Pick<Manifest, "entry" | "description">;
  readonly #signal: AbortSignal;
  /** Numbers of frames that have run, to be used again: fresh memory for each would make V8 look for garbage all the time. */
  readonly #spare: Float64Array<ArrayBuffer>[] = [];

  /** The ranges of chunks are taken as they are, and those of streams where neither a map nor a scan reads them. */
  constructor(inputs: InputSource, manifest: Pick<Manifest, "entry" | "description">, signal: AbortSignal) {
    this.#inputs = inputs;
    this.#manifest = manifest;
    this.#signal = signal;
  }

  /** The frame that these were the extents of has run. */
  recycle(extents: Float64Array): void {
    const { buffer } = extents;
    if (buffer.byteLength !== EXTENTS_BYTES || this.#spare.length >= SPARE_FRAMES_MAX) return;
    this.#spare.push(new Float64Array(buffer as ArrayBuffer));
  }

  #extentsFor(frame: Uint8Array): Float64Array<ArrayBuffer> {
    const numbers = packetCount(frame) * EXTENT_NUMBERS;
    const isLarge = numbers * 32 >= EXTENTS_BYTES && numbers * 8 <= EXTENTS_BYTES;
    if (!isLarge) return new Float64Array(numbers);
    return (this.#spare.pop() ?? new Float64Array(EXTENTS_BYTES / 8)).subarray(0, numbers);
  }

  /** Waits for room in the buffer. Rejects with ProcessGone, with the signal's reason, and with defects. */
  async stage(frame: Uint8Array, buffer: InputBuffer): Promise<StagedFrame> {
    if (isLarge(frame)) {
      return this.#stageLarge(frame, buffer);
    }
    const inputs = new FrameInputs(
      frame,
      this.#extentsFor(frame),
      Math.min(inputBytes(frame), RUN_INPUT_BYTES_MAX),
    );
    const staged = await this.#gather(frame, inputs);
    const rest = frame.subarray(staged * PACKET_BYTES);
    const bytes = inputs.buffer.length;
    if (bytes > 0 && bytes <= CARRIED_INPUT_BYTES_MAX) {
      return { ...settled(inputs, undefined, rest), inputs: inputs.buffer.view() };
    }
    const offset = bytes === 0 ? undefined : await buffer.alloc(bytes);
    if (offset !== undefined) await buffer.write(offset, inputs.buffer.view());
    else if (bytes > 0) inputs.refuseAll(tooLarge(bytes));
    return settled(inputs, offset, rest);
  }

  /** Gathers the packets' inputs in memory until there is enough of them; says how many packets it looked at. */
  async #gather(frame: Uint8Array, inputs: FrameInputs): Promise<number> {
    const count = packetCount(frame);
    const chunks = await FrameChunks.read(frame, this.#inputs, this.#signal);
    const roots = streamRoots(frame);
    if (roots.length > 1) await this.#inputs.prefetch(roots, this.#signal);
    let stream: StreamInput | undefined;
    for (let index = 0; index < count; index++) {
      // Records that are read on for, and headers, can be more than the packets said.
      if (inputs.buffer.length > 2 * RUN_INPUT_BYTES_MAX) return index;
      if (inputs.repeat(index)) continue;
      try {
        if ((flagsAt(frame, index) & Flag.STREAM) === 0) {
          addRange(frame, index, chunks.at(index), inputs);
        } else {
          const root = refOf(frame, index);
          if (stream === undefined || !sameBytes(stream.root, root)) {
            stream = await this.#inputs.stream(root, this.#signal);
          }
          const split = this.#splitOf(frame, index, stream);
          const placed = this.#placed(split);
          if (placed === undefined) await this.#addRecords(index, split, stream, inputs);
          else {
            // Most packets read what the one before them was followed by, and wait for nothing.
            const { start, end, tailBytes } = placed;
            const records =
              stream.held(start, end + tailBytes) ??
              (await stream.read(start, end + tailBytes, neighboursEnd(frame, index)));
            const at = inputs.buffer.append(records, 0, records.byteLength);
            inputs.add(index, { at, bytes: records.byteLength, place: start, prefixBytes: 0, tailBytes });
          }
        }
      } catch (error) {
        inputs.refuse(index, error);
      }
    }
    return count;
  }

  async #addRecords(index: number, split: Split, stream: StreamInput, inputs: FrameInputs): Promise<void> {
    const { prefix, start, end, tailBytes } = await this.#records(split, stream);
    const before = await stream.read(prefix.start, prefix.end);
    const prefixBytes = before.byteLength;
    const at = inputs.buffer.append(before, 0, prefixBytes);
    const records = await stream.read(start, end + tailBytes);
    inputs.buffer.append(records, 0, records.byteLength);
    inputs.add(index, { at, bytes: prefixBytes + records.byteLength, place: start, prefixBytes, tailBytes });
  }

  /** One input, written piece by piece: it is never in this process's memory as a whole. */
  async #stageLarge(frame: Uint8Array, buffer: InputBuffer): Promise<StagedFrame> {
    const inputs = new FrameInputs(frame, this.#extentsFor(frame), 0);
    let offset: number | undefined;
    try {
      const stream = await this.#inputs.stream(refOf(frame, 0), this.#signal);
      const { prefix, start, end, tailBytes } = await this.#records(this.#splitOf(frame, 0, stream), stream);
      const before = await stream.read(prefix.start, prefix.end);
      const prefixBytes = before.byteLength;
      const bytes = prefixBytes + end + tailBytes - start;
      offset = bytes === 0 ? undefined : await buffer.alloc(bytes);
      if (offset !== undefined) await fill(buffer, offset, before, stream.pieces(start, end + tailBytes));
      // Only now: a packet whose input was not read to its end must not run on what lies in the buffer.
      inputs.add(0, { at: 0, bytes, place: start, prefixBytes, tailBytes });
      if (offset === undefined && bytes > 0) inputs.refuseAll(tooLarge(bytes));
    } catch (error) {
      if (offset !== undefined) buffer.free(offset);
      offset = undefined;
      inputs.refuse(0, error);
    }
    return settled(inputs, offset, NO_PACKETS);
  }

  #splitOf(frame: Uint8Array, index: number, { length }: StreamInput): Split {
    const start = fromAt(frame, index);
    const end = start + lengthAt(frame, index);
    requireRange(start, end, length);
    return { start, end, total: length, whole: (flagsAt(frame, index) & Flag.WHOLE) !== 0 };
  }

  /** The records of a split, if they are where it says. */
  #placed(split: Split): SplitRecords | undefined {
    const { entry, description } = this.#manifest;
    if (entry === "map") return placedRecords(description.reader, split);
    return entry === "scan" ? undefined : { ...split, prefix: NOWHERE, tailBytes: 0 };
  }

  async #records(split: Split, stream: StreamInput): Promise<SplitRecords> {
    const { entry, description } = this.#manifest;
    const { reader } = description;
    const read = (from: number, to: number): Promise<Uint8Array> => stream.read(from, to);
    if (entry === "map") return recordsOfSplit(reader, split, read);
    if (entry === "scan" && reader.kind === "csv") return scannedRange(reader, split, read);
    return { ...split, prefix: NOWHERE, tailBytes: 0 };
  }
}

const NO_PACKETS = new Uint8Array(0);
const NOWHERE: ByteRange = { start: 0, end: 0 };
const EXTENTS_BYTES = RUN_PACKETS_MAX * EXTENT_NUMBERS * 8;
/** Frames that are on their way at a time are few. */
const SPARE_FRAMES_MAX = 4;

/** A chunk is in memory as a whole, so its range is not worth it. */
function isLarge(frame: Uint8Array): boolean {
  if (packetCount(frame) !== 1 || (flagsAt(frame, 0) & Flag.STREAM) === 0) return false;
  return lengthAt(frame, 0) > GATHER_BYTES_MAX;
}

/** The different streams that packets of the frame read, each once where its packets are neighbours. */
function streamRoots(frame: Uint8Array): Ref[] {
  const roots: Ref[] = [];
  const words = packetWords(frame);
  for (let index = 0; index < packetCount(frame); index++) {
    if ((flagsAt(frame, index) & Flag.STREAM) === 0) continue;
    if (roots.length === 0 || !repeatsRef(words, index)) roots.push(refOf(frame, index));
  }
  return roots;
}

/** Where the ranges end that follow one another in one stream from packet `index` on. */
function neighboursEnd(frame: Uint8Array, index: number): number {
  const count = packetCount(frame);
  const words = packetWords(frame);
  const start = fromAt(frame, index);
  let end = start + lengthAt(frame, index);
  for (let next = index + 1; next < count && end - start < RUN_INPUT_BYTES_MAX; next++) {
    if (!repeatsRef(words, next) || fromAt(frame, next) !== end) break;
    end += lengthAt(frame, next);
  }
  return end;
}

function addRange(frame: Uint8Array, index: number, chunk: Uint8Array, inputs: FrameInputs): void {
  const from = fromAt(frame, index);
  const length = lengthAt(frame, index);
  if (length > 0) requireRange(from, from + length, chunk.byteLength);
  const at = inputs.buffer.append(chunk, from, length);
  inputs.add(index, { at, bytes: length, place: from, prefixBytes: 0, tailBytes: 0 });
}

function requireRange(start: number, end: number, available: number): void {
  if (end <= available) return;
  const data = { start, end, length: available };
  throw new StreamError(
    StreamErrorCode.invalidRange,
    `it reads to byte ${end} of an input of ${available} bytes`,
    data,
  );
}

/** Writes one piece while the next is read. Resolves or rejects when nothing is being written any more. */
async function fill(
  buffer: InputBuffer,
  offset: number,
  prefix: Uint8Array,
  pieces: AsyncIterable<Uint8Array>,
): Promise<void> {
  let at = offset + prefix.byteLength;
  let failure: unknown;
  let writing = buffer.write(offset, prefix);
  const noted = (error: unknown): void => {
    failure ??= error;
  };
  writing.catch(noted);
  try {
    for await (const piece of pieces) {
      await writing;
      writing = buffer.write(at, piece);
      writing.catch(noted);
      at += piece.byteLength;
    }
  } finally {
    await writing.catch(noted);
  }
  if (failure !== undefined) throw failure;
}

/** Of the packets together, repeated ones not counted. */
function inputBytes(frame: Uint8Array): number {
  const words = packetWords(frame);
  let bytes = 0;
  for (let index = 0; index < packetCount(frame); index++) {
    if (index === 0 || !repeatsInput(words, index)) bytes += lengthAt(frame, index);
  }
  return bytes;
}

function tooLarge(bytes: number): string {
  return `its input of ${formatBytes(bytes)} is more than the executor has room for`;
}

function settled(inputs: FrameInputs, offset: number | undefined, rest: Uint8Array): StagedFrame {
  const extents = inputs.extents(offset ?? 0);
  return { frame: inputs.frame(), extents, offset, refused: inputs.refused, rest };
}

/** A packet that ends with a FAULT before it ran. */
export interface Refusal {
  readonly packet: Uint8Array;
  readonly code: FaultCode;
  readonly detail: string;
  /** The byte of the input that is to blame, if one is. */
  readonly place?: number;
}

/** What a packet reads, as protocol.ts says; `at` is its place among the bytes of the frame. */
interface PacketExtent {
  readonly at: number;
  readonly bytes: number;
  readonly place: number;
  readonly prefixBytes: number;
  readonly tailBytes: number;
}

/** What becomes of the packets of one frame while their inputs are gathered: extents of those that can run, and the rest. */
class FrameInputs {
  readonly buffer: StagingBuffer;
  readonly refused: Refusal[] = [];
  readonly #frame: Uint8Array;
  readonly #words: Uint32Array;
  readonly #extents: Float64Array<ArrayBuffer>;
  /** The packets that can run, by their index in the frame; the first `#kept` count. */
  readonly #indexes: Uint16Array;
  #kept = 0;

  /** `extents` has EXTENT_NUMBERS per packet, whatever they are. */
  constructor(frame: Uint8Array, extents: Float64Array<ArrayBuffer>, bytesAtFirst: number) {
    const count = packetCount(frame);
    this.buffer = new StagingBuffer(bytesAtFirst);
    this.#frame = frame;
    this.#words = packetWords(frame);
    this.#extents = extents;
    this.#indexes = new Uint16Array(count);
  }

  /** Gives packet `index` the bytes of the packet before it, if it names the very same ones. */
  repeat(index: number): boolean {
    const last = this.#kept - 1;
    if (last < 0 || this.#indexes[last] !== index - 1 || !repeatsInput(this.#words, index)) return false;
    const from = last * EXTENT_NUMBERS;
    for (let at = from; at < from + EXTENT_NUMBERS; at++)
      this.#extents[at + EXTENT_NUMBERS] = this.#extents[at]!;
    this.#indexes[this.#kept++] = index;
    return true;
  }

  /** Gives packet `index` its bytes. */
  add(index: number, { at, bytes, place, prefixBytes, tailBytes }: PacketExtent): void {
    const start = this.#kept * EXTENT_NUMBERS;
    this.#extents[start] = at;
    this.#extents[start + 1] = bytes;
    this.#extents[start + 2] = place;
    this.#extents[start + 3] = prefixBytes;
    this.#extents[start + 4] = tailBytes;
    this.#indexes[this.#kept++] = index;
  }

  /** Lets packet `index` end with a FAULT. Rethrows what is not the input's fault. */
  refuse(index: number, error: unknown): void {
    if (!(error instanceof PacketfsError) || error.code === SandboxErrorCode.sharedMemoryFailed) throw error;
    const isRecord = error.code === JobErrorCode.invalidRecord;
    const code = isRecord ? FaultCode.badRecord : inputFault(error);
    const refusal = { packet: packetAt(this.#frame, index), code, detail: error.message };
    const { at } = error.data;
    this.refused.push(isRecord && typeof at === "number" ? { ...refusal, place: at } : refusal);
  }

  /** Lets every packet that could run end with a FAULT: their inputs are more than there is room for. */
  refuseAll(detail: string): void {
    for (let kept = 0; kept < this.#kept; kept++) {
      const packet = packetAt(this.#frame, this.#indexes[kept]!);
      this.refused.push({ packet, code: FaultCode.memoryLimit, detail });
    }
    this.#kept = 0;
  }

  /** The packets that can run. */
  frame(): Uint8Array {
    if (this.#kept * PACKET_BYTES === this.#frame.byteLength) return this.#frame;
    const frame = new Uint8Array(this.#kept * PACKET_BYTES);
    for (let kept = 0; kept < this.#kept; kept++) {
      frame.set(packetAt(this.#frame, this.#indexes[kept]!), kept * PACKET_BYTES);
    }
    return frame;
  }

  /** Their extents, `base` added to where each begins. */
  extents(base: number): Float64Array {
    const extents = this.#extents.subarray(0, this.#kept * EXTENT_NUMBERS);
    for (let at = 0; at < extents.length; at += EXTENT_NUMBERS) {
      // What has no bytes lies nowhere.
      extents[at] = extents[at + 1] === 0 ? 0 : extents[at]! + base;
    }
    return extents;
  }
}

function packetAt(frame: Uint8Array, index: number): Uint8Array {
  return frame.subarray(index * PACKET_BYTES, (index + 1) * PACKET_BYTES);
}

/** Bytes that are gathered back to back before they are written in one go. */
export class StagingBuffer {
  /** Bytes gathered so far. */
  length = 0;
  #bytes: Uint8Array<ArrayBuffer>;

  constructor(bytesAtFirst: number) {
    this.#bytes = unwrittenBytes(Math.max(bytesAtFirst, 1));
  }

  /** Adds `length` bytes of `source` from `from` on and returns where they begin. */
  append(source: Uint8Array, from: number, length: number): number {
    const at = this.length;
    const end = at + length;
    if (end > this.#bytes.byteLength) this.#grow(end);
    if (length <= LOOP_BYTES_MAX) {
      for (let index = 0; index < length; index++) this.#bytes[at + index] = source[from + index]!;
    } else {
      this.#bytes.set(source.subarray(from, from + length), at);
    }
    this.length = end;
    return at;
  }

  /** What was gathered: a view, valid until more is added. */
  view(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.length);
  }

  #grow(bytesMin: number): void {
    const larger = unwrittenBytes(Math.max(bytesMin, this.#bytes.byteLength * 2));
    larger.set(this.view());
    this.#bytes = larger;
  }
}

/** Below this a loop is faster than a call that makes a view. */
const LOOP_BYTES_MAX = 48;

/** Bytes that all get written before they are read; as a plain Uint8Array, whose `slice` copies. */
function unwrittenBytes(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.allocUnsafeSlow(length).buffer);
}

const NO_BYTES = new Uint8Array(0);
const REF_WORDS = REF_BYTES / 4;

/** The chunks that the packets of a frame name, read together: a frame often names one chunk many times. */
class FrameChunks {
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
    const words = packetWords(frame);
    for (let index = 0; index < count; index++) {
      if ((flagsAt(frame, index) & Flag.STREAM) !== 0 || lengthAt(frame, index) === 0) continue;
      if (chunks.#slots[index - 1]! > 0 && repeatsRef(words, index)) {
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
function repeatsRef(words: Uint32Array, index: number): boolean {
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
