/** Threads for packet code, started when so much was done that they are worth it, and ended when there is nothing to do. */
import { Worker } from "node:worker_threads";
import { builtUrl } from "../built.ts";
import type { LaneSlot } from "../lane-slots.ts";
import type { ThreadAnswer } from "./code-thread.ts";
import type { DirectOutcome, DirectWork } from "./direct-read.ts";

/** Ranges that a thread has at once: one that it runs, and the next one, so that it never waits for whoever hands them out. */
const RANGES_MAX = 2;

interface Thread {
  readonly worker: Worker;
  /** Those who wait for its answers, which come in the order of what was asked. */
  readonly waiting: ((answer: ThreadAnswer | undefined) => void)[];
}

export class CodeThreads {
  readonly #max: number;
  readonly #all = new Set<Thread>();

  /** `max`: threads at most. */
  constructor(max: number) {
    this.#max = max;
  }

  /** Ranges that all of them take at once. */
  get room(): number {
    return this.#max * RANGES_MAX;
  }

  /** Whether there is any. */
  get isRunning(): boolean {
    return this.#all.size > 0;
  }

  /** Runs a packet of the slot's lane there. Undefined where the thread ended, too: whoever asked has other ways. */
  async run(work: DirectWork, slot: LaneSlot): Promise<DirectOutcome> {
    const thread = this.#idlest();
    const answer = await new Promise<ThreadAnswer | undefined>((resolve) => {
      thread.waiting.push(resolve);
      thread.worker.postMessage(work);
    });
    if (answer !== undefined) slot.cpuMs += answer.cpuMs;
    return answer?.outcome;
  }

  /** Ends those that have nothing to do. */
  async rest(): Promise<void> {
    const idle = [...this.#all].filter(({ waiting }) => waiting.length === 0);
    for (const thread of idle) this.#all.delete(thread);
    await Promise.all(idle.map(({ worker }) => worker.terminate()));
  }

  async close(): Promise<void> {
    await Promise.all([...this.#all].map(({ worker }) => worker.terminate()));
  }

  #idlest(): Thread {
    let idlest: Thread | undefined;
    for (const thread of this.#all) {
      if (idlest === undefined || thread.waiting.length < idlest.waiting.length) idlest = thread;
    }
    const isIdle = idlest?.waiting.length === 0;
    if (idlest === undefined || (!isIdle && this.#all.size < this.#max)) return this.#start();
    return idlest;
  }

  #start(): Thread {
    const url = builtUrl(new URL("./code-thread.ts", import.meta.url));
    const worker = new Worker(url, { execArgv: [], name: "packetfs-code" });
    // Nobody stays for it who waits for nothing else.
    worker.unref();
    const thread: Thread = { worker, waiting: [] };
    this.#all.add(thread);
    worker.on("message", (answer: ThreadAnswer) => thread.waiting.shift()?.(answer));
    // It exits after that.
    worker.on("error", () => {});
    worker.on("exit", () => {
      this.#all.delete(thread);
      for (const settle of thread.waiting.splice(0)) settle(undefined);
    });
    return thread;
  }
}
