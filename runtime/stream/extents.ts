/** The chunks that a range of a stream is copied from, for whoever reads them where they lie. */
import type { Ref } from "../../packets/digest.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import { WHOLE_LIMITS, checkPlan } from "../../packets/plan.ts";
import type { ChunkSource } from "../contracts/chunks.ts";
import { PIECE_BYTES_MIN } from "../limits.ts";
import { StreamCache } from "./caches.ts";
import { Cursor } from "./cursor.ts";
import type { PieceSink } from "./cursor.ts";

/** Pieces of a range in their order: each is `take` bytes of a chunk from `from` on. */
export interface Extents {
  /** n × 32 bytes. */
  readonly refs: Uint8Array;
  readonly from: Float64Array;
  readonly take: Float64Array;
}

interface Range {
  readonly start: number;
  readonly end: number;
  readonly signal: AbortSignal;
}

/**
 * Undefined where a packet of the range yields bytes of its own, or its pieces have fewer than PIECE_BYTES_MIN on average: a few
 * packets can make millions of those. Rejects as executing the range does.
 */
export async function rangeExtents(
  source: ChunkSource,
  root: Ref,
  { start, end, signal }: Range,
): Promise<Extents | undefined> {
  const streams = new StreamCache(source, signal);
  const top = await streams.get(root);
  checkPlan(top, WHOLE_LIMITS, end - start);
  const cursor = new Cursor(streams, WHOLE_LIMITS, top, start, end - start);
  const refs: Ref[] = [];
  const from: number[] = [];
  const take: number[] = [];
  const piecesMax = Math.ceil((end - start) / PIECE_BYTES_MIN);
  let hasLiteral = false;
  const sink: PieceSink = {
    get isFull() {
      return hasLiteral || take.length > piecesMax;
    },
    copy(ref, begin, bytes) {
      refs.push(ref);
      from.push(begin);
      take.push(bytes);
    },
    literal() {
      hasLiteral = true;
    },
  };
  await cursor.fill(sink, signal);
  if (hasLiteral || take.length > piecesMax) return undefined;
  const all = new Uint8Array(refs.length * REF_BYTES);
  for (let index = 0; index < refs.length; index++) all.set(refs[index]!, index * REF_BYTES);
  return { refs: all, from: Float64Array.from(from), take: Float64Array.from(take) };
}
