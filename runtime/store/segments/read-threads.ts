/**
 * Threads that read and verify for a store, so that many bytes neither hold up the caller's thread nor wait for one core to hash them.
 *
 *   reader ── run ──▶ thread: read, decompress, hash ── its buffer ──▶ reader
 */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { builtUrl } from "../../built.ts";
import { READ_THREADS_IDLE_MS, READ_THREADS_MAX } from "../../limits.ts";
import type { FromReadThread, RunToRead } from "./read-protocol.ts";

interface Thread {
  readonly worker: Worker;
  isReady: boolean;
  /** It is to end when it has no more runs. */
  isEnding: boolean;
  /** Runs that it has, by number. */
  readonly runs: Map<number, (answer: FromReadThread | undefined) => void>;
}

export class ReadThreads {
  #threads: Thread[] = [];
  #nextId = 1;
  #idle: NodeJS.Timeout | undefined;
  /** A thread that ended by itself would do so again. */
  #hasFailed = false;

  /** Whether a thread is there to read; otherwise some are started, where the machine has cores for them. */
  ready(): boolean {
    if (this.#threads.length === 0 && !this.#hasFailed) this.#start();
    return this.#threads.some(({ isReady }) => isReady);
  }

  /** Resolves with undefined where the run has to be read by the caller. */
  read(run: Omit<RunToRead, "id">): Promise<FromReadThread | undefined> {
    let least: Thread | undefined;
    for (const thread of this.#threads) {
      if (thread.isReady && (least === undefined || thread.runs.size < least.runs.size)) least = thread;
    }
    const id = this.#nextId++;
    return new Promise((resolve) => {
      if (least === undefined) return resolve(undefined);
      if (least.runs.size === 0) least.worker.ref();
      least.runs.set(id, resolve);
      least.worker.postMessage({ ...run, id } satisfies RunToRead);
    });
  }

  /** What is being read still comes. */
  close(): void {
    clearTimeout(this.#idle);
    this.#idle = undefined;
    const threads = this.#threads;
    this.#threads = [];
    for (const thread of threads) {
      thread.isEnding = true;
      if (thread.runs.size === 0) void thread.worker.terminate();
    }
  }

  #start(): void {
    const cores = availableParallelism();
    if (cores < 2) return;
    const url = builtUrl(new URL("./read-thread.ts", import.meta.url));
    for (let count = Math.min(cores, READ_THREADS_MAX); count > 0; count--) {
      const worker = new Worker(url, { execArgv: [], name: "packetfs-read" });
      const thread: Thread = { worker, isReady: false, isEnding: false, runs: new Map() };
      this.#threads.push(thread);
      worker.unref();
      worker.on("online", () => (thread.isReady = true));
      worker.on("message", (answer: FromReadThread) => this.#take(thread, answer));
      // What it was at is read by the caller, who meets the cause if it is one of the bytes.
      worker.on("error", () => (this.#hasFailed = true));
      worker.on("exit", () => this.#ended(thread));
    }
    this.#rest();
  }

  #take({ worker, runs, isEnding }: Thread, answer: FromReadThread): void {
    const resolve = runs.get(answer.id);
    runs.delete(answer.id);
    if (runs.size === 0) worker.unref();
    if (runs.size === 0 && isEnding) void worker.terminate();
    this.#idle?.refresh();
    resolve?.(answer);
  }

  #ended(thread: Thread): void {
    this.#threads = this.#threads.filter((each) => each !== thread);
    for (const resolve of thread.runs.values()) resolve(undefined);
    thread.runs.clear();
  }

  /** Ends them when nobody has read for a while. */
  #rest(): void {
    this.#idle ??= setTimeout(() => {
      this.#idle = undefined;
      if (this.#threads.some(({ runs }) => runs.size > 0)) this.#rest();
      else this.close();
    }, READ_THREADS_IDLE_MS).unref();
  }
}
