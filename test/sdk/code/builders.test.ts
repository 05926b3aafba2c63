/** Builders of packet code, and the text of their calls. */
import { crc32 } from "node:zlib";
import { describe, expect, test } from "vitest";
import { decodeCode } from "../../../packets/code/format.ts";
import { interpret } from "../../../packets/code/interpreter.ts";
import { valueOf } from "../../../packets/code/state.ts";
import type { State } from "../../../packets/code/state.ts";
import { hasCode } from "../../../packets/errors.ts";
import { anyOf, columns, contains, count, filter, lines, not, range } from "../../../sdk/code/builders.ts";
import type { PacketCode } from "../../../sdk/code/builders.ts";
import { parseCode } from "../../../sdk/code/parse.ts";

function valueIn(code: PacketCode, file: Uint8Array): unknown {
  const decoded = decodeCode(code.packetCode);
  return valueOf(decoded, interpret(decoded, file, 0, file.byteLength) as State);
}

const text = Buffer.from("GET /a 200\nPOST /b 500\nGET /c 404\n\nlast");
const floats = new Uint8Array(Float64Array.of(-2, -0, 0, 0.5, 3, NaN, Infinity).buffer);

test.each([
  ['count("\\n")', 4],
  ["count()", text.byteLength],
  ["count('\\x0a')", 4],
  ['count(anyOf("GP", range("0", "9")))', 12],
  ["count(not(anyOf(range(0, 127))))", 0],
  ['match("/")', 3],
  ["lines()", 5],
  ["lines().count();", 5],
  ["lines().max()", 11],
  ['lines().filter(contains("GET"))', 2],
  ['lines().filter(not(ends("4"))).count()', 4],
  ['lines().filter("length", "!=", 0).mean()', 8.75],
  ['lines().filter("length", anyOf(0, range(10, 11)))', 4],
  ["crc32()", crc32(text)],
])("%s", (source, expected) => {
  expect(valueIn(parseCode(source), text)).toEqual(expected);
});

test.each([
  ["<", 0, 1],
  ["<=", 0, 3],
  [">", 0, 3],
  [">=", 0, 5],
  ["=", 0, 2],
  // NaN is unequal to everything.
  ["!=", 0, 5],
  [">", 0.5, 2],
  ["<", Infinity, 5],
  [">=", -Infinity, 6],
] as const)("floats %s %d", (comparison, limit, expected) => {
  expect(valueIn(filter("f64", comparison, limit).count(), floats)).toBe(expected);
});

test("columns are called by their names, and their places follow from their order", () => {
  const row = Buffer.alloc(26);
  for (const at of [0, 13]) {
    row.writeUInt32LE(at, at);
    row.writeDoubleLE(at + 0.5, at + 4);
    row[at + 12] = 7;
  }
  const table = columns({ id: "u32", x: "f64", kind: "u8" });
  expect(valueIn(table, row)).toBe(2);
  expect(valueIn(table.filter("id", ">", 0).sum("x"), row)).toBe(13.5);
  expect(valueIn(table.filter("kind", anyOf(7, range(1, 2))).max("id"), row)).toBe(13);
  expect(valueIn(parseCode('columns({ id: "u32", "x": "f64", kind: "u8" }).mean("x")'), row)).toBe(7);
  const column = columns({ only: "u8" });
  expect(valueIn(column.sum(), row)).toBe(row.reduce((sum, byte) => sum + byte, 0));
  expect(column.filter(anyOf(7)).packetCode).toEqual(count(7).packetCode);
  expect(column.crc32().packetCode).toEqual(parseCode("crc32()").packetCode);
  expect(String(table.filter("id", ">", 0).sum("x"))).toBe('rows(13).filter("u32@0", ">=", 1).sum("f64@4")');
});

test("sets of bytes that touch are one", () => {
  expect(count(anyOf("b", "a", range("c", "z"))).packetCode).toEqual(
    count(anyOf(range("a", "z"))).packetCode,
  );
  expect(String(count(not(anyOf("\n"))))).toBe('bytes().filter(not(anyOf("\\n"))).count()');
});

test("programs know what they give", () => {
  const counted: PacketCode<number> = lines().filter(contains("x")).count();
  // @ts-expect-error A mean may be of nothing.
  const mean: PacketCode<number> = lines().mean();
  expect([counted.packetCode, mean.packetCode]).toHaveLength(2);
});

describe("what is no program says why, and where", () => {
  test.each([
    ["", 0, "it ends too early"],
    ['count("', 6, "the string that begins here has no end"],
    ["count('\\'", 6, "the string that begins here has no end"],
    ['columns({ "a: "u8" })', 15, '"u8\\" })" was not expected'],
    ['columns({ "a: ', 10, "the string that begins here has no end"],
    ["sum(f64)", 4, "strings stand in quotes"],
    ["lines().", 8, "it ends too early"],
    ["count(1, 2)", 0, "count takes one value at most"],
    ["lines().filter(contains('a', 'b'))", 15, "contains takes one value at most"],
    ['lines("\\n", 2)', 0, "lines takes one value at most"],
    ['lines().sum("length")', 8, "sum takes nothing"],
    ["crc32(1)", 0, "crc32 takes nothing"],
    ['count(not("x"))', 6, "not takes anyOf(…)"],
    ['count(range("a", "z"))', 0, "a set is anyOf(…)"],
    ['count(anyOf("z", range("z", "a")))', 0, "the range from 122 to 97 ends before it begins"],
    ["count(", 6, "it ends too early"],
    ["count", 0, "count stands without its parentheses"],
    ["counts()", 0, "there is no counts"],
    ["count().foo()", 8, "this has no foo"],
    ["count().constructor()", 8, "this has no constructor"],
    ['count("ab")', 0, 'match("ab") counts a text'],
    ['count("é")', 0, "match"],
    ['contains("x")', 0, "a part of one"],
    ['lines().filter(contains("x")).filter(contains("y"))', 30, "one filter"],
    ['match("123456789012345678901")', 0, "the needle has 1 to 20 bytes"],
    ['match("")', 0, "nothing to look for"],
    ['lines("\\n\\n")', 0, "overlaps itself"],
    ['sum("u128")', 0, "is no type"],
    ["sum()", 0, "is no type"],
    ['rows(4).sum("u32@1")', 8, "beyond its row"],
    ['rows(4).sum("id")', 8, "is no column"],
    ["rows(70000)", 0, "65535"],
    ["rows(-1)", 0, "65535"],
    ["rows(1.5)", 0, "65535"],
    ['bytes().filter(at(0.5, "a"))', 8, "beyond its row"],
    ['filter("u8", "<", 0)', 0, "no u8 is < 0"],
    ['filter("u8", "~", 1)', 0, "is no comparison"],
    ['filter("u8", "=", 256)', 0, "no value from 0 to 255"],
    ['filter("u8", "=", 1.5)', 0, "no value from 0 to 255"],
    ['filter("f32", "=", 0.1)', 0, "is no f32"],
    ["count() extra", 8, '"extra" was not expected'],
    ['count("\\xff")', 6, "no escape"],
    ["count(anyOf(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21))", 0, "room for 10 ranges of u8"],
    [`${"not(".repeat(40)}`, 68, "more than 16 deep"],
    ["x".repeat(5000), 4096, "at most 4096"],
  ])("%s", (source, at, reason) => {
    try {
      parseCode(source);
      expect.unreachable();
    } catch (error) {
      if (!hasCode(error, "PFS_CODE_INVALID")) throw error;
      expect(error.message).toContain(reason);
      expect(error.data["at"]).toBe(at);
    }
  });
});
