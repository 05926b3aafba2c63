/** Starts the process of an executor behind the walls of this machine, and waits until it is ready. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import type { Socket } from "node:net";
import { dirname, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { builtUrl, compiledCode } from "../../built.ts";
import { SandboxError, SandboxErrorCode } from "../../errors.ts";
import { EXECUTOR_START_MS, EXECUTOR_STARTS_MAX, EXECUTOR_STDERR_BYTES } from "../../limits.ts";
import type { Enclosure } from "./enclosures.ts";
import type { WallName, WallState } from "./wall-states.ts";
import type { WatchedProcess } from "./executor-pipe.ts";
import { MessageKind, MessageReader, PROCESS_PIPE_DESCRIPTOR, READY_BYTES } from "./protocol.ts";
import { ThreadClock, TIME_SOURCE } from "./usage.ts";
import { Walls, confinedCommand, environment, isKilled, namesOf, spawnBehind } from "./walls.ts";
import type { Candidate } from "./walls.ts";

export interface LaunchOptions {
  readonly threads: number;
  /** Bytes of memory that the process watches for itself; 0 where its parent does. */
  readonly rssBytesMax: number;
  readonly sharedMemoryDescriptor: number;
  /** Whether it does beforehand what its first program would have to wait for. */
  readonly isSpare: boolean;
}

export interface StartedProcess extends WatchedProcess {
  readonly walls: readonly WallName[];
}

/** Of this machine, found out once. */
let machineWalls: Walls | undefined;

/** Whether V8 has compiled what executors are made of, or did not succeed; by the first start of one. */
let isCompiled = false;
let compiling: Promise<void> | undefined;

/** What each executor's Node is told. V8 takes what it has compiled only where it is told the same. */
export const NODE_FLAGS: readonly string[] = [
  "--no-node-snapshot",
  "--expose-gc",
  "--no-warnings",
  // The system's is refused, which is an error; one that is not there is none.
  "--openssl-config=/proc/self/none",
];

/** Each wall and its state; undefined until a first process has started. */
export function standingWalls(): readonly WallState[] | undefined {
  return machineWalls?.states;
}

/** Rejects with PFS_EXECUTOR_START_FAILED {reason}, and with no process left when the signal is aborted before it is ready. */
export async function startProcess(
  options: LaunchOptions,
  signal?: AbortSignal,
  walls: Walls = (machineWalls ??= new Walls()),
): Promise<StartedProcess> {
  isCompiled ||= !compiledCode().isMissing("executor-main");
  if (!isCompiled) {
    await (compiling ??= compile());
    isCompiled = true;
  }
  let reason = "";
  for (let starts = 1; starts <= EXECUTOR_STARTS_MAX; starts++) {
    const candidate = walls.current;
    const child = launch(options, candidate);
    const closed = child.pid === undefined ? undefined : once(child, "close");
    const start = await untilReady(child, candidate.enclosure, signal);
    if (start.failure === undefined) {
      const { pid, clock } = start;
      if (walls.stand(candidate)) {
        const kill = (): void => killProcess(child, pid);
        const clockOf = (thread: number): ThreadClock => clockOfThread(pid, thread);
        return { child, pid, kill, threads: options.threads, clock, clockOf, walls: namesOf(candidate) };
      }
      // What stands was found meanwhile by another, and is stronger.
      clock.close();
      endStart(child);
      await closed;
      starts = 0;
      continue;
    }
    await closed;
    reason = start.failure;
    if (signal?.aborted === true) break;
    if (start.ofItself && (await walls.refused(candidate, reason, starts))) starts = 0;
  }
  const message = `an executor process did not start: ${reason}`;
  throw new SandboxError(SandboxErrorCode.startFailed, message, { reason });
}

/** Its pipes are `stdio` of what it returns, by the descriptors of protocol.ts. */
function launch(
  { threads, rssBytesMax, sharedMemoryDescriptor, isSpare }: LaunchOptions,
  candidate: Candidate,
): ChildProcess {
  const main = fileURLToPath(builtUrl(new URL("../thread/executor-main.ts", import.meta.url)));
  const isolatedVm = isolatedVmBinary();
  const reads = [dirname(main), dirname(isolatedVm)].map((folder) => `${folder}${sep}`);
  const node = [
    process.execPath,
    ...NODE_FLAGS,
    ...(candidate.permission ? permissionFlags(reads) : []),
    main,
    String(threads),
    String(rssBytesMax),
    String(isSpare),
    isolatedVm,
  ];
  const confined = confinedCommand(node, reads, threads);
  const pipes = Array<"pipe">(threads).fill("pipe");
  return spawnBehind(candidate, confined, [
    "ignore",
    "ignore",
    "pipe",
    "pipe",
    sharedMemoryDescriptor,
    ...pipes,
  ]);
}

/**
 * The first executor with this Node waits until V8 has compiled what all are made of, for which none of them waits again:
 * compile-executor.ts. Whatever goes wrong with it, executors start, and compile it themselves.
 */
async function compile(): Promise<void> {
  const compiler = fileURLToPath(builtUrl(new URL("../thread/compile-executor.ts", import.meta.url)));
  const child = spawn(process.execPath, [...NODE_FLAGS, compiler], {
    cwd: dirname(compiler),
    env: environment(),
    stdio: "ignore",
    timeout: EXECUTOR_START_MS,
    killSignal: "SIGKILL",
    windowsHide: true,
  });
  await once(child, "close").catch(() => undefined);
}

