/**
 * Two different adapters for tests, both imitated by a CPU: Mesa's lavapipe, and SwiftShader, which browsers bring along (Debian:
 * chromium). Where one of them is missing, tests that need both are skipped, and the reason is printed.
 */
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { noGpu } from "./gpu.ts";

const MESA = "/usr/share/vulkan/icd.d";
const BROWSERS = ["/usr/lib/chromium", "/usr/lib64/chromium-browser", "/opt/google/chrome"];

const lavapipe = existsSync(MESA)
  ? readdirSync(MESA)
      .filter((name) => name.startsWith("lvp_icd"))
      .map((name) => join(MESA, name))[0]
  : undefined;
const browser = BROWSERS.find((folder) => existsSync(join(folder, "libvk_swiftshader.so")));

/** Why there are not both; undefined where there are. */
export const noTwoGpus: string | undefined =
  noGpu ??
  (lavapipe === undefined
    ? "lavapipe is missing"
    : browser === undefined
      ? "SwiftShader is missing"
      : undefined);

if (noTwoGpus !== undefined) console.warn(`tests that need two GPUs are skipped: ${noTwoGpus}`);

/** A driver's manifest in that directory. `name` is of the file. */
export async function writeDriver(
  directory: string,
  name: string,
  driver: "lavapipe" | "swiftshader",
): Promise<string> {
  const path = join(directory, `${name}.json`);
  const manifest =
    driver === "lavapipe"
      ? readFileSync(lavapipe!, "utf8")
      : JSON.stringify({
          file_format_version: "1.0.0",
          ICD: { library_path: join(browser!, "libvk_swiftshader.so"), api_version: "1.1.0" },
        });
  await writeFile(path, manifest);
  return path;
}
