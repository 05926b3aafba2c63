/** What every ChunkSource, every ChunkStore and every StoredFormStore must do, wherever its chunks are. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Codec, decompress } from "../../packets/codec.ts";
import { refAt, refToHex, sha256 } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { CHUNK_BYTES_MAX } from "../../packets/limits.ts";
import type {
  ChunkSource,
  ChunkStore,
  StoredChunk,
  StoredForms,
  StoredFormStore,
} from "../../runtime/contracts/chunks.ts";

export interface ChunkHarness<Source extends ChunkSource = ChunkSource> {
  readonly source: Source;
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

const SIZES = [1, 2, 31, 32, 33, 63, 64, 65, 4095, 4096, 65_537, CHUNK_BYTES_MAX - 1, CHUNK_BYTES_MAX];
const CHUNKS: readonly Uint8Array[] = [
  ...SIZES.map((size, index) => chunkOf(10 + index, size)),
  ...Array.from({ length: 200 }, (_, index) => chunkOf(100 + index, 500 + index)),
];
const REFS: readonly Ref[] = CHUNKS.map(sha256);
const NOWHERE: Ref = sha256(Buffer.from("nowhere"));

class Enough extends Error {
  override readonly name: string = "Enough";
}

function hexOf(chunks: readonly Uint8Array[]): string[] {
  return chunks.map((bytes) => refToHex(sha256(bytes)));
}

/** Refs whose call is aborted before it, in the turn of the call, and while it waits. */
async function expectAborts(call: (signal: AbortSignal) => Promise<unknown>): Promise<void> {
  const reason = new Enough("enough");
  await expect(call(AbortSignal.abort(reason)), "aborted before").rejects.toBe(reason);
  // Reasons that look like what a disk says are reasons all the same.
  const system = Object.assign(new Enough("enough"), { code: "EIO" });
  await expect(call(AbortSignal.abort(system)), "aborted before").rejects.toBe(system);
  for (const turns of [0, 1, 2]) {
    const controller = new AbortController();
    const done = call(controller.signal).then(
      () => "done",
      (error: unknown) => error,
    );
    for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
    controller.abort(reason);
    const outcome = await done;
    // Only what was quicker than the abort may have been answered; nothing rejects with another error than the reason.
    expect(turns === 0 ? outcome : outcome === "done" ? reason : outcome, `after ${turns} turns`).toBe(
      reason,
    );
  }
}

export function chunkSourceSuite(name: string, open: () => Promise<ChunkHarness>): void {
  describe(`${name} as a source of chunks`, () => {
    let harness: ChunkHarness;
    beforeAll(async () => {
      harness = await open();
      await harness.put(CHUNKS);
    });
    afterAll(() => harness.close());

    it("reads chunks of every size", async () => {
      for (const [index, ref] of REFS.slice(0, SIZES.length).entries()) {
        const [bytes] = await harness.source.read([ref]);
        expect(Buffer.compare(bytes!, CHUNKS[index]!)).toBe(0);
      }
    });

    it("reads nothing when nothing is asked for", async () => {
      expect(await harness.source.read([])).toEqual([]);
    });

    it("answers in the order asked, each time a chunk is asked for", async () => {
      const order = [7, 0, 212, 7, 100, 99, 98, 7, 3, 211, 12, 12];
      const read = await harness.source.read(order.map((index) => REFS[index]!));
      expect(hexOf(read)).toEqual(order.map((index) => refToHex(REFS[index]!)));
    });

    it("reads everything at once, and in many calls at once", async () => {
      const calls = Array.from({ length: 8 }, (_, first) =>
        harness.source.read(REFS.slice(first * 20, first * 20 + 40)),
      );
      const [all, ...some] = await Promise.all([harness.source.read(REFS), ...calls]);
      expect(hexOf(all!)).toEqual(REFS.map(refToHex));
      for (const [first, read] of some.entries()) {
        expect(hexOf(read)).toEqual(REFS.slice(first * 20, first * 20 + 40).map(refToHex));
      }
    });

    it("rejects with the ref of a chunk that is nowhere, and returns none of the others", async () => {
      await expect(harness.source.read([REFS[0]!, NOWHERE, REFS[1]!])).rejects.toMatchObject({
        code: "PFS_CHUNK_MISSING",
        data: { ref: refToHex(NOWHERE) },
      });
    });

    it("rejects with the reason of the signal that tells it to stop, and goes on for others", async () => {
      await expectAborts((signal) => harness.source.read(REFS, signal));
      const controller = new AbortController();
      const [stopped, other] = [
        harness.source.read(REFS, controller.signal),
        harness.source.read(REFS.slice(0, 50)),
      ];
      controller.abort(new Enough("enough"));
      await expect(stopped).rejects.toThrow(Enough);
      expect(hexOf(await other)).toEqual(REFS.slice(0, 50).map(refToHex));
    });

    it("never returns wrong bytes", async (context) => {
      if (harness.damage === undefined) return context.skip();
      await harness.damage(CHUNKS[60]!);
      await expect(harness.source.read([REFS[59]!, REFS[60]!])).rejects.toMatchObject({
        code: "PFS_CHUNK_DAMAGED",
        data: { ref: refToHex(REFS[60]!) },
      });
      expect(await harness.source.read([REFS[59]!, REFS[61]!])).toHaveLength(2);
    });
  });
}

