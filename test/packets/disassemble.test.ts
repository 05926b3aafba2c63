import { expect, test } from "vitest";
import { Aggregate, Records, encodeCode } from "../../packets/code/format.ts";
import { disassemble, packetToJson } from "../../packets/disassemble.ts";
import { FaultCode } from "../../packets/faults.ts";
import { Flag, Op } from "../../packets/layout.ts";
import { encodeFrame } from "../../packets/packet.ts";
import { sha256 } from "../../packets/digest.ts";

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const ref = sha256(text("hello"));

const lines = encodeCode({
  records: Records.LINES,
  separator: text("\n"),
  aggregate: Aggregate.COUNT,
});

const file = encodeFrame([
  { op: Op.DATA, length: 6, ref: text("hello\n") },
  { op: Op.FILL, flags: 1, at: 6, length: 1024 },
  { op: Op.NOP },
  { op: Op.FILL, flags: 3, at: 1030, length: 9, ref: text('a"\\') },
  { op: Op.DATA, at: 1039, length: 1, ref: Uint8Array.of(255) },
  { op: Op.COPY, at: 1040, from: 12_345, length: 65_536, ref },
  { op: Op.CALL, at: 66_576, length: 1_234_567_890_123, ref },
  { op: Op.HALT, flags: Flag.DIGEST, at: 7, length: 1_234_567_956_699, ref },
]);

const work = encodeFrame([
  { op: Op.LOAD, lane: 1, ref },
  { op: Op.LOAD, lane: 2, flags: Flag.INLINE, ref: lines },
  { op: Op.EXEC, lane: 1, at: 0, length: 65_536, ref },
  { op: Op.EXEC, lane: 65_535, at: 1_000, from: 65_536, length: 1, flags: Flag.STREAM | Flag.WHOLE, ref },
  { op: Op.RETURN, lane: 1, at: 0, flags: Flag.INLINE, length: 2, ref: text("42") },
  { op: Op.RETURN, lane: 1, at: 1, flags: Flag.STREAM, length: 5_000_000, ref },
  { op: Op.RETURN, lane: 1, at: 1, length: 5_000, ref },
  {
    op: Op.FAULT,
    lane: 1,
    at: 1,
    from: FaultCode.threw,
    flags: Flag.INLINE,
    length: 4,
    ref: text("bad\u001b"),
  },
  { op: Op.FAULT, lane: 1, at: 2, from: FaultCode.timeLimit, length: 400, ref },
  { op: Op.HALT, flags: Flag.OPEN, at: 9 },
  { op: Op.HALT, at: 1, length: 1 },
]);

const listing = (frame: Uint8Array): string =>
  Array.from({ length: frame.length / 64 }, (_, index) => disassemble(frame, index)).join("\n");

test("a file reads like a program", () => {
  expect(`\n${listing(file)}\n`).toMatchInlineSnapshot(`
    "
        0  DATA    at 0                       6 bytes  "hello\\n"
        1  FILL    at 6                   1,024 bytes  of 0x00
        2  NOP
        3  FILL    at 1,030                   9 bytes  of "a\\"\\\\"
        4  DATA    at 1,039                   1 byte   0xff
        5  COPY    at 1,040              65,536 bytes  from 12,345 of chunk 2cf24dba5fb0…
        6  CALL    at 66,576        1,234,567,890,123 bytes  from 0 of stream 2cf24dba5fb0…
        7  HALT    after 7 packets  1,234,567,956,699 bytes  in all, SHA-256 2cf24dba5fb0…
    "
  `);
});

test("so does work", () => {
  expect(`\n${listing(work)}\n`).toMatchInlineSnapshot(`
    "
        0  LOAD    lane 1                              program 2cf24dba5fb0…
        1  LOAD    lane 2                              packet code lines().count()
        2  EXEC    lane 1 task 0         65,536 bytes  from 0 of chunk 2cf24dba5fb0…
        3  EXEC    lane 65535 task 1,000            1 byte   from 65,536 of stream 2cf24dba5fb0…, whole records
        4  RETURN  lane 1 task 0              2 bytes  "42"
        5  RETURN  lane 1 task 1      5,000,000 bytes  in stream 2cf24dba5fb0…
        6  RETURN  lane 1 task 1          5,000 bytes  in chunk 2cf24dba5fb0…
        7  FAULT   lane 1 task 1              4 bytes  PFS_PROGRAM_THREW: "bad\\x1b"
        8  FAULT   lane 1 task 2            400 bytes  PFS_PROGRAM_TIME_LIMIT: in chunk 2cf24dba5fb0…
        9  HALT    after 9 packets                     length not known yet
       10  HALT    after 1 packet             1 byte   in all
    "
  `);
});

