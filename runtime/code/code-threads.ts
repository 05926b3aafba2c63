/** Threads for packet code, started when so much was done that they are worth it, and ended when there is nothing to do. */
import { Worker } from "node:worker_threads";
import { builtUrl } from "../built.ts";
import type { ThreadAnswer, ThreadMessage } from "./code-thread.ts";
import type { DirectOutcome, DirectWork } from "./direct-read.ts";
import type { Meter } from "./piecewise.ts";

/** Ranges that a thread has at once: one that it runs, and the next one, so that it never waits for whoever hands them out. */
const RANGES_MAX = 2;

interface Thread {
  readonly worker: Worker;
  /** Those who wait for its answers, which come in the order of what was asked. */
  readonly waiting: ((answer: ThreadAnswer | undefined) => void)[];
  isReady: boolean;
}

export class CodeThreads {
  readonly #max: number;
  readonly #onReady: () => void;
  readonly #all = new Set<Thread>();
  #isStarted = false;

  /** `max`: threads at most. `onReady` is called for each that was started and now takes ranges. */
  constructor(max: number, onReady: () => void) {
    this.#max = max;
    this.#onReady = onReady;
  }

  /** Ranges that those which are ready take at once. */
  get room(): number {
    let ready = 0;
    for (const { isReady } of this.#all) if (isReady) ready++;
    return ready * RANGES_MAX;
  }

  /** Whether there is one that can be given work. */
  get isReady(): boolean {
    return this.#idlest() !== undefined;
  }

  /** Starts all of them, once. */
  start(): void {
    if (this.#isStarted) return;
    this.#isStarted = true;
    for (let count = 0; count < this.#max; count++) this.#start();
  }

  /** Runs a packet there. Undefined where there is no thread any more, too: whoever asked has other ways. */
  async run(work: DirectWork, meter: Meter): Promise<DirectOutcome> {
    const thread = this.#idlest();
    if (thread === undefined) return undefined;
    const { waiting, worker } = thread;
    const answer = await new Promise<ThreadAnswer | undefined>((resolve) => {
      if (waiting.push(resolve) === 1) worker.ref();
      worker.postMessage(work);
    });
    if (waiting.length === 0) worker.unref();
    if (answer !== undefined) meter.cpuMs += answer.cpuMs;
    return answer?.outcome;
  }

  /** Ends those that have nothing to do; they may be started again. */
  async rest(): Promise<void> {
    const idle = [...this.#all].filter(({ waiting }) => waiting.length === 0);
    for (const thread of idle) this.#all.delete(thread);
    if (this.#all.size === 0) this.#isStarted = false;
    await Promise.all(idle.map(({ worker }) => worker.terminate()));
  }

  async close(): Promise<void> {
    await Promise.all([...this.#all].map(({ worker }) => worker.terminate()));
  }

  #idlest(): Thread | undefined {
    let idlest: Thread | undefined;
    for (const thread of this.#all) {
      if (!thread.isReady) continue;
      if (idlest === undefined || thread.waiting.length < idlest.waiting.length) idlest = thread;
    }
    return idlest;
  }

  #start(): void {
    const url = builtUrl(new URL("./code-thread.ts", import.meta.url));
    const worker = new Worker(url, { execArgv: [], name: "packetfs-code" });
    // A process stays for its answers, and not for more of them to be asked.
    worker.unref();
    const thread: Thread = { worker, waiting: [], isReady: false };
    this.#all.add(thread);
    // It exits after that.
    worker.on("error", () => {});
    worker.on("message", (message: ThreadMessage) => {
      if (message.kind === "answer") return thread.waiting.shift()?.(message);
      thread.isReady = true;
      this.#onReady();
    });
    worker.on("exit", () => {
      this.#all.delete(thread);
      for (const settle of thread.waiting.splice(0)) settle(undefined);
    });
  }
}
