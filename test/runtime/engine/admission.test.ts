import { expect, it } from "vitest";
import { AdmittedAccelerator } from "../../../runtime/engine/admission.ts";
import { HeldAccelerator, call } from "./kernels.ts";

const never = new AbortController().signal;

/** What is let in is so after the microtasks that are due. */
async function settled(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

it("lets in calls whose shares are one at most, ten tenths too", async () => {
  const gpu = new HeldAccelerator();
  const admitted = new AdmittedAccelerator(gpu);
  const calls = Array.from({ length: 11 }, () => admitted.run(call({ gpu: 0.1 }), never));
  expect(gpu.running.length).toBe(10);
  gpu.running[0]!.answer();
  await calls[0];
  await settled();
  expect(gpu.running.length).toBe(10);
  while (gpu.running.length > 0) gpu.running[0]!.answer();
  await Promise.all(calls);
});

it("passes nobody that waits: a call that takes all of a GPU comes before small ones that came later", async () => {
  const gpu = new HeldAccelerator();
  const admitted = new AdmittedAccelerator(gpu);
  const first = admitted.run(call({ name: "half", gpu: 0.5 }), never);
  const whole = admitted.run(call({ name: "whole", gpu: 1 }), never);
  const late = admitted.run(call({ name: "late", gpu: 0.25 }), never);
  await settled();
  const names = (): string[] => gpu.running.map((running) => running.call.kernel.name);
  expect(names()).toEqual(["half"]);
  gpu.running[0]!.answer();
  await first;
  await settled();
  expect(names()).toEqual(["whole"]);
  gpu.running[0]!.answer();
  await whole;
  await settled();
  expect(names()).toEqual(["late"]);
  gpu.running[0]!.answer();
  await late;
});

it("counts waiting here as waiting, and lets others in when a call fails", async () => {
  const gpu = new HeldAccelerator();
  let now = 0;
  const admitted = new AdmittedAccelerator(gpu, () => now);
  const failed = admitted.run(call(), never);
  const second = admitted.run(call(), never);
  now = 40;
  gpu.running[0]!.fail(new Error("lost"));
  await expect(failed).rejects.toThrow("lost");
  await settled();
  gpu.running[0]!.answer();
  expect((await second).times).toMatchObject({ totalMs: 43, waitMs: 41, kernelMs: 2 });
});

it("forgets who gives up while waiting, and lets those behind it in", async () => {
  const gpu = new HeldAccelerator();
  const admitted = new AdmittedAccelerator(gpu);
  const half = admitted.run(call({ gpu: 0.5 }), never);
  const control = new AbortController();
  const whole = admitted.run(call({ gpu: 1 }), control.signal);
  const behind = admitted.run(call({ gpu: 0.5 }), never);
  await settled();
  expect(gpu.running.length).toBe(1);
  control.abort(new Error("given up"));
  await expect(whole).rejects.toThrow("given up");
  await settled();
  expect(gpu.running.length).toBe(2);
  await expect(admitted.run(call(), control.signal)).rejects.toThrow("given up");
  while (gpu.running.length > 0) gpu.running[0]!.answer();
  await Promise.all([half, behind]);
});
