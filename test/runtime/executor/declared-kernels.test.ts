/** Kernels from a program's module to what a GPU gets: GPU.js in an executor process, Tint on no GPU at all. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checkWgsl } from "../../../runtime/accelerator/wgsl-check.ts";
import { inspectProgram, processOptions, sharedOptions } from "../../../runtime/executor/shared-processes.ts";
import { PROGRAM_LIMITS_DEFAULT } from "../../../runtime/limits.ts";
import { encodeManifest, parseManifest } from "../../../runtime/program/manifest.ts";
import type { ProgramDescription } from "../../../runtime/program/program.ts";
import { SpareExecutors } from "../../../runtime/sandbox/process/spare-executors.ts";
import { bundleProgram } from "../../../sdk/programs/bundle.ts";

let spares: SpareExecutors;
beforeAll(() => {
  spares = new SpareExecutors(sharedOptions(processOptions(PROGRAM_LIMITS_DEFAULT, 1, 65_536)));
});
afterAll(() => spares.close());

const PRODUCT = `{
  kind: "js",
  inputs: { a: f32(["m", "k"]), b: f32(["k", "n"]), scale: f32() },
  output: f32(["m", "n"]),
  maxTrip: { k: 8192 },
  result: { relL2: 1e-5, abs: 1e-5 },
  source: function product(a, b, scale) {
    let sum = 0;
    for (let i = 0; i < this.constants.k; i++) sum += a[this.thread.y][i] * b[i][this.thread.x];
    return sum * scale;
  },
}`;
const COUNT = `{
  name: "count",
  kind: "wgsl",
  inputs: { data: bytes(["n"]) },
  output: u32([256], { atomic: true }),
  result: "exact",
  workgroup: { size: [64], count: ["n / 256"] },
  source: "fn main(@builtin(global_invocation_id) id: vec3u) { atomicAdd(&output[data[id.x] & 255u], 1u); }",
  cpu: () => new Uint32Array(256),
}`;

async function inspect(...kernels: readonly string[]): Promise<ProgramDescription> {
  const { code } = await bundleProgram({
    source: `import { bytes, defineKernel, defineProgram, f32, lines, u32 } from "packetfs";
      ${kernels.map((each) => `defineKernel(${each});`).join("\n")}
      export default defineProgram({ input: lines(), map: () => 1, combine: (a, b) => a + b });`,
  });
  return await inspectProgram(spares, code);
}

describe("kernels that a program declares", () => {
  test("are compiled, and found again in its manifest", async () => {
    const description = await inspect(PRODUCT, COUNT);
    const { kernels = [] } = description;
    expect(kernels.map(({ name, kind }) => [name, kind])).toEqual([
      ["product", "js"],
      ["count", "wgsl"],
    ]);
    expect(kernels[0]!.wgsl).toContain("@compute @workgroup_size(8, 8, 1)");
    expect(kernels[0]!.operations).toBe("m * n * (2 + k * 2)");
    for (const kernel of kernels) {
      const check = await checkWgsl(kernel);
      if (check.isChecked) expect(check.notes).toEqual([]);
      else console.warn(`WGSL was not checked: ${check.reason}`);
    }
    const manifest = {
      version: 1,
      kind: "js",
      name: "p",
      code: "0".repeat(64),
      entry: "map",
      description,
      args: "null",
    } as const;
    expect(parseManifest(encodeManifest(manifest))).toEqual(manifest);
  });

  test.each([
    [
      "a source that is none",
      PRODUCT.replace("sum += a", "sum += c"),
      "the kernel product is wrong: only inputs have elements (program.js:",
    ],
    [
      "a loop without an end",
      PRODUCT.replace("maxTrip: { k: 8192 },", ""),
      "how large k may be is not known",
    ],
    [
      "an exact sum of floats",
      PRODUCT.replace(/result: \{.*\}/, 'result: "exact"'),
      "computes on with what was computed",
    ],
    ["a setting of GPU.js's", PRODUCT.replace("maxTrip:", "injectedNative: 'x', maxTrip:"), "injectedNative"],
    ["a shape of nothing", COUNT.replace("[256]", "[]"), "an output of one number"],
  ])("are refused with their place: %s", async (_, kernel, reason) => {
    await expect(inspect(kernel)).rejects.toMatchObject({
      code: "PFS_PROGRAM_INVALID",
      message: expect.stringContaining(reason),
    });
  });

  test("have names of their own", async () => {
    await expect(inspect(COUNT, COUNT)).rejects.toThrow("two of its kernels are called count");
  });
});
