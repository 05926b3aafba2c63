import { describe, expect, test } from "vitest";
import { HONEST } from "./node.ts";
import type { Character, Node } from "./node.ts";
import type { Random } from "./random.ts";
import { assert } from "./assert.ts";
import { SchedulerWorld } from "./scheduler-world.ts";
import type { SimulatedBatch } from "./scheduler-world.ts";

/** `PACKETFS_SIM_SEEDS` runs more of them, `PACKETFS_SIM_SEED` a single one. */
const SEEDS = Number(process.env["PACKETFS_SIM_SEEDS"] ?? 500);
const ONLY = process.env["PACKETFS_SIM_SEED"];
const HOUR_MS = 3_600_000;

describe("any mishap, by seed", () => {
  test(`${SEEDS} seeds: each task is answered once, none is lost, everything ends`, () => {
    if (ONLY !== undefined) return rough(Number(ONLY));
    for (let seed = 1; seed <= SEEDS; seed++) {
      try {
        rough(seed);
      } catch (error) {
        throw new Error(`PACKETFS_SIM_SEED=${seed}: ${(error as Error).message}`, { cause: error });
      }
    }
  });
});

/** A few jobs on a few executors of which all but one misbehave. */
function rough(seed: number): void {
  // Packet code stays where its bytes are, whatever becomes of those who have them.
  const world = new SchedulerWorld(seed, seed % 3 === 0 ? "code" : "js");
  const { random } = world;
  const nodes = Array.from({ length: random.integer(0, 5) }, () => world.addNode(characterOf(random)));
  // One executor is sound, so that every job has an end; it may come late.
  world.clock.after(random.chance(0.3) ? random.between(0, 20_000) : 0, () => {
    world.addNode({ ...HONEST, workers: random.integer(1, 4), networkMs: random.between(0, 200) });
  });
  for (const node of nodes) if (random.chance(0.4)) restless(world, node);
  const batches = Array.from({ length: random.integer(1, 4) }, () => addBatch(world, nodes));
  const cancelled = random.chance(0.3) ? batches.pop() : undefined;
  if (cancelled !== undefined) world.clock.after(random.between(0, 3_000), () => world.cancel(cancelled));
  const isOver = (): boolean => batches.every(({ isDone }) => isDone);
  assert(world.run(isOver, HOUR_MS), `not over after an hour: ${batches.map(told).join(", ")}`);
  for (const batch of batches) {
    assert(
      batch.accepted.every((count) => count === 1),
      "a task was never answered",
    );
    assert(batch.lost === 0, "a task was given up");
    assert(world.scheduler.numbersOf(batch.id)!.placed === 0, "done, and still placed");
    world.cancel(batch);
  }
  for (const { program } of batches) world.closeProgram(program);
}

function told({ isDone, accepted, stuck }: SimulatedBatch): string {
  const open = accepted.filter((count) => count === 0).length;
  return `${isDone ? "done" : "open"} ${open} of ${accepted.length} ${stuck}`;
}

function characterOf(random: Random): Character {
  return {
    workers: random.integer(1, 8),
    slowness: random.chance(0.2) ? random.between(1, 30) : random.between(0.5, 2),
    loadMs: random.chance(0.1) ? HOUR_MS : random.between(1, 3_000),
    loadFails: random.chance(0.3) ? random.next() : 0,
    networkMs: random.between(0, 300),
    swallows: random.chance(0.2) ? 1 : random.chance(0.4) ? random.between(0, 0.2) : 0,
    fails: 0,
    repeats: random.chance(0.4) ? random.between(0, 0.5) : 0,
    fetchBytes: random.between(1e3, 1e6),
    lies: [],
    liesOften: 0,
  };
}

