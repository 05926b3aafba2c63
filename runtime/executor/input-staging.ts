/**
 * Puts the inputs of a frame into the executor's shared memory: resolves what each EXEC names, settles which records belong
 * to it, and says in numbers where its bytes lie. Packets whose input cannot be had are left out.
 */
import { sameBytes } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { Flag, PACKET_BYTES } from "../../packets/layout.ts";
import { flagsAt, fromAt, lengthAt, packetCount, packetWords, refOf } from "../../packets/packet.ts";
import { StreamError, StreamErrorCode } from "../errors.ts";
import { FrameChunks, repeatsRef } from "./frame-chunks.ts";
import { FrameInputs } from "./frame-inputs.ts";
import type { Refusal } from "./frame-inputs.ts";
import type { InputBuffer } from "./input-buffer.ts";
import { EXTENT_NUMBERS, LAZY_OFFSET } from "../sandbox/process/executor-process.ts";
import { formatBytes } from "../format.ts";
import {
  CARRIED_INPUT_BYTES_MAX,
  GATHER_BYTES_MAX,
  RUN_INPUT_BYTES_MAX,
  RUN_PACKETS_MAX,
} from "../limits.ts";
import type { Manifest } from "../program/program.ts";
import { readsBlocks, readsRecords } from "../program/readers.ts";
import { placedRecords, recordsOfSplit, scannedRange } from "../program/record-borders.ts";
import type { ByteRange, Split, SplitRecords } from "../program/record-borders.ts";
import type { InputSource, StreamInput } from "../stream/inputs.ts";

export interface StagedFrame {
  /** The packets that can run, n × 64 bytes. */
  readonly frame: Uint8Array;
  /** EXTENT_NUMBERS per packet. */
  readonly extents: Float64Array;
  /** Their inputs where these are few bytes: they travel with the packets, which costs less than any other way. */
  readonly inputs: Uint8Array | undefined;
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
  /** Whether a large block is left where it is. */
  readonly #isLazy: () => boolean;
  /** Numbers of frames that have run, to be used again: fresh memory for each would make V8 look for garbage all the time. */
  readonly #spare: Float64Array<ArrayBuffer>[] = [];

