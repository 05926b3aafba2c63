/**
 * Looks at 32-bit integers on their way to the GPU. Kernels in JavaScript compute with float32, which has whole numbers up to
 * KERNEL_WHOLE_MAX: a larger one would become another number, and nobody would know.
 */
import { KERNEL_WHOLE_MAX } from "../../limits.ts";
import type { Integers } from "../protocol.ts";

export class IntegerCheck {
  readonly #integers: Integers;
  /** What was looked at. */
  #elements = 0;
  /** Of an integer whose other bytes are still to come. */
  readonly #begun = new Uint8Array(4);
  #begunBytes = 0;

  constructor(integers: Integers) {
    this.#integers = integers;
  }

  /** What is wrong with what follows of the input, which may end within an integer; undefined where nothing is. */
  look(bytes: Uint8Array): string | undefined {
    let at = 0;
    if (this.#begunBytes > 0) {
      const rest = bytes.subarray(0, 4 - this.#begunBytes);
      this.#begun.set(rest, this.#begunBytes);
      this.#begunBytes += rest.byteLength;
      if (this.#begunBytes < 4) return undefined;
      at = rest.byteLength;
      this.#begunBytes = 0;
      const wrong = this.#look(this.#begun);
      if (wrong !== undefined) return wrong;
    }
    const whole = (bytes.byteLength - at) & ~3;
    const wrong = this.#look(bytes.subarray(at, at + whole));
    const rest = bytes.subarray(at + whole);
    this.#begun.set(rest);
    this.#begunBytes = rest.byteLength;
    return wrong;
  }

  #look(bytes: Uint8Array): string | undefined {
    const { name, isSigned } = this.#integers;
    const aligned = bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes);
    const { buffer, byteOffset, byteLength } = aligned;
    const count = byteLength / 4;
    const values = isSigned
      ? new Int32Array(buffer, byteOffset, count)
      : new Uint32Array(buffer, byteOffset, count);
    for (let index = 0; index < count; index++) {
      const value = values[index]!;
      if (value > KERNEL_WHOLE_MAX || value < -KERNEL_WHOLE_MAX)
        return `the input ${name} has ${value} at ${this.#elements + index}, and whole numbers go to ${KERNEL_WHOLE_MAX}`;
    }
    this.#elements += count;
    return undefined;
  }
}
