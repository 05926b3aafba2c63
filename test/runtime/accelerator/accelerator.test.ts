/** One GPU, as a CPU imitates it: what is computed, where inputs come from, what becomes of kernels and processes that go wrong. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findAccelerators } from "../../../runtime/accelerator/accelerators.ts";
import type { Accelerator, KernelAnswer, KernelCall } from "../../../runtime/contracts/kernels.ts";
import { noGpu } from "../../suites/gpu.ts";
import { mix, mixed } from "./kernels.ts";

const source = {
  read: (): Promise<never> => Promise.reject(new Error("no chunks here")),
};
const { signal } = new AbortController();

describe.skipIf(noGpu !== undefined)("a GPU", () => {
  let gpu: Accelerator;
  beforeAll(async () => {
    const { accelerators, unused } = await findAccelerators({ source, isSoftwareUsed: true });
    expect(unused).toEqual([]);
    gpu = accelerators[0]!;
  });
  afterAll(() => gpu?.close());

  const run = (call: KernelCall): Promise<KernelAnswer> => gpu.run(call, signal);

  test("says what it is, and what it measured", () => {
    expect(gpu.info.engineClass).toMatch(/^[a-z0-9]+-[0-9a-f]{8,}$/);
    expect(gpu.info.engineClass.length).toBeLessThanOrEqual(27);
    for (const measured of Object.values(gpu.info.calibration)) expect(measured).toBeGreaterThan(0);
    expect(gpu.info.memoryBytes).toBeGreaterThan(0);
  });

  test("computes over bytes that come with the call", async () => {
    const words = Uint32Array.from({ length: 100_003 }, (_, index) => Math.imul(index, 40_503));
    const { outputs, times } = await run({
      kernel: mix,
      dimensions: { n: words.length },
      inputs: [{ bytes: new Uint8Array(words.buffer) }],
    });
    expect(new Uint32Array(outputs!.buffer)).toEqual(mixed(words));
    expect(times).toMatchObject({ uploadedBytes: words.byteLength, residentBytes: 0 });
  });
});

test("no CPU that imitates a GPU is offered unless somebody asks for it", async () => {
  const { accelerators, unused } = await findAccelerators({ source, isSoftwareUsed: false });
  if (accelerators.length > 0) expect(accelerators[0]!.info.isSoftware).toBe(false);
  else expect(unused[0]!.reason).not.toBe("");
  await Promise.all(accelerators.map((each) => each.close()));
});
