/** WGSL is compiled where there is no GPU: what is wrong is told with its place, and no module takes the checks down. */
import { afterAll, expect, test } from "vitest";
import { checkKernel, checkWgsl, closeWgslChecks } from "../../../runtime/accelerator/wgsl-check.ts";
import type { Kernel } from "../../../runtime/program/kernel/kernel.ts";
import { kernelOf, mix } from "./kernels.ts";

afterAll(closeWgslChecks);

const tensors = { inputs: { v: ["u32", "n"] }, outputs: { w: ["u32", "n"] } } as const;

function written(body: string): Kernel {
  return kernelOf({ ...tensors, source: `fn main(@builtin(global_invocation_id) id: vec3u) {\n${body}\n}` });
}

test("takes what is right", async () => {
  expect(await checkKernel(mix)).toBe(true);
});

test.each([
  ["an unknown name", "  w[id.x] = missing;", { line: 2, column: 13 }],
  ["another type", "  w[id.x] = 1.5;", { line: 2, column: 13 }],
  ["a write to an input", "  v[id.x] = 1u;", { line: 2, column: 11 }],
  ["a syntax that WGSL has not", "  w[id.x] === 1u;", { line: 2, column: 11 }],
])("says where %s stands in what its author wrote", async (_, body, place) => {
  await expect(checkKernel(written(body))).rejects.toMatchObject({
    code: "PFS_KERNEL_INVALID",
    data: { kernel: "test", ...place },
  });
});

test("refuses a module that is not as its layout has it", async () => {
  const kernel = { ...mix, layout: { ...mix.layout, bindings: [{ output: 0 }, { output: 0 }] } };
  await expect(checkKernel(kernel)).rejects.toMatchObject({ code: "PFS_KERNEL_INVALID" });
  const other = { ...mix, layout: { ...mix.layout, entryPoint: "other" } };
  await expect(checkKernel(other)).rejects.toMatchObject({ code: "PFS_KERNEL_INVALID" });
});

test("goes on behind hostile modules", async () => {
  const deep = `  w[id.x] = ${"(".repeat(20_000)}1u${")".repeat(20_000)};`;
  const long = `  ${"w[id.x] += v[id.x] * 3u; ".repeat(2_000)}`;
  const hostile = [
    { ...mix, wgsl: "\0".repeat(1000) },
    { ...mix, wgsl: deep },
    { ...mix, wgsl: mix.wgsl.replace("2654435761u", `${"(".repeat(20_000)}1u${")".repeat(20_000)}`) },
    { ...mix, wgsl: mix.wgsl.replace("array<u32>", "array<u32, 4294967295>") },
    {
      ...mix,
      wgsl: `${mix.wgsl}\nvar<workgroup> big: array<vec4f, 1000000>; fn use_() { big[0] = vec4f(); }`,
    },
    { ...mix, wgsl: `enable f16;\n${mix.wgsl}` },
    written(long),
  ];
  const checks = await Promise.all(hostile.map(checkWgsl));
  for (const check of checks) expect(check.isChecked).toBe(true);
  expect(checks.map((check) => check.isChecked && check.notes.length > 0).slice(0, 4)).toEqual(
    Array<boolean>(4).fill(true),
  );
  expect(checks[5]).toMatchObject({ notes: [expect.anything()] });
  expect(checks[6]).toEqual({ isChecked: true, notes: [] });
  expect(await checkKernel(mix)).toBe(true);
});

test("compiles the same module once", async () => {
  const first = checkWgsl(written("  w[id.x] = 7u;"));
  expect(checkWgsl(written("  w[id.x] = 7u;"))).toBe(first);
  expect(await first).toEqual({ isChecked: true, notes: [] });
});
