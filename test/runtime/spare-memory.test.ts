import { describe, expect, it } from "vitest";
import { SharedSpareMemory, SpareMemory } from "../../runtime/spare-memory.ts";

const BLOCK = 1024;

describe("spare memory", () => {
  it("gives memory again that was given back, in the length that is asked for", () => {
    const memory = new SpareMemory(BLOCK, 2);
    const first = memory.take(600);
    expect(first.byteLength).toBe(600);
    expect(memory.take(600).buffer).not.toBe(first.buffer);
    memory.giveBack(first.buffer);
    const again = memory.take(BLOCK);
    expect(again.buffer).toBe(first.buffer);
    expect(again.byteLength).toBe(BLOCK);
    // It is taken now.
    expect(memory.take(BLOCK).buffer).not.toBe(first.buffer);
  });

  it("keeps no more blocks than it may", () => {
    const memory = new SpareMemory(BLOCK, 2);
    const taken = [memory.take(BLOCK), memory.take(BLOCK), memory.take(BLOCK)].map(({ buffer }) => buffer);
    for (const buffer of taken) memory.giveBack(buffer);
    const again = new Set([memory.take(BLOCK), memory.take(BLOCK), memory.take(BLOCK)].map((b) => b.buffer));
    expect(taken.filter((buffer) => again.has(buffer))).toHaveLength(2);
  });

  it("gives memory of its own to what is longer than a block, or so short that a block would be wasted", () => {
    const memory = new SpareMemory(BLOCK, 2);
    for (const bytes of [BLOCK + 1, BLOCK / 16 - 1, 0]) {
      const taken = memory.take(bytes);
      expect(taken.buffer.byteLength).toBe(bytes);
      memory.giveBack(taken.buffer);
    }
    memory.giveBack(undefined);
    memory.giveBack(new SharedArrayBuffer(BLOCK));
    expect(memory.take(BLOCK).byteLength).toBe(BLOCK);
  });
});

describe("spare memory that threads share", () => {
  it("is used again, the shortest that is long enough", () => {
    const memory = new SharedSpareMemory(BLOCK, 8 * BLOCK);
    const [short, long] = [memory.take(600), memory.take(3 * BLOCK)];
    expect([short.byteLength, short.buffer.byteLength]).toEqual([600, BLOCK]);
    memory.giveBack(short);
    memory.giveBack(long);
    expect(memory.take(BLOCK).buffer).toBe(short.buffer);
    expect(memory.take(BLOCK).buffer).toBe(long.buffer);
    expect(memory.take(BLOCK).buffer).not.toBe(long.buffer);
  });

  it("is kept up to so many bytes", () => {
    const memory = new SharedSpareMemory(BLOCK, 8 * BLOCK);
    const many = Array.from({ length: 20 }, () => memory.take(BLOCK));
    for (const piece of many) memory.giveBack(piece);
    const again = Array.from({ length: 20 }, () => memory.take(BLOCK));
    const kept = again.filter(({ buffer }) => many.some((piece) => piece.buffer === buffer));
    expect(kept.length).toBe(8);
  });
});
