/** Directories in the system's directory for temporary files. Those of processes that were killed go when the next is made. */
import { lstat, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ownMark, PROCESS_MARK, stateOfProcess } from "./process-mark.ts";

const LEFT = new RegExp(`^packetfs-[a-z]+-(${PROCESS_MARK})-[0-9A-Za-z]{6}$`);

/** Makes one that is called after `purpose`, a word. Rejects as the system does. Whoever made it removes it. */
export async function makeTemporaryDirectory(purpose: string): Promise<string> {
  await removeLeft();
  return await mkdtemp(join(tmpdir(), `packetfs-${purpose}-${ownMark()}-`));
}

async function removeLeft(): Promise<void> {
  const user = process.geteuid?.();
  for (const name of await readdir(tmpdir()).catch(() => [])) {
    const mark = LEFT.exec(name)?.[1];
    if (mark === undefined || (await stateOfProcess(mark)) !== "dead") continue;
    const path = join(tmpdir(), name);
    const stats = await lstat(path).catch(() => undefined);
    // Others may lay what they like into a directory that everybody writes to.
    if (stats?.isDirectory() !== true || stats.uid !== (user ?? stats.uid)) continue;
    await rm(path, { recursive: true, force: true }).catch(() => undefined);
  }
}
