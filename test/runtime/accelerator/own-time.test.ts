/** When a kernel has had its time: by what it had of the GPU, not by how long others kept it from computing. */
import { expect, test } from "vitest";
import { OwnTimeWatch } from "../../../runtime/accelerator/own-time.ts";
import type { WatchEnd, WatchOptions } from "../../../runtime/accelerator/own-time.ts";

/** How a watch ends whose kernel has this share of each part of the time, and how often it looked. */
async function watched(
  share: number | undefined,
  limits: Partial<WatchOptions> = {},
): Promise<{ readonly end: WatchEnd; readonly looks: number; readonly own: number }> {
  let [looks, own] = [0, 0];
  const { promise, resolve } = Promise.withResolvers<WatchEnd>();
  const watch = new OwnTimeWatch({
    limitMs: 40,
    ceilingMs: 60_000,
    share: async (passed) => {
      looks++;
      own += passed * (share ?? 0);
      return share === undefined ? undefined : passed * share;
    },
    over: resolve,
    ...limits,
  });
  const end = await promise;
  watch.close();
  return { end, looks, own };
}

test("ends what had its time, at the first look where it was alone", async () => {
  expect(await watched(1)).toMatchObject({ end: "own", looks: 1 });
});

test("looks again where others had most of it, and goes on until it had its own", async () => {
  const { end, looks, own } = await watched(0.25);
  expect(end).toBe("own");
  expect(looks).toBeGreaterThan(1);
  expect(own).toBeGreaterThanOrEqual(40);
});

test("gives up what had nothing for very long, and says so", async () => {
  expect((await watched(0, { ceilingMs: 120 })).end).toBe("ceiling");
});

test("says when nobody knows", async () => {
  expect(await watched(undefined)).toMatchObject({ end: "unknown", looks: 1 });
});

test("says nothing once it is closed", async () => {
  const ends: WatchEnd[] = [];
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<number>();
  const watch = new OwnTimeWatch({
    limitMs: 1,
    ceilingMs: 60_000,
    share: () => {
      asked.resolve();
      return answer.promise;
    },
    over: (end) => ends.push(end),
  });
  await asked.promise;
  watch.close();
  answer.resolve(1_000);
  await answer.promise;
  await new Promise(setImmediate);
  expect(ends).toEqual([]);
});
