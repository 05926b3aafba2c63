import { expect, test } from "vitest";
import { NAME_BYTES_MAX } from "../../packets/limits.ts";
import { invalidName, versionOfName } from "../../packets/name.ts";

test.each([
  "a",
  "report.csv",
  "logs/2026/11/access.log",
  "with space and 'quotes'",
  "Grüße/数据/🗂️ files",
  "...",
  "a/.hidden",
  "C:\\looks like a path",
  "-rf",
  "x".repeat(NAME_BYTES_MAX),
])("%j is a name", (name) => expect(invalidName(name)).toBeNull());

test.each([
  ["", "it is empty"],
  ["/", "it has an empty component"],
  ["/etc/passwd", "it has an empty component"],
  ["a//b", "it has an empty component"],
  ["a/", "it has an empty component"],
  [".", 'it has a component "."'],
  ["a/./b", 'it has a component "."'],
  ["..", 'it has a component ".."'],
  ["a/../b", 'it has a component ".."'],
  ["a\0b", "it has control characters"],
  ["a\nb", "it has control characters"],
  ["a\u001b[31m", "it has control characters"],
  ["a\u007f", "it has control characters"],
  ["a\u0085b", "it has control characters"],
  ["a\u2028b", "it has control characters"],
  ["photo\u202egpj.exe", "it has characters that change the direction of text"],
  ["\u2066x\u2069", "it has characters that change the direction of text"],
  ["a\ud800", "it is not well-formed Unicode"],
  ["\udc00a", "it is not well-formed Unicode"],
  ["x".repeat(NAME_BYTES_MAX + 1), `it is longer than ${NAME_BYTES_MAX} bytes`],
  ["é".repeat(NAME_BYTES_MAX / 2 + 1), `it is longer than ${NAME_BYTES_MAX} bytes`],
  ["x".repeat(1_000_000), `it is longer than ${NAME_BYTES_MAX} bytes`],
  ["0123456789abcDEF".repeat(4), "64 hexadecimal digits are a root, which names the bytes themselves"],
])("%j is none", (name, reason) => expect(invalidName(name)).toBe(reason));

test("a version is read off the end of a name", () => {
  expect(versionOfName("a@b@3")).toEqual({ name: "a@b", version: 3 });
  for (const text of ["a", "a@", "a@0", "a@03", "a@3x", "@3", "..@3", "a@1234567890123456"]) {
    expect(versionOfName(text), text).toBeUndefined();
  }
});
