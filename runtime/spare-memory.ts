/**
 * Memory that is used again. Buffers that come and go are memory outside of V8's heap, and every few of them have it look
 * through all of that heap for garbage: in a process that moves many bytes this takes more time than moving them.
 */

/** What is so much shorter than a block gets memory of its own, which is given up with it. */
const LEAST_SHARE = 16;

export class SpareMemory {
  readonly #bytes: number;
  readonly #blocksMax: number;
  readonly #spare: ArrayBuffer[] = [];

  /** Keeps up to `blocksMax` blocks of `bytes` bytes each. */
  constructor(bytes: number, blocksMax: number) {
    this.#bytes = bytes;
    this.#blocksMax = blocksMax;
  }

  /** So many bytes with anything in them, of a block where they are neither more than one nor far less. */
  take(bytes: number): Uint8Array<ArrayBuffer> {
    if (bytes > this.#bytes || bytes * LEAST_SHARE < this.#bytes) return fresh(bytes);
    const spare = this.#spare.pop();
    return spare === undefined ? fresh(this.#bytes).subarray(0, bytes) : new Uint8Array(spare, 0, bytes);
  }

  /** Nobody looks at what was taken any more. Does nothing with memory that is no block. */
  giveBack(buffer: ArrayBufferLike | undefined): void {
    if (!(buffer instanceof ArrayBuffer) || buffer.byteLength !== this.#bytes) return;
    if (this.#spare.length < this.#blocksMax) this.#spare.push(buffer);
  }
}

/** Not zeroed. */
function fresh(bytes: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer);
}
