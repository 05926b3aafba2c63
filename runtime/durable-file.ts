/** Small files that are there whole or not at all, whatever happens while they are written. */
import { randomBytes } from "node:crypto";
import { closeSync, openSync } from "node:fs";
import { link, mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { systemCode } from "./errors.ts";
import { ownMark, PROCESS_MARK, stateOfProcess } from "./process-mark.ts";

/** Nobody's but the user's own who wrote them. */
export const PRIVATE_FILE_MODE = 0o600;
const PRIVATE_DIRECTORY_MODE = 0o700;

/**
 * Puts `content` where `path` is, durable when it resolves: whoever reads it meanwhile, or after a crash, finds the old
 * file or the new one. Rejects as the system does; nothing is changed then.
 */
export async function replaceFile(path: string, content: string): Promise<void> {
  const temporary = await writeBeside(path, content);
  try {
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** As `replaceFile`, but leaves alone what is there. Resolves with whether the file was made. */
export async function createFile(path: string, content: string): Promise<boolean> {
  const temporary = await writeBeside(path, content);
  try {
    // Unlike a rename, a link does not replace what another process just wrote.
    await link(temporary, path);
  } catch (error) {
    if (systemCode(error) === "EEXIST") return false;
    throw error;
  } finally {
    await rm(temporary, { force: true });
  }
  await syncDirectory(dirname(path));
  return true;
}

/**
 * Makes the directory and those above it that are missing, durable when it resolves. Rejects as the system does. Node's own
 * `recursive` does not come to an end where a file system, /proc for one, denies that a directory can be in another.
 */
export async function makeDirectory(path: string): Promise<void> {
  if (await isDirectory(path)) return;
  try {
    await mkdir(path, { mode: PRIVATE_DIRECTORY_MODE });
  } catch (error) {
    // Another process was quicker.
    if (await isDirectory(path)) return;
    const above = dirname(path);
    if (systemCode(error) !== "ENOENT" || above === path || (await isDirectory(above))) throw error;
    await makeDirectory(above);
    return makeDirectory(path);
  }
  await syncDirectory(dirname(path));
}

async function isDirectory(path: string): Promise<boolean> {
  return await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

/** Makes the file, if it is not there, before a library does that would let others read it. */
export function makePrivate(path: string): void {
  closeSync(openSync(path, "a", PRIVATE_FILE_MODE));
}

/** Makes the creation, renaming and removal of files in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  // Windows cannot open one: there a directory's entries are as durable as its files.
  if (process.platform === "win32") return;
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

const TEMPORARY = new RegExp(`\\.(${PROCESS_MARK})-[0-9a-f]{8}\\.new$`);

/** Removes what processes left in the directory that were killed while they wrote a file. Rejects as the system does. */
export async function removeLeftTemporaries(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const mark = TEMPORARY.exec(name)?.[1];
    if (mark !== undefined && (await stateOfProcess(mark)) === "dead") {
      await rm(join(directory, name), { force: true });
    }
  }
}

/** A file of a name of its own, so that two processes that write the same file do not write into each other's. */
async function writeBeside(path: string, content: string): Promise<string> {
  const temporary = `${path}.${ownMark()}-${randomBytes(4).toString("hex")}.new`;
  const file = await open(temporary, "wx", PRIVATE_FILE_MODE);
  try {
    await file.writeFile(content);
    await file.sync();
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  } finally {
    await file.close();
  }
  return temporary;
}
