import { describe, expect, test } from "vitest";
import { refAt, refToHex, sha256 } from "../../../packets/digest.ts";
import { refOf } from "../../../packets/packet.ts";
import { StreamWriter } from "../../../packets/stream-writer.ts";
import { leafBorders, leafRefs } from "../../../runtime/stream/leaves.ts";
import { heldBytes, samplePackets, sampleShape, sampleSplits } from "../../../runtime/job/locality.ts";
import { SplitPackets, planSplits } from "../../../runtime/job/splits.ts";
import { LOCALITY_REFS_MAX } from "../../../runtime/limits.ts";
import { finished } from "../../suites/finished.ts";
import { Random } from "../../sim/random.ts";
import { MemoryChunks } from "../executor/memory-chunks.ts";

const never = new AbortController().signal;
const NONE = new Uint8Array(32);

/** A stream of several levels, and the chunk that each of its bytes is in. */
function longStream(chunks: MemoryChunks): {
  root: Uint8Array;
  length: number;
  readonly leafAt: (at: number) => Uint8Array;
} {
  const random = new Random(1);
  const writer = new StreamWriter((_ref, bytes) => void chunks.put(bytes));
  const pieces: { readonly end: number; readonly ref: Uint8Array }[] = [];
  for (let piece = 0; piece < 6000; piece++) {
    if (random.chance(0.1)) {
      writer.data(new Uint8Array(random.integer(1, 32)).fill(piece));
      pieces.push({ end: writer.length, ref: NONE });
    } else {
      const ref = sha256(Uint8Array.of(piece, piece >>> 8));
      writer.copy(ref, random.integer(0, 9), random.integer(1, 1000));
      pieces.push({ end: writer.length, ref });
    }
  }
  const { root, length, streams } = writer.finish();
  expect(streams).toBeGreaterThan(3);
  return { root, length, leafAt: (at) => pieces.find(({ end }) => at < end)?.ref ?? NONE };
}

describe("the chunks at positions", () => {
  test("are found by reading the streams on the way, each once", async () => {
    const chunks = new MemoryChunks();
    const { root, length, leafAt } = longStream(chunks);
    const random = new Random(2);
    const positions = Array.from({ length: 500 }, () => random.integer(0, length));
    const found = await leafRefs(
      chunks,
      positions.map((position) => ({ root, position })),
      never,
    );
    positions.forEach((position, index) => {
      expect(refToHex(refAt(found, index))).toBe(refToHex(leafAt(position)));
    });
    expect(chunks.reads).toBeLessThan(5);
  });

  test("also through a range of another stream", async () => {
    const chunks = new MemoryChunks();
    const inner = longStream(chunks);
    const writer = new StreamWriter((_ref, bytes) => void chunks.put(bytes));
    writer.data(Uint8Array.of(1, 2, 3));
    writer.call(inner.root, 5000, 10_000);
    const { root } = writer.finish();
    const at = [0, 3, 4000, 10_002];
    const found = await leafRefs(
      chunks,
      at.map((position) => ({ root, position })),
      never,
    );
    expect(refAt(found, 0).every((byte) => byte === 0)).toBe(true);
    for (const index of [1, 2, 3]) {
      expect(refToHex(refAt(found, index))).toBe(refToHex(inner.leafAt(at[index]! - 3 + 5000)));
    }
  });

  test("a stream that is not there rejects", async () => {
    const missing = leafRefs(new MemoryChunks(), [{ root: NONE, position: 0 }], never);
    await expect(missing).rejects.toMatchObject({ code: "PFS_CHUNK_MISSING" });
  });
});

