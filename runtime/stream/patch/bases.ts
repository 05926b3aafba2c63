/**
 * What a receiver has: roots, one behind the other in one row of bytes, so that a position says which of them and where. Their
 * streams are read little by little, and those that the other tree has as well not at all.
 */
import { Codec, discardPlain } from "../../../packets/codec.ts";
import { refKey, sameBytes } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { Offset, Op, PACKET_BYTES } from "../../../packets/layout.ts";
import { CALL_DEPTH_MAX, STREAM_PACKETS_MAX } from "../../../packets/limits.ts";
import { atOf, fromAt, lengthAt, opAt, refOf } from "../../../packets/packet.ts";
import type { BaseRange } from "../../../packets/patch.ts";
import { WHOLE_LIMITS, checkPlan, planRange } from "../../../packets/plan.ts";
import type { Stream } from "../../../packets/stream-reader.ts";
import type { ChunkSource } from "../../contracts/chunks.ts";
import {
  PATCH_AHEAD_BYTES,
  PATCH_CACHE_BYTES,
  PATCH_REFS_MAX,
  READ_AHEAD_BYTES,
  TURN_STEP_PACKETS,
} from "../../limits.ts";
import { readOwn } from "../../read-each.ts";
import { turnOver } from "../../turns.ts";
import { StreamCache } from "../caches.ts";
import { Cursor } from "../cursor.ts";
import { PieceBatch } from "../piece-batch.ts";
import { RefTable } from "./ref-table.ts";

/** A base's place in the row of all. */
interface Base {
  readonly root: Ref;
  readonly start: number;
  readonly end: number;
}

/**
 * Chunks that were read last. Their bytes stay where they were read: neighbours were read together, and are forgotten
 * together. Memory that is its own is freed when nobody reads any more who may have got it.
 */
class RecentChunks {
  readonly #source: ChunkSource;
  readonly #chunks = new Map<string, Uint8Array>();
  #bytes = 0;
  /** Reads that are under way, by numbers that rise; and what was forgotten, with the number of the last read that may have it. */
  readonly #reads = new Set<number>();
  #lastRead = 0;
  #forgotten: { readonly bytes: Uint8Array; readonly read: number }[] = [];

  constructor(source: ChunkSource) {
    this.#source = source;
  }

