import { describe, expect, test } from "vitest";
import {
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

/** Bytes of its inputs. */
const LENGTHS = [2 * 3 * 4, 3 * 5 * 4, 4, 4];

describe("dimensions that somebody bound", () => {
  test("are those of the inputs", () => {
    expect(() => checkDimensions(kernel(), { m: 2, k: 3, n: 5 }, LENGTHS)).not.toThrow();
  });

  test.each([
    [
      "of another input's sizes",
      { m: 3, k: 2, n: 5 },
      LENGTHS,
      "b has 60 bytes, and 40 are f32 k × n (k is 2, n is 5)",
    ],
    ["that are missing", { m: 2, k: 3 }, LENGTHS, "nothing says what n is"],
    ["that it has not", { m: 2, k: 3, n: 5, x: 1 }, LENGTHS, 'no dimension "x"'],
    ["that every object has", { m: 2, k: 3, n: 5, constructor: 3 }, LENGTHS, 'no dimension "constructor"'],
    ["of a length that is no multiple", { m: 2, k: 3, n: 5 }, [24, 61, 4, 4], "b has 61 bytes"],
    ["above maxTrip", { m: 2, k: 1001, n: 1 }, [8008, 4004, 4, 4], "its maxTrip is 1000"],
    ["of nothing", { m: 0, k: 3, n: 5 }, [0, 60, 4, 4], "m is 0"],
    ["of no whole number", { m: 1.5, k: 3, n: 5 }, LENGTHS, "m is 1.5"],
    ["beyond what floats count", { m: 2 ** 24 + 1, k: 3, n: 5 }, LENGTHS, "from 1 to 16777216"],
    ["of too few inputs", { m: 2, k: 3, n: 5 }, [24], "it takes 4 inputs, not 1"],
    ["of a scalar of eight bytes", { m: 2, k: 3, n: 5 }, [24, 60, 8, 4], "scale has 8"],
    [
      "of an output beyond all buffers",
      { m: 2 ** 24, k: 1, n: 2 ** 24 },
      [2 ** 26, 2 ** 26, 4, 4],
      "output has more than",
    ],
  ])("are refused: %s", (_, dimensions, lengths, reason) => {
    expect(() => checkDimensions(kernel(), dimensions as never, lengths)).toThrow(reason);
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
