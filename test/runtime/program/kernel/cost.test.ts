import { describe, expect, test } from "vitest";
import { KERNEL_AVERAGES_MAX, KERNEL_AVERAGE_CALLS } from "../../../../runtime/limits.ts";
import { KernelAverages } from "../../../../runtime/program/kernel/averages.ts";
import {
  bucketOf,
  cpuCallMs,
  gpuCallMs,
  kernelKey,
  measuredOf,
  workOf,
} from "../../../../runtime/program/kernel/cost.ts";
import { kernelSpec } from "../../../../runtime/program/kernel/declaration.ts";
import type { KernelSpec } from "../../../../runtime/program/kernel/kernel.ts";

/** As one NVIDIA H200 measured itself. */
const H200 = { uploadGBps: 9, downloadGBps: 7, launchMs: 0.65, gops: 4600 };
const MIB = 1024 * 1024;

/** A product of two n × n matrices of f32. */
function product(n: number, isResident = false): Parameters<typeof workOf>[0] {
  const inputBytes = 2 * 4 * n * n;
  return {
    operations: 2 * n ** 3,
    inputBytes,
    uploadBytes: isResident ? 0 : inputBytes,
    outputBytes: 4 * n * n,
  };
}

describe("what a call is expected to take", () => {
  test("grows with operations and bytes, and never falls below a launch", () => {
    expect(gpuCallMs(product(1), H200)).toBeCloseTo(H200.launchMs, 3);
    for (let n = 16; n <= 4096; n *= 2) {
      expect(gpuCallMs(product(2 * n), H200)).toBeGreaterThan(gpuCallMs(product(n), H200));
      expect(cpuCallMs(product(2 * n))).toBeGreaterThan(cpuCallMs(product(n)));
      expect(gpuCallMs(product(n, true), H200)).toBeLessThan(gpuCallMs(product(n), H200));
    }
  });

  test("puts large products on a GPU, small ones on a CPU, and bytes that are read once on a CPU unless they are there", () => {
    expect(gpuCallMs(product(32), H200)).toBeGreaterThan(cpuCallMs(product(32)));
    expect(gpuCallMs(product(1024), H200)).toBeLessThan(cpuCallMs(product(1024)) / 100);
    const bytes = 256 * MIB;
    const sum = { operations: bytes / 4, inputBytes: bytes, uploadBytes: bytes, outputBytes: 4 };
    const simd = 16e6;
    expect(gpuCallMs(sum, H200)).toBeGreaterThan(cpuCallMs(sum, simd));
    expect(gpuCallMs({ ...sum, uploadBytes: 0 }, H200)).toBeLessThan(cpuCallMs(sum, simd));
  });

  test("is for ever where a rate is none", () => {
    const none = { uploadGBps: 0, downloadGBps: 0, launchMs: 1, gops: 0 };
    expect(gpuCallMs(product(8), none)).toBe(Number.POSITIVE_INFINITY);
  });

  test("is asked for by buckets of powers of two", () => {
    const asked = [0, 1, 2, 3, 4, 1023, 1024, 2 ** 53 - 1];
    expect(asked.map(bucketOf)).toEqual([1, 1, 2, 2, 4, 512, 1024, 2 ** 52]);
    expect(workOf(product(2))).toBe(16 + 32 + 16);
  });

  test("is remembered for what a kernel computes, not for what it is called", () => {
    const spec: KernelSpec = {
      name: "a",
      kind: "js",
      inputs: [{ name: "x", type: "f32", shape: ["n"] }],
      outputs: [{ name: "y", type: "f32", shape: ["n"] }],
      source: "function(x){return x[this.thread.x];}",
      maxTrip: {},
      result: "exact",
      hasCpu: false,
      operations: "n",
      limits: { gpuMs: 1000, gpuBytes: MIB },
      gpu: 1,
    };
    const key = kernelKey(spec);
    expect(key).toMatch(/^[0-9a-f]{32}$/);
    expect(kernelKey({ ...spec, name: "b", limits: { gpuMs: 1, gpuBytes: 1 } })).toBe(key);
    expect(kernelKey({ ...spec, source: "function(x){return 1;}" })).not.toBe(key);
    expect(kernelKey({ ...spec, hasCpu: true })).not.toBe(key);
  });
});

