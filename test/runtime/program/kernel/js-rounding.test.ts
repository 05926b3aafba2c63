/**
 * Exact kernels come to the same on GPUs that join and order operations as they like, as far as a GPU that rounds as late as it may
 * can tell. PACKETFS_TEST_SEED and PACKETFS_TEST_KERNELS as in js-fuzz.test.ts.
 */
import { describe, expect, test } from "vitest";
import { KernelError } from "../../../../runtime/errors.ts";
import { kernelSpec } from "../../../../runtime/program/kernel/declaration.ts";
import type { KernelSpec } from "../../../../runtime/program/kernel/kernel.ts";
import { compiledJs, runWebAssembly } from "./gpujs.ts";
import { interpretJs } from "./js-interpreter.ts";
import type { JsInput } from "./js-interpreter.ts";
import { randomKernel, randomWholeKernel, seeded } from "./js-random.ts";
import { computeLate } from "./late-rounding.ts";
import type { LateOptions } from "./late-rounding.ts";

const SEED = Number(process.env["PACKETFS_TEST_SEED"] ?? 1);
const KERNELS = Number(process.env["PACKETFS_TEST_KERNELS"] ?? 400);
const NEVER = (): boolean => false;

function exactSpec(source: string, type: "f32" | "i32" = "i32"): KernelSpec {
  return kernelSpec({
    kind: "js",
    inputs: [
      { name: "a", type, shape: ["n"] },
      { name: "b", type, shape: ["n"] },
      { name: "s", type: "i32", shape: [] },
    ],
    outputs: [{ name: "output", type: "f32", shape: ["n"] }],
    maxTrip: { n: 9 },
    result: "exact",
    hasCpu: false,
    source: `function (a, b, s) {\n${source}\n}`,
  });
}

const LARGE: readonly JsInput[] = [
  Float32Array.of(4097, -8191, 16777215, 5, 4099),
  Float32Array.of(4099, 8193, 16777213, 7, -4097),
  4095,
];
const N = { n: 5 };

describe("whole numbers beyond 2^24", () => {
  test.each([
    ["a product in a sum", "return a[this.thread.x] * b[this.thread.x] + b[0]"],
    ["a product that is taken away", "return b[0] - a[this.thread.x] * b[this.thread.x]"],
    ["a product with a name", "const x = a[this.thread.x] * b[this.thread.x]; return x + s"],
    ["a product of a choice", "return (s > 1 ? a[this.thread.x] * b[this.thread.x] : 1) + 1"],
    ["a product without its sign", "return Math.abs(a[this.thread.x] * b[this.thread.x]) + 1"],
    ["three factors", "return a[this.thread.x] * b[this.thread.x] * s"],
    ["sums in another order", "return a[this.thread.x] * s + (b[2] * s - a[2] * s)"],
    [
      "a sum of many",
      "let sum = s; for (let i = 0; i < this.constants.n; i++) sum += a[i] * b[this.thread.x]; return sum",
    ],
    ["what is compared", "return a[this.thread.x] * b[this.thread.x] > a[0] * b[0] - 1 ? 1 : 2"],
    ["what is cut off", "return (a[this.thread.x] * b[this.thread.x] + 1) & 1023"],
  ])("round where they must: %s", (_, source) => {
    const spec = exactSpec(source);
    const expected = interpretJs(spec, N, LARGE);
    expect(computeLate(spec, N, LARGE, { isKept: true, isEarly: NEVER })).toEqual(expected);
    expect(runWebAssembly(spec, N, LARGE)).toEqual(expected);
  });

  test("would round elsewhere, if nothing held them", () => {
    const joined = exactSpec("return a[this.thread.x] * b[this.thread.x] + b[0]");
    const ordered = exactSpec("return a[this.thread.x] * s + (b[2] * s - a[2] * s)");
    for (const spec of [joined, ordered])
      expect(computeLate(spec, N, LARGE, { isKept: false, isEarly: NEVER })).not.toEqual(
        interpretJs(spec, N, LARGE),
      );
  });

  test("up to 2^24 need no holding", () => {
    const spec = exactSpec("return a[this.thread.x] * s + (b[this.thread.x] - a[0] * s)");
    const small: readonly JsInput[] = [Float32Array.of(1, 2, 3), Float32Array.of(9, 8, 7), -4000];
    const late = computeLate(spec, { n: 3 }, small, { isKept: false, isEarly: NEVER });
    expect(late).toEqual(interpretJs(spec, { n: 3 }, small));
  });
});

