import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { refToHex, sha256 } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { Flag, Op } from "../../../packets/layout.ts";
import { CALL_DEPTH_MAX } from "../../../packets/limits.ts";
import { encodeFrame, refOf } from "../../../packets/packet.ts";
import type { PacketFields } from "../../../packets/packet.ts";
import { Stream } from "../../../packets/stream-reader.ts";
import type { StreamWriter } from "../../../packets/stream-writer.ts";
import type { Evaluator } from "../../../runtime/contracts/evaluator.ts";
import { FILL_BLOCK_BYTES, READ_AHEAD_CHUNKS } from "../../../runtime/limits.ts";
import { describeStream, execute } from "../../../runtime/stream/execute.ts";
import { seededBytes } from "../../packets/seed.ts";
import { collect, failure, readAll } from "../store/store-fixture.ts";
import { ShelfSource } from "./shelf-source.ts";

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** A stream chunk of these packets, `at` and HALT added. */
function streamOf(
  source: ShelfSource,
  packets: readonly PacketFields[],
  halt: Partial<PacketFields> = {},
): Ref {
  let at = 0;
  const placed = packets.map((packet) => {
    const fields = packet.op === Op.NOP ? packet : { ...packet, at };
    at += packet.length ?? 0;
    return fields;
  });
  const end = { op: Op.HALT, at: packets.length, length: at, ...halt };
  return source.shelf.put(encodeFrame([...placed, end]));
}

/** A file of all kinds of packets, over three levels of CALL, and its bytes. */
function mixedFile(source: ShelfSource): { root: Ref; bytes: Uint8Array } {
  const { shelf } = source;
  const chunks = Array.from({ length: 40 }, (_, index) =>
    shelf.put(seededBytes(`mixed ${index}`, 50 + index * 37)),
  );
  const leaf = (first: number) => (writer: StreamWriter) => {
    for (let index = first; index < first + 10; index++) {
      writer.copy(chunks[index]!, index % 7, 20 + index * 3);
      if (index % 3 === 0) writer.fill(text("abc"), 100 + index);
      if (index % 4 === 0) writer.data(text(`literal ${index}, of some length, more than one packet holds`));
    }
  };
  const leaves = [0, 10, 20, 30].map((first) => shelf.write(leaf(first)));
  const middle = shelf.write((writer) => {
    for (const { root, length } of leaves) writer.call(root, 5, length - 9);
    writer.call(leaves[0]!.root, 0, leaves[0]!.length);
  });
  const top = shelf.write((writer) => {
    writer.data(text("<"));
    writer.call(middle.root, 0, middle.length);
    writer.copy(chunks[39]!, 0, 1000);
    writer.call(middle.root, 17, 401);
    writer.data(text(">"));
  });
  return { root: top.root, bytes: shelf.execute(top.root) };
}

describe("executing a stream", () => {
  const source = new ShelfSource();
  const { root, bytes } = mixedFile(source);

  test("yields what its packets say", async () => {
    expect(Buffer.compare(await readAll(source, root), bytes)).toBe(0);
    expect(await describeStream(source, root)).toMatchObject({
      length: bytes.length,
      packets: 6,
      isPlain: true,
    });
  });

  test("yields any range of it", async () => {
    const position = fc.integer({ min: 0, max: bytes.length });
    const readAhead = fc.constantFrom(1, 100, 4096, 1 << 20);
    await fc.assert(
      fc.asyncProperty(position, position, readAhead, async (one, other, readAheadBytes) => {
        const [start, end] = [Math.min(one, other), Math.max(one, other)];
        const read = await readAll(source, root, { start, end, readAheadBytes });
        return Buffer.compare(read, bytes.subarray(start, end)) === 0;
      }),
      { seed: 7, numRuns: 150 },
    );
  });

  test("yields ranges that begin and end at each packet's borders", async () => {
    const borders = [0, 1, 2, 1057, bytes.length - 1, bytes.length];
    for (const packet of [1, 401, 1000]) borders.push(bytes.length - packet, bytes.length - packet - 1);
    for (const start of borders) {
      for (const end of borders.filter((border) => border >= start)) {
        const read = await readAll(source, root, { start, end });
        expect(Buffer.compare(read, bytes.subarray(start, end))).toBe(0);
      }
    }
  });

  test("refuses what is no range of it", async () => {
    const ranges = [
      [-1, 5],
      [5, 4],
      [0, bytes.length + 1],
      [0.5, 3],
      [Number.NaN, 3],
      [0, Infinity],
    ] as const;
    for (const [start, end] of ranges) {
      expect(await failure(readAll(source, root, { start, end }))).toMatchObject({
        code: "PFS_RANGE_INVALID",
      });
    }
  });

  test("of no bytes yields nothing", async () => {
    const empty = streamOf(source, []);
    expect(await collect(execute(source, empty))).toHaveLength(0);
    expect(await readAll(source, root, { start: 9, end: 9 })).toHaveLength(0);
  });

  test("passes over NOPs, which stand anywhere", async () => {
    const nop = { op: Op.NOP };
    const data = (value: string): PacketFields => ({ op: Op.DATA, length: value.length, ref: text(value) });
    const nops = streamOf(source, [nop, data("a"), nop, nop, data("bc"), nop]);
    expect(String(await readAll(source, nops))).toBe("abc");
    expect(String(await readAll(source, nops, { start: 1, end: 2 }))).toBe("b");
  });
});

