/** A system's drivers of Vulkan: why no GPU is found, as a sentence that names the package that is missing, and which drivers they are. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { release } from "node:os";
import { delimiter, join } from "node:path";

const LIBRARY_FOLDERS = ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib"];
const MULTIARCH: Readonly<Partial<Record<NodeJS.Architecture, string>>> = {
  x64: "x86_64-linux-gnu",
  arm64: "aarch64-linux-gnu",
};
const LOADER = "libvulkan.so.1";
const DRIVER_FOLDERS = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
const NVIDIA = "/proc/driver/nvidia/version";
const BOOT = "/proc/sys/kernel/random/boot_id";

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

/** Which drivers these are, digested: others, or another version of one, come to something else. */
export function driverDigest(): string {
  const files = [...namedDrivers(), ...DRIVER_FOLDERS.flatMap(driversIn)].map((path) => {
    const about = statSync(path, { throwIfNoEntry: false });
    return [path, about?.mtimeMs, about?.size];
  });
  const all = JSON.stringify([release(), readText(NVIDIA), files]);
  return createHash("sha256").update(all).digest("hex");
}

/** The same, of drivers that were loaded since the machine was started: one that hangs may not do so after the next start. */
export function startedDriverDigest(): string {
  return createHash("sha256")
    .update(`${driverDigest()} ${readText(BOOT)}`)
    .digest("hex");
}

function hasLoader(): boolean {
  const own = MULTIARCH[process.arch];
  const named = (process.env["LD_LIBRARY_PATH"] ?? "").split(delimiter).filter((path) => path !== "");
  return [...LIBRARY_FOLDERS, ...named]
    .flatMap((folder) => (own === undefined ? [folder] : [folder, join(folder, own)]))
    .some((folder) => existsSync(join(folder, LOADER)));
}

function hasDriver(): boolean {
  return namedDrivers().some(existsSync) || DRIVER_FOLDERS.some((folder) => driversIn(folder).length > 0);
}

/** Those that somebody has told this process of. */
function namedDrivers(): string[] {
  const lists = [process.env["VK_DRIVER_FILES"], process.env["VK_ICD_FILENAMES"]];
  return lists.flatMap((paths) => (paths ?? "").split(delimiter).filter((path) => path !== ""));
}

function driversIn(folder: string): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => name.endsWith(".json"))
      .map((name) => join(folder, name));
  } catch {
    return [];
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
