/** Where the inputs of EXEC packets come from: chunks and streams, those that were read last kept in memory. */
import { refKey } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { PacketError, PacketErrorCode } from "../../packets/errors.ts";
import type { PacketfsError } from "../../packets/errors.ts";
import { FaultCode } from "../../packets/faults.ts";
import { Op } from "../../packets/layout.ts";
import { atOf, lengthAt, opAt, refOf } from "../../packets/packet.ts";
import type { Stream } from "../../packets/stream-reader.ts";
import { StreamErrorCode } from "../errors.ts";
import { BORDER_STEP_BYTES, INPUT_CACHE_BYTES, INPUT_STREAMS_MAX, RUN_INPUT_BYTES_MAX } from "../limits.ts";
import type { ChunkSource } from "../contracts/chunks.ts";
import { ChunkCache, readStream } from "./caches.ts";
import { execute } from "./execute.ts";
import { rangeExtents } from "./extents.ts";
import type { Extents } from "./extents.ts";

/** Faults of an input that it has wherever it is read. */
const INPUT_FAULTS: ReadonlyMap<string, FaultCode> = new Map([
  [PacketErrorCode.invalidPacket, FaultCode.invalidStream],
  [PacketErrorCode.invalidStream, FaultCode.invalidStream],
  [PacketErrorCode.overLimit, FaultCode.streamOverLimit],
  [PacketErrorCode.notPlain, FaultCode.notPlain],
  [StreamErrorCode.wrongDigest, FaultCode.wrongDigest],
  [StreamErrorCode.invalidRange, FaultCode.invalidRange],
]);

/**
 * What a packet faults with when reading its input rejects with this. Anything but the input's own fault may be another one
 * elsewhere.
 */
export function inputFault({ code }: PacketfsError): FaultCode {
  return INPUT_FAULTS.get(code) ?? FaultCode.inputMissing;
}

export class InputSource {
  readonly #source: ChunkCache;
  readonly #streams = new Map<string, StreamFacts>();

  constructor(source: ChunkSource) {
    this.#source = new ChunkCache(source, INPUT_CACHE_BYTES);
  }

  /** Chunks in the order asked. Rejects with PFS_CHUNK_MISSING or PFS_CHUNK_DAMAGED. */
  chunks(refs: readonly Ref[], signal: AbortSignal): Promise<Uint8Array[]> {
    return this.#source.read(refs, signal);
  }

  /** Reads chunks that will be wanted next, together. Never rejects: what is wrong with one is told to whoever wants it. */
  async prefetch(refs: readonly Ref[], signal: AbortSignal): Promise<void> {
    await this.#source.read(refs, signal).catch(() => undefined);
  }

  /** The chunks in the order asked, where all of them are in memory. */
  cachedChunks(refs: readonly Ref[]): Uint8Array[] | undefined {
    return this.#source.cached(refs);
  }

