import { describe, expect, it } from "vitest";
import { wrongCheckAt } from "../../packets/crc32.ts";
import { execPackets, requireExecFrame, wrongAnswerAt } from "../../packets/exec-frame.ts";
import { Offset, Op, PACKET_BYTES } from "../../packets/layout.ts";
import {
  atOf,
  decodePacket,
  encodeFrame,
  laneAt,
  renumberPacket,
  renumberPackets,
  sealPacket,
} from "../../packets/packet.ts";
import type { PacketFields } from "../../packets/packet.ts";
import { invalidPacket } from "../../packets/validate.ts";
import { Random } from "./seed.ts";

const exec = (at: number): PacketFields => ({ op: Op.EXEC, lane: 1, at });
const emptyFrame = (count: number): Uint8Array =>
  encodeFrame(Array.from({ length: count }, (_, at) => exec(at)));

/** Packets that are often like the one before them, in all or in all but a few numbers, at any place in memory. */
function neighbours(random: Random, count: number): Uint8Array {
  const ref = (): Uint8Array => random.fill(new Uint8Array(32));
  let fields: PacketFields = { ...exec(0), length: 64, from: 0, ref: ref() };
  const packets = Array.from({ length: count }, () => {
    const at = random.below(2) === 0 ? random.below(2 ** 31) : 2 ** 40 + random.below(1000);
    fields = { ...fields, at };
    const change = random.below(6);
    if (change === 0) fields = { ...fields, ref: ref() };
    if (change === 1) fields = { ...fields, from: random.below(2 ** 20) };
    if (change === 2) fields = { ...fields, length: random.below(1000) };
    if (change === 3) fields = { ...fields, lane: 1 + random.below(65_535) };
    return fields;
  });
  const frame = encodeFrame(packets);
  const place = random.below(9);
  const moved = new Uint8Array(frame.byteLength + place).subarray(place);
  moved.set(frame);
  return moved;
}

describe("frames of answers", () => {
  const answer = (op: Op, at: number): PacketFields => ({
    op,
    lane: 1,
    at,
    from: op === Op.FAULT ? 1 : 0,
    length: 9,
  });

  it("are nothing but RETURN and FAULT packets that are whole and right", () => {
    const frame = encodeFrame(
      [3, 0, 2 ** 40, 7].map((at) => answer(at % 2 === 0 ? Op.RETURN : Op.FAULT, at)),
    );
    expect(wrongAnswerAt(frame)).toBe(-1);
    expect(wrongAnswerAt(frame.subarray(0, 0))).toBe(-1);
    expect(wrongAnswerAt(frame.subarray(0, 3 * PACKET_BYTES - 1))).toBe(2);
    expect(wrongAnswerAt(frame.subarray(0, 5))).toBe(0);
    for (let byte = 0; byte < frame.byteLength; byte++) {
      const damaged = frame.slice();
      damaged[byte]! ^= 1 << (byte % 8);
      expect(wrongAnswerAt(damaged)).toBe(Math.floor(byte / PACKET_BYTES));
      expect(wrongAnswerAt(damaged.subarray(0, -1))).toBe(Math.floor(byte / PACKET_BYTES));
    }
  });

  it("have no other packets among them, and none whose fields contradict each other", () => {
    const returned = answer(Op.RETURN, 0);
    for (const wrong of [exec(1), { op: Op.NOP }, { ...returned, from: 1 }, { ...returned, length: 0 }])
      expect(wrongAnswerAt(encodeFrame([returned, wrong, exec(2)]))).toBe(1);
  });
});

describe("frames of EXEC packets", () => {
  it("are copied with a lane and numbers of their own, whatever the packets had", () => {
    for (const lane of [0, 1, 65_535]) {
      for (const base of [0, 255, 2 ** 32 - 1, 2 ** 53 - 2]) {
        const frame = encodeFrame([5, 2 ** 40].map((at) => ({ ...exec(at), lane })));
        const own = execPackets(frame, 777, base);
        expect(decodePacket(own)).toMatchObject({ lane: 777, at: base });
        expect(decodePacket(own, 1)).toMatchObject({ lane: 777, at: base + 1 });
        expect(own.buffer).not.toBe(frame.buffer);
      }
    }
  });

  it("are refused when they are none", () => {
    const flipped = emptyFrame(2);
    flipped[64 + 8] = 9;
    const flagged = emptyFrame(2);
    flagged[1] = 0x80;
    sealPacket(flagged, 0);
    for (const frame of [emptyFrame(2).subarray(1), flipped, flagged, encodeFrame([{ op: Op.NOP }])]) {
      const refused = expect.objectContaining({ code: "PFS_PACKET_INVALID" });
      expect(() => execPackets(frame, 1, 0)).toThrow(refused);
      expect(() => requireExecFrame(frame)).toThrow(refused);
    }
    expect(() => requireExecFrame(emptyFrame(4097))).toThrow(/at most 4096/);
  });

  it("are refused for a number that is none, though all else is as in the packet before", () => {
    for (const offset of [Offset.at, Offset.length, Offset.from]) {
      const frame = emptyFrame(3);
      frame[2 * PACKET_BYTES + offset + 6] = 0x20;
      sealPacket(frame, 2);
      expect(() => requireExecFrame(frame)).toThrow(/packet 2 cannot be executed: integer above/);
    }
  });

  it("are checked packet by packet, however alike neighbours are", () => {
    const random = new Random(7);
    for (let round = 0; round < 300; round++) {
      const count = 1 + random.below(20);
      const frame = neighbours(random, count);
      expect(wrongCheckAt(frame)).toBe(-1);
      requireExecFrame(frame);
      const wrong = random.below(frame.byteLength);
      frame[wrong]! ^= 1 << random.below(8);
      expect(wrongCheckAt(frame)).toBe(Math.floor(wrong / PACKET_BYTES));
    }
  });

  it("are numbered together as one by one", () => {
    const random = new Random(8);
    for (let round = 0; round < 300; round++) {
      const count = 1 + random.below(20);
      const frame = neighbours(random, count);
      const expected = frame.slice();
      const first = random.below(count);
      const base = [0, random.below(2 ** 31), 2 ** 32 - 2, 2 ** 52][random.below(4)]!;
      const lane = random.below(2) === 0 ? undefined : 1 + random.below(65_535);
      for (let index = first; index < count; index++)
        renumberPacket(expected, index, lane ?? laneAt(expected, index), base + index - first);
      renumberPackets(frame, first, count - first, base, lane);
      expect(frame).toEqual(expected);
      for (let index = first; index < count; index++) {
        expect(invalidPacket(frame, index)).toBe(null);
        expect(atOf(frame, index)).toBe(base + index - first);
      }
    }
  });
});
