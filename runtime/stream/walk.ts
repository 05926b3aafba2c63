/**
 * Goes through the CALL tree of a stream without reading the chunks that its bytes are in: its sub-streams where they are
 * called, and everything that it needs.
 */
import { refAt, refFromHex, refKey, sameBytes } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { PacketErrorCode, PacketfsError } from "../../packets/errors.ts";
import { Flag, Op, REF_BYTES } from "../../packets/layout.ts";
import { atOf, flagsAt, fromAt, lengthAt, opAt, refOf } from "../../packets/packet.ts";
import { WHOLE_LIMITS, checkCall } from "../../packets/plan.ts";
import { Stream } from "../../packets/stream-reader.ts";
import { parseManifest } from "../program/manifest.ts";
import { StoreErrorCode } from "../errors.ts";
import { TURN_STEP_PACKETS, WALK_CACHE_BYTES, WALK_REFS, WALK_STREAMS } from "../limits.ts";
import type { ChunkSizes, ChunkSource } from "../contracts/chunks.ts";
import { inTurns, turnOver } from "../turns.ts";
import { ChunkCache, readStream } from "./caches.ts";
import { readEach } from "../read-each.ts";
import { beyondChunk } from "./piece-batch.ts";

/** The same chunks, of which those that were read stay in memory, up to some: for who goes through streams more than once. */
export function remembering(source: ChunkSource): ChunkSource {
  return new ChunkCache(source, WALK_CACHE_BYTES);
}

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
      await turnOver();
      signal?.throwIfAborted();
      const callee = Stream.parse(chunks[position]!);
      checkCall(frame, index, callee, depth, WHOLE_LIMITS);
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
/** Meets everything that a chunk of these bytes names, and may be left for a while where it yields. */
type NamedBy = (bytes: Uint8Array, meet: Meet) => Generator<void, void, undefined>;

/** What the chunks of a kind name, and need to be of use. Those that are not here name nothing. */
const NAMED_BY: ReadonlyMap<ChunkKind, NamedBy> = new Map([
  [ChunkKind.stream, namedByStream],
  [ChunkKind.program, namedByProgram],
]);

export interface ReachableOptions {
  readonly signal?: AbortSignal | undefined;
  /** Chunks that need no second look, and those that got their first: to go through many roots with little work. */
  readonly seen?: Pick<Set<string>, "has" | "add">;
  /** Hears of what names others and cannot be read, or is not what it should be; the walk goes on without it then. */
  readonly onUnreadable?: (ref: Ref, error: PacketfsError) => void;
}

/**
 * Yields the refs of everything that the streams need to be executed, themselves included, n × 32 bytes at a time: chunks,
 * sub-streams, and the programs of derived streams. What names others comes once; a chunk of data as often as it is named.
 * Rejects as reading and parsing streams does, unless `onUnreadable` is there to hear of it.
 */
export async function* reachable(
  source: ChunkSource,
  roots: Ref | readonly Ref[],
  options: ReachableOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  const { seen = new Set() } = options;
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
      for (const [index, bytes] of (await readOrTell(source, refs, options)).entries()) {
        try {
          if (bytes !== undefined) await inTurns(namedBy(bytes, meet));
        } catch (error) {
          tell(refs[index]!, error, options);
        }
        options.signal?.throwIfAborted();
        yield* found.takeFull();
      }
    }
  }
  yield* found.takeAll();
}

/** The chunks, undefined where `onUnreadable` was told that one cannot be read. */
async function readOrTell(
  source: ChunkSource,
  refs: readonly Ref[],
  options: ReachableOptions,
): Promise<(Uint8Array | undefined)[]> {
  const { signal, onUnreadable } = options;
  if (onUnreadable === undefined) return await source.read(refs, signal);
  return (await readEach(source, refs, signal)).map((chunk, index) => {
    if (chunk instanceof Uint8Array) return chunk;
    onUnreadable(refs[index]!, chunk);
    return undefined;
  });
}

