/**
 * A set of refs that keeps eight bytes of each, in one flat table. It may say that a ref is in it which is not, once in
 * 2^64: use it only where that costs nothing but space.
 */
import { randomBytes } from "node:crypto";
import { readInteger32 } from "../../../packets/integer.ts";
import { REF_BYTES } from "../../../packets/layout.ts";

const SLOTS_AT_FIRST = 64;

export class RefSet {
  /** Two words a slot; both zero in a free one. */
  #table: Uint32Array;
  #size = 0;
  /** So that nobody can choose chunks whose refs meet in the same slots. */
  readonly #seed: number = randomBytes(4).readUInt32LE() | 1;

  /** `expected` saves growing; the set takes any number. */
  constructor(expected = 0) {
    this.#table = new Uint32Array(2 * slotsFor(expected));
  }

  get size(): number {
    return this.#size;
  }

  add(ref: Uint8Array): void {
    if ((this.#size + 1) * 4 > (this.#table.length / 2) * 3) this.#grow();
    if (this.#put(wordAt(ref, 0), wordAt(ref, 4))) this.#size++;
  }

  /** Adds refs that stand back to back. */
  addAll(refs: Uint8Array): void {
    for (let at = 0; at < refs.byteLength; at += REF_BYTES) this.add(refs.subarray(at, at + REF_BYTES));
  }

  has(ref: Uint8Array): boolean {
    const low = wordAt(ref, 0);
    return this.#table[this.#slot(low, wordAt(ref, 4))] === low;
  }

  /** Whether the words were not there yet. */
  #put(low: number, high: number): boolean {
    const slot = this.#slot(low, high);
    if (this.#table[slot] === low) return false;
    this.#table[slot] = low;
    this.#table[slot + 1] = high;
    return true;
  }

  /** Where these words are, or the free slot where they belong. */
  #slot(low: number, high: number): number {
    const table = this.#table;
    const mask = table.length / 2 - 1;
    const mixed = Math.imul(low ^ (high >>> 15) ^ this.#seed, 0x9e3779b1);
    let slot = ((mixed ^ (mixed >>> 15)) & mask) * 2;
    while (table[slot] !== 0 && (table[slot] !== low || table[slot + 1] !== high)) {
      slot = ((slot / 2 + 1) & mask) * 2;
    }
    return slot;
  }

  #grow(): void {
    const old = this.#table;
    this.#table = new Uint32Array(old.length * 2);
    for (let slot = 0; slot < old.length; slot += 2) {
      if (old[slot] !== 0) this.#put(old[slot]!, old[slot + 1]!);
    }
  }
}

/** A word of the ref; the first is never zero, which marks a free slot. */
function wordAt(ref: Uint8Array, offset: number): number {
  const word = readInteger32(ref, offset);
  return offset === 0 && word === 0 ? 1 : word;
}

function slotsFor(expected: number): number {
  let slots = SLOTS_AT_FIRST;
  while (slots * 3 < expected * 4) slots *= 2;
  return slots;
}
