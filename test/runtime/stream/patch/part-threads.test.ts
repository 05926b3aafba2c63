/** Parts are written the same by threads and without them. */
import { availableParallelism } from "node:os";
import { afterAll, expect, test } from "vitest";
import { decodePart, encodePart } from "../../../../packets/patch.ts";
import { PART_THREADS_BYTES_BEFORE } from "../../../../runtime/limits.ts";
import { PartThreads } from "../../../../runtime/stream/patch/part-threads.ts";
import { seededBytes } from "../../../packets/seed.ts";
import { threadTimes } from "../../../suites/cpu-time.ts";
import { HAS_PROC } from "../../../suites/processes.ts";

const threads = new PartThreads(2);
afterAll(() => threads.close());

const PART_BYTES = 256 * 1024;
const old = seededBytes("old", 2 * PART_BYTES);

function plainOf(index: number): Uint8Array {
  const at = index * 1000;
  return Buffer.concat([
    old.subarray(at, at + 100_000),
    seededBytes(`${index}`, 500),
    old.subarray(at + 100_000, at + PART_BYTES - 500),
  ]);
}

function shared(bytes: Uint8Array): Uint8Array<SharedArrayBuffer> {
  const memory = threads.memory.take(bytes.byteLength);
  memory.set(bytes);
  return memory;
}

test.skipIf(!HAS_PROC || availableParallelism() < 2)(
  "threads write what is written without them, once there is enough",
  async () => {
    const before = threadTimes(process.pid).size;
    const dictionary = shared(old);
    const few = plainOf(0);
    expect(await threads.encode(shared(few), dictionary)).toEqual(encodePart(few, old));
    expect(threadTimes(process.pid).size).toBe(before);
    // They are started meanwhile, and what comes before they are there is written here.
    for (let bytes = 0; bytes < 4 * PART_THREADS_BYTES_BEFORE; bytes += PART_BYTES) {
      const plain = plainOf((bytes / PART_BYTES) % 200);
      const memory = shared(plain);
      const frame = await threads.encode(memory, dictionary);
      threads.memory.giveBack(memory);
      const decoded = decodePart({ frame: frame!, lengths: [plain.byteLength] }, old)!;
      expect(Buffer.compare(decoded, plain)).toBe(0);
    }
    expect(threadTimes(process.pid).size).toBeGreaterThan(before);
    const random = seededBytes("random", PART_BYTES);
    const many = Array.from({ length: 20 }, (_, index) => (index % 5 === 4 ? random : plainOf(index)));
    const frames = await Promise.all(many.map((plain) => threads.encode(shared(plain), dictionary)));
    for (const [index, plain] of many.entries()) {
      if (plain === random) expect(frames[index]).toBeUndefined();
      else expect(Buffer.from(frames[index]!)).toEqual(Buffer.from(encodePart(plain, old)!));
    }
  },
);
