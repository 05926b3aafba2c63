/**
 * Looks at numbers on their way to the GPU. Kernels in JavaScript compute with float32, which has whole numbers up to
 * KERNEL_WHOLE_MAX: a larger one would become another number, and nobody would know. What a GPU makes of NaN, infinities and numbers
 * closer to 0 than 2^-126 is its own affair, so exact kernels take none.
 */
import { KERNEL_WHOLE_MAX } from "../../limits.ts";
import type { CheckedElements } from "../protocol.ts";

/** Bits of a float's exponent; all of them are 1 in NaN and infinities, and 0 in what is closer to 0 than 2^-126. */
const EXPONENT = 0x7f80_0000;
const SIZE = 0x7fff_ffff;

export class ElementCheck {
  readonly #elements: CheckedElements;
  /** What was looked at. */
  #count = 0;
  /** Of a number whose other bytes are still to come. */
  readonly #begun = new Uint8Array(4);
  #begunBytes = 0;

  constructor(elements: CheckedElements) {
    this.#elements = elements;
  }

  /** What is wrong with what follows of the input, which may end within a number; undefined where nothing is. */
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
    const { name, type } = this.#elements;
    const aligned = bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes);
    const { buffer, byteOffset, byteLength } = aligned;
    const count = byteLength / 4;
    if (type === "f32") {
      const index = wrongFloat(new Int32Array(buffer, byteOffset, count));
      if (index >= 0) {
        const value = new Float32Array(buffer, byteOffset, count)[index];
        return `the input ${name} has ${value} at ${this.#count + index}, which is not the same number on all engines`;
      }
    } else {
      const values =
        type === "i32"
          ? new Int32Array(buffer, byteOffset, count)
          : new Uint32Array(buffer, byteOffset, count);
      const index = wrongInteger(values);
      if (index >= 0)
        return `the input ${name} has ${values[index]} at ${this.#count + index}, and whole numbers go to ${KERNEL_WHOLE_MAX}`;
    }
    this.#count += count;
    return undefined;
  }
}

function wrongInteger(values: Int32Array | Uint32Array): number {
  for (let index = 0; index < values.length; index++) {
    const value = values[index]!;
    if (value > KERNEL_WHOLE_MAX || value < -KERNEL_WHOLE_MAX) return index;
  }
  return -1;
}

/** By their bits, which take half the time. */
function wrongFloat(bits: Int32Array): number {
  for (let index = 0; index < bits.length; index++) {
    const exponent = bits[index]! & EXPONENT;
    if (exponent === EXPONENT || (exponent === 0 && (bits[index]! & SIZE) !== 0)) return index;
  }
  return -1;
}
