/**
 * Writes a file as a stream of packets, and a long stream as a tree of them:
 *
 *   level 2                    CALL  CALL                    ← the root is the SHA-256 of this stream
 *                             /         \
 *   level 1        CALL  CALL  CALL       CALL  CALL
 *                  /      |      \         |      \
 *   level 0    COPY COPY … HALT  …         …       …        each a stream chunk with `at` from zero
 *
 * The same pieces in the same order give the same root, always. Memory is one sub-stream per level, however long the file.
 */
import { sha256 } from "./digest.ts";
import type { Ref } from "./digest.ts";
import { PacketError, PacketErrorCode } from "./errors.ts";
import { INLINE_BYTES_MAX, Op, PACKET_BYTES, REF_BYTES } from "./layout.ts";
import { CALL_DEPTH_MAX, CHUNK_BYTES_MAX } from "./limits.ts";
import { writePacket } from "./packet.ts";
import type { PacketFields } from "./packet.ts";
import { CUT_PACKETS_MIN, StreamLevel } from "./stream-level.ts";
import type { StreamEnd } from "./stream-level.ts";

export interface StreamSummary {
  /** SHA-256 of the top stream chunk: the file's name for machines. */
  readonly root: Ref;
  /** Bytes that the stream yields. */
  readonly length: number;
  /** Packets of all sub-streams, CALLs and HALTs included; × 64 are the bytes of the stream chunks. */
  readonly packets: number;
  /** Stream chunks that were emitted, equal ones counted each time. */
  readonly streams: number;
}

/** The last piece, held back because the next one may continue it. */
interface Piece {
  readonly op: Op;
  readonly flags: number;
  readonly from: number;
  readonly ref: Uint8Array;
  length: number;
}

export class StreamWriter {
  readonly #emit: (ref: Ref, bytes: Uint8Array<ArrayBuffer>) => void;
  readonly #levels: StreamLevel[] = [new StreamLevel()];
  #piece: Piece | undefined;
  #length = 0;
  #packets = 0;
  #streams = 0;
  #finished = false;

  /** `emit` gets each stream chunk as soon as it is cut, sub-streams before what calls them; the buffer is its own. */
  constructor(emit: (ref: Ref, bytes: Uint8Array<ArrayBuffer>) => void) {
    this.#emit = emit;
  }

  /** Bytes given so far. */
  get length(): number {
    return this.#length;
  }

  /** Bytes that stand in the stream itself, 32 a packet: for what is too small to be a chunk. */
  data(bytes: Uint8Array): void {
    this.#grow(bytes.length);
    for (let from = 0; from < bytes.length;) {
      const room = this.#piece?.op === Op.DATA ? INLINE_BYTES_MAX - this.#piece.length : 0;
      const piece = room > 0 ? this.#piece! : this.#begin(Op.DATA, 0, 0, new Uint8Array(INLINE_BYTES_MAX), 0);
      const part = bytes.subarray(from, from + INLINE_BYTES_MAX - piece.length);
      piece.ref.set(part, piece.length);
      piece.length += part.length;
      from += part.length;
    }
  }