  /** The stream `root`, to be read in ranges. Rejects with what describing it rejects with. */
  async stream(root: Ref, signal: AbortSignal): Promise<StreamInput> {
    const key = refKey(root);
    const facts = this.#streams.get(key) ?? (await this.#describe(root, signal));
    this.#streams.delete(key);
    this.#streams.set(key, facts);
    for (const oldest of this.#streams.keys()) {
      if (this.#streams.size <= INPUT_STREAMS_MAX) break;
      this.#streams.delete(oldest);
    }
    return new StreamInput(this.#source, facts, signal);
  }

  /** Nothing that was read stays in memory, but for those who read it now. */
  forget(): void {
    this.#source.clear();
    this.#streams.clear();
  }

  async #describe(root: Ref, signal: AbortSignal): Promise<StreamFacts> {
    const own = root.slice();
    const stream = await readStream(this.#source, own, signal);
    if (!stream.isPlain) {
      throw new PacketError(PacketErrorCode.notPlain, "it is a stream that has to be computed first", {
        op: "EXEC",
      });
    }
    return { root: own, length: stream.length, head: bytesWithin(stream) };
  }
}

/** What a short stream yields, where all of it stands in its packets: small results that are merged, above all. */
function bytesWithin({ frame, count, length, digest }: Stream): Uint8Array | undefined {
  if (length > BORDER_STEP_BYTES || digest !== undefined) return undefined;
  const bytes = new Uint8Array(length);
  for (let index = 0; index < count; index++) {
    if (opAt(frame, index) !== Op.DATA) return undefined;
    bytes.set(refOf(frame, index).subarray(0, lengthAt(frame, index)), atOf(frame, index));
  }
  return bytes;
}

/** What is remembered of a stream from frame to frame. */
interface StreamFacts {
  readonly root: Ref;
  /** Bytes that it yields. */
  readonly length: number;
  /** Its first bytes, once somebody read them. */
  head: Uint8Array | undefined;
}

/**
 * One stream read in ranges: what is read in order is read ahead of, because packets with small inputs follow one another
 * through a stream; what is read here and there costs what it reads. One per frame; the stream's beginning, which CSV
 * headers are read from, is shared by all.
 */
export class StreamInput {
  readonly #source: ChunkSource;
  readonly #facts: StreamFacts;
  readonly #signal: AbortSignal;
  #region: Uint8Array = new Uint8Array(0);
  #regionStart = -1;

  constructor(source: ChunkSource, facts: StreamFacts, signal: AbortSignal) {
    this.#source = source;
    this.#facts = facts;
    this.#signal = signal;
  }

  get root(): Ref {
    return this.#facts.root;
  }

  get length(): number {
    return this.#facts.length;
  }

  /** The same as `read`, where it needs no waiting: undefined for bytes that were not read yet. */
  held(start: number, end: number): Uint8Array | undefined {
    const { head } = this.#facts;
    if (head !== undefined && end <= head.byteLength) return head.subarray(start, end);
    const from = start - this.#regionStart;
    if (from < 0 || end - this.#regionStart > this.#region.byteLength) return undefined;
    return this.#region.subarray(from, end - this.#regionStart);
  }

  /**
   * Bytes `start` to `end` as a view that stays valid; those up to `until` will be wanted next. Rejects with what the machine
   * rejects with.
   */
  async read(start: number, end: number, until: number = end): Promise<Uint8Array> {
    const held = this.held(start, end);
    if (held !== undefined) return held;
    const { head } = this.#facts;
    const regionEnd = this.#regionStart + this.#region.byteLength;
    const inOrder = start >= this.#regionStart && start <= regionEnd;
    const ahead = inOrder ? RUN_INPUT_BYTES_MAX : start === 0 ? BORDER_STEP_BYTES : 0;
    const wanted = until > end ? until : start + ahead;
    const stop = Math.min(this.#facts.length, Math.max(end, wanted));
    this.#region = await this.#collect(start, stop);
    this.#regionStart = start;
    if (start === 0 && head === undefined) this.#facts.head = this.#region.slice(0, BORDER_STEP_BYTES);
    return this.#region.subarray(0, end - start);
  }

  /** Bytes `start` to `end` in pieces, for ranges that are too large to hold. */
  pieces(start: number, end: number): AsyncIterable<Uint8Array> {
    return execute(this.#source, this.#facts.root, { start, end, signal: this.#signal });
  }

  /** What bytes `start` to `end` are copied from; undefined where some of them are not copied. Rejects as reading them does. */
  async extents(start: number, end: number): Promise<Extents | undefined> {
    return await rangeExtents(this.#source, this.#facts.root, { start, end, signal: this.#signal });
  }

  async #collect(start: number, end: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(Buffer.allocUnsafeSlow(end - start).buffer);
    let at = 0;
    for await (const piece of this.pieces(start, end)) {
      bytes.set(piece, at);
      at += piece.byteLength;
    }
    if (at !== bytes.byteLength) throw new Error(`a range of ${bytes.byteLength} bytes yielded ${at}`);
    return bytes;
  }
}
