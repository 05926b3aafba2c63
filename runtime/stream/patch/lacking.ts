/**
 * What somebody lacks of a root who has others: its streams and chunks that are not below those, in order. Both trees are gone
 * down together. A sub-stream that both have is everything below it, so two versions of a file cost their difference.
 */
import type { Ref } from "../../../packets/digest.ts";
import { Offset, Op, PACKET_BYTES } from "../../../packets/layout.ts";
import { CALL_DEPTH_MAX } from "../../../packets/limits.ts";
import { atOf, fromAt, lengthAt, opAt, refOf } from "../../../packets/packet.ts";
import { WHOLE_LIMITS, checkPlan } from "../../../packets/plan.ts";
import type { Stream } from "../../../packets/stream-reader.ts";
import { PATCH_REFS_MAX, PATCH_UNIT_CHUNKS, PATCH_UNIT_STREAMS, TURN_STEP_PACKETS } from "../../limits.ts";
import { turnOver } from "../../turns.ts";
import type { StreamCache } from "../caches.ts";
import type { BaseStream, Bases } from "./bases.ts";
import { RefTable } from "./ref-table.ts";

/** A place that both have: in the new bytes, and in the row of the old ones. */
export interface Anchor {
  readonly at: number;
  readonly base: number;
}

export interface LackingChunk {
  readonly ref: Ref;
  /** Where it stands in the new bytes. */
  readonly at: number;
  /** Its bytes as far as its packet tells: it may be longer. */
  readonly length: number;
}

/** Lacking chunks one behind the other. */
export interface LackingRun {
  readonly chunks: LackingChunk[];
  /** Where what both have ends before it, and begins again behind it, where that is known. */
  readonly before: Anchor | undefined;
  after: Anchor | undefined;
}

export interface LackingStream {
  readonly frame: Uint8Array;
  /** Those of the bases that name most of what it names, the best first. */
  readonly like: readonly BaseStream[];
}

/** Whether somebody has all streams and chunks of these bytes of the root already. */
export type IsThere = (from: number, end: number) => boolean;

/** Some of what is lacking. Each stream comes before the chunks and streams that it names, or together with them. */
export interface LackingUnit {
  readonly streams: LackingStream[];
  readonly runs: LackingRun[];
}

/** Streams of a base that a stream is written against. */
const LIKE_MAX = 3;
/** A stream is like another one that names so many of the same. */
const LIKE_PACKETS_MIN = 4;

/**
 * Goes through a plain root. Everything comes once, and what the bases have not at all; of trees of more than PATCH_REFS_MAX
 * refs some of it may. Rejects with PFS_STREAM_NOT_PLAIN for what has to be computed, and as reading streams does.
 */
export async function* lacking(
  streams: StreamCache,
  root: Ref,
  bases: Bases,
  signal: AbortSignal,
  isThere: IsThere = () => false,
): AsyncGenerator<LackingUnit, void, undefined> {
  if (!bases.isRoot(root)) yield* new Walk(streams, bases, signal, isThere).run(root);
}

class Walk {
  readonly #streams: StreamCache;
  readonly #bases: Bases;
  readonly #signal: AbortSignal;
  readonly #isThere: IsThere;
  readonly #met = new RefTable(PATCH_REFS_MAX);
  #unit: LackingUnit = { streams: [], runs: [] };
  #chunks = 0;
  #run: LackingRun | undefined;
  #before: Anchor | undefined;

  constructor(streams: StreamCache, bases: Bases, signal: AbortSignal, isThere: IsThere) {
    this.#isThere = isThere;
    this.#streams = streams;
    this.#bases = bases;
    this.#signal = signal;
  }

  async *run(root: Ref): AsyncGenerator<LackingUnit, void, undefined> {
    const stream = await this.#streams.get(root);
    if (stream.length === 0 || !this.#isThere(0, stream.length)) yield* this.#stream(stream, 0, 0);
    if (this.#unit.streams.length > 0 || this.#chunks > 0) yield this.#unit;
  }

  async *#stream(stream: Stream, start: number, depth: number): AsyncGenerator<LackingUnit, void, undefined> {
    checkPlan(stream, WHOLE_LIMITS, 0);
    const { frame, count } = stream;
    await this.#bases.loadAround(this.#expected(start) + stream.length);
    this.#unit.streams.push({ frame, like: this.#like(stream) });
    for (let index = 0; index < count; index++) {
      if (index % TURN_STEP_PACKETS === 0) {
        await turnOver();
        this.#signal.throwIfAborted();
      }
      const op = opAt(frame, index);
      if (op !== Op.COPY && op !== Op.CALL) continue;
      const at = start + atOf(frame, index) - fromAt(frame, index);
      const length = lengthAt(frame, index);
      if (this.#has(frame, index, start)) continue;
      if (!this.#met.add(frame, index * PACKET_BYTES + Offset.ref, at, 0)) continue;
      if (this.#isThere(start + atOf(frame, index), start + atOf(frame, index) + length)) {
        this.#run = undefined;
        continue;
      }
      if (op === Op.COPY)
        this.#lacks({ ref: refOf(frame, index), at, length: fromAt(frame, index) + length });
      else if (depth >= CALL_DEPTH_MAX) checkPlan(stream, { ...WHOLE_LIMITS, outputBytesMax: 0 });
      else yield* this.#stream(await this.#streams.get(refOf(frame, index)), at, depth + 1);
      // Streams are told first of all that they name: what is under way below this one waits for its next packet.
      const isFull = this.#chunks >= PATCH_UNIT_CHUNKS || this.#unit.streams.length >= PATCH_UNIT_STREAMS;
      if (isFull) yield this.#take();
    }
  }

  #take(): LackingUnit {
    const unit = this.#unit;
    this.#unit = { streams: [], runs: [] };
    this.#chunks = 0;
    this.#run = undefined;
    return unit;
  }

  #lacks(chunk: LackingChunk): void {
    if (this.#run === undefined) {
      this.#run = { chunks: [], before: this.#before, after: undefined };
      this.#unit.runs.push(this.#run);
    }
    this.#run.chunks.push(chunk);
    this.#chunks++;
  }

  /** Whether a base has what the packet at `index` names; it says where things are then. */
  #has(frame: Uint8Array, index: number, start: number): boolean {
    const found = this.#bases.find(frame, index);
    if (found === undefined) return false;
    const base = found.at + fromAt(frame, index);
    const at = start + atOf(frame, index);
    if (!Number.isNaN(base)) {
      if (this.#run !== undefined) this.#run.after = { at, base };
      this.#before = { at: at + lengthAt(frame, index), base: base + lengthAt(frame, index) };
    }
    this.#run = undefined;
    return true;
  }

  /** Where the byte at a place of the new bytes would be among the old ones if nothing had moved since the last thing that both have. */
  #expected(at: number): number {
    return this.#before === undefined ? at : this.#before.base + at - this.#before.at;
  }

  #like({ frame, count }: Stream): BaseStream[] {
    const named = new Map<number, number>();
    for (let index = 0; index < count; index++) {
      const op = opAt(frame, index);
      if (op !== Op.COPY && op !== Op.CALL) continue;
      const found = this.#bases.find(frame, index);
      if (found !== undefined) named.set(found.owner, (named.get(found.owner) ?? 0) + 1);
    }
    return [...named]
      .filter(([, packets]) => packets >= Math.min(LIKE_PACKETS_MIN, count / 2))
      .toSorted(([, a], [, b]) => b - a)
      .slice(0, LIKE_MAX)
      .map(([owner]) => this.#bases.stream(owner));
  }
}
