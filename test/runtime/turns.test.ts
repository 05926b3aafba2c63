/** Who computes when, where several want to: asked of the event loop itself, in counts of turns and never in time. */
import { describe, expect, test } from "vitest";
import { TURN_WORK_MS } from "../../runtime/limits.ts";
import { inShare, inTurns, Share, turnOver } from "../../runtime/turns.ts";

/** Computes for this long without looking up. */
function compute(milliseconds: number): void {
  for (const end = performance.now() + milliseconds; performance.now() < end;);
}

/** Work in pieces of half a turn each, until it is told to end. */
async function computeOn(isOver: () => boolean, done: () => void = () => {}): Promise<void> {
  while (!isOver()) {
    const over = turnOver();
    if (over !== undefined) await over;
    compute(TURN_WORK_MS / 2);
    done();
  }
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("the turns of the event loop", () => {
  test("hold the work of one at a time, however many want to work", async () => {
    const workers = 50;
    const pieces = new Uint32Array(workers);
    let isOver = false;
    let inTurn = 0;
    const all = Array.from({ length: workers }, (_, index) =>
      inShare(new Share(), () =>
        computeOn(
          () => isOver,
          () => {
            pieces[index]!++;
            inTurn++;
          },
        ),
      ),
    );
    const most: number[] = [];
    for (let turn = 0; turn < 200; turn++) {
      inTurn = 0;
      await nextTurn();
      most.push(inTurn);
    }
    isOver = true;
    await Promise.all(all);
    // Two halves, and one more where a half took less time than was looked at.
    expect(Math.max(...most)).toBeLessThanOrEqual(3);
    // And each of them got on.
    expect(Math.min(...pieces)).toBeGreaterThan(0);
  });

  test("go first to whom has used least: who needs little does not wait behind those who need much", async () => {
    let isOver = false;
    const greedy = new Share();
    const busy = Array.from({ length: 100 }, () => inShare(greedy, () => computeOn(() => isOver)));
    for (let turn = 0; turn < 20; turn++) await nextTurn();
    const modest = new Share();
    const turns: number[] = [];
    for (let request = 0; request < 20; request++) {
      let waited = 0;
      let isDone = false;
      const counting = (async (): Promise<void> => {
        for (; !isDone; waited++) await nextTurn();
      })();
      await inShare(modest, async () => {
        for (let step = 0; step < 3; step++) await turnOver();
      });
      isDone = true;
      await counting;
      turns.push(waited);
      await nextTurn();
    }
    isOver = true;
    await Promise.all(busy);
    expect(Math.max(...turns)).toBeLessThanOrEqual(10);
  });

  test("are shared alike by those who want as much as they can get", async () => {
    let isOver = false;
    const counts = [0, 0];
    const work = [1, 30].map((requests, peer) => {
      const share = new Share();
      return Array.from({ length: requests }, () =>
        inShare(share, () =>
          computeOn(
            () => isOver,
            () => void counts[peer]!++,
          ),
        ),
      );
    });
    for (let turn = 0; turn < 300; turn++) await nextTurn();
    isOver = true;
    await Promise.all(work.flat());
    expect(counts[0]! / (counts[0]! + counts[1]!)).toBeGreaterThan(0.3);
  });
});

test("work that yields is done to its end, and gives what it gives", async () => {
  function* add(): Generator<void, number, undefined> {
    let sum = 0;
    for (let term = 1; term <= 1000; term++) {
      if (term % 100 === 0) yield;
      sum += term;
    }
    return sum;
  }
  expect(await inTurns(add())).toBe(500_500);
  await expect(
    inTurns(
      (function* (): Generator<void, void, undefined> {
        yield;
        throw new Error("no");
      })(),
    ),
  ).rejects.toThrow("no");
});
