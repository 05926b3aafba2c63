/** Why no GPU is found: what a system lacks that has one, as a sentence that names the package. */
import { existsSync, readdirSync } from "node:fs";
import { delimiter, join } from "node:path";

const LIBRARY_FOLDERS = ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib"];
const MULTIARCH: Readonly<Partial<Record<NodeJS.Architecture, string>>> = {
  x64: "x86_64-linux-gnu",
  arm64: "aarch64-linux-gnu",
};
const LOADER = "libvulkan.so.1";
const DRIVER_FOLDERS = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
const NVIDIA = "/proc/driver/nvidia/version";

/** Undefined where there are drivers, or where that is not known. */
export function driverAbsence(): string | undefined {
  if (process.platform !== "linux") return undefined;
  if (!hasLoader())
    return "the Vulkan loader is missing: install libvulkan1 (Debian, Ubuntu) or vulkan-loader (Fedora)";
  if (hasDriver()) return undefined;
  return existsSync(NVIDIA)
    ? "NVIDIA's Vulkan driver is missing: install libnvidia-gl of the version of its kernel module (Ubuntu), or nvidia-vulkan-icd (Debian)"
    : "no Vulkan driver is installed: install mesa-vulkan-drivers for AMD and Intel, nvidia-vulkan-icd (Debian) or libnvidia-gl (Ubuntu) for NVIDIA";
}

function hasLoader(): boolean {
  const own = MULTIARCH[process.arch];
  const named = (process.env["LD_LIBRARY_PATH"] ?? "").split(delimiter).filter((path) => path !== "");
  return [...LIBRARY_FOLDERS, ...named]
    .flatMap((folder) => (own === undefined ? [folder] : [folder, join(folder, own)]))
    .some((folder) => existsSync(join(folder, LOADER)));
}

function hasDriver(): boolean {
  const named = [process.env["VK_DRIVER_FILES"], process.env["VK_ICD_FILENAMES"]];
  if (named.some((paths) => (paths ?? "").split(delimiter).some((path) => path !== "" && existsSync(path))))
    return true;
  return DRIVER_FOLDERS.some((folder) => {
    try {
      return readdirSync(folder).some((name) => name.endsWith(".json"));
    } catch {
      return false;
    }
  });
}