describe("the borders of leaves", () => {
  test("are where leaves meet, also within a range of another stream, with what ranks them", async () => {
    const chunks = new MemoryChunks();
    const inner = longStream(chunks);
    const whole = await leafBorders(chunks, inner.root, Infinity, never);
    expect(whole.at.length).toBeGreaterThan(5900);
    for (const index of [0, 1000, whole.at.length - 1]) {
      const ref = inner.leafAt(whole.at[index]!);
      expect(refToHex(inner.leafAt(whole.at[index]! - 1))).not.toBe(refToHex(ref));
      if (ref !== NONE) expect(whole.rank[index]).toBe(new DataView(ref.slice().buffer).getUint32(0, true));
    }
    const writer = new StreamWriter((_ref, bytes) => void chunks.put(bytes));
    writer.data(Uint8Array.of(1, 2, 3));
    writer.call(inner.root, 5000, 10_000);
    writer.data(Uint8Array.of(4));
    const { root } = writer.finish();
    const { at } = await leafBorders(chunks, root, Infinity, never);
    const inside = [...whole.at].filter((place) => place > 5000 && place < 15_000);
    expect([...at]).toEqual([3, ...inside.map((place) => place - 5000 + 3), 10_003]);
  });

  test("are not looked for without end in a stream that calls one of its own many times", async () => {
    const chunks = new MemoryChunks();
    let root = chunks.put(Uint8Array.of(1));
    let length = 1;
    for (let level = 0; level < 7; level++) {
      const writer = new StreamWriter((_ref, bytes) => void chunks.put(bytes));
      for (let call = 0; call < 64; call++) {
        if (level === 0) writer.copy(root, 0, length);
        else writer.call(root, 0, length);
      }
      ({ root, length } = writer.finish());
    }
    expect(length).toBe(64 ** 7);
    const reads = chunks.reads;
    const { at } = await leafBorders(chunks, root, 10_000, never);
    expect(at.length).toBeLessThan(10_000);
    expect(at.length).toBeGreaterThan(9000);
    expect(chunks.reads - reads).toBeLessThan(10);
  });
});

describe("samples", () => {
  test("are few, however many tasks there are, and stand for their neighbours", () => {
    for (const tasks of [1, 10, 255, 256, 257, 4096, 4097, 1_000_000]) {
      const { perTask, stride } = sampleShape(tasks);
      expect(Math.ceil(tasks / stride) * perTask).toBeLessThanOrEqual(LOCALITY_REFS_MAX);
      expect(perTask).toBeGreaterThanOrEqual(1);
    }
    const samples = { refs: new Uint8Array(6 * 32), perTask: 2, stride: 3 };
    const has = Uint8Array.of(1, 1, 1, 0, 0, 0);
    const held = heldBytes(samples, has, new Float64Array(9).fill(100));
    expect([...held]).toEqual([100, 100, 100, 50, 50, 50, 0, 0, 0]);
  });

  test("of splits lie in them; of packets they are what the packets name", async () => {
    const chunks = new MemoryChunks();
    const { root, length, leafAt } = longStream(chunks);
    const inputs = [{ name: "x", root, length }];
    const options = { reader: { kind: "lines" }, yields: "value", splitBytes: 500_000 } as const;
    const splits = finished(planSplits(inputs, options));
    const { refs, perTask, stride } = await sampleSplits(chunks, splits, inputs, never);
    expect(stride).toBe(1);
    for (let task = 0; task < splits.count; task++) {
      const first = Math.floor(splits.from[task]! + splits.length[task]! / 2 / perTask);
      expect(refToHex(refAt(refs, task * perTask))).toBe(refToHex(leafAt(first)));
    }
    const made = new SplitPackets(splits, inputs);
    const frame = new Uint8Array(made.count * 64);
    made.write(
      Uint32Array.from({ length: made.count }, (_, task) => task),
      frame,
    );
    // One stands for all that name the same.
    const alike = samplePackets(frame, splits.count);
    expect(alike).toMatchObject({ perTask: 1, stride: splits.count });
    expect(refToHex(alike.refs)).toBe(refToHex(root));
    const held = heldBytes(alike, Uint8Array.of(1), Float64Array.from(splits.length));
    expect(held).toEqual(Float64Array.from(splits.length));
    refOf(frame, 1)[0]! ^= 1;
    const packets = samplePackets(frame, splits.count);
    expect(packets).toMatchObject({ perTask: 1, stride: 1 });
    expect(refToHex(refAt(packets.refs, splits.count - 1))).toBe(refToHex(root));
    expect(refToHex(refAt(packets.refs, 1))).toBe(refToHex(refOf(frame, 1)));
  });
});