describe("what a range costs", () => {
  const source = new ShelfSource();
  const chunks = Array.from({ length: 3000 }, (_, index) => source.shelf.put(seededBytes(`c${index}`, 100)));
  const { root, streams } = source.shelf.write((writer) => chunks.forEach((ref) => writer.copy(ref, 0, 100)));

  test("is the chunks that it touches and the streams above them", async () => {
    expect(streams).toBeGreaterThan(2);
    source.calls = [];
    const read = await readAll(source, root, { start: 150_050, end: 150_250 });
    expect(
      Buffer.compare(
        read,
        Buffer.concat([1500, 1501, 1502].map((index) => source.shelf.get(chunks[index]!))).subarray(50, 250),
      ),
    ).toBe(0);
    expect(source.calls.map((call) => call.length)).toEqual([1, 1, 3]);
  });

  test("is batches of chunks, one being read while the one before is yielded, and never more", async () => {
    source.calls = [];
    let bytes = 0;
    for await (const piece of execute(source, root, { readAheadBytes: 1000 })) {
      bytes += piece.byteLength;
      const read = source.calls.filter((call) => call.length > 1).flat().length * 100;
      expect(read).toBeLessThanOrEqual(bytes + 2000);
      if (bytes === 5000) break;
    }
    expect(source.calls.every((call) => call.length <= 10)).toBe(true);
    source.calls = [];
    expect(await readAll(source, root)).toHaveLength(300_000);
    expect(Math.max(...source.calls.map((call) => call.length))).toBe(READ_AHEAD_CHUNKS);
  });

  test("is each chunk of a batch once, and a sub-stream once while it is called again and again", async () => {
    const again = source.shelf.write((writer) => {
      for (let index = 0; index < 50; index++) writer.copy(chunks[index % 2]!, 1, 50 + index);
    });
    const calls = source.shelf.write((writer) => {
      for (let index = 0; index < 20; index++) writer.call(again.root, index, again.length - index);
    });
    source.calls = [];
    expect(await readAll(source, again.root)).toHaveLength(again.length);
    expect(source.calls.map((call) => call.length)).toEqual([1, 2]);
    await readAll(source, calls.root);
    expect(source.count(again.root)).toBe(2);
  });

  test("is pieces of some size, though the packets be small", async () => {
    const small = source.shelf.write((writer) => {
      for (let index = 0; index < 4000; index++) writer.copy(chunks[index % 20]!, index % 90, 10);
    });
    const sizes: number[] = [];
    for await (const piece of execute(source, small.root)) sizes.push(piece.byteLength);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(40_000);
    expect(sizes.length).toBeLessThanOrEqual(4);
  });
});

