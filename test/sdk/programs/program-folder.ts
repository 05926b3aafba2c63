/** A folder for the programs that the tests of a file write, gone after them. */
import { mkdtempSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll } from "vitest";

export interface ProgramFolder {
  readonly directory: string;
  /** Writes a file, in folders that are made for it; resolves with its path. */
  readonly write: (name: string, text: string) => Promise<string>;
}

/** A space in the path, as people have it. */
export function programFolder(): ProgramFolder {
  const directory = mkdtempSync(join(tmpdir(), "pfs programs "));
  afterAll(() => rm(directory, { recursive: true, force: true }));
  const write = async (name: string, text: string): Promise<string> => {
    const path = join(directory, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
    return path;
  };
  return { directory, write };
}
