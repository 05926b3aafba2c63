/** What every ChunkSource must do, wherever its chunks are. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { refToHex, sha256 } from "../../packets/digest.ts";
import { hasCode } from "../../packets/errors.ts";
import { CHUNK_BYTES_MAX } from "../../packets/limits.ts";
import type { ChunkSource } from "../../runtime/contracts/chunks.ts";

export interface ChunkSourceHarness {
  readonly source: ChunkSource;
  /** Puts chunks where the source finds them. */
  put(chunks: readonly Uint8Array[]): Promise<void>;
  /** Changes the bytes of a chunk where they are kept; undefined where a test cannot reach them. */
  readonly damage?: (chunk: Uint8Array) => Promise<void>;
  close(): Promise<void>;
}

/** Bytes that compress (even seeds) or do not, different for each seed. */
function chunkOf(seed: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0, word = seed * 2_654_435_761 + 1; at < length; at++) {
    word = (Math.imul(word, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[at] = seed % 2 === 0 ? at % 7 : word >>> 24;
  }
  bytes.set(Buffer.from(`${seed}`).subarray(0, length));
  return bytes;
}

export function chunkSourceSuite(name: string, open: () => Promise<ChunkSourceHarness>): void {
  describe(`${name} as a source of chunks`, () => {
    let harness: ChunkSourceHarness;
    const sizes = [1, 2, 31, 32, 33, 63, 64, 65, 4095, 4096, 65_537, CHUNK_BYTES_MAX - 1, CHUNK_BYTES_MAX];
    const chunks = [
      ...sizes.map((size, index) => chunkOf(10 + index, size)),
      ...Array.from({ length: 200 }, (_, index) => chunkOf(100 + index, 500 + index)),
    ];
    const refs = chunks.map(sha256);

    beforeAll(async () => {
      harness = await open();
      await harness.put(chunks);
    });
    afterAll(() => harness.close());

    it("reads chunks of every size", async () => {
      for (const [index, ref] of refs.slice(0, sizes.length).entries()) {
        const [bytes] = await harness.source.read([ref]);
        expect(Buffer.compare(bytes!, chunks[index]!)).toBe(0);
      }
    });

    it("reads nothing when nothing is asked for", async () => {
      expect(await harness.source.read([])).toEqual([]);
    });

    it("answers in the order asked, each time a chunk is asked for", async () => {
      const order = [7, 0, 212, 7, 100, 99, 98, 7, 3, 211, 12, 12];
      const read = await harness.source.read(order.map((index) => refs[index]!));
      expect(read.map((bytes) => refToHex(sha256(bytes)))).toEqual(
        order.map((index) => refToHex(refs[index]!)),
      );
    });

    it("reads everything at once, and in many calls at once", async () => {
      const calls = Array.from({ length: 8 }, (_, first) =>
        harness.source.read(refs.slice(first * 20, first * 20 + 40)),
      );
      const [all, ...some] = await Promise.all([harness.source.read(refs), ...calls]);
      expect(all!.map((bytes) => refToHex(sha256(bytes)))).toEqual(refs.map(refToHex));
      for (const [first, read] of some.entries()) {
        expect(read.map((bytes) => bytes.byteLength)).toEqual(
          chunks.slice(first * 20, first * 20 + 40).map((bytes) => bytes.byteLength),
        );
      }
    });

    it("rejects with the ref of a chunk that is nowhere, and returns none of the others", async () => {
      const nowhere = sha256(Buffer.from("nowhere"));
      const error = await harness.source
        .read([refs[0]!, nowhere, refs[1]!])
        .then(() => undefined)
        .catch((reason: unknown) => reason);
      expect(hasCode(error, "PFS_CHUNK_MISSING") && error.data["ref"]).toBe(refToHex(nowhere));
    });

    it("stops when it is told to", async () => {
      await expect(harness.source.read(refs, AbortSignal.abort(new Error("enough")))).rejects.toThrow(
        "enough",
      );
      const controller = new AbortController();
      const read = harness.source.read(refs, controller.signal);
      controller.abort(new Error("enough"));
      await expect(read).rejects.toThrow("enough");
      expect(await harness.source.read([refs[0]!])).toHaveLength(1);
    });

    it("never returns wrong bytes", async (context) => {
      if (harness.damage === undefined) return context.skip();
      await harness.damage(chunks[60]!);
      const error = await harness.source
        .read([refs[59]!, refs[60]!])
        .then(() => undefined)
        .catch((reason: unknown) => reason);
      expect(hasCode(error, "PFS_CHUNK_DAMAGED") && error.data["ref"]).toBe(refToHex(refs[60]!));
      expect(await harness.source.read([refs[59]!, refs[61]!])).toHaveLength(2);
    });
  });
}
