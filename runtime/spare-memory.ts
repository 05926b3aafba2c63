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

/** The same of memory that threads share, in pieces of any length. */
export class SharedSpareMemory {
  readonly #stepBytes: number;
  readonly #bytesMax: number;
  /** The last that was given back is the last here. */
  readonly #spare: SharedArrayBuffer[] = [];

  /** Pieces have whole steps of bytes; so many bytes are kept that nobody needs. */
  constructor(stepBytes: number, bytesMax: number) {
    this.#stepBytes = stepBytes;
    this.#bytesMax = bytesMax;
  }

  /** So many bytes with anything in them, of the shortest piece that has them. */
  take(bytes: number): Uint8Array<SharedArrayBuffer> {
    let best = -1;
    this.#spare.forEach(({ byteLength }, index) => {
      const isBetter = best < 0 || byteLength <= this.#spare[best]!.byteLength;
      if (byteLength >= bytes && isBetter) best = index;
    });
    const [spare] = best < 0 ? [] : this.#spare.splice(best, 1);
    const rounded = Math.max(1, Math.ceil(bytes / this.#stepBytes)) * this.#stepBytes;
    return new Uint8Array(spare ?? new SharedArrayBuffer(rounded), 0, bytes);
  }

  /** Nobody looks at it any more. */
  giveBack({ buffer }: Uint8Array<SharedArrayBuffer>): void {
    this.#spare.push(buffer);
    let bytes = this.#spare.reduce((sum, { byteLength }) => sum + byteLength, 0);
    while (bytes > this.#bytesMax) bytes -= this.#spare.shift()!.byteLength;
  }
}

/** Not zeroed. */
function fresh(bytes: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer);
}
