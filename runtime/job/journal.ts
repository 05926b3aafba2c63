/**
 * What a job has so far: the answers of its tasks, level by level, which of them are there, and who made them. Together
 * with its plan, which follows from its input, that is all that a job would need to go on somewhere else. It is kept in
 * memory: a job ends with the process that runs it.
 *
 * A job of which several tasks fail ends with the fault of the first of them, by level and then by task, whichever was
 * answered first: as its answer, its error follows from program, arguments and inputs. So a fault is held until every task
 * before it is done, and what comes behind it is not wanted any more.
 */
import { Answers } from "./answers.ts";
import type { TaskRef } from "./merge-tree.ts";

interface Level {
  readonly answers: Answers;
  /** 1 for each task whose result is there. */
  readonly done: Uint8Array;
  /** 1 for each task whose answer was dropped. */
  readonly dropped: Uint8Array | undefined;
  missing: number;
}

export class Journal {
  readonly #levels: Level[];
  #fault: TaskRef | undefined;

  /** `counts`: tasks of each level. With `drops`, answers below the top are dropped when what takes them is written. */
  constructor(counts: readonly number[], drops = false) {
    this.#levels = counts.map((count, level) => openLevel(count, drops && level < counts.length - 1));
  }

  /** A level more, above the highest. */
  add(count: number): void {
    this.#levels.push(openLevel(count, false));
  }

  answersOf(level: number): Answers {
    return this.#levels[level]!.answers;
  }

  /** The RETURN packets of the tasks `start` to `end` of a level that are done. */
  resultsOf(level: number, start: number, end: number): Uint8Array {
    return this.answersOf(level).range(start, end);
  }

  /**
   * What takes the results of the tasks `start` to `end` stands in the job's own store. Where all of these stand in their
   * answers, none of them can get lost, and nothing of them is needed any more.
   */
  written(level: number, start: number, end: number): void {
    const { answers, dropped } = this.#levels[level]!;
    if (dropped === undefined) return;
    // With one that can get lost, what takes them is written again, of all of them.
    for (let task = start; task < end; task++) if (answers.isElsewhere(task)) return;
    for (let task = start; task < end; task++) {
      if (dropped[task] === 1) continue;
      dropped[task] = 1;
      answers.drop(task);
    }
  }

  isDone(level: number, task: number): boolean {
    return this.#levels[level]!.done[task] === 1;
  }

  /** Whether every task of the highest level is done. */
  get isComplete(): boolean {
    return this.#levels.at(-1)!.missing === 0;
  }

  /** Whether the task has a result that stands somewhere else than in its answer: it can get lost. */
  isStored(level: number, task: number): boolean {
    return this.isDone(level, task) && this.answersOf(level).isElsewhere(task);
  }

  /** The answer of the task is its result. */
  settle(level: number, task: number): void {
    const { done } = this.#levels[level]!;
    if (done[task] === 0) this.#levels[level]!.missing--;
    done[task] = 1;
  }

  /** The first task that is known to fail. */
  get fault(): TaskRef | undefined {
    return this.#fault;
  }

  /** A task that is wanted fails: it is the first from now on. */
  hold(place: TaskRef): void {
    this.#fault = place;
  }

  /** Whether the job's outcome may depend on the task: neither it nor one before it is known to fail. */
  isWanted(level: number, task: number): boolean {
    const fault = this.#fault;
    return fault === undefined || level < fault.level || (level === fault.level && task < fault.task);
  }

  /** Whether no task that could fail before the fault that is held is open. False without one. */
  get isFaultFinal(): boolean {
    const fault = this.#fault;
    if (fault === undefined) return false;
    const isOpen = this.#levels.slice(0, fault.level).some(({ missing }) => missing > 0);
    return !isOpen && this.#levels[fault.level]!.done.indexOf(0) === fault.task;
  }

  /** Those of the tasks `start` to `end` of a level that are not done. */
  openTasks(level: number, start: number, end: number): number[] {
    const { done } = this.#levels[level]!;
    const open: number[] = [];
    for (let task = start; task < end; task++) if (done[task] === 0) open.push(task);
    return open;
  }

  /** Results are gone. Returns those of the tasks that had one. */
  reopen(level: number, tasks: readonly number[]): number[] {
    const { done } = this.#levels[level]!;
    const lost = tasks.filter((task) => done[task] === 1);
    for (const task of lost) done[task] = 0;
    this.#levels[level]!.missing += lost.length;
    return lost;
  }
}

function openLevel(count: number, drops: boolean): Level {
  return {
    answers: new Answers(count, drops),
    done: new Uint8Array(count),
    dropped: drops ? new Uint8Array(count) : undefined,
    missing: count,
  };
}
