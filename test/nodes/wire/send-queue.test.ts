import { expect, test } from "vitest";
import { Priority } from "../../../packets/envelope.ts";
import { LINK_WINDOW_BYTES, LINK_WINDOW_BYTES_MIN } from "../../../nodes/limits.ts";
import { PriorityQueue } from "../../../nodes/wire/session/send-queue.ts";
import { ReceiveWindow, SendWindow } from "../../../nodes/wire/session/window.ts";

const { control, interactive, bulk } = Priority;

test("a higher class goes first, each in its own order", () => {
  const queue = new PriorityQueue<string>();
  queue.push("b1", bulk, 10);
  queue.push("i1", interactive, 10);
  queue.push("c1", control, 10);
  queue.push("i2", interactive, 10);
  queue.push("c2", control, 10);
  expect(queue.bytes).toBe(50);
  const order = Array.from({ length: 6 }, () => queue.take(bulk));
  expect(order).toEqual(["c1", "c2", "i1", "i2", "b1", undefined]);
  expect(queue.bytes).toBe(0);
});

test("no class starves the ones below it", () => {
  const queue = new PriorityQueue<Priority>();
  const size = 64 * 1024;
  const sent = [0, 0, 0];
  for (let round = 0; round < 3000; round++) {
    // Whatever leaves is replaced: every class always has something to say.
    for (const priority of [control, interactive, bulk]) queue.push(priority, priority, size);
    sent[queue.take(bulk)!]! += size;
  }
  const total = sent[0]! + sent[1]! + sent[2]!;
  expect(sent[0]! / total).toBeGreaterThan(0.5);
  expect(sent[1]! / total).toBeGreaterThan(0.2);
  expect(sent[2]! / total).toBeGreaterThan(0.1);
});

test("what does not fit waits, and what may not go stays", () => {
  const queue = new PriorityQueue<string>();
  queue.push("b", bulk, 100);
  expect(queue.take(control)).toBeUndefined();
  expect(queue.take(bulk, (bytes) => bytes < 100)).toBeUndefined();
  expect(queue.take(bulk, (bytes) => bytes === 100)).toBe("b");
});

test("a long queue keeps its order", () => {
  const queue = new PriorityQueue<number>();
  let next = 0;
  let taken = 0;
  for (let round = 0; round < 20_000; round++) {
    queue.push(next++, bulk, 1);
    if (round % 3 > 0) expect(queue.take(bulk)).toBe(taken++);
  }
  queue.clear();
  expect(queue.take(bulk)).toBeUndefined();
  queue.push(-1, bulk, 1);
  expect(queue.take(bulk)).toBe(-1);
});

test("the window follows the line: small on a slow one, large on a fast one", () => {
  const window = new SendWindow();
  const run = (bytesPerMs: number): number => {
    let now = 0;
    for (let step = 0; step < 500; step++) {
      while (window.admits(100_000, now)) window.sent(100_000);
      now += 10;
      window.acknowledged(bytesPerMs * 10, now);
    }
    return window.limit;
  };
  expect(run(100)).toBe(LINK_WINDOW_BYTES_MIN);
  const middle = run(16_000);
  expect(middle).toBeGreaterThan(LINK_WINDOW_BYTES_MIN * 2);
  expect(middle).toBeLessThan(LINK_WINDOW_BYTES);
  expect(run(1_000_000)).toBe(LINK_WINDOW_BYTES);
});

test("a message above the window leaves alone", () => {
  const window = new SendWindow();
  const huge = LINK_WINDOW_BYTES * 2;
  expect(window.admits(huge, 0)).toBe(true);
  window.sent(huge);
  expect(window.admits(1, 0)).toBe(false);
  // A peer cannot make room for more than was sent.
  window.acknowledged(huge * 10, 1);
  window.sent(window.limit);
  expect(window.admits(1, 2)).toBe(false);
});

test("what came is told once", () => {
  const window = new ReceiveWindow();
  window.received(1000);
  expect(window.due).toBe(false);
  window.received(1_000_000);
  expect(window.due).toBe(true);
  expect(window.take()).toBe(1_001_000);
  expect(window.take()).toBe(0);
});
