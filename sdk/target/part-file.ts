/**
 * The temporary files into which a file is fetched before it replaces its target, beside it. A process that is killed leaves its own
 * behind, and so does a try whose connection is lost. The next one that writes to the same target takes it over, so that what it holds is not fetched again; others are
 * removed when they are a day old.
 *
 *   .pfs-<target>-<process>-<random>.part     target: of its name; process: see process-mark.ts
 *   .pfs-<target>-<random>.journal            what is there of it, where somebody writes that down
 *
 * A part that is taken over keeps its random digits, and so its journal: the one rename takes over both.
 */
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { lstat, open, readdir, rename, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { basename, join } from "node:path";
import { refToHex, sha256 } from "../../packets/digest.ts";
import { ownMark, PROCESS_MARK, stateOfProcess } from "../../runtime/process-mark.ts";

/** What is older and belongs to no process that lives here is removed. */
export const PART_AGE_MS_MAX: number = 24 * 60 * 60 * 1000;
const PART = new RegExp(`^\\.pfs-([0-9a-f]{16})-(${PROCESS_MARK})-([0-9a-f]{8})\\.part$`);
const JOURNAL = /^\.pfs-([0-9a-f]{16})-([0-9a-f]{8})\.journal$/;
/** As earlier versions named them. */
const OLD_PART = /^\.pfs-[0-9a-f]{16}\.part$/;

export interface PartFile {
  readonly handle: FileHandle;
  readonly path: string;
  /** Where its journal is, or may be. Whoever removes or renames the part removes it. */
  readonly journal: string;
  /** Whether it holds what an earlier try wrote; to be written over from its beginning. */
  readonly isTakenOver: boolean;
}

/** Opens a part file for `target` in `directory`. Rejects as the system does. */
export async function openPart(directory: string, target: string, mode: number): Promise<PartFile> {
  const key = digest(basename(target));
  const named = (digits: string): Pick<PartFile, "path" | "journal"> => ({
    path: join(directory, `.pfs-${key}-${ownMark()}-${digits}.part`),
    journal: journalOf(directory, key, digits),
  });
  const left = await partsLeft(directory);
  for (const part of left.filter((one) => one.key === key)) {
    if (!isTaken(left, part)) continue;
    const taken = named(part.digits);
    const handle = await takeOver(part.path, taken.path, mode);
    if (handle !== undefined) return { handle, ...taken, isTakenOver: true };
  }
  const made = named(randomBytes(4).toString("hex"));
  return { handle: await open(made.path, "wx+", mode), ...made, isTakenOver: false };
}

/** Leaves a part of this process, which is closed, to whoever opens the next one for its target: this process, or one that comes after it. */
export async function leavePart(directory: string, { path }: PartFile): Promise<void> {
  const [, key = "", , digits = ""] = PART.exec(basename(path)) ?? [];
  (await partsLeft(directory)).push({
    path,
    key,
    digits,
    isOld: false,
    size: 0,
    writtenAt: Date.now(),
  });
}

/** Removes the parts of `target` that were left in `directory`, and old ones of other targets. */
export async function removeLeftParts(directory: string, target: string): Promise<void> {
  const key = digest(basename(target));
  const left = await partsLeft(directory);
  for (const part of left.filter((one) => one.key === key || one.isOld)) {
    if (!isTaken(left, part)) continue;
    await rm(part.path, { force: true }).catch(() => undefined);
    if (part.key !== "")
      await rm(journalOf(directory, part.key, part.digits), { force: true }).catch(() => undefined);
  }
}

/**
 * Removes parts and journals that dead processes left in a directory, if they are so old, in milliseconds. Resolves with the bytes that they
 * took, and whether others are left. Never rejects.
 */
export async function removeDeadParts(
  directory: string,
  ageMs: number,
): Promise<{ readonly bytes: number; readonly isClean: boolean }> {
  let [bytes, isClean] = [0, true];
  for (const { path, key, digits, size, writtenAt } of await findParts(directory)) {
    if (Date.now() - writtenAt < ageMs) {
      isClean = false;
      continue;
    }
    bytes += size;
    await rm(path, { force: true }).catch(() => undefined);
    if (key !== "") await rm(journalOf(directory, key, digits), { force: true }).catch(() => undefined);
  }
  return { bytes, isClean };
}

function journalOf(directory: string, key: string, digits: string): string {
  return join(directory, `.pfs-${key}-${digits}.journal`);
}

interface LeftPart {
  readonly path: string;
  /** Empty where it is not to be taken over. */
  readonly key: string;
  readonly digits: string;
  readonly isOld: boolean;
  /** Bytes, and when they were written last, in milliseconds since 1970. */
  readonly size: number;
  readonly writtenAt: number;
}

/** What was left in each directory, by others before this process came and by itself; whoever takes one takes it out. */
const found = new Map<string, Promise<LeftPart[]>>();

/** Whether it was still there to be taken: calls at the same time share the list. */
function isTaken(left: LeftPart[], part: LeftPart): boolean {
  const index = left.indexOf(part);
  if (index >= 0) left.splice(index, 1);
  return index >= 0;
}

function partsLeft(directory: string): Promise<LeftPart[]> {
  let parts = found.get(directory);
  if (parts === undefined) found.set(directory, (parts = findParts(directory)));
  return parts;
}

/** Parts of this user whose processes are dead, and those of which nobody can say that but their age. */
async function findParts(directory: string): Promise<LeftPart[]> {
  const names = await readdir(directory).catch(() => []);
  const left: LeftPart[] = [];
  const parts = new Set(names.map((name) => PART.exec(name)).map((found) => `${found?.[1]}-${found?.[3]}`));
  for (const name of names) {
    const [, key = "", mark = "", digits = ""] = PART.exec(name) ?? [];
    const [, target, random] = JOURNAL.exec(name) ?? [];
    const isLost = target !== undefined && !parts.has(`${target}-${random}`);
    if (key === "" && !OLD_PART.test(name) && !isLost) continue;
    const path = join(directory, name);
    const stats = await lstat(path).catch(() => undefined);
    // Others may lay what they like into a directory that everybody writes to.
    if (stats?.isFile() !== true || stats.nlink !== 1) continue;
    if (stats.uid !== (process.geteuid?.() ?? stats.uid)) continue;
    // The part of a journal may just have become what it was to be.
    const { size, mtimeMs: writtenAt } = stats;
    const isOld = Date.now() - writtenAt > PART_AGE_MS_MAX;
    const state = await stateOfProcess(mark);
    if (state === "dead") left.push({ path, key, digits, isOld, size, writtenAt });
    else if (isOld && state === "elsewhere") left.push({ path, key: "", digits, isOld, size, writtenAt });
  }
  return left;
}

/**
 * Makes the file this process's own, which one process alone can do, and opens it. Undefined where another was first, and where
 * it cannot be used: then it is gone.
 */
async function takeOver(from: string, to: string, mode: number): Promise<FileHandle | undefined> {
  let handle: FileHandle | undefined;
  try {
    await rename(from, to);
    handle = await open(to, constants.O_RDWR | constants.O_NOFOLLOW);
    await handle.chmod(mode & ~process.umask());
    return handle;
  } catch {
    await handle?.close();
    await rm(to, { force: true }).catch(() => undefined);
    return undefined;
  }
}

function digest(text: string): string {
  return refToHex(sha256(Buffer.from(text))).slice(0, 16);
}