  /**
   * The ranges of chunks are taken as they are, and those of streams where neither a map nor a scan reads them. Where
   * `leavesBlocks` says so, what kernels alone may look at, or nobody, stays where it is, and is asked for if somebody does.
   */
  constructor(
    inputs: InputSource,
    manifest: Pick<Manifest, "entry" | "description">,
    signal: AbortSignal,
    leavesBlocks: () => boolean = () => false,
  ) {
    this.#inputs = inputs;
    const isOfBlocks = readsRecords(manifest.entry) && readsBlocks(manifest.description.reader);
    this.#isLazy = isOfBlocks ? leavesBlocks : () => false;
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
    if (numbers * 8 > EXTENTS_BYTES) return new Float64Array(numbers);
    return (this.#spare.pop() ?? new Float64Array(EXTENTS_BYTES / 8)).subarray(0, numbers);
  }

  /**
   * Waits for inputs that are not in memory, and for room in the buffer for those that are many bytes; where it need not wait,
   * it is done at once. Rejects with ProcessGone, with the signal's reason, and with defects, which it may throw as well.
   */
  stage(frame: Uint8Array, buffer: InputBuffer): StagedFrame | Promise<StagedFrame> {
    if (isLarge(frame)) return this.#stageLarge(frame, buffer);
    const inputs = new FrameInputs(frame, this.#extentsFor(frame), lengthAt(frame, 0));
    const chunks = new FrameChunks(frame);
    if (chunks.hasStreams || !chunks.takeCached(this.#inputs)) {
      return this.#stageLater(frame, chunks, inputs, buffer);
    }
    const rest = frame.subarray(gatherChunks(frame, 0, chunks, inputs) * PACKET_BYTES);
    return carried(inputs, rest) ?? write(inputs, rest, buffer);
  }

  async #stageLater(
    frame: Uint8Array,
    chunks: FrameChunks,
    inputs: FrameInputs,
    buffer: InputBuffer,
  ): Promise<StagedFrame> {
    await chunks.read(this.#inputs, this.#signal);
    const roots = streamRoots(frame);
    if (roots.length > 1) await this.#inputs.prefetch(roots, this.#signal);
    const rest = frame.subarray((await this.#gather(frame, chunks, inputs)) * PACKET_BYTES);
    return carried(inputs, rest) ?? (await write(inputs, rest, buffer));
  }

  /** Gathers the packets' inputs in memory until there is enough of them; says how many packets it looked at. */
  async #gather(frame: Uint8Array, chunks: FrameChunks, inputs: FrameInputs): Promise<number> {
    const words = packetWords(frame);
    let stream: StreamInput | undefined;
    let streamOf = -1;
    const piece = new StreamPiece();
    for (let index = 0; ; index++) {
      index = gatherChunks(frame, index, chunks, inputs);
      if (index === inputs.count || inputs.isFull) return index;
      try {
        // Mostly that of the packet before it, which is seen without a view of its ref.
        if (stream === undefined || streamOf !== index - 1 || !repeatsRef(words, index)) {
          const root = refOf(frame, index);
          if (stream === undefined || !sameBytes(stream.root, root)) {
            stream = await this.#inputs.stream(root, this.#signal);
            piece.forget();
          }
        }
        streamOf = index;
        const split = this.#splitOf(frame, index, stream);
        const placed = this.#placed(split);
        if (placed === undefined) await this.#addRecords(index, split, stream, inputs);
        else {
          const { start, tailBytes } = placed;
          const end = placed.end + tailBytes;
          if (!piece.isNext(start, end)) {
            // Bytes that several packets read count for each of them, so tails are copied for each.
            let records = tailBytes > 0 ? stream.held(start, end) : undefined;
            if (records === undefined) {
              const until = Math.min(neighboursEnd(frame, index), stream.length);
              const stop = tailBytes > 0 ? end : Math.max(end, until);
              records = stream.held(start, stop) ?? (await stream.read(start, stop, until));
            }
            piece.begin(inputs.buffer.append(records, 0, records.byteLength), start, records.byteLength);
          }
          const at = piece.take(start, end);
          inputs.add(index, { at, bytes: end - start, place: start, prefixBytes: 0, tailBytes });
        }
      } catch (error) {
        inputs.refuse(index, error);
      }
    }
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
      if (this.#isLazy()) {
        inputs.add(0, { at: LAZY_OFFSET, bytes: end - start, place: start, prefixBytes: 0, tailBytes: 0 });
        return settled(inputs, undefined, NO_PACKETS);
      }
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
    if (readsRecords(entry)) return placedRecords(description.reader, split);
    return entry === "scan" ? undefined : { ...split, prefix: NOWHERE, tailBytes: 0 };
  }

  async #records(split: Split, stream: StreamInput): Promise<SplitRecords> {
    const { entry, description } = this.#manifest;
    const { reader } = description;
    const read = (from: number, to: number): Promise<Uint8Array> => stream.read(from, to);
    if (readsRecords(entry)) return recordsOfSplit(reader, split, read);
    if (entry === "scan" && reader.kind === "csv") return scannedRange(reader, split, read);
    return { ...split, prefix: NOWHERE, tailBytes: 0 };
  }
}

const NO_PACKETS = new Uint8Array(0);
const NOWHERE: ByteRange = { start: 0, end: 0 };
const EXTENTS_BYTES = RUN_PACKETS_MAX * EXTENT_NUMBERS * 8;
/** Frames that are on their way at a time are few. */
const SPARE_FRAMES_MAX = 4;

/**
 * The bytes of a stream that were gathered last. Most packets read what the one before them was followed by: such neighbours
 * are gathered together, and take theirs one after the other.
 */
class StreamPiece {
  #at = 0;
  /** The bytes of the stream that it has, and the first of them that is not taken. */
  #start = 0;
  #next = -1;
  #end = 0;

  forget(): void {
    this.#next = -1;
  }

  /** It has `length` bytes of the stream from `start` on, at `at` of what was gathered. */
  begin(at: number, start: number, length: number): void {
    this.#at = at;
    this.#start = start;
    this.#next = start;
    this.#end = start + length;
  }

  /** Whether it has these bytes of the stream, and all before them are taken. */
  isNext(start: number, end: number): boolean {
    return start === this.#next && end <= this.#end;
  }

  /** Where the next bytes are, `start` to `end` of the stream, among those that were gathered. */
  take(start: number, end: number): number {
    this.#next = end;
    return this.#at + start - this.#start;
  }
}

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

/**
 * Gathers from packet `from` on as far as packets read chunks and there is not enough; says with which it stopped: one that
 * reads a stream, unless there is enough.
 */
function gatherChunks(frame: Uint8Array, from: number, chunks: FrameChunks, inputs: FrameInputs): number {
  for (let index = from; index < inputs.count; index++) {
    if (inputs.isFull) return index;
    if (chunks.repeats(index) && inputs.repeat(index)) continue;
    if ((flagsAt(frame, index) & Flag.STREAM) !== 0) return index;
    try {
      addRange(frame, index, chunks.at(index), inputs);
    } catch (error) {
      inputs.refuse(index, error);
    }
  }
  return inputs.count;
}

/** The frame with its inputs, if these are few. */
function carried(inputs: FrameInputs, rest: Uint8Array): StagedFrame | undefined {
  const bytes = inputs.buffer.length;
  if (bytes > CARRIED_INPUT_BYTES_MAX) return undefined;
  return settled(inputs, undefined, rest, bytes === 0 ? undefined : inputs.buffer.view());
}

async function write(inputs: FrameInputs, rest: Uint8Array, buffer: InputBuffer): Promise<StagedFrame> {
  const bytes = inputs.buffer.length;
  const offset = await buffer.alloc(bytes);
  if (offset !== undefined) await buffer.write(offset, inputs.buffer.view());
  else inputs.refuseAll(tooLarge(bytes));
  return settled(inputs, offset, rest);
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

function tooLarge(bytes: number): string {
  return `its input of ${formatBytes(bytes)} is more than the executor has room for`;
}

function settled(
  inputs: FrameInputs,
  offset: number | undefined,
  rest: Uint8Array,
  carriedBytes?: Uint8Array,
): StagedFrame {
  const extents = inputs.extents(offset ?? 0);
  return {
    frame: inputs.frame(),
    extents,
    inputs: carriedBytes,
    offset,
    refused: inputs.refused,
    rest,
  };
}
