import { expect, it } from "vitest";
import {
  AcceleratorError,
  AcceleratorErrorCode,
  KernelError,
  KernelErrorCode,
  StoreError,
  StoreErrorCode,
} from "../../../runtime/errors.ts";
import { GpuEngine } from "../../../runtime/engine/gpu-engine.ts";
import { ACCELERATOR_TRIES_MAX } from "../../../runtime/limits.ts";
import { HeldAccelerator, INFO, call } from "./kernels.ts";

const never = new AbortController().signal;

async function settled(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

function lost(): AcceleratorError {
  return new AcceleratorError(AcceleratorErrorCode.lost, "it is gone", {});
}

it("has the GPU compute every call, and says its class", async () => {
  const gpu = new HeldAccelerator();
  const decision = new GpuEngine(gpu).run(call(), never);
  gpu.running[0]!.answer();
  expect(await decision).toMatchObject({ engineClass: INFO.engineClass, answer: { times: { kernelMs: 2 } } });
});

it("asks again when the GPU's process is lost, which is nobody's fault, a few times", async () => {
  const gpu = new HeldAccelerator();
  const engine = new GpuEngine(gpu);
  const once = engine.run(call(), never);
  gpu.running[0]!.fail(lost());
  await settled();
  gpu.running[0]!.answer();
  expect((await once).answer).toBeDefined();

  const always = expect(engine.run(call(), never)).rejects.toMatchObject({ code: "PFS_ENGINE_LOST" });
  for (let tries = 1; tries <= ACCELERATOR_TRIES_MAX; tries++) {
    gpu.running[0]!.fail(lost());
    await settled();
  }
  await always;
  expect(gpu.running).toEqual([]);
});

it.each([
  KernelErrorCode.deadline,
  KernelErrorCode.barred,
  KernelErrorCode.overLimit,
  KernelErrorCode.invalid,
])("says that the engine is lost where the GPU does not run the call: %s", async (code) => {
  const gpu = new HeldAccelerator();
  const decision = new GpuEngine(gpu).run(call(), never);
  gpu.running[0]!.fail(new KernelError(code, `it is ${code}`, {}));
  await expect(decision).rejects.toMatchObject({
    code: "PFS_ENGINE_LOST",
    data: { reason: `it is ${code}` },
  });
});

it("leaves what is no fault of the GPU as it is, and ends when it is told to", async () => {
  const gpu = new HeldAccelerator();
  const engine = new GpuEngine(gpu);
  const missing = engine.run(call(), never);
  gpu.running[0]!.fail(new StoreError(StoreErrorCode.chunkMissing, "gone", {}));
  await expect(missing).rejects.toMatchObject({ code: "PFS_CHUNK_MISSING" });

  const control = new AbortController();
  const ended = engine.run(call(), control.signal);
  control.abort(new Error("closed"));
  gpu.running[0]!.fail(lost());
  await expect(ended).rejects.toThrow("closed");
  expect(gpu.running).toEqual([]);
});
