/** The executors that jobs run on, which come and go while jobs run: the scheduler chooses among them. */
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

interface CandidateEvents {
  /** Returns the executor's number. */
  joined(executor: Executor): number;
  left(number: number, executor: Executor): void;
  /** All that came and went has been told. */
  synced(): void;
}

export class Candidates {
  readonly #set: ExecutorSet;
  readonly #events: CandidateEvents;
  readonly #executors = new Map<number, Executor>();
  readonly #finished = new WeakMap<Executor, number>();
  readonly #joined = new Set<(number: number, executor: Executor) => void>();
  readonly #unsubscribe: () => void;

  constructor(set: ExecutorSet, events: CandidateEvents) {
    this.#set = set;
    this.#events = events;
    this.#unsubscribe = set.subscribe(() => this.sync());
  }

  get executors(): ReadonlyMap<number, Executor> {
    return this.#executors;
  }

  numberOf(executor: Executor): number | undefined {
    for (const [number, other] of this.#executors) if (other === executor) return number;
    return undefined;
  }

  /** The executor finished so many packets more. */
  finished(executor: Executor, packets: number): void {
    this.#finished.set(executor, this.finishedBy(executor) + packets);
  }

  finishedBy(executor: Executor): number {
    return this.#finished.get(executor) ?? 0;
  }

  /** Takes note of what changed. */
  sync(): void {
    const present = new Set(this.#set.list());
    for (const [number, executor] of this.#executors) {
      if (present.delete(executor)) continue;
      this.#executors.delete(number);
      this.#events.left(number, executor);
    }
    for (const executor of present) {
      const number = this.#events.joined(executor);
      this.#executors.set(number, executor);
      for (const joined of this.#joined) joined(number, executor);
    }
    this.#events.synced();
  }

  /** Calls `joined` for each executor that comes from now on, until the returned function is called. */
  onJoined(joined: (number: number, executor: Executor) => void): () => void {
    this.#joined.add(joined);
    return () => void this.#joined.delete(joined);
  }

  close(): void {
    this.#unsubscribe();
  }
}
