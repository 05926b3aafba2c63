/** Keeps every CPU busy beside a test, as other people's work does. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";

export class BusyLoops implements AsyncDisposable {
  readonly #processes: readonly ChildProcess[];

  constructor(count: number = availableParallelism()) {
    // Its parent's end ends it too, whatever that was.
    const script =
      "setInterval(() => { if (process.ppid === 1) process.exit(); const end = Date.now() + 90; while (Date.now() < end); }, 1)";
    this.#processes = Array.from({ length: count }, () =>
      spawn(process.execPath, ["-e", script], { stdio: "ignore" }),
    );
  }

  get count(): number {
    return this.#processes.length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = this.#processes.map((process) => once(process, "exit"));
    for (const process of this.#processes) process.kill("SIGKILL");
    await Promise.all(ended);
  }
}
