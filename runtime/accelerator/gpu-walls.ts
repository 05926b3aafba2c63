/**
 * What a GPU process gives up before it becomes Node: whoever breaks out of a compiler or a driver is in there. It keeps devices of GPUs,
 * and reading what drivers are made of and the chunks that it computes over; files of people, keys above all, it cannot open.
 *
 *   unshare: no network ──▶ setpriv: no privileges, ends with its parent ──▶ prlimit ──▶ perl: Landlock ──▶ node
 *
 * Each as far as this machine has it. Drivers differ in what they want: where none is found behind Landlock but one without it,
 * that is done without.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, realpathSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, dirname, join } from "node:path";
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
/**
 * What drivers of GPUs open, by name. There is more in that folder, which a node's user may open: disks, where he is root; and
 * terminals, to which whoever has one open can type commands.
 */
const DEVICES = "/dev";
const GPU_DEVICE =
  /^(dri|kfd|nvidia.*|nvhost.*|nvmap|nvgpu|mali.*|dxg|dma_heap|udmabuf|null|zero|full|random|urandom)$/;

/** What people read of them. Which files a process has is its own, whatever else stands. */
export const GpuWall = {
  environment: "empty environment",
  network: "network namespace",
  privileges: "no new privileges",
  files: "Landlock",
} as const;
export type GpuWall = (typeof GpuWall)[keyof typeof GpuWall];

/** The words before a command that runs behind these walls. */
export interface GpuWalls {
  readonly words: readonly string[];
  readonly names: readonly GpuWall[];
}

/** Found out once, by what runs there. */
let standing: Promise<GpuWalls> | undefined;

/** All but Landlock, as far as this machine has them. Never rejects. */
export function wallsHere(): Promise<GpuWalls> {
  standing ??= strongest();
  return standing;
}

/** The words for Landlock around what runs `main`, with folders that it reads besides; undefined where the system has none. */
export function landlocked(main: string, reads: readonly string[]): readonly string[] | undefined {
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
  const rules = [...SYSTEM, ...namedByEnvironment(), packageFolder(), ...filesOf(main), ...reads]
    .filter((path) => path !== undefined && existsSync(path))
    .map((path) => `${isFolder(path!) ? READ_FILE | READ_FOLDER : READ_FILE}:${path}`);
  const node = `${EXECUTE | READ_FILE}:${process.execPath}`;
  // What executes it.
  const loaders = ["/lib64", "/lib", "/usr/lib"].filter(existsSync).map((path) => `${EXECUTE}:${path}`);
  return [perl, "-e", script, "--", ...rules, node, ...loaders, ...deviceRules(), "--"];
}

/** Folders of drivers and libraries that somebody has told this process of. */
function namedByEnvironment(): string[] {
  const lists = ["LD_LIBRARY_PATH", "VK_ADD_DRIVER_FILES", "VK_DRIVER_FILES", "VK_ICD_FILENAMES"];
  return lists.flatMap((name) =>
    (process.env[name] ?? "").split(delimiter).filter((path) => path.startsWith("/")),
  );
}

/** Those that are there when a process starts: drivers make theirs before. */
function deviceRules(): string[] {
  const use = READ_FILE | WRITE_FILE | USE_DEVICE;
  return readdirSync(DEVICES)
    .filter((name) => GPU_DEVICE.test(name))
    .map((name) => join(DEVICES, name))
    .map((path) => `${isFolder(path) ? use | READ_FOLDER : use}:${path}`);
}

/** Its folder, and what Node looks at in those around it before it finds a package. */
function filesOf(main: string): string[] {
  const folders = [dirname(main)];
  while (dirname(folders.at(-1)!) !== folders.at(-1)) folders.push(dirname(folders.at(-1)!));
  return [dirname(main), ...folders.map((folder) => join(folder, "package.json"))];
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

async function strongest(): Promise<GpuWalls> {
  const [setpriv, prlimit, unshare] = ["setpriv", "prlimit", "unshare"].map(findProgram);
  if (process.platform !== "linux" || setpriv === undefined || prlimit === undefined)
    return { words: [], names: [GpuWall.environment] };
  // A core file would have what the GPU's driver holds of everybody's inputs.
  const isRoot = process.getuid?.() === 0;
  const capabilities = isRoot ? ["--inh-caps=-all", "--bounding-set=-all"] : [];
  const bounded = [setpriv, ...capabilities, "--no-new-privs", "--pdeathsig", "SIGKILL", prlimit, "--core=0"];
  const names: readonly GpuWall[] = [GpuWall.environment, GpuWall.privileges];
  const all = [{ words: bounded, names }];
  if (isRoot && unshare !== undefined)
    all.unshift({ words: [unshare, "--net", "--ipc", ...bounded], names: [...names, GpuWall.network] });
  for (const walls of all) if (await runs([...walls.words, prlimit, "--version"])) return walls;
  return { words: [], names: [GpuWall.environment] };
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
