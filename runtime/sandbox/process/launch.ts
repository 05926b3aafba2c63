/**
 * Starts the process of an executor behind as many walls as the system allows, the strongest that have worked on this machine:
 *
 *   no environment        nothing to read there but the time zone, which is UTC for all programs
 *   permission model      Node's own: no files but what it is made of, no child processes. A seat belt, no wall
 *   no network            a network namespace of its own, empty
 *   other user            nobody, with all capabilities dropped
 *   no new privileges     nothing that it executes can gain any
 */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import type { Socket } from "node:net";
import { dirname, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { builtUrl } from "../../built.ts";
import { SandboxError, SandboxErrorCode } from "../../errors.ts";
import { EXECUTOR_START_MS, EXECUTOR_STDERR_BYTES } from "../../limits.ts";
import { MessageKind, MessageReader, PIPE_DESCRIPTOR } from "./protocol.ts";
import { ThreadClock } from "./usage.ts";

export interface Wall {
  /** What is in force, for people. */
  readonly names: readonly string[];
  /** A command that executes the rest of its arguments in its own process. */
  readonly command: readonly string[];
  /** Whether Node's permission model is on. */
  readonly permission: boolean;
}

export interface LaunchOptions {
  readonly threads: number;
  /** Bytes of memory that the process watches for itself; 0 where its parent does. */
  readonly rssBytesMax: number;
  readonly sharedMemoryDescriptor: number;
}

const NOBODY = 65_534;
const NODE_WALLS: Wall = { names: ["no environment", "permission model"], command: [], permission: true };
/** Unusual layouts of node_modules are not readable under the permission model. */
const NO_WALLS: Wall = { names: ["no environment"], command: [], permission: false };

/** What may be tried, the strongest first; the last always works. */
export function possibleWalls(): Wall[] {
  const setpriv = process.platform === "linux" ? findProgram("setpriv") : undefined;
  const unshare = findProgram("unshare");
  if (setpriv === undefined) return [NODE_WALLS, NO_WALLS];
  const noPrivileges = add(NODE_WALLS, ["no new privileges"], [setpriv, "--no-new-privs"]);
  const root = process.getuid?.() === 0;
  const drop = [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"];
  const capabilities = ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"];
  const nobody = add(NODE_WALLS, ["other user", "no new privileges"], [setpriv, ...drop, ...capabilities]);
  const walls = root ? [nobody, noPrivileges] : [noPrivileges];
  if (unshare === undefined) return [...walls, NODE_WALLS, NO_WALLS];
  const cut = root ? [unshare, "--net"] : [unshare, "--user", "--map-current-user", "--net"];
  return [...walls.flatMap((wall) => [add(wall, ["no network"], cut), wall]), NODE_WALLS, NO_WALLS];
}

function add(wall: Wall, names: readonly string[], command: readonly string[]): Wall {
  return { ...wall, names: [...wall.names, ...names], command: [...command, ...wall.command] };
}

/** The pipe is `stdio[3]` of what it returns. */
export function launch(
  { threads, rssBytesMax, sharedMemoryDescriptor }: LaunchOptions,
  wall: Wall,
): ChildProcess {
  const main = fileURLToPath(builtUrl(new URL("../thread/executor-main.ts", import.meta.url)));
  const folder = dirname(main);
  const node = [
    process.execPath,
    "--no-node-snapshot",
    "--expose-gc",
    "--no-warnings",
    ...(wall.permission ? permissionFlags(folder) : []),
    main,
    String(threads),
    String(rssBytesMax),
  ];
  const [command, ...args] = [...wall.command, ...node];
  return spawn(command!, args, {
    cwd: folder,
    env: environment(),
    stdio: ["ignore", "ignore", "pipe", "pipe", sharedMemoryDescriptor],
    // In a group of its own: Ctrl-C is for the node to deal with.
    detached: process.platform !== "win32",
    windowsHide: true,
  });
}

function environment(): NodeJS.ProcessEnv {
  const { SystemRoot } = process.env;
  return process.platform === "win32" ? { TZ: "UTC", SystemRoot } : { TZ: "UTC" };
}

function permissionFlags(built: string): string[] {
  const require = createRequire(import.meta.url);
  const isolatedVm = require.resolve("isolated-vm");
  const packages = [
    packageFolder(isolatedVm, "isolated-vm"),
    packageFolder(createRequire(isolatedVm).resolve("node-gyp-build"), "node-gyp-build"),
    packageFolder(require.resolve("piscina"), "piscina"),
  ];
  const folders = [
    `${built}${sep}`,
    // Where a thread learns what the system calls it.
    "/proc/thread-self",
    // How node-gyp-build tells which C library isolated-vm's binary must be for.
    "/etc/alpine-release",
    ...packages,
  ];
  return [
    "--permission",
    "--allow-addons",
    "--allow-worker",
    ...folders.map((folder) => `--allow-fs-read=${folder}`),
  ];
}

function packageFolder(file: string, name: string): string {
  const folder = `${sep}node_modules${sep}${name}${sep}`;
  return file.slice(0, file.lastIndexOf(folder) + folder.length);
}

function findProgram(name: string): string | undefined {
  return ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map((folder) => `${folder}/${name}`).find(existsSync);
}

export interface StartedProcess {
  readonly child: ChildProcess;
  /** Of its threads, in their order. */
  readonly clocks: readonly ThreadClock[];
  readonly walls: readonly string[];
}

/** Those that may still work; the first of them did, once a process has started. */
let candidates: readonly Wall[] | undefined;

/** Rejects with PFS_EXECUTOR_START_FAILED {reason}, and with no process left when the signal is aborted before it is ready. */
export async function startProcess(options: LaunchOptions, signal?: AbortSignal): Promise<StartedProcess> {
  candidates ??= possibleWalls();
  let reason = "";
  for (const wall of candidates) {
    const child = launch(options, wall);
    const { clocks, failure } = await untilReady(child, options.threads, signal);
    if (clocks !== undefined) {
      candidates = candidates.slice(candidates.indexOf(wall));
      return { child, clocks, walls: wall.names };
    }
    reason = failure;
    if (signal?.aborted === true) {
      if (child.pid !== undefined && child.exitCode === null && child.signalCode === null)
        await once(child, "exit");
      break;
    }
    // Being slow says nothing about the wall: whoever tries again tries the same.
    if (reason === SLOW) break;
  }
  const message = `an executor process did not start: ${reason}`;
  throw new SandboxError(SandboxErrorCode.startFailed, message, { reason });
}

type Start =
  | { readonly clocks: readonly ThreadClock[]; readonly failure?: undefined }
  | { readonly clocks?: undefined; readonly failure: string };

const SLOW = `it took longer than ${EXECUTOR_START_MS} ms`;
const STRANGE = "it is not an executor";
const UNWANTED = "nobody wants it any more";

/** Resolves with the clocks of its threads once it is ready, or with why it did not start. */
function untilReady(child: ChildProcess, threads: number, signal?: AbortSignal): Promise<Start> {
  const { promise, resolve } = Promise.withResolvers<Start>();
  const pipe = child.stdio[PIPE_DESCRIPTOR] as Socket;
  let said = "";
  const hear = (text: Buffer): void => {
    said = (said + text.toString("latin1")).slice(-EXECUTOR_STDERR_BYTES);
  };
  const settle = (failure: string, clocks?: readonly ThreadClock[]): void => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
    child.removeAllListeners();
    child.stderr?.removeListener("data", hear);
    pipe?.removeAllListeners("data");
    if (clocks !== undefined) return resolve({ clocks });
    child.on("error", () => undefined);
    pipe?.on("error", () => undefined).destroy();
    child.kill("SIGKILL");
    resolve({ failure });
  };
  const timer = setTimeout(() => settle(SLOW), EXECUTOR_START_MS);
  const abort = (): void => settle(UNWANTED);
  signal?.addEventListener("abort", abort);
  if (signal?.aborted === true) abort();
  const reader = new MessageReader(
    () => threads * 4,
    ({ kind, body }) => {
      if (kind !== MessageKind.ready || body.byteLength !== threads * 4) return settle(STRANGE);
      try {
        settle("", clocksOf(child.pid!, new Uint32Array(body.buffer)));
      } catch {
        settle(STRANGE);
      }
    },
  );
  child.on("error", (error) => settle(error.message));
  child.on("close", (code) => settle(said.trim() === "" ? `it ended with code ${code}` : said.trim()));
  child.stderr?.on("data", hear);
  pipe?.on("data", (piece: Buffer) => {
    if (!reader.push(piece)) settle(STRANGE);
  });
  return promise;
}

/** Throws when one of them is no thread of the process. */
function clocksOf(pid: number, threads: Uint32Array): ThreadClock[] {
  const clocks: ThreadClock[] = [];
  try {
    for (const thread of threads) clocks.push(new ThreadClock(pid, thread));
  } catch (error) {
    for (const clock of clocks) clock.close();
    throw error;
  }
  return clocks;
}