  /** `length` bytes that repeat `pattern` (1 to 32 bytes) from its beginning. */
  fill(pattern: Uint8Array, length: number): void {
    if (pattern.length < 1 || pattern.length > INLINE_BYTES_MAX) {
      throw new RangeError(`a pattern has 1 to ${INLINE_BYTES_MAX} bytes, not ${pattern.length}`);
    }
    if (!this.#grow(length)) return;
    const period = shortestPeriod(pattern);
    const last = this.#piece;
    const continues = last?.op === Op.FILL && last.flags === period && last.length % period === 0;
    if (continues && startsWith(last.ref, pattern, period)) last.length += length;
    else this.#begin(Op.FILL, period, 0, pattern.subarray(0, period), length);
  }

  /** Bytes `from` .. `from + length` of a chunk. */
  copy(ref: Ref, from: number, length: number): void {
    if (from + length > CHUNK_BYTES_MAX) throw new RangeError("a COPY cannot read beyond the largest chunk");
    this.#reference(Op.COPY, ref, from, length);
  }

  /** Bytes `from` .. `from + length` of what another stream yields. */
  call(ref: Ref, from: number, length: number): void {
    this.#reference(Op.CALL, ref, from, length);
  }

  /** Ends the stream; `end` is what its HALT says of all of it. */
  finish(end: StreamEnd = {}): StreamSummary {
    if (this.#finished) throw new Error("the stream is finished");
    this.#settle();
    this.#finished = true;
    let depth = 0;
    while (depth < this.#levels.length - 1) this.#cut(depth++);
    const root = this.#write(this.#levels[depth]!, end);
    return { root, length: this.#length, packets: this.#packets, streams: this.#streams };
  }

  #reference(op: typeof Op.COPY | typeof Op.CALL, ref: Ref, from: number, length: number): void {
    if (ref.length !== REF_BYTES) throw new RangeError(`a ref has ${REF_BYTES} bytes, not ${ref.length}`);
    if (!Number.isSafeInteger(from + length) || from < 0) throw new RangeError(`no source begins at ${from}`);
    if (!this.#grow(length)) return;
    const last = this.#piece;
    const continues = last?.op === op && last.from + last.length === from;
    if (continues && startsWith(last.ref, ref, REF_BYTES)) last.length += length;
    else this.#begin(op, 0, from, ref, length);
  }

  /** Counts a piece in; false when it has no bytes and so leaves no trace. */
  #grow(length: number): boolean {
    if (this.#finished) throw new Error("the stream is finished");
    if (!Number.isSafeInteger(length) || length < 0) throw new RangeError(`no piece has ${length} bytes`);
    if (!Number.isSafeInteger(this.#length + length)) {
      throw new PacketError(PacketErrorCode.overLimit, "a stream yields at most 2^53 - 1 bytes", {
        limit: Number.MAX_SAFE_INTEGER,
        actual: this.#length + length,
        of: "bytes",
      });
    }
    this.#length += length;
    return length > 0;
  }

  #begin(op: Op, flags: number, from: number, ref: Uint8Array, length: number): Piece {
    this.#settle();
    // A copy, since callers hand in views of buffers that they use again; `slice` would be a view where they are Buffers.
    this.#piece = { op, flags, from, ref: new Uint8Array(ref), length };
    return this.#piece;
  }

  #settle(): void {
    if (this.#piece !== undefined) this.#append(0, this.#piece);
    this.#piece = undefined;
  }

  /** A full sub-stream is cut only when something follows it, so a level above always has two CALLs or more. */
  #append(depth: number, packet: Omit<PacketFields, "at">): void {
    const level = (this.#levels[depth] ??= new StreamLevel());
    if (level.isComplete) this.#cut(depth);
    level.append(packet);
  }

  #cut(depth: number): void {
    if (depth === CALL_DEPTH_MAX) throw new Error("256^8 packets are more than fit in 2^53 bytes");
    const level = this.#levels[depth]!;
    const length = level.length;
    const ref = this.#write(level);
    this.#append(depth + 1, { op: Op.CALL, ref, length });
  }

  #write(level: StreamLevel, end?: StreamEnd): Ref {
    const bytes = level.take(end);
    const ref = sha256(bytes);
    this.#packets += bytes.byteLength / PACKET_BYTES;
    this.#streams++;
    this.#emit(ref, bytes);
    return ref;
  }
}

/** Bytes that a stream may have so that, standing in it, they are never cut into several. */
export const DATA_STREAM_BYTES_MAX: number = CUT_PACKETS_MIN * INLINE_BYTES_MAX;

/** The one chunk of the stream that StreamWriter writes of at most DATA_STREAM_BYTES_MAX bytes that are given to `data`. */
export function dataStream(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const count = Math.ceil(bytes.length / INLINE_BYTES_MAX);
  const frame = new Uint8Array((count + 1) * PACKET_BYTES);
  for (let index = 0; index < count; index++) {
    const at = index * INLINE_BYTES_MAX;
    const ref = bytes.subarray(at, at + INLINE_BYTES_MAX);
    writePacket(frame, index, { op: Op.DATA, at, length: ref.length, ref });
  }
  writePacket(frame, count, { op: Op.HALT, at: count, length: bytes.length });
  return frame;
}

/** The fewest bytes that, repeated, give the pattern, so that a pattern is written in one way only. */
function shortestPeriod(pattern: Uint8Array): number {
  for (let period = 1; period < pattern.length; period++) {
    if (pattern.length % period !== 0) continue;
    if (pattern.every((byte, index) => byte === pattern[index % period])) return period;
  }
  return pattern.length;
}

function startsWith(bytes: Uint8Array, beginning: Uint8Array, length: number): boolean {
  for (let index = 0; index < length; index++) if (bytes[index] !== beginning[index]) return false;
  return true;
}