describe("a stream that lies", () => {
  const source = new ShelfSource();
  const chunk = source.shelf.put(seededBytes("lies", 100));
  const leaf = streamOf(source, [{ op: Op.COPY, length: 100, ref: chunk }]);

  test("about a chunk's or a callee's length is found when it is read, after what is right", async () => {
    const beyond = streamOf(source, [
      { op: Op.DATA, length: 2, ref: text("ok") },
      { op: Op.COPY, from: 50, length: 51, ref: chunk },
    ]);
    expect(await failure(readAll(source, beyond))).toMatchObject({ code: "PFS_STREAM_INVALID" });
    expect(String(await readAll(source, beyond, { start: 0, end: 2 }))).toBe("ok");
    expect(await readAll(source, beyond, { start: 0, end: 52 })).toHaveLength(52);
    for (const fields of [
      { from: 0, length: 101 },
      { from: 100, length: 1 },
      { from: 2 ** 52, length: 5 },
    ]) {
      const calls = streamOf(source, [{ op: Op.CALL, ref: leaf, ...fields }]);
      expect(await failure(readAll(source, calls))).toMatchObject({ code: "PFS_STREAM_INVALID" });
    }
  });

  test("about being one is found, however deep it is called", async () => {
    for (const bytes of [
      text("not packets"),
      new Uint8Array(64),
      seededBytes("noise", 640),
      source.shelf.get(chunk),
    ]) {
      const ref = source.shelf.put(bytes);
      const calls = streamOf(source, [{ op: Op.CALL, length: 1, ref }]);
      for (const root of [ref, calls]) {
        expect((await failure(readAll(source, root))).code).toMatch(/^PFS_(PACKET|STREAM)_INVALID$/);
      }
    }
  });

  test("about its digest is found at the end of a whole reading", async () => {
    const halt = { flags: Flag.DIGEST, ref: sha256(text("something else")) };
    const wrong = streamOf(source, [{ op: Op.COPY, length: 100, ref: chunk }], halt);
    expect(await failure(readAll(source, wrong))).toMatchObject({
      code: "PFS_DIGEST_WRONG",
      data: { ref: refToHex(wrong) },
    });
    expect(await readAll(source, wrong, { start: 1, end: 100 })).toHaveLength(99);
    const right = { flags: Flag.DIGEST, ref: sha256(source.shelf.get(chunk)) };
    expect(
      await readAll(source, streamOf(source, [{ op: Op.COPY, length: 100, ref: chunk }], right)),
    ).toHaveLength(100);
  });

  test("is missing in parts: what comes before is yielded, then the missing ref is named", async () => {
    const nowhere = sha256(text("nowhere"));
    const holes = streamOf(source, [
      { op: Op.COPY, length: 100, ref: chunk },
      { op: Op.CALL, length: 1, ref: nowhere },
    ]);
    let bytes = 0;
    const error = await failure(
      (async () => {
        for await (const piece of execute(source, holes, { readAheadBytes: 100 })) bytes += piece.byteLength;
      })(),
    );
    expect(error).toMatchObject({ code: "PFS_CHUNK_MISSING", data: { ref: refToHex(nowhere) } });
    expect(bytes).toBe(100);
  });
});

