import { PIECE_BUFFER_BYTES, PIECE_BYTES_MIN } from "../limits.ts";

/** Collects small pieces, so that an output of many of them does not cost its reader a turn each. */
export class JoinedPieces {
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
    this.#buffer ??= new Uint8Array(PIECE_BUFFER_BYTES);
    this.#buffer.set(piece, this.#used);
    this.#used += piece.byteLength;
  }

  /** What has come and was not yielded yet. */
  *rest(): Generator<Uint8Array, void, undefined> {
    if (this.#used === 0) return;
    yield this.#buffer!.subarray(0, this.#used);
    this.#buffer = undefined;
    this.#used = 0;
  }
}
