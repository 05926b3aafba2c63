/**
 * What a GPU process gives up before it becomes Node: whoever breaks out of a compiler or a driver is in there. It keeps devices,
 * and reading what drivers are made of and the chunks that it computes over; files of people, keys above all, it cannot open.
 *
 *   unshare: no network ──▶ setpriv: no privileges, ends with its parent ──▶ prlimit ──▶ perl: Landlock ──▶ node
 *
 * Each as far as this machine has it. Drivers differ in what they want: where none is found behind Landlock but one without it,
 * that is done without.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, realpathSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, dirname } from "node:path";
import { findProgram } from "../find-program.ts";
import {
  EXECUTE,
  ITSELF,
  NUMBERS,
  READ_FILE,
  READ_FOLDER,
  USE_DEVICE,
  WRITE_FILE,
  beginScript,
  restrictFiles,
} from "../landlock.ts";

/** Where systems keep libraries and drivers, and what those look at; no folder of anybody's. */
const SYSTEM: readonly string[] = [
  "/usr",
  "/lib",
  "/lib64",
  "/opt",
  "/sys",
  ITSELF,
  "/proc/cpuinfo",
  "/proc/devices",
  "/proc/driver",
  "/proc/filesystems",
  "/proc/meminfo",
  "/proc/modules",
  "/proc/stat",
  "/proc/version",
  "/etc/drirc",
  "/etc/egl",
  "/etc/glvnd",
  "/etc/ld.so.cache",
  "/etc/ld.so.conf",
  "/etc/ld.so.conf.d",
  "/etc/nvidia",
  "/etc/vulkan",
];
const DEVICES = "/dev";

/** Found out once, by what runs there. */
let standing: Promise<readonly string[]> | undefined;

/** The words before a command that runs behind all but Landlock. Never rejects. */
export function wallsHere(): Promise<readonly string[]> {
  standing ??= strongest();
  return standing;
}

/** The same words for Landlock, with what the process reads besides; undefined where the system has none. */
export function landlocked(reads: readonly string[]): readonly string[] | undefined {
  const perl = findProgram("perl");
  const numbers = NUMBERS[process.arch];
  if (process.platform !== "linux" || perl === undefined || numbers === undefined) return undefined;
  const script = [
    ...beginScript(numbers),
    ...restrictFiles(numbers),
    "shift;",
    "exec { $ARGV[0] } @ARGV;",
    'print STDERR "$ARGV[0]: $!\\n"; exit 1',
  ].join("\n");
  const rules = [...SYSTEM, ...namedByEnvironment(), packageFolder(), ...reads]
    .filter((path) => path !== undefined && existsSync(path))
    .map((path) => `${isFolder(path!) ? READ_FILE | READ_FOLDER : READ_FILE}:${path}`);
  const node = `${EXECUTE | READ_FILE}:${process.execPath}`;
  // What executes it.
  const loaders = ["/lib64", "/lib", "/usr/lib"].filter(existsSync).map((path) => `${EXECUTE}:${path}`);
  const devices = `${READ_FILE | WRITE_FILE | READ_FOLDER | USE_DEVICE}:${DEVICES}`;
  return [perl, "-e", script, "--", ...rules, node, ...loaders, devices, "--"];
}

/** Folders of drivers and libraries that somebody has told this process of. */
function namedByEnvironment(): string[] {
  const lists = ["LD_LIBRARY_PATH", "VK_ADD_DRIVER_FILES", "VK_DRIVER_FILES", "VK_ICD_FILENAMES"];
  return lists.flatMap((name) =>
    (process.env[name] ?? "").split(delimiter).filter((path) => path.startsWith("/")),
  );
}

function packageFolder(): string | undefined {
  try {
    return dirname(realpathSync(createRequire(import.meta.url).resolve("webgpu")));
  } catch {
    return undefined;
  }
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

async function strongest(): Promise<readonly string[]> {
  const [setpriv, prlimit, unshare] = ["setpriv", "prlimit", "unshare"].map(findProgram);
  if (process.platform !== "linux" || setpriv === undefined || prlimit === undefined) return [];
  // A core file would have what the GPU's driver holds of everybody's inputs.
  const isRoot = process.getuid?.() === 0;
  const capabilities = isRoot ? ["--inh-caps=-all", "--bounding-set=-all"] : [];
  const bounded = [setpriv, ...capabilities, "--no-new-privs", "--pdeathsig", "SIGKILL", prlimit, "--core=0"];
  const alone = isRoot && unshare !== undefined ? [[unshare, "--net", "--ipc", ...bounded]] : [];
  for (const walls of [...alone, bounded]) if (await runs([...walls, prlimit, "--version"])) return walls;
  return [];
}

async function runs([command, ...args]: readonly string[]): Promise<boolean> {
  const child = spawn(command!, args, { cwd: "/", env: {}, stdio: "ignore" });
  try {
    const [code] = (await once(child, "close")) as [number | null];
    return code === 0;
  } catch {
    return false;
  }
}
