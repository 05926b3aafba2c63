/**
 * The leaves of a stream: the packets that yield bytes themselves, wherever in its tree they stand. Found by reading streams,
 * and none of the chunks that the bytes are in.
 */
import { refAt, refToHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { readInteger32 } from "../../packets/integer.ts";
import { Offset, Op, PACKET_BYTES, REF_BYTES } from "../../packets/layout.ts";
import { CALL_DEPTH_MAX } from "../../packets/limits.ts";
import { atOf, fromAt, lengthAt, opAt, refOf } from "../../packets/packet.ts";
import { WHOLE_LIMITS, checkPlan } from "../../packets/plan.ts";
import { Stream } from "../../packets/stream-reader.ts";
import type { ChunkSource } from "../contracts/chunks.ts";
import { TURN_STEP_PACKETS } from "../limits.ts";
import { inTurns, turnOver } from "../turns.ts";
import { StreamCache } from "./caches.ts";
import { Cursor } from "./cursor.ts";
import type { PieceSink } from "./cursor.ts";

/** Streams that are read together. */
const STREAMS_AT_ONCE = 64;

/** A stream on the way down, and what is looked for in it. */
interface Visit {
  readonly ref: Ref;
  /** Places in the result, and positions in the stream's output. */
  readonly places: number[];
  readonly positions: number[];
}

/**
 * The chunk at each position, n × 32 bytes; zeros where the bytes stand in the stream itself or nowhere. Rejects as
 * reading and parsing streams does.
 */
export async function leafRefs(
  source: ChunkSource,
  wanted: Iterable<{ readonly root: Ref; readonly position: number }>,
  signal: AbortSignal,
): Promise<Uint8Array> {
  let visits = new Map<string, Visit>();
  let count = 0;
  for (const { root, position } of wanted) note(visits, root, count++, position);
  const found = new Uint8Array(count * REF_BYTES);
  for (let depth = 0; visits.size > 0 && depth <= CALL_DEPTH_MAX; depth++) {
    const below = new Map<string, Visit>();
    const streams = [...visits.values()];
    while (streams.length > 0) {
      const some = streams.splice(-STREAMS_AT_ONCE);
      const chunks = await source.read(
        some.map(({ ref }) => ref),
        signal,
      );
      for (const [index, visit] of some.entries()) {
        await inTurns(descend(visit, chunks[index]!, found, below));
        signal.throwIfAborted();
      }
    }
    visits = below;
  }
  return found;
}

/** Where the leaves of a stream meet. */
export interface LeafBorders {
  /** Positions in what the stream yields, ascending: one leaf ends there and the next begins. */
  readonly at: Float64Array;
  /** The first four bytes of the ref of each leaf that begins there: as good as chance, and the same wherever it stands. */
  readonly rank: Uint32Array;
}

/**
 * The borders of a stream's leaves, those of its first `packetsMax` packets: further ones are not looked for. Rejects as
 * reading and parsing streams does.
 */
export async function leafBorders(
  source: ChunkSource,
  root: Ref,
  packetsMax: number,
  signal: AbortSignal,
): Promise<LeafBorders> {
  const streams = new StreamCache(source, signal);
  const at: number[] = [];
  const rank: number[] = [];
  let packets = 0;

  /** The bytes `from` to `end` of a stream stand from `base` on. */
  const visit = async (ref: Ref, from: number, end: number, base: number, depth: number): Promise<void> => {
    const stream = await streams.get(ref);
    const { frame } = stream;
    const first = stream.find(from);
    for (let index = Math.max(0, first); first >= 0 && index < stream.count; index++) {
      const start = Math.max(from, atOf(frame, index));
      if (start >= end || packets >= packetsMax) return;
      const over = ++packets % TURN_STEP_PACKETS === 0 ? turnOver() : undefined;
      if (over !== undefined) {
        await over;
        signal.throwIfAborted();
      }
      const op = opAt(frame, index);
      const position = base + start - from;
      if (op === Op.CALL && depth < CALL_DEPTH_MAX) {
        const inside = fromAt(frame, index) + start - atOf(frame, index);
        const stop = fromAt(frame, index) + Math.min(lengthAt(frame, index), end - atOf(frame, index));
        await visit(refOf(frame, index), inside, stop, position, depth + 1);
      } else if (lengthAt(frame, index) > 0 && position > 0) {
        at.push(position);
        rank.push(readInteger32(frame, index * PACKET_BYTES + Offset.ref));
      }
    }
  };

  await visit(root, 0, Number.MAX_SAFE_INTEGER, 0, 0);
  return { at: Float64Array.from(at), rank: Uint32Array.from(rank) };
}

function* descend(
  visit: Visit,
  chunk: Uint8Array,
  found: Uint8Array,
  below: Map<string, Visit>,
): Generator<void, void, undefined> {
  const stream = Stream.parse(chunk);
  const { frame } = stream;
  for (const [at, place] of visit.places.entries()) {
    if (at % TURN_STEP_PACKETS === 0) yield;
    const position = visit.positions[at]!;
    const index = stream.find(position);
    if (index < 0) continue;
    if (opAt(frame, index) === Op.COPY) refAt(found, place).set(refOf(frame, index));
    else if (opAt(frame, index) === Op.CALL) {
      const inside = position - atOf(frame, index) + fromAt(frame, index);
      note(below, refOf(frame, index), place, inside);
    }
  }
}

function note(visits: Map<string, Visit>, ref: Ref, place: number, position: number): void {
  const key = refToHex(ref);
  let visit = visits.get(key);
  if (visit === undefined) {
    visit = { ref, places: [], positions: [] };
    visits.set(key, visit);
  }
  visit.places.push(place);
  visit.positions.push(position);
}

/** What a range of a stream is made of, piece by piece in its order. */
export interface StreamPieces {
  /** Where each begins in the range, and its bytes. */
  readonly at: Float64Array;
  readonly length: Float64Array;
  /** The chunk that it is copied from, 32 bytes a piece, zeros for bytes that stand in the stream itself; and from where in it. */
  readonly refs: Uint8Array;
  readonly from: Float64Array;
}

/** The pieces of bytes `start` to `end`. Reads streams and no chunk of data. Rejects as executing the range does. */
export async function streamPieces(
  source: ChunkSource,
  root: Ref,
  start: number,
  end: number,
  signal: AbortSignal,
): Promise<StreamPieces> {
  const streams = new StreamCache(source, signal);
  const top = await streams.get(root);
  checkPlan(top, WHOLE_LIMITS, end - start);
  const cursor = new Cursor(streams, WHOLE_LIMITS, top, start, end - start);
  const at: number[] = [];
  const lengths: number[] = [];
  const from: number[] = [];
  const refs: Ref[] = [];
  let position = 0;
  const add = (ref: Ref, begin: number, length: number): void => {
    if (length === 0) return;
    at.push(position);
    lengths.push(length);
    from.push(begin);
    refs.push(ref);
    position += length;
  };
  const sink: PieceSink = {
    isFull: false,
    copy: (ref, begin, take) => add(ref, begin, take),
    literal: (_frame, _index, _skip, take) => add(NO_REF, 0, take),
  };
  await cursor.fill(sink, signal);
  const all = new Uint8Array(refs.length * REF_BYTES);
  for (const [index, ref] of refs.entries()) all.set(ref, index * REF_BYTES);
  return {
    at: Float64Array.from(at),
    length: Float64Array.from(lengths),
    refs: all,
    from: Float64Array.from(from),
  };
}

const NO_REF: Ref = new Uint8Array(REF_BYTES);

/**
 * The stream that is called as a whole for exactly the bytes `at` to `at + length`, for each of them; undefined where there is none.
 * Rejects as reading and parsing streams does.
 */
export async function calledStreams(
  source: ChunkSource,
  root: Ref,
  wanted: Iterable<{ readonly at: number; readonly length: number }>,
  signal: AbortSignal,
): Promise<(Ref | undefined)[]> {
  const streams = new StreamCache(source, signal);
  const called: (Ref | undefined)[] = [];
  for (const { at, length } of wanted) {
    const over = turnOver();
    if (over !== undefined) await over;
    called.push(await calledStream(streams, root, at, length));
  }
  return called;
}

async function calledStream(
  streams: StreamCache,
  root: Ref,
  at: number,
  length: number,
): Promise<Ref | undefined> {
  let stream = await streams.get(root);
  let inside = at;
  for (let depth = 0; depth < CALL_DEPTH_MAX; depth++) {
    const { frame } = stream;
    const index = stream.find(inside);
    if (index < 0 || opAt(frame, index) !== Op.CALL) return undefined;
    const ref = refOf(frame, index).slice();
    const begins = atOf(frame, index);
    const from = fromAt(frame, index);
    const isIt = begins === inside && lengthAt(frame, index) === length && from === 0;
    stream = await streams.get(ref);
    if (isIt) return stream.length === length ? ref : undefined;
    inside += from - begins;
  }
  return undefined;
}
