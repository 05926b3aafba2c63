/** Ranges of a file whose bytes come in pieces: wherever pieces and ranges meet, each record counts once. */
import { describe, expect, test } from "vitest";
import { decodeCode } from "../../../packets/code/format.ts";
import type { Code } from "../../../packets/code/format.ts";
import { Interpreter, interpret } from "../../../packets/code/interpreter.ts";
import { encodeState } from "../../../packets/code/state.ts";
import { codeText } from "../../../packets/code/text.ts";
import { CODE_RECORD_BYTES_MAX } from "../../../packets/limits.ts";
import { CARRY_BYTES, PADDING_BYTES, PIECE_BYTES_MAX, RangeRun } from "../../../runtime/code/range-run.ts";
import type { Kernel } from "../../../runtime/code/range-run.ts";
import { parseCode } from "../../../sdk/code/parse.ts";
import { randomBytes, randomCode, randomFrom } from "../../packets/code/random-code.ts";

const SEED = Number(process.env["PACKETFS_TEST_SEED"] ?? 11);
const PROGRAMS = Number(process.env["PACKETFS_TEST_PROGRAMS"] ?? 300);

const memory = new Uint8Array(CARRY_BYTES + PIECE_BYTES_MAX + PADDING_BYTES);

/** The state of the range in hexadecimal digits, or its fault. What is read is told to `read`. */
function runRange(
  code: Code,
  file: Uint8Array,
  range: { readonly from: number; readonly length: number },
  pieceBytes: () => number,
  read: (end: number) => void = () => {},
  kernel: Kernel = new Interpreter(code),
): unknown {
  const run = new RangeRun(code, kernel, memory, { ...range, total: file.byteLength });
  while (!run.isDone) {
    const { start, end } = run.wanted;
    expect(end).toBeGreaterThan(start);
    for (let at = start; at < end && !run.isDone;) {
      const length = Math.min(end - at, pieceBytes());
      memory.set(file.subarray(at, at + length), CARRY_BYTES);
      run.push(CARRY_BYTES, length);
      at += length;
      read(at);
    }
  }
  return run.fault ?? Buffer.from(encodeState(code, kernel.state)).toString("hex");
}

function expected(code: Code, file: Uint8Array, from: number, length: number): unknown {
  const result = interpret(code, file, from, length);
  return "reason" in result ? result : Buffer.from(encodeState(code, result)).toString("hex");
}

test("random programs over random ranges in random pieces", () => {
  const random = randomFrom(SEED);
  for (let count = 0; count < PROGRAMS; count++) {
    const bytes = randomCode(random);
    const code = decodeCode(bytes);
    const whole = code.rowBytes * random(30);
    const file = randomBytes(random, random(8) === 0 ? random(90) : code.rowBytes > 0 ? whole : random(120));
    const from = random(file.byteLength + 1);
    const length = random(file.byteLength - from + 1);
    const found = runRange(code, file, { from, length }, () => 1 + random(random(2) === 0 ? 4 : 60));
    const where = `${codeText(bytes)} of ${Buffer.from(file).toString("hex")} from ${from}, ${length} bytes`;
    expect(found, where).toEqual(expected(code, file, from, length));
  }
});

describe("lines at their limit", () => {
  const code = decodeCode(parseCode('lines("\\r\\n").max()').packetCode);
  test.each([
    [CODE_RECORD_BYTES_MAX, CODE_RECORD_BYTES_MAX],
    [CODE_RECORD_BYTES_MAX, 300_000],
    [CODE_RECORD_BYTES_MAX + 1, CODE_RECORD_BYTES_MAX],
    [CODE_RECORD_BYTES_MAX + 1, 300_000],
  ])("%i bytes in pieces of %i", (lineBytes, pieceBytes) => {
    for (const ending of ["", "\r\n", "\r\nx"]) {
      for (const start of ["", "ab\r\n"]) {
        const file = Buffer.from(`${start}${"x".repeat(lineBytes)}${ending}`);
        for (const [from, length] of [
          [0, file.byteLength],
          [0, start.length + 1],
          [start.length, 7],
          [1, 10],
        ] as const) {
          const found = runRange(code, file, { from, length }, () => pieceBytes);
          expect(found).toEqual(expected(code, file, from, length));
        }
      }
    }
  });
});

test("a line in many pieces is looked through twice, and not once for each of them", () => {
  const file = Buffer.from(`${"x".repeat(CODE_RECORD_BYTES_MAX - 1)}\n`.repeat(3));
  const code = decodeCode(parseCode("lines().max()").packetCode);
  const plain = new Interpreter(code);
  let seen = 0;
  const kernel: Kernel = {
    state: plain.state,
    run: (bytes, start, end) => {
      seen += end - start;
      return plain.run(bytes, start, end);
    },
  };
  expect(runRange(code, file, { from: 0, length: file.byteLength }, () => 4096, undefined, kernel)).toBe(
    expected(code, file, 0, file.byteLength),
  );
  expect(seen).toBeLessThan(2 * file.byteLength);
});

test("no more is read than what the last record goes on for", () => {
  const file = new Uint8Array(4_000_000);
  file[2_000_000] = 0x0a;
  let end = 0;
  const lines = decodeCode(parseCode("lines()").packetCode);
  runRange(
    lines,
    file,
    { from: 1_500_000, length: 600_000 },
    () => 100_000,
    (at) => (end = at),
  );
  expect(end).toBeLessThan(2_100_000 + CODE_RECORD_BYTES_MAX + 200_000);
  const rows = decodeCode(parseCode('match("abc")').packetCode);
  runRange(
    rows,
    file,
    { from: 10, length: 100 },
    () => 1_000,
    (at) => (end = at),
  );
  expect(end).toBe(112);
});
