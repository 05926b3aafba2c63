import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CHUNKER_DEFAULTS, Chunker } from "../../packets/chunker.ts";
import { gearTable } from "../../packets/gear.ts";
import { seededBytes } from "./seed.ts";

const SMALL = { minBytes: 64, averageBytes: 256, maxBytes: 1024 };

/** The ends of all chunks when the chunker sees everything at once. */
function cutAll(chunker: Chunker, bytes: Uint8Array): number[] {
  const ends: number[] = [];
  for (let start = 0; start < bytes.length;) {
    start = chunker.cut(bytes, start, bytes.length, true);
    ends.push(start);
  }
  return ends;
}

/** The same, from blocks of the given sizes, the way a reader of a file sees them: never more than what has arrived. */
function cutBlocks(chunker: Chunker, bytes: Uint8Array, sizes: readonly number[]): number[] {
  const ends: number[] = [];
  let start = 0;
  let known = 0;
  for (let block = 0; start < bytes.length; block++) {
    known = Math.min(bytes.length, known + sizes[block % sizes.length]!);
    const final = known === bytes.length;
    for (let end = -1; end !== 0 && start < known;) {
      end = chunker.cut(bytes, start, known, final);
      if (end === 0) continue;
      ends.push(end);
      start = end;
    }
  }
  return ends;
}

/** What chunker.ts says in its head comment, byte by byte. */
function cutSlowly(bytes: Uint8Array, { minBytes, averageBytes, maxBytes } = SMALL): number[] {
  const gear = gearTable();
  const bits = Math.log2(averageBytes);
  const ends: number[] = [];
  for (let start = 0; start < bytes.length;) {
    let end = Math.min(bytes.length, start + maxBytes);
    let hash = 0;
    for (let at = start + minBytes; at < end; at++) {
      hash = ((hash << 1) + gear[bytes[at]!]!) >>> 0;
      const zeros = at < start + averageBytes ? bits + 2 : bits - 2;
      if (Math.clz32(hash) >= zeros) end = at + 1;
    }
    ends.push(end);
    start = end;
  }
  return ends;
}

test("cuts where the description says", () => {
  const bytes = seededBytes("description", 100_000);
  expect(cutAll(new Chunker(SMALL), bytes)).toEqual(cutSlowly(bytes));
  const big = seededBytes("defaults", 2_000_000);
  expect(cutAll(new Chunker(), big)).toEqual(cutSlowly(big, CHUNKER_DEFAULTS));
});

test("cuts do not depend on where in memory the bytes stand", () => {
  const bytes = seededBytes("alignment", 20_000);
  const expected = cutAll(new Chunker(SMALL), bytes);
  for (let offset = 1; offset < 8; offset++) {
    const moved = new Uint8Array(offset + bytes.length + (offset % 3)).subarray(
      offset,
      offset + bytes.length,
    );
    moved.set(bytes);
    expect(cutAll(new Chunker(SMALL), moved)).toEqual(expected);
  }
});

test("cuts do not depend on block borders", () => {
  const bytes = seededBytes("borders", 20_000);
  const chunker = new Chunker(SMALL);
  const expected = cutAll(chunker, bytes);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 8 }), (sizes) => {
      expect(cutBlocks(chunker, bytes, sizes)).toEqual(expected);
    }),
    { numRuns: 200 },
  );
});

test("chunks stay within their bounds, whatever the bytes", () => {
  const byte = fc.oneof(fc.constant(0), fc.constant(255), fc.integer({ min: 0, max: 255 }));
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 5000 }), fc.array(byte, { maxLength: 3000 }), (random, runs) => {
      const bytes = Uint8Array.from([...runs, ...random, ...runs]);
      const ends = cutAll(new Chunker(SMALL), bytes);
      expect(ends).toEqual(cutSlowly(bytes));
      ends.forEach((end, index) => {
        const length = end - (ends[index - 1] ?? 0);
        expect(length).toBeLessThanOrEqual(SMALL.maxBytes);
        if (index < ends.length - 1) expect(length).toBeGreaterThan(SMALL.minBytes);
      });
      expect(ends.at(-1) ?? 0).toBe(bytes.length);
    }),
    { numRuns: 200 },
  );
});

test("after an insertion the cuts find back", () => {
  const bytes = seededBytes("insertion", 200_000);
  const chunker = new Chunker(SMALL);
  const before = cutAll(chunker, bytes);
  for (const length of [1, 7, 300, 5000]) {
    const at = 100_003;
    const inserted = new Uint8Array(bytes.length + length);
    inserted.set(bytes.subarray(0, at));
    inserted.set(seededBytes("new", length), at);
    inserted.set(bytes.subarray(at), at + length);
    const after = new Set(cutAll(chunker, inserted));
    const lost = before.filter((end) => !after.has(end <= at ? end : end + length));
    expect(lost.length).toBeLessThan(12);
  }
});

test("asks for more bytes only while it cannot decide", () => {
  const chunker = new Chunker(SMALL);
  const zeros = new Uint8Array(2048);
  expect(chunker.cut(zeros, 0, 10, false)).toBe(0);
  expect(chunker.cut(zeros, 0, 10, true)).toBe(10);
  expect(chunker.cut(zeros, 0, 1023, false)).toBe(0);
  expect(chunker.cut(zeros, 0, 1024, false)).toBe(1024);
  expect(chunker.cut(zeros, 5, 2048, false)).toBe(1029);
});

test("the average is near what was asked for", () => {
  const bytes = seededBytes("average", 8_000_000);
  const average = bytes.length / cutAll(new Chunker(), bytes).length;
  expect(average).toBeGreaterThan(50_000);
  expect(average).toBeLessThan(90_000);
});

describe("salt", () => {
  test("gives other cuts, the same ones for the same salt", () => {
    const bytes = seededBytes("salted", 100_000);
    const plain = cutAll(new Chunker(SMALL), bytes);
    const one = cutAll(new Chunker({ ...SMALL, salt: seededBytes("one", 32) }), bytes);
    const two = cutAll(new Chunker({ ...SMALL, salt: seededBytes("two", 32) }), bytes);
    expect(one).not.toEqual(plain);
    expect(two).not.toEqual(one);
    expect(cutAll(new Chunker({ ...SMALL, salt: seededBytes("one", 32) }), bytes)).toEqual(one);
  });
});

test.each([
  { minBytes: 0 },
  { minBytes: 100_000 },
  { averageBytes: 65_000 },
  { averageBytes: 32 },
  { maxBytes: 1024 * 1024 + 1 },
  { maxBytes: 32_768 },
  { minBytes: 1.5 },
  { averageBytes: Number.NaN },
])("refuses parameters that make no sense: %o", (parameters) => {
  expect(() => new Chunker(parameters)).toThrow(RangeError);
});
