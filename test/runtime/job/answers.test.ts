import { describe, expect, it } from "vitest";
import { Flag, Op, PACKET_BYTES } from "../../../packets/layout.ts";
import { atOf, decodePacket, encodeFrame, encodePacket } from "../../../packets/packet.ts";
import type { PacketFields } from "../../../packets/packet.ts";
import { Answers } from "../../../runtime/job/answers.ts";
import { Journal } from "../../../runtime/job/journal.ts";
import { ANSWER_BLOCK_PACKETS } from "../../../runtime/limits.ts";

const inline = (at: number): PacketFields => ({
  op: Op.RETURN,
  flags: Flag.INLINE,
  lane: 1,
  at,
  length: 1,
  ref: Uint8Array.of(at),
});
const stored = (at: number): PacketFields => ({
  op: Op.RETURN,
  lane: 1,
  at,
  length: 40,
  ref: new Uint8Array(32).fill(7),
});

/** Gives the answers to `tasks`, in one frame, the first of which is somebody else's. */
function take(answers: Answers, tasks: readonly number[], of = inline, isOther = false): void {
  const frame = encodeFrame([inline(0), ...tasks.map((task) => of(task))]);
  const indexes = Uint32Array.from(tasks, (_, index) => index + 1);
  answers.take({ frame, indexes, tasks: Uint32Array.from(tasks), count: tasks.length }, 5, isOther);
}

describe("answers in blocks", () => {
  const count = 2 * ANSWER_BLOCK_PACKETS + 100;
  const border = ANSWER_BLOCK_PACKETS;
  const tasks = Array.from({ length: count }, (_, task) => task);

  it("are found by their tasks, in whatever order and over whatever borders they came", () => {
    const answers = new Answers(count, true);
    take(answers, tasks.slice(border - 10, border + 3000));
    take(answers, tasks.slice(border + 3000).toReversed());
    take(answers, tasks.slice(0, border - 10));
    expect(tasks.every((task) => atOf(answers.at(task), 0) === task)).toBe(true);
    expect(answers.makers.every((maker) => maker === 5)).toBe(true);
    for (const [start, end] of [
      [0, 32],
      [border - 1, border + 1],
      [border, 2 * border],
      [10, count],
    ] as const) {
      expect(answers.range(start, end)).toEqual(
        new Uint8Array(encodeFrame(tasks.slice(start, end).map(inline))),
      );
    }
    expect(() => answers.packets).toThrow("several blocks");
  });

  it("get the numbers of their tasks where they had others", () => {
    const answers = new Answers(count, true);
    take(answers, tasks.slice(border - 3, border + 3), () => inline(77), true);
    for (const task of tasks.slice(border - 3, border + 3)) {
      expect(decodePacket(answers.at(task))).toMatchObject({ at: task, length: 1 });
    }
  });

  it("are let go of a block at a time, when none of it is needed", () => {
    const answers = new Answers(count, true);
    take(answers, tasks);
    for (const task of tasks.slice(0, border - 1)) answers.drop(task);
    expect(atOf(answers.at(0), 0)).toBe(0);
    answers.drop(border - 1);
    expect(() => answers.at(0)).toThrow("dropped");
    expect(answers.isElsewhere(0)).toBe(false);
    expect(atOf(answers.at(border), 0)).toBe(border);
  });
});

it("those that nobody has to repeat are dropped once what takes them is written, and no others", () => {
  const journal = new Journal([96, 3, 1], true);
  const answers = journal.answersOf(0);
  const tasks = Array.from({ length: 96 }, (_, task) => task);
  take(answers, tasks.slice(0, 95));
  take(answers, [95], stored);
  for (const task of tasks) journal.settle(0, task);
  for (const group of [0, 1, 2, 1, 0]) journal.written(0, group * 32, group * 32 + 32);
  expect(journal.isStored(0, 95)).toBe(true);
  expect(journal.resultsOf(0, 95, 96)).toEqual(encodePacket(stored(95)));
  // Its result was lost, and comes again in its answer.
  expect(journal.reopen(0, [95])).toEqual([95]);
  take(answers, [95]);
  journal.settle(0, 95);
  expect(journal.resultsOf(0, 64, 96)).toEqual(new Uint8Array(encodeFrame(tasks.slice(64).map(inline))));
  journal.written(0, 64, 96);
  expect(() => answers.at(95)).toThrow("dropped");
  expect([journal.isDone(0, 95), journal.isStored(0, 95), journal.isStored(0, 3)]).toEqual([
    true,
    false,
    false,
  ]);
  // What the job ends with stays.
  journal.written(2, 0, 1);
  expect(journal.answersOf(2).packets.byteLength).toBe(PACKET_BYTES);
});

it("stay where one of those that are taken with them, in whatever block, can get lost", () => {
  const count = ANSWER_BLOCK_PACKETS + 1;
  const journal = new Journal([count, 1], true);
  const answers = journal.answersOf(0);
  const tasks = Array.from({ length: count }, (_, task) => task);
  take(answers, tasks.slice(0, -1));
  take(answers, tasks.slice(-1), stored);
  for (const task of tasks) journal.settle(0, task);
  journal.written(0, 0, count);
  expect(atOf(journal.resultsOf(0, 0, count), 1)).toBe(1);
});
