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
import { Stream } from "../../packets/stream-reader.ts";
import type { ChunkSource } from "../contracts/chunks.ts";
import { TURN_STEP_PACKETS } from "../limits.ts";
import { inTurns, turnOver } from "../turns.ts";
import { StreamCache } from "./caches.ts";

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
