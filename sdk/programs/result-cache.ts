/**
 * Results that commands remember for each other, in the user's cache: a file for each, named by the hash of what it follows
 * from. They are best effort: what is not there, or cannot be read or written, is made again.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import envPaths from "env-paths";
import { refToHex, sha256 } from "../../packets/digest.ts";
import { rememberFile } from "../../runtime/remembered-files.ts";

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
  await rememberFile(directory, `${key}.json`, JSON.stringify(result), RESULTS_MAX);
}
