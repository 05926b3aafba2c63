/**
 * Who needs whose results. Level 0 are the maps; each level above merges groups of MERGE_FAN_IN results of neighbours into
 * one, until few are left for the one finish on top. Groups depend on nothing but the number of tasks, so a result is the
 * same to the last bit however the work was placed. Whoever combines results early, on a node or before they are moved, has
 * to combine whole subtrees of this tree, each task's in their order.
 *
 *   finish             0
 *                  ╱   │   ╲
 *   merges      0      1     2
 *             ╱╱╲╲   ╱╱╲╲   ╱╲
 *   maps     0 … 31 32 … 63 64 65
 */
import { MERGE_FAN_IN } from "../limits.ts";

export interface TaskRef {
  readonly level: number;
  readonly task: number;
}

/** What has to be done when results are gone. */
export interface Repair {
  /** Inputs are there: they run again. */
  readonly redo: readonly TaskRef[];
  /** Wait until their inputs are there again. */
  readonly withdraw: readonly TaskRef[];
}

export class MergeTree {
  /** Tasks of each level, the maps first. */
  readonly counts: readonly number[];
  readonly #fanIns: readonly number[];
  /** Inputs that each task of a level still waits for; none for the maps. */
  readonly #missing: readonly Uint32Array[];

  /** `top`: whether a finish follows; `merges`: whether groups are merged before it. */
  constructor(maps: number, shape: { readonly top: boolean; readonly merges: boolean }) {
    const counts = [maps];
    const fanIns = [0];
    let left = maps;
    while (shape.top && shape.merges && left > MERGE_FAN_IN) {
      left = Math.ceil(left / MERGE_FAN_IN);
      counts.push(left);
      fanIns.push(MERGE_FAN_IN);
    }
    if (shape.top) {
      counts.push(1);
      fanIns.push(Math.max(1, left));
    }
    this.counts = counts;
    this.#fanIns = fanIns;
    this.#missing = counts.map((count, level) =>
      Uint32Array.from(
        { length: level === 0 ? 0 : count },
        (_, task) => this.inputsEnd(level, task) - this.inputsStart(level, task),
      ),
    );
  }

  get top(): number {
    return this.counts.length - 1;
  }

  /** The first of the tasks of the level below whose results the task takes. */
  inputsStart(level: number, task: number): number {
    return task * this.#fanIns[level]!;
  }

  /** The one behind the last of them. */
  inputsEnd(level: number, task: number): number {
    return Math.min(this.counts[level - 1]!, (task + 1) * this.#fanIns[level]!);
  }

  /** The task has its result. Returns the task of the level above that can run because of it, or -1. */
  settled(level: number, task: number): number {
    if (level === this.top) return -1;
    const consumer = this.#consumerOf(level, task);
    return --this.#missing[level + 1]![consumer]! === 0 ? consumer : -1;
  }

  /** The task's result is gone: what takes it waits for it again. */
  reopened(level: number, task: number): void {
    if (level < this.top) this.#missing[level + 1]![this.#consumerOf(level, task)]!++;
  }

  /** Whether all inputs of the task are there. */
  isReady(level: number, task: number): boolean {
    return level === 0 || this.#missing[level]![task] === 0;
  }

  /**
   * What to repeat so that every result still needed can come about. `isDone` counts results that are gone as done. The
   * tree takes them as reopened from here on.
   */
  repair(
    isDone: (level: number, task: number) => boolean,
    isGone: (level: number, task: number) => boolean,
  ): Repair {
    const redo: TaskRef[] = [];
    const withdraw: TaskRef[] = [];

    /** Whether the task's result is there. */
    const visit = (level: number, task: number): boolean => {
      const wasDone = isDone(level, task);
      if (wasDone && !isGone(level, task)) return true;
      const wasReady = this.isReady(level, task);
      if (level > 0) {
        const end = this.inputsEnd(level, task);
        for (let input = this.inputsStart(level, task); input < end; input++) visit(level - 1, input);
      }
      if (wasDone) this.reopened(level, task);
      const isReady = this.isReady(level, task);
      if (wasDone && isReady) redo.push({ level, task });
      else if (wasDone || (wasReady && !isReady)) withdraw.push({ level, task });
      return false;
    };

    for (let task = 0; task < this.counts[this.top]!; task++) visit(this.top, task);
    return { redo, withdraw };
  }

  #consumerOf(level: number, task: number): number {
    return Math.floor(task / this.#fanIns[level + 1]!);
  }
}
