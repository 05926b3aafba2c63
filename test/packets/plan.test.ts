import { describe, expect, test } from "vitest";
import { Flag, Op } from "../../packets/layout.ts";
import { CALL_DEPTH_MAX } from "../../packets/limits.ts";
import { encodeFrame, encodePacket } from "../../packets/packet.ts";
import type { PacketFields } from "../../packets/packet.ts";
import { checkCall, checkPlan, literalBlocks, planRange, takeAt, writeLiteral } from "../../packets/plan.ts";
import { Stream } from "../../packets/stream-reader.ts";
import { Shelf, TEST_LIMITS } from "./execute.ts";

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const fill = (pattern: string, length: number): PacketFields => ({
  op: Op.FILL,
  flags: pattern.length,
  length,
  ref: text(pattern),
});
const parse = (...packets: PacketFields[]): Stream => Stream.parse(encodeFrame(packets));
const overLimit = (limit: number, actual: number): unknown =>
  expect.objectContaining({
    code: "PFS_STREAM_OVER_LIMIT",
    data: expect.objectContaining({ limit, actual }),
  });

describe("checkPlan", () => {
  const exabyte = 2 ** 50;
  const bomb = parse(fill("x", exabyte), { op: Op.HALT, at: 1, length: exabyte });

  test("refuses more bytes than the caller takes, by the total", () => {
    expect(() => checkPlan(bomb, TEST_LIMITS)).toThrow(overLimit(TEST_LIMITS.outputBytesMax, exabyte));
    expect(() => checkPlan(bomb, TEST_LIMITS, TEST_LIMITS.outputBytesMax)).not.toThrow();
  });

  test("refuses what has to be computed", () => {
    const derived = parse({ op: Op.NOP }, { op: Op.LOAD, lane: 1 }, { op: Op.HALT, flags: Flag.OPEN, at: 2 });
    expect(() => checkPlan(derived, TEST_LIMITS)).toThrow(
      expect.objectContaining({ code: "PFS_STREAM_NOT_PLAIN", data: { op: "LOAD" } }),
    );
  });
});

describe("checkCall", () => {
  const callee = parse(fill("x", 10), { op: Op.HALT, at: 1, length: 10 });
  const call = (from: number, length: number): Uint8Array => encodePacket({ op: Op.CALL, from, length });

  test("lets a CALL read within what it calls only", () => {
    expect(() => checkCall(call(0, 10), 0, callee, 1, TEST_LIMITS)).not.toThrow();
    expect(() => checkCall(call(4, 6), 0, callee, 1, TEST_LIMITS)).not.toThrow();
    expect(() => checkCall(call(4, 7), 0, callee, 1, TEST_LIMITS)).toThrow(
      expect.objectContaining({ code: "PFS_STREAM_INVALID" }),
    );
  });

  test("bounds the depth", () => {
    const limits = { ...TEST_LIMITS, depthMax: CALL_DEPTH_MAX };
    expect(() => checkCall(call(0, 1), 0, callee, CALL_DEPTH_MAX, limits)).not.toThrow();
    expect(() => checkCall(call(0, 1), 0, callee, CALL_DEPTH_MAX + 1, limits)).toThrow(
      overLimit(CALL_DEPTH_MAX, CALL_DEPTH_MAX + 1),
    );
  });
});

describe("planRange", () => {
  const stream = parse(
    { op: Op.NOP },
    { ...fill("ab", 10), at: 0 },
    { op: Op.NOP },
    { ...fill("c", 5), at: 10 },
    { ...fill("d", 1), at: 15 },
    { op: Op.HALT, at: 5, length: 16 },
  );

  test("names the packets of a range and what to leave away of the outer two", () => {
    expect(planRange(stream, 0, 16)).toEqual({ first: 1, end: 5, skip: 0, drop: 0 });
    expect(planRange(stream, 3, 9)).toEqual({ first: 1, end: 4, skip: 3, drop: 3 });
    expect(planRange(stream, 11, 2)).toEqual({ first: 3, end: 4, skip: 1, drop: 2 });
    expect(planRange(stream, 16, 0)).toEqual({ first: 0, end: 0, skip: 0, drop: 0 });
    const plan = planRange(stream, 3, 9);
    expect([1, 2, 3].map((index) => takeAt(plan, stream.frame, index))).toEqual([7, 0, 2]);
    expect(takeAt(planRange(stream, 11, 2), stream.frame, 3)).toBe(2);
  });

  test("takes no range outside the stream", () => {
    expect(() => planRange(stream, 10, 7)).toThrow(RangeError);
    expect(() => planRange(stream, -1, 1)).toThrow(RangeError);
    expect(() => planRange(stream, 0, -1)).toThrow(RangeError);
  });
});

