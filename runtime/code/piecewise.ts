/** Packets of packet code whose bytes come in pieces, as whoever reads chunks and streams for them gives those. */
import { Stage } from "../../packets/code/format.ts";
import type { Code } from "../../packets/code/format.ts";
import {
  decodeState,
  emptyState,
  encodeState,
  mergeState,
  stateBytes,
  valueOf,
} from "../../packets/code/state.ts";
import type { State } from "../../packets/code/state.ts";
import { sameBytes } from "../../packets/digest.ts";
import { FaultCode } from "../../packets/faults.ts";
import { Flag } from "../../packets/layout.ts";
import { flagsAt, fromAt, lengthAt, refOf } from "../../packets/packet.ts";
import { StreamError, StreamErrorCode } from "../errors.ts";
import { valueCodec } from "../program/values.ts";
import type { InputSource, StreamInput } from "../stream/inputs.ts";
import { turnOver } from "../turns.ts";
import type { Workspace } from "./workspace.ts";
import type { Outcome } from "./code-answers.ts";
import type { CodeProgram, CodeWork } from "./code-lane.ts";
import { CARRY_BYTES, RangeRun } from "./range-run.ts";

/** Ranges of streams up to this size are read in one piece. */
const SMALL_BYTES_MAX: number = 16 * 1024;
/** States that are merged before others may have their turn: about a tenth of a millisecond of work. */
const TURN_STATES = 64;

/** Bytes `from` to `from + length` of an input of `total` bytes, which stand at `base` of the file. */
export interface Input {
  /** What it is a range of, where that is a file. */
  readonly stream?: StreamInput;
  readonly from: number;
  readonly length: number;
  readonly total: number;
  readonly base: number;
  /** Its bytes `start` to `end`, in pieces of at most PIECE_BYTES_MAX. */
  readonly pieces: (start: number, end: number) => AsyncIterable<Uint8Array>;
}

/**
 * The input of the EXEC at `index` of the frame; `last` is the stream that was read before it, which has read ahead where this
 * one is a range of it too. Rejects with what reading rejects with, and PFS_RANGE_INVALID.
 */
export async function openInput(
  inputs: InputSource,
  { frame, index }: CodeWork,
  signal: AbortSignal,
  last: StreamInput | undefined,
): Promise<Input> {
  const flags = flagsAt(frame, index);
  const [from, length, ref] = [fromAt(frame, index), lengthAt(frame, index), refOf(frame, index)];
  if ((flags & Flag.STREAM) === 0) {
    // A range of a chunk is whole records.
    const [chunk] = length === 0 ? [new Uint8Array(0)] : await inputs.chunks([ref], signal);
    if (length > 0) requireRange(from, length, chunk!.byteLength);
    const pieces = (start: number, end: number): AsyncIterable<Uint8Array> =>
      onePiece(chunk!.subarray(from + start, from + end));
    return { from: 0, length, total: length, base: from, pieces };
  }
  const isLast = last !== undefined && sameBytes(last.root, ref);
  const stream = isLast ? last : await inputs.stream(ref, signal);
  requireRange(from, length, stream.length);
  if ((flags & Flag.WHOLE) === 0) {
    return {
      stream,
      from,
      length,
      total: stream.length,
      base: 0,
      pieces: (start, end) =>
        end - start <= SMALL_BYTES_MAX ? onceRead(stream, start, end) : stream.pieces(start, end),
    };
  }
  const pieces = (start: number, end: number): AsyncIterable<Uint8Array> =>
    stream.pieces(from + start, from + end);
  return { from: 0, length, total: length, base: from, pieces };
}

/** Counts CPU time that packets take, in milliseconds. */
export interface Meter {
  cpuMs: number;
}

/** What a packet is run with. */
export interface Running {
  readonly workspace: Workspace;
  readonly meter: Meter;
  readonly signal: AbortSignal;
}

/** Reads the range's bytes and runs the program on them. */
export async function mapped(
  { bytes, code }: CodeProgram,
  input: Input,
  { workspace, meter, signal }: Running,
): Promise<Outcome> {
  const { memory } = workspace;
  const kernel = workspace.kernel(bytes, code, input.length);
  const run = new RangeRun(code, kernel, memory, input);
  while (!run.isDone) {
    const { start, end } = run.wanted;
    for await (const piece of input.pieces(start, end)) {
      const over = turnOver();
      if (over !== undefined) await over;
      signal.throwIfAborted();
      const began = performance.now();
      memory.set(piece, CARRY_BYTES);
      run.push(CARRY_BYTES, piece.byteLength);
      meter.cpuMs += performance.now() - began;
      if (run.isDone) break;
    }
    if (!run.isDone && run.wanted.start === start)
      throw new Error(`an input yielded nothing from byte ${start} on`);
  }
  const { fault } = run;
  if (fault === undefined) return { bytes: encodeState(code, kernel.state) };
  return { fault: FaultCode.badRecord, reason: fault.reason, place: input.base + fault.at };
}

/** The states that the input is, as one; or the value's text. They may be somebody else's, and as many as that one likes. */
export async function merged(
  code: Code,
  { from, length, pieces }: Input,
  { meter, signal }: Omit<Running, "workspace">,
): Promise<Uint8Array> {
  const size = stateBytes(code);
  const held = new Uint8Array(size);
  let state: State | undefined;
  let filled = 0;
  const take = (bytes: Uint8Array): void => {
    for (let at = 0; at < bytes.byteLength;) {
      const taken = Math.min(size - filled, bytes.byteLength - at);
      held.set(bytes.subarray(at, at + taken), filled);
      at += taken;
      filled += taken;
      if (filled < size) continue;
      filled = 0;
      const next = decodeState(code, held);
      if (state === undefined) state = next;
      else mergeState(code, state, next);
    }
  };
  for await (const piece of pieces(from, from + length)) {
    for (let at = 0; at < piece.byteLength; at += TURN_STATES * size) {
      const over = turnOver();
      if (over !== undefined) await over;
      signal.throwIfAborted();
      const began = performance.now();
      take(piece.subarray(at, at + TURN_STATES * size));
      meter.cpuMs += performance.now() - began;
    }
  }
  if (filled > 0) decodeState(code, held.subarray(0, filled));
  const all = state ?? emptyState(code);
  if (code.stage === Stage.MERGE) return encodeState(code, all);
  return new TextEncoder().encode(valueCodec.encode(valueOf(code, all), "packet code gave"));
}

/** Small ranges of a stream follow each other, and its first bytes are remembered. */
async function* onceRead(stream: StreamInput, start: number, end: number): AsyncGenerator<Uint8Array> {
  if (end > start) yield await stream.read(start, end);
}

async function* onePiece(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  if (bytes.byteLength > 0) yield bytes;
}

function requireRange(from: number, length: number, available: number): void {
  if (from + length <= available) return;
  const data = { start: from, end: from + length, length: available };
  const text = `it reads to byte ${from + length} of an input of ${available} bytes`;
  throw new StreamError(StreamErrorCode.invalidRange, text, data);
}
