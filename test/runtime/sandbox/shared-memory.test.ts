import { closeSync, existsSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { afterEach, describe, expect, it } from "vitest";
import { SharedMemory } from "../../../runtime/sandbox/process/shared-memory.ts";
import { until } from "../../suites/until.ts";

const open: SharedMemory[] = [];
afterEach(() => {
  for (const memory of open.splice(0)) memory.close();
});

function make(bytes: number): SharedMemory {
  const memory = new SharedMemory(bytes);
  open.push(memory);
  return memory;
}

describe.runIf(process.platform === "linux")("its path", () => {
  it("names it as long as somebody holds it, and nothing else then", () => {
    const memory = new SharedMemory(640);
    const path = memory.path!;
    const { ino } = statSync(path);
    const [first, second] = [memory.hold(), memory.hold()];
    memory.close();
    const others = Array.from({ length: 8 }, () => openSync("/dev/null", "r"));
    expect(statSync(path).ino).toBe(ino);
    first();
    expect(statSync(path).ino).toBe(ino);
    second();
    expect(existsSync(path) && statSync(path).ino === ino).toBe(false);
    for (const other of others) closeSync(other);
  });
});

describe("space", () => {
  it("is given by first fit, in multiples of 64 bytes, and given back", () => {
    const memory = make(640);
    const offsets = [1, 64, 65, 128].map((bytes) => memory.alloc(bytes));
    expect(offsets).toEqual([0, 64, 128, 256]);
    expect(memory.alloc(257)).toBe(undefined);
    memory.free(64);
    expect(memory.alloc(65)).toBe(384);
    expect(memory.alloc(10)).toBe(64);
    expect(memory.alloc(129)).toBe(undefined);
    expect(memory.alloc(128)).toBe(512);
    expect(memory.alloc(1)).toBe(undefined);
    for (const offset of [64, 0, 512, 256, 128, 384]) memory.free(offset);
    expect(memory.alloc(640)).toBe(0);
  });

  it("is never given twice, and all there again at the end", () => {
    const memory = make(64 * 1024);
    const taken = new Map<number, number>();
    let seed = 7;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % below;
    };
    for (let step = 0; step < 20_000; step++) {
      if (random(2) === 0) {
        const bytes = 1 + random(3000);
        const offset = memory.alloc(bytes);
        if (offset === undefined) continue;
        for (const [other, length] of taken)
          expect(offset + bytes <= other || other + length <= offset).toBe(true);
        taken.set(offset, bytes);
      } else if (taken.size > 0) {
        const offset = [...taken.keys()][random(taken.size)]!;
        taken.delete(offset);
        memory.free(offset);
      }
    }
    for (const offset of taken.keys()) memory.free(offset);
    expect(memory.alloc(64 * 1024)).toBe(0);
  });

  it("is refused when it is freed twice or was never given", () => {
    const memory = make(128);
    memory.alloc(1);
    memory.free(0);
    expect(() => memory.free(0)).toThrow("nothing is allocated");
    expect(() => memory.alloc(0)).toThrow();
  });
});

describe("bytes", () => {
  it("arrive, small and large", async () => {
    const memory = make(4 * 1024 * 1024);
    for (const length of [1, 1000, 70_000, 3_000_000]) {
      const bytes = Buffer.alloc(length, length % 251);
      const offset = memory.alloc(length)!;
      await memory.write(offset, bytes);
      const read = Buffer.alloc(length);
      expect(readSync(memory.childDescriptor, read, 0, length, offset)).toBe(length);
      expect(read.equals(bytes)).toBe(true);
      memory.free(offset);
    }
    await expect(memory.write(4 * 1024 * 1024 - 1, Buffer.alloc(2))).rejects.toThrow(
      "beyond the shared memory",
    );
  });

  it("are let go when the shared memory is empty for a while", async () => {
    const memory = make(1024 * 1024);
    const offset = memory.alloc(1_000_000)!;
    await memory.write(offset, Buffer.alloc(1_000_000));
    const size = (): number => fstatSync(memory.childDescriptor).size;
    expect(size()).toBe(1_000_000);
    memory.free(offset);
    await until(() => size() === 0);
    expect(memory.alloc(1)).toBe(0);
  });

  it("cannot be written once it is closed", async () => {
    const memory = make(1024 * 1024);
    const offset = memory.alloc(1_000_000)!;
    const writing = memory.write(offset, Buffer.alloc(1_000_000));
    memory.close();
    await writing;
    await expect(memory.write(offset, Buffer.alloc(1))).rejects.toMatchObject({
      code: "PFS_SHARED_MEMORY_FAILED",
    });
    expect(memory.alloc(1)).toBe(undefined);
  });
});
