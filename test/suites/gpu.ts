/**
 * For tests that need a GPU, or a CPU that imitates one (Debian: mesa-vulkan-drivers of bookworm-backports or later). Where there
 * is none they are skipped, and the reason is printed; with PACKETFS_TEST_GPU=1 that is a failure.
 */
import { cp, mkdir } from "node:fs/promises";
import { existsSync, readdirSync } from "node:fs";
import { basename, delimiter, join } from "node:path";
import { GpuProcess } from "../../runtime/accelerator/gpu-process.ts";

const started = await GpuProcess.start({
  backend: "vulkan",
  isSoftwareAllowed: true,
  computes: false,
  memoryBytes: 0,
});
if (!("kind" in started)) started.process.kill();

/** Why there is none; undefined where there is one. */
export const noGpu: string | undefined = "kind" in started ? `${started.why}: ${started.reason}` : undefined;

if (noGpu !== undefined) {
  if (process.env["PACKETFS_TEST_GPU"] === "1") throw new Error(`no GPU for tests: ${noGpu}`);
  console.warn(`tests that need a GPU are skipped: ${noGpu}`);
}

const DRIVER_FOLDERS = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];

/** Copies what says where the drivers of this machine are: a node that is started with this environment finds no GPU without them. */
export async function copyDrivers(folder: string): Promise<Record<string, string>> {
  const named = (process.env["VK_DRIVER_FILES"] ?? "").split(delimiter).filter((path) => path !== "");
  const found = DRIVER_FOLDERS.filter((each) => existsSync(each)).flatMap((each) =>
    readdirSync(each).map((name) => join(each, name)),
  );
  const files = (named.length > 0 ? named : found).filter((path) => path.endsWith(".json"));
  await mkdir(folder, { recursive: true });
  const copies = files.map((path, index) => join(folder, `${index}-${basename(path)}`));
  for (const [index, path] of files.entries()) await cp(path, copies[index]!);
  return { VK_DRIVER_FILES: copies.join(delimiter) };
}
