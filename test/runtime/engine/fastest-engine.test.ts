import { describe, expect, it } from "vitest";
import type { Accelerator, KernelCall } from "../../../runtime/contracts/kernels.ts";
import { KernelError, KernelErrorCode } from "../../../runtime/errors.ts";
import { FastestEngine } from "../../../runtime/engine/fastest-engine.ts";
import { KERNEL_PROBE_CALLS } from "../../../runtime/limits.ts";
import { KernelAverages } from "../../../runtime/program/kernel/averages.ts";
import { HeldAccelerator, INFO, exactCall } from "./kernels.ts";

const never = new AbortController().signal;
/** Of float32: for a CPU 8 ms of reading and writing alone, for a GPU that moves 10 GB/s less than 1 ms. */
const LARGE = 1 << 20;

function fast(): HeldAccelerator {
  return new HeldAccelerator({
    ...INFO,
    calibration: { uploadGBps: 10, downloadGBps: 10, launchMs: 0.1, gops: 1000 },
  });
}

function engineOver(...accelerators: readonly Accelerator[]): {
  engine: FastestEngine;
  averages: KernelAverages;
} {
  const averages = new KernelAverages();
  return { engine: new FastestEngine({ accelerators: () => accelerators, averages }), averages };
}

/** Answers whatever the GPU is asked, at once. */
async function decide(
  engine: FastestEngine,
  gpu: HeldAccelerator,
  call: KernelCall,
): ReturnType<FastestEngine["run"]> {
  const decision = engine.run(call, never);
  await new Promise((resolve) => setImmediate(resolve));
  gpu.running[0]?.answer();
  return await decision;
}

describe("without a GPU that it could choose", () => {
  it("leaves calls to the program", async () => {
    const { engine } = engineOver();
    expect(await engine.run(exactCall(LARGE), never)).toEqual({
      engineClass: "cpu",
      reason: "there is no GPU here",
    });
  });

  it("says that the engine is lost where a GPU was asked for", async () => {
    const { engine } = engineOver();
    const asked = engine.run({ ...exactCall(LARGE), engine: "gpu" }, never);
    await expect(asked).rejects.toMatchObject({ code: "PFS_ENGINE_LOST" });
    const barred = new HeldAccelerator();
    barred.isBarred = () => true;
    const other = engineOver(barred).engine.run({ ...exactCall(LARGE), engine: "gpu" }, never);
    await expect(other).rejects.toMatchObject({ code: "PFS_ENGINE_LOST" });
    expect((await engineOver(barred).engine.run(exactCall(LARGE), never)).reason).toContain("any more");
  });

  it("leaves kernels to it whose results a GPU would make others", async () => {
    const gpu = fast();
    const call = exactCall(LARGE, { result: { relL2: 1e-6, abs: 0 } });
    expect((await engineOver(gpu).engine.run(call, never)).engineClass).toBe("cpu");
    expect(gpu.running).toEqual([]);
  });
});