function tell(ref: Ref, error: unknown, { onUnreadable }: ReachableOptions): void {
  if (onUnreadable === undefined || !isStreamFault(error)) throw error;
  onUnreadable(ref, error);
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

/**
 * Checks that a plain stream reads nothing beyond the end of a sub-stream, or of a chunk whose size is known, and calls no
 * deeper than streams may. Reads each of its streams once, and none of the chunks that its bytes are in. Rejects with
 * PFS_STREAM_INVALID, PFS_STREAM_OVER_LIMIT or PFS_STREAM_NOT_PLAIN, and as reading streams does.
 */
export async function checkExtents(
  source: ChunkSource,
  root: Ref,
  sizes: ChunkSizes,
  signal?: AbortSignal,
): Promise<void> {
  await new ExtentCheck(source, sizes, signal).check(root);
}

/** What is kept of a stream that was checked. */
interface CheckedStream extends Pick<Stream, "length" | "isPlain" | "frame" | "count"> {
  /** How many CALLs stand within each other below it. */
  readonly height: number;
}

class ExtentCheck {
  readonly #source: ChunkSource;
  readonly #sizes: ChunkSizes;
  readonly #signal: AbortSignal | undefined;
  readonly #checked = new Map<string, CheckedStream>();
  /** COPYs that are not checked yet: their chunks, how far they read, and which packets of their streams they are. */
  readonly #refs = new Uint8Array(WALK_REFS * REF_BYTES);
  readonly #ends = new Float64Array(WALK_REFS);
  readonly #indexes = new Uint32Array(WALK_REFS);
  #copies = 0;

  constructor(source: ChunkSource, sizes: ChunkSizes, signal: AbortSignal | undefined) {
    this.#source = source;
    this.#sizes = sizes;
    this.#signal = signal;
  }

  async check(root: Ref): Promise<void> {
    await this.#visit(await readStream(this.#source, root, this.#signal), 0);
    await this.#checkCopies();
  }

  async #visit({ frame, count, length, isPlain }: Stream, depth: number): Promise<CheckedStream> {
    let height = 0;
    for (let index = 0; index < count; index++) {
      if (index % TURN_STEP_PACKETS === 0) {
        await turnOver();
        this.#signal?.throwIfAborted();
      }
      const op = opAt(frame, index);
      if (op === Op.COPY) {
        this.#note(frame, index);
        if (this.#copies === WALK_REFS) await this.#checkCopies();
      }
      if (op === Op.CALL) height = Math.max(height, (await this.#call(frame, index, depth + 1)) + 1);
    }
    return { length, isPlain, height, frame: NO_FRAME, count: 0 };
  }

  /** The height of what the CALL at `index` calls. */
  async #call(frame: Uint8Array, index: number, depth: number): Promise<number> {
    const ref = refOf(frame, index);
    const key = refKey(ref);
    let callee = this.#checked.get(key);
    if (callee === undefined) {
      const stream = await readStream(this.#source, ref, this.#signal);
      checkCall(frame, index, stream, depth, WHOLE_LIMITS);
      callee = await this.#visit(stream, depth);
      this.#checked.set(key, callee);
    }
    checkCall(frame, index, callee, depth + callee.height, WHOLE_LIMITS);
    return callee.height;
  }

  #note(frame: Uint8Array, index: number): void {
    this.#refs.set(refOf(frame, index), this.#copies * REF_BYTES);
    this.#ends[this.#copies] = fromAt(frame, index) + lengthAt(frame, index);
    this.#indexes[this.#copies++] = index;
  }

  async #checkCopies(): Promise<void> {
    const refs = this.#refs.slice(0, this.#copies * REF_BYTES);
    const sizes = await this.#sizes.sizes(refs);
    const beyond = sizes.findIndex((bytes, copy) => bytes > 0 && this.#ends[copy]! > bytes);
    if (beyond !== -1) throw beyondChunk(this.#indexes[beyond]!);
    this.#copies = 0;
  }
}

const NO_FRAME = new Uint8Array(0);

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
    if (isStreamFault(error)) return false;
    throw error;
  }
}

/** Whether the error says that a stream is not all there or is none, as opposed to a disk or a peer that fails. */
export function isStreamFault(error: unknown): error is PacketfsError {
  return error instanceof PacketfsError && STREAM_FAULTS.has(error.code);
}

function* namedByStream(bytes: Uint8Array, meet: Meet): Generator<void, void, undefined> {
  const { frame, count } = Stream.parse(bytes);
  let last: Ref | undefined;
  for (let index = 0; index < count; index++) {
    if (index % TURN_STEP_PACKETS === 0) yield;
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

/** The roots of the program's code and of its files; nothing when the chunk is no manifest, so that no code can be loaded through it. */
function* namedByProgram(bytes: Uint8Array, meet: Meet): Generator<void, void, undefined> {
  yield;
  try {
    const { code, files = {} } = parseManifest(bytes);
    for (const root of [code, ...Object.values(files).map((file) => file.root)]) {
      const ref = refFromHex(root);
      if (ref !== undefined) meet(ChunkKind.stream, ref);
    }
  } catch (error) {
    if (!(error instanceof PacketfsError)) throw error;
  }
}

/** WALK_REFS is a multiple of it, by a power of two. */
const FOUND_REFS_AT_FIRST = 64;

/** Refs back to back, in buffers of at most WALK_REFS: most streams need few. */
class FoundRefs {
  #full: Uint8Array[] = [];
  #buffer: Uint8Array = new Uint8Array(FOUND_REFS_AT_FIRST * REF_BYTES);
  #used = 0;

  add(ref: Ref): void {
    if (this.#used === this.#buffer.byteLength) this.#makeRoom();
    this.#buffer.set(ref, this.#used);
    this.#used += REF_BYTES;
  }

  *takeFull(): Generator<Uint8Array, void, undefined> {
    yield* this.#full;
    this.#full = [];
  }

  *takeAll(): Generator<Uint8Array, void, undefined> {
    yield* this.takeFull();
    if (this.#used > 0) yield this.#buffer.subarray(0, this.#used);
  }

  #makeRoom(): void {
    const old = this.#buffer;
    if (old.byteLength === WALK_REFS * REF_BYTES) {
      this.#full.push(old);
      this.#buffer = new Uint8Array(old.byteLength);
      this.#used = 0;
    } else {
      this.#buffer = new Uint8Array(2 * old.byteLength);
      this.#buffer.set(old);
    }
  }
}
