import { describe, expect, test } from "vitest";
import { TASK_FAULTS_MAX, TASK_LOSSES_MAX } from "../../../runtime/limits.ts";
import {
  addToSet,
  emptySet,
  fillSet,
  highestTask,
  isInSet,
  lowestTask,
} from "../../../runtime/schedule/task-queue.ts";
import type { Take } from "../../../runtime/schedule/task-queue.ts";
import { Awaited, TaskTable } from "../../../runtime/schedule/tasks.ts";
import type { LostLane } from "../../../runtime/schedule/tasks.ts";

function takeFor(executor: number, options: Partial<Take> = {}): Take {
  return {
    executor,
    executorName: `executor ${executor}`,
    lane: executor * 10,
    now: 0,
    packetsMax: 1000,
    bytesMax: Infinity,
    mayRepeat: () => false,
    into: new Uint32Array(1000),
    count: 0,
    bytes: 0,
    isFull: false,
    ...options,
  };
}

/** Executor 1 is lost, and there is no other unless `isElsewherePossible`. */
function lostBy(givenUp: (task: number) => void, isElsewherePossible = (): boolean => false): LostLane {
  return { executor: "executor 1", isElsewherePossible, givenUp };
}

function taken(take: Take): number[] {
  return [...take.into.subarray(0, take.count)];
}

function tableOf(count: number, bytes = 1): TaskTable {
  const table = new TaskTable(new Float64Array(count).fill(bytes));
  for (let task = 0; task < count; task++) table.release(task);
  return table;
}

describe("sets", () => {
  test("every task of every word, the top bit included", () => {
    for (const count of [1, 31, 32, 33, 64, 100]) {
      const set = emptySet(count);
      fillSet(set, count);
      expect(Array.from({ length: count + 20 }, (_, task) => isInSet(set, task)).lastIndexOf(true)).toBe(
        count - 1,
      );
    }
    const set = emptySet(64);
    addToSet(set, 63);
    addToSet(set, 32);
    expect([lowestTask(1, set[1]!), highestTask(1, set[1]!)]).toEqual([32, 63]);
  });
});

describe("the line", () => {
  test("own tasks first, then those of nobody; others' from the far end", () => {
    const table = tableOf(100);
    const held = new Float64Array(100);
    table.setHome(
      1,
      held.map((_, task) => (task >= 60 ? 1 : 0)),
    );
    table.setHome(
      2,
      held.map((_, task) => (task < 20 ? 1 : 0)),
    );
    const own = takeFor(1, { packetsMax: 3 });
    table.queue.takeLocal(own);
    expect(taken(own)).toEqual([60, 61, 62]);
    const free = takeFor(1, { packetsMax: 2 });
    table.queue.takeFree(free);
    expect(taken(free)).toEqual([20, 21]);
    const any = takeFor(2, { packetsMax: 2 });
    table.queue.takeAny(any);
    expect(taken(any)).toEqual([99, 98]);
    const rest = takeFor(2);
    table.queue.takeLocal(rest);
    table.queue.takeFree(rest);
    table.queue.takeAny(rest);
    expect(rest.count).toBe(93);
    expect(table.queue.count).toBe(0);
    expect(table.placedCount).toBe(100);
  });

  test("when an executor leaves, its tasks are nobody's, also those already passed over", () => {
    const table = tableOf(70);
    table.setHome(1, new Float64Array(70).fill(1));
    const nothing = takeFor(2);
    table.queue.takeFree(nothing);
    expect(nothing.count).toBe(0);
    table.queue.dropHome(1);
    const all = takeFor(2);
    table.queue.takeFree(all);
    expect(all.count).toBe(70);
  });

  test("less than half of a task's bytes is no home", () => {
    const table = tableOf(2, 100);
    table.setHome(1, Float64Array.of(49, 50));
    const own = takeFor(1);
    table.queue.takeLocal(own);
    expect(taken(own)).toEqual([1]);
  });

  test("bytes bound a frame, but never below one task", () => {
    const table = tableOf(5, 100);
    const take = takeFor(1, { bytesMax: 150 });
    table.queue.takeFree(take);
    expect(taken(take)).toEqual([0, 1]);
    const tight = takeFor(1, { bytesMax: 1 });
    table.queue.takeFree(tight);
    expect(taken(tight)).toEqual([2]);
  });
});

