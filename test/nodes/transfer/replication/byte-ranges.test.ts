import { describe, expect, test } from "vitest";
import { RESUME_RANGES_MAX } from "../../../../nodes/limits.ts";
import { ByteRanges } from "../../../../nodes/transfer/replication/byte-ranges.ts";
import { Random } from "../../../sim/random.ts";

describe("ranges of bytes", () => {
  test("are what a bit for each byte would be", () => {
    const random = new Random(1);
    for (let round = 0; round < 300; round++) {
      const bits = new Uint8Array(200);
      const ranges = new ByteRanges();
      for (let times = random.integer(0, 20); times > 0; times--) {
        const from = random.integer(0, 199);
        const end = random.integer(from, Math.min(200, from + 30));
        bits.fill(1, from, end);
        ranges.add(from, end);
      }
      const read = ByteRanges.decode(ranges.encode());
      expect([...read]).toEqual([...ranges]);
      expect(read.bytes).toBe(bits.reduce((sum, bit) => sum + bit, 0));
      for (let times = 0; times < 20; times++) {
        const from = random.integer(0, 199);
        const end = random.integer(from, 200);
        expect(read.covers(from, end)).toBe(bits.subarray(from, end).every((bit) => bit === 1));
      }
    }
  });

  test("take a few bytes: what is there up to a place, but for some of it", () => {
    const ranges = new ByteRanges([
      { from: 0, end: 5e9 },
      { from: 5e9 + 70_000, end: 8e9 },
    ]);
    expect(ranges.encode().byteLength).toBeLessThanOrEqual(16);
    expect([...ByteRanges.decode(ranges.encode())]).toEqual([...ranges]);
  });

  test("are as many as may be told: the shortest is forgotten, and nothing else", () => {
    const ranges = new ByteRanges();
    for (let index = 0; index <= RESUME_RANGES_MAX; index++)
      ranges.add(index * 100, index * 100 + (index === 500 ? 1 : 50));
    expect(ranges.size).toBe(RESUME_RANGES_MAX);
    expect(ranges.covers(50_000, 50_001)).toBe(false);
    expect(ranges.covers(49_900, 49_950)).toBe(true);
    expect(ByteRanges.decode(ranges.encode()).size).toBe(RESUME_RANGES_MAX);
  });

  test.each([
    ["cut", [5]],
    ["a number without an end", [0x80]],
    ["a number with a zero behind it", [0x80, 0x00, 1]],
    ["no bytes", [3, 0]],
    ["two that touch", [1, 1, 0, 1]],
    ["beyond 2^53", [0, ...Array.from({ length: 8 }, () => 0xff), 0x0f]],
    ["too many", Array.from({ length: 2 * RESUME_RANGES_MAX + 2 }, () => 1)],
  ])("are refused: %s", (_what, bytes) => {
    expect(() => ByteRanges.decode(Uint8Array.from(bytes))).toThrow(
      expect.objectContaining({ code: "PFS_TRANSFER_INVALID" }),
    );
  });
});