/** Everything that a source must do, and what a store does beyond it. `open` is called twice: for what has chunks, and anew. */
export function chunkStoreSuite(name: string, open: () => Promise<ChunkHarness<ChunkStore>>): void {
  chunkSourceSuite(name, open);

  describe(`${name} as a store of chunks`, () => {
    let harness: ChunkHarness<ChunkStore>;
    let store: ChunkStore;
    beforeAll(async () => {
      harness = await open();
      store = harness.source;
      await harness.put(CHUNKS);
    });
    afterAll(() => harness.close());

    it("says of each ref whether its chunk is there", async () => {
      const refs = [REFS[0]!, NOWHERE, REFS[100]!, NOWHERE, REFS[0]!];
      expect(await store.has(Buffer.concat(refs))).toEqual(Uint8Array.of(1, 0, 1, 0, 1));
      expect(await store.has(new Uint8Array(0))).toEqual(new Uint8Array(0));
      expect(await store.has(Buffer.concat(REFS))).toEqual(new Uint8Array(REFS.length).fill(1));
    });

    it("rejects with the reason of the signal that tells it to stop", async () => {
      await expect(store.has(Buffer.concat(REFS), AbortSignal.abort(new Enough("enough")))).rejects.toThrow(
        Enough,
      );
    });

    it("gives writers that say what was new, and claim what is there", async () => {
      await using writer = await store.openWriter();
      const fresh = chunkOf(9001, 5000);
      const block = (): Uint8Array<ArrayBuffer> =>
        Uint8Array.from(Buffer.concat([CHUNKS[50]!, fresh, fresh]));
      const lengths = (): Uint32Array<ArrayBuffer> => Uint32Array.of(CHUNKS[50]!.byteLength, 5000, 5000);
      const refs = Buffer.concat([REFS[50]!, sha256(fresh), sha256(fresh)]);
      expect(await writer.claim(refs)).toEqual(Uint8Array.of(1, 0, 0));
      const first = await writer.write(block(), lengths());
      expect(first).toMatchObject({ newChunks: 1, newBytes: 5000 });
      expect(Buffer.compare(first.refs, refs)).toBe(0);
      expect(await writer.write(block(), lengths())).toMatchObject({ newChunks: 0, newBytes: 0 });
      expect(await writer.claim(refs)).toEqual(Uint8Array.of(1, 1, 1));
      await writer.flush();
      expect(hexOf(await store.read([refAt(refs, 1)]))).toEqual([refToHex(sha256(fresh))]);
    });

    it("gives writers that refuse blocks which are none", async () => {
      await using writer = await store.openWriter();
      for (const [size, lengths] of [
        [10, [5]],
        [10, [5, 6]],
        [10, [10, 0]],
        [CHUNK_BYTES_MAX + 1, [CHUNK_BYTES_MAX + 1]],
      ] as const) {
        await expect(writer.write(new Uint8Array(size), Uint32Array.from(lengths))).rejects.toThrow(
          RangeError,
        );
      }
      expect(await writer.write(new Uint8Array(0), new Uint32Array(0))).toMatchObject({ newChunks: 0 });
    });

    it("gives writers whose end is the end of their use", async () => {
      const writer = await store.openWriter();
      await writer.close();
      await writer.close();
      for (const use of [
        () => writer.write(new Uint8Array(1), Uint32Array.of(1)),
        () => writer.claim(REFS[0]!),
        () => writer.flush(),
        () => writer.bind({ name: "late", root: REFS[0]!, length: 1 }),
      ]) {
        await expect(use()).rejects.toMatchObject({ code: "PFS_STORE_CLOSED" });
      }
    });
  });
}

