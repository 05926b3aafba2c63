/** Chunks as they are stored, and the memory that reading them takes. */
import { zstdCompressSync } from "node:zlib";
import { expect, test } from "vitest";
import { Codec, decompress, discardPlain } from "../../packets/codec.ts";
import { seededBytes } from "./seed.ts";

test("memory that was made for plain bytes is freed, and no other", () => {
  const plain = Buffer.alloc(100_000, seededBytes("codec", 1_000));
  const made = decompress(zstdCompressSync(plain), Codec.zstd, plain.byteLength)!;
  expect(plain.equals(made)).toBe(true);
  discardPlain(made, Codec.zstd);
  expect(made.byteLength).toBe(0);
  // Bytes that are found as they are belong to whoever has them.
  const block = new Uint8Array(plain.byteLength + 1);
  const found = decompress(block.subarray(1), Codec.plain, plain.byteLength)!;
  discardPlain(found, Codec.plain);
  discardPlain(block.subarray(0, 50_000), Codec.zstd);
  expect(block.byteLength).toBe(plain.byteLength + 1);
  // What is short may stand in memory of many.
  const short = decompress(zstdCompressSync(plain.subarray(0, 1_000)), Codec.zstd, 1_000)!;
  discardPlain(short, Codec.zstd);
  expect(short.byteLength).toBe(1_000);
});
