/**
 * What is remembered to save work, a file for each: best effort, so what cannot be written is not, and of too many those go that
 * were not touched for the longest. Whoever reads one checks it, for it may be of a machine that crashed while it was written.
 */
import { randomBytes } from "node:crypto";
import { readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PRIVATE_FILE_MODE, makeDirectory } from "./durable-file.ts";

/** Makes the file, or takes the place of the one that is there, in a directory that has `filesMax` of them. Never rejects. */
export async function rememberFile(
  directory: string,
  name: string,
  content: Uint8Array | string,
  filesMax: number,
): Promise<void> {
  try {
    await makeDirectory(directory);
    const path = join(directory, name);
    const part = `${path}.${randomBytes(4).toString("hex")}.new`;
    try {
      await writeFile(part, content, { mode: PRIVATE_FILE_MODE });
      await rename(part, path);
    } finally {
      await rm(part, { force: true });
    }
    await removeOldest(directory, filesMax);
  } catch {
    // It is made again.
  }
}

/** What killed processes left of their parts is among the files, and goes with them. */
async function removeOldest(directory: string, filesMax: number): Promise<void> {
  const names = await readdir(directory);
  if (names.length <= filesMax) return;
  const ages = await Promise.all(
    names.map(async (name) => ({ name, age: (await stat(join(directory, name))).mtimeMs })),
  );
  const oldest = ages.toSorted((a, b) => a.age - b.age).slice(0, names.length - filesMax);
  await Promise.all(oldest.map(({ name }) => rm(join(directory, name), { force: true })));
}
