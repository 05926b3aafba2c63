import { mkdirSync, openSync, closeSync, ftruncateSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { CHUNKER_DEFAULTS } from "../../../packets/chunker.ts";
import { refToHex, sha256 } from "../../../packets/digest.ts";
import { readInteger32 } from "../../../packets/integer.ts";
import { Op } from "../../../packets/layout.ts";
import { opAt, packetCount } from "../../../packets/packet.ts";
import { INGEST_BLOCK_BYTES } from "../../../runtime/limits.ts";
import { walkStreams } from "../../../runtime/stream/walk.ts";
import { fileSource, ingest } from "../../../runtime/stream/ingest.ts";
import type { Ingested } from "../../../runtime/stream/ingest.ts";
import type { BaseMatch, Matcher } from "../../../runtime/contracts/matcher.ts";
import type { ChunkSink } from "../../../runtime/contracts/chunks.ts";
import {
  collect,
  failure,
  get,
  inPieces,
  namesOf,
  put,
  randomBytes,
  readAll,
  textBytes,
} from "../store/store-fixture.ts";
import { openStore } from "./open-store.ts";

const { directory, store, writer } = await openStore();

const { minBytes, maxBytes } = CHUNKER_DEFAULTS;

/** Names of the packets of all streams. */
async function ops(root: Uint8Array): Promise<number[]> {
  const found: number[] = [];
  for await (const { frame } of walkStreams(store, root)) {
    for (let index = 0; index < packetCount(frame); index++) found.push(opAt(frame, index));
  }
  return found;
}

async function roundTrip(bytes: Uint8Array, pieceBytes = 100_000): Promise<Ingested> {
  const ingested = await ingest(writer, inPieces(bytes, pieceBytes));
  expect(ingested.length).toBe(bytes.byteLength);
  expect(Buffer.compare(await readAll(store, ingested.root), bytes)).toBe(0);
  return ingested;
}

/** Finds pieces of a base by the bytes that they begin with: a small one of what known-base updates need. */
class BaseMatcher implements Matcher {
  readonly #pieces = new Map<number, { readonly ref: Uint8Array; readonly bytes: Uint8Array }>();
  /** What would come next if the file went on like the base. */
  #next: { readonly ref: Uint8Array; readonly bytes: Uint8Array; readonly from: number } | undefined;

  add(ref: Uint8Array, bytes: Uint8Array): void {
    this.#pieces.set(readInteger32(bytes, 0), { ref, bytes });
  }

  match(bytes: Uint8Array, start: number, end: number): BaseMatch | undefined {
    const next = this.#next;
    this.#next = undefined;
    const going = next && this.#pieceAt(next, next.from, bytes, start, end);
    if (going !== undefined) return going;
    for (let at = start; at + 4 <= end; at++) {
      const piece = this.#pieces.get(readInteger32(bytes, at));
      const match = piece && this.#pieceAt(piece, 0, bytes, at, end);
      if (match !== undefined) return match;
    }
    return undefined;
  }

  #pieceAt(
    { ref, bytes }: { readonly ref: Uint8Array; readonly bytes: Uint8Array },
    from: number,
    file: Uint8Array,
    at: number,
    end: number,
  ): BaseMatch | undefined {
    let length = 0;
    while (
      at + length < end &&
      from + length < bytes.byteLength &&
      file[at + length] === bytes[from + length]
    )
      length++;
    if (length === 0) return undefined;
    if (from + length < bytes.byteLength) this.#next = { ref, bytes, from: from + length };
    return { at, ref, from, length };
  }
}

describe("what a matcher knows", () => {
  test("is named instead of stored, and everything else is as ever", async () => {
    const base = Array.from({ length: 40 }, (_, index) => randomBytes(`base ${index}`, 50_000));
    const matcher = new BaseMatcher();
    for (const bytes of base) {
      await writer.write(bytes.slice(), Uint32Array.of(bytes.byteLength));
      matcher.add(sha256(bytes), bytes);
    }
    const fresh = randomBytes("between", 300_000);
    const bytes = Buffer.concat([
      ...base.slice(0, 20),
      fresh,
      ...base.slice(20),
      Buffer.alloc(200_000),
      fresh,
    ]);
    const known = await ingest(writer, inPieces(bytes, 70_000), { matcher });
    expect(known.length).toBe(bytes.byteLength);
    expect(Buffer.compare(await readAll(store, known.root), bytes)).toBe(0);
    // What stands between is stored, the zeros at worst too, and the chunks of the stream; of the base nothing.
    expect(known.newBytes).toBeLessThan(2 * fresh.byteLength + 210_000);
    const plain = await ingest(writer, inPieces(bytes, 70_000));
    expect(plain.newBytes).toBeGreaterThan(1_500_000);
    const all = await ingest(writer, inPieces(Buffer.concat(base), 70_000), { matcher });
    expect(Buffer.compare(await readAll(store, all.root), Buffer.concat(base))).toBe(0);
    expect(all.newBytes).toBeLessThan(64 * 200);
  });
});

