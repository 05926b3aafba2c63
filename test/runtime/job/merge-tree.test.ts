import { describe, expect, test } from "vitest";
import { MergeTree } from "../../../runtime/job/merge-tree.ts";
import type { TaskRef } from "../../../runtime/job/merge-tree.ts";
import { Random } from "../../sim/random.ts";

const FULL = { top: true, merges: true };
const GROUPS = { ...FULL, groups: { ordered: true } };

function key({ level, task }: TaskRef): string {
  return `${level}:${task}`;
}

describe("the shape", () => {
  test("groups of 32 until few are left, then one finish", () => {
    expect(new MergeTree(1, FULL).counts).toEqual([1, 1]);
    expect(new MergeTree(32, FULL).counts).toEqual([32, 1]);
    expect(new MergeTree(33, FULL).counts).toEqual([33, 2, 1]);
    expect(new MergeTree(1100, FULL).counts).toEqual([1100, 35, 2, 1]);
    expect(new MergeTree(0, FULL).counts).toEqual([0, 1]);
    expect(new MergeTree(1000, { top: true, merges: false }).counts).toEqual([1000, 1]);
    expect(new MergeTree(1000, { top: false, merges: true }).counts).toEqual([1000]);
  });

  test("every result has exactly one consumer, next to its neighbours", () => {
    const tree = new MergeTree(1100, FULL);
    for (let level = 1; level <= tree.top; level++) {
      const inputs = Array.from(
        { length: tree.countOf(level) },
        (_, task) => tree.inputsOf(level, task).tasks,
      );
      expect(inputs.flat()).toEqual(Array.from({ length: tree.countOf(level - 1) }, (_, task) => task));
    }
  });
});

describe("groups", () => {
  const MIB = 1024 * 1024;
  const shape = (tree: MergeTree): string[] =>
    tree.counts.map((count, level) => `${count} ${tree.entryOf(level)}`);

  test("what is small is finished by one", () => {
    const tree = new MergeTree(64, GROUPS);
    tree.grow(() => 1000);
    expect(shape(tree)).toEqual(["64 map", "1 finish"]);
    expect(tree.isFinal).toBe(true);
  });

  test("what is large is finished by partition, and then ordered in parts", () => {
    const tree = new MergeTree(30, GROUPS);
    tree.grow(() => MIB);
    expect(shape(tree)).toEqual(["30 map", "8 finish"]);
    expect(tree.isFinal).toBe(false);
    expect(tree.inputsOf(1, 5)).toMatchObject({ groupsEnd: 30, partition: 5, partitions: 8 });
    tree.grow(() => 3 * MIB);
    expect(shape(tree)).toEqual(["30 map", "8 finish", "6 order"]);
    expect(tree.inputsOf(2, 3).tasks).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(tree.isFinal).toBe(true);
  });

  test("lists are merged only where they are very many", () => {
    const few = new MergeTree(1000, { ...GROUPS, merges: false });
    few.grow(() => 1000);
    expect(shape(few)).toEqual(["1000 map", "1 finish"]);
    const many = new MergeTree(3000, { ...GROUPS, merges: false });
    many.grow(() => 1000);
    many.grow(() => MIB);
    expect(shape(many)).toEqual(["3000 map", "3 merge", "1 finish"]);
  });

  test("the largest groups are picked in one place", () => {
    const tree = new MergeTree(30, { ...GROUPS, groups: { ordered: false } });
    tree.grow(() => MIB);
    tree.grow(() => 30 * MIB);
    expect(shape(tree)).toEqual(["30 map", "8 finish", "1 order"]);
  });

  test("a partition takes what it needs from finer and from coarser ones, split after split", () => {
    const tree = new MergeTree(130, GROUPS);
    tree.grow((task) => (task < 64 ? MIB / 8 : 1));
    expect(shape(tree)).toEqual(["130 map", "6 merge"]);
    expect([0, 1, 5].map((task) => tree.inputsOf(1, task).tasks)).toEqual([
      Array.from({ length: 64 }, (_, task) => task),
      Array.from({ length: 64 }, (_, task) => task),
      [128, 129],
    ]);
    tree.grow(() => 3 * MIB);
    expect(shape(tree)).toEqual(["130 map", "6 merge", "8 finish"]);
    expect([0, 3, 4].map((task) => tree.inputsOf(2, task).tasks)).toEqual([
      [0, 2, 4],
      [0, 2, 4],
      [1, 3, 5],
    ]);
    const narrow = new MergeTree(130, GROUPS);
    narrow.grow((task) => (task < 64 ? MIB / 8 : 1));
    narrow.grow(() => 1);
    expect(narrow.inputsOf(2, 0).tasks).toEqual([0, 1, 2, 3, 4, 5]);
    expect(narrow.isFinal).toBe(true);
  });
});

describe("pipelining", () => {
  test("a merge can run as soon as its group is complete, whatever the order", () => {
    const tree = new MergeTree(80, FULL);
    const ready: string[] = [];
    for (let task = 79; task >= 0; task--) {
      for (const consumer of tree.settled(0, task)) ready.push(`${consumer} after ${task}`);
    }
    expect(ready).toEqual(["2 after 64", "1 after 32", "0 after 0"]);
    expect(tree.settled(1, 1)).toEqual([]);
    expect(tree.settled(1, 0)).toEqual([]);
    expect(tree.settled(1, 2)).toEqual([0]);
    expect(tree.settled(2, 0)).toEqual([]);
  });
});

