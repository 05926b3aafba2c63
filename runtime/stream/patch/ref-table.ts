/**
 * Where refs stand, for many of them in little memory: 24 bytes each, and the oldest are forgotten when there are too many. A
 * ref is known by 64 bits of a hash that is keyed by chance, so that nobody can choose two that are taken for one.
 */
import { randomBytes } from "node:crypto";
import { readInteger32 } from "../../../packets/integer.ts";
import { REF_BYTES } from "../../../packets/layout.ts";

const WORDS = REF_BYTES / 4;
const SLOTS_AT_FIRST = 1024;
const KEYS = new Uint32Array(new Uint8Array(randomBytes(WORDS * 8)).buffer).map((key) => key | 1);

/** Half of the refs that a table may have: the older ones go all at once. */
class Generation {
  count = 0;
  #high = new Uint32Array(SLOTS_AT_FIRST);
  #low = new Uint32Array(SLOTS_AT_FIRST);
  #at = new Float64Array(SLOTS_AT_FIRST);
  /** 1 more than what stands there; 0 where a slot is free. */
  #owner = new Uint32Array(SLOTS_AT_FIRST);

  /** The slot of the hash, or the free one where it would stand. */
  slot(high: number, low: number): number {
    const mask = this.#owner.length - 1;
    let slot = (high >>> 7) & mask;
    while (this.#owner[slot] !== 0 && (this.#high[slot] !== high || this.#low[slot] !== low)) {
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  isFree(slot: number): boolean {
    return this.#owner[slot] === 0;
  }

  at(slot: number): number {
    return this.#at[slot]!;
  }

  owner(slot: number): number {
    return this.#owner[slot]! - 1;
  }

  moveTo(slot: number, at: number): void {
    this.#at[slot] = at;
  }

  set(high: number, low: number, at: number, owner: number): void {
    if (this.count * 2 >= this.#owner.length) this.#grow();
    this.#put(this.slot(high, low), high, low, at, owner + 1);
    this.count++;
  }

  #put(slot: number, high: number, low: number, at: number, owner: number): void {
    this.#high[slot] = high;
    this.#low[slot] = low;
    this.#at[slot] = at;
    this.#owner[slot] = owner;
  }

  #grow(): void {
    const [high, low, at, owner] = [this.#high, this.#low, this.#at, this.#owner];
    const slots = owner.length * 2;
    this.#high = new Uint32Array(slots);
    this.#low = new Uint32Array(slots);
    this.#at = new Float64Array(slots);
    this.#owner = new Uint32Array(slots);
    owner.forEach((is, from) => {
      if (is !== 0) this.#put(this.slot(high[from]!, low[from]!), high[from]!, low[from]!, at[from]!, is);
    });
  }
}

export class RefTable {
  readonly #refsMax: number;
  #young = new Generation();
  #old = new Generation();

  /** Remembers at least half of `refsMax` refs: those that were added last. */
  constructor(refsMax: number) {
    this.#refsMax = refsMax;
  }

  /** Whether the ref, the 32 bytes from `offset` on, was not known before. One that stands in several places is nowhere in particular. */
  add(bytes: Uint8Array, offset: number, at: number, owner: number): boolean {
    const high = hashOf(bytes, offset, 0);
    const low = hashOf(bytes, offset, WORDS);
    for (const generation of [this.#young, this.#old]) {
      const slot = generation.slot(high, low);
      if (generation.isFree(slot)) continue;
      if (generation.at(slot) !== at) generation.moveTo(slot, Number.NaN);
      return false;
    }
    if (this.#young.count * 2 >= this.#refsMax) {
      this.#old = this.#young;
      this.#young = new Generation();
    }
    this.#young.set(high, low, at, owner);
    return true;
  }

  /** Where the ref stands, NaN for nowhere in particular, and in what; undefined for one that is not known. */
  find(bytes: Uint8Array, offset: number): { readonly at: number; readonly owner: number } | undefined {
    const high = hashOf(bytes, offset, 0);
    const low = hashOf(bytes, offset, WORDS);
    for (const generation of [this.#young, this.#old]) {
      const slot = generation.slot(high, low);
      if (!generation.isFree(slot)) return { at: generation.at(slot), owner: generation.owner(slot) };
    }
    return undefined;
  }
}

function hashOf(bytes: Uint8Array, offset: number, key: number): number {
  let hash = 0;
  for (let word = 0; word < WORDS; word++) {
    hash = (hash + Math.imul(readInteger32(bytes, offset + word * 4), KEYS[key + word]!)) | 0;
  }
  // What multiplying leaves in the low bits is not much.
  return (hash ^ (hash >>> 15)) >>> 0;
}
