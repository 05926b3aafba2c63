/**
 * Who needs whose results. Level 0 are the maps; each level above merges groups of neighbours' results into one, until few
 * are left for the finish on top. Groups depend on nothing but the number of tasks, so a result is the same to the last bit
 * however the work was placed. Whoever combines results early, on a node or before they are moved, has to combine whole
 * subtrees of this tree, each task's in their order.
 *
 *   finish             0
 *                  ╱   │   ╲
 *   merges      0      1     2
 *             ╱╱╲╲   ╱╱╲╲   ╱╲
 *   maps     0 … 31 32 … 63 64 65
 *
 * Where results are groups, each merge and the finish is split by the hashes of keys into partitions, so many that each has
 * about PARTITION_BYTES to take in. That follows from how long the results below are, which follows from program and input, so such a
 * tree grows: a level is added when all of the one below is there. Each partition of the finish leaves a sorted run, and
 * the order on top makes one sequence of them, in as many parts as their length says.
 *
 *   order           0   1   2          each takes its range of keys from all runs
 *                   │ ╳ │ ╳ │
 *   finish          0   1   2   3      each takes the keys of its partition from all results
 *                   │ ╳ │ ╳ │ ╳ │
 *   maps            0   1   2   …
 */
import {
  GROUPS_FAN_IN,
  LISTS_FAN_IN,
  MERGE_FAN_IN,
  ORDER_BYTES,
  ORDER_PARTS_MAX,
  PARTITION_BYTES,
  PARTITIONS_MAX,
} from "../limits.ts";

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

/** What the tasks of a level run. */
export type TreeEntry = "map" | "merge" | "finish" | "order";

export interface TreeShape {
  /** Whether a finish follows the maps, */
  readonly top: boolean;
  /** and whether groups are merged before it. */
  readonly merges: boolean;
  /** Whether results are groups, which are partitioned; with `ordered` false all of them are wanted at one place at the end. */
  readonly groups?: { readonly ordered: boolean };
}

interface Level {
  readonly entry: TreeEntry;
  /** Results that stand side by side: each has all keys of its part of the input. */
  readonly groups: number;
  /** Tasks that share the keys of a group: task = group × partitions + partition. */
  readonly partitions: number;
  /** Groups of the level below that one group takes. */
  readonly fanIn: number;
  /** Inputs that each task still waits for; none for the maps. */
  readonly missing: Uint32Array;
}

/** What a task on a level above the maps takes in: of each of the groups below, what its partition needs. */
export interface TaskInputs {
  readonly groupsStart: number;
  readonly groupsEnd: number;
  readonly partition: number;
  readonly partitions: number;
  /** Tasks of the level below, in the order in which their results are taken. */
  readonly tasks: readonly number[];
}

const NOBODY: readonly number[] = [];

export class MergeTree {
  readonly #shape: TreeShape;
  readonly #levels: Level[];
  #isFinal = false;

  constructor(maps: number, shape: TreeShape) {
    this.#shape = shape;
    this.#levels = [{ entry: "map", groups: maps, partitions: 1, fanIn: 0, missing: new Uint32Array(maps) }];
    if (!shape.top) this.#isFinal = true;
    else if (shape.groups === undefined) while (!this.#isFinal) this.#grow(() => 0, false);
  }

  /** Tasks of each level, the maps first. */
  get counts(): readonly number[] {
    return this.#levels.map(({ missing }) => missing.length);
  }

  get top(): number {
    return this.#levels.length - 1;
  }

  /** Whether no level will be added. */
  get isFinal(): boolean {
    return this.#isFinal;
  }

  countOf(level: number): number {
    return this.#levels[level]!.missing.length;
  }

  entryOf(level: number): TreeEntry {
    return this.#levels[level]!.entry;
  }

  /** Whether what the task of a finish leaves is all that there will be. */
  isLast(level: number): boolean {
    return this.#isFinal && level === this.top;
  }

  /** Adds the level above the highest, whose tasks all have their results, of so many bytes. */
  grow(bytesOf: (task: number) => number): void {
    if (this.#isFinal) throw new Error("the tree is complete");
    this.#grow(bytesOf, true);
  }

  #grow(bytesOf: (task: number) => number, isThere: boolean): void {
    const below = this.#levels.at(-1)!;
    const { merges, groups: partitioned } = this.#shape;
    if (below.entry === "finish") {
      const parts = Math.ceil(totalOf(0, below.missing.length, bytesOf) / ORDER_BYTES);
      const count = partitioned!.ordered ? Math.min(ORDER_PARTS_MAX, Math.max(1, parts)) : 1;
      this.#add({ entry: "order", groups: 1, partitions: count, fanIn: 1 }, isThere);
      this.#isFinal = true;
      return;
    }
    const most = partitioned === undefined ? MERGE_FAN_IN : merges ? GROUPS_FAN_IN : LISTS_FAN_IN;
    // Lists are put together where each partition would look through too many of them.
    const isMerge = (merges || partitioned !== undefined) && below.groups > most;
    const groups = isMerge ? Math.ceil(below.groups / most) : 1;
    const fanIn = isMerge ? most : Math.max(1, below.groups);
    let partitions = 1;
    for (let group = 0; partitioned !== undefined && group < groups; group++) {
      const end = Math.min(below.groups, (group + 1) * fanIn);
      const bytes = totalOf(group * fanIn * below.partitions, end * below.partitions, bytesOf);
      while (partitions < PARTITIONS_MAX && bytes > partitions * PARTITION_BYTES) partitions *= 2;
    }
    this.#add({ entry: isMerge ? "merge" : "finish", groups, partitions, fanIn }, isThere);
    this.#isFinal = !isMerge && partitions === 1;
  }

  #add(level: Omit<Level, "missing">, isThere: boolean): void {
    const missing = new Uint32Array(level.groups * level.partitions);
    this.#levels.push({ ...level, missing });
    if (isThere) return;
    for (let task = 0; task < missing.length; task++)
      missing[task] = this.inputsOf(this.top, task).tasks.length;
  }

