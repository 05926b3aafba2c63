/** Runs the command line as people do: a process of its own, its two outputs and its exit status. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, expect } from "vitest";

/** The command, as npm links it. */
export const PFS: string = fileURLToPath(new URL("../../../sdk/bin/pfs.mjs", import.meta.url));

/** What text.txt of a place holds. */
export const TEXT: string = Array.from({ length: 20_000 }, (_, index) => `line ${index} of the text\n`).join(
  "",
);

export interface Finished {
  readonly status: number | null;
  readonly stdout: Buffer;
  /** stdout as text. */
  readonly out: string;
  readonly err: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly input?: Buffer | string;
  /** stdin does not end before the process does. */
  readonly keepsInputOpen?: boolean;
  readonly environment?: Readonly<Record<string, string>>;
  /** Options for Node itself. */
  readonly execArgv?: readonly string[];
  /** A command that executes what follows it. */
  readonly through?: readonly string[];
  /** Called once the process runs. */
  readonly whileRunning?: (child: ChildProcess) => void;
}

/** Nothing of this process's own settings but the path. */
export async function cleanEnvironment(): Promise<Record<string, string | undefined>> {
  const home = await cacheDirectory();
  return { PATH: process.env["PATH"], XDG_CACHE_HOME: home, XDG_DATA_HOME: join(home, "data"), CI: "1" };
}

/** `pfs words…`, to its end. */
export async function pfs(words: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const node = [process.execPath, ...(options.execArgv ?? []), PFS, ...words];
  const [command, ...args] = [...(options.through ?? []), ...node];
  const child = spawn(command!, args, {
    cwd: options.cwd,
    env: { ...(await cleanEnvironment()), ...options.environment },
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (piece: Buffer) => stdout.push(piece));
  child.stderr.on("data", (piece: Buffer) => stderr.push(piece));
  // A command that fails early does not read its input to the end.
  child.stdin.on("error", () => undefined);
  if (options.keepsInputOpen !== true) child.stdin.end(options.input ?? "");
  options.whileRunning?.(child);
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  const all = Buffer.concat(stdout);
  return { status, stdout: all, out: all.toString(), err: Buffer.concat(stderr).toString() };
}

export interface Server {
  readonly pid: number;
  /** The first line that it printed, an object. */
  readonly said: Record<string, unknown>;
  /** Sends the signal and resolves with the exit status. */
  readonly stop: (signal: NodeJS.Signals) => Promise<number | null>;
}

/** `pfs words…` that goes on: resolves when it has said its first line. */
export async function serve(
  words: readonly string[],
  cwd: string,
  execArgv: readonly string[] = [],
): Promise<Server> {
  const child = spawn(process.execPath, [...execArgv, PFS, ...words], { cwd, env: await cleanEnvironment() });
  const exited = new Promise<number | null>((resolve) => child.on("exit", resolve));
  let err = "";
  child.stderr.on("data", (piece: Buffer) => (err += piece.toString()));
  const lines = createInterface({ input: child.stdout });
  const ended = exited.then((status) => Promise.reject(new Error(`pfs ended with ${status}: ${err}`)));
  const first = await Promise.race([once(lines, "line") as Promise<[string]>, ended]);
  ended.catch(() => undefined);
  const stop: Server["stop"] = (signal) => {
    child.kill(signal);
    return exited;
  };
  return { pid: child.pid!, said: JSON.parse(first[0]) as Record<string, unknown>, stop };
}

const directories: string[] = [];
afterAll(async () => {
  for (const directory of directories) await rm(directory, { recursive: true, force: true });
});

let cache: Promise<string> | undefined;
/** Where all runs of a test file remember what they do not want to find out again. */
function cacheDirectory(): Promise<string> {
  cache ??= temporaryDirectory();
  return cache;
}

/** A directory that is gone when the file's tests are over. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "pfs-cli-"));
  directories.push(directory);
  return directory;
}

/** A directory with a text in it, and a store beside it. */
export interface Place {
  readonly cwd: string;
  /** `pfs words…` in the place, on its store. */
  readonly run: (words: readonly string[], options?: RunOptions) => Promise<Finished>;
  /** The same, and it must succeed; every line of stdout as an object. */
  readonly json: (words: readonly string[]) => Promise<Record<string, unknown>[]>;
}

export async function makePlace(): Promise<Place> {
  const cwd = await temporaryDirectory();
  const settings = { PACKETFS_STORE: join(cwd, "store") };
  const run: Place["run"] = (words, options = {}) => pfs(words, { cwd, environment: settings, ...options });
  const json: Place["json"] = async (words) => {
    const { out, err, status } = await run([...words, "--json"]);
    expect({ words, status, err }).toEqual({ words, status: 0, err: "" });
    return out
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  };
  await writeFile(join(cwd, "text.txt"), TEXT);
  return { cwd, run, json };
}
