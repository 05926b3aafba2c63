/**
 * What becomes of each task of a batch, as columns of numbers: a million tasks cost about 30 MB and no objects.
 *
 *              release            take                 answered
 *   waiting ───────────▶ queued ──────────▶ placed ──────────────▶ done
 *      ▲                    ▲  ▲              │ │ lane lost,          │
 *      │                    │  └──────────────┘ │ failed there        │ redo: its result is gone
 *      │  withdraw          └───────────────────┼─────────────────────┘
 *      └────────────────────────────────────────┘
 *
 * A placed task has one lane, or two while a second copy runs. A task that is done or withdrawn keeps the lane whose answer
 * is still to come, so that the answer is known when it arrives.
 */
import { TASK_FAULTS_MAX, TASK_LOSSES_MAX } from "../limits.ts";
import { StrikeReason } from "./actions.ts";
import type { ExecutorState } from "./state.ts";
import { TaskQueue, addToSet, emptySet, fillSet, isInSet, lowestTask, removeFromSet } from "./task-queue.ts";
import type { Take } from "./task-queue.ts";

/** From here on, copies follow each other at the same distance. */
const COPIES_COUNTED = 16;

/** What an answer finds: nothing that awaits it, a task that needs it no more, a task that needs it. */
export const Awaited = { no: 0, late: 1, yes: 2 } as const;
export type Awaited = (typeof Awaited)[keyof typeof Awaited];

/** What came of a task on an executor since the task last had an answer; there are few of these. */
export interface Failure {
  /** Its name: one that leaves and comes back is the same one. */
  readonly executor: string;
  /** What it is to the executor when another one answers the task. */
  reason: StrikeReason | undefined;
  /** How often the executor failed the task, did not get its input, and lost it with a lane. */
  faults: number;
  misses: number;
  losses: number;
}

/** Whether an executor that is none of these, by name, can be expected to run the task. */
export type IsElsewherePossible = (than: readonly string[]) => boolean;

export interface LostLane {
  /** The name of its executor. */
  readonly executor: string;
  readonly reason?: StrikeReason | undefined;
  readonly isElsewherePossible: IsElsewherePossible;
  readonly givenUp: (task: number) => void;
}

const NONE: readonly Failure[] = [];

export class TaskTable {
  readonly count: number;
  /** Input bytes of each task. */
  readonly bytes: Float64Array;
  readonly queue: TaskQueue;
  placedCount = 0;
  doneCount = 0;
  readonly #waiting: Int32Array;
  readonly #done: Int32Array;
  readonly #lane: Int32Array;
  /** Of second copies, and how many there were since the task was placed; most batches have none. */
  #copyLane: Int32Array | undefined;
  #copies: Uint8Array | undefined;
  readonly #placedAt: Float64Array;
  /** Of the few tasks that failed somewhere and are not done. */
  readonly #failures = new Map<number, Failure[]>();
  /** Queued tasks that failed on 1, 2, … executors, where they should not run. */
  readonly #failedOnCounts: number[] = [];
  /** All tasks before this word are done. */
  #openWord = 0;