test("refs are shown whole where they are wanted whole", () => {
  expect(disassemble(file, 5, 64).endsWith(` ${Buffer.from(ref).toString("hex")}`)).toBe(true);
});

test("damage is shown, not thrown", () => {
  const damaged = file.slice();
  damaged[64 + 16]! ^= 1;
  expect(disassemble(damaged, 1)).toBe("    1  INVALID check does not match");
  expect(packetToJson(damaged, 1)).toEqual({ index: 1, invalid: "check does not match" });
  expect(disassemble(damaged, 8)).toBe("    8  INVALID shorter than 64 bytes");
});

test("no byte of a packet reaches a terminal unescaped", () => {
  for (let byte = 0; byte < 256; byte++) {
    const frame = encodeFrame([{ op: Op.DATA, length: 3, ref: Uint8Array.of(97, byte, 98) }]);
    expect(disassemble(frame, 0)).toMatch(/^[ -~]*$/);
  }
});

test("as JSON, fields are named by what they mean", () => {
  const json = [...Array(8).keys()].map((index) => packetToJson(file, index));
  expect(json).toMatchInlineSnapshot(`
    [
      {
        "at": 0,
        "bytes": "68656c6c6f0a",
        "index": 0,
        "length": 6,
        "op": "DATA",
      },
      {
        "at": 6,
        "index": 1,
        "length": 1024,
        "op": "FILL",
        "pattern": "00",
      },
      {
        "index": 2,
        "op": "NOP",
      },
      {
        "at": 1030,
        "index": 3,
        "length": 9,
        "op": "FILL",
        "pattern": "61225c",
      },
      {
        "at": 1039,
        "bytes": "ff",
        "index": 4,
        "length": 1,
        "op": "DATA",
      },
      {
        "at": 1040,
        "chunk": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "from": 12345,
        "index": 5,
        "length": 65536,
        "op": "COPY",
      },
      {
        "at": 66576,
        "from": 0,
        "index": 6,
        "length": 1234567890123,
        "op": "CALL",
        "stream": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
      },
      {
        "digest": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "index": 7,
        "length": 1234567956699,
        "op": "HALT",
        "packets": 7,
      },
    ]
  `);
  expect([...Array(10).keys()].map((index) => packetToJson(work, index))).toMatchInlineSnapshot(`
    [
      {
        "index": 0,
        "lane": 1,
        "op": "LOAD",
        "program": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
      },
      {
        "code": "01020001000001000a0000000000000000000000000000000000000000000000",
        "index": 1,
        "lane": 2,
        "op": "LOAD",
        "text": "lines().count()",
      },
      {
        "chunk": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "from": 0,
        "index": 2,
        "lane": 1,
        "length": 65536,
        "op": "EXEC",
        "task": 0,
        "whole": false,
      },
      {
        "from": 65536,
        "index": 3,
        "lane": 65535,
        "length": 1,
        "op": "EXEC",
        "stream": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "task": 1000,
        "whole": true,
      },
      {
        "bytes": "3432",
        "index": 4,
        "lane": 1,
        "length": 2,
        "op": "RETURN",
        "task": 0,
      },
      {
        "index": 5,
        "lane": 1,
        "length": 5000000,
        "op": "RETURN",
        "stream": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "task": 1,
      },
      {
        "chunk": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "index": 6,
        "lane": 1,
        "length": 5000,
        "op": "RETURN",
        "task": 1,
      },
      {
        "bytes": "6261641b",
        "code": "PFS_PROGRAM_THREW",
        "index": 7,
        "lane": 1,
        "length": 4,
        "op": "FAULT",
        "task": 1,
      },
      {
        "chunk": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "code": "PFS_PROGRAM_TIME_LIMIT",
        "index": 8,
        "lane": 1,
        "length": 400,
        "op": "FAULT",
        "task": 2,
      },
      {
        "index": 9,
        "op": "HALT",
        "open": true,
        "packets": 9,
      },
    ]
  `);
});
