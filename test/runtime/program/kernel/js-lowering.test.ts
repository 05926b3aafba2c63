/** What kernels in JavaScript become for GPU.js: part of what float results follow from, and so of their edition. */
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { kernelSpec } from "../../../../runtime/program/kernel/declaration.ts";
import { gpuJsSource } from "../../../../runtime/program/kernel/gpujs.ts";
import { KERNEL_LOWERING } from "../../../../runtime/sandbox/edition.ts";
import { randomKernel, randomWholeKernel, seeded } from "./js-random.ts";

const KERNELS = 200;

test("a kernel becomes what it became, or the edition of answers is another", () => {
  const digest = createHash("sha256");
  for (let seed = 0; seed < KERNELS; seed++) {
    for (const result of [{ relL2: 1, abs: 1 }, "exact"])
      for (const kernel of [randomKernel, randomWholeKernel])
        digest.update(`${sourceOf({ ...kernel(seeded(seed)).declaration, result })}\n`);
  }
  // Where this fails, raise KERNEL_LOWERING, and put the new digest here.
  expect([KERNEL_LOWERING, digest.digest("hex").slice(0, 16)]).toEqual([2, "22be10e143e9bd0f"]);
});

/** Nothing of one that the validator refuses. */
function sourceOf(declaration: object): string {
  try {
    return gpuJsSource(kernelSpec(declaration)).source;
  } catch {
    return "";
  }
}
