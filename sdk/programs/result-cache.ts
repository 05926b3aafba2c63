/**
 * Results that commands remember for each other, in the user's cache: a file for each, named by the hash of what it follows
 * from. They are best effort: what is not there, or cannot be read or written, is made again.
 */
import { readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import envPaths from "env-paths";
import { refToHex, sha256 } from "../../packets/digest.ts";
import { PRIVATE_FILE_MODE, makeDirectory } from "../../runtime/durable-file.ts";

const RESULTS_MAX = 256;

/** Where this user's results of one kind are. */
export function cacheDirectory(kind: string): string {
  return join(envPaths("packetfs", { suffix: "" }).cache, kind);
}

export function hashOf(bytes: Uint8Array): string {
  return refToHex(sha256(bytes));
}

/** What was remembered by `key`, 64 hexadecimal digits; undefined when nothing was, or it is not JSON. */
export async function readResult(directory: string, key: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(join(directory, `${key}.json`), "utf8"));
  } catch {
    return undefined;
  }
}

/** Remembers what JSON carries. Never rejects. */
export async function rememberResult(directory: string, key: string, result: unknown): Promise<void> {
  try {
    await makeDirectory(directory);
    const path = join(directory, `${key}.json`);
    const part = `${path}.${process.pid}`;
    await writeFile(part, JSON.stringify(result), { mode: PRIVATE_FILE_MODE });
    await rename(part, path);
    await removeOldest(directory);
  } catch {
    // The next run makes it again.
  }
}

async function removeOldest(directory: string): Promise<void> {
  const names = await readdir(directory);
  if (names.length <= RESULTS_MAX) return;
  const ages = await Promise.all(
    names.map(async (name) => ({ name, age: (await stat(join(directory, name))).mtimeMs })),
  );
  const oldest = ages.toSorted((a, b) => a.age - b.age).slice(0, names.length - RESULTS_MAX);
  await Promise.all(oldest.map(({ name }) => rm(join(directory, name), { force: true })));
}