test("what floats come to is 0 where GPUs may take it for that", () => {
  const spec = exactSpec("return a[this.thread.x] * b[this.thread.x] > 0 ? 1 : 0", "f32");
  const tiny: readonly JsInput[] = [
    Float32Array.of(1e-20, 1e-20, 2 ** -63, 2 ** -63, -1e-30),
    Float32Array.of(1e-20, 1e-10, 2 ** -63, 2 ** -62, -1e-30),
    0,
  ];
  expect([...runWebAssembly(spec, N, tiny)]).toEqual([0, 1, 0, 1, 0]);
  expect([...interpretJs(spec, N, tiny)]).toEqual([0, 1, 0, 1, 0]);
});

describe("the module of an exact kernel", () => {
  const source =
    "let sum = 0; for (let i = 0; i < this.constants.n; i++) sum += a[i] * b[i] - s; return sum * s";

  test("takes the bits of each float that is computed, joined with a word that no compiler knows", () => {
    const { wgsl, layout } = compiledJs(exactSpec(source));
    expect(wgsl).toContain("return bitcast<f32>(bitcast<u32>(x) ^ params.zero);");
    expect(wgsl).toContain("  zero : u32,\n}");
    const words = layout.uniform.map((word) => ("u32" in word ? word.u32 : "input"));
    // Behind what GPU.js has there: sizes of the output, of each tensor, scalars, dimensions.
    expect(words.indexOf("0", 4)).toBe(4 + 2 * 4 + 1 + 1);
    // Indices are integers: what stands between brackets, or is one of them, is no float.
    const main = wgsl.slice(wgsl.indexOf("var user_v0"));
    const floats = main.match(/[-+*](?=get_user|fround|user_v0|f32|params\.user_a)|(?<=\))[-+*]/g);
    expect(floats).toHaveLength(4);
    expect(main.match(/fround\(\(/g)).toHaveLength(4);
  });

  test("is as long as it was where its result is close", () => {
    const { wgsl } = compiledJs(kernelSpec({ ...exactSpec(source), result: { relL2: 1e-6, abs: 0 } }));
    expect(wgsl).not.toContain("zero");
    expect(wgsl).not.toContain("bitcast");
  });
});

/** Of a grammar of all that exact kernels have: nothing where it is no exact one. */
function anyKernel(seed: number): Made | undefined {
  const { declaration, inputs, dimensions } = randomKernel(seeded(seed));
  try {
    return { spec: kernelSpec({ ...declaration, result: "exact" }), inputs, dimensions };
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return undefined;
  }
}

/** Of sums and products of large whole numbers. */
function wholeKernel(seed: number): Made {
  const { declaration, inputs, dimensions } = randomWholeKernel(seeded(seed));
  return { spec: kernelSpec({ ...declaration, result: "exact" }), inputs, dimensions };
}

interface Made {
  readonly spec: KernelSpec;
  readonly inputs: readonly JsInput[];
  readonly dimensions: Readonly<Record<string, number>>;
}

/** How many came to the same, and how many of these do so because something holds them. */
function compare(
  made: Made | undefined,
  seed: number,
  chance: (below: number) => number,
): { readonly same: number; readonly held: number } {
  if (made === undefined) return { same: 0, held: 0 };
  const { spec, inputs, dimensions } = made;
  const options: readonly LateOptions[] = [
    { isKept: true, isEarly: NEVER },
    { isKept: true, isEarly: () => chance(2) === 0 },
    { isKept: false, isEarly: NEVER },
  ];
  try {
    const expected = positive(interpretJs(spec, dimensions, inputs));
    const [late, mixed, loose] = options.map((each) => computeLate(spec, dimensions, inputs, each));
    expect([late, mixed], `seed ${seed}:\n${spec.source}`).toEqual([expected, expected]);
    return { same: 1, held: loose!.every((each, at) => each === expected[at]) ? 0 : 1 };
  } catch (error) {
    // Floats end somewhere, and what is beyond is no answer.
    if (!(error instanceof RangeError)) throw error;
    return { same: 0, held: 0 };
  }
}

test.each([
  ["of all that there is", anyKernel, 0],
  ["of large whole numbers", wholeKernel, KERNELS / 8],
])("random exact kernels %s come to the same, wherever else is rounded", (_, kernelOf, heldMin) => {
  const all = { same: 0, held: 0 };
  for (let seed = SEED; seed < SEED + KERNELS; seed++) {
    const { same, held } = compare(kernelOf(seed), seed, seeded(seed));
    all.same += same;
    all.held += held;
  }
  // Or nothing is tested.
  expect(all.same).toBeGreaterThan(KERNELS / 8);
  expect(all.held).toBeGreaterThanOrEqual(heldMin);
});

/** 0 for -0, which outputs are made to have. */
function positive(values: Float32Array): Float32Array {
  return values.map((value) => value + 0);
}