describe("what goes in comes out", () => {
  const firstBlocks = [65_536, 65_536 + 524_288];
  const borders = [minBytes, maxBytes, ...firstBlocks, INGEST_BLOCK_BYTES].flatMap((size) => [
    size - 1,
    size,
    size + 1,
  ]);
  const sizes = [1, 31, 32, 33, 64, 1000, 9_000_001, ...borders];
  test.each(sizes)("%i random bytes", async (size) => {
    await roundTrip(randomBytes(`size ${size}`, size), size > 1_000_000 ? 3_333_333 : 777);
  });

  test.each([1, 32, 33, 40_000, INGEST_BLOCK_BYTES + 70_000])("%i bytes of text", async (size) => {
    await roundTrip(textBytes(size));
  });

  test.each([1, 32, 33, maxBytes, maxBytes + 1, 3 * INGEST_BLOCK_BYTES + 1])("%i zeros", async (size) => {
    await roundTrip(new Uint8Array(size), 1_000_000);
  });

  test("nothing, which is a stream of a HALT alone", async () => {
    const { root, packets, chunks } = await roundTrip(new Uint8Array(0));
    expect({ packets, chunks, ops: await ops(root) }).toEqual({ packets: 1, chunks: 1, ops: [Op.HALT] });
  });

  test("pieces of any size, empty ones too", async () => {
    const bytes = randomBytes("pieces", 300_000);
    async function* pieces(): AsyncGenerator<Uint8Array> {
      for (let at = 0, size = 0; at < bytes.length; at += size, size = (size * 7 + 1) % 20_011) {
        yield bytes.subarray(at, at + size);
      }
    }
    const { root } = await ingest(writer, pieces());
    expect(Buffer.compare(await readAll(store, root), bytes)).toBe(0);
  });

  test("random bytes and runs of one byte among each other", async () => {
    const parts: Uint8Array[] = [];
    for (let index = 0; index < 24; index++) {
      parts.push(new Uint8Array(index * 40_000).fill(index % 3), randomBytes(`run ${index}`, index * 11_000));
    }
    const bytes = Buffer.concat(parts);
    const { root } = await roundTrip(bytes, 1_234_567);
    expect(await ops(root)).toContain(Op.FILL);
  });
});

describe("a stream", () => {
  test("does not depend on how its bytes came in", async () => {
    const bytes = Buffer.concat([randomBytes("same", 6_000_000), new Uint8Array(500_000), textBytes(70_000)]);
    const path = join(directory, "same.bin");
    writeFileSync(path, bytes);
    const roots = await Promise.all([
      ingest(writer, inPieces(bytes, 1000)),
      ingest(writer, inPieces(bytes, 999_999)),
      ingest(writer, inPieces(bytes, bytes.length)),
      ingest(writer, fileSource(path)),
      ingest(writer, collectLater(fileSource(path))),
    ]);
    expect(new Set(roots.map(({ root }) => refToHex(root))).size).toBe(1);
  });

  test("has the last bytes in it when they are too few for a chunk, and runs as FILL", async () => {
    expect(await ops((await roundTrip(randomBytes("tiny", 32))).root)).toEqual([Op.DATA, Op.HALT]);
    expect(await ops((await roundTrip(new Uint8Array(32))).root)).toEqual([Op.DATA, Op.HALT]);
    expect(await ops((await roundTrip(randomBytes("tiny", 33))).root)).toEqual([Op.COPY, Op.HALT]);
    expect(await ops((await roundTrip(new Uint8Array(40_000_000))).root)).toEqual([Op.FILL, Op.HALT]);
  });

  test.each([4096, 65_536, 1_048_576])(
    "is cut by a chunker with chunks of up to %i bytes",
    async (maxBytes) => {
      const chunker = { minBytes: 1024, averageBytes: 4096, maxBytes };
      for (const size of [65_535, 65_536, 65_537, 131_072, 700_000]) {
        const bytes = Buffer.concat([randomBytes(`odd ${size}`, size >> 1), textBytes(size - (size >> 1))]);
        const { root } = await ingest(writer, inPieces(bytes, 10_000), { chunker });
        expect(Buffer.compare(await readAll(store, root), bytes)).toBe(0);
      }
    },
  );

  test("is cut by the chunker that was asked for", async () => {
    const chunker = { minBytes: 256, averageBytes: 1024, maxBytes: 4096, salt: Uint8Array.of(1) };
    const { root, chunks, packets } = await ingest(
      writer,
      inPieces(randomBytes("small", 3_000_000), 65_536),
      {
        chunker,
      },
    );
    expect(chunks).toBeGreaterThan(1500);
    expect(packets).toBeGreaterThan(chunks);
    expect(await ops(root)).toContain(Op.CALL);
    expect(Buffer.compare(await readAll(store, root), randomBytes("small", 3_000_000))).toBe(0);
  });
});