describe("literal bytes", () => {
  const frame = encodeFrame([
    fill("abc", Number.MAX_SAFE_INTEGER),
    { op: Op.DATA, length: 5, ref: text("hello") },
  ]);

  test("repeat the pattern from any byte on", () => {
    for (const skip of [0, 1, 2, 3, 1_000_000_000_001]) {
      for (const length of [0, 1, 2, 3, 4, 100]) {
        const target = new Uint8Array(length);
        writeLiteral(frame, 0, skip, target);
        const expected = Array.from({ length }, (_, at) => "abc"[(skip + at) % 3]).join("");
        expect(Buffer.from(target).toString()).toBe(expected);
      }
    }
    const target = new Uint8Array(3);
    writeLiteral(frame, 1, 1, target);
    expect(Buffer.from(target).toString()).toBe("ell");
    expect(() => writeLiteral(frame, 1, 3, target)).toThrow(RangeError);
    expect(() => writeLiteral(encodePacket({ op: Op.COPY, length: 9 }), 0, 0, target)).toThrow("COPY");
  });

  test("come in blocks, made one at a time", () => {
    const blocks = literalBlocks(frame, 0, 1, 2 ** 40, 4);
    expect(Buffer.from(blocks.next().value!).toString()).toBe("bcab");
    expect(Buffer.from(blocks.next().value!).toString()).toBe("cabc");
    const parts = [...literalBlocks(frame, 1, 1, 4, 3)].map((block) => Buffer.from(block).toString());
    expect(parts).toEqual(["ell", "o"]);
    expect([...literalBlocks(frame, 1, 0, 0, 3)]).toEqual([]);
    expect(() => literalBlocks(frame, 0, 0, 1, 0).next()).toThrow(RangeError);
  });
});

describe("bombs", () => {
  test("a small stream whose CALLs double at each level is refused by its total", () => {
    const shelf = new Shelf();
    let callee = shelf.write((writer) => writer.fill(text("x"), 1024));
    for (let level = 0; level < 7; level++) {
      const { root, length } = callee;
      callee = shelf.write((writer) => {
        for (let index = 0; index < 64; index++) {
          writer.call(root, 0, length);
          writer.data(text("."));
        }
      });
    }
    expect(callee.length).toBeGreaterThan(2 ** 50);
    expect(() => shelf.execute(callee.root)).toThrow(overLimit(TEST_LIMITS.outputBytesMax, callee.length));
    expect(shelf.execute(callee.root, 2 ** 50, 3)).toHaveLength(3);
  });

  test("CALLs nested deeper than the limit are refused", () => {
    const shelf = new Shelf();
    let { root } = shelf.write((writer) => writer.data(text("core")));
    for (let level = 0; level < CALL_DEPTH_MAX; level++) {
      const inner = root;
      root = shelf.write((writer) => writer.call(inner, 0, 4)).root;
    }
    expect(Buffer.from(shelf.execute(root)).toString()).toBe("core");
    const deeper = shelf.write((writer) => writer.call(root, 0, 4));
    expect(() => shelf.execute(deeper.root)).toThrow(overLimit(CALL_DEPTH_MAX, CALL_DEPTH_MAX + 1));
  });

  test("a CALL that claims more than its callee has is refused", () => {
    const shelf = new Shelf();
    const { root } = shelf.write((writer) => writer.data(text("1234")));
    const liar = shelf.write((writer) => writer.call(root, 0, 5));
    expect(() => shelf.execute(liar.root)).toThrow(expect.objectContaining({ code: "PFS_STREAM_INVALID" }));
  });
});