  /** Calls `use` with the chunks, whose bytes are there until it returns. */
  async use<Result>(
    refs: readonly Ref[],
    signal: AbortSignal,
    use: (chunks: readonly Uint8Array[]) => Result,
  ): Promise<Result> {
    const read = ++this.#lastRead;
    this.#reads.add(read);
    try {
      return use(await this.#read(refs, signal));
    } finally {
      this.#reads.delete(read);
      this.#free();
    }
  }

  async #read(refs: readonly Ref[], signal: AbortSignal): Promise<Uint8Array[]> {
    const found = refs.map((ref) => this.#chunks.get(refKey(ref)));
    const missing = refs.filter((_ref, index) => found[index] === undefined);
    const read = missing.length === 0 ? [] : await readOwn(this.#source, missing, signal);
    let next = 0;
    return refs.map((ref, index) => {
      const bytes = found[index] ?? read[next++]!;
      this.#keep(refKey(ref), bytes);
      return bytes;
    });
  }

  #keep(key: string, bytes: Uint8Array): void {
    // A read that was waiting for others has it still.
    const again = this.#forgotten.findIndex((forgotten) => forgotten.bytes === bytes);
    if (again >= 0) this.#forgotten.splice(again, 1);
    if (this.#chunks.delete(key)) this.#bytes -= bytes.byteLength;
    this.#chunks.set(key, bytes);
    this.#bytes += bytes.byteLength;
    for (const [oldest, chunk] of this.#chunks) {
      if (this.#bytes <= PATCH_CACHE_BYTES) break;
      this.#chunks.delete(oldest);
      this.#bytes -= chunk.byteLength;
      if (this.#source.readOwn !== undefined) this.#forgotten.push({ bytes: chunk, read: this.#lastRead });
    }
  }

  #free(): void {
    const [first = Number.POSITIVE_INFINITY] = this.#reads;
    let count = 0;
    while (count < this.#forgotten.length && this.#forgotten[count]!.read < first)
      discardPlain(this.#forgotten[count++]!.bytes, Codec.zstd);
    this.#forgotten.splice(0, count);
  }
}

/** Bytes of roots, read in ranges that lie near each other. */
export class BaseBytes {
  readonly streams: StreamCache;
  readonly #chunks: RecentChunks;
  readonly #signal: AbortSignal;

  constructor(source: ChunkSource, signal: AbortSignal) {
    this.#chunks = new RecentChunks(source);
    this.streams = new StreamCache(source, signal);
    this.#signal = signal;
  }

  /** Bytes that the root yields. Rejects with PFS_STREAM_NOT_PLAIN and as reading a stream does. */
  async lengthOf(root: Ref): Promise<number> {
    const stream = await this.streams.get(root);
    checkPlan(stream, WHOLE_LIMITS, 0);
    return stream.length;
  }

  /** Writes `target.length` bytes from `from` on, which the root must have. Rejects as `execute` does. */
  async read(root: Ref, from: number, target: Uint8Array): Promise<void> {
    const top = await this.streams.get(root);
    checkPlan(top, WHOLE_LIMITS, target.byteLength);
    const cursor = new Cursor(this.streams, WHOLE_LIMITS, top, from, target.byteLength);
    let written = 0;
    while (!cursor.isDone) {
      const batch = new PieceBatch(READ_AHEAD_BYTES);
      await cursor.fill(batch, this.#signal);
      await this.#chunks.use(batch.refs, this.#signal, (chunks) => {
        for (const bytes of batch.output(chunks)) {
          target.set(bytes, written);
          written += bytes.byteLength;
        }
      });
    }
  }

  /** The bytes of the ranges, one behind the other. Rejects as `read` does. */
  async readAll(ranges: readonly BaseRange[], target: Uint8Array): Promise<void> {
    let at = 0;
    for (const { root, from, length } of ranges) {
      await this.read(root, from, target.subarray(at, at + length));
      at += length;
    }
  }

  /**
   * The packets of all streams that yield these bytes of the root, depth first; undefined where they are more than
   * `bytesMax`. Rejects as reading streams does.
   */
  async packets(
    root: Ref,
    from: number,
    length: number,
    bytesMax: number,
  ): Promise<Uint8Array[] | undefined> {
    const frames: Uint8Array[] = [];
    let bytes = 0;
    const visit = async (ref: Ref, start: number, take: number, depth: number): Promise<boolean> => {
      const stream = await this.streams.get(ref);
      bytes += stream.frame.byteLength;
      if (bytes > bytesMax || depth > CALL_DEPTH_MAX || !stream.isPlain) return false;
      frames.push(stream.frame);
      const end = Math.min(start + take, stream.length);
      if (start >= end) return true;
      const plan = planRange(stream, start, end - start);
      for (let index = plan.first; index < plan.end; index++) {
        if (opAt(stream.frame, index) !== Op.CALL) continue;
        const at = atOf(stream.frame, index);
        const inside = Math.max(0, start - at);
        const stop = Math.min(lengthAt(stream.frame, index), end - at);
        const below = fromAt(stream.frame, index) + inside;
        if (!(await visit(refOf(stream.frame, index), below, stop - inside, depth + 1))) return false;
        this.#signal.throwIfAborted();
      }
      return true;
    };
    return (await visit(root, from, length, 0)) ? frames : undefined;
  }
}

/** A stream of a base, and where its bytes are. */
export interface BaseStream {
  readonly at: number;
  readonly length: number;
}

export class Bases {
  readonly bytes: BaseBytes;
  /** The bytes of all bases. */
  length = 0;
  readonly #refs: RefTable = new RefTable(PATCH_REFS_MAX);
  readonly #streams: BaseStream[] = [];
  readonly #rows: Base[] = [];
  readonly #signal: AbortSignal;
  #walk: AsyncGenerator<number, void, undefined> | undefined;
  /** What stands before it is known. */
  #known = 0;

  constructor(source: ChunkSource, signal: AbortSignal) {
    this.bytes = new BaseBytes(source, signal);
    this.#signal = signal;
  }

  /** `isShared` says which streams the other tree has too. */
  async open(roots: readonly Ref[], isShared: (frame: Uint8Array, offset: number) => boolean): Promise<void> {
    for (const root of roots) {
      const length = await this.bytes.lengthOf(root);
      this.#rows.push({ root, start: this.length, end: this.length + length });
      this.length += length;
    }
    this.#walk = this.#walkAll(isShared);
  }

  /** Learns what stands around a position, and far ahead of it. */
  async loadAround(position: number): Promise<void> {
    while (this.#walk !== undefined && this.#known < position + PATCH_AHEAD_BYTES) {
      const { done, value } = await this.#walk.next();
      if (done === true) this.#walk = undefined;
      else this.#known = value;
    }
  }

  /** Where the chunk or stream of the packet at `index` stands, and in which stream. */
  find(frame: Uint8Array, index: number): { readonly at: number; readonly owner: number } | undefined {
    return this.#refs.find(frame, index * PACKET_BYTES + Offset.ref);
  }

  isRoot(ref: Ref): boolean {
    return this.#rows.some(({ root }) => sameBytes(root, ref));
  }

  stream(owner: number): BaseStream {
    return this.#streams[owner]!;
  }

  /** The part of `from` to `end` that is one base's: of the base that has most of it. */
  rangeOf(from: number, end: number): BaseRange | undefined {
    let best: BaseRange | undefined;
    for (const { root, start, end: stop } of this.#rows) {
      const [first, last] = [Math.max(from, start), Math.min(end, stop)];
      if (last - first > (best?.length ?? 0)) best = { root, from: first - start, length: last - first };
    }
    return best;
  }

  /** `length` bytes from a place on, or those that its base still has. */
  rangeFrom(at: number, length: number): BaseRange {
    const { root, start, end } = this.#rows.find((row) => at < row.end)!;
    return { root, from: at - start, length: Math.min(length, end - at) };
  }

  async *#walkAll(
    isShared: (frame: Uint8Array, offset: number) => boolean,
  ): AsyncGenerator<number, void, undefined> {
    for (const { root, start, end } of this.#rows) {
      yield* this.#walkStream(await this.bytes.streams.get(root), start, 0, isShared);
      yield end;
    }
  }

  async *#walkStream(
    stream: Stream,
    start: number,
    depth: number,
    isShared: (frame: Uint8Array, offset: number) => boolean,
  ): AsyncGenerator<number, void, undefined> {
    const { frame, count } = stream;
    const owner = this.#streams.push({ at: start, length: stream.length }) - 1;
    for (let index = 0; index < count; index++) {
      if (index % TURN_STEP_PACKETS === 0) {
        await turnOver();
        this.#signal.throwIfAborted();
      }
      const op = opAt(frame, index);
      if (op !== Op.COPY && op !== Op.CALL) continue;
      const at = start + atOf(frame, index) - fromAt(frame, index);
      const offset = index * PACKET_BYTES + Offset.ref;
      const isNew = this.#refs.add(frame, offset, at, owner);
      if (op === Op.COPY || !isNew || isShared(frame, offset) || depth >= CALL_DEPTH_MAX) continue;
      const callee = await this.bytes.streams.get(refOf(frame, index));
      checkPlan(callee, WHOLE_LIMITS, 0);
      yield* this.#walkStream(callee, at, depth + 1, isShared);
      yield start + atOf(frame, index) + lengthAt(frame, index);
    }
  }
}

/** The refs of the streams that a tree calls, as far as they can be told without reading the streams that call no others. */
export async function calledStreams(streams: StreamCache, root: Ref, signal: AbortSignal): Promise<RefTable> {
  const called = new RefTable(PATCH_REFS_MAX);
  const heightOf = async (ref: Ref, depth: number): Promise<number> => {
    const { frame, count } = await streams.get(ref);
    for (let index = 0; index < Math.min(count, STREAM_PACKETS_MAX) && depth < CALL_DEPTH_MAX; index++) {
      if (opAt(frame, index) === Op.CALL) return 1 + (await heightOf(refOf(frame, index), depth + 1));
    }
    return 0;
  };
  const visit = async (ref: Ref, height: number): Promise<void> => {
    const { frame, count } = await streams.get(ref);
    for (let index = 0; index < count; index++) {
      if (opAt(frame, index) !== Op.CALL) continue;
      const isNew = called.add(frame, index * PACKET_BYTES + Offset.ref, 0, 0);
      if (isNew && height > 1) await visit(refOf(frame, index), height - 1);
      signal.throwIfAborted();
    }
  };
  await visit(root, await heightOf(root, 0));
  return called;
}
