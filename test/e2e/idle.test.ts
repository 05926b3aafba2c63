/** Machines that have nothing to do sleep: what a hub and its nodes use of a core then, counted in CPU time. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { threadTimes } from "../suites/cpu-time.ts";
import { joinNode, startHub } from "./daemon.ts";
import { HAS_PROC } from "../suites/processes.ts";

const NODES = 5;
const WINDOW_MS = 10_000;
/** What has been started compiles itself for a while; after so many windows it is what it is. */
const WINDOWS_MAX = 8;
/** Percent of a core. On a quiet machine it is less than half of this; it was three times as much before. */
const HUB_PERCENT_MAX = 0.6;
const NODE_PERCENT_MAX = 0.5;

it.skipIf(!HAS_PROC)("a hub with five nodes and nothing to do sleeps, and so do they", async () => {
  const hub = await startHub();
  const nodes = [];
  for (let index = 0; index < NODES; index++)
    nodes.push(await joinNode(hub.joinToken, `idle-${index}`, { listens: index === 0 }));
  const pids = [hub, ...nodes].map(({ pid }) => pid);
  const least = pids.map(() => Number.POSITIVE_INFINITY);
  const isCalm = (): boolean =>
    least.every((used, at) => used <= (at === 0 ? HUB_PERCENT_MAX : NODE_PERCENT_MAX));
  for (let windows = 0; windows < WINDOWS_MAX && !isCalm(); windows++) {
    const before = pids.map(usedBy);
    const begun = performance.now();
    await sleep(WINDOW_MS);
    const elapsedMs = performance.now() - begun;
    for (const [at, pid] of pids.entries()) {
      least[at] = Math.min(least[at]!, ((usedBy(pid) - before[at]!) / elapsedMs) * 100);
    }
  }
  const [ofHub, ...ofNodes] = least;
  expect(ofHub).toBeLessThanOrEqual(HUB_PERCENT_MAX);
  expect(Math.max(...ofNodes)).toBeLessThanOrEqual(NODE_PERCENT_MAX);
});

/** CPU time of all its threads, in milliseconds. */
function usedBy(pid: number): number {
  return [...threadTimes(pid).values()].reduce((sum, used) => sum + used, 0);
}
