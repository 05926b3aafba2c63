import { describe, expect, test } from "vitest";
import {
  bindDimensions,
  boundSizes,
  callBytes,
  callOperations,
  checkDimensions,
  outputPlaces,
  uniformBytes,
  workgroupsOf,
} from "../../../../runtime/program/kernel/binding.ts";
import type { Kernel, Tensor } from "../../../../runtime/program/kernel/kernel.ts";

function tensor(name: string, shape: readonly (string | number)[], type: Tensor["type"] = "f32"): Tensor {
  return { name, type, shape };
}

/** Matrix multiplication, with all that a call's sizes depend on. */
function kernel(changes: Partial<Kernel> = {}): Kernel {
  return {
    name: "product",
    kind: "js",
    inputs: [
      tensor("a", ["m", "k"]),
      tensor("b", ["k", "n"]),
      tensor("scale", [], "f32"),
      tensor("steps", [], "i32"),
    ],
    outputs: [tensor("output", ["m", "n"])],
    source: "",
    maxTrip: { k: 1000, steps: 50 },
    result: "exact",
    hasCpu: false,
    operations: "m * n * k * 2 + steps",
    limits: { gpuMs: 1000, gpuBytes: 10_000 },
    gpu: 1,
    wgsl: "",
    layout: {
      uniform: [{ u32: "n" }, { u32: "m" }, { input: 2 }, { input: 3 }],
      bindings: [{ input: 0 }, { input: 1 }, { output: 0 }],
      entryPoint: "main",
      workgroups: ["n / 8", "m / 8", "1"],
    },
    ...changes,
  };
}

const SCALARS = [{ length: 4 }, { length: 4 }];

describe("dimensions", () => {
  test("follow from shapes and lengths", () => {
    const inputs = [{ length: 2 * 3 * 4, shape: [2, 3] }, { length: 3 * 5 * 4 }, ...SCALARS];
    expect(bindDimensions(kernel(), inputs)).toEqual({ m: 2, k: 3, n: 5 });
  });

  test("follow from what is given", () => {
    const inputs = [{ length: 2 * 3 * 4 }, { length: 3 * 5 * 4 }, ...SCALARS];
    expect(bindDimensions(kernel(), inputs, { n: 5 })).toEqual({ m: 2, k: 3, n: 5 });
  });

  test("of a square follow from its length", () => {
    const square = kernel({
      inputs: [tensor("a", ["n", "n", 2])],
      outputs: [tensor("output", ["n"])],
      maxTrip: {},
    });
    expect(bindDimensions(square, [{ length: 7 * 7 * 2 * 4 }])).toEqual({ n: 7 });
    expect(() => bindDimensions(square, [{ length: 50 * 4 * 2 }])).toThrow("no f32 n × n × 2");
  });

  test.each([
    [
      "two sizes at once",
      [{ length: 24, shape: [2, 3] }, { length: 80, shape: [4, 5] }, ...SCALARS],
      {},
      "k is 3 and 4",
    ],
    ["none", [{ length: 24 }, { length: 60 }, ...SCALARS], {}, "nothing says what m, k, n are"],
    [
      "a length that is no multiple",
      [{ length: 24, shape: [2, 3] }, { length: 61 }, ...SCALARS],
      {},
      "b has 61 bytes",
    ],
    [
      "a shape of another rank",
      [{ length: 24, shape: [6] }, { length: 60 }, ...SCALARS],
      {},
      "a has 2 dimensions, not 1",
    ],
    [
      "above maxTrip",
      [{ length: 8008, shape: [2, 1001] }, { length: 4004 }, ...SCALARS],
      {},
      "its maxTrip is 1000",
    ],
    ["of nothing", [{ length: 0, shape: [0, 3] }, { length: 60 }, ...SCALARS], {}, "m would be 0"],
    ["of no whole number", [{ length: 24 }, { length: 60 }, ...SCALARS], { m: 1.5 }, "m would be 1.5"],
    ["too many inputs", [{ length: 24 }], {}, "it takes 4 inputs, not 1"],
    [
      "an unknown name",
      [{ length: 24 }, { length: 60 }, ...SCALARS],
      { constructor: 3 },
      'no dimension "constructor"',
    ],
    [
      "a scalar of eight bytes",
      [{ length: 24, shape: [2, 3] }, { length: 60 }, { length: 8 }, { length: 4 }],
      {},
      "scale has 8",
    ],
  ])("are refused: %s", (_, inputs, given, reason) => {
    expect(() => bindDimensions(kernel(), inputs, given as never)).toThrow(reason);
  });

  test("that somebody else bound are not believed", () => {
    const lengths = [24, 60, 4, 4];
    expect(() => checkDimensions(kernel(), { m: 2, k: 3, n: 5 }, lengths)).not.toThrow();
    expect(() => checkDimensions(kernel(), { m: 3, k: 2, n: 5 }, lengths)).toThrow("b has 60 bytes");
    expect(() => checkDimensions(kernel(), { m: 2, k: 3, n: 5, x: 1 }, lengths)).toThrow("no dimension");
  });
});

describe("what a call has", () => {
  const dimensions = { m: 20, k: 3, n: 9 };
  const scalars = [
    undefined,
    undefined,
    new Uint8Array(new Float32Array([0.5]).buffer),
    new Uint8Array(new Int32Array([7]).buffer),
  ];

  test("memory, outputs, uniform buffer, workgroups, operations", () => {
    const sizes = boundSizes(kernel(), dimensions, scalars);
    expect(callBytes(kernel(), dimensions)).toBe((20 * 3 + 3 * 9 + 2 + 20 * 9) * 4);
    expect(outputPlaces(kernel(), dimensions)).toEqual([{ offset: 0, length: 720 }]);
    expect([...new Uint32Array(uniformBytes(kernel(), sizes, scalars).buffer)]).toEqual([
      9, 20, 0x3f000000, 7,
    ]);
    expect(workgroupsOf(kernel(), sizes)).toEqual([2, 3, 1]);
    expect(callOperations(kernel(), sizes)).toBe(20 * 9 * 3 * 2 + 7);
  });

  test("outputs of bytes stand at multiples of four", () => {
    const two = kernel({ outputs: [tensor("x", ["n"], "bytes"), tensor("y", ["n"], "u32")] });
    expect(outputPlaces(two, dimensions)).toEqual([
      { offset: 0, length: 9 },
      { offset: 12, length: 36 },
    ]);
  });

  test("is refused when it is too much", () => {
    expect(() => callBytes(kernel(), { m: 100, k: 100, n: 100 })).toThrow("gpuBytes is 10000");
    const many = [...scalars.slice(0, 3), new Uint8Array(new Int32Array([51]).buffer)];
    expect(() => boundSizes(kernel(), dimensions, many)).toThrow("steps is 51, and its maxTrip is 50");
    const large = [...scalars.slice(0, 3), new Uint8Array(new Int32Array([-(2 ** 24) - 1]).buffer)];
    expect(() => boundSizes(kernel(), dimensions, large)).toThrow("whole numbers go to 16777216");
  });
});