describe("answers", () => {
  test("the first answer wins, a copy's comes late, a third is unknown", () => {
    const table = tableOf(1);
    table.queue.takeFree(takeFor(1));
    expect(table.copy(0, 20, 5)).toBe(0);
    expect(table.answered(0, 99)).toBe(Awaited.no);
    expect(table.answered(0, 20)).toBe(Awaited.yes);
    table.settle(0);
    expect([table.doneCount, table.placedCount]).toEqual([1, 0]);
    expect(table.answered(0, 20)).toBe(Awaited.no);
    expect(table.answered(0, 10)).toBe(Awaited.late);
    expect(table.answered(0, 10)).toBe(Awaited.no);
  });

  test("a third copy writes off the first", () => {
    const table = tableOf(1);
    table.queue.takeFree(takeFor(1));
    table.copy(0, 20, 5);
    expect(table.copy(0, 30, 9)).toBe(10);
    expect(table.answered(0, 10)).toBe(Awaited.no);
    expect(table.answered(0, 20)).toBe(Awaited.yes);
  });

  test("a task that failed somewhere does not go back there, unless it may; after some failures that is its answer", () => {
    const table = tableOf(1);
    table.queue.takeFree(takeFor(1));
    for (let fault = 1; fault < TASK_FAULTS_MAX; fault++) {
      expect(table.answered(0, 10)).toBe(Awaited.yes);
      expect(table.again(0, "executor 1", "fault", () => true)).toBe(true);
      expect(table.spread).toBe(1);
      const refused = takeFor(1);
      table.queue.takeFree(refused);
      expect(refused.count).toBe(0);
      const repeated = takeFor(1, { mayRepeat: () => true });
      table.queue.takeFree(repeated);
      expect(repeated.count).toBe(1);
    }
    table.answered(0, 10);
    expect(table.again(0, "executor 1", "fault", () => false)).toBe(false);
  });

  test("a lost lane puts its tasks back, not those with a copy elsewhere; too many losses give a task up", () => {
    const table = tableOf(3);
    const givenUp: number[] = [];
    const lost = lostBy((task) => givenUp.push(task));
    table.queue.takeFree(takeFor(1));
    table.copy(1, 20, 0);
    expect(table.laneLost(10, lost)).toBe(2);
    expect(table.laneLost(20, lost)).toBe(1);
    for (let loss = 1; loss < TASK_LOSSES_MAX; loss++) {
      table.queue.takeFree(takeFor(1, { mayRepeat: () => true }));
      table.laneLost(10, lost);
    }
    expect(givenUp).toEqual([0, 1, 2]);
    expect([table.doneCount, table.placedCount, table.queue.count]).toEqual([3, 0, 0]);
  });

  test("an executor that comes and goes gives no task up alone while another may run it", () => {
    const table = tableOf(1);
    const givenUp: number[] = [];
    const spared = lostBy(
      (task) => givenUp.push(task),
      () => true,
    );
    for (let loss = 0; loss < TASK_LOSSES_MAX * 2; loss++) {
      table.queue.takeFree(takeFor(1, { mayRepeat: () => true }));
      expect(table.laneLost(10, spared)).toBe(1);
    }
    expect(table.failuresOf(0)).toMatchObject([{ executor: "executor 1", losses: TASK_LOSSES_MAX * 2 }]);
    // Withdrawn, it begins no new count: it may be that nothing survives it.
    table.withdraw(0);
    table.release(0);
    table.queue.takeFree(takeFor(1, { mayRepeat: () => true }));
    table.laneLost(10, { ...spared, isElsewherePossible: () => false });
    expect(givenUp).toEqual([0]);
  });

  test("a task that one executor fails as often as it likes is not failed for good while another may run it", () => {
    const table = tableOf(1);
    const fail = (executor: number, isAnother: boolean): boolean => {
      table.queue.takeFree(takeFor(executor, { mayRepeat: () => true }));
      table.answered(0, executor * 10);
      return table.again(0, `executor ${executor}`, "fault", () => isAnother);
    };
    for (let fault = 0; fault < TASK_FAULTS_MAX * 2; fault++) expect(fail(1, true)).toBe(true);
    for (let executor = 2; executor < TASK_FAULTS_MAX; executor++) expect(fail(executor, true)).toBe(true);
    expect(fail(TASK_FAULTS_MAX, true)).toBe(false);
  });
});

describe("results that are gone", () => {
  test("redo puts a done task back into line", () => {
    const table = tableOf(2);
    table.queue.takeFree(takeFor(1));
    table.answered(0, 10);
    table.settle(0);
    table.redo(0);
    table.redo(1);
    expect([table.doneCount, table.queue.count, table.placedCount]).toEqual([0, 1, 1]);
  });

  test("a withdrawn task waits for its release in every state, and an answer under way still counts", () => {
    const table = tableOf(3);
    table.queue.takeFree(takeFor(1, { packetsMax: 2 }));
    table.answered(0, 10);
    table.settle(0);
    for (const task of [0, 1, 2]) table.withdraw(task);
    expect([table.doneCount, table.queue.count, table.placedCount]).toEqual([0, 0, 1]);
    expect(table.answered(1, 10)).toBe(Awaited.yes);
    table.settle(1);
    for (const task of [0, 1, 2]) table.release(task);
    expect([table.doneCount, table.queue.count, table.placedCount]).toEqual([1, 2, 0]);
  });

  test("a withdrawn task whose lane is lost, or that fails, stays out of line", () => {
    const table = tableOf(2);
    table.queue.takeFree(takeFor(1));
    table.withdraw(0);
    table.withdraw(1);
    table.answered(1, 10);
    expect(table.again(1, "executor 1", "fault", () => true)).toBe(true);
    expect(
      table.laneLost(
        10,
        lostBy(() => {}),
      ),
    ).toBe(0);
    expect([table.queue.count, table.placedCount]).toEqual([0, 0]);
    table.release(0);
    table.release(1);
    expect(table.queue.count).toBe(2);
  });
});
