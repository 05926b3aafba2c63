/**
 * What the storms of kills share. By seed processes are killed wherever it hurts, and then what was acknowledged is there,
 * what is there is right, nobody has to lend a hand, and nothing is left over.
 *
 *   PACKETFS_TEST_KILLS=500 PACKETFS_TEST_SEED=7 npx vitest run test/e2e/kills
 *
 * The seed says what is done, who is killed and where: at the n-th change to its disk (killed-at.ts), the n-th byte of its
 * line, or the n-th step of a job. The model of what was acknowledged lives in the test's process, which nobody kills.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { hasCode } from "../../sdk/index.ts";
import type { PacketFS } from "../../sdk/index.ts";
import type { Random } from "../packets/seed.ts";
import { REMOVED } from "../suites/acknowledged.ts";
import { bytesOf, noise } from "./inputs.ts";

export const KILLS: number = Number(process.env["PACKETFS_TEST_KILLS"] ?? 14);
export const SEED: number = Number(process.env["PACKETFS_TEST_SEED"] ?? 20_261_126);
/** Nothing is decided by it: it ends what hangs. */
export const HANGING_MS: number = 240_000 + KILLS * 60_000;
export const KILLED_AT: string = fileURLToPath(new URL("./killed-at.ts", import.meta.url));
/** Kills after which all is looked at, and not only what was touched. */
export const ERA = 20;

export const COUNT = `import { defineProgram, lines } from "packetfs";
export default defineProgram({
  input: lines(),
  map: (_line, { args }) => Number(args),
  combine: (a: number, b: number) => a + b,
});
`;
export const LINES = 2000;
export const TEXT: Buffer = Buffer.from("a line of a text\n".repeat(LINES));

/** Contents are called `=text`, or `seed/length`: noise, of which those of one seed begin alike, so that they share chunks. */
export function contentBytes(content: string): Buffer {
  if (content.startsWith("=")) return Buffer.from(content.slice(1));
  const [seed, length] = content.split("/").map(Number) as [number, number];
  return noise(length, seed);
}

export function someContent(random: Random): string {
  const length = random.below(3) === 0 ? random.below(2_500_000) : random.below(60_000);
  return `${1 + random.below(6)}/${length}`;
}

/** What the name holds, of what it may hold. */
export async function contentOf(store: PacketFS, name: string, allowed: readonly string[]): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await bytesOf(store, name);
  } catch (error) {
    if (hasCode(error, "PFS_NOT_FOUND")) return REMOVED;
    throw error;
  }
  const same = (content: string): boolean => content !== REMOVED && contentBytes(content).equals(bytes);
  return allowed.find(same) ?? `${bytes.length} bytes of something else`;
}

/** The files below a directory by path, segments as one. */
export function filesBelow(directory: string): string[] {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !/^\d{8}\.seg$/.test(entry.name))
    .map(({ parentPath, name }) => join(parentPath, name).slice(directory.length + 1));
  return files.toSorted();
}
