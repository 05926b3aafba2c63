/**
 * Goes through the CALL tree of a stream without reading the chunks that its bytes are in: its sub-streams where they are
 * called, and everything that it needs.
 */
import { refAt, refFromHex, refKey, sameBytes } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { PacketErrorCode, PacketfsError } from "../../packets/errors.ts";
import { Flag, Op, REF_BYTES } from "../../packets/layout.ts";
import { CALL_DEPTH_MAX } from "../../packets/limits.ts";
import { atOf, flagsAt, opAt, refOf } from "../../packets/packet.ts";
import { checkCall } from "../../packets/plan.ts";
import { Stream } from "../../packets/stream-reader.ts";
import { parseManifest } from "../program/manifest.ts";
import { StoreErrorCode } from "../errors.ts";
import { WALK_REFS, WALK_STREAMS } from "../limits.ts";
import type { ChunkSource } from "../contracts/chunks.ts";
import { readStream } from "./caches.ts";

export interface WalkedStream {
  readonly ref: Ref;
  /** 0 for the top stream. */
  readonly depth: number;
  /** Where, in the top stream's output, that of the CALL begins. */
  readonly at: number;
  /** The packets, HALT included. */
  readonly frame: Uint8Array;
}

/**
 * Yields the top stream, then each sub-stream where it is called, before what it calls itself: one that is called twice comes
 * twice. Throws PFS_STREAM_INVALID, PFS_STREAM_OVER_LIMIT, PFS_STREAM_NOT_PLAIN, or what reading rejects with.
 */
export async function* walkStreams(
  source: ChunkSource,
  root: Ref,
  signal?: AbortSignal,
): AsyncGenerator<WalkedStream, void, undefined> {
  const top = await readStream(source, root, signal);
  yield { ref: root, depth: 0, at: 0, frame: top.frame };
  yield* walkCalls(source, top, 1, 0, signal);
}

const LIMITS = { outputBytesMax: Number.MAX_SAFE_INTEGER, depthMax: CALL_DEPTH_MAX };

