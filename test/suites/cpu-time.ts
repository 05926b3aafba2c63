/** CPU time of other processes, read from outside: what tests count instead of milliseconds on a wall. */
import { readFileSync, readdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** Milliseconds that each thread of the process has used, by its number; of those that are gone, nothing. */
export function threadTimes(pid: number): Map<string, number> {
  return schedulingTimes(pid, 0);
}

/** Milliseconds that each thread of the process has waited for a core, ready to run, by its number. */
export function threadWaits(pid: number): Map<string, number> {
  return schedulingTimes(pid, 1);
}

function schedulingTimes(pid: number, column: number): Map<string, number> {
  const times = new Map<string, number>();
  for (const thread of contents(() => readdirSync(`/proc/${pid}/task`)) ?? []) {
    const text = contents(() => readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "latin1"));
    if (text !== undefined) times.set(thread, Number(text.split(" ")[column]) / 1e6);
  }
  return times;
}

/** Looks at a process again and again, and remembers the most that one of its threads has used since this began. */
export class BusiestThread {
  readonly #pid: number;
  readonly #before: ReadonlyMap<string, number>;
  readonly #timer: NodeJS.Timeout;
  milliseconds = 0;

  constructor(pid: number) {
    this.#pid = pid;
    this.#before = threadTimes(pid);
    this.#timer = setInterval(() => this.#look(), 5);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    for (const [thread, used] of threadTimes(this.#pid)) {
      this.milliseconds = Math.max(this.milliseconds, used - (this.#before.get(thread) ?? 0));
    }
  }
}

/** Resolves when one of the process's threads has used so much more than now; where nobody can tell, after a while. Rejects when it ends. */
export async function usesCpu(pid: number, milliseconds: number): Promise<void> {
  if (threadTimes(pid).size === 0) return sleep(milliseconds * 2);
  const busiest = new BusiestThread(pid);
  try {
    while (busiest.milliseconds < milliseconds) {
      await sleep(5);
      if (threadTimes(pid).size === 0) throw new Error(`process ${pid} has ended`);
    }
  } finally {
    busiest.close();
  }
}

function contents<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
