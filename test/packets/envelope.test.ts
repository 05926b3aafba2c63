import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { packetCheck } from "../../packets/crc32.ts";
import {
  ENVELOPE_BYTES,
  EnvelopeFlag,
  EnvelopeOffset,
  MessageType,
  Priority,
  decodeEnvelope,
  encodeEnvelope,
  invalidEnvelope,
} from "../../packets/envelope.ts";
import { writeInteger32 } from "../../packets/integer.ts";
import { FRAME_PACKETS_MAX, MESSAGE_CHUNK_BYTES_MAX, META_BYTES_MAX } from "../../packets/limits.ts";
import { messageTypeName } from "../../packets/message-type.ts";
import { Random } from "./seed.ts";

/** A valid envelope with one byte set, its check made right again. */
function withByte(offset: number, value: number): Uint8Array {
  const bytes = encodeEnvelope({ type: MessageType.EXEC });
  bytes[offset] = value;
  writeInteger32(bytes, EnvelopeOffset.check, packetCheck(bytes, 0));
  return bytes;
}

test("every field survives the way there and back", () => {
  const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
  const fields = fc.record({
    type: fc.constantFrom(...Object.values(MessageType)),
    flags: fc.integer({ min: 0, max: EnvelopeFlag.REPLY | EnvelopeFlag.MORE }),
    priority: fc.constantFrom(...Object.values(Priority)),
    deadlineMs: u32,
    request: fc.maxSafeNat(),
    creditBytes: u32,
    metaBytes: fc.integer({ min: 0, max: META_BYTES_MAX }),
    packetBytes: fc.integer({ min: 0, max: FRAME_PACKETS_MAX }).map((packets) => packets * 64),
    chunkBytes: fc.integer({ min: 0, max: MESSAGE_CHUNK_BYTES_MAX }),
    counter: fc.maxSafeNat(),
    trace: fc.uint8Array({ minLength: 16, maxLength: 16 }),
  });
  fc.assert(
    fc.property(fields, (value) => {
      expect(decodeEnvelope(encodeEnvelope(value))).toEqual(value);
    }),
  );
});

test("what is left out is zero", () => {
  expect(decodeEnvelope(encodeEnvelope({ type: MessageType.PING }))).toEqual({
    type: MessageType.PING,
    flags: 0,
    priority: Priority.control,
    deadlineMs: 0,
    request: 0,
    creditBytes: 0,
    metaBytes: 0,
    packetBytes: 0,
    chunkBytes: 0,
    counter: 0,
    trace: new Uint8Array(16),
  });
});

describe("is refused by its header alone", () => {
  test.each<[string, Uint8Array]>([
    ["not 64 bytes", new Uint8Array(0)],
    ["not 64 bytes", new Uint8Array(65)],
    ["does not begin with PFS1", new Uint8Array(64)],
    ["unknown version", withByte(EnvelopeOffset.version, 2)],
    ["unknown type", withByte(EnvelopeOffset.type, 0)],
    ["unknown type", withByte(EnvelopeOffset.type, 255)],
    ["undefined flag", withByte(EnvelopeOffset.flags, 4)],
    ["unknown priority", withByte(EnvelopeOffset.priority, 3)],
    ["integer above 2^53 - 1", withByte(EnvelopeOffset.request + 6, 0x20)],
    ["integer above 2^53 - 1", withByte(EnvelopeOffset.trace - 1, 1)],
    ["meta frame above its limit", withByte(EnvelopeOffset.meta + 3, 1)],
    ["packet frame is not a multiple of 64", withByte(EnvelopeOffset.packets, 63)],
    ["packet frame above its limit", withByte(EnvelopeOffset.packets + 3, 1)],
    ["chunk frame above its limit", withByte(EnvelopeOffset.chunks + 3, 255)],
  ])("%s", (reason, bytes) => {
    expect(invalidEnvelope(bytes)).toBe(reason);
    const expected = { code: "PFS_ENVELOPE_INVALID", data: { reason } };
    expect(() => decodeEnvelope(bytes)).toThrow(expect.objectContaining(expected));
  });

  test("any flipped bit", () => {
    const bytes = encodeEnvelope({ type: MessageType.JOB, request: 77, metaBytes: 100 });
    for (let bit = 0; bit < ENVELOPE_BYTES * 8; bit++) {
      const flipped = bytes.slice();
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      expect(invalidEnvelope(flipped)).not.toBeNull();
    }
  });

  test("noise, with a right check or without", () => {
    const random = new Random(1);
    for (let round = 0; round < 10_000; round++) {
      const bytes = random.fill(encodeEnvelope({ type: MessageType.HELLO }).slice());
      if (round % 2 === 0) bytes.set([0x50, 0x46, 0x53, 0x31]);
      if (round % 4 === 0) writeInteger32(bytes, EnvelopeOffset.check, packetCheck(bytes, 0));
      const reason = invalidEnvelope(bytes);
      if (reason === null) decodeEnvelope(bytes);
      else expect(() => decodeEnvelope(bytes)).toThrow(reason);
    }
  });
});

test("types have names for people", () => {
  expect(messageTypeName(MessageType.FILE_REQUEST)).toBe("FILE_REQUEST");
  expect(messageTypeName(200)).toBe("type 200");
});