describe("what is there already", () => {
  test("is not stored again", async () => {
    const bytes = randomBytes("dedupe", 5_000_000);
    const first = await ingest(writer, inPieces(bytes, 100_000));
    expect(first).toMatchObject({ newChunks: first.chunks });
    expect(first.storedBytes).toBeGreaterThanOrEqual(5_000_000);
    expect(await ingest(writer, inPieces(bytes, 100_000))).toMatchObject({
      root: first.root,
      newChunks: 0,
      newBytes: 0,
      storedBytes: 0,
    });
    const edited = Buffer.concat([bytes.subarray(0, 2_500_000), Buffer.from("!"), bytes.subarray(2_500_000)]);
    const second = await ingest(writer, inPieces(edited, 100_000));
    expect(second.newChunks).toBeLessThanOrEqual(4);
    expect(Buffer.compare(await readAll(store, second.root), edited)).toBe(0);
  });

  test("is stored smaller when it shrinks", async () => {
    const lines = Array.from({ length: 150_000 }, (_, index) => `line ${index} shrinks\n`).join("");
    const { newBytes, storedBytes } = await ingest(writer, inPieces(Buffer.from(lines), 100_000));
    expect(newBytes).toBeGreaterThan(lines.length);
    expect(storedBytes).toBeLessThan(newBytes / 3);
  });
});

describe("a source or a sink that fails", () => {
  test("leaves nothing behind that has a name, and is closed", async () => {
    let closed = false;
    async function* failing(): AsyncGenerator<Uint8Array> {
      try {
        for (let index = 0; ; index++) {
          if (index === 5) throw new Error("the cable was pulled");
          yield randomBytes(`fail ${index}`, 2_000_000);
        }
      } finally {
        closed = true;
      }
    }
    await expect(ingest(writer, failing())).rejects.toThrow("the cable was pulled");
    expect(closed).toBe(true);
    expect(await namesOf(store)).toEqual([]);
    await put(store, "after", randomBytes("after", 10_000));
    expect((await get(store, "after")).byteLength).toBe(10_000);
    await store.catalog.remove("after");
  });

  test("is told of by the sink's own error, and its source is closed", async () => {
    let writes = 0;
    const sink: ChunkSink = {
      write: (block, lengths) =>
        ++writes > 2 ? Promise.reject(new Error("no room")) : writer.write(block, lengths),
    };
    let closed = false;
    async function* endless(): AsyncGenerator<Uint8Array> {
      try {
        for (let index = 0; ; index++) yield randomBytes(`endless ${index}`, 2_000_000);
      } finally {
        closed = true;
      }
    }
    await expect(ingest(sink, endless())).rejects.toThrow("no room");
    expect(closed).toBe(true);
  });

  test("is not waited for after an abort", async () => {
    const controller = new AbortController();
    async function* stuck(): AsyncGenerator<Uint8Array> {
      yield randomBytes("stuck", 5_000_000);
      queueMicrotask(() => controller.abort(new Error("enough")));
      await new Promise(() => {});
    }
    await expect(ingest(writer, stuck(), { signal: controller.signal })).rejects.toThrow("enough");
    const aborted = { signal: AbortSignal.abort(new Error("before")) };
    await expect(ingest(writer, inPieces(textBytes(10), 1), aborted)).rejects.toThrow("before");
    const file = join(directory, "aborted.bin");
    writeFileSync(file, "x");
    await expect(collect(fileSource(file, aborted.signal))).rejects.toThrow("before");
  });

  test("is no file, or none that can be read", async () => {
    const nowhere = join(directory, "nowhere");
    expect(await failure(ingest(writer, fileSource(nowhere)))).toMatchObject({ code: "ENOENT" });
    mkdirSync(nowhere);
    expect(await failure(ingest(writer, fileSource(nowhere)))).toMatchObject({ code: "EISDIR" });
    expect(await failure(collect(fileSource(nowhere)))).toMatchObject({ code: "EISDIR" });
  });
});

test("a file with holes is mostly one packet, and quick", async () => {
  const path = join(directory, "sparse.bin");
  const file = openSync(path, "w");
  ftruncateSync(file, 200_000_000);
  writeSync(file, randomBytes("island", 500_000), 0, 500_000, 100_000_000);
  closeSync(file);
  let progress = 0;
  const { root, length, chunks } = await ingest(writer, fileSource(path), {
    onProgress: (bytes) => {
      expect(bytes).toBeGreaterThanOrEqual(progress);
      progress = bytes;
    },
  });
  expect({ length, progress }).toEqual({ length: 200_000_000, progress: 200_000_000 });
  expect(chunks).toBeLessThan(40);
  const island = await readAll(store, root, { start: 99_999_990, end: 100_500_010 });
  const zeros = new Uint8Array(10);
  expect(sha256(island)).toEqual(sha256(Buffer.concat([zeros, randomBytes("island", 500_000), zeros])));
});

/** The pieces of a source as an iterable that is nothing else. */
async function* collectLater(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield* source;
}
