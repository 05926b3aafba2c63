import { describe, expect, test } from "vitest";
import { KERNELS_MAX } from "../../../../runtime/limits.ts";
import { kernelKey } from "../../../../runtime/program/kernel/cost.ts";
import { expectedCalls, parseEstimates } from "../../../../runtime/program/kernel/estimate.ts";
import { kernel } from "../../engine/kernels.ts";

const SEARCH = kernel({
  name: "search",
  inputs: [
    { name: "vectors", type: "f32", shape: ["n", 256] },
    { name: "queries", type: "f32", shape: ["q", 256] },
    { name: "top", type: "u32", shape: [] },
  ],
  outputs: [{ name: "scores", type: "f32", shape: ["q", "n"] }],
  maxTrip: { top: 100 },
  operations: "n * q * 512 + top",
});

function text(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

describe("estimates", () => {
  const inputs = ["range", "file", "call"] as const;

  test("say how large the calls of all splits are, and what of it a GPU is sent", () => {
    const found = [{ kernel: 0, dimensions: { n: 1000, q: 64 }, scalars: { top: 10 }, inputs }];
    const parsed = parseEstimates(text(found), [SEARCH]);
    expect(parsed).toEqual(found);
    expect(expectedCalls(parsed, [SEARCH], 7)).toEqual([
      {
        kernel: 0,
        key: kernelKey(SEARCH),
        size: {
          operations: 1000 * 64 * 512 + 10,
          inputBytes: (1000 + 64) * 1024 + 4,
          uploadBytes: 1000 * 1024 + 4,
          outputBytes: 64_000 * 4,
        },
        calls: 7,
        sharedBytes: 64 * 1024,
        rangeBytes: 1_024_000,
      },
    ]);
  });

  test("are refused where they are none of the program's", () => {
    const one = { kernel: 0, dimensions: { n: 1, q: 1 }, scalars: {}, inputs };
    const bad: unknown[] = [
      null,
      {},
      [1],
      [{ ...one, kernel: 1 }],
      [{ ...one, kernel: -1 }],
      [{ ...one, inputs: ["range"] }],
      [{ ...one, inputs: ["range", "file", "moon"] }],
      [{ ...one, dimensions: { n: 1.5 } }],
      [{ ...one, dimensions: { n: -1 } }],
      [{ ...one, scalars: { top: -1 } }],
      [{ ...one, dimensions: { n: 2 ** 53 } }],
      [{ ...one, more: 1 }],
      Array.from({ length: KERNELS_MAX + 1 }, () => one),
    ];
    for (const value of bad)
      expect(() => parseEstimates(text(value), [SEARCH]), JSON.stringify(value)).toThrow(
        expect.objectContaining({ code: "PFS_INTERNAL" }),
      );
    expect(() => parseEstimates(text([one]).subarray(1), [SEARCH])).toThrow();
    const unbound = parseEstimates(text([{ ...one, dimensions: { n: 1 } }]), [SEARCH]);
    expect(() => expectedCalls(unbound, [SEARCH], 1)).toThrow();
    const huge = parseEstimates(text([{ ...one, dimensions: { n: 2 ** 40, q: 2 ** 40 } }]), [SEARCH]);
    expect(() => expectedCalls(huge, [SEARCH], 1)).toThrow();
  });
});
