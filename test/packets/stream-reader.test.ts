import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sha256 } from "../../packets/digest.ts";
import { Flag, Op } from "../../packets/layout.ts";
import { STREAM_PACKETS_MAX } from "../../packets/limits.ts";
import { atOf, encodeFrame, lengthAt, opAt } from "../../packets/packet.ts";
import type { PacketFields } from "../../packets/packet.ts";
import { Stream } from "../../packets/stream-reader.ts";
import { Shelf } from "./execute.ts";
import { Random, seededBytes } from "./seed.ts";

const ref = sha256(new Uint8Array(1));
const copy = (at: number, length: number): PacketFields => ({ op: Op.COPY, at, length, ref });
const halt = (at: number, length: number): PacketFields => ({ op: Op.HALT, at, length });
const load = (lane: number): PacketFields => ({ op: Op.LOAD, lane, ref });
const exec = (lane: number, at: number): PacketFields => ({ op: Op.EXEC, lane, at, length: 9, ref });
const open = (at: number): PacketFields => ({ op: Op.HALT, flags: Flag.OPEN, at });
const nop: PacketFields = { op: Op.NOP };

const parse = (...packets: PacketFields[]): Stream => Stream.parse(encodeFrame(packets));

describe("a plain stream", () => {
  test("tells what it holds", () => {
    const stream = parse(copy(0, 10), nop, copy(10, 5), halt(3, 15));
    expect(stream).toMatchObject({ count: 3, length: 15, open: false, isPlain: true, digest: undefined });
    const digest = sha256(new Uint8Array(15));
    expect(parse(halt(0, 0)).length).toBe(0);
    expect(parse({ ...halt(0, 0), flags: Flag.DIGEST, ref: digest }).digest).toEqual(digest);
  });

  test("parses at an odd place in memory", () => {
    const frame = encodeFrame([copy(0, 10), halt(1, 10)]);
    const moved = new Uint8Array(frame.length + 3);
    moved.set(frame, 3);
    expect(Stream.parse(moved.subarray(3)).length).toBe(10);
  });
});

describe("a derived stream", () => {
  test("is valid, open and not plain", () => {
    const stream = parse(load(1), nop, load(2), exec(1, 0), exec(2, 1), open(5));
    expect(stream).toMatchObject({ count: 5, length: 0, open: true, isPlain: false });
    expect(stream.find(0)).toBe(-1);
  });

  test.each<[string, PacketFields[]]>([
    ["EXEC in a lane that no LOAD filled", [load(1), exec(2, 0), open(2)]],
    ["a lane is loaded twice", [load(1), load(1), open(2)]],
    ["LOAD after EXEC", [load(1), exec(1, 0), load(2), open(3)]],
    ["tasks out of order", [load(1), exec(1, 1), open(2)]],
    ["tasks out of order", [load(1), exec(1, 0), exec(1, 0), open(3)]],
    ["packets with a known place beside computed ones", [load(1), copy(0, 1), open(2)]],
    ["packets with a known place beside computed ones", [copy(0, 1), load(1), open(2)]],
    ["computed packets need an open HALT", [load(1), exec(1, 0), halt(2, 0)]],
    ["an open HALT after packets with a known length", [copy(0, 1), open(1)]],
  ])("is refused: %s", (reason, packets) => {
    expect(() => parse(...packets)).toThrow(
      expect.objectContaining({ data: { reason, index: expect.any(Number) } }),
    );
  });
});

