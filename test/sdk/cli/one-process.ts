/**
 * Many command lines, one after the other, in a process that is started once: for tables of what commands say and end with. That
 * a process of a command's own says the same and ends so is what all other tests of commands see.
 */
import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { cleanEnvironment } from "./run-pfs.ts";

export interface Ended {
  status: number;
  /** What it wrote to stdout and stderr. */
  out: string;
  err: string;
}

export class OneProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(cwd: string, environment: Readonly<Record<string, string>> = {}): Promise<OneProcess> {
    const main = fileURLToPath(new URL("./one-process-main.ts", import.meta.url));
    const env = { ...(await cleanEnvironment()), ...environment };
    const one = new OneProcess(
      fork(main, { cwd, env, execArgv: [], stdio: ["ignore", "inherit", "inherit", "ipc"] }),
    );
    await one.#said();
    return one;
  }

  /** `pfs words…`, when those that were asked for before have ended. */
  run(words: readonly string[]): Promise<Ended> {
    const run = async (): Promise<Ended> => {
      this.#child.send(words);
      return (await this.#said()) as Ended;
    };
    const ended = this.#last.then(run);
    this.#last = ended.catch(() => undefined);
    return ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, "exit");
  }

  /** The next message; rejects when the process ends before it. */
  async #said(): Promise<unknown> {
    const over = new AbortController();
    const { signal } = over;
    const ended = once(this.#child, "exit", { signal }).then(([status]) => {
      throw new Error(`the process of commands ended with ${String(status)}`);
    });
    ended.catch(() => undefined);
    try {
      const [message] = await Promise.race([once(this.#child, "message", { signal }), ended]);
      return message as unknown;
    } finally {
      over.abort();
    }
  }
}
