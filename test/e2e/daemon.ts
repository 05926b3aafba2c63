/** `pfs up` and `pfs join` as processes of their own, with all that they say, and ways to end them badly. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll } from "vitest";
import { PFS, temporaryDirectory } from "../sdk/cli/run-pfs.ts";

/** A busy machine is slow; what has not come after so long does not come. */
const PATIENCE_MS = 180_000;

export interface Ending {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** How Node is started. */
export interface NodeProcess {
  readonly execArgv?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

export class Daemon {
  readonly process: ChildProcess;
  /** Resolves when the process is gone; never rejects. */
  readonly ended: Promise<Ending>;
  /** What it printed: one object a line. */
  readonly lines: Record<string, unknown>[] = [];
  readonly #watchers = new Set<() => void>();
  #stderr = "";

  /** `wrapper` is a command that runs the command that follows it. */
  constructor(words: readonly string[], wrapper: readonly string[] = [], how: NodeProcess = {}) {
    const node = [process.execPath, ...(how.execArgv ?? []), PFS, ...words, "--json"];
    const [command, ...rest] = [...wrapper, ...node];
    const env = { ...process.env, ...how.environment };
    const child = spawn(command!, rest, { stdio: ["ignore", "pipe", "pipe"], env });
    this.process = child;
    this.ended = new Promise((resolve) => {
      child.on("close", (status, signal) => resolve({ status, signal }));
    });
    createInterface({ input: child.stdout }).on("line", (line) => {
      this.lines.push(JSON.parse(line) as Record<string, unknown>);
      this.#wake();
    });
    child.stderr.on("data", (piece: Buffer) => {
      this.#stderr += piece.toString();
    });
    void this.ended.then(() => this.#wake());
    daemons.add(this);
  }

  get pid(): number {
    return this.process.pid!;
  }

  /** All that it said, for people who read and for tests that search. */
  get said(): string {
    return this.lines.map((line) => JSON.stringify(line)).join("\n") + this.#stderr;
  }

  /** The first line, from the beginning or yet to come, that `wanted` is true for. */
  async line(wanted: (line: Record<string, unknown>) => boolean): Promise<Record<string, unknown>> {
    await this.until(() => this.lines.some(wanted));
    return this.lines.find(wanted)!;
  }

  /** Resolves when what it says matches. */
  async says(pattern: RegExp): Promise<void> {
    await this.until(() => pattern.test(this.said));
  }

  async until(condition: () => boolean): Promise<void> {
    let over = false;
    void this.ended.then(() => (over = true));
    const deadline = Date.now() + PATIENCE_MS;
    while (!condition()) {
      if (over || Date.now() > deadline) throw new Error(`it never came; what was said:\n${this.said}`);
      await this.#news(deadline - Date.now());
    }
  }

  async end(signal: NodeJS.Signals): Promise<Ending> {
    this.process.kill(signal);
    return this.ended;
  }

  async #news(milliseconds: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#watchers.delete(done);
        resolve();
      };
      const timer = setTimeout(done, milliseconds);
      this.#watchers.add(done);
    });
  }

  #wake(): void {
    for (const watcher of this.#watchers) watcher();
  }
}

const daemons = new Set<Daemon>();
afterAll(async () => {
  for (const daemon of daemons) daemon.process.kill("SIGKILL");
  for (const daemon of daemons) await daemon.ended;
});

export interface HubDaemon extends Daemon {
  readonly address: string;
  readonly clientToken: string;
  readonly joinToken: string;
}

export interface HubOptions extends NodeProcess {
  readonly store?: string;
  readonly address?: string;
  readonly wrapper?: readonly string[];
}

/** A hub that only coordinates. With the store and the address of an earlier one it is that hub again. */
export async function startHub(options: HubOptions = {}): Promise<HubDaemon> {
  const store = options.store ?? join(await temporaryDirectory(), "hub");
  const listen = options.address ?? "127.0.0.1:0";
  const hub = new Daemon(
    ["up", "--listen", listen, "--workers", "0", "--store", store],
    options.wrapper,
    options,
  );
  const said = await hub.line(({ event }) => event === "listening");
  return Object.assign(hub, {
    address: String(said["address"]),
    clientToken: String(said["clientToken"]),
    joinToken: String(said["joinToken"]),
  });
}

export interface NodeOptions extends NodeProcess {
  readonly store?: string;
  /** False for one that nobody reaches but through the hub. */
  readonly listens?: boolean;
  readonly workers?: number;
  readonly wrapper?: readonly string[];
}

/** A node that has joined. */
export async function joinNode(
  joinToken: string,
  label: string,
  { store, listens = true, workers = 1, wrapper, ...how }: NodeOptions = {},
): Promise<Daemon> {
  const directory = store ?? join(await temporaryDirectory(), label);
  const words = ["join", joinToken, "--label", label, "--workers", String(workers), "--store", directory];
  if (listens) words.push("--listen", "127.0.0.1:0");
  const node = new Daemon(words, wrapper, how);
  await node.line(({ event }) => event === "joined");
  return node;
}
