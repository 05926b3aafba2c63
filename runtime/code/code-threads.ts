/** Threads for packet code, started when there is so much to do that they are worth it, and ended when there is nothing. */
import { Worker } from "node:worker_threads";
import { builtUrl } from "../built.ts";
import type { LaneSlot } from "../lane-slots.ts";
import type { ThreadAnswer } from "./code-thread.ts";
import type { DirectOutcome, DirectWork } from "./direct-read.ts";

interface Thread {
  readonly worker: Worker;
  /** Whoever waits for its answer. */
  settle: ((answer: ThreadAnswer | undefined) => void) | undefined;
}

export class CodeThreads {
  readonly #max: number;
  readonly #free: Thread[] = [];
  readonly #all = new Set<Thread>();

  /** `max`: threads at most. */
  constructor(max: number) {
    this.#max = max;
  }

  /** Whether a thread is there that has nothing to do, or may be started. */
  get hasRoom(): boolean {
    return this.#free.length > 0 || this.#all.size < this.#max;
  }

  /** Whether there is any. */
  get isRunning(): boolean {
    return this.#all.size > 0;
  }

  /** Runs a packet of the slot's lane there; `hasRoom` holds. Undefined where the thread ended, too: whoever asked has other ways. */
  async run(work: DirectWork, slot: LaneSlot): Promise<DirectOutcome> {
    const thread = this.#free.pop() ?? this.#start();
    const answer = await new Promise<ThreadAnswer | undefined>((resolve) => {
      thread.settle = resolve;
      thread.worker.postMessage(work);
    });
    if (answer === undefined) return undefined;
    slot.cpuMs += answer.cpuMs;
    work.plan.isVerified.set(answer.isVerified);
    return answer.outcome;
  }

  /** Ends those that have nothing to do. */
  async rest(): Promise<void> {
    const idle = this.#free.splice(0);
    await Promise.all(idle.map(({ worker }) => worker.terminate()));
  }

  async close(): Promise<void> {
    await Promise.all([...this.#all].map(({ worker }) => worker.terminate()));
  }

  #start(): Thread {
    const url = builtUrl(new URL("./code-thread.ts", import.meta.url));
    const worker = new Worker(url, { execArgv: [], name: "packetfs-code" });
    // Nobody stays for it who waits for nothing else.
    worker.unref();
    const thread: Thread = { worker, settle: undefined };
    this.#all.add(thread);
    worker.on("message", (answer: ThreadAnswer) => {
      const { settle } = thread;
      thread.settle = undefined;
      this.#free.push(thread);
      settle?.(answer);
    });
    // It exits after that.
    worker.on("error", () => {});
    worker.on("exit", () => {
      this.#all.delete(thread);
      const index = this.#free.indexOf(thread);
      if (index >= 0) this.#free.splice(index, 1);
      thread.settle?.(undefined);
      thread.settle = undefined;
    });
    return thread;
  }
}