async function* walkCalls(
  source: ChunkSource,
  stream: Stream,
  depth: number,
  base: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<WalkedStream, void, undefined> {
  const { frame, count } = stream;
  for (let from = 0; from < count;) {
    const { calls, next } = callsFrom(stream, from);
    from = next;
    const chunks =
      calls.length === 0
        ? []
        : await source.read(
            calls.map((index) => refOf(frame, index)),
            signal,
          );
    for (const [position, index] of calls.entries()) {
      const callee = Stream.parse(chunks[position]!);
      checkCall(frame, index, callee, depth, LIMITS);
      const at = base + atOf(frame, index);
      yield { ref: refOf(frame, index), depth, at, frame: callee.frame };
      yield* walkCalls(source, callee, depth + 1, at, signal);
    }
  }
}

/** The indexes of the next few CALLs from `from` on, and where to go on. */
function callsFrom({ frame, count }: Stream, from: number): { calls: number[]; next: number } {
  const calls: number[] = [];
  let next = from;
  for (; next < count && calls.length < WALK_STREAMS; next++)
    if (opAt(frame, next) === Op.CALL) calls.push(next);
  return { calls, next };
}

/** What a chunk is: what names it says so, its bytes alone do not. */
export const ChunkKind = { data: "data", stream: "stream", program: "program" } as const;
export type ChunkKind = (typeof ChunkKind)[keyof typeof ChunkKind];

type Meet = (kind: ChunkKind, ref: Ref) => void;

/** What the chunks of a kind name, and need to be of use. Those that are not here name nothing. */
const NAMED_BY: ReadonlyMap<ChunkKind, (bytes: Uint8Array, meet: Meet) => void> = new Map([
  [ChunkKind.stream, namedByStream],
  [ChunkKind.program, namedByProgram],
]);

export interface ReachableOptions {
  readonly signal?: AbortSignal | undefined;
  /** Chunks that need no second look, and those that got their first: to go through many roots with little work. */
  readonly seen?: Set<string>;
}

/**
 * Yields the refs of everything that the streams need to be executed, themselves included, n × 32 bytes at a time: chunks,
 * sub-streams, and the programs of derived streams. What names others comes once; a chunk of data as often as it is named.
 * Rejects as reading and parsing streams does.
 */
export async function* reachable(
  source: ChunkSource,
  roots: Ref | readonly Ref[],
  { signal, seen = new Set() }: ReachableOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  const found = new FoundRefs();
  const waiting = new Map<ChunkKind, Ref[]>([...NAMED_BY.keys()].map((kind) => [kind, []]));
  const meet: Meet = (kind, ref) => {
    const toRead = waiting.get(kind);
    if (toRead !== undefined) {
      const key = `${kind} ${refKey(ref)}`;
      if (seen.has(key)) return;
      seen.add(key);
      toRead.push(ref);
    }
    found.add(ref);
  };
  for (const root of roots instanceof Uint8Array ? [roots] : roots) meet(ChunkKind.stream, root);
  while ([...waiting.values()].some(({ length }) => length > 0)) {
    for (const [kind, namedBy] of NAMED_BY) {
      // From the end: depth first, so that what waits stays as little as a few branches of the tree.
      const refs = waiting.get(kind)!.splice(-WALK_STREAMS);
      if (refs.length === 0) continue;
      for (const bytes of await source.read(refs, signal)) {
        namedBy(bytes, meet);
        yield* found.takeFull();
      }
    }
  }
  yield* found.takeAll();
}

/**
 * The first chunk found that a stream needs and `has` says 0 of; undefined when it has all of its own. Rejects as `reachable`
 * does: what names others has to be read.
 */
export async function firstMissing(
  source: ChunkSource,
  root: Ref,
  has: (refs: Uint8Array) => Promise<Uint8Array>,
  options?: ReachableOptions,
): Promise<Ref | undefined> {
  for await (const refs of reachable(source, root, options)) {
    const missing = (await has(refs)).indexOf(0);
    if (missing !== -1) return refAt(refs, missing);
  }
  return undefined;
}

/** What reading a stream rejects with that is not all there, or is no stream. */
const STREAM_FAULTS: ReadonlySet<string> = new Set([
  StoreErrorCode.chunkMissing,
  StoreErrorCode.chunkDamaged,
  PacketErrorCode.invalidPacket,
  PacketErrorCode.invalidStream,
]);

/**
 * Whether everything that a stream needs can be read, or `has` says 1 of it. Rejects with what leaves that open: an abort, a
 * disk or a peer that fails.
 */
export async function isComplete(
  source: ChunkSource,
  root: Ref,
  has: (refs: Uint8Array) => Promise<Uint8Array>,
  options?: ReachableOptions,
): Promise<boolean> {
  try {
    return (await firstMissing(source, root, has, options)) === undefined;
  } catch (error) {
    if (error instanceof PacketfsError && STREAM_FAULTS.has(error.code)) return false;
    throw error;
  }
}

function namedByStream(bytes: Uint8Array, meet: Meet): void {
  const { frame, count } = Stream.parse(bytes);
  let last: Ref | undefined;
  for (let index = 0; index < count; index++) {
    const op = opAt(frame, index);
    const flags = flagsAt(frame, index);
    const ref = refOf(frame, index);
    if (op === Op.CALL || (op === Op.EXEC && (flags & Flag.STREAM) !== 0)) meet(ChunkKind.stream, ref);
    else if (op === Op.LOAD && (flags & Flag.INLINE) === 0) meet(ChunkKind.program, ref);
    else if (op === Op.COPY || op === Op.EXEC) {
      // A patch takes many pieces of one chunk in a row.
      if (last === undefined || !sameBytes(last, ref)) meet(ChunkKind.data, ref);
      last = ref;
    }
  }
}

/** The root of the program's code; nothing when the chunk is no manifest, so that no code can be loaded through it. */
function namedByProgram(bytes: Uint8Array, meet: Meet): void {
  try {
    const code = refFromHex(parseManifest(bytes).code);
    if (code !== undefined) meet(ChunkKind.stream, code);
  } catch (error) {
    if (!(error instanceof PacketfsError)) throw error;
  }
}

/** Refs back to back, in buffers of WALK_REFS. */
class FoundRefs {
  #full: Uint8Array[] = [];
  #buffer: Uint8Array = new Uint8Array(WALK_REFS * REF_BYTES);
  #used = 0;

  add(ref: Ref): void {
    this.#buffer.set(ref, this.#used);
    this.#used += REF_BYTES;
    if (this.#used < this.#buffer.byteLength) return;
    this.#full.push(this.#buffer);
    this.#buffer = new Uint8Array(WALK_REFS * REF_BYTES);
    this.#used = 0;
  }

  *takeFull(): Generator<Uint8Array, void, undefined> {
    yield* this.#full;
    this.#full = [];
  }

  *takeAll(): Generator<Uint8Array, void, undefined> {
    yield* this.takeFull();
    if (this.#used > 0) yield this.#buffer.subarray(0, this.#used);
  }
}
