import { describe, expect, test } from "vitest";
import { differenceBytesMax, undoDifference, writeDifference } from "../../packets/difference.ts";
import { seededBytes } from "./seed.ts";
import { Random } from "../sim/random.ts";

function difference(plain: Uint8Array, old: Uint8Array): { bytes: Uint8Array; fresh: number } {
  const { bytes, fresh } = writeDifference(plain, old, new Uint8Array(differenceBytesMax(plain.byteLength)));
  return { bytes: bytes.slice(), fresh };
}

/** Like code: words that differ a little from place to place, and numbers among them that say where others are. */
function program(random: Random, words: number, moved: number): Uint8Array {
  const bytes = new Uint8Array(words * 8);
  const view = new DataView(bytes.buffer);
  for (let word = 0; word < words; word++) {
    view.setUint32(word * 8, Math.imul(word % 997, 0x9e3779b1), true);
    view.setUint32(word * 8 + 4, word % 5 === 0 ? 0x400000 + word * 16 + moved : random.integer(0, 3), true);
  }
  return bytes;
}

function edited(old: Uint8Array, random: Random, edits: number): Uint8Array {
  let bytes = Buffer.from(old);
  for (let edit = 0; edit < edits; edit++) {
    const at = random.integer(0, bytes.byteLength);
    const removed = random.chance(0.5) ? random.integer(0, 200) : 0;
    const added = random.chance(0.5) ? seededBytes(`${edit}`, random.integer(1, 200)) : new Uint8Array(0);
    bytes = Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(at + removed)]);
  }
  return bytes;
}

describe("a difference", () => {
  test("gives the new bytes back, whatever was edited, in its own memory", () => {
    for (let seed = 0; seed < 200; seed++) {
      const random = new Random(seed);
      const old = seededBytes(`old ${seed}`, random.integer(0, 20_000));
      const plain = edited(old, random, random.integer(0, 12));
      const { bytes, fresh } = difference(plain, old);
      expect(fresh).toBeLessThanOrEqual(plain.byteLength);
      const undone = undoDifference(bytes, plain.byteLength, old)!;
      expect(undone.buffer).toBe(bytes.buffer);
      expect(Buffer.compare(undone, plain)).toBe(0);
    }
  });

  test("is zeros where nothing changed, and what is new where something did", () => {
    const old = seededBytes("old", 50_000);
    const fresh = seededBytes("fresh", 100);
    const plain = Buffer.concat([old.subarray(1000, 20_000), fresh, old.subarray(25_000)]);
    const result = difference(plain, old);
    const told = result.bytes.subarray(0, plain.byteLength);
    // A segment may go on for some bytes that are the same by chance.
    expect(told.filter((byte) => byte !== 0).byteLength).toBeLessThanOrEqual(fresh.byteLength + 16);
    expect(result.fresh).toBeLessThanOrEqual(fresh.byteLength);
    expect(result.bytes.byteLength - plain.byteLength).toBeLessThanOrEqual(20);
  });

  test("goes on over addresses that all moved by as much, and has the same few bytes for each", () => {
    const old = program(new Random(1), 4000, 0);
    const plain = program(new Random(1), 4000, 0x1234);
    const { bytes, fresh } = difference(plain, old);
    expect(fresh).toBeLessThan(plain.byteLength / 100);
    const values = new Set(bytes.subarray(0, plain.byteLength));
    // The two bytes by which they moved, with and without what is carried, and zero.
    expect(values.size).toBeLessThanOrEqual(5);
    expect(Buffer.compare(undoDifference(bytes, plain.byteLength, old)!, plain)).toBe(0);
  });

  test("of bytes that are like nothing is they themselves", () => {
    const plain = seededBytes("new", 10_000);
    for (const old of [seededBytes("old", 10_000), new Uint8Array(0), new Uint8Array(5)]) {
      const { bytes, fresh } = difference(plain, old);
      expect(fresh).toBe(plain.byteLength);
      expect(Buffer.compare(bytes, plain)).toBe(0);
    }
  });

  test("never tells of more segments than it has room for", () => {
    const random = new Random(3);
    const old = seededBytes("old", 100_000);
    // Small pieces from everywhere: each is a segment.
    const pieces = Array.from({ length: 3000 }, () => {
      const at = random.integer(0, old.byteLength - 40);
      return old.subarray(at, at + 32);
    });
    const plain = Buffer.concat(pieces);
    const { bytes } = difference(plain, old);
    expect(bytes.byteLength).toBeLessThanOrEqual(differenceBytesMax(plain.byteLength));
    expect(Buffer.compare(undoDifference(bytes, plain.byteLength, old)!, plain)).toBe(0);
  });
});

const ZEROS = new Uint8Array(10);

function written(number: number): number[] {
  return number < 0x80 ? [number] : [(number & 0x7f) | 0x80, ...written(number >>> 7)];
}

describe("what is no difference", () => {
  const old = seededBytes("old", 3000);
  const plain = Buffer.concat([old.subarray(500, 1500), seededBytes("x", 50), old.subarray(100, 900)]);

  test("is refused where a segment lies beyond the bytes, or reads beyond the old ones", () => {
    const wrong = [
      [0, 11, 0],
      // Of no bytes.
      [5, 0, 0],
      [11, 0, 0],
      [5, 6, 0],
      // Before the old bytes, and behind them.
      [0, 10, 1],
      [0, 10, 2 * 2991],
      [0, 5, 0, 0, 5, 2 * 2991],
      [0, 5, 0, 1, 5, 0],
    ].map((numbers) => numbers.flatMap(written));
    // A list that ends within a segment, or within a number; and a number that is too long.
    wrong.push(
      [0, 10],
      [0],
      [0x80],
      [0, 1, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 1],
      [0xff, 0xff, 0xff, 0xff, 0x7f, 1, 0],
    );
    for (const list of wrong)
      expect(undoDifference(Uint8Array.of(...ZEROS, ...list), 10, old), list.join()).toBeUndefined();
    expect(undoDifference(new Uint8Array(9), 10, old)).toBeUndefined();
    const right = Uint8Array.of(...ZEROS, ...[0, 10, 2 * 2990].flatMap(written));
    expect(undoDifference(right, 10, old)).toEqual(old.subarray(2990));
  });

  test("makes other bytes or none, whatever is changed of it, and reads nothing beyond", () => {
    const { bytes } = difference(plain, old);
    let refused = 0;
    for (let seed = 0; seed < 2000; seed++) {
      const random = new Random(seed);
      const told = bytes.slice(0, random.chance(0.1) ? random.integer(0, bytes.byteLength) : undefined);
      // Mostly of the list, which is what can lead astray.
      for (let change = random.integer(1, 4); change > 0 && told.byteLength > 0; change--) {
        const least = random.chance(0.8) ? Math.min(plain.byteLength, told.byteLength - 1) : 0;
        told[random.integer(least, told.byteLength - 1)] = random.integer(0, 255);
      }
      const undone = undoDifference(told, plain.byteLength, old);
      if (undone === undefined) refused++;
      else expect(undone.byteLength).toBe(plain.byteLength);
    }
    expect(refused).toBeGreaterThan(500);
  });
});