  /** All tasks are waiting at first. `bytes` is the table's from now on. */
  constructor(bytes: Float64Array) {
    const count = bytes.length;
    this.count = count;
    this.bytes = bytes;
    this.queue = new TaskQueue(count, (take, task) => this.#take(take, task));
    this.#waiting = emptySet(count);
    fillSet(this.#waiting, count);
    this.#done = emptySet(count);
    this.#lane = new Int32Array(count);
    this.#placedAt = new Float64Array(count);
  }

  isDone(task: number): boolean {
    return isInSet(this.#done, task);
  }

  /** When the task was placed last, in the caller's milliseconds. */
  placedAt(task: number): number {
    return this.#placedAt[task]!;
  }

  /** Second copies since it was placed. */
  copiesOf(task: number): number {
    return this.#copies?.[task] ?? 0;
  }

  /** The lane that has the task, and the one that has its second copy; 0 = none. */
  laneOf(task: number): number {
    return this.#lane[task]!;
  }

  copyLaneOf(task: number): number {
    return this.#copyLane?.[task] ?? 0;
  }

  /** The largest number of executors that a queued task failed on. */
  get spread(): number {
    for (let spread = this.#failedOnCounts.length - 1; spread > 0; spread--)
      if ((this.#failedOnCounts[spread] ?? 0) > 0) return spread;
    return 0;
  }

  /** Where the task failed, or was lost, since it last had an answer. */
  failuresOf(task: number): readonly Failure[] {
    return this.#failures.size === 0 ? NONE : (this.#failures.get(task) ?? NONE);
  }

  /** Calls `tell` for each executor that failed the task for a reason that `executor`, which answered it, disproves. */
  disproved(
    task: number,
    executor: ExecutorState,
    tell: (other: string, reason: StrikeReason) => void,
  ): void {
    if (this.#failures.size === 0) return;
    for (const { executor: other, reason } of this.failuresOf(task)) {
      // Who has the bytes says nothing of whether others could get them.
      const isFair = reason !== StrikeReason.input || !this.queue.isHome(executor.id, task);
      if (reason !== undefined && other !== executor.name && isFair) tell(other, reason);
    }
  }

  /** A waiting task may run; any other is left as it is. */
  release(task: number): void {
    if (!isInSet(this.#waiting, task)) return;
    removeFromSet(this.#waiting, task);
    if (this.#lane[task] === 0 && !this.isDone(task)) this.#enter(task);
  }

  /** The task's input is gone: it runs no more until it is released again. An answer under way still counts. */
  withdraw(task: number): void {
    this.#undo(task);
    if (this.queue.has(task)) this.#leave(task);
    addToSet(this.#waiting, task);
    this.#forgetFaults(task);
  }

  /** The task's result is gone: it runs again. */
  redo(task: number): void {
    if (!this.isDone(task)) return;
    this.#undo(task);
    if (this.#lane[task] === 0 && !isInSet(this.#waiting, task)) this.#enter(task);
  }

  /** `held[task]` bytes of each task's input are on the executor. Replaces what was known of it. */
  setHome(executor: number, held: Float64Array): void {
    const set = emptySet(this.count);
    for (let task = 0; task < this.count; task++) {
      if (held[task]! > 0 && held[task]! * 2 >= this.bytes[task]!) addToSet(set, task);
    }
    this.queue.setHome(executor, set);
  }

  /**
   * A second copy of a placed task is sent to `lane`. With two out already the older one is written off: its lane is
   * returned, otherwise 0.
   */
  copy(task: number, lane: number, now: number): number {
    this.#copyLane ??= new Int32Array(this.count);
    this.#copies ??= new Uint8Array(this.count);
    const writtenOff = this.#copyLane[task] === 0 ? 0 : this.#lane[task]!;
    if (writtenOff !== 0) this.#lane[task] = this.#copyLane[task]!;
    this.#copyLane[task] = lane;
    this.#copies[task] = Math.min(COPIES_COUNTED, this.#copies[task]! + 1);
    this.#placedAt[task] = now;
    return writtenOff;
  }

  /** Placed tasks that take longer than `patience` milliseconds, twice that for each copy. Returns how many. */
  overdue(now: number, patience: number, into: Uint32Array): number {
    let count = 0;
    while (this.#openWord < this.#done.length && this.#done[this.#openWord] === -1) this.#openWord++;
    for (let word = this.#openWord; word < this.#done.length; word++) {
      let bits = ~(this.#done[word]! | this.queue.wordAt(word) | this.#waiting[word]!);
      while (bits !== 0) {
        const task = lowestTask(word, bits);
        bits &= bits - 1;
        if (task >= this.count) continue;
        if (now - this.#placedAt[task]! <= patience * 2 ** this.copiesOf(task)) continue;
        if (count === into.length) return count;
        into[count++] = task;
      }
    }
    return count;
  }

  /** `lane` said something of the task. */
  answered(task: number, lane: number): Awaited {
    if (this.#lane[task] === lane) this.#lane[task] = this.copyLaneOf(task);
    else if (this.copyLaneOf(task) !== lane) return Awaited.no;
    if (this.#copyLane !== undefined) this.#copyLane[task] = 0;
    if (this.isDone(task)) return Awaited.late;
    if (this.#lane[task] === 0) this.placedCount--;
    return Awaited.yes;
  }

  /** After an answer that is accepted, or when the task is given up. */
  settle(task: number): void {
    if (this.#lane[task] !== 0) this.placedCount--;
    removeFromSet(this.#waiting, task);
    addToSet(this.#done, task);
    if (this.#failures.size > 0) this.#failures.delete(task);
    this.doneCount++;
  }

  /**
   * After a failure that another executor may not have. False when the task had enough of them, of which no executor can
   * have its way alone: on TASK_FAULTS_MAX executors, or so many on each that there is, or when each misses its input. An
   * executor that fails it for no reason that could be held against it is not asked again.
   */
  again(
    task: number,
    executor: string,
    reason: StrikeReason | undefined,
    isElsewherePossible: IsElsewherePossible,
  ): boolean {
    const failure = this.#failed(task, executor, reason);
    const isMiss = reason === StrikeReason.input;
    if (isMiss) failure.misses++;
    else failure.faults += reason === undefined ? TASK_FAULTS_MAX : 1;
    const failures = this.failuresOf(task);
    const misses = failures.reduce((sum, each) => sum + each.misses, 0);
    const isSpent = (each: Failure): boolean =>
      each.faults + each.misses >= TASK_FAULTS_MAX ||
      (isMiss && each.misses > 0 && misses >= TASK_FAULTS_MAX);
    const failed = failures.filter((each) => each.faults + each.misses > 0 && each.reason !== undefined);
    if (failed.length >= TASK_FAULTS_MAX) return false;
    if (isSpent(failure)) {
      const spent = failures.filter(isSpent).map((each) => each.executor);
      if (!isElsewherePossible(spent)) return false;
    }
    if (this.#lane[task] === 0 && !isInSet(this.#waiting, task)) this.#enter(task);
    return true;
  }

  /**
   * The lane is gone. Tasks that only it had are queued again, to run elsewhere, which is a strike for its executor if there
   * is a reason. They are given up when TASK_LOSSES_MAX executors lost them; or when they were lost as often in all, and
   * each executor that there is lost them at least half as often. Returns how many are queued again.
   */
  laneLost(lane: number, { executor, reason, isElsewherePossible, givenUp }: LostLane): number {
    let again = 0;
    for (let task = 0; task < this.count; task++) {
      if (this.#lane[task] !== lane && this.copyLaneOf(task) !== lane) continue;
      if (this.answered(task, lane) !== Awaited.yes || this.#lane[task] !== 0) continue;
      if (isInSet(this.#waiting, task)) continue;
      this.#failed(task, executor, reason).losses++;
      if (this.#isLostForGood(this.failuresOf(task), isElsewherePossible)) {
        this.settle(task);
        givenUp(task);
      } else {
        this.#enter(task);
        again++;
      }
    }
    return again;
  }

  #isLostForGood(failures: readonly Failure[], isElsewherePossible: IsElsewherePossible): boolean {
    const losers = failures.filter(({ losses }) => losses > 0);
    if (losers.length >= TASK_LOSSES_MAX) return true;
    if (losers.reduce((sum, { losses }) => sum + losses, 0) < TASK_LOSSES_MAX) return false;
    const spent = losers.filter(({ losses }) => losses >= TASK_LOSSES_MAX / 2);
    return !isElsewherePossible(spent.map((each) => each.executor));
  }

  #take(take: Take, task: number): boolean {
    if (this.#failures.size > 0) {
      const failures = this.failuresOf(task);
      const isKnown = failures.some(({ executor }) => executor === take.executorName);
      if (isKnown && !take.mayRepeat(failures)) return false;
    }
    this.#leave(task);
    this.#lane[task] = take.lane;
    if (this.#copyLane !== undefined) this.#copyLane[task] = 0;
    if (this.#copies !== undefined) this.#copies[task] = 0;
    this.#placedAt[task] = take.now;
    this.placedCount++;
    take.into[take.count++] = task;
    take.bytes += this.bytes[task]!;
    take.isFull = take.count >= take.packetsMax || take.bytes >= take.bytesMax;
    return true;
  }

  #enter(task: number): void {
    this.queue.add(task);
    if (this.#failures.size > 0) this.#countFailures(task, 1);
  }

  #leave(task: number): void {
    this.queue.remove(task);
    if (this.#failures.size > 0) this.#countFailures(task, -1);
  }

  /** The task is queued, or is so no more. */
  #countFailures(task: number, by: number): void {
    const spread = this.failuresOf(task).length;
    if (spread > 0) this.#failedOnCounts[spread] = (this.#failedOnCounts[spread] ?? 0) + by;
  }

  /** Of a task that is not queued. */
  #failed(task: number, executor: string, reason: StrikeReason | undefined): Failure {
    const failures = this.#failures.get(task) ?? [];
    this.#failures.set(task, failures);
    let failure = failures.find((each) => each.executor === executor);
    if (failure === undefined) {
      failure = { executor, reason, faults: 0, misses: 0, losses: 0 };
      failures.push(failure);
    }
    failure.reason ??= reason;
    return failure;
  }

  /** What it failed by is over. How often it was lost is not: it may be that no executor survives it. */
  #forgetFaults(task: number): void {
    const lost = this.failuresOf(task).filter(({ losses }) => losses > 0);
    if (lost.length === 0) this.#failures.delete(task);
    else
      this.#failures.set(
        task,
        lost.map(({ executor, losses }) => ({ executor, losses, reason: undefined, faults: 0, misses: 0 })),
      );
  }

  #undo(task: number): void {
    if (!this.isDone(task)) return;
    removeFromSet(this.#done, task);
    this.doneCount--;
    this.#openWord = Math.min(this.#openWord, task >>> 5);
    if (this.#lane[task] !== 0) this.placedCount++;
  }
}
