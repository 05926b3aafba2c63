/** Chunks in one message: verified, whatever they are written in, and nobody's turn of the event loop is taken for all of them. */
import { describe, expect, test } from "vitest";
import { sha256 } from "../../../packets/digest.ts";
import { ChunkPacker, unpackChunks } from "../../../nodes/transfer/chunk-batch.ts";
import type { Chunk } from "../../../nodes/transfer/chunk-batch.ts";
import { failure, randomBytes, textBytes } from "../../runtime/store/store-fixture.ts";

const CHUNK_BYTES = 64 * 1024;
/** As many as fit a message. */
const CHUNKS = 64;

function chunksOf(bytes: Uint8Array): Chunk[] {
  return Array.from({ length: bytes.byteLength / CHUNK_BYTES }, (_, index) => {
    const chunk = bytes.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES);
    return { ref: sha256(chunk), bytes: chunk };
  });
}

/** The turns of the event loop that others had while `work` was done. */
async function turnsDuring(work: () => Promise<unknown>): Promise<number> {
  let turns = -1;
  let isDone = false;
  const next = (): void => {
    turns++;
    if (!isDone) setImmediate(next);
  };
  next();
  await work();
  isDone = true;
  return turns;
}

describe.each([
  ["text", textBytes(CHUNKS * CHUNK_BYTES)],
  ["random bytes", randomBytes("batch", CHUNKS * CHUNK_BYTES)],
])("a message of %s", (_what, bytes) => {
  test("arrives as it was sent", async () => {
    const chunks = chunksOf(bytes);
    const batch = await new ChunkPacker().pack(chunks);
    const unpacked = await unpackChunks(batch);
    expect(unpacked.length).toBe(CHUNKS);
    expect(Buffer.compare(Buffer.concat(unpacked.map((chunk) => chunk.bytes)), bytes)).toBe(0);
    expect(unpacked.map(({ ref }) => Buffer.from(ref))).toEqual(chunks.map(({ ref }) => Buffer.from(ref)));
  });

  test("is verified in turns", async () => {
    const batch = await new ChunkPacker().pack(chunksOf(bytes));
    expect(await turnsDuring(() => unpackChunks(batch))).toBeGreaterThan(0);
  });

  test("with a bit that flipped is refused", async () => {
    const batch = await new ChunkPacker().pack(chunksOf(bytes));
    const body = Uint8Array.from(batch.body);
    body[body.byteLength >> 1]! ^= 1;
    const { code } = await failure(unpackChunks({ ...batch, body }));
    expect(["PFS_CHUNK_DAMAGED", "PFS_CHUNK_BATCH_INVALID"]).toContain(code);
  });

  test("that yields more or less than it says is refused", async () => {
    const packer = new ChunkPacker();
    const chunks = chunksOf(bytes);
    const [all, some] = [await packer.pack(chunks), await packer.pack(chunks.slice(1))];
    for (const batch of [
      { ...all, packets: some.packets },
      { ...some, packets: all.packets },
    ]) {
      expect(await failure(unpackChunks(batch))).toMatchObject({ code: "PFS_CHUNK_BATCH_INVALID" });
    }
  });
});

test("what is long is compressed while others have their turns", async () => {
  const chunks = chunksOf(textBytes(CHUNKS * CHUNK_BYTES));
  expect(await turnsDuring(() => new ChunkPacker().pack(chunks))).toBeGreaterThan(0);
});
