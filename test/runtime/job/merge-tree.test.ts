import { describe, expect, test } from "vitest";
import { MergeTree } from "../../../runtime/job/merge-tree.ts";
import type { TaskRef } from "../../../runtime/job/merge-tree.ts";
import { Random } from "../../sim/random.ts";

const FULL = { top: true, merges: true };

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
      const inputs = Array.from({ length: tree.counts[level]! }, (_, task) => {
        return { first: tree.inputsStart(level, task), end: tree.inputsEnd(level, task) };
      });
      expect(inputs[0]!.first).toBe(0);
      expect(inputs.at(-1)!.end).toBe(tree.counts[level - 1]);
      inputs.slice(1).forEach(({ first }, index) => expect(first).toBe(inputs[index]!.end));
    }
  });
});

describe("pipelining", () => {
  test("a merge can run as soon as its group is complete, whatever the order", () => {
    const tree = new MergeTree(80, FULL);
    const ready: string[] = [];
    for (let task = 79; task >= 0; task--) {
      const consumer = tree.settled(0, task);
      if (consumer >= 0) ready.push(`${consumer} after ${task}`);
    }
    expect(ready).toEqual(["2 after 64", "1 after 32", "0 after 0"]);
    expect(tree.settled(1, 1)).toBe(-1);
    expect(tree.settled(1, 0)).toBe(-1);
    expect(tree.settled(1, 2)).toBe(0);
    expect(tree.settled(2, 0)).toBe(-1);
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
    expect(tree.settled(0, 3)).toBe(0);
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
    });
    for (let task = 0; task < this.#tree.counts[0]!; task++) this.#runnable.push({ level: 0, task });
    if (this.#tree.counts[0] === 0 && this.#tree.top > 0) this.#runnable.push({ level: 1, task: 0 });
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
      const end = this.#tree.inputsEnd(ref.level, ref.task);
      for (let task = this.#tree.inputsStart(ref.level, ref.task); task < end; task++) {
        expect(this.#done.get(key({ level: ref.level - 1, task })), `input of ${key(ref)}`).toBe(true);
      }
    }
    expect(this.#done.get(key(ref)) ?? false).toBe(false);
    this.#done.set(key(ref), true);
    const consumer = this.#tree.settled(ref.level, ref.task);
    if (consumer >= 0) this.#runnable.push({ level: ref.level + 1, task: consumer });
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
