/**
 * Threads that do work for one of this process, so that it neither holds that one up nor waits for one core:
 *
 *   caller ── task ──▶ thread ── answer ──▶ caller
 *
 * They are started when they are first asked for, keep no process alive that has nothing to do, and end when nobody has needed
 * them for a while.
 */
import { availableParallelism } from "node:os";
import type { Worker } from "node:worker_threads";
import { POOL_THREADS_IDLE_MS, POOL_THREADS_MAX } from "./limits.ts";

/** Each answer has the number of its task. */
interface Numbered {
  readonly id: number;
}

interface Thread<Answer> {
  readonly worker: Worker;
  isReady: boolean;
  /** It is to end when it has no more tasks. */
  isEnding: boolean;
  /** Tasks that it has, by number. */
  readonly tasks: Map<number, (answer: Answer | undefined) => void>;
}

export class ThreadPool<Task extends Numbered, Answer extends Numbered> {
  readonly #make: () => Worker;
  readonly #idleMs: number;
  readonly #coresMin: number;
  #threads: Thread<Answer>[] = [];
  #nextId = 1;
  #idle: NodeJS.Timeout | undefined;
  /** A thread that ended by itself would do so again. */
  #hasFailed = false;

  /** `make` starts a thread; on a machine with fewer than `coresMin` cores none is. */
  constructor(
    make: () => Worker,
    { idleMs = POOL_THREADS_IDLE_MS, coresMin = 2 }: { idleMs?: number; coresMin?: number } = {},
  ) {
    this.#make = make;
    this.#idleMs = idleMs;
    this.#coresMin = coresMin;
  }

  /** Whether a thread is there; otherwise some are started, where the machine has cores for them. */
  ready(): boolean {
    if (this.#threads.length === 0 && !this.#hasFailed) this.#start();
    return this.#threads.some(({ isReady }) => isReady);
  }

  /** Resolves with undefined where the caller has to do it. */
  run(task: Omit<Task, "id">): Promise<Answer | undefined> {
    let least: Thread<Answer> | undefined;
    for (const thread of this.#threads) {
      if (thread.isReady && (least === undefined || thread.tasks.size < least.tasks.size)) least = thread;
    }
    const id = this.#nextId++;
    return new Promise((resolve) => {
      if (least === undefined) return resolve(undefined);
      if (least.tasks.size === 0) least.worker.ref();
      least.tasks.set(id, resolve);
      least.worker.postMessage({ ...task, id });
    });
  }

  /** What is under way is still answered. */
  close(): void {
    clearTimeout(this.#idle);
    this.#idle = undefined;
    const threads = this.#threads;
    this.#threads = [];
    for (const thread of threads) {
      thread.isEnding = true;
      if (thread.tasks.size === 0) void thread.worker.terminate();
    }
  }

  #start(): void {
    const cores = availableParallelism();
    if (cores < this.#coresMin) return;
    for (let count = Math.min(cores, POOL_THREADS_MAX); count > 0; count--) {
      const worker = this.#make();
      const thread: Thread<Answer> = { worker, isReady: false, isEnding: false, tasks: new Map() };
      this.#threads.push(thread);
      worker.unref();
      worker.on("online", () => (thread.isReady = true));
      worker.on("message", (answer: Answer) => this.#take(thread, answer));
      // What it was at is done by the caller, who meets the cause if it is one of the task.
      worker.on("error", () => (this.#hasFailed = true));
      worker.on("exit", () => this.#ended(thread));
    }
    this.#rest();
  }

  #take({ worker, tasks, isEnding }: Thread<Answer>, answer: Answer): void {
    const resolve = tasks.get(answer.id);
    tasks.delete(answer.id);
    if (tasks.size === 0) worker.unref();
    if (tasks.size === 0 && isEnding) void worker.terminate();
    this.#idle?.refresh();
    resolve?.(answer);
  }

  #ended(thread: Thread<Answer>): void {
    this.#threads = this.#threads.filter((each) => each !== thread);
    for (const resolve of thread.tasks.values()) resolve(undefined);
    thread.tasks.clear();
  }

  /** Ends them when nobody has asked for a while. */
  #rest(): void {
    this.#idle ??= setTimeout(() => {
      this.#idle = undefined;
      if (this.#threads.some(({ tasks }) => tasks.size > 0)) this.#rest();
      else this.close();
    }, this.#idleMs).unref();
  }
}
