/**
 * What of a root a peer has that has not got the root: asked before the root is sent there, where nothing says which other roots the
 * peer has that are like it. One question is about a few of its chunks, and only where it has some of them, others about all.
 */
import { packetCount, atOf, lengthAt, opAt, refOf } from "../../packets/packet.ts";
import type { Ref } from "../../packets/digest.ts";
import { Op } from "../../packets/layout.ts";
import type { ChunkSource } from "../../runtime/contracts/chunks.ts";
import { TURN_STEP_PACKETS } from "../../runtime/limits.ts";
import { walkStreams } from "../../runtime/stream/walk.ts";
import { turnOver } from "../../runtime/turns.ts";
import { CHUNKS_TRIED } from "../limits.ts";
import type { RemoteStore } from "./remote-store.ts";

/** Whether a stream or chunk that yields these bytes, and all below it, is there. */
export type IsThere = (from: number, end: number) => boolean;

/** Streams and chunks of a root, each behind the stream that names it. */
class Rows {
  readonly refs: Ref[] = [];
  readonly #places: string[] = [];
  readonly #above: number[] = [];

  add(ref: Ref, from: number, length: number, above: number): number {
    this.refs.push(ref);
    this.#places.push(placeOf(from, from + length));
    return this.#above.push(above) - 1;
  }

  /** The places of those that are there with all below them. */
  places(there: Uint8Array): ReadonlySet<string> {
    const whole = there.slice();
    for (let row = whole.length - 1; row > 0; row--) {
      if (whole[row] === 0) whole[this.#above[row]!] = 0;
    }
    const places = new Set(this.#places.filter((_, row) => whole[row] === 1));
    // A stream of one chunk yields the bytes that the chunk does.
    this.#places.forEach((place, row) => whole[row] === 0 && places.delete(place));
    return places;
  }
}

/**
 * Asks `peer` what it has of a root that `source` has. Undefined where that is nothing, or the root itself, of which it tells more when
 * it is offered. Rejects as asking does, and as going through the root.
 */
export async function chunksThere(
  peer: Pick<RemoteStore, "hasItself">,
  source: ChunkSource,
  root: Ref,
  signal: AbortSignal | undefined,
): Promise<IsThere | undefined> {
  const rows = await rowsOf(source, root, signal);
  const step = Math.ceil(rows.refs.length / CHUNKS_TRIED);
  const some = rows.refs.filter((_, row) => row % step === 0);
  const tried = await peer.hasItself(Buffer.concat(some), signal);
  if (tried[0] === 1 || !tried.includes(1)) return undefined;
  const places = rows.places(await peer.hasItself(Buffer.concat(rows.refs), signal));
  return (from, end) => places.has(placeOf(from, end));
}

async function rowsOf(source: ChunkSource, root: Ref, signal: AbortSignal | undefined): Promise<Rows> {
  const rows = new Rows();
  const streams: number[] = [];
  for await (const { ref, depth, at, frame } of walkStreams(source, root, signal)) {
    const halt = packetCount(frame) - 1;
    const own = rows.add(ref, at, lengthAt(frame, halt), streams[depth - 1] ?? 0);
    streams[depth] = own;
    for (let index = 0; index < halt; index++) {
      if (index % TURN_STEP_PACKETS === 0) await turnOver();
      if (opAt(frame, index) === Op.COPY)
        rows.add(refOf(frame, index), at + atOf(frame, index), lengthAt(frame, index), own);
    }
  }
  return rows;
}

function placeOf(from: number, end: number): string {
  return `${from} ${end}`;
}
