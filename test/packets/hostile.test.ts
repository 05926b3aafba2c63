/** Bytes from somebody who means harm: every one of them is refused with a typed error or means what it says. */
import { describe, expect, test } from "vitest";
import { PacketfsError } from "../../packets/errors.ts";
import { disassemble, packetToJson } from "../../packets/disassemble.ts";
import { Offset, Op, PACKET_BYTES } from "../../packets/layout.ts";
import { decodePacket, encodePacket, sealPacket } from "../../packets/packet.ts";
import { Stream } from "../../packets/stream-reader.ts";
import { invalidPacket } from "../../packets/validate.ts";
import { Shelf } from "./execute.ts";
import { Random, seededBytes } from "./seed.ts";

/** A million packets in all when PACKETFS_HOSTILE_PACKETS says nothing else. */
const SEEDS = [1, 2, 3, 4];
const PACKETS = Number(process.env["PACKETFS_HOSTILE_PACKETS"] ?? 1_000_000) / SEEDS.length;

/** The chunk of a stream of 63 pieces and a HALT: 4 KiB. */
function storedStream(shelf: Shelf): Uint8Array {
  const chunk = shelf.put(seededBytes("hostile", 5000));
  const inner = shelf.write((writer) => writer.copy(chunk, 100, 4000)).root;
  const { root } = shelf.write((writer) => {
    for (let index = 0; index < 15; index++) {
      writer.data(seededBytes(`literal ${index}`, 1 + index));
      writer.fill(seededBytes("pattern", 1 + index), 100 + index);
      writer.copy(chunk, index, 50);
      writer.call(inner, index, 60);
    }
    writer.copy(chunk, 0, 5000);
    writer.fill(new Uint8Array(1), 9);
    writer.data(Uint8Array.of(1));
  });
  return shelf.get(root);
}

/** What parsing gives: a stream, or the code of the error. Anything else that is thrown fails the test. */
function parse(bytes: Uint8Array): Stream | string {
  try {
    return Stream.parse(bytes);
  } catch (error) {
    if (error instanceof PacketfsError) return error.code;
    throw error;
  }
}

describe("a stored stream of 4 KiB", () => {
  const shelf = new Shelf();
  const stored = storedStream(shelf);

  test("is what it should be", () => {
    expect(stored).toHaveLength(4096);
    expect(parse(stored)).toBeInstanceOf(Stream);
  });

  test("with any bit flipped is refused", () => {
    for (let bit = 0; bit < stored.length * 8; bit++) {
      const flipped = stored.slice();
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      expect(parse(flipped), `bit ${bit}`).toBe("PFS_PACKET_INVALID");
    }
  });

  test("with any bit flipped and the check made right is refused, or says something of the same length", () => {
    let accepted = 0;
    for (let bit = 0; bit < stored.length * 8; bit++) {
      const flipped = stored.slice();
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      sealPacket(flipped, Math.floor(bit / 8 / PACKET_BYTES));
      const stream = parse(flipped);
      if (typeof stream === "string") {
        expect(stream).toMatch(/^PFS_(PACKET|STREAM)_INVALID$/);
        continue;
      }
      accepted++;
      // Its total is the old one or it would have been refused; only what the pieces are can have changed.
      expect(stream.length).toBe(Stream.parse(stored).length);
    }
    expect(accepted).toBeGreaterThan(1000);
  });

  test("cut off anywhere is refused", () => {
    for (let length = 0; length < stored.length; length++) {
      expect(parse(stored.subarray(0, length))).toBe("PFS_STREAM_INVALID");
      expect(parse(stored.subarray(stored.length - length))).toMatch(/^PFS_(PACKET|STREAM)_INVALID$/);
    }
  });

  test("with packets exchanged, doubled or left out is refused", () => {
    const random = new Random(7);
    const packets = Array.from({ length: 64 }, (_, index) => stored.subarray(index * 64, index * 64 + 64));
    for (let round = 0; round < 2000; round++) {
      const other = [...packets];
      const [from, to] = [random.below(64), random.below(64)];
      const kind = round % 3;
      if (kind === 0 && from !== to) [other[from], other[to]] = [other[to]!, other[from]!];
      else if (kind === 1) other.splice(to, 0, other[from]!);
      else other.splice(from, 1);
      expect(parse(Buffer.concat(other))).toBe("PFS_STREAM_INVALID");
    }
  });
});