/** A block of chunks as they are kept elsewhere. */
function storedBlockOf(
  refs: readonly Ref[],
  chunks: readonly StoredChunk[],
): { block: Uint8Array<ArrayBuffer>; forms: StoredForms } {
  return {
    block: Uint8Array.from(Buffer.concat(chunks.map(({ bytes }) => bytes))),
    forms: {
      refs: Uint8Array.from(Buffer.concat(refs)),
      lengths: Uint32Array.from(chunks, ({ bytes }) => bytes.byteLength),
      plainLengths: Uint32Array.from(chunks, ({ plainBytes }) => plainBytes),
      codecs: Uint8Array.from(chunks, ({ codec }) => codec),
    },
  };
}

/** All of it, and what a store does with chunks in their stored form. `open` is called once more. */
export function storedFormSuite(name: string, open: () => Promise<ChunkHarness<StoredFormStore>>): void {
  chunkStoreSuite(name, open);

  describe(`${name} as a store of stored forms`, () => {
    let harness: ChunkHarness<StoredFormStore>;
    let store: StoredFormStore;
    beforeAll(async () => {
      harness = await open();
      store = harness.source;
      await harness.put(CHUNKS);
    });
    afterAll(() => harness.close());

    it("stops reading them with the reason of the signal that tells it to", async () => {
      await expectAborts((signal) => store.readStored(REFS, signal));
    });

    it("reads chunks in the form in which they are kept", async () => {
      const stored = await store.readStored(REFS);
      const plain = stored.map(({ bytes, codec, plainBytes }) => decompress(bytes, codec, plainBytes)!);
      expect(hexOf(plain)).toEqual(REFS.map(refToHex));
      for (const { codec, bytes, plainBytes } of stored) {
        if (codec === Codec.plain) expect(bytes.byteLength).toBe(plainBytes);
        else expect(bytes.byteLength).toBeLessThan(plainBytes);
      }
      // A MiB of a pattern is kept small.
      expect(stored[SIZES.length - 1]!.bytes.byteLength).toBeLessThan(CHUNK_BYTES_MAX / 2);
      expect(await store.readStored([])).toEqual([]);
      await expect(store.readStored([REFS[0]!, NOWHERE])).rejects.toMatchObject({
        code: "PFS_CHUNK_MISSING",
        data: { ref: refToHex(NOWHERE) },
      });
    });

    it("never passes on wrong bytes", async (context) => {
      if (harness.damage === undefined) return context.skip();
      const chunk = chunkOf(9000, 5000);
      await harness.put([chunk]);
      await harness.damage(chunk);
      await expect(store.readStored([REFS[70]!, sha256(chunk)])).rejects.toMatchObject({
        code: "PFS_CHUNK_DAMAGED",
        data: { ref: refToHex(sha256(chunk)) },
      });
    });

    it("takes chunks as another store keeps them, and nothing that is not what its ref says", async () => {
      const other = await open();
      try {
        const stored = await store.readStored(REFS);
        await using writer = await other.source.openWriter();
        const lie = storedBlockOf(
          REFS.slice(0, 20),
          stored.slice(0, 20).map((chunk, index) => (index === 13 ? stored[14]! : chunk)),
        );
        await expect(writer.writeStored(lie.block, lie.forms)).rejects.toMatchObject({
          code: "PFS_CHUNK_DAMAGED",
          data: { ref: refToHex(REFS[13]!) },
        });
        expect(await other.source.has(Buffer.concat(REFS))).toEqual(new Uint8Array(REFS.length));

        const { block, forms } = storedBlockOf(REFS, stored);
        const plainBytes = CHUNKS.reduce((sum, { byteLength }) => sum + byteLength, 0);
        const written = await writer.writeStored(block, forms);
        expect(written).toMatchObject({ newChunks: REFS.length, newBytes: plainBytes });
        expect(Buffer.compare(written.refs, Buffer.concat(REFS))).toBe(0);
        const again = storedBlockOf(REFS, stored);
        expect(await writer.writeStored(again.block, again.forms)).toMatchObject({
          newChunks: 0,
          newBytes: 0,
        });
        await writer.flush();
        expect(hexOf(await other.source.read(REFS))).toEqual(REFS.map(refToHex));
      } finally {
        await other.close();
      }
    });
  });
}
