/** The scheduler beside an executor that nothing is right of. What it costs is measured against the same jobs without it. */
import { describe, expect, test } from "vitest";
import { HONEST, Lie } from "./node.ts";
import type { Character, Node } from "./node.ts";
import { Random } from "./random.ts";
import { assert } from "./assert.ts";
import { SchedulerWorld } from "./scheduler-world.ts";
import type { SimulatedBatch } from "./scheduler-world.ts";

/** `PACKETFS_SIM_SEEDS` runs more of them, `PACKETFS_SIM_SEED` a single one. */
const SEEDS = Number(process.env["PACKETFS_SIM_SEEDS"] ?? 80);
const ONLY = process.env["PACKETFS_SIM_SEED"];
const HOUR_MS = 3_600_000;
/** One that is alone has each task lost as often as may be, before it is given up: that takes its time. */
const DAY_MS = 24 * HOUR_MS;
/** What a liar may cost its jobs: a part of their time, and that of finding it out. */
const COST_PART = 1.25;
const COST_MS = 20_000;
const LIES = Object.values(Lie);

describe("an executor that lies, by seed", () => {
  test(`${SEEDS} seeds: among honest ones it loses and fails nothing, and what it costs is bounded`, () => {
    forEachSeed((seed) => {
      const honest = simulate(seed, undefined);
      const lied = simulate(seed, liarOf(seed));
      for (const { stuck, lost, failed, accepted } of lied.batches) {
        assert(stuck === "", `stuck: ${stuck}`);
        assert(lost === 0, "a task was given up");
        assert(failed === 0, "a task failed that honest ones would have answered");
        assert(
          accepted.every((count) => count === 1),
          "a task was never answered",
        );
      }
      const most = COST_PART * honest.milliseconds + COST_MS;
      assert(
        lied.milliseconds <= most,
        `${lied.milliseconds} ms, and ${honest.milliseconds} without the liar`,
      );
    });
  });

  test(`${SEEDS} seeds: alone it ends its jobs one way or another`, () => {
    forEachSeed((seed) => {
      const liar = liarOf(seed);
      // Who says nothing to a packet is not told from one that still works on it; and how often a result is made again that
      // is nowhere, whoever runs the job decides.
      const others: readonly Lie[] = [Lie.silence, Lie.stranger, Lie.result];
      const lies = liar.lies.filter((lie) => !others.includes(lie));
      simulate(seed, { ...liar, lies }, 0);
    });
  });
});

describe("an executor that leaves whenever it is given something, and joins again", () => {
  test("gives no task up, however often it was lost with it", () => {
    const world = new SchedulerWorld(1);
    world.addNode({ ...HONEST, workers: 1 });
    world.addNode({ ...HONEST, workers: 8, slowness: 0.01, lies: [Lie.leave], liesOften: 1 });
    const batch = world.addBatch(new Float64Array(100).fill(500), new Float64Array(100));
    expect(world.run(() => batch.isDone, HOUR_MS)).toBe(true);
    expect(batch.lost).toBe(0);
    // It gets no task a second time as long as somebody else may run it.
    const { retries } = world.scheduler.numbersOf(batch.id)!;
    expect(retries).toBeGreaterThan(50);
    expect(retries).toBeLessThanOrEqual(100);
  });
});

function forEachSeed(run: (seed: number) => void): void {
  const seeds = ONLY === undefined ? Array.from({ length: SEEDS }, (_, index) => index + 1) : [Number(ONLY)];
  for (const seed of seeds) {
    try {
      run(seed);
    } catch (error) {
      throw new Error(`PACKETFS_SIM_SEED=${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
}

function liarOf(seed: number): Character {
  const random = new Random(seed + 4_000_000);
  const some = LIES.filter(() => random.chance(0.4));
  const one = LIES[random.integer(0, LIES.length - 1)]!;
  return {
    ...HONEST,
    workers: random.integer(1, 8),
    // Whoever does not do the work is fast.
    slowness: random.between(0.1, 2),
    networkMs: random.between(0, 100),
    lies: random.chance(0.5) ? [one] : some,
    liesOften: random.chance(0.5) ? 1 : random.next(),
  };
}

interface Simulated {
  readonly batches: readonly SimulatedBatch[];
  readonly milliseconds: number;
}

/** A few jobs on `honest` executors, and on the liar if there is one, until each is over or stuck. */
function simulate(seed: number, liar: Character | undefined, honest?: number): Simulated {
  const world = new SchedulerWorld(seed);
  const random = new Random(seed + 3_000_000);
  const count = random.integer(1, 4);
  const nodes = Array.from({ length: honest ?? count }, () => world.addNode(honestOf(random)));
  if (liar !== undefined) nodes.push(world.addNode(liar));
  const plans = new Random(seed + 5_000_000);
  const batches = Array.from({ length: plans.integer(1, 3) }, () => addBatch(world, plans, nodes));
  const isOver = (): boolean =>
    batches.every(({ isDone, unread, stuck }) => (isDone && unread === 0) || stuck !== "");
  const open = (): number => batches.filter(({ isDone }) => !isDone).length;
  assert(
    world.run(isOver, DAY_MS),
    `${open()} of ${batches.length} jobs are not over after a day: ${liar?.lies.join()}`,
  );
  return { batches, milliseconds: world.clock.now };
}

function honestOf(random: Random): Character {
  return {
    ...HONEST,
    workers: random.integer(1, 4),
    slowness: random.between(0.5, 2),
    networkMs: random.between(0, 100),
    fetchBytes: random.between(1e4, 1e6),
  };
}

function addBatch(world: SchedulerWorld, random: Random, nodes: readonly Node[]): SimulatedBatch {
  const count = random.chance(0.3) ? random.integer(1, 4) : random.integer(1, 250);
  const cost = random.chance(0.3) ? random.between(100, 2_000) : random.between(0.1, 20);
  const costs = new Float64Array(count).map(() => random.between(0.2, 1.8) * cost);
  const bytes = new Float64Array(count).map(() => random.integer(0, 1e5));
  // The liar may have some of the bytes, and the honest ones fetch them.
  const holders = Array.from({ length: count }, () => nodes[random.integer(0, 5)]);
  return world.addBatch(costs, bytes, {}, random.chance(0.5) ? holders : []);
}