describe("with one", () => {
  it("chooses a GPU for large calls and a CPU for small ones, before anything was measured", async () => {
    const gpu = fast();
    const { engine } = engineOver(gpu);
    const large = await decide(engine, gpu, exactCall(LARGE));
    expect(large).toMatchObject({ engineClass: INFO.engineClass, answer: { times: { kernelMs: 2 } } });
    expect(large.predictedMs).toBeLessThan(2);
    const small = await decide(engine, gpu, exactCall(16));
    expect(small.answer).toBeUndefined();
    expect(small.predictedMs).toBeLessThan(1);
  });

  it("does as it was told", async () => {
    const gpu = fast();
    const { engine } = engineOver(gpu);
    const onCpu = await decide(engine, gpu, { ...exactCall(LARGE), engine: "cpu" });
    expect([onCpu.engineClass, onCpu.reason]).toEqual(["cpu", "it was asked for"]);
    const onGpu = await decide(engine, gpu, { ...exactCall(16), engine: "gpu" });
    expect([onGpu.engineClass, onGpu.reason]).toEqual([INFO.engineClass, "it was asked for"]);
  });

  it("learns from what calls took", async () => {
    const gpu = fast();
    const { engine } = engineOver(gpu);
    // It said it would be fast, and takes two seconds.
    gpu.times = { ...gpu.times, totalMs: 2000, waitMs: 0 };
    await decide(engine, gpu, exactCall(LARGE));
    const next = await decide(engine, gpu, exactCall(LARGE));
    expect(next.engineClass).toBe("cpu");
    // And the program takes five.
    for (let calls = 0; calls < 100; calls++) engine.computed(exactCall(LARGE), 5000);
    expect((await decide(engine, gpu, exactCall(LARGE))).engineClass).toBe(INFO.engineClass);
  });

  it("counts what a GPU has to do already, and does not count waiting as its work", async () => {
    const gpu = fast();
    const { engine, averages } = engineOver(gpu);
    const decisions = Array.from({ length: 40 }, () => engine.run(exactCall(LARGE), never));
    await new Promise((resolve) => setImmediate(resolve));
    // Each takes it about a millisecond, a CPU nine.
    expect(gpu.running.length).toBeGreaterThan(4);
    expect(gpu.running.length).toBeLessThan(20);
    gpu.times = { ...gpu.times, totalMs: 1001, waitMs: 1000 };
    while (gpu.running.length > 0) gpu.running[0]!.answer();
    await Promise.all(decisions);
    for (const { engineClass, value, bucket } of averages.kept())
      if (engineClass === INFO.engineClass && bucket > 0) expect(value).toBeCloseTo(1);
    expect((await decide(engine, gpu, exactCall(LARGE))).engineClass).toBe(INFO.engineClass);
  });

  it("has code made for a kernel when calls have missed as much as that takes, and counts it once", async () => {
    const gpu = fast();
    const { engine, averages } = engineOver(gpu);
    // Of another kernel: so the next one's takes as long.
    const other = { kernel: "other", engineClass: `${INFO.engineClass}+resident`, isCounted: false } as const;
    averages.add({ ...other, bucket: 1024, calls: 1, milliseconds: 1, compileMs: 50 });
    expect(averages.compileMs(INFO.engineClass)).toBe(50);
    const classes: string[] = [];
    while (classes.length < 20) {
      const { engineClass, predictedMs } = await decide(engine, gpu, exactCall(LARGE));
      // What is expected of calls is what is measured of them.
      if (engineClass === INFO.engineClass) expect(predictedMs).toBeLessThan(3);
      classes.push(engineClass);
    }
    // Each misses about eight milliseconds.
    const first = classes.indexOf(INFO.engineClass);
    expect(first).toBeGreaterThan(2);
    expect(first).toBeLessThan(12);
    expect(new Set(classes.slice(first))).toEqual(new Set([INFO.engineClass]));
  });

  it("takes the one of several that is done first", async () => {
    const [slow, quick] = [new HeldAccelerator(), fast()];
    const { engine } = engineOver(slow, quick);
    const decision = engine.run(exactCall(LARGE), never);
    expect([slow.running.length, quick.running.length]).toEqual([0, 1]);
    quick.running[0]!.answer();
    await decision;
  });

  it("tries the other engine now and then, where that costs little", async () => {
    const gpu = fast();
    const { engine } = engineOver(gpu);
    const probes = async (elements: number): Promise<number> => {
      const classes: string[] = [];
      for (let calls = 0; calls < KERNEL_PROBE_CALLS * 2; calls++) {
        const { engineClass } = await decide(engine, gpu, exactCall(elements));
        classes.push(engineClass);
      }
      const [most] = classes.toSorted(
        (a, b) => classes.filter((each) => each === b).length - classes.filter((each) => each === a).length,
      );
      return classes.filter((each) => each !== most).length;
    };
    gpu.times = { ...gpu.times, totalMs: 4, waitMs: 0 };
    expect(await probes(LARGE)).toBe(2);
    // 60 times slower.
    gpu.times = { ...gpu.times, totalMs: 600 };
    for (let calls = 0; calls < 100; calls++) engine.computed(exactCall(LARGE * 16), 10);
    await decide(engine, gpu, { ...exactCall(LARGE * 16), engine: "gpu" });
    expect(await probes(LARGE * 16)).toBe(0);
  });

  it("goes on with the program where the GPU fails, and never against what it was told", async () => {
    const gpu = fast();
    const { engine } = engineOver(gpu);
    const deadline = (): KernelError => new KernelError(KernelErrorCode.deadline, "too long", {});
    const failed = engine.run(exactCall(LARGE), never);
    gpu.running[0]!.fail(deadline());
    expect(await failed).toMatchObject({ engineClass: "cpu", reason: "too long" });
    const told = engine.run({ ...exactCall(LARGE), engine: "gpu" }, never);
    gpu.running[0]!.fail(deadline());
    await expect(told).rejects.toMatchObject({ code: "PFS_ENGINE_LOST", data: { reason: "too long" } });
    // What failed counts as nothing ahead.
    expect((await decide(engine, gpu, exactCall(LARGE))).engineClass).toBe(INFO.engineClass);
  });

  it("ends when it is told to", async () => {
    const gpu = fast();
    const control = new AbortController();
    const decision = engineOver(gpu).engine.run(exactCall(LARGE), control.signal);
    control.abort(new Error("closed"));
    gpu.running[0]!.fail(new Error("whatever"));
    await expect(decision).rejects.toThrow("closed");
  });
});