describe("is refused", () => {
  test.each<[string, number, PacketFields[]]>([
    ["no HALT at the end", 0, [copy(0, 1)]],
    ["no HALT at the end", 1, [copy(0, 1), nop]],
    ["packets after HALT", 1, [copy(0, 1), halt(1, 1), halt(2, 1)]],
    ["packets after HALT", 0, [halt(0, 0), nop]],
    ["gap or overlap", 1, [copy(0, 2), copy(3, 1), halt(2, 3)]],
    ["gap or overlap", 1, [copy(0, 2), copy(1, 1), halt(2, 3)]],
    ["gap or overlap", 0, [copy(1, 2), halt(1, 2)]],
    ["HALT counts other packets", 1, [copy(0, 2), halt(2, 2)]],
    ["HALT has another length", 1, [copy(0, 2), halt(1, 3)]],
    ["RETURN is an answer, not part of a stream", 0, [{ op: Op.RETURN, lane: 1, flags: 1 }, halt(1, 0)]],
    ["FAULT is an answer, not part of a stream", 0, [{ op: Op.FAULT, lane: 1, flags: 1 }, halt(1, 0)]],
  ])("%s at %i", (reason, index, packets) => {
    const expected = { code: "PFS_STREAM_INVALID", data: { reason, index } };
    expect(() => parse(...packets)).toThrow(expect.objectContaining(expected));
  });

  test("what is no row of packets", () => {
    const frame = encodeFrame([halt(0, 0)]);
    const code = "PFS_STREAM_INVALID";
    expect(() => Stream.parse(new Uint8Array(0))).toThrow(expect.objectContaining({ code }));
    expect(() => Stream.parse(frame.subarray(1))).toThrow(expect.objectContaining({ code }));
    const long = new Uint8Array((STREAM_PACKETS_MAX + 1) * 64);
    expect(() => Stream.parse(long)).toThrow(expect.objectContaining({ code }));
  });

  test("a malformed packet, which is named", () => {
    const frame = encodeFrame([copy(0, 1), copy(1, 1), halt(2, 2)]);
    frame[64 + 20]! ^= 1;
    expect(() => Stream.parse(frame)).toThrow(
      expect.objectContaining({
        code: "PFS_PACKET_INVALID",
        data: { index: 1, reason: "check does not match" },
      }),
    );
  });
});

describe("find", () => {
  test("gives the packet that yields a byte, NOPs or not", () => {
    const piece = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 100 }));
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), (lengths) => {
        let at = 0;
        const packets = lengths.map((length) => {
          const packet = length === 0 ? nop : copy(at, length);
          at += length;
          return packet;
        });
        const stream = parse(...packets, halt(packets.length, at));
        for (let position = 0; position < at; position++) {
          const index = stream.find(position);
          expect(opAt(stream.frame, index)).toBe(Op.COPY);
          expect(atOf(stream.frame, index)).toBeLessThanOrEqual(position);
          expect(atOf(stream.frame, index) + lengthAt(stream.frame, index)).toBeGreaterThan(position);
        }
        expect(stream.find(at)).toBe(-1);
        expect(stream.find(-1)).toBe(-1);
      }),
      { numRuns: 200 },
    );
  });

  test("works at the far end of what a packet can say", () => {
    const far = Number.MAX_SAFE_INTEGER - 1;
    const pattern = { op: Op.FILL, flags: 1 };
    const stream = parse({ ...pattern, length: far }, { ...pattern, at: far, length: 1 }, halt(2, far + 1));
    expect([stream.find(0), stream.find(far - 1), stream.find(far), stream.find(far + 1)]).toEqual([
      0, 0, 1, -1,
    ]);
  });
});

test("what the writer wrote executes to the bytes it was given, in any range", () => {
  const source = seededBytes("round trip", 4096);
  const piece = fc.record({
    kind: fc.constantFrom("data", "fill", "copy", "call"),
    from: fc.integer({ min: 0, max: 2000 }),
    length: fc.integer({ min: 0, max: 300 }),
    size: fc.integer({ min: 1, max: 32 }),
    repeat: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 600 })),
  });
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), fc.integer(), (pieces, seed) => {
      const shelf = new Shelf();
      const chunk = shelf.put(source);
      const inner = shelf.write((writer) => writer.copy(chunk, 10, 4000)).root;
      const parts: Uint8Array[] = [];
      const { root, length } = shelf.write((writer) => {
        for (const { kind, from, length: bytes, size, repeat } of pieces) {
          for (let round = 0; round < repeat; round++) {
            // Alternating places, so that the writer cannot join the rounds to one packet.
            const start = from + (round % 2);
            const pattern = source.subarray(start, start + size);
            if (kind === "data") writer.data(source.subarray(start, start + bytes));
            if (kind === "fill") writer.fill(pattern, bytes);
            if (kind === "copy") writer.copy(chunk, start, bytes);
            if (kind === "call") writer.call(inner, start, bytes);
            const shown = kind === "call" ? start + 10 : start;
            if (kind === "fill")
              parts.push(Uint8Array.from({ length: bytes }, (_, at) => pattern[at % size]!));
            else parts.push(source.subarray(shown, shown + bytes));
          }
        }
      });
      const expected = Buffer.concat(parts);
      expect(length).toBe(expected.length);
      expect(Buffer.compare(shelf.execute(root), expected)).toBe(0);
      const random = new Random(seed);
      for (let round = 0; round < 20; round++) {
        const from = random.below(length + 1);
        const wanted = random.below(length - from + 1);
        const part = shelf.execute(root, from, wanted);
        expect(Buffer.compare(part, expected.subarray(from, from + wanted))).toBe(0);
      }
    }),
    { numRuns: 60 },
  );
});