/** Kills the node or one of its lanes a few times. */
function restless(world: SchedulerWorld, node: Node): void {
  const { random, clock } = world;
  // Each task survives so many losses; more of them would be reason to give up.
  for (let times = random.integer(1, 4); times > 0; times--) {
    clock.after(random.exponential(2_000), () => {
      if (random.chance(0.3)) return world.loseLane(node);
      world.kill(node);
      if (random.chance(0.8)) clock.after(random.exponential(1_000), () => world.join(node));
    });
  }
}

function addBatch(world: SchedulerWorld, nodes: readonly Node[]): SimulatedBatch {
  const { random } = world;
  const count = random.chance(0.3) ? random.integer(1, 4) : random.integer(1, 250);
  const cost = random.chance(0.3) ? random.between(100, 2_000) : random.between(0.1, 20);
  const costs = new Float64Array(count).map(() => random.between(0.2, 1.8) * cost);
  const bytes = new Float64Array(count).map(() => random.integer(0, 1e6));
  const holders = Array.from({ length: count }, () =>
    random.chance(0.7) ? nodes[random.integer(0, nodes.length)] : undefined,
  );
  return world.addBatch(costs, bytes, {}, random.chance(0.6) ? holders : []);
}

describe("failures that another executor does not have", () => {
  test("a task goes elsewhere, and its failure is its answer only when it fails everywhere", () => {
    for (let seed = 1; seed <= 50; seed++) {
      const world = new SchedulerWorld(seed);
      world.addNode({ ...HONEST, fails: 1 });
      world.addNode(HONEST);
      const batch = world.addBatch(new Float64Array(100).fill(1), new Float64Array(100));
      expect(world.run(() => batch.isDone, HOUR_MS)).toBe(true);
      const { retries } = world.scheduler.numbersOf(batch.id)!;
      expect(retries).toBeGreaterThan(0);
      // It never gets the same one twice, and after some failures it is not trusted with many.
      expect(retries).toBeLessThan(60);
    }
  });

  test("with a single executor it is tried there again, then it is over", () => {
    const world = new SchedulerWorld(1);
    world.addNode({ ...HONEST, fails: 1 });
    const batch = world.addBatch(new Float64Array(3).fill(1), new Float64Array(3));
    expect(world.run(() => batch.isDone, HOUR_MS)).toBe(true);
    expect(world.scheduler.numbersOf(batch.id)!.retries).toBe(6);
  });
});

describe("what cannot run", () => {
  test("no executor: the batch is stuck after a while, and runs when one comes in time", () => {
    const alone = new SchedulerWorld(1);
    const batch = alone.addBatch(new Float64Array(1).fill(1), new Float64Array(1));
    expect(alone.run(() => batch.stuck !== "", HOUR_MS)).toBe(true);
    expect(batch.stuck).toBe("no executor");

    const world = new SchedulerWorld(1);
    const other = world.addBatch(new Float64Array(1).fill(1), new Float64Array(1));
    world.clock.after(60_000, () => world.addNode(HONEST));
    expect(world.run(() => other.isDone, HOUR_MS)).toBe(true);
    expect(other.stuck).toBe("");
  });

  test("a program that no executor loads", () => {
    const world = new SchedulerWorld(1);
    world.addNode({ ...HONEST, loadFails: 1 });
    world.addNode({ ...HONEST, loadFails: 1 });
    const batch = world.addBatch(new Float64Array(9).fill(1), new Float64Array(9));
    expect(world.run(() => batch.stuck !== "", HOUR_MS)).toBe(true);
    expect(batch.stuck).toBe("not loadable");
  });

  test("a task that ends every executor is given up, the others are not", () => {
    const world = new SchedulerWorld(1);
    const nodes = [world.addNode(HONEST), world.addNode(HONEST)];
    const costs = new Float64Array(20).fill(5);
    costs[7] = HOUR_MS;
    const batch = world.addBatch(costs, new Float64Array(20));
    const restart = (): void => {
      for (const node of nodes) {
        world.kill(node);
        world.join(node);
      }
      world.clock.after(1_500, restart);
    };
    world.clock.after(1_500, restart);
    expect(world.run(() => batch.isDone, HOUR_MS)).toBe(true);
    expect(batch.lost).toBe(1);
  });
});