/** A packet that may be anything: noise, noise with a right check, or a valid one with a few fields or bits changed. */
function malform(bytes: Uint8Array, random: Random, valid: readonly Uint8Array[]): void {
  const kind = random.below(4);
  if (kind === 0) random.fill(bytes);
  else bytes.set(random.pick(valid));
  if (kind === 1)
    for (let count = random.below(4); count >= 0; count--) bytes[random.below(64)] = random.word();
  if (kind === 2) {
    for (let count = random.below(3); count >= 0; count--) {
      const offset = random.pick([Offset.at, Offset.length, Offset.from, Offset.ref]);
      const byte = random.pick([0, 0, 1, 0x1f, 0x20, 0x7f, 0x80, 0xff]);
      if (random.below(3) === 0) bytes.fill(byte, offset, offset + 8);
      else bytes[offset + random.below(8)] = byte;
    }
  }
  if (kind === 3) bytes[random.below(64)]! ^= 1 << random.below(8);
  if (random.below(8) === 0) bytes[Offset.op] = random.below(12);
  if (random.below(4) !== 0) sealPacket(bytes, 0);
}

test.each(SEEDS)(
  "malformed packets of seed %i are refused with a reason or decode to what they say",
  (seed) => {
    const random = new Random(seed);
    const ref = seededBytes("ref", 32);
    const valid = [
      encodePacket({ op: Op.NOP }),
      encodePacket({ op: Op.DATA, at: 100, length: 5, ref: ref.subarray(0, 5) }),
      encodePacket({ op: Op.FILL, flags: 4, at: 9, length: 1e15, ref: ref.subarray(0, 4) }),
      encodePacket({ op: Op.COPY, at: 1e12, from: 77, length: 65_536, ref }),
      encodePacket({ op: Op.CALL, at: 1e12, from: 1e14, length: 1e13, ref }),
      encodePacket({ op: Op.LOAD, lane: 65_535, ref }),
      encodePacket({ op: Op.EXEC, lane: 1, flags: 2, at: 7, from: 1e9, length: 1e6, ref }),
      encodePacket({ op: Op.RETURN, lane: 1, flags: 1, at: 7, length: 3, ref: ref.subarray(0, 3) }),
      encodePacket({ op: Op.FAULT, lane: 1, at: 7, from: 3, length: 99, ref }),
      encodePacket({ op: Op.HALT, flags: 1, at: 16_000, length: 1e15, ref }),
    ];
    const bytes = new Uint8Array(64);
    let refused = 0;
    for (let round = 0; round < PACKETS; round++) {
      malform(bytes, random, valid);
      const reason = invalidPacket(bytes, 0);
      if (reason !== null) {
        refused++;
        if (reason === "") throw new Error(`packet ${round} of seed ${seed} is refused without a reason`);
      } else if (round % 8 === 0) {
        const again = encodePacket(decodePacket(bytes));
        if (Buffer.compare(again, bytes) !== 0)
          throw new Error(`packet ${round} of seed ${seed} has two forms`);
      }
      if (round % 64 !== 0) continue;
      // People look at broken packets too: the listing must survive them.
      disassemble(bytes, 0);
      packetToJson(bytes, 0);
      if (reason !== null) expect(() => decodePacket(bytes)).toThrow(reason);
    }
    expect(refused).toBeGreaterThan(PACKETS / 4);
    expect(refused).toBeLessThan(PACKETS);
  },
);

test("streams of noise, with right checks and without, never do more than throw a typed error", () => {
  const random = new Random(99);
  const shelf = new Shelf();
  const stored = storedStream(shelf);
  const outcomes = new Set<string>();
  for (let round = 0; round < 3000; round++) {
    const bytes = stored.slice(0, 64 * (1 + random.below(64)) + (random.below(10) === 0 ? 1 : 0));
    for (let count = random.below(6); count > 0; count--) {
      const index = random.below(Math.floor(bytes.length / 64));
      bytes[index * 64 + random.pick([0, 1, 8, 9, 16, 17, 24, 25, 40])] = random.word();
      sealPacket(bytes, index);
    }
    const outcome = parse(bytes);
    outcomes.add(typeof outcome === "string" ? outcome : "parsed");
  }
  expect(outcomes).toEqual(new Set(["PFS_PACKET_INVALID", "PFS_STREAM_INVALID", "parsed"]));
});
