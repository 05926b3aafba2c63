/**
 * Commands that are waited for without a turn of the event loop. A test's time limit is a timer of the process that stands still
 * meanwhile, so a command that hangs would hold up its file, and the whole run, for ever: it has a limit of its own here.
 */
import { spawnSync } from "node:child_process";
import type { SpawnSyncOptions, SpawnSyncReturns } from "node:child_process";

/** Nothing is decided by it: it ends what hangs, before the time of its test is up. */
const HANGING_MS = 200_000;

/** As `spawnSync`, with text as its output. Throws when the command had to be killed because it hung. */
export function runSync(
  command: string,
  words: readonly string[] = [],
  options: Omit<SpawnSyncOptions, "encoding"> = {},
  limitMs: number = HANGING_MS,
): SpawnSyncReturns<string> {
  const result = spawnSync(command, words, {
    ...options,
    encoding: "utf8",
    timeout: limitMs,
    killSignal: "SIGKILL",
  });
  if ((result.error as NodeJS.ErrnoException | undefined)?.code !== "ETIMEDOUT") return result;
  const said = `${result.stdout}${result.stderr}`;
  throw new Error(`${[command, ...words].join(" ")} hung; it had said ${JSON.stringify(said)}`);
}

/** The same of a command that must succeed; what it wrote to stdout. */
export function outputSync(
  command: string,
  words: readonly string[] = [],
  options: Omit<SpawnSyncOptions, "encoding"> = {},
): string {
  const { status, signal, stdout, stderr, error } = runSync(command, words, options);
  if (status === 0) return stdout;
  throw new Error(`${command} ended with ${status ?? signal}: ${stderr}`, { cause: error });
}
