import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sha256 } from "../../packets/digest.ts";
import { readInteger, writeInteger } from "../../packets/integer.ts";
import { Flag, Offset, Op } from "../../packets/layout.ts";
import { CHUNK_BYTES_MAX } from "../../packets/limits.ts";
import {
  decodePacket,
  encodeFrame,
  encodePacket,
  packetCount,
  sealPacket,
  writeNumbered,
} from "../../packets/packet.ts";
import type { Packet } from "../../packets/packet.ts";
import { invalidPacket } from "../../packets/validate.ts";

const LARGEST = Number.MAX_SAFE_INTEGER;

const place = fc.maxSafeNat();
const lane = fc.integer({ min: 1, max: 65_535 });
const ref = fc.uint8Array({ minLength: 32, maxLength: 32 });
const chunkRange = fc
  .tuple(fc.integer({ min: 0, max: CHUNK_BYTES_MAX - 1 }), fc.integer({ min: 1, max: CHUNK_BYTES_MAX }))
  .map(([from, length]) => ({ from, length: Math.min(length, CHUNK_BYTES_MAX - from) }));
const range = fc
  .tuple(fc.integer({ min: 0, max: LARGEST - 1 }), fc.integer({ min: 1, max: LARGEST }))
  .map(([from, length]) => ({ from, length: Math.min(length, LARGEST - from) }));
const inline = (bytes: Uint8Array): Uint8Array => {
  const padded = new Uint8Array(32);
  padded.set(bytes);
  return padded;
};
const short = fc.uint8Array({ maxLength: 32 }).map((bytes) => ({ length: bytes.length, ref: inline(bytes) }));
const pattern = fc
  .uint8Array({ minLength: 1, maxLength: 32 })
  .map((bytes) => ({ flags: bytes.length, ref: inline(bytes) }));

type Fields = Partial<Packet>;
const zero: Packet = { op: Op.NOP, flags: 0, lane: 0, at: 0, length: 0, from: 0, ref: new Uint8Array(32) };
/** The place of an output that leaves room for its length. */
const placed = (fields: Fields, at: number): Fields => ({
  ...fields,
  at: Math.min(at, LARGEST - fields.length!),
});

const anyPacket: fc.Arbitrary<Packet> = fc
  .oneof<fc.MaybeWeightedArbitrary<Fields>[]>(
    fc.constant({ op: Op.NOP }),
    fc
      .tuple(short, place)
      .map(([bytes, at]) => placed({ ...bytes, op: Op.DATA, length: bytes.length || 1 }, at)),
    fc.tuple(pattern, range, place).map(([p, { length }, at]) => placed({ op: Op.FILL, ...p, length }, at)),
    fc.tuple(chunkRange, ref, place).map(([r, hash, at]) => placed({ op: Op.COPY, ...r, ref: hash }, at)),
    fc.tuple(range, ref, place).map(([r, hash, at]) => placed({ op: Op.CALL, ...r, ref: hash }, at)),
    fc.record({ op: fc.constant(Op.LOAD), lane, ref, flags: fc.constantFrom(0, Flag.INLINE) }),
    fc
      .tuple(
        fc.record({ op: fc.constant(Op.EXEC), lane, ref, at: place }),
        range,
        fc.constantFrom(0, Flag.WHOLE),
      )
      .map(([fields, r, quoted]) => ({ ...fields, ...r, flags: Flag.STREAM | quoted })),
    fc
      .tuple(short, lane, place)
      .map(([bytes, l, at]) => ({ op: Op.RETURN, flags: Flag.INLINE, lane: l, at, ...bytes })),
    fc
      .tuple(chunkRange, lane, place, ref)
      .map(([{ length }, l, at, hash]) => ({ op: Op.RETURN, lane: l, at, length, ref: hash })),
    fc
      .tuple(short, lane, place)
      .map(([bytes, l, at]) => ({ op: Op.FAULT, flags: Flag.INLINE, lane: l, at, from: 1, ...bytes })),
    fc.record({ op: fc.constant(Op.HALT), flags: fc.constant(Flag.DIGEST), at: place, length: place, ref }),
    fc.record({ op: fc.constant(Op.HALT), flags: fc.constant(Flag.OPEN), at: place }),
  )
  .map((fields) => ({ ...zero, ...fields }));

test("every packet survives the way there and back, alone and among others", () => {
  fc.assert(
    fc.property(fc.array(anyPacket, { minLength: 1, maxLength: 5 }), (packets) => {
      const frame = encodeFrame(packets);
      expect(packetCount(frame)).toBe(packets.length);
      packets.forEach((packet, index) => {
        expect(invalidPacket(frame, index)).toBeNull();
        expect(decodePacket(frame, index)).toEqual(packet);
        expect(decodePacket(encodePacket(packet))).toEqual(packet);
      });
    }),
    { numRuns: 2000 },
  );
});