describe("black holes", () => {
  test("one of four swallows everything: the others do nearly what they could", () => {
    const costs = new Float64Array(400).fill(100);
    const timeOf = (characters: readonly Character[]): number => {
      const world = new SchedulerWorld(7);
      for (const character of characters) world.addNode(character);
      const batch = world.addBatch(costs, new Float64Array(400));
      expect(world.run(() => batch.isDone, HOUR_MS)).toBe(true);
      return batch.doneAt;
    };
    const honest = timeOf([HONEST, HONEST, HONEST]);
    expect(timeOf([{ ...HONEST, swallows: 1 }, HONEST, HONEST, HONEST])).toBeLessThan(honest / 0.6);
  });

  test("a single task on a black hole gets out of it, with a lane loaded for it elsewhere", () => {
    const world = new SchedulerWorld(1);
    world.addNode({ ...HONEST, swallows: 1 });
    const batch = world.addBatch(new Float64Array(1).fill(10), new Float64Array(1));
    world.clock.after(1_000, () => world.addNode(HONEST));
    expect(world.run(() => batch.isDone, HOUR_MS)).toBe(true);
    expect(batch.doneAt).toBeLessThan(20_000);
  });
});

describe("locality", () => {
  test("packets run where their bytes are: at most an eighth of them is moved", () => {
    for (let seed = 1; seed <= 20; seed++) {
      const world = new SchedulerWorld(seed);
      const { random } = world;
      const nodes = Array.from({ length: 4 }, () => world.addNode({ ...HONEST, fetchBytes: 1e5 }));
      const bytes = new Float64Array(400).fill(4e6);
      const costs = new Float64Array(400).map(() => random.between(20, 60));
      const holders = Array.from(bytes, (_, task) => nodes[Math.floor(task / 100)]);
      const batch = world.addBatch(costs, bytes, {}, holders);
      expect(world.run(() => batch.isDone, HOUR_MS)).toBe(true);
      expect(world.movedBytes).toBeLessThan((400 * 4e6) / 8);
    }
  });

  test("all bytes on one of four: the others help, and it is never left waiting", () => {
    const world = new SchedulerWorld(3);
    const nodes = Array.from({ length: 4 }, () => world.addNode({ ...HONEST, fetchBytes: 1e6 }));
    const bytes = new Float64Array(200).fill(1e6);
    const costs = new Float64Array(200).fill(200);
    const batch = world.addBatch(
      costs,
      bytes,
      {},
      Array.from(bytes, () => nodes[0]),
    );
    expect(world.run(() => batch.isDone, HOUR_MS)).toBe(true);
    // 200 packets of 200 ms on 8 slots are 5 s.
    expect(batch.doneAt).toBeLessThan(6_500);
    expect(nodes[0]!.spent.get(batch.id)).toBeGreaterThan(200 * 200 * 0.24);
  });
});

