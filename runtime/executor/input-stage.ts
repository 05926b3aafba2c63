/**
 * Puts the inputs of a frame into the executor's window: resolves what each EXEC names, settles which records belong to
 * it, and says with four numbers per packet where its bytes lie. Packets whose input cannot be had are left out.
 */
import { Flag, PACKET_BYTES } from "../../packets/layout.ts";
import { flagsAt, fromAt, lengthAt, packetCount, refOf } from "../../packets/packet.ts";
import { sameBytes } from "../../packets/digest.ts";
import { PoolError, PoolErrorCode } from "../errors.ts";
import { recordsOfSplit } from "../program/record-borders.ts";
import type { SplitRecords } from "../program/record-borders.ts";
import { GATHER_BYTES_MAX, RUN_INPUT_BYTES_MAX } from "../limits.ts";
import type { ReaderSpec } from "../program/readers.ts";
import { FrameChunks } from "./frame-chunks.ts";
import { FrameInputs } from "./frame-inputs.ts";
import type { Refusal } from "./frame-inputs.ts";
import type { InputSource, StreamInput } from "../stream/inputs.ts";
import type { WindowSpace } from "./window-space.ts";

export interface StagedFrame {
  /** The packets that can run, n × 64 bytes. */
  readonly frame: Uint8Array;
  /** 4 numbers per packet. */
  readonly extents: Float64Array;
  /** What of the window they hold, to be freed; undefined for no bytes. */
  readonly offset: number | undefined;
  readonly refused: readonly Refusal[];
  /** Packets that did not fit any more, untouched. */
  readonly rest: Uint8Array;
}

export class InputStage {
  readonly #inputs: InputSource;
  readonly #reader: ReaderSpec | undefined;
  readonly #signal: AbortSignal;

  /** Without a reader, the ranges of streams are taken as they are; those of chunks always are. */
  constructor(inputs: InputSource, reader: ReaderSpec | undefined, signal: AbortSignal) {
    this.#inputs = inputs;
    this.#reader = reader;
    this.#signal = signal;
  }

  /** Waits for room in the window. Rejects with WindowGone, with the signal's reason, and with defects. */
  async stage(frame: Uint8Array, window: WindowSpace): Promise<StagedFrame> {
    if (isLarge(frame)) {
      return this.#stageLarge(frame, window);
    }
    const inputs = new FrameInputs(frame, Math.min(inputBytes(frame), RUN_INPUT_BYTES_MAX));
    const staged = await this.#gather(frame, inputs);
    const rest = frame.subarray(staged * PACKET_BYTES);
    const bytes = inputs.buffer.length;
    const offset = bytes === 0 ? undefined : await window.alloc(bytes);
    if (offset !== undefined) await window.write(offset, inputs.buffer.view());
    else if (bytes > 0) inputs.refuseAll(tooLarge(bytes));
    return settled(inputs, offset, rest);
  }

