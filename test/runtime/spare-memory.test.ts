import { describe, expect, it } from "vitest";
import { SpareMemory } from "../../runtime/spare-memory.ts";

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
