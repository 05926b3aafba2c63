import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { hasCode } from "../../../../packets/errors.ts";
import { evaluateSize, parseSize } from "../../../../runtime/program/kernel/sizes.ts";

function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return ["PFS_KERNEL_INVALID", "PFS_KERNEL_OVER_LIMIT"].find((code) => hasCode(error, code)) ?? "other";
  }
  return "none";
}

describe("a size expression", () => {
  test.each([
    ["7", 7],
    ["n", 10],
    ["n / 4", 3],
    ["n/64/65535", 1],
    ["2 + n * 3 - 1", 31],
    ["(n + 2) * (m - 1)", 12],
    ["n - 3 - 2", 5],
    ["9007199254740991 / 2", 4503599627370496],
  ])("%s", (text, expected) => {
    expect(evaluateSize(text, { n: 10, m: 2 })).toBe(expected);
  });

  test.each([
    "",
    " ",
    "n +",
    "+ n",
    "n n",
    "(n",
    "n)",
    "n ** 2",
    "n % 2",
    "1.5",
    "0x10",
    "-1",
    "n;",
    "n\u0000",
    "n[0]",
    "a.b",
    "ſ",
    `${"(".repeat(100)}n${")".repeat(100)}`,
    "n+".repeat(2000) + "n",
  ])("is refused (%#)", (text) => {
    expect(codeOf(() => parseSize(text).evaluate({ n: 1 }))).toBe("PFS_KERNEL_INVALID");
  });

  test.each(["n - 11", "n * 9007199254740991", "9007199254740991 + 1", "m - n + n", "9999999999999999"])(
    "leaves the whole numbers: %s",
    (text) => {
      expect(codeOf(() => evaluateSize(text, { n: 10, m: 2 }))).toBe("PFS_KERNEL_OVER_LIMIT");
    },
  );

  test.each(["constructor", "toString", "hasOwnProperty", "x"])(
    "knows no name but those it is given: %s",
    (name) => {
      expect(codeOf(() => evaluateSize(name, { n: 1 }))).toBe("PFS_KERNEL_INVALID");
    },
  );

  test("divides upwards, exactly, wherever that is whole", () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.integer({ min: 1, max: 2 ** 31 }), (a, b) => {
        const exact = (BigInt(a) + BigInt(b) - 1n) / BigInt(b);
        expect(BigInt(evaluateSize("a / b", { a, b }))).toBe(exact);
      }),
    );
  });

  test("says which names it has, once each", () => {
    expect(parseSize("n * m + n / (k + m)").names).toEqual(["n", "m", "k"]);
  });
});
