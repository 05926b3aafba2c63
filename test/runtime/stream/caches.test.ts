import { describe, expect, it } from "vitest";
import { CACHED_CHUNK_COST_BYTES } from "../../../runtime/limits.ts";
import { ChunkCache } from "../../../runtime/stream/caches.ts";
import { chunkSourceSuite } from "../../suites/chunk-source.ts";
import { MemoryChunks } from "../executor/memory-chunks.ts";
import { ShelfSource } from "./shelf-source.ts";

chunkSourceSuite("a cache of chunks", async () => {
  const behind = new ShelfSource();
  return {
    // Too small for all of the chunks.
    source: new ChunkCache(behind, 64 * 1024),
    put: async (chunks) => chunks.forEach((chunk) => behind.shelf.put(chunk)),
    close: async () => {},
  };
});

describe("ChunkCache", () => {
  it("reads what it does not have, once, and answers in the order asked", async () => {
    const chunks = new MemoryChunks();
    const contents = [1, 2, 3].map((value) => new Uint8Array(10).fill(value));
    const refs = contents.map((bytes) => chunks.put(bytes));
    const cache = new ChunkCache(chunks, 10_000);
    expect(await cache.read([refs[1]!])).toEqual([contents[1]]);
    expect(await cache.read([refs[0]!, refs[1]!, refs[2]!, refs[0]!])).toEqual([
      contents[0],
      contents[1],
      contents[2],
      contents[0],
    ]);
    expect(await cache.read(refs)).toEqual(contents);
    expect(chunks.reads).toBe(2);
  });

  it("forgets the chunk that was used longest ago", async () => {
    const chunks = new MemoryChunks();
    const refs = [1, 2, 3].map((value) => chunks.put(new Uint8Array(10).fill(value)));
    const cache = new ChunkCache(chunks, 2 * (10 + CACHED_CHUNK_COST_BYTES) + 5);
    await cache.read([refs[0]!]);
    await cache.read([refs[1]!]);
    await cache.read([refs[0]!]);
    await cache.read([refs[2]!]);
    chunks.reads = 0;
    await cache.read([refs[0]!]);
    await cache.read([refs[2]!]);
    expect(chunks.reads).toBe(0);
    await cache.read([refs[1]!]);
    expect(chunks.reads).toBe(1);
  });

  it("keeps nothing that is larger than itself, nor the block that a chunk was read with", async () => {
    const block = new Uint8Array(1000).fill(7);
    const cache = new ChunkCache({ read: async () => [block.subarray(0, 20)] }, 50 + CACHED_CHUNK_COST_BYTES);
    const chunks = new MemoryChunks();
    const ref = chunks.put(block);
    const [first] = await cache.read([ref]);
    block.fill(0);
    const [again] = await cache.read([ref]);
    expect([first![0], again![0]]).toEqual([0, 7]);

    const large = new ChunkCache(chunks, 999);
    await large.read([ref]);
    await large.read([ref]);
    expect(chunks.reads).toBe(2);
  });

  it("has forgotten everything when it is cleared", async () => {
    const chunks = new MemoryChunks();
    const ref = chunks.put(new Uint8Array(10));
    const cache = new ChunkCache(chunks, 10_000);
    await cache.read([ref]);
    cache.clear();
    await cache.read([ref]);
    await cache.read([ref]);
    expect(chunks.reads).toBe(2);
  });

  it("counts what chunks of a few bytes cost beside them", async () => {
    const chunks = new MemoryChunks();
    const cache = new ChunkCache(chunks, 100 * CACHED_CHUNK_COST_BYTES);
    const refs = Array.from({ length: 200 }, (_, index) => chunks.put(Uint8Array.of(index)));
    for (const ref of refs) await cache.read([ref]);
    chunks.reads = 0;
    for (const ref of refs.slice(-99)) await cache.read([ref]);
    expect(chunks.reads).toBe(0);
    await cache.read([refs[0]!]);
    expect(chunks.reads).toBe(1);
  });

  it("passes on what the source rejects with", async () => {
    const cache = new ChunkCache(new MemoryChunks(), 100);
    await expect(cache.read([new Uint8Array(32)])).rejects.toMatchObject({ code: "PFS_CHUNK_MISSING" });
  });
});
