/** Processes of one side: what they took of CPU time and memory, with all that they started. Linux alone tells. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { TICKS_PER_SECOND, endedSeconds, statOf } from "../cpu-time.ts";

const LOOK_MS = 50;
const KILL_MS = 2;

export interface Use {
  readonly cpuSeconds: number;
  /** The most that each of them had resident, together. */
  readonly peakBytes: number;
}

export interface Ended extends Use {
  readonly seconds: number;
  readonly status: number | null;
  readonly said: string;
}

/** Processes, from one on. */
class Tree {
  readonly #root: number;
  readonly #peaks = new Map<number, number>();

  constructor(root: number) {
    this.#root = root;
  }

  look(): number {
    let ticks = 0;
    const visit = (pid: number): void => {
      const stat = statOf(pid);
      if (stat.length < 15) return;
      for (const field of stat.slice(11, 15)) ticks += Number(field);
      const peak = Number(/VmHWM:\s+(\d+)/.exec(textOf(`/proc/${pid}/status`))?.[1] ?? 0) * 1024;
      this.#peaks.set(pid, Math.max(peak, this.#peaks.get(pid) ?? 0));
      const children = textOf(`/proc/${pid}/task/${pid}/children`).split(" ");
      for (const child of children) if (child !== "") visit(Number(child));
    };
    visit(this.#root);
    return ticks / TICKS_PER_SECOND;
  }

  forgetPeaks(): void {
    this.#peaks.clear();
  }

  get peakBytes(): number {
    return [...this.#peaks.values()].reduce((sum, bytes) => sum + bytes, 0);
  }
}

/** A server, which is there until it is closed. */
export class ServerProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #tree: Tree;
  #said = "";

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#tree = new Tree(child.pid!);
    for (const stream of [child.stdout!, child.stderr!])
      stream.on("data", (bytes: Buffer) => (this.#said += bytes.toString()));
  }

  /** Resolves with what it said when `ready` finds it in that, or when something listens at the port. */
  static async start(
    command: readonly string[],
    ready: RegExp | number,
    env: NodeJS.ProcessEnv = {},
  ): Promise<{ readonly server: ServerProcess; readonly said: string }> {
    const server = new ServerProcess(
      spawn(command[0]!, command.slice(1), {
        env: { ...process.env, ...env },
        stdio: ["ignore", "pipe", "pipe"],
      }),
    );
    const isReady = typeof ready === "number" ? () => isListening(ready) : () => ready.test(server.#said);
    while (!isReady()) {
      if (server.#child.exitCode !== null) throw new Error(`${command.join(" ")}: ${server.#said}`);
      await sleep(20);
    }
    return { server, said: server.#said };
  }

  /** What it takes while `work` is done. */
  async during<Result>(work: () => Promise<Result>): Promise<Use & { readonly result: Result }> {
    this.#tree.forgetPeaks();
    const before = this.#tree.look();
    const looking = setInterval(() => this.#tree.look(), LOOK_MS);
    try {
      const result = await work();
      return { cpuSeconds: this.#tree.look() - before, peakBytes: this.#tree.peakBytes, result };
    } finally {
      clearInterval(looking);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill("SIGTERM");
    await once(this.#child, "exit");
  }
}

export interface ClientOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** It is killed, with all that it started, when this says so: looked at every few milliseconds. */
  readonly isKilled?: () => boolean;
}

/** Runs a command to its end. */
export async function runClient(command: readonly string[], options: ClientOptions = {}): Promise<Ended> {
  const { env = {}, cwd, isKilled } = options;
  const ticksBefore = endedSeconds();
  const startedAt = performance.now();
  const child = spawn(command[0]!, command.slice(1), {
    env: { ...process.env, ...env },
    cwd,
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let said = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (bytes: Buffer) => (said = (said + bytes.toString()).slice(-10_000)));
  const tree = new Tree(child.pid!);
  const looking = setInterval(() => tree.look(), LOOK_MS);
  const killing = setInterval(() => {
    if (isKilled?.() !== true) return;
    clearInterval(killing);
    // With all that it started, unless it has ended just now.
    if (child.exitCode === null) process.kill(-child.pid!, "SIGKILL");
  }, KILL_MS);
  const [status] = (await once(child, "close")) as [number | null];
  clearInterval(looking);
  clearInterval(killing);
  const seconds = (performance.now() - startedAt) / 1000;
  return { seconds, status, said, cpuSeconds: endedSeconds() - ticksBefore, peakBytes: tree.peakBytes };
}

function isListening(port: number): boolean {
  const digits = port.toString(16).toUpperCase().padStart(4, "0");
  return new RegExp(`:${digits} 0+:0000 0A `).test(textOf("/proc/net/tcp"));
}

/** Nothing where it is gone. */
function textOf(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
