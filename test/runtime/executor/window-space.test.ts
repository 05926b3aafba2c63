import { describe, expect, it } from "vitest";
import { WindowGone, WindowSpace } from "../../../runtime/executor/window-space.ts";
import type { Window } from "../../../runtime/executor/window-space.ts";

/** A window of so many bytes that gives and takes counts only. */
function windowOf(bytesMax: number): Window & { broken: boolean; written: number } {
  const taken = new Map<number, number>();
  let next = 0;
  return {
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

describe("WindowSpace", () => {
  it("lets those wait that find no room, and serves them in their order", async () => {
    const space = new WindowSpace(windowOf(10));
    const first = await space.alloc(6);
    const order: string[] = [];
    const large = space.alloc(8).then(() => order.push("large"));
    const small = space.alloc(2).then(() => order.push("small"));
    await new Promise((resolve) => setImmediate(resolve));
    expect(order).toEqual([]);
    space.free(first!);
    await Promise.all([large, small]);
    expect(order).toEqual(["large", "small"]);
  });

  it("says when there will never be room", async () => {
    const space = new WindowSpace(windowOf(10));
    expect(await space.alloc(11)).toBeUndefined();
    const held = await space.alloc(1);
    const never = space.alloc(11);
    const after = space.alloc(1);
    space.free(held!);
    expect(await never).toBeUndefined();
    expect(await after).toBeDefined();
  });

  it("ends all waiting when the process is gone", async () => {
    const window = windowOf(10);
    const space = new WindowSpace(window);
    const held = await space.alloc(10);
    const waiting = space.alloc(1);
    space.close();
    await expect(waiting).rejects.toBeInstanceOf(WindowGone);
    await expect(space.alloc(1)).rejects.toBeInstanceOf(WindowGone);
    await expect(space.write(0, new Uint8Array(1))).rejects.toBeInstanceOf(WindowGone);
    space.free(held!);
    expect(window.written).toBe(0);
  });

  it("tells a window that fails from one that is gone", async () => {
    const window = windowOf(10);
    const space = new WindowSpace(window);
    window.broken = true;
    await expect(space.write(0, new Uint8Array(1))).rejects.toThrow("no memory");
    const writing = space.write(0, new Uint8Array(1));
    space.close();
    await expect(writing).rejects.toBeInstanceOf(WindowGone);
  });
});
