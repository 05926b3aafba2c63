/**
 * The temporary files that "get" writes before it replaces its target, beside it. A process that is killed leaves its own
 * behind. The next one that writes to the same target takes it over, so that what it holds is not fetched again; others are
 * removed when they are a day old.
 *
 *   .pfs-<target>-<machine>-<boot>-<pid>-<start>-<random>.part     target: of its name; start: of the process
 */
import { createHash, randomBytes } from "node:crypto";
import { constants, readFileSync, readlinkSync } from "node:fs";
import { lstat, open, readFile, readdir, rename, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { hostname } from "node:os";
import { basename, join } from "node:path";

/** What is older and belongs to no process that lives here is removed. */
const PART_AGE_MS_MAX = 24 * 60 * 60 * 1000;
const PART = /^\.pfs-([0-9a-f]{16})-([0-9a-f]{8})-([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]{8}\.part$/;
/** As earlier versions named them. */
const OLD_PART = /^\.pfs-[0-9a-f]{16}\.part$/;

export interface PartFile {
  readonly handle: FileHandle;
  readonly path: string;
  /** Whether it holds what a process wrote that is dead now; to be written over from its beginning. */
  readonly isTakenOver: boolean;
}

/** Opens a part file for `target` in `directory`. Rejects as the system does. */
export async function openPart(directory: string, target: string, mode: number): Promise<PartFile> {
  const key = digest(basename(target), 16);
  const path = join(directory, `.pfs-${key}-${OWN.text}-${randomBytes(4).toString("hex")}.part`);
  const left = await partsLeft(directory);
  for (const part of left.filter((one) => one.key === key)) {
    left.splice(left.indexOf(part), 1);
    const handle = await takeOver(part.path, path, mode);
    if (handle !== undefined) return { handle, path, isTakenOver: true };
  }
  return { handle: await open(path, "wx+", mode), path, isTakenOver: false };
}

/** Removes the parts of `target` that dead processes left in `directory`, and old ones of other targets. */
export async function removeLeftParts(directory: string, target: string): Promise<void> {
  const key = digest(basename(target), 16);
  const left = await partsLeft(directory);
  for (const part of left.filter((one) => one.key === key || one.isOld)) {
    left.splice(left.indexOf(part), 1);
    await rm(part.path, { force: true }).catch(() => undefined);
  }
}

interface LeftPart {
  readonly path: string;
  /** Empty where it is not to be taken over. */
  readonly key: string;
  readonly isOld: boolean;
}

/** What was left in each directory before this process came; whoever takes one takes it out. */
const found = new Map<string, Promise<LeftPart[]>>();

function partsLeft(directory: string): Promise<LeftPart[]> {
  let parts = found.get(directory);
  if (parts === undefined) found.set(directory, (parts = findParts(directory)));
  return parts;
}

/** Parts of this user whose processes are dead, and those of which nobody can say that but their age. */
async function findParts(directory: string): Promise<LeftPart[]> {
  const names = await readdir(directory).catch(() => []);
  const left: LeftPart[] = [];
  for (const name of names) {
    const [, key = "", machine = "", boot = "", pid = "", start = ""] = PART.exec(name) ?? [];
    if (key === "" && !OLD_PART.test(name)) continue;
    const path = join(directory, name);
    const stats = await lstat(path).catch(() => undefined);
    // Others may lay what they like into a directory that everybody writes to.
    if (stats?.isFile() !== true || stats.nlink !== 1) continue;
    if (stats.uid !== (process.geteuid?.() ?? stats.uid)) continue;
    const isOld = Date.now() - stats.mtimeMs > PART_AGE_MS_MAX;
    const isDead = machine === OWN.machine && (boot !== OWN.boot || !(await isAlive(pid, start)));
    if (isDead) left.push({ path, key, isOld });
    else if (isOld && machine !== OWN.machine) left.push({ path, key: "", isOld });
  }
  return left;
}

/** Makes the file this process's own, which one process alone can do, and opens it. Undefined where another was first. */
async function takeOver(from: string, to: string, mode: number): Promise<FileHandle | undefined> {
  try {
    await rename(from, to);
    const handle = await open(to, constants.O_RDWR | constants.O_NOFOLLOW);
    await handle.chmod(mode & ~process.umask());
    return handle;
  } catch {
    return undefined;
  }
}

/** Whether the process that is meant still runs: its number may be another's by now. */
async function isAlive(pid: string, start: string): Promise<boolean> {
  if (HAS_PROC) return startOf(await readFile(`/proc/${pid}/stat`, "latin1").catch(() => "")) === start;
  try {
    process.kill(Number(pid), 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** When a process started, in ticks since the machine did, from its `stat`. */
function startOf(stat: string): string {
  // The name of the process stands in parentheses and may hold anything.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}

const OWN_START = startOf(textOf("/proc/self/stat"));
const HAS_PROC: boolean = OWN_START !== "";

/** This process, as its parts say. Numbers of processes mean something in one pid namespace of one machine. */
const OWN: { readonly machine: string; readonly boot: string; readonly text: string } = (() => {
  const machine = digest(`${hostname()} ${pidNamespace()}`, 8);
  const boot = digest(textOf("/proc/sys/kernel/random/boot_id"), 8);
  return { machine, boot, text: `${machine}-${boot}-${process.pid}-${HAS_PROC ? OWN_START : "0"}` };
})();

function pidNamespace(): string {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    return "";
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

function digest(text: string, digits: number): string {
  return createHash("sha256").update(text).digest("hex").slice(0, digits);
}
