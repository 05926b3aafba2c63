/** The executors that jobs run on. They come and go while jobs run. */
import type { Executor } from "../contracts/executor.ts";

export interface ExecutorSet {
  /** Those that are there now. One that was lost and is back is another object. */
  list(): readonly Executor[];
  /** Calls `changed` after each change, until the returned function is called. */
  subscribe(changed: () => void): () => void;
}

/** A set that others add to and remove from. */
export class ExecutorList implements ExecutorSet {
  readonly #executors = new Set<Executor>();
  readonly #listeners = new Set<() => void>();

  constructor(executors: Iterable<Executor> = []) {
    for (const executor of executors) this.#executors.add(executor);
  }

  list(): readonly Executor[] {
    return [...this.#executors];
  }

  subscribe(changed: () => void): () => void {
    this.#listeners.add(changed);
    return () => void this.#listeners.delete(changed);
  }

  add(executor: Executor): void {
    this.#executors.add(executor);
    this.#changed();
  }

  /** Everything in flight on it is placed again elsewhere. */
  remove(executor: Executor): void {
    if (this.#executors.delete(executor)) this.#changed();
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }
}
