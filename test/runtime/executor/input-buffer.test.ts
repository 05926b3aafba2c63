import { describe, expect, it } from "vitest";
import { ProcessGone, InputBuffer } from "../../../runtime/executor/input-buffer.ts";
import type { InputMemory } from "../../../runtime/executor/input-buffer.ts";

/** Memory of so many bytes that gives and takes counts only. */
function memoryOf(bytesMax: number): InputMemory & { broken: boolean; written: number } {
  const taken = new Map<number, number>();
  let next = 0;
  return {
    path: undefined,
    hold: () => () => undefined,
    broken: false,
    written: 0,
    alloc(bytes) {
      const used = [...taken.values()].reduce((sum, size) => sum + size, 0);
      if (used + bytes > bytesMax) return undefined;
      taken.set(next, bytes);
      return next++;
    },
    free(offset) {
      if (!taken.delete(offset)) throw new Error("freed twice");
    },
    async write(_offset, bytes) {
      if (this.broken) throw new Error("no memory");
      this.written += bytes.byteLength;
    },
  };
}

describe("InputBuffer", () => {
  it("lets those wait that find no room, and serves them in their order", async () => {
    const buffer = new InputBuffer(memoryOf(10));
    const first = await buffer.alloc(6);
    const order: string[] = [];
    const large = buffer.alloc(8).then(() => order.push("large"));
    const small = buffer.alloc(2).then(() => order.push("small"));
    await new Promise((resolve) => setImmediate(resolve));
    expect(order).toEqual([]);
    buffer.free(first!);
    await Promise.all([large, small]);
    expect(order).toEqual(["large", "small"]);
  });

  it("says when there will never be room", async () => {
    const buffer = new InputBuffer(memoryOf(10));
    expect(await buffer.alloc(11)).toBeUndefined();
    const held = await buffer.alloc(1);
    const never = buffer.alloc(11);
    const after = buffer.alloc(1);
    buffer.free(held!);
    expect(await never).toBeUndefined();
    expect(await after).toBeDefined();
  });

  it("ends all waiting when the process is gone", async () => {
    const memory = memoryOf(10);
    const buffer = new InputBuffer(memory);
    const held = await buffer.alloc(10);
    const waiting = buffer.alloc(1);
    buffer.close();
    await expect(waiting).rejects.toBeInstanceOf(ProcessGone);
    await expect(buffer.alloc(1)).rejects.toBeInstanceOf(ProcessGone);
    await expect(buffer.write(0, new Uint8Array(1))).rejects.toBeInstanceOf(ProcessGone);
    buffer.free(held!);
    expect(memory.written).toBe(0);
  });

  it("tells memory that fails from one that is gone", async () => {
    const memory = memoryOf(10);
    const buffer = new InputBuffer(memory);
    memory.broken = true;
    await expect(buffer.write(0, new Uint8Array(1))).rejects.toThrow("no memory");
    const writing = buffer.write(0, new Uint8Array(1));
    buffer.close();
    await expect(writing).rejects.toBeInstanceOf(ProcessGone);
  });
});