describe("packet code, which is through its bytes before they could be moved", () => {
  const bytes = new Float64Array(200).fill(1e6);
  const costs = new Float64Array(200).fill(20);

  function withAllOn(world: SchedulerWorld, home: Node): SimulatedBatch {
    const holders = Array.from(bytes, () => home);
    return world.addBatch(costs, bytes, {}, holders);
  }

  test("all bytes on one of four: none are moved", () => {
    for (let seed = 1; seed <= 20; seed++) {
      const world = new SchedulerWorld(seed, "code");
      const nodes = Array.from({ length: 4 }, () => world.addNode({ ...HONEST, fetchBytes: 1e6 }));
      const batch = withAllOn(world, nodes[seed % 4]!);
      expect(world.run(() => batch.isDone, HOUR_MS)).toBe(true);
      expect(world.movedBytes).toBe(0);
      // 200 packets of 20 ms on 2 slots are 2 s.
      expect(batch.doneAt).toBeLessThan(3_000);
    }
  });

  test("some bytes are nowhere in particular: those go anywhere", () => {
    const world = new SchedulerWorld(1, "code");
    const nodes = Array.from({ length: 4 }, () => world.addNode(HONEST));
    const holders = Array.from(bytes, (_, task) => (task % 2 === 0 ? nodes[0] : undefined));
    const batch = world.addBatch(costs, bytes, {}, holders);
    expect(world.run(() => batch.isDone, HOUR_MS)).toBe(true);
    expect(world.movedBytes).toBe(0);
    for (const node of nodes) expect(node.spent.get(batch.id)).toBeGreaterThan(0);
  });

  test("whoever has them swallows every packet, does not load the program, or is gone: others do it", () => {
    for (const character of [{ swallows: 1 }, { loadFails: 1 }, { loadMs: HOUR_MS }]) {
      const world = new SchedulerWorld(2, "code");
      const home = world.addNode({ ...HONEST, ...character });
      for (let other = 0; other < 3; other++) world.addNode({ ...HONEST, fetchBytes: 1e5 });
      const batch = withAllOn(world, home);
      expect(world.run(() => batch.isDone, 120_000)).toBe(true);
    }
    const world = new SchedulerWorld(3, "code");
    const home = world.addNode(HONEST);
    world.addNode({ ...HONEST, fetchBytes: 1e5 });
    const batch = withAllOn(world, home);
    world.clock.after(200, () => world.kill(home));
    expect(world.run(() => batch.isDone, 20_000)).toBe(true);
  });
});

describe("fairness", () => {
  const share = (options: { weights: [number, number]; costs: [number, number] }): number => {
    const world = new SchedulerWorld(11);
    const nodes = [world.addNode(HONEST), world.addNode({ ...HONEST, workers: 4 })];
    const [first, second] = options.costs.map((cost, index) =>
      world.addBatch(new Float64Array(40_000).fill(cost), new Float64Array(40_000), {
        weight: options.weights[index]!,
      }),
    );
    world.run(() => world.clock.now > 20_000, HOUR_MS);
    const spent = (batch: SimulatedBatch): number =>
      nodes.reduce((sum, node) => sum + (node.spent.get(batch.id) ?? 0), 0);
    return spent(first!) / (spent(first!) + spent(second!));
  };

  test("two jobs alike get about half each", () => {
    const part = share({ weights: [1, 1], costs: [5, 5] });
    expect(part).toBeGreaterThan(0.4);
    expect(part).toBeLessThan(0.6);
  });

  test("a job of weight 3 gets about three quarters", () => {
    const part = share({ weights: [3, 1], costs: [5, 5] });
    expect(part).toBeGreaterThan(0.65);
    expect(part).toBeLessThan(0.85);
  });

  test("a job of slow packets does not starve one of fast packets, nor the other way round", () => {
    const part = share({ weights: [1, 1], costs: [200, 2] });
    expect(part).toBeGreaterThan(0.2);
    expect(part).toBeLessThan(0.995);
  });

  test("a job that comes while another has filled the executors begins at once", () => {
    const world = new SchedulerWorld(5);
    world.addNode(HONEST);
    const long = world.addBatch(new Float64Array(5_000).fill(50), new Float64Array(5_000));
    world.run(() => world.clock.now > 5_000, HOUR_MS);
    const again = new SchedulerWorld(5);
    again.addNode(HONEST);
    again.addBatch(new Float64Array(5_000).fill(50), new Float64Array(5_000));
    let short: SimulatedBatch | undefined;
    again.clock.after(5_000, () => {
      short = again.addBatch(new Float64Array(10).fill(10), new Float64Array(10));
    });
    expect(again.run(() => short?.isDone === true, HOUR_MS)).toBe(true);
    expect(short!.doneAt).toBeLessThan(8_000);
    expect(long.isDone).toBe(false);
  });
});
