/** Bytes that are gathered back to back before they are written in one go. */
export class StagingBuffer {
  /** Bytes gathered so far. */
  length = 0;
  #bytes: Uint8Array<ArrayBuffer>;

  constructor(bytesAtFirst: number) {
    this.#bytes = unwrittenBytes(Math.max(bytesAtFirst, 1));
  }

  /** Adds `length` bytes of `source` from `from` on and returns where they begin. */
  append(source: Uint8Array, from: number, length: number): number {
    const at = this.length;
    const end = at + length;
    if (end > this.#bytes.byteLength) this.#grow(end);
    if (length <= LOOP_BYTES_MAX) {
      for (let index = 0; index < length; index++) this.#bytes[at + index] = source[from + index]!;
    } else {
      this.#bytes.set(source.subarray(from, from + length), at);
    }
    this.length = end;
    return at;
  }

  /** What was gathered: a view, valid until more is added. */
  view(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.length);
  }

  #grow(bytesMin: number): void {
    const larger = unwrittenBytes(Math.max(bytesMin, this.#bytes.byteLength * 2));
    larger.set(this.view());
    this.#bytes = larger;
  }
}

/** Below this a loop is faster than a call that makes a view. */
const LOOP_BYTES_MAX = 48;

/** Bytes that all get written before they are read; as a plain Uint8Array, whose `slice` copies. */
export function unwrittenBytes(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.allocUnsafeSlow(length).buffer);
}