describe("a stream that is too much", () => {
  const source = new ShelfSource();
  const exabyte = streamOf(source, [{ op: Op.FILL, flags: 1, length: 2 ** 50, ref: text("z") }]);

  test("is refused before it yields a byte, unless a small range of it is asked for", async () => {
    const limited = { outputBytesMax: 1000 };
    expect(await failure(readAll(source, exabyte, limited))).toMatchObject({
      code: "PFS_STREAM_OVER_LIMIT",
      data: { limit: 1000, actual: 2 ** 50 },
    });
    const end = 2 ** 50;
    expect(String(await readAll(source, exabyte, { ...limited, start: end - 3, end }))).toBe("zzz");
  });

  test("comes in blocks when it is asked for all the same", async () => {
    let blocks = 0;
    for await (const block of execute(source, exabyte)) {
      expect(block).toHaveLength(FILL_BLOCK_BYTES);
      if (++blocks === 5) break;
    }
  });

  test("by its depth is refused where it gets too deep", async () => {
    let root = streamOf(source, [{ op: Op.DATA, length: 1, ref: text("x") }]);
    for (let depth = 0; depth < CALL_DEPTH_MAX; depth++)
      root = streamOf(source, [{ op: Op.CALL, length: 1, ref: root }]);
    expect(String(await readAll(source, root))).toBe("x");
    expect(await failure(readAll(source, root, { depthMax: CALL_DEPTH_MAX - 1 }))).toMatchObject({
      code: "PFS_STREAM_OVER_LIMIT",
    });
    const deeper = streamOf(source, [{ op: Op.CALL, length: 1, ref: root }]);
    expect(await failure(readAll(source, deeper))).toMatchObject({ code: "PFS_STREAM_OVER_LIMIT" });
  });

  test("by its packets costs what the range costs", async () => {
    // 10,000 to the power of 3 packets, each of a byte.
    let root = streamOf(source, [{ op: Op.DATA, length: 1, ref: text("x") }]);
    let length = 1;
    for (let level = 0; level < 3; level++) {
      root = streamOf(
        source,
        Array.from({ length: 10_000 }, () => ({ op: Op.CALL, length, ref: root })),
      );
      length *= 10_000;
    }
    const middle = length / 2;
    expect(await readAll(source, root, { start: middle, end: middle + 100 })).toHaveLength(100);
    expect(source.calls.length).toBeLessThan(1000);
  });

  test("by being a program is left to a job", async () => {
    const derived = encodeFrame([
      { op: Op.LOAD, lane: 1, ref: sha256(text("program")) },
      { op: Op.EXEC, lane: 1, length: 10, ref: sha256(text("input")) },
      { op: Op.HALT, flags: Flag.OPEN, at: 2 },
    ]);
    const ref = source.shelf.put(derived);
    expect(await failure(readAll(source, ref))).toMatchObject({
      code: "PFS_STREAM_NOT_PLAIN",
      data: { op: "LOAD" },
    });
    const calls = streamOf(source, [{ op: Op.CALL, length: 1, ref }]);
    expect(await failure(readAll(source, calls))).toMatchObject({ code: "PFS_STREAM_NOT_PLAIN" });
    expect(await describeStream(source, ref)).toEqual({ packets: 3, isPlain: false, isTree: false });
  });

  test("by being a program is computed by whoever can, once for each reading", async () => {
    const derivedOf = (input: string): Uint8Array =>
      source.shelf.put(
        encodeFrame([
          { op: Op.LOAD, lane: 1, ref: sha256(text("upper case")) },
          { op: Op.EXEC, lane: 1, length: input.length, ref: source.shelf.put(text(input)) },
          { op: Op.HALT, flags: Flag.OPEN, at: 2 },
        ]),
      );
    let evaluations = 0;
    /** Runs the one program that it knows. */
    const evaluator: Evaluator = {
      evaluate: async (root, signal) => {
        evaluations++;
        const { frame } = Stream.parse((await source.read([root], signal))[0]!);
        const [input] = await source.read([refOf(frame, 1)], signal);
        const output = source.shelf.put(text(Buffer.from(input!).toString().toUpperCase()));
        return source.shelf.write((writer) => writer.copy(output, 0, input!.byteLength)).root;
      },
    };
    const derived = derivedOf("computed when it is read");
    expect(String(await readAll(source, derived, { evaluator }))).toBe("COMPUTED WHEN IT IS READ");
    expect(String(await readAll(source, derived, { evaluator, start: 9, end: 13 }))).toBe("WHEN");
    expect(evaluations).toBe(2);
    const mixed = streamOf(source, [
      { op: Op.CALL, length: 9, ref: derived },
      { op: Op.CALL, from: 9, length: 4, ref: derived, at: 9 },
      { op: Op.CALL, length: 4, ref: derivedOf("ever"), at: 13 },
    ]);
    evaluations = 0;
    expect(String(await readAll(source, mixed, { evaluator }))).toBe("COMPUTED WHENEVER");
    expect(evaluations).toBe(2);
    const beyond = streamOf(source, [{ op: Op.CALL, length: 5, ref: derivedOf("ever") }]);
    expect(await failure(readAll(source, beyond, { evaluator }))).toMatchObject({
      code: "PFS_STREAM_INVALID",
    });
    const same: Evaluator = { evaluate: async (root) => root };
    expect(await failure(readAll(source, derived, { evaluator: same }))).toMatchObject({
      code: "PFS_STREAM_NOT_PLAIN",
    });
  });
});

describe("an execution", () => {
  const source = new ShelfSource();
  const chunks = Array.from({ length: 100 }, (_, index) => source.shelf.put(seededBytes(`a${index}`, 5000)));
  const { root } = source.shelf.write((writer) => chunks.forEach((ref) => writer.copy(ref, 0, 5000)));

  test("ends with its signal, before, while and between reads", async () => {
    const enough = new Error("enough");
    await expect(readAll(source, root, { signal: AbortSignal.abort(enough) })).rejects.toThrow(enough);
    const between = new AbortController();
    const pieces = execute(source, root, { signal: between.signal });
    await pieces.next();
    between.abort(enough);
    await expect(pieces.next()).rejects.toThrow(enough);
    const during = new AbortController();
    source.beforeAnswer = () => during.abort(enough);
    await expect(readAll(source, root, { signal: during.signal })).rejects.toThrow(enough);
    source.beforeAnswer = () => {};
  });

  test("that is left early stops reading ahead", async () => {
    let signals = 0;
    const watching = {
      read: async (refs: readonly Ref[], signal?: AbortSignal): Promise<Uint8Array[]> => {
        signal?.addEventListener("abort", () => signals++);
        return source.read(refs);
      },
    };
    for await (const piece of execute(watching, root, { readAheadBytes: 5000 })) {
      expect(piece).toHaveLength(5000);
      break;
    }
    expect(signals).toBeGreaterThan(0);
  });
});
