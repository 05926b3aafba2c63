/**
 * Random kernels in JavaScript. What the validator accepts, GPU.js compiles, for WebGPU and for a CPU, and Tint takes; and all
 * of them compute what an interpreter does. One kernel again: PACKETFS_TEST_SEED=… PACKETFS_TEST_KERNELS=1 vitest run <this file>
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findAccelerators } from "../../../../runtime/accelerator/accelerators.ts";
import { checkWgsl } from "../../../../runtime/accelerator/wgsl-check.ts";
import type { Accelerator } from "../../../../runtime/contracts/kernels.ts";
import { KernelError } from "../../../../runtime/errors.ts";
import { boundSizes, callOperations } from "../../../../runtime/program/kernel/binding.ts";
import { kernelSpec } from "../../../../runtime/program/kernel/declaration.ts";
import type { Kernel, KernelSpec } from "../../../../runtime/program/kernel/kernel.ts";
import { noGpu } from "../../../suites/gpu.ts";
import { compiledJs, runWebAssembly } from "./gpujs.ts";
import { interpretJs } from "./js-interpreter.ts";
import type { JsInput } from "./js-interpreter.ts";
import { mutated, randomKernel, randomWholeKernel, seeded } from "./js-random.ts";
import type { RandomKernel } from "./js-random.ts";

const SEED = Number(process.env["PACKETFS_TEST_SEED"] ?? 1);
const KERNELS = Number(process.env["PACKETFS_TEST_KERNELS"] ?? 100);
const CLOSE = { relL2: 1, abs: 1 };

/** As an exact one if it can be. */
function specOf({ declaration }: RandomKernel): KernelSpec | undefined {
  for (const result of ["exact", CLOSE] as const) {
    try {
      return kernelSpec({ ...declaration, result });
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
    }
  }
  return undefined;
}

function* kernelsOf(count: number): Generator<{ readonly seed: number; readonly random: RandomKernel }> {
  for (let seed = SEED; seed < SEED + count; seed++)
    yield { seed, random: seed % 4 === 0 ? randomWholeKernel(seeded(seed)) : randomKernel(seeded(seed)) };
}

function differing(actual: Float32Array, expected: Float32Array): number {
  if (actual.length !== expected.length) return 0;
  return actual.findIndex(
    (each, at) => each !== expected[at] && !(Number.isNaN(each) && Number.isNaN(expected[at])),
  );
}

function told(seed: number, spec: KernelSpec, at: number): string {
  return `seed ${seed}: element ${at} of\n${spec.source}`;
}

describe("random kernels", () => {
  test(
    "that are accepted compile everywhere, and a CPU computes what they mean",
    { timeout: 3_600_000 },
    async () => {
      let accepted = 0;
      for (const { seed, random } of kernelsOf(KERNELS)) {
        const spec = specOf(random);
        if (spec === undefined) continue;
        accepted++;
        expect(kernelSpec(spec), `seed ${seed}`).toEqual(spec);
        const check = await checkWgsl(compiledJs(spec));
        if (check.isChecked && check.notes.length > 0)
          throw new Error(
            `seed ${seed}: Tint refuses ${JSON.stringify(check.notes)}\n${spec.source}\n${compiledJs(spec).wgsl}`,
          );
        const scalars = random.inputs.map((value, index) => bytesOf(spec, index, value));
        const sizes = boundSizes(spec, random.dimensions, scalars);
        expect(callOperations(spec, sizes), `seed ${seed}`).toBeGreaterThan(0);
        const expected = meaningOf(spec, random);
        if (expected === undefined) continue;
        const actual = runWebAssembly(spec, random.dimensions, random.inputs);
        const at = differing(actual, expected);
        if (at !== -1) throw new Error(`${told(seed, spec, at)}: ${actual[at]}, not ${expected[at]}`);
      }
      // Or nothing is tested.
      expect(accepted).toBeGreaterThan(KERNELS / 4);
    },
  );

  test("that are mangled are refused as kernels are, or are kernels", { timeout: 3_600_000 }, () => {
    for (const { seed, random } of kernelsOf(KERNELS * 5)) {
      const chance = seeded(seed);
      let { source } = random.declaration;
      for (let times = 0; times <= seed % 3; times++) source = mutated(chance, source);
      const spec = specOf({ ...random, declaration: { ...random.declaration, source } });
      if (spec === undefined) continue;
      try {
        expect(kernelSpec(spec)).toEqual(spec);
        compiledJs(spec);
      } catch (error) {
        throw new Error(`seed ${seed}: ${source}`, { cause: error });
      }
    }
  });
});

describe.skipIf(noGpu !== undefined)("random exact kernels on a GPU", () => {
  let gpu: Accelerator;
  beforeAll(async () => {
    const { accelerators } = await findAccelerators({
      source: undefined as never,
      isSoftwareUsed: true,
    } as never);
    gpu = accelerators[0]!;
  });
  afterAll(() => gpu.close());

  test("give what an interpreter does", { timeout: 3_600_000 }, async () => {
    const { signal } = new AbortController();
    for (const { seed, random } of kernelsOf(Math.ceil(KERNELS / 2))) {
      const spec = specOf(random);
      if (spec?.result !== "exact") continue;
      const kernel: Kernel = compiledJs(spec);
      const inputs = random.inputs.map((value, index) => ({ bytes: bytesOf(spec, index, value) }));
      const { outputs } = await gpu.run({ kernel, dimensions: random.dimensions, inputs }, signal);
      const meaning = meaningOf(spec, random);
      if (meaning === undefined) continue;
      const expected = asOutput(spec, meaning);
      const actual = elementsOf(spec.outputs[0]!.type, outputs!);
      const at = differing(actual, expected);
      if (at !== -1)
        throw new Error(`${told(seed, spec, at)}: ${actual[at]}, not ${expected[at]}\n${kernel.wgsl}`);
    }
  });
});

/** Nothing where it comes to what is beyond all floats. */
function meaningOf(spec: KernelSpec, { dimensions, inputs }: RandomKernel): Float32Array | undefined {
  try {
    return interpretJs(spec, dimensions, inputs);
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

function bytesOf(spec: KernelSpec, index: number, value: JsInput): Uint8Array {
  const list = typeof value === "number" ? [value] : [...value];
  const { type } = spec.inputs[index]!;
  const array =
    type === "f32"
      ? Float32Array.from(list)
      : type === "i32"
        ? Int32Array.from(list)
        : Uint32Array.from(list);
  return new Uint8Array(array.buffer);
}

function elementsOf(type: string, bytes: Uint8Array): Float32Array {
  const { buffer } = bytes.slice();
  if (type === "f32") return new Float32Array(buffer);
  return Float32Array.from(type === "i32" ? new Int32Array(buffer) : new Uint32Array(buffer));
}

/** Floats as a GPU's output of integers has them: what is no whole number that floats have is one that no output may have. */
function asOutput(spec: KernelSpec, values: Float32Array): Float32Array {
  const { type } = spec.outputs[0]!;
  if (type === "f32") return values;
  const [least, none] = type === "i32" ? [-(2 ** 24), -(2 ** 31)] : [0, 2 ** 32 - 1];
  return values.map((value) => {
    if (Math.abs(value) < 2 ** -126) return 0;
    return Number.isInteger(value) && value >= least && value <= 2 ** 24 ? value : none;
  });
}