/** The path that isolated-vm itself would load. */
function isolatedVmBinary(): string {
  const entry = createRequire(import.meta.url).resolve("isolated-vm");
  const { path } = createRequire(entry)("node-gyp-build") as { readonly path: (folder: string) => string };
  return path(dirname(entry));
}

/**
 * In /proc a thread learns what the system calls it, and which descriptors it was given: by fd and fdinfo, which must be one
 * pattern, for of two folders of which one's name begins with the other's Node lets nobody read the shorter one.
 */
function permissionFlags(reads: readonly string[]): string[] {
  const proc = ["/proc/thread-self", "/proc/self/fd*"];
  return [
    "--permission",
    "--allow-addons",
    "--allow-worker",
    ...[...reads, ...proc].map((path) => `--allow-fs-read=${path}`),
  ];
}

/** Why a process did not start, and whether it ended by itself. */
interface FailedStart {
  readonly failure: string;
  readonly ofItself: boolean;
}

type Start =
  | FailedStart
  | { readonly pid: number; readonly clock: ThreadClock; readonly failure?: undefined };

const SLOW: FailedStart = { failure: `it took longer than ${EXECUTOR_START_MS} ms`, ofItself: false };
const UNWANTED: FailedStart = { failure: "nobody wants it any more", ofItself: false };
const STRANGE: FailedStart = { failure: "it is not an executor", ofItself: true };

/** Resolves with the clock of its first thread once that is ready, or with why it did not start; then it is told to end. */
function untilReady(child: ChildProcess, { forks }: Enclosure, signal?: AbortSignal): Promise<Start> {
  const { promise, resolve } = Promise.withResolvers<Start>();
  const pipe = child.stdio[PROCESS_PIPE_DESCRIPTOR] as Socket;
  let said = "";
  const hear = (text: Buffer): void => {
    said = (said + text.toString("latin1")).slice(-EXECUTOR_STDERR_BYTES);
  };
  const settle = (start: Start): void => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
    child.off("error", fail).off("close", end);
    child.stderr?.off("data", hear);
    pipe?.removeAllListeners("data");
    if (start.failure !== undefined) endStart(child);
    resolve(start);
  };
  const fail = ({ message }: Error): void => settle({ failure: message, ofItself: true });
  const end = (code: number | null, by: NodeJS.Signals | null): void => {
    const words = said.trim() === "" ? `it ended with ${by ?? `code ${code}`}` : said.trim();
    settle({ failure: words, ofItself: !isKilled(by) });
  };
  const timer = setTimeout(() => settle(SLOW), EXECUTOR_START_MS);
  const abort = (): void => settle(UNWANTED);
  signal?.addEventListener("abort", abort);
  if (signal?.aborted === true) abort();
  const reader = new MessageReader(
    () => READY_BYTES,
    ({ kind, word, body }) => {
      if (kind !== MessageKind.ready || word !== 0 || body.byteLength !== READY_BYTES) return settle(STRANGE);
      try {
        const pid = forks ? onlyChildOf(child.pid!) : child.pid!;
        settle({ pid, clock: clockOfThread(pid, new Uint32Array(body.buffer)[0]!) });
      } catch {
        settle(STRANGE);
      }
    },
  );
  child.on("error", fail).on("close", end);
  child.stderr?.on("data", hear);
  pipe?.on("data", (piece: Buffer) => {
    if (!reader.push(piece)) settle(STRANGE);
  });
  return promise;
}

/** Nothing that it still says is of interest. */
function endStart(child: ChildProcess): void {
  child.on("error", () => undefined);
  for (const stream of child.stdio) stream?.on("error", () => undefined).destroy();
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    // With its children, if it has some by now: they are a group.
    if (process.platform === "win32") child.kill("SIGKILL");
    else process.kill(-child.pid, "SIGKILL");
  } catch {
    // It is gone already.
  }
}

/**
 * Kills a process that is a child of ours, or a child of it. Then the one between is not killed but ends by itself, for it
 * waits for its child, which else nobody might do: in a container the first process seldom does.
 */
function killProcess(child: ChildProcess, pid: number): void {
  if (pid === child.pid) return void child.kill("SIGKILL");
  // Once it has ended, its child's number may be another's.
  if (child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It is gone already, and the other about to be.
  }
  // Should somebody have stopped it.
  child.kill("SIGCONT");
}

/** Throws when it has none, or several. */
function onlyChildOf(pid: number): number {
  const [child, ...others] = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim().split(" ");
  if (!child || others.length > 0) throw new Error("not one child");
  return Number(child);
}

/** `thread` is its number as the process itself sees it, in its pid namespace. Throws when it has none that is called so. */
function clockOfThread(pid: number, thread: number): ThreadClock {
  const known = TIME_SOURCE === "CPU time" ? threadsOf(pid) : undefined;
  return new ThreadClock(pid, known?.get(thread) ?? thread);
}

/** By what a thread is called in the innermost pid namespace, what it is called in this one. */
function threadsOf(pid: number): Map<number, number> {
  const folder = `/proc/${pid}/task`;
  return new Map(
    readdirSync(folder).map((name) => {
      const numbers = /^NSpid:(.*)$/m.exec(readFileSync(`${folder}/${name}/status`, "latin1"))?.[1];
      return [Number(numbers?.trim().split(/\s+/).at(-1) ?? name), Number(name)];
    }),
  );
}