test("a frame that was used before leaves no trace", () => {
  const frame = new Uint8Array(64).fill(0xff);
  frame.set(encodePacket({ op: Op.DATA, length: 2, ref: Uint8Array.of(1, 2) }));
  expect(decodePacket(frame).ref.subarray(2)).toEqual(new Uint8Array(30));
});

describe("integers at the edges", () => {
  const values = [
    0n,
    1n,
    2n ** 31n,
    2n ** 32n,
    2n ** 53n - 1n,
    2n ** 53n,
    2n ** 53n + 1n,
    2n ** 63n,
    2n ** 64n - 1n,
  ];

  test("are read exactly, or not as safe ones", () => {
    for (const value of values) {
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setBigUint64(0, value, true);
      const read = readInteger(bytes, 0);
      expect(Number.isSafeInteger(read)).toBe(value <= BigInt(LARGEST));
      if (!Number.isSafeInteger(read)) continue;
      expect(BigInt(read)).toBe(value);
      const written = new Uint8Array(8).fill(0xff);
      writeInteger(written, 0, read);
      expect(written).toEqual(bytes);
    }
  });

  const packets: [string, Uint8Array][] = [
    ["NOP", encodePacket({ op: Op.NOP })],
    ["DATA", encodePacket({ op: Op.DATA, length: 1, ref: Uint8Array.of(7) })],
    ["FILL", encodePacket({ op: Op.FILL, flags: 1, length: 1 })],
    ["COPY", encodePacket({ op: Op.COPY, length: 1, ref: sha256(new Uint8Array(1)) })],
    ["CALL", encodePacket({ op: Op.CALL, length: 1, ref: sha256(new Uint8Array(1)) })],
    ["LOAD", encodePacket({ op: Op.LOAD, lane: 1 })],
    ["EXEC", encodePacket({ op: Op.EXEC, lane: 1 })],
    ["EXEC of a stream", encodePacket({ op: Op.EXEC, lane: 1, flags: Flag.STREAM })],
    ["RETURN", encodePacket({ op: Op.RETURN, lane: 1, length: 1 })],
    ["RETURN inline", encodePacket({ op: Op.RETURN, lane: 1, flags: Flag.INLINE })],
    ["FAULT", encodePacket({ op: Op.FAULT, lane: 1 })],
    ["HALT", encodePacket({ op: Op.HALT })],
    ["HALT open", encodePacket({ op: Op.HALT, flags: Flag.OPEN })],
  ];

  test.each(packets)("in every field of %s: exact meaning or a reason", (_name, packet) => {
    const fields = [Offset.at, Offset.length, Offset.from];
    for (const first of fields) {
      for (const second of fields) {
        for (const one of values) {
          for (const two of values) {
            const bytes = packet.slice();
            const view = new DataView(bytes.buffer);
            view.setBigUint64(first, one, true);
            view.setBigUint64(second, two, true);
            sealPacket(bytes, 0);
            if (invalidPacket(bytes, 0) !== null) continue;
            const { at, length, from, op } = decodePacket(bytes);
            expect(BigInt(at)).toBe(view.getBigUint64(Offset.at, true));
            expect(BigInt(length)).toBe(view.getBigUint64(Offset.length, true));
            expect(BigInt(from)).toBe(view.getBigUint64(Offset.from, true));
            expect(BigInt(from) + BigInt(length)).toBeLessThan(2n ** 53n);
            if (op <= Op.CALL) expect(BigInt(at) + BigInt(length)).toBeLessThan(2n ** 53n);
          }
        }
      }
    }
  });

  test("that differ in their numbers alone are written from one of them, byte for byte", () => {
    const numbers = fc.record({ at: place, length: place, from: place });
    fc.assert(
      fc.property(anyPacket, numbers, ({ op, flags, lane: number, ref: target }, { at, length, from }) => {
        const packet = encodePacket({ op, flags, lane: number, ref: target });
        const frame = new Uint8Array(3 * 64).fill(0xff);
        writeNumbered(frame, 1, packet, at, length, from);
        const whole = encodePacket({ op, flags, lane: number, ref: target, at, length, from });
        expect(frame.subarray(64, 128)).toEqual(whole);
        expect([frame[63], frame[128]]).toEqual([0xff, 0xff]);
      }),
    );
  });
});
