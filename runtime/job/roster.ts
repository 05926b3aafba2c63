/** The executors that are there, by the number that the scheduler knows them by. */
import type { Executor } from "../contracts/executor.ts";
import type { ExecutorSet } from "./executor-set.ts";

export interface RosterEvents {
  /** Returns the executor's number. */
  joined(executor: Executor): number;
  left(number: number, executor: Executor): void;
  /** The roster is as it should be. */
  synced(): void;
}

export class Roster {
  readonly #set: ExecutorSet;
  readonly #events: RosterEvents;
  readonly #executors = new Map<number, Executor>();
  readonly #finished = new WeakMap<Executor, number>();
  readonly #joined = new Set<(number: number, executor: Executor) => void>();
  readonly #unsubscribe: () => void;

  constructor(set: ExecutorSet, events: RosterEvents) {
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
