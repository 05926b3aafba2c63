/**
 * The tasks of a batch that wait for an executor, and where their bytes are. Three ways through them:
 *
 *   local   tasks whose bytes are on this executor           ─▶ lowest first
 *   free    tasks whose bytes are nowhere in particular      ─▶ lowest first
 *   any     all tasks, also those another executor has       ◀─ highest first
 *
 * so that an executor with nothing of its own begins where the ones that have the bytes come last. Each way remembers how
 * far it is: walking a whole batch costs one look at each word.
 */

import type { Failure } from "./tasks.ts";

/** The tasks of which an executor holds at least half. */
interface Home {
  readonly set: Int32Array;
  /** No queued task stands in a word of the set before this one. */
  word: number;
}

/** What one executor may be given in one frame, and what it was given. */
export interface Take {
  readonly executor: number;
  readonly executorName: string;
  readonly lane: number;
  readonly now: number;
  readonly packetsMax: number;
  /** Reached or overstepped by the last task, so that a task of any size can be placed. */
  readonly bytesMax: number;
  /** Whether a task with these failures, one of them here, may come back: there is no executor on which it failed less. */
  readonly mayRepeat: (failures: readonly Failure[]) => boolean;
  readonly into: Uint32Array;
  count: number;
  bytes: number;
  isFull: boolean;
}

/** Takes the task out of the queue for good; false when it must not go there. */
export type Accept = (take: Take, task: number) => boolean;

export class TaskQueue {
  count = 0;
  readonly #set: Int32Array;
  /** Tasks that are in any home; undefined as long as none has one. */
  #homed: Int32Array | undefined;
  readonly #homes = new Map<number, Home>();
  readonly #accept: Accept;
  #freeWord = 0;
  #topWord = 0;

  constructor(tasks: number, accept: Accept) {
    this.#set = emptySet(tasks);
    this.#accept = accept;
  }

  has(task: number): boolean {
    return isInSet(this.#set, task);
  }

  /** The queued tasks among the 32 of a word. */
  wordAt(word: number): number {
    return this.#set[word]!;
  }

  add(task: number): void {
    addToSet(this.#set, task);
    this.count++;
    const word = task >>> 5;
    this.#freeWord = Math.min(this.#freeWord, word);
    this.#topWord = Math.max(this.#topWord, word);
    for (const home of this.#homes.values()) home.word = Math.min(home.word, word);
  }

  remove(task: number): void {
    removeFromSet(this.#set, task);
    this.count--;
  }

  /** The tasks of `set` have their bytes on the executor. Replaces what was known of it. */
  setHome(executor: number, set: Int32Array): void {
    this.#homes.set(executor, { set, word: 0 });
    this.#unite();
  }

  dropHome(executor: number): void {
    if (this.#homes.delete(executor)) this.#unite();
  }

  /** Whether the executor has the task's bytes, as far as it is known. */
  isHome(executor: number, task: number): boolean {
    const home = this.#homes.get(executor);
    return home !== undefined && isInSet(home.set, task);
  }

  homes(): IterableIterator<number> {
    return this.#homes.keys();
  }

  /** Whether the bytes of a queued task are on the executor. */
  hasLocal(executor: number): boolean {
    const home = this.#homes.get(executor);
    if (home === undefined) return false;
    while (home.word < home.set.length && (home.set[home.word]! & this.#set[home.word]!) === 0) home.word++;
    return home.word < home.set.length;
  }

  /** Whether the bytes of a queued task are nowhere in particular. */
  get hasFree(): boolean {
    const homed = this.#homed;
    if (homed === undefined) return this.count > 0;
    while (this.#freeWord < homed.length && (this.#set[this.#freeWord]! & ~homed[this.#freeWord]!) === 0)
      this.#freeWord++;
    return this.#freeWord < homed.length;
  }

  takeLocal(take: Take): void {
    const home = this.#homes.get(take.executor);
    if (home !== undefined) home.word = this.#ascend(take, home.word, home.set, 0);
  }

  takeFree(take: Take): void {
    this.#freeWord = this.#ascend(
      take,
      this.#freeWord,
      this.#homed ?? this.#set,
      this.#homed === undefined ? 0 : -1,
    );
  }

  takeAny(take: Take): void {
    let isClean = true;
    for (let word = this.#topWord; word >= 0; word--) {
      let bits = this.#set[word]!;
      while (bits !== 0 && !take.isFull) {
        const task = highestTask(word, bits);
        bits &= ~(1 << (task & 31));
        if (!this.#accept(take, task)) isClean = false;
      }
      if (take.isFull) return;
      if (isClean) this.#topWord = Math.max(0, word - 1);
    }
  }

  /** Offers the queued tasks that `set`, or with `invert` = -1 its complement, holds. Returns where to go on. */
  #ascend(take: Take, from: number, set: Int32Array, invert: number): number {
    let cursor = from;
    let isClean = true;
    for (let word = from; word < this.#set.length; word++) {
      let bits = this.#set[word]! & (set[word]! ^ invert);
      while (bits !== 0 && !take.isFull) {
        const task = lowestTask(word, bits);
        bits &= bits - 1;
        if (!this.#accept(take, task)) isClean = false;
      }
      if (take.isFull) return cursor;
      if (isClean) cursor = word + 1;
    }
    return cursor;
  }

  #unite(): void {
    this.#homed = this.#homes.size === 0 ? undefined : new Int32Array(this.#set.length);
    for (const { set } of this.#homes.values()) {
      for (let word = 0; word < set.length; word++) this.#homed![word]! |= set[word]!;
    }
    this.#freeWord = 0;
  }
}

// ── sets of task indexes: one bit a task, so that a million tasks are 128 KiB and whole words are skipped at once ──

/** An empty set over `count` tasks. */
export function emptySet(count: number): Int32Array {
  return new Int32Array((count + 31) >>> 5);
}

/** Puts all of `count` tasks in. */
export function fillSet(set: Int32Array, count: number): void {
  set.fill(-1);
  const used = count & 31;
  if (used !== 0) set[set.length - 1] = 2 ** used - 1;
}

export function isInSet(set: Int32Array, task: number): boolean {
  return (set[task >>> 5]! & (1 << (task & 31))) !== 0;
}

export function addToSet(set: Int32Array, task: number): void {
  set[task >>> 5]! |= 1 << (task & 31);
}

export function removeFromSet(set: Int32Array, task: number): void {
  set[task >>> 5]! &= ~(1 << (task & 31));
}

/** The lowest task in the word `bits`, which is not zero and stands at `word`. */
export function lowestTask(word: number, bits: number): number {
  return word * 32 + 31 - Math.clz32(bits & -bits);
}

/** The highest task in the word `bits`, which is not zero and stands at `word`. */
export function highestTask(word: number, bits: number): number {
  return word * 32 + 31 - Math.clz32(bits);
}
