/** Packet code: what is a program, what it gives, and that splitting and merging change nothing of it. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  CodeOffset,
  Stage,
  codeCost,
  Aggregate,
  codeFor,
  decodeCode,
  encodeCode,
  invalidCode,
} from "../../../packets/code/format.ts";
import { isFloat } from "../../../packets/code/column-type.ts";
import { interpret } from "../../../packets/code/interpreter.ts";
import type { RecordFault } from "../../../packets/code/interpreter.ts";
import {
  decodeState,
  emptyState,
  encodeState,
  mergeState,
  stateBytes,
  valueOf,
} from "../../../packets/code/state.ts";
import type { State } from "../../../packets/code/state.ts";
import { codeText } from "../../../packets/code/text.ts";
import { CODE_RECORD_BYTES_MAX } from "../../../packets/limits.ts";
import { valueCodec } from "../../../runtime/program/values.ts";
import { parseCode } from "../../../sdk/code/parse.ts";
import { randomBytes, randomCode, randomFrom } from "./random-code.ts";

const SEED = Number(process.env["PACKETFS_TEST_SEED"] ?? 7);
const PROGRAMS = Number(process.env["PACKETFS_TEST_PROGRAMS"] ?? 6_000);
/** Each of them is run many times. */
const SPLIT_PROGRAMS: number = Math.ceil(PROGRAMS / 50);

interface CodeVectors {
  valid: {
    name: string;
    text: string;
    code: string;
    file: string;
    ranges: { from: number; length: number; state: string }[];
    merged: string;
    value: string;
  }[];
  invalid: { reason: string; code: string }[];
  faults: { name: string; code: string; file: string; from: number; length: number; at: number }[];
  invalidStates: { code: string; states: string }[];
}

const vectors = JSON.parse(
  readFileSync(new URL("../../vectors/code.json", import.meta.url), "utf8"),
) as CodeVectors;
const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

function stateOf(result: State | RecordFault): State {
  if ("reason" in result) throw new Error(`byte ${result.at}: ${result.reason}`);
  return result;
}

describe("the bytes that every implementation agrees on", () => {
  test.each(vectors.valid)("$name: $text", ({ text, code: hex, file, ranges, merged, value }) => {
    const code = decodeCode(bytesOf(hex));
    expect(hexOf(encodeCode(code))).toBe(hex);
    expect(codeText(bytesOf(hex))).toBe(text);
    expect(hexOf(parseCode(text).packetCode)).toBe(hex);
    let whole: State | undefined;
    for (const { from, length, state: expected } of ranges) {
      const state = stateOf(interpret(code, bytesOf(file), from, length));
      expect(hexOf(encodeState(code, state))).toBe(expected);
      const read = decodeState(code, bytesOf(expected));
      if (whole === undefined) whole = read;
      else mergeState(code, whole, read);
    }
    expect(hexOf(encodeState(code, whole!))).toBe(merged);
    expect(valueCodec.encode(valueOf(code, whole!), "")).toBe(value);
  });

  test.each(vectors.invalid)("$reason: $code", ({ reason, code }) => {
    expect(invalidCode(bytesOf(code))).toBe(reason);
    expect(() => decodeCode(bytesOf(code))).toThrow(reason);
  });

  test.each(vectors.faults)("$name", ({ code, file, from, length, at }) => {
    expect(interpret(decodeCode(bytesOf(code)), bytesOf(file), from, length)).toMatchObject({ at });
  });

  test.each(vectors.invalidStates)("no states of $code: $states", ({ code: hex, states }) => {
    const code = decodeCode(bytesOf(hex));
    const size = stateBytes(code);
    const bytes = bytesOf(states);
    expect(() => {
      for (let at = 0; at < bytes.byteLength; at += size) decodeState(code, bytes.subarray(at, at + size));
    }).toThrow(expect.objectContaining({ code: "PFS_CODE_INVALID" }));
  });
});