  /** Gathers the packets' inputs in memory until there is enough of them; says how many packets it looked at. */
  async #gather(frame: Uint8Array, inputs: FrameInputs): Promise<number> {
    const count = packetCount(frame);
    const chunks = await FrameChunks.read(frame, this.#inputs, this.#signal);
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
          await this.#addRecords(frame, index, stream, inputs);
        }
      } catch (error) {
        inputs.refuse(index, error);
      }
    }
    return count;
  }

  async #addRecords(
    frame: Uint8Array,
    index: number,
    stream: StreamInput,
    inputs: FrameInputs,
  ): Promise<void> {
    const { header, start, end } = await this.#records(frame, index, stream);
    const prefix = await stream.read(header.start, header.end);
    const records = await stream.read(start, end);
    const at = inputs.buffer.append(prefix, 0, prefix.byteLength);
    inputs.buffer.append(records, 0, records.byteLength);
    inputs.add(index, at, prefix.byteLength + records.byteLength, start, prefix.byteLength);
  }

  /** One input, written piece by piece: it is never in this process's memory as a whole. */
  async #stageLarge(frame: Uint8Array, window: WindowSpace): Promise<StagedFrame> {
    const inputs = new FrameInputs(frame, 0);
    let offset: number | undefined;
    try {
      const stream = await this.#inputs.stream(refOf(frame, 0), this.#signal);
      const { header, start, end } = await this.#records(frame, 0, stream);
      const prefix = await stream.read(header.start, header.end);
      const bytes = prefix.byteLength + end - start;
      offset = bytes === 0 ? undefined : await window.alloc(bytes);
      if (offset !== undefined) await fill(window, offset, prefix, stream.pieces(start, end));
      // Only now: a packet whose input was not read to its end must not run on what lies in the window.
      inputs.add(0, 0, bytes, start, prefix.byteLength);
      if (offset === undefined && bytes > 0) inputs.refuseAll(tooLarge(bytes));
    } catch (error) {
      if (offset !== undefined) window.free(offset);
      offset = undefined;
      inputs.refuse(0, error);
    }
    return settled(inputs, offset, NO_PACKETS);
  }

  async #records(frame: Uint8Array, index: number, stream: StreamInput): Promise<SplitRecords> {
    const start = fromAt(frame, index);
    const end = start + lengthAt(frame, index);
    requireRange(end, stream.length);
    if (this.#reader === undefined) return { start, end, header: { start, end: start } };
    const quoted = (flagsAt(frame, index) & Flag.QUOTED) !== 0;
    const split = { start, end, total: stream.length, quoted };
    return recordsOfSplit(this.#reader, split, (from, to) => stream.read(from, to));
  }
}

const NO_PACKETS = new Uint8Array(0);

/** A chunk is in memory as a whole, so its range is not worth it. */
function isLarge(frame: Uint8Array): boolean {
  if (packetCount(frame) !== 1 || (flagsAt(frame, 0) & Flag.STREAM) === 0) return false;
  return lengthAt(frame, 0) > GATHER_BYTES_MAX;
}

function addRange(frame: Uint8Array, index: number, chunk: Uint8Array, inputs: FrameInputs): void {
  const from = fromAt(frame, index);
  const length = lengthAt(frame, index);
  if (length > 0) requireRange(from + length, chunk.byteLength);
  inputs.add(index, inputs.buffer.append(chunk, from, length), length, from, 0);
}

function requireRange(end: number, available: number): void {
  if (end <= available) return;
  throw new PoolError(
    PoolErrorCode.inputMissing,
    `it reads to byte ${end} of an input of ${available} bytes`,
    {
      end,
      available,
    },
  );
}

/** Writes one piece while the next is read. Resolves or rejects when nothing is being written any more. */
async function fill(
  window: WindowSpace,
  offset: number,
  prefix: Uint8Array,
  pieces: AsyncIterable<Uint8Array>,
): Promise<void> {
  let at = offset + prefix.byteLength;
  let failure: unknown;
  let writing = window.write(offset, prefix);
  const noted = (error: unknown): void => {
    failure ??= error;
  };
  writing.catch(noted);
  try {
    for await (const piece of pieces) {
      await writing;
      writing = window.write(at, piece);
      writing.catch(noted);
      at += piece.byteLength;
    }
  } finally {
    await writing.catch(noted);
  }
  if (failure !== undefined) throw failure;
}

function inputBytes(frame: Uint8Array): number {
  let bytes = 0;
  for (let index = 0; index < packetCount(frame); index++) bytes += lengthAt(frame, index);
  return bytes;
}

function tooLarge(bytes: number): string {
  return `its input of ${bytes} bytes is more than the window to the executor holds`;
}

function settled(inputs: FrameInputs, offset: number | undefined, rest: Uint8Array): StagedFrame {
  const extents = inputs.extents(offset ?? 0);
  return { frame: inputs.frame(), extents, offset, refused: inputs.refused, rest };
}
