import { fstatSync, readSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { Window } from "../../../runtime/sandbox/process/shared-memory.ts";

const windows: Window[] = [];
afterEach(() => {
  for (const window of windows.splice(0)) window.close();
});

function open(bytes: number): Window {
  const window = new Window(bytes);
  windows.push(window);
  return window;
}

describe("space", () => {
  it("is given by first fit, in multiples of 64 bytes, and given back", () => {
    const window = open(640);
    const offsets = [1, 64, 65, 128].map((bytes) => window.alloc(bytes));
    expect(offsets).toEqual([0, 64, 128, 256]);
    expect(window.alloc(257)).toBe(undefined);
    window.free(64);
    expect(window.alloc(65)).toBe(384);
    expect(window.alloc(10)).toBe(64);
    expect(window.alloc(129)).toBe(undefined);
    expect(window.alloc(128)).toBe(512);
    expect(window.alloc(1)).toBe(undefined);
    for (const offset of [64, 0, 512, 256, 128, 384]) window.free(offset);
    expect(window.alloc(640)).toBe(0);
  });

  it("is never given twice, and all there again at the end", () => {
    const window = open(64 * 1024);
    const taken = new Map<number, number>();
    let seed = 7;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % below;
    };
    for (let step = 0; step < 20_000; step++) {
      if (random(2) === 0) {
        const bytes = 1 + random(3000);
        const offset = window.alloc(bytes);
        if (offset === undefined) continue;
        for (const [other, length] of taken)
          expect(offset + bytes <= other || other + length <= offset).toBe(true);
        taken.set(offset, bytes);
      } else if (taken.size > 0) {
        const offset = [...taken.keys()][random(taken.size)]!;
        taken.delete(offset);
        window.free(offset);
      }
    }
    for (const offset of taken.keys()) window.free(offset);
    expect(window.alloc(64 * 1024)).toBe(0);
  });

  it("is refused when it is freed twice or was never given", () => {
    const window = open(128);
    window.alloc(1);
    window.free(0);
    expect(() => window.free(0)).toThrow("nothing is allocated");
    expect(() => window.alloc(0)).toThrow();
  });
});

describe("bytes", () => {
  it("arrive, small and large", async () => {
    const window = open(4 * 1024 * 1024);
    for (const length of [1, 1000, 70_000, 3_000_000]) {
      const bytes = Buffer.alloc(length, length % 251);
      const offset = window.alloc(length)!;
      await window.write(offset, bytes);
      const read = Buffer.alloc(length);
      expect(readSync(window.childDescriptor, read, 0, length, offset)).toBe(length);
      expect(read.equals(bytes)).toBe(true);
      window.free(offset);
    }
    await expect(window.write(4 * 1024 * 1024 - 1, Buffer.alloc(2))).rejects.toThrow("beyond the window");
  });

  it("are let go when the window is empty for a while", async () => {
    const window = open(1024 * 1024);
    const offset = window.alloc(1_000_000)!;
    await window.write(offset, Buffer.alloc(1_000_000));
    const size = (): number => fstatSync(window.childDescriptor).size;
    expect(size()).toBe(1_000_000);
    window.free(offset);
    await sleep(500);
    expect(size()).toBe(0);
    expect(window.alloc(1)).toBe(0);
  });

  it("cannot be written once it is closed", async () => {
    const window = open(1024 * 1024);
    const offset = window.alloc(1_000_000)!;
    const writing = window.write(offset, Buffer.alloc(1_000_000));
    window.close();
    await writing;
    await expect(window.write(offset, Buffer.alloc(1))).rejects.toMatchObject({ code: "PFS_WINDOW_FAILED" });
    expect(window.alloc(1)).toBe(undefined);
  });
});
