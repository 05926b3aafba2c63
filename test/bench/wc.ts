/** What wc takes for a file, where there is one. */
import { execFile, spawnSync } from "node:child_process";
import { promisify } from "node:util";
import { seconds } from "./harness.ts";
import type { Side } from "./harness.ts";

const IS_THERE = spawnSync("wc", ["--version"], { stdio: "ignore" }).error === undefined;
/** Bytes are characters: anything else would only slow it down. */
const environment = { ...process.env, LC_ALL: "C" };

/** `flag` is "-l" for lines or "-w" for words. A list, to be spread among rivals. */
export function wc(flag: "-l" | "-w", file: string, megabytes: number): Side[] {
  if (!IS_THERE) return [];
  const run = async (): Promise<unknown> =>
    await promisify(execFile)("wc", [flag, file], { env: environment });
  return [{ name: `wc ${flag}`, measure: async () => megabytes / (await seconds(run)) }];
}
