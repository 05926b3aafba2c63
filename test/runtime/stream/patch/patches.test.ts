import { zstdCompressSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { Chunker } from "../../../../packets/chunker.ts";
import { Codec, decompress } from "../../../../packets/codec.ts";
import { refToHex, sha256 } from "../../../../packets/digest.ts";
import type { Ref } from "../../../../packets/digest.ts";
import { Flag, Op } from "../../../../packets/layout.ts";
import { encodeFrame } from "../../../../packets/packet.ts";
import { PatchKind, encodePart, writeChunkPatch } from "../../../../packets/patch.ts";
import type { BaseRange, Patch } from "../../../../packets/patch.ts";
import type { ChunkSource } from "../../../../runtime/contracts/chunks.ts";
import { estimateUpdate } from "../../../../runtime/stream/patch/estimate.ts";
import { PatchReceiver } from "../../../../runtime/stream/patch/receive-patches.ts";
import { patches } from "../../../../runtime/stream/patch/send-patches.ts";
import { Random, seededBytes } from "../../../packets/seed.ts";
import { failure } from "../../store/store-fixture.ts";
import { ShelfSource } from "../shelf-source.ts";

const NEVER = new AbortController().signal;
const LIMITS = { outputBytesMax: Number.MAX_SAFE_INTEGER, depthMax: 8 };
/** Small chunks, so that small files have many. */
const chunker = new Chunker({ minBytes: 256, averageBytes: 1024, maxBytes: 4096 });

function put({ shelf }: ShelfSource, bytes: Uint8Array, cutting: Chunker = chunker): Ref {
  return shelf.write((writer) => {
    for (let start = 0; start < bytes.byteLength;) {
      const end = cutting.cut(bytes, start, bytes.byteLength, true);
      writer.copy(shelf.put(bytes.slice(start, end)), 0, end - start);
      start = end;
    }
  }).root;
}

interface Update {
  readonly wireBytes: number;
  readonly chunks: number;
  readonly result: Uint8Array;
}

/** Sends `next` to somebody who has `bases`, and says what came of it. */
async function update(bases: readonly Uint8Array[], next: Uint8Array): Promise<Update> {
  const [sender, receiver] = [new ShelfSource(), new ShelfSource()];
  const roots = bases.map((bytes) => put(sender, bytes));
  for (const bytes of bases) put(receiver, bytes);
  const root = put(sender, next);
  const reader = new PatchReceiver(receiver, root, roots, NEVER);
  let [wireBytes, chunks] = [0, 0];
  for await (const patch of patches(sender, root, roots)) {
    wireBytes += patch.packets.byteLength + patch.body.byteLength;
    let brought = 0;
    for await (const { ref, bytes } of reader.chunks(patch)) {
      expect(receiver.shelf.has(ref), "a chunk comes twice, or was there").toBe(false);
      receiver.shelf.put(bytes.slice());
      brought++;
    }
    expect(brought).toBe(patch.chunks);
    chunks += brought;
  }
  return { wireBytes, chunks, result: receiver.shelf.execute(root, 0, undefined, LIMITS) };
}

/** Text of a few words: what compresses without any base, too. */
function text(random: Random, bytes: number): Uint8Array {
  const words = Array.from({ length: 500 }, () => random.word().toString(36));
  let result = "";
  while (result.length < bytes) result += `${random.pick(words)} `;
  return new Uint8Array(Buffer.from(result.slice(0, bytes)));
}

/** Inserts, deletes, replaces, moves and swaps pieces. */
function edited(random: Random, bytes: Uint8Array, edits: number): Uint8Array {
  let result = bytes;
  for (let edit = 0; edit < edits; edit++) {
    const from = random.below(result.byteLength);
    const end = Math.min(result.byteLength, from + 1 + random.below(random.pick([10, 300, 20_000])));
    const [head, piece, tail] = [result.subarray(0, from), result.subarray(from, end), result.subarray(end)];
    const fresh = seededBytes(`fresh ${random.word()}`, piece.byteLength);
    const middle = random.below(head.byteLength + 1);
    const kinds = [
      [head, fresh, piece, tail],
      [head, tail],
      [head, fresh, tail],
      [head.subarray(0, middle), piece, head.subarray(middle), tail],
      [head, piece, piece, tail],
    ];
    result = Buffer.concat(random.pick(kinds));
  }
  return result;
}

describe("patches", () => {
  test("make the new bytes of the old ones and what the edits brought, whatever was edited", async () => {
    for (let seed = 0; seed < 12; seed++) {
      const random = new Random(seed);
      const length = 1 + random.below(1_500_000);
      const old = seed % 3 === 0 ? text(random, length) : seededBytes(`old ${seed}`, length);
      const next = edited(random, old, 1 + random.below(30));
      const { result } = await update([old], next);
      expect(sha256(result), `seed ${seed}`).toEqual(sha256(next));
    }
  });

  test("cost what is new, though nearly every chunk is", async () => {
    const random = new Random(7);
    const old = seededBytes("scattered", 2_000_000);
    const next = old.slice();
    for (let at = 200; at < next.byteLength; at += 700) next[at]! ^= 1 + random.below(255);
    const { wireBytes, chunks, result } = await update([old], next);
    expect(chunks).toBeGreaterThan(1000);
    expect(sha256(result)).toEqual(sha256(next));
    // 2,857 bytes at places that nobody can foresee, and refs of 1,600 chunks or so.
    expect(wireBytes).toBeLessThan(chunks * 40 + 2857 * 12);
  });

  test("leave out what somebody has of the root itself, and are as short as is asked", async () => {
    const bytes = seededBytes("resumed", 2_000_000);
    const old = bytes.slice(0, 400_000);
    const [sender, receiver] = [new ShelfSource(), new ShelfSource()];
    const [root, base] = [put(sender, bytes), put(sender, old)];
    put(receiver, old);
    const has = (from: number, end: number): boolean => {
      try {
        receiver.shelf.execute(root, from, end - from, LIMITS);
        return true;
      } catch {
        return false;
      }
    };
    const receive = async (chunksMax: number): Promise<number> => {
      const reader = new PatchReceiver(receiver, root, [base], NEVER);
      let chunks = 0;
      const options = { isThere: has, messageBytes: 100_000 };
      for await (const patch of patches(sender, root, [base], options)) {
        expect(patch.refs).toHaveLength(patch.chunks);
        if (patch.kind === PatchKind.chunks) expect(patch.plainBytes).toBeLessThanOrEqual(300_000);
        for await (const chunk of reader.chunks(patch)) receiver.shelf.put(chunk.bytes.slice());
        chunks += patch.chunks;
        if (chunks > chunksMax) break;
      }
      return chunks;
    };
    const first = await receive(600);
    const second = await receive(Number.POSITIVE_INFINITY);
    const afterwards = await receive(Number.POSITIVE_INFINITY);
    expect(sha256(receiver.shelf.execute(root, 0, undefined, LIMITS))).toEqual(sha256(bytes));
    expect(first).toBeGreaterThan(600);
    // The streams on the way down to where it goes on come twice.
    const whole = await update([old], bytes);
    expect(first + second).toBeGreaterThanOrEqual(whole.chunks);
    expect(first + second).toBeLessThan(whole.chunks + 4);
    expect(afterwards).toBe(0);
  });

  test("free memory that is theirs when it was read, and need none of it later", async () => {
    const random = new Random(5);
    const old = text(random, 12_000_000);
    const sender = new ShelfSource();
    const receiver = new ShelfSource();
    const large = new Chunker({ minBytes: 32_768, averageBytes: 65_536, maxBytes: 131_072 });
    const base = put(sender, old, large);
    put(receiver, old, large);
    const next = Buffer.concat([old.subarray(6_000_000), old.subarray(0, 6_000_000)]);
    for (let at = 0; at < next.byteLength; at += 9_000) next[at]! ^= 1;
    const root = put(sender, next, large);
    const given: Uint8Array[] = [];
    const source: ChunkSource = {
      read: (refs, signal) => sender.read(refs, signal),
      readOwn: async (refs, signal) => {
        const chunks = await sender.read(refs, signal);
        const own = chunks.map((chunk) => decompress(zstdCompressSync(chunk), Codec.zstd, chunk.byteLength)!);
        given.push(...own);
        return own;
      },
    };
    const reader = new PatchReceiver(receiver, root, [base], NEVER);
    for await (const patch of patches(source, root, [base]))
      for await (const { bytes } of reader.chunks(patch)) receiver.shelf.put(bytes.slice());
    expect(Buffer.compare(receiver.shelf.execute(root, 0, undefined, LIMITS), next)).toBe(0);
    const freed = given.filter(({ byteLength }) => byteLength === 0).length;
    expect(freed / given.length).toBeGreaterThan(0.4);
  });

  test("find blocks that moved", async () => {
    const random = new Random(8);
    const old = seededBytes("blocks", 3_000_000);
    const blocks = Array.from({ length: 30 }, (_, index) => {
      const block = old.slice(index * 100_000, (index + 1) * 100_000);
      for (let at = 100; at < block.byteLength; at += 800) block[at]! ^= 1;
      return block;
    });
    for (let index = blocks.length - 1; index > 0; index--) {
      const other = random.below(index + 1);
      [blocks[index], blocks[other]] = [blocks[other]!, blocks[index]!];
    }
    const next = Buffer.concat(blocks);
    const { wireBytes, result } = await update([old], next);
    expect(sha256(result)).toEqual(sha256(next));
    expect(wireBytes).toBeLessThan(next.byteLength / 10);
  });

  test("are none where nothing is lacking, and are all of it where nothing is there", async () => {
    const bytes = seededBytes("known", 500_000);
    expect(await update([bytes], bytes)).toMatchObject({ wireBytes: 0, chunks: 0 });
    expect(await update([seededBytes("other", 1000), bytes], bytes)).toMatchObject({
      wireBytes: 0,
      chunks: 0,
    });
    const cold = await update([], bytes);
    expect(sha256(cold.result)).toEqual(sha256(bytes));
    expect(cold.wireBytes).toBeLessThan(bytes.byteLength * 1.05);
    expect((await update([bytes], new Uint8Array(0))).result).toEqual(new Uint8Array(0));
    expect(sha256((await update([new Uint8Array(0)], bytes)).result)).toEqual(sha256(bytes));
  });

  test("take from each of several bases what it has", async () => {
    const [a, b] = [seededBytes("a", 400_000), seededBytes("b", 400_000)];
    const next = Buffer.concat([b.subarray(100_000), seededBytes("c", 100), a.subarray(0, 300_000)]);
    for (let at = 50; at < next.byteLength; at += 900) next[at]! ^= 5;
    const { wireBytes, result } = await update([a, b], next);
    expect(sha256(result)).toEqual(sha256(next));
    expect(wireBytes).toBeLessThan(next.byteLength / 8);
  });

  test("read no stream that both have, but on the way to what differs", async () => {
    const source = new ShelfSource();
    const old = seededBytes("long", 6_000_000);
    const next = Buffer.concat([old.subarray(0, 3_000_000), seededBytes("one", 10), old.subarray(3_000_000)]);
    const [base, root] = [put(source, old), put(source, next)];
    let chunks = 0;
    for await (const patch of patches(source, root, [base]))
      chunks += patch.kind === PatchKind.chunks ? patch.chunks : 0;
    // About 6,000 chunks in 6 streams each.
    expect(new Set(source.calls.flat()).size).toBeLessThan(1000);
    expect(chunks).toBeLessThan(20);
  });

  test("end with their reader, or its signal", async () => {
    const source = new ShelfSource();
    const [base, root] = [put(source, seededBytes("x", 100_000)), put(source, seededBytes("y", 100_000))];
    for await (const patch of patches(source, root, [base])) {
      expect(patch.kind).toBe(PatchKind.streams);
      break;
    }
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(patches(source, root, [base], { signal }).next()).rejects.toThrow("enough");
  });

  test("are not made of what has to be computed", async () => {
    const source = new ShelfSource();
    const derived = encodeFrame([
      { op: Op.LOAD, lane: 1, ref: sha256(Uint8Array.of(1)) },
      { op: Op.HALT, at: 1, flags: Flag.OPEN },
    ]);
    const root = source.shelf.put(derived);
    expect(await failure(patches(source, root, []).next())).toMatchObject({ code: "PFS_STREAM_NOT_PLAIN" });
  });

  test("hold a few parts in memory, however much there is", async () => {
    const source = new ShelfSource();
    const old = seededBytes("memory", 8_000_000);
    const next = old.slice();
    for (let at = 0; at < next.byteLength; at += 500) next[at]! ^= 1;
    const [base, root] = [put(source, old), put(source, next)];
    let underWay = 0;
    let most = 0;
    source.beforeAnswer = async () => {
      most = Math.max(most, ++underWay);
      await new Promise((resolve) => setImmediate(resolve));
      underWay--;
    };
    let largest = 0;
    for await (const patch of patches(source, root, [base])) largest = Math.max(largest, patch.plainBytes);
    expect(most).toBeLessThanOrEqual(5);
    expect(largest).toBeLessThanOrEqual(4 * 1024 * 1024 + 256 * 1024);
  });
});

describe("an estimate", () => {
  test("is what it costs when all of it is written, and near it when some is", async () => {
    const source = new ShelfSource();
    const random = new Random(3);
    const old = text(random, 4_000_000);
    const next = old.slice();
    for (let at = 0; at < next.byteLength; at += 600) next[at]! = 65 + random.below(26);
    const [base, root] = [put(source, old), put(source, next)];
    let [wireBytes, chunks, plainBytes] = [0, 0, 0];
    for await (const patch of patches(source, root, [base])) {
      wireBytes += patch.packets.byteLength + patch.body.byteLength;
      chunks += patch.chunks;
      plainBytes += patch.plainBytes;
    }
    const exact = await estimateUpdate(source, root, [base], { isExact: true });
    expect(exact).toEqual({ chunks, plainBytes, wireBytes, isExact: true });
    const quick = await estimateUpdate(source, root, [base], { partsMax: 4 });
    expect(quick).toMatchObject({ chunks, plainBytes, isExact: false });
    expect(quick.wireBytes / wireBytes).toBeGreaterThan(0.7);
    expect(quick.wireBytes / wireBytes).toBeLessThan(1.5);
    expect(await estimateUpdate(source, root, [root])).toEqual({
      chunks: 0,
      plainBytes: 0,
      wireBytes: 0,
      isExact: true,
    });
  });
});

describe("a receiver", () => {
  const old = seededBytes("hostile", 200_000);
  const plain = old.slice(50_000, 60_000);
  plain[5]! ^= 1;

  const source = new ShelfSource();
  const base = put(source, old);
  const other = put(source, seededBytes("private", 100_000));
  const root = put(source, seededBytes("root", 10));

  async function read(
    range: BaseRange,
    change: (patch: Patch) => Patch = (patch) => patch,
  ): Promise<unknown> {
    const known = range.root.byteLength === 0 ? base : other;
    const frame = encodePart(plain, old.subarray(range.from, range.from + range.length)) ?? plain;
    const part = {
      refs: [sha256(plain)],
      lengths: [plain.byteLength],
      dictionary: [{ ...range, root: known }],
      frame,
    };
    const patch = change(await writeChunkPatch([part], [], new Uint8Array(0)));
    const receiver = new PatchReceiver(source, root, [base], NEVER);
    const chunks: string[] = [];
    for await (const { ref } of receiver.chunks(patch)) chunks.push(refToHex(ref));
    return chunks;
  }
  const OFFERED = new Uint8Array(0);
  const PRIVATE = sha256(Uint8Array.of(1));

  test("takes a patch that is right", async () => {
    expect(await read({ root: OFFERED, from: 40_000, length: 30_000 })).toEqual([refToHex(sha256(plain))]);
  });

  test("reads nothing that was not offered, nor beyond it, and believes no bytes", async () => {
    expect(await failure(read({ root: PRIVATE, from: 0, length: 30_000 }))).toMatchObject({
      code: "PFS_PATCH_INVALID",
      data: { reason: expect.stringContaining("was not offered") as string },
    });
    expect(await failure(read({ root: OFFERED, from: 190_000, length: 10_001 }))).toMatchObject({
      code: "PFS_PATCH_INVALID",
      data: { reason: "a range ends beyond its base" },
    });
    const range = { root: OFFERED, from: 40_000, length: 30_000 };
    for (let seed = 0; seed < 200; seed++) {
      const random = new Random(seed);
      const broken = (patch: Patch): Patch => {
        const body = Buffer.from(patch.body);
        const packets = Buffer.from(patch.packets);
        const target = seed % 4 === 0 ? packets : body;
        target[random.below(target.byteLength)]! ^= 1 << random.below(8);
        return { ...patch, packets, body };
      };
      const outcome = await read(range, broken).catch((error: unknown) => error);
      if (Array.isArray(outcome)) expect(outcome).toEqual([refToHex(sha256(plain))]);
      else
        expect(outcome).toMatchObject({
          code: expect.stringMatching(/^PFS_(PATCH|PACKET)_INVALID$/) as string,
        });
    }
  });

  test("asks for no streams but those of the roots that were spoken of", async () => {
    source.calls = [];
    const halt = { op: Op.HALT, at: 1, length: 1 };
    const packets = encodeFrame([{ op: Op.CALL, length: 1, ref: other }, { ...halt }]);
    const receiver = new PatchReceiver(source, root, [], NEVER);
    for (const kind of Object.values(PatchKind)) {
      const chunks = receiver.chunks({ kind, packets, body: new Uint8Array(1) });
      expect(await failure(chunks.next())).toMatchObject({ code: "PFS_PATCH_INVALID" });
    }
    expect(source.calls).toEqual([]);
  });
});
