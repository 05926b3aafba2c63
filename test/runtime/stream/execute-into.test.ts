/** Bytes of a stream in a file, where who has its chunks does not write them there. */
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { ChunkPlacer } from "../../../runtime/contracts/chunks.ts";
import { READ_AHEAD_BYTES } from "../../../runtime/limits.ts";
import { executeInto } from "../../../runtime/stream/execute-into.ts";
import { execute } from "../../../runtime/stream/execute.ts";
import { seededBytes } from "../../packets/seed.ts";
import { collect, temporaryDirectory } from "../store/store-fixture.ts";
import { ShelfSource } from "./shelf-source.ts";

function placerOf(source: ShelfSource): ChunkPlacer {
  return { read: (refs, signal) => source.read(refs, signal), place: async () => false };
}

describe("a stream that nobody else writes to a file", () => {
  test("is written there, with and without chunks, longer than what is written at once", async () => {
    await using directory = await temporaryDirectory();
    const source = new ShelfSource();
    const chunk = source.shelf.put(seededBytes("into", 1000));
    const filled = READ_AHEAD_BYTES + 12_345;
    for (const hasChunks of [true, false]) {
      const { root, length } = source.shelf.write((writer) => {
        for (let index = 0; index < 100; index++) {
          writer.data(seededBytes(`literal ${index}`, 10));
          if (hasChunks) writer.copy(chunk, index, 100);
        }
        writer.fill(Buffer.from("abc"), filled);
        writer.data(Buffer.from("the end"));
      });
      const path = join(directory.path, String(hasChunks));
      await using file = await open(path, "w+");
      expect(await executeInto(placerOf(source), root, file.fd)).toBe(length);
      expect(Buffer.compare(await readFile(path), await collect(execute(source, root)))).toBe(0);
    }
  });

  test("may yield more than memory holds, and stops with its signal meanwhile", async () => {
    await using file = await open("/dev/null", "w");
    const source = new ShelfSource();
    const chunk = source.shelf.put(seededBytes("into", 1000));
    for (const isPlaced of [true, false]) {
      const { root } = source.shelf.write((writer) => {
        writer.copy(chunk, 0, 1000);
        writer.fill(Uint8Array.of(7), 2 ** 50);
      });
      const controller = new AbortController();
      const enough = new Error("enough");
      const placer: ChunkPlacer = {
        ...placerOf(source),
        place: async () => {
          setImmediate(() => controller.abort(enough));
          return isPlaced;
        },
      };
      const written = executeInto(placer, root, file.fd, { signal: controller.signal });
      await expect(written).rejects.toBe(enough);
    }
  });
});
