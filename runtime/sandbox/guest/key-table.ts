/**
 * Keys and their numbers, from 0 on in the order in which they came: a hash table of our own, since a Map takes an object per
 * key, computes a hash that nobody can have, and is twice as slow where keys are many. The hash is the same everywhere, for
 * partitions follow from it, so whoever writes the input can make hashes meet: keys that find no place near theirs are in a
 * Map.
 */
import type { Primordials } from "./primordials.ts";

export interface KeyTable {
  /** 32 bits. */
  readonly hashOf: (key: string) => number;
  /** The key's number, -1 for none. */
  find(key: string, hash: number): number;
  /** A key that is not there gets the next number. */
  add(key: string, hash: number): void;
  size(): number;
  key(index: number): string;
  hash(index: number): number;
  clear(): void;
  /** The numbers of all keys, by the order of their UTF-16 units. */
  sorted(): Float64Array;
}

export function makeKeyTable(p: Primordials): KeyTable {
  const FIRST_SLOTS = 64;
  const KEEP_SLOTS = 4096;
  const STEPS_MAX = 32;
  /** Numbers of keys have so many values; beside those, a double has 32 bits left. */
  const NUMBERED = 2097152;
  let slots = new p.Uint32Array(FIRST_SLOTS);
  let mask = FIRST_SLOTS - 1;
  let hashes = new p.Uint32Array(FIRST_SLOTS / 2);
  let keys: string[] = [];
  let crowded: Map<string, number> | undefined;

  /** FNV-1a over UTF-16 units, and the end of MurmurHash3, without which alike keys stand together. */
  function hashOf(key: string): number {
    let hash = 0x811c9dc5;
    for (let index = 0; index < key.length; index++) {
      hash = p.imul(hash ^ p.charCodeAt(key, index), 0x01000193);
    }
    hash = p.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    hash = p.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    return (hash ^ (hash >>> 16)) >>> 0;
  }

  function find(key: string, hash: number): number {
    let slot = hash & mask;
    for (let step = 0; step < STEPS_MAX; step++) {
      const number = slots[slot]!;
      if (number === 0) return -1;
      if (hashes[number - 1] === hash && keys[number - 1] === key) return number - 1;
      slot = (slot + 1) & mask;
    }
    if (crowded === undefined) return -1;
    const number = p.mapGet(crowded, key);
    return number === undefined ? -1 : number;
  }

  /** False where the slots near its own are all taken. */
  function place(hash: number, index: number): boolean {
    let slot = hash & mask;
    for (let step = 0; step < STEPS_MAX; step++) {
      if (slots[slot] === 0) {
        slots[slot] = index + 1;
        return true;
      }
      slot = (slot + 1) & mask;
    }
    return false;
  }

  function add(key: string, hash: number): void {
    const index = keys.length;
    if (index * 2 >= slots.length) grow();
    hashes[index] = hash;
    keys.push(key);
    if (!place(hash, index)) crowd(key, index);
  }

  function crowd(key: string, index: number): void {
    crowded ??= new p.Map();
    p.mapSet(crowded, key, index);
  }

  function grow(): void {
    const before = hashes;
    slots = new p.Uint32Array(slots.length * 4);
    mask = slots.length - 1;
    hashes = new p.Uint32Array(slots.length / 2);
    p.numbersSet(hashes, before);
    crowded = undefined;
    for (let index = 0; index < keys.length; index++)
      if (!place(hashes[index]!, index)) crowd(keys[index]!, index);
  }

  /** How many units all keys begin with alike. */
  function commonUnits(): number {
    const first = keys[0]!;
    let common = first.length;
    for (let index = 1; index < keys.length && common > 0; index++) {
      const key = keys[index]!;
      if (key.length < common) common = key.length;
      for (let at = 0; at < common; at++) {
        if (p.charCodeAt(key, at) === p.charCodeAt(first, at)) continue;
        common = at;
      }
    }
    return common;
  }

  /** Two units behind `from`, 0 where there is none. The last two units there are count as one, and nothing behind it. */
  function headOf(key: string, from: number): number {
    const first = numberAt(key, from);
    return first * 65536 + (first === 0xffff ? 0 : numberAt(key, from + 1));
  }

  function numberAt(key: string, at: number): number {
    return at < key.length ? p.min(p.charCodeAt(key, at) + 1, 0xffff) : 0;
  }

  /** Four units, if all are below 255. Otherwise two. */
  function narrowHeadOf(key: string, from: number): number {
    let head = 0;
    for (let at = from; at < from + 4; at++) {
      const unit = at < key.length ? p.charCodeAt(key, at) + 1 : 0;
      if (unit > 255) return -1;
      head = head * 256 + unit;
    }
    return head;
  }

  /**
   * Numbers sort ten times as fast as strings: what keys begin with is one, with the key's number behind it. Only keys that
   * begin alike are compared.
   */
  function sorted(): Float64Array {
    const count = keys.length;
    const order = new p.Float64Array(count);
    if (count === 0) return order;
    if (count > NUMBERED) {
      for (let index = 0; index < count; index++) order[index] = index;
      sortAlike(order, 0, count);
      return order;
    }
    const from = commonUnits();
    let isNarrow = true;
    for (let index = 0; index < count && isNarrow; index++) {
      const head = narrowHeadOf(keys[index]!, from);
      isNarrow = head >= 0;
      order[index] = head * NUMBERED + index;
    }
    if (!isNarrow) {
      for (let index = 0; index < count; index++)
        order[index] = headOf(keys[index]!, from) * NUMBERED + index;
    }
    p.floatsSort(order);
    let start = 0;
    let head = p.floor(order[0]! / NUMBERED);
    for (let at = 1; at <= count; at++) {
      order[at - 1] = order[at - 1]! % NUMBERED;
      const next = at < count ? p.floor(order[at]! / NUMBERED) : -1;
      if (next === head) continue;
      if (at - start > 1) sortAlike(order, start, at);
      start = at;
      head = next;
    }
    return order;
  }

  function sortAlike(order: Float64Array, start: number, end: number): void {
    const alike: string[] = [];
    const places = new p.Map<string, number>();
    for (let at = start; at < end; at++) {
      const key = keys[order[at]!]!;
      alike.push(key);
      p.mapSet(places, key, order[at]!);
    }
    p.sort(alike);
    for (let at = start; at < end; at++) order[at] = p.mapGet(places, alike[at - start]!)!;
  }

  return {
    hashOf,
    find,
    add,
    size: () => keys.length,
    key: (index) => keys[index]!,
    hash: (index) => hashes[index]!,
    clear() {
      if (keys.length === 0) return;
      keys = [];
      crowded = undefined;
      if (slots.length <= KEEP_SLOTS) {
        p.numbersFill(slots, 0);
        return;
      }
      slots = new p.Uint32Array(FIRST_SLOTS);
      mask = FIRST_SLOTS - 1;
      hashes = new p.Uint32Array(FIRST_SLOTS / 2);
    },
    sorted,
  };
}