describe("results that are gone", () => {
  test("nothing is repeated that is not needed any more", () => {
    const tree = new MergeTree(64, FULL);
    const done = new Set<string>();
    const settle = (ref: TaskRef): void => {
      done.add(key(ref));
      tree.settled(ref.level, ref.task);
    };
    for (let task = 0; task < 36; task++) settle({ level: 0, task });
    settle({ level: 1, task: 0 });
    // Maps 0 to 31 went into merge 0, which is still there; maps 32 to 35 are waited for by merge 1.
    const repair = tree.repair(
      (level, task) => done.has(key({ level, task })),
      (level) => level === 0,
    );
    expect(repair.redo.map(key)).toEqual(["0:32", "0:33", "0:34", "0:35"]);
    expect(repair.withdraw).toEqual([]);
  });

  test("when a merge is gone too, its inputs come first", () => {
    const tree = new MergeTree(64, FULL);
    const done = new Set<string>();
    for (let task = 0; task < 32; task++) {
      done.add(`0:${task}`);
      tree.settled(0, task);
    }
    done.add("1:0");
    tree.settled(1, 0);
    const gone = new Set(["0:3", "1:0"]);
    const repair = tree.repair(
      (level, task) => done.has(key({ level, task })),
      (level, task) => gone.has(key({ level, task })),
    );
    expect(repair.redo.map(key)).toEqual(["0:3"]);
    expect(repair.withdraw.map(key)).toEqual(["1:0"]);
    expect(tree.settled(0, 3)).toEqual([0]);
  });

  test("random losses at any time: it always ends, and nothing runs without its inputs", () => {
    for (let seed = 1; seed <= 300; seed++) new Life(seed).run();
  });
});

/** Runs a tree in random order and loses results at random. */
class Life {
  readonly #random: Random;
  readonly #tree: MergeTree;
  readonly #runnable: TaskRef[] = [];
  /** Whether the result of a task that is done is still there. */
  readonly #done = new Map<string, boolean>();

  constructor(seed: number) {
    this.#random = new Random(seed);
    this.#tree = new MergeTree(this.#random.integer(0, 400), {
      top: this.#random.chance(0.8),
      merges: this.#random.chance(0.7),
      ...(this.#random.chance(0.5) ? { groups: { ordered: this.#random.chance(0.8) } } : {}),
    });
    for (let task = 0; task < this.#tree.counts[0]!; task++) this.#runnable.push({ level: 0, task });
    if (this.#tree.counts[0] === 0 && this.#tree.top > 0) this.#runnable.push({ level: 1, task: 0 });
    this.#grow();
  }

  #grow(): void {
    const tree = this.#tree;
    while (!tree.isFinal) {
      const { top } = tree;
      for (let task = 0; task < tree.countOf(top); task++)
        if (this.#done.get(key({ level: top, task })) !== true) return;
      const bytes = this.#random.integer(0, 300_000);
      tree.grow(() => bytes);
      for (let task = 0; task < tree.countOf(top + 1); task++) this.#runnable.push({ level: top + 1, task });
    }
  }

  run(): void {
    let losses = 5;
    while (this.#runnable.length > 0) {
      const [ref] = this.#runnable.splice(this.#random.integer(0, this.#runnable.length - 1), 1);
      this.#settle(ref!);
      if (losses > 0 && this.#random.chance(0.02)) {
        losses--;
        this.#lose(this.#random.between(0, 1));
      }
    }
    const top = this.#tree.top;
    for (let task = 0; task < this.#tree.counts[top]!; task++) {
      expect(this.#done.get(key({ level: top, task }))).toBe(true);
    }
  }

  #settle(ref: TaskRef): void {
    if (ref.level > 0) {
      const missing = this.#tree
        .inputsOf(ref.level, ref.task)
        .tasks.filter((task) => this.#done.get(key({ level: ref.level - 1, task })) !== true);
      expect(missing, `inputs of ${key(ref)}`).toEqual([]);
    }
    expect(this.#done.get(key(ref)) ?? false).toBe(false);
    this.#done.set(key(ref), true);
    for (const task of this.#tree.settled(ref.level, ref.task)) {
      const consumer = { level: ref.level + 1, task };
      if (this.#done.get(key(consumer)) !== true) this.#runnable.push(consumer);
    }
    this.#grow();
  }

  #lose(part: number): void {
    const gone = new Set([...this.#done.keys()].filter(() => this.#random.chance(part)));
    const repair = this.#tree.repair(
      (level, task) => this.#done.has(key({ level, task })),
      (level, task) => {
        const id = key({ level, task });
        return gone.has(id) || this.#done.get(id) === false;
      },
    );
    for (const ref of [...repair.redo, ...repair.withdraw]) {
      this.#done.delete(key(ref));
      const index = this.#runnable.findIndex((other) => key(other) === key(ref));
      if (index >= 0) this.#runnable.splice(index, 1);
    }
    this.#runnable.push(...repair.redo);
    // Gone for good, and nobody needs them: reading one would be an error.
    for (const lost of gone) if (this.#done.has(lost)) this.#done.set(lost, false);
  }
}
