/**
 * How far a GPU may be from what a kernel in JavaScript means, for each operation: what WGSL promises, which real ones use up
 * (of sin near zero, a hundred thousand units in the last place are nothing to it: its error is absolute).
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findAccelerators } from "../../../../runtime/accelerator/accelerators.ts";
import type { Accelerator } from "../../../../runtime/contracts/kernels.ts";
import { kernelSpec } from "../../../../runtime/program/kernel/declaration.ts";
import { noGpu } from "../../../suites/gpu.ts";
import { compiledJs } from "./gpujs.ts";
import { interpretJs } from "./js-interpreter.ts";

const COUNT = 4096;
/** The distance between 1 and the next float. */
const ULP = 2 ** -23;

interface Operation {
  readonly source: string;
  /** Where x lies, evenly. */
  readonly from: number;
  readonly to: number;
  /** How far a result may be from the right one: absolutely, and in units in its last place. */
  readonly abs?: number;
  readonly ulps?: number | ((x: number) => number);
}

const OPERATIONS: readonly Operation[] = [
  { source: "x + y", from: -1e6, to: 1e6, ulps: 0 },
  { source: "x - y", from: -1e6, to: 1e6, ulps: 0 },
  { source: "x * y", from: -1e6, to: 1e6, ulps: 0 },
  { source: "x / y", from: -1e6, to: 1e6, ulps: 2.5 },
  // Rounded once, or twice.
  { source: "x * y + 1", from: -1e3, to: 1e3, abs: 1e3 * ULP, ulps: 1 },
  { source: "Math.sqrt(x)", from: 0, to: 1e6, ulps: 3 },
  { source: "Math.abs(x)", from: -1e6, to: 1e6, ulps: 0 },
  { source: "Math.floor(x)", from: -1e3, to: 1e3, ulps: 0 },
  { source: "Math.ceil(x)", from: -1e3, to: 1e3, ulps: 0 },
  { source: "Math.trunc(x)", from: -1e3, to: 1e3, ulps: 0 },
  { source: "Math.round(x)", from: -1e3, to: 1e3, ulps: 0 },
  { source: "Math.sign(x)", from: -1, to: 1, ulps: 0 },
  { source: "Math.min(x, y)", from: -1e3, to: 1e3, ulps: 0 },
  { source: "Math.max(x, y)", from: -1e3, to: 1e3, ulps: 0 },
  { source: "Math.exp(x)", from: -20, to: 20, ulps: (x) => 3 + 2 * Math.abs(x) },
  { source: "Math.log(x)", from: 0.01, to: 100, abs: 2 ** -21, ulps: 3 },
  { source: "Math.log2(x)", from: 0.01, to: 100, abs: 2 ** -21, ulps: 3 },
  { source: "Math.log10(x)", from: 0.01, to: 100, abs: 2 ** -20, ulps: 5 },
  { source: "Math.sin(x)", from: -Math.PI, to: Math.PI, abs: 2 ** -11 },
  { source: "Math.cos(x)", from: -Math.PI, to: Math.PI, abs: 2 ** -11 },
  { source: "Math.tan(x)", from: -1, to: 1, abs: 2 ** -8 },
  { source: "Math.atan(x)", from: -10, to: 10, ulps: 4096 },
  { source: "Math.atan2(x, y)", from: -10, to: 10, ulps: 4096 },
  { source: "Math.asin(x)", from: -0.9, to: 0.9, abs: 6.77e-5, ulps: 4096 },
  { source: "Math.acos(x)", from: -0.9, to: 0.9, abs: 6.77e-5, ulps: 4096 },
  { source: "Math.sinh(x)", from: -5, to: 5, abs: 1e-4, ulps: 64 },
  { source: "Math.cosh(x)", from: -5, to: 5, abs: 1e-4, ulps: 64 },
  { source: "Math.tanh(x)", from: -5, to: 5, abs: 1e-5 },
  { source: "Math.pow(x, 2.5)", from: 0.1, to: 50, ulps: 64 },
  { source: "x ** 2", from: -50, to: 50, ulps: 64 },
  { source: "x ** 3", from: -50, to: 50, ulps: 64 },
  { source: "Math.cbrt(x)", from: -50, to: 50, abs: 1e-4, ulps: 64 },
];

describe.skipIf(noGpu !== undefined)("what a GPU computes is as near as it must be", () => {
  let gpu: Accelerator;
  beforeAll(async () => {
    const { accelerators } = await findAccelerators({ source: undefined as never, isSoftwareUsed: true });
    gpu = accelerators[0]!;
  });
  afterAll(() => gpu.close());

  test.each(OPERATIONS)("$source", async ({ source, from, to, abs = 0, ulps = 0 }) => {
    const spec = kernelSpec({
      kind: "js",
      inputs: [
        { name: "xs", type: "f32", shape: ["n"] },
        { name: "ys", type: "f32", shape: ["n"] },
      ],
      outputs: [{ name: "out", type: "f32", shape: ["n"] }],
      result: { relL2: 1, abs: 1 },
      hasCpu: false,
      source: `function (xs, ys) { const x = xs[this.thread.x]; const y = ys[this.thread.x]; return ${source} }`,
    });
    const xs = Float32Array.from(
      { length: COUNT },
      (_, index) => from + ((to - from) * (index + 0.37)) / COUNT,
    );
    // Neither 0 nor like the other.
    const ys = xs.map((_, index) => from + ((to - from) * ((index * 1597) % COUNT)) / COUNT || 1);
    const inputs = [xs, ys].map(({ buffer }) => ({ bytes: new Uint8Array(buffer) }));
    const { signal } = new AbortController();
    const { outputs } = await gpu.run({ kernel: compiledJs(spec), dimensions: { n: COUNT }, inputs }, signal);
    const actual = new Float32Array(outputs!.slice().buffer);
    const expected = interpretJs(spec, { n: COUNT }, [xs, ys]);
    const wrong = [...actual.keys()].filter((at) => {
      const unit = Math.max(Math.abs(expected[at]!), 2 ** -126) * ULP;
      const most = abs + (typeof ulps === "number" ? ulps : ulps(xs[at]!)) * unit;
      return !(Math.abs(actual[at]! - expected[at]!) <= most);
    });
    const told = wrong.slice(0, 3).map((at) => `${xs[at]}, ${ys[at]}: ${actual[at]}, not ${expected[at]}`);
    expect(told).toEqual([]);
  });
});
