/** Whose time it was on a GPU whose time nobody tells: a process that stands by asks how busy the GPU is. */
import { expect, test } from "vitest";
import { CallInputs } from "../../../runtime/accelerator/call-inputs.ts";
import { GpuAccelerator } from "../../../runtime/accelerator/gpu-accelerator.ts";
import { GpuProcess } from "../../../runtime/accelerator/gpu-process.ts";
import { noGpu } from "../../suites/gpu.ts";
import { failure } from "../store/store-fixture.ts";
import { endless, mix, mixed } from "./kernels.ts";

const source = { read: (): Promise<never> => Promise.reject(new Error("no chunks here")) };
const { signal } = new AbortController();

test.skipIf(noGpu !== undefined)(
  "a kernel that never ends is ended by what a probe takes beside it",
  async () => {
    const process = {
      backend: "vulkan",
      isSoftwareAllowed: true,
      computes: true,
      memoryBytes: 1e8,
    };
    const first = await GpuProcess.start(process);
    if ("kind" in first) throw new Error(first.reason);
    const calibration = { uploadGBps: 1, downloadGBps: 1, launchMs: 1, gops: 1 };
    await using gpu = new GpuAccelerator({
      // As a real one: by its process's CPU time nothing would be known of it.
      info: { label: "test", engineClass: "v-0", isSoftware: false, memoryBytes: 1e8, calibration },
      process,
      first,
      inputs: new CallInputs(source, undefined),
    });
    const words = Uint32Array.from({ length: 1_000 }, (_, index) => index);
    const inputs = [{ bytes: new Uint8Array(words.buffer) }];
    const dimensions = { n: words.length };
    const error = await failure(gpu.run({ kernel: endless, dimensions, inputs }, signal));
    expect(["PFS_KERNEL_DEADLINE", "PFS_ACCELERATOR_LOST"]).toContain(error.code);
    // Only the first of these is a strike: a machine too busy to answer is nobody's fault.
    const { outputs } = await gpu.run({ kernel: mix, dimensions, inputs }, signal);
    expect(Buffer.compare(outputs!, new Uint8Array(mixed(words).buffer))).toBe(0);
  },
);
