/** Threads that do work for one of this process: what becomes of tasks when they end. */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { ThreadPool } from "../../runtime/thread-pool.ts";

interface Task {
  readonly id: number;
  readonly says: "double" | "end" | "wait";
  readonly value: number;
}
interface Answer {
  readonly id: number;
  readonly value: number;
}

const SOURCE = `
  const { parentPort } = require("node:worker_threads");
  parentPort.on("message", ({ id, says, value }) => {
    if (says === "end") throw new Error("it ends");
    if (says === "double") return parentPort.postMessage({ id, value: 2 * value });
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
    parentPort.postMessage({ id, value });
  });`;

function poolOf(): { pool: ThreadPool<Task, Answer>; workers: Worker[] } {
  const workers: Worker[] = [];
  const pool = new ThreadPool<Task, Answer>(() => {
    const worker = new Worker(SOURCE, { eval: true });
    workers.push(worker);
    return worker;
  });
  return { pool, workers };
}

async function untilReady(pool: ThreadPool<Task, Answer>): Promise<void> {
  while (!pool.ready()) await new Promise((resolve) => setTimeout(resolve, 5));
}

describe.skipIf(availableParallelism() < 2)("a pool of threads", () => {
  test("answers each task with its own answer, and those of nobody before there is a thread", async () => {
    const { pool } = poolOf();
    expect(await pool.run({ says: "double", value: 1 })).toBeUndefined();
    await untilReady(pool);
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, value) => pool.run({ says: "double", value })),
    );
    expect(answers.map((answer) => answer?.value)).toEqual(Array.from({ length: 100 }, (_, n) => 2 * n));
    pool.close();
  });

  test("leaves what a thread had when it died to the caller, and starts none that would die again", async () => {
    const { pool, workers } = poolOf();
    await untilReady(pool);
    // Some may not be there yet.
    while (pool.ready()) {
      const tasks = [pool.run({ says: "end", value: 0 }), pool.run({ says: "double", value: 1 })];
      expect(await Promise.all(tasks)).toContain(undefined);
    }
    const started = workers.length;
    expect(pool.ready()).toBe(false);
    expect(workers.length).toBe(started);
    expect(await pool.run({ says: "double", value: 1 })).toBeUndefined();
  });

  test("still answers what is under way when it is closed, and then its threads end", async () => {
    const { pool, workers } = poolOf();
    await untilReady(pool);
    const tasks = workers.map(() => pool.run({ says: "wait", value: 7 }));
    const ends = workers.map((worker) => new Promise((resolve) => worker.once("exit", resolve)));
    pool.close();
    expect((await Promise.all(tasks)).map((answer) => answer?.value)).toContain(7);
    await Promise.all(ends);
    // It can be asked again.
    await untilReady(pool);
    expect(await pool.run({ says: "double", value: 4 })).toMatchObject({ value: 8 });
    pool.close();
  });
});
