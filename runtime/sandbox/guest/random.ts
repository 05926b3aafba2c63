/** Math.random, seeded by what a packet reads: the same packet draws the same numbers on every machine and attempt. */
import type { Primordials } from "./primordials.ts";

export interface Randomness {
  /** A packet begins: the 12 words from `at` on are its length, from and ref. */
  begin(words: Uint32Array, at: number): void;
  /** Whether numbers follow from nothing at all, as long as a module is evaluated. */
  fix(isFixed: boolean): void;
  /** What `run` draws changes nothing for what the packet draws after it. */
  apart<Value>(run: () => Value): Value;
}

export function installRandom(p: Primordials): Randomness {
  const imul = p.imul;
  const NO_PACKET = new p.Uint32Array(12);
  let words: Uint32Array = NO_PACKET;
  let from = 0;
  let seeded = false;
  let isFixed = false;
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;

  const mix = (hash: number, word: number): number => {
    const next = imul(hash ^ word, 0x9e3779b1);
    return next ^ (next >>> 15);
  };

  /** Most packets never ask, so the seed is made when the first does. */
  function seed(): void {
    a = 0x243f6a88;
    b = 0x85a308d3;
    c = 0x13198a2e;
    d = 0x03707344;
    for (let index = 0; index < 12; index++) {
      const word = isFixed ? index : words[from + index]!;
      a = mix(a, word);
      b = mix(b, word ^ a);
      c = mix(c, word ^ b);
      d = mix(d, word ^ c);
    }
    seeded = true;
  }

  /** xoshiro128** (Blackman and Vigna). */
  function next(): number {
    const product = imul(b, 5);
    const result = imul((product << 7) | (product >>> 25), 9);
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);
    return result >>> 0;
  }

  p.defineProperty(Math, "random", {
    value: function random(): number {
      if (!seeded) seed();
      return ((next() >>> 5) * 67108864 + (next() >>> 6)) / 9007199254740992;
    },
    writable: true,
    configurable: true,
    enumerable: false,
  });
  return {
    begin(packetWords, at) {
      words = packetWords;
      from = at;
      seeded = false;
    },
    fix(on) {
      isFixed = on;
      seeded = false;
    },
    apart(run) {
      const before = [a, b, c, d] as const;
      const wasSeeded = seeded;
      try {
        return run();
      } finally {
        [a, b, c, d] = before;
        seeded = wasSeeded;
      }
    },
  };
}
