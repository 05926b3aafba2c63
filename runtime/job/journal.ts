/**
 * What a job has so far: the answers of its tasks, level by level, which of them are there, and who made them. Together
 * with its plan, which follows from its input, that is all that a job would need to go on somewhere else. It is kept in
 * memory: a job ends with the process that runs it.
 *
 * A job of which several tasks fail ends with the fault of the first of them, by level and then by task, whichever was
 * answered first: as its answer, its error follows from program, arguments and inputs. So a fault is held until every task
 * before it is done, and what comes behind it is not wanted any more.
 */
import { Flag, PACKET_BYTES } from "../../packets/layout.ts";
import { flagsAt } from "../../packets/packet.ts";
import type { TaskRef } from "./merge-tree.ts";

/** The answers to the tasks of one level, where the batch that runs them puts them. */
export interface Answers {
  /** A RETURN or FAULT packet for each task that was answered, n × 64 bytes. */
  readonly packets: Uint8Array;
  /** The lane that each answer came from; 0 = none. */
  readonly makers: Int32Array;
}

export function emptyAnswers(tasks: number): Answers {
  return { packets: new Uint8Array(tasks * PACKET_BYTES), makers: new Int32Array(tasks) };
}

interface Level {
  readonly answers: Answers;
  /** 1 for each task whose result is there. */
  readonly done: Uint8Array;
  missing: number;
}

export class Journal {
  readonly #levels: Level[];
  #fault: TaskRef | undefined;

  /** `counts`: tasks of each level. */
  constructor(counts: readonly number[]) {
    this.#levels = counts.map(openLevel);
  }

  /** A level more, above the highest. */
  add(count: number): void {
    this.#levels.push(openLevel(count));
  }

  answersOf(level: number): Answers {
    return this.#levels[level]!.answers;
  }

  /** The RETURN packets of the tasks `start` to `end` of a level that are done. */
  resultsOf(level: number, start: number, end: number): Uint8Array {
    return this.answersOf(level).packets.subarray(start * PACKET_BYTES, end * PACKET_BYTES);
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
    return this.isDone(level, task) && (flagsAt(this.answersOf(level).packets, task) & Flag.INLINE) === 0;
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

function openLevel(count: number): Level {
  return { answers: emptyAnswers(count), done: new Uint8Array(count), missing: count };
}
