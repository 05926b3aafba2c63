/**
 * For tests that need a GPU, or a CPU that imitates one (Debian: mesa-vulkan-drivers of bookworm-backports or later). Where there
 * is none they are skipped, and the reason is printed; with PACKETFS_TEST_GPU=1 that is a failure.
 */
import { GpuProcess } from "../../runtime/accelerator/gpu-process.ts";

const started = await GpuProcess.start({
  backend: "vulkan",
  isSoftwareAllowed: true,
  computes: false,
  calibrates: false,
  memoryBytes: 0,
});
if (!("kind" in started)) started.process.kill();

/** Why there is none; undefined where there is one. */
export const noGpu: string | undefined = "kind" in started ? `${started.why}: ${started.reason}` : undefined;

if (noGpu !== undefined) {
  if (process.env["PACKETFS_TEST_GPU"] === "1") throw new Error(`no GPU for tests: ${noGpu}`);
  console.warn(`tests that need a GPU are skipped: ${noGpu}`);
}