describe("averages of what calls took", () => {
  const calls = { kernel: "k", isCounted: true, engineClass: "cpu", bucket: 2 ** 21, calls: 1 };

  test("are those of a kernel, a class and a size, and say in proportion what sizes near it take", () => {
    const averages = new KernelAverages();
    expect(averages.callMs("k", "cpu", 2 ** 21)).toBeUndefined();
    averages.add({ ...calls, calls: 4, milliseconds: 40 });
    expect(averages.callMs("k", "cpu", 2 ** 21)).toBe(10);
    expect(averages.callMs("k", "cpu", 2 ** 22 - 1)).toBe(10);
    expect(averages.callMs("k", "cpu", 2 ** 22)).toBe(20);
    expect(averages.callMs("k", "cpu", 2 ** 19)).toBe(2.5);
    expect(averages.callMs("k", "cpu", 2 ** 24)).toBeUndefined();
    expect(averages.callMs("other", "cpu", 2 ** 21)).toBeUndefined();
    expect(averages.callMs("k", "nvidia", 2 ** 21)).toBeUndefined();
    expect(averages.workPerMs("cpu")).toBeCloseTo((2 ** 21 * Math.SQRT2) / 10);
    expect(averages.workPerMs("nvidia")).toBeUndefined();
  });

  test("make a rate for other kernels of those alone whose operations are not what their author says", () => {
    const averages = new KernelAverages();
    averages.add({ ...calls, isCounted: false, milliseconds: 10 });
    expect(averages.callMs("k", "cpu", 2 ** 21)).toBe(10);
    expect(averages.workPerMs("cpu")).toBeUndefined();
    const declared = {
      kind: "js",
      inputs: [{ name: "v", type: "f32", shape: ["n"] }],
      outputs: [{ name: "output", type: "f32", shape: ["n"] }],
      source: "function (v) { return v[this.thread.x] * this.constants.FACTOR; }",
      constants: { FACTOR: 3 },
      result: { relL2: 0, abs: 0 },
      hasCpu: false,
    };
    const wgsl = {
      ...declared,
      kind: "wgsl",
      constants: {},
      hasCpu: true,
      source: "fn main(@builtin(global_invocation_id) id: vec3u) { output[id.x] = v[id.x]; }",
      workgroup: { size: [64], count: ["n / 64"] },
    };
    const specs = [declared, { ...declared, operations: "n * 1000000" }, wgsl].map((each) =>
      kernelSpec(each),
    );
    expect(specs.map((spec) => measuredOf(spec).isCounted)).toEqual([true, false, false]);
  });

  test("remember what making code takes on a class, which is no kernel's time", () => {
    const averages = new KernelAverages();
    const gpu = { ...calls, engineClass: "nvidia-0" };
    expect(averages.compileMs("nvidia-0")).toBe(0);
    averages.add({ ...gpu, milliseconds: 1, compileMs: 100 });
    averages.add({ ...gpu, milliseconds: 1 });
    averages.add({ ...gpu, kernel: "l", milliseconds: 1, compileMs: 300 });
    for (const compileMs of [Number.NaN, -1, Infinity, 1e300])
      averages.add({ ...gpu, milliseconds: 1, compileMs });
    averages.add({ ...gpu, kernel: "compile", bucket: 0, milliseconds: 1 });
    expect(averages.compileMs("nvidia-0")).toBe(200);
    expect(averages.callMs("k", "nvidia-0", 2 ** 21)).toBe(1);
    expect(new KernelAverages(averages.kept()).compileMs("nvidia-0")).toBe(200);
  });

  test("prefer what was measured for the very size", () => {
    const averages = new KernelAverages();
    averages.add({ ...calls, milliseconds: 10 });
    averages.add({ ...calls, bucket: 2 ** 22, milliseconds: 11 });
    expect(averages.callMs("k", "cpu", 2 ** 21)).toBe(10);
    expect(averages.callMs("k", "cpu", 2 ** 22)).toBe(11);
  });

  test("follow what changes, however long it was otherwise", () => {
    const averages = new KernelAverages();
    averages.add({ ...calls, calls: 1_000_000, milliseconds: 1_000_000 });
    expect(averages.callMs("k", "cpu", 2 ** 21)).toBe(1);
    averages.add({ ...calls, calls: KERNEL_AVERAGE_CALLS, milliseconds: 3 * KERNEL_AVERAGE_CALLS });
    expect(averages.callMs("k", "cpu", 2 ** 21)).toBe(2);
    for (let time = 0; time < 100; time++) averages.add({ ...calls, milliseconds: 3 });
    expect(averages.callMs("k", "cpu", 2 ** 21)).toBeCloseTo(3, 1);
  });

  test("are finite, whatever a machine that lies says of its calls", () => {
    const averages = new KernelAverages();
    const extremes = [0, 5e-324, 1e-300, 1, 2 ** 20, 2 ** 53 - 1, 1e300, Number.MAX_VALUE];
    const others = [...extremes, -1, Number.NaN, Number.POSITIVE_INFINITY];
    for (const bucket of others)
      for (const count of others)
        for (const milliseconds of others) averages.add({ ...calls, bucket, calls: count, milliseconds });
    for (const { value, calls: counted } of averages.kept())
      expect([Number.isFinite(value), counted >= 1]).toEqual([true, true]);
    // A node and a hub that hear of it still say what a call would take.
    expect(Number.isFinite(cpuCallMs(product(64), averages.workPerMs("cpu")))).toBe(true);
    expect(new KernelAverages(averages.kept()).kept()).toEqual(averages.kept());
  });

  test("take no notice of what is no measurement", () => {
    const averages = new KernelAverages();
    for (const milliseconds of [Number.NaN, -1, Number.POSITIVE_INFINITY])
      averages.add({ ...calls, milliseconds });
    averages.add({ ...calls, calls: 0, milliseconds: 1 });
    averages.add({ ...calls, calls: Number.NaN, milliseconds: 1 });
    expect(averages.kept()).toEqual([]);
  });

  test("are forgotten when too many others came, and are the same after being kept", () => {
    const averages = new KernelAverages();
    for (let index = 0; index < KERNEL_AVERAGES_MAX + 10; index++) {
      averages.add({ ...calls, kernel: `k${index}`, bucket: 1024, milliseconds: index + 1 });
      averages.add({ ...calls, kernel: "always", bucket: 1024, milliseconds: 5 });
    }
    const kept = averages.kept();
    expect(kept).toHaveLength(KERNEL_AVERAGES_MAX);
    expect(averages.callMs("k0", "cpu", 1024)).toBeUndefined();
    expect(averages.callMs("always", "cpu", 1024)).toBe(5);
    const again = new KernelAverages(JSON.parse(JSON.stringify(kept)) as typeof kept);
    expect(again.kept()).toEqual(kept);
  });
});