  inputsOf(level: number, task: number): TaskInputs {
    const { entry, partitions, fanIn } = this.#levels[level]!;
    const below = this.#levels[level - 1]!;
    const partition = task % partitions;
    if (entry === "order") {
      const tasks = Array.from({ length: below.missing.length }, (_, index) => index);
      return { groupsStart: 0, groupsEnd: 1, partition, partitions, tasks };
    }
    const groupsStart = Math.floor(task / partitions) * fanIn;
    const groupsEnd = Math.min(below.groups, groupsStart + fanIn);
    const first = Math.floor((partition * below.partitions) / partitions);
    const behind = Math.max(first + 1, Math.floor(((partition + 1) * below.partitions) / partitions));
    const tasks: number[] = [];
    for (let group = groupsStart; group < groupsEnd; group++) {
      for (let part = first; part < behind; part++) tasks.push(group * below.partitions + part);
    }
    return { groupsStart, groupsEnd, partition, partitions, tasks };
  }

  /** The task has its result. Returns the tasks of the level above that can run because of it, or could and did. */
  settled(level: number, task: number): readonly number[] {
    if (level === this.top) return NOBODY;
    const { missing, fanIn, partitions } = this.#levels[level + 1]!;
    if (partitions === 1 && this.#levels[level]!.partitions === 1) {
      const consumer = Math.floor(task / fanIn);
      return --missing[consumer]! === 0 ? [consumer] : NOBODY;
    }
    const { start, end } = this.#consumersOf(level, task);
    let ready: number[] | undefined;
    for (let consumer = start; consumer < end; consumer++) {
      if (--missing[consumer]! === 0) (ready ??= []).push(consumer);
    }
    return ready ?? NOBODY;
  }

  /** The task's result is gone: what takes it waits for it again. */
  reopened(level: number, task: number): void {
    if (level === this.top) return;
    const { missing } = this.#levels[level + 1]!;
    const { start, end } = this.#consumersOf(level, task);
    for (let consumer = start; consumer < end; consumer++) missing[consumer]!++;
  }

  /** Whether all inputs of the task are there. */
  isReady(level: number, task: number): boolean {
    return level === 0 || this.#levels[level]!.missing[task] === 0;
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
    const visited = this.#levels.map(({ missing }) => new Uint8Array(missing.length));
    // Several may take one result, and each is to know whether it could run before that one was gone.
    const missed = this.#levels.map(({ missing }) => missing.slice());

    const visit = (level: number, task: number): void => {
      // A result may be needed by several.
      if (visited[level]![task] === 1) return;
      visited[level]![task] = 1;
      const wasDone = isDone(level, task);
      if (wasDone && !isGone(level, task)) return;
      const wasReady = missed[level]![task] === 0;
      if (level > 0) for (const input of this.inputsOf(level, task).tasks) visit(level - 1, input);
      if (wasDone) this.reopened(level, task);
      const isReady = this.isReady(level, task);
      if (wasDone && isReady) redo.push({ level, task });
      else if (wasDone || (wasReady && !isReady)) withdraw.push({ level, task });
    };

    for (let task = 0; task < this.countOf(this.top); task++) visit(this.top, task);
    return { redo, withdraw };
  }

  #consumersOf(level: number, task: number): { readonly start: number; readonly end: number } {
    const above = this.#levels[level + 1]!;
    if (above.entry === "order") return { start: 0, end: above.missing.length };
    const { partitions } = this.#levels[level]!;
    const first = Math.floor(task / partitions / above.fanIn) * above.partitions;
    const partition = task % partitions;
    const start = Math.floor((partition * above.partitions) / partitions);
    const end = Math.max(start + 1, Math.floor(((partition + 1) * above.partitions) / partitions));
    return { start: first + start, end: first + end };
  }
}

function totalOf(start: number, end: number, bytesOf: (task: number) => number): number {
  let bytes = 0;
  for (let task = start; task < end; task++) bytes += bytesOf(task);
  return bytes;
}
