/** Which chunks of a stream hold the bytes at some positions, found by going down its tree and nowhere else. */
import { refAt, refToHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { Op, REF_BYTES } from "../../packets/layout.ts";
import { CALL_DEPTH_MAX } from "../../packets/limits.ts";
import { atOf, fromAt, opAt, refOf } from "../../packets/packet.ts";
import { Stream } from "../../packets/stream-reader.ts";
import type { ChunkSource } from "../contracts/chunks.ts";

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
      some.forEach((visit, index) => descend(visit, Stream.parse(chunks[index]!), found, below));
    }
    visits = below;
  }
  return found;
}

function descend(visit: Visit, stream: Stream, found: Uint8Array, below: Map<string, Visit>): void {
  const { frame } = stream;
  visit.places.forEach((place, at) => {
    const position = visit.positions[at]!;
    const index = stream.find(position);
    if (index < 0) return;
    if (opAt(frame, index) === Op.COPY) refAt(found, place).set(refOf(frame, index));
    else if (opAt(frame, index) === Op.CALL) {
      const inside = position - atOf(frame, index) + fromAt(frame, index);
      note(below, refOf(frame, index), place, inside);
    }
  });
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