test("random bytes are refused, or a program that its own text makes again", () => {
  const random = randomFrom(SEED);
  let valid = 0;
  for (let count = 0; count < PROGRAMS; count++) {
    const bytes = randomCode(random);
    // One or two of its bytes are others.
    for (let times = random(3); times > 0; times--)
      bytes[random(bytes.length)] = random(random(2) === 0 ? 12 : 256);
    if (invalidCode(bytes) !== null) continue;
    valid++;
    const code = decodeCode(bytes);
    expect(hexOf(encodeCode(code))).toBe(hexOf(bytes));
    if (code.stage === Stage.MAP) expect(hexOf(parseCode(codeText(bytes)).packetCode)).toBe(hexOf(bytes));
    expect(codeCost(code)).toBeLessThanOrEqual(22);
  }
  expect(valid).toBeGreaterThan(PROGRAMS / 50);
});

test("every split of a file gives the same, but for the order in which floats are added", () => {
  const random = randomFrom(SEED + 1);
  for (let count = 0; count < SPLIT_PROGRAMS; count++) {
    const bytes = randomCode(random);
    const code = decodeCode(bytes);
    const rowBytes = Math.max(1, code.rowBytes);
    const file = randomBytes(random, rowBytes * random(40));
    const whole = stateOf(interpret(code, file, 0, file.byteLength));
    const state = emptyState(code);
    for (let from = 0; from < file.byteLength;) {
      const length = Math.min(file.byteLength - from, 1 + random(20));
      const part = stateOf(interpret(code, file, from, length));
      const stored = encodeState(code, part);
      expect(stored).toHaveLength(stateBytes(code));
      mergeState(code, state, decodeState(code, stored));
      from += length;
    }
    const isFloatSum =
      isFloat(code.type) && (code.aggregate === Aggregate.SUM || code.aggregate === Aggregate.MEAN);
    if (isFloatSum) expect(Number.isNaN(state.float)).toBe(Number.isNaN(whole.float));
    else expect(hexOf(encodeState(code, state)), codeText(bytes)).toBe(hexOf(encodeState(code, whole)));
  }
});

test("a file that ends within a row, and a line that is too long, are faults that say where", () => {
  const rows = decodeCode(parseCode('sum("u32")').packetCode);
  expect(interpret(rows, new Uint8Array(10), 0, 10)).toMatchObject({ at: 8 });
  expect(interpret(rows, new Uint8Array(10), 0, 8)).toMatchObject({ count: 2 });
  const lines = decodeCode(parseCode("lines()").packetCode);
  const file = new Uint8Array(CODE_RECORD_BYTES_MAX + 20);
  file.set([0x61, 0x0a]);
  expect(interpret(lines, file, 0, 10)).toMatchObject({ at: 2 });
  // No line begins there.
  expect(interpret(lines, file, 10, 10)).toMatchObject({ count: 0 });
  file[20] = 0x0a;
  expect(interpret(lines, file, 0, file.byteLength)).toMatchObject({ count: 3 });
});

test("states of others are refused", () => {
  const code = decodeCode(parseCode("count()").packetCode);
  expect(() => decodeState(code, new Uint8Array(7))).toThrow("a state of another size");
  expect(() => decodeState(code, new Uint8Array(8).fill(255))).toThrow("a count above 2^53 - 1");
});

test("a stage is all that tells the programs of a job from each other", () => {
  const { packetCode } = parseCode('count("x")');
  expect(codeText(codeFor(packetCode, Stage.MERGE))).toBe('merge of bytes().filter(anyOf("x")).count()');
  expect(codeText(codeFor(packetCode, Stage.FINISH))).toMatch(/^finish of /);
  expect(codeFor(codeFor(packetCode, Stage.FINISH), Stage.MAP)).toEqual(packetCode);
  expect(codeText(packetCode.with(CodeOffset.version, 9))).toBe("INVALID unknown version");
});
