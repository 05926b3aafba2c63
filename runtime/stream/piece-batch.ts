/**
 * A run of pieces of output and the chunks that they are cut from, each chunk once. Pieces are rows of numbers in parallel
 * lists: a batch of patches may have thousands.
 */
import { refKey } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { PacketError, PacketErrorCode } from "../../packets/errors.ts";
import { literalBlocks } from "../../packets/plan.ts";
import {
  FILL_BLOCK_BYTES,
  PIECE_BUFFER_BYTES,
  PIECE_BYTES_MIN,
  READ_AHEAD_CHUNKS,
  READ_AHEAD_PACKETS,
} from "../limits.ts";
import type { PlacedPieces } from "../contracts/chunks.ts";

const NO_CHUNK = -1;
const NO_FRAME = new Uint8Array(0);

export class PieceBatch {
  /** The chunks to be read, in the order in which they are needed first. */
  readonly refs: Ref[] = [];
  readonly #bytesMax: number;
  readonly #indexes: Map<string, number> = new Map();
  /** Per piece: which of the chunks, or NO_CHUNK and the packet that holds it itself. */
  readonly #chunks: number[] = [];
  readonly #frames: Uint8Array[] = [];
  readonly #packets: number[] = [];
  /** Per piece: where it begins in its source, and its bytes. */
  readonly #from: number[] = [];
  readonly #take: number[] = [];
  /** Bytes of pieces of chunks, and of all of them. */
  #bytes = 0;
  #length = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** The bytes of all pieces. */
  get length(): number {
    return this.#length;
  }

  get isFull(): boolean {
    const { length } = this.refs;
    return (
      this.#bytes >= this.#bytesMax || length >= READ_AHEAD_CHUNKS || this.#take.length >= READ_AHEAD_PACKETS
    );
  }

  /** `packet` is the packet's index in its stream, for an error's sake. */
  copy(ref: Ref, from: number, take: number, packet: number): void {
    const key = refKey(ref);
    let chunk = this.#indexes.get(key);
    if (chunk === undefined) {
      chunk = this.refs.push(ref) - 1;
      this.#indexes.set(key, chunk);
    }
    this.#push(chunk, NO_FRAME, packet, from, take);
    this.#bytes += take;
  }

  /** What the DATA or FILL at `index` yields from `skip` on. It is made when it is yielded, so a long FILL fills no batch. */
  literal(frame: Uint8Array, index: number, skip: number, take: number): void {
    this.#push(NO_CHUNK, frame, index, skip, take);
  }

  /** The pieces' bytes in order, given the chunks of `refs`. Small pieces come together. Throws PFS_STREAM_INVALID. */
  *output(chunks: readonly Uint8Array[]): Generator<Uint8Array, void, undefined> {
    const joined = new JoinedPieces();
    for (let piece = 0; piece < this.#take.length; piece++) {
      const from = this.#from[piece]!;
      const take = this.#take[piece]!;
      const packet = this.#packets[piece]!;
      const chunk = chunks[this.#chunks[piece]!];
      if (chunk === undefined) {
        const blocks = literalBlocks(this.#frames[piece]!, packet, from, take, FILL_BLOCK_BYTES);
        for (const block of blocks) yield* joined.add(block);
      } else {
        if (from + take > chunk.byteLength) throw beyondChunk(packet);
        yield* joined.add(chunk.subarray(from, from + take));
      }
    }
    yield* joined.rest();
  }

  /** Where pieces of chunks belong in a file in which the first of all pieces stands at `start`. */
  placed(start: number): PlacedPieces {
    const chunk: number[] = [];
    const from: number[] = [];
    const bytes: number[] = [];
    const at: number[] = [];
    for (const { piece, position } of this.#positions(start)) {
      if (this.#chunks[piece] === NO_CHUNK) continue;
      chunk.push(this.#chunks[piece]!);
      from.push(this.#from[piece]!);
      bytes.push(this.#take[piece]!);
      at.push(position);
    }
    return { chunk, from, bytes, at };
  }

  /** The bytes of all other pieces, and where they belong there. */
  *literals(start: number): Generator<{ readonly bytes: Uint8Array; readonly at: number }> {
    for (const { piece, position } of this.#positions(start)) {
      if (this.#chunks[piece] !== NO_CHUNK) continue;
      const [frame, packet, from, take] = [
        this.#frames[piece]!,
        this.#packets[piece]!,
        this.#from[piece]!,
        this.#take[piece]!,
      ];
      let at = position;
      for (const bytes of literalBlocks(frame, packet, from, take, FILL_BLOCK_BYTES)) {
        yield { bytes, at };
        at += bytes.byteLength;
      }
    }
  }

  *#positions(start: number): Generator<{ readonly piece: number; readonly position: number }> {
    let position = start;
    for (let piece = 0; piece < this.#take.length; piece++) {
      yield { piece, position };
      position += this.#take[piece]!;
    }
  }

  #push(chunk: number, frame: Uint8Array, packet: number, from: number, take: number): void {
    this.#chunks.push(chunk);
    this.#frames.push(frame);
    this.#packets.push(packet);
    this.#from.push(from);
    this.#take.push(take);
    this.#length += take;
  }
}

/** The COPY at `index` of its stream wants more than its chunk has. */
export function beyondChunk(index: number): PacketError {
  const reason = "COPY reads beyond the end of its chunk";
  return new PacketError(PacketErrorCode.invalidStream, `this is no stream: ${reason}`, { reason, index });
}

/** Collects small pieces, so that an output of many of them does not cost its reader a turn each. One alone stays where it is. */
class JoinedPieces {
  #first: Uint8Array | undefined;
  #buffer: Uint8Array<ArrayBuffer> | undefined;
  #used = 0;

  /** What is to be yielded now that `piece` has come. */
  *add(piece: Uint8Array): Generator<Uint8Array, void, undefined> {
    if (piece.byteLength >= PIECE_BYTES_MIN) {
      yield* this.rest();
      yield piece;
      return;
    }
    if (this.#used + piece.byteLength > PIECE_BUFFER_BYTES) yield* this.rest();
    if (this.#first === undefined) this.#first = piece;
    else {
      this.#buffer ??= bufferOf(this.#first);
      this.#buffer.set(piece, this.#used);
    }
    this.#used += piece.byteLength;
  }

  /** What has come and was not yielded yet. */
  *rest(): Generator<Uint8Array, void, undefined> {
    if (this.#used === 0) return;
    yield this.#buffer?.subarray(0, this.#used) ?? this.#first!;
    this.#first = undefined;
    this.#buffer = undefined;
    this.#used = 0;
  }
}

function bufferOf(first: Uint8Array): Uint8Array<ArrayBuffer> {
  const buffer = new Uint8Array(PIECE_BUFFER_BYTES);
  buffer.set(first);
  return buffer;
}
