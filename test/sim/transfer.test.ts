import { describe, expect, test } from "vitest";
import { TRANSFER_CREDIT_BYTES_MIN } from "../../nodes/limits.ts";
import { assert } from "./assert.ts";
import { Random } from "./random.ts";
import { QUIET } from "./transfer-trouble.ts";
import type { Trouble } from "./transfer-trouble.ts";
import { TransferWorld } from "./transfer-world.ts";

/** `PACKETFS_SIM_SEEDS` runs more of them, `PACKETFS_SIM_SEED` a single one. */
const SEEDS = Number(process.env["PACKETFS_SIM_SEEDS"] ?? 300);
const ONLY = process.env["PACKETFS_SIM_SEED"];
const DAY_MS = 86_400_000;

describe("any mishap, by seed", () => {
  test(`${SEEDS} seeds: each transfer ends right or with an error that has a code`, () => {
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

function rough(seed: number): void {
  const world = new TransferWorld(seed, troubleOf(new Random(seed + 1_000_000)));
  addTasks(world);
  assert(world.run(DAY_MS), `not over after a day: ${world.tasks.map(({ outcome }) => outcome).join(", ")}`);
  world.checkRight();
}

function troubleOf(random: Random): Trouble {
  const often = (share: number, most: number): number => (random.chance(share) ? random.between(0, most) : 0);
  return {
    drops: often(0.2, 0.02),
    delayMs: random.chance(0.2) ? random.between(100, 2_000) : random.between(0, 50),
    breaksMs: random.chance(0.4) ? random.between(500, 20_000) : Number.POSITIVE_INFINITY,
    crashesMs: random.chance(0.4) ? random.between(500, 20_000) : Number.POSITIVE_INFINITY,
    damaged: often(0.3, 0.1),
    mended: random.chance(0.7) ? 1 : random.next(),
    badBases: often(0.3, 0.2),
    hubLies: often(0.2, 0.2),
    clientLies: often(0.2, 0.2),
    aside: random.chance(0.8) ? random.between(0.5, 1) : 0,
    cancelled: often(0.2, 0.5),
    placeMs: random.chance(0.7) ? 8 : random.between(8, 200),
    toldMs: random.chance(0.3) ? random.between(100, 2_000) : 20,
    lagMs: random.chance(0.4) ? 0 : random.chance(0.2) ? random.between(50, 500) : random.between(0, 20),
    unwritten: often(0.2, 0.2),
    restarts: often(0.3, 0.3),
  };
}

function addTasks(world: TransferWorld): void {
  const { random, clock } = world;
  for (let left = random.chance(0.1) ? 14 : random.integer(1, 5); left > 0; left--) {
    const base = world.file(random.integer(1, 60));
    const literalBytes = random.chance(0.1) ? random.integer(0, 9_000_000_000) : 0;
    const file = world.file(random.integer(1, 60), base, literalBytes);
    const bases = random.chance(0.5) ? [base] : [];
    const kind = random.chance(0.5) ? "get" : "put";
    const name = kind === "get" && random.chance(0.5) ? `name ${left}` : undefined;
    const add = (): void => void world.task(kind, file, { name, bases, isUrgent: random.chance(0.2) });
    if (left === 1) add();
    else if (random.chance(0.5)) add();
    else clock.after(random.between(0, 3_000), add);
  }
}

describe("what is sent again", () => {
  test("after ends of channels and crashes of either side is at most what was on its way", () => {
    let [breaks, unheard] = [0, 0];
    for (let seed = 1; seed <= 60; seed++) {
      const trouble = seed % 2 === 0 ? { breaksMs: 900 } : { crashesMs: 1_500 };
      const aside = seed % 5 < 3 ? { aside: 1, lagMs: 5 } : {};
      const world = new TransferWorld(seed, { ...QUIET, ...trouble, ...aside });
      const base = world.file(150);
      const task = world.task(seed % 3 === 0 ? "put" : "get", world.file(150, base), {
        bases: seed % 4 < 2 ? [base] : [],
      });
      expect(world.run(DAY_MS)).toBe(true);
      expect(task.outcome).toBe("right");
      world.checkRight();
      // And what a thread has placed that could not say so any more.
      const unknown = world.breaks * TRANSFER_CREDIT_BYTES_MIN + world.unheardBytes;
      expect(task.sentBytes).toBeLessThanOrEqual(task.lackingBytes + unknown);
      breaks += world.breaks;
      unheard += world.unheardBytes;
    }
    expect(breaks).toBeGreaterThan(60);
    expect(unheard).toBeGreaterThan(TRANSFER_CREDIT_BYTES_MIN);
  });

  test.each([
    ["a core", QUIET],
    ["a thread, of which the core hears later", { ...QUIET, aside: 1, lagMs: 5, toldMs: 200 }],
  ])(
    "is nothing where nothing goes wrong, and nothing is sent of what is known: %s places it",
    (_, trouble) => {
      const world = new TransferWorld(1, trouble);
      const base = world.file(100);
      const [got, put] = [world.file(100, base), world.file(100, base)];
      const tasks = [world.task("get", got, { bases: [base] }), world.task("put", put, { bases: [base] })];
      expect(world.run(DAY_MS)).toBe(true);
      for (const { sentBytes, lackingBytes } of tasks) expect(sentBytes).toBe(lackingBytes);
      const again = world.task("put", put);
      expect(world.run(DAY_MS)).toBe(true);
      expect(again.sentBytes).toBe(0);
    },
  );

  test("is what was damaged at the sender, mended there", () => {
    const world = new TransferWorld(7, { ...QUIET, damaged: 0.2 });
    const task = world.task("get", world.file(100));
    expect(world.run(DAY_MS)).toBe(true);
    expect(task.outcome).toBe("right");
    expect(task.sentBytes).toBeGreaterThan(task.lackingBytes);
    expect(task.sentBytes).toBeLessThan(task.lackingBytes * 1.5);
  });

  test("is without a base where the base is damaged here", () => {
    const world = new TransferWorld(7, { ...QUIET, badBases: 0.2 });
    const base = world.file(100);
    const task = world.task("get", world.file(100, base), { bases: [base] });
    expect(world.run(DAY_MS)).toBe(true);
    expect(task.outcome).toBe("right");
    world.checkRight();
  });
});

describe("transfers that share a channel", () => {
  test("get the same of it, and those that somebody waits for all of it", () => {
    const world = new TransferWorld(3, QUIET);
    const first = world.task("get", world.file(200));
    const second = world.task("get", world.file(200));
    world.clock.after(300, () => {
      const urgent = world.task("get", world.file(40), { isUrgent: true });
      const halves = [first.sentBytes, second.sentBytes];
      expect(Math.min(...halves)).toBeGreaterThan(0.6 * Math.max(...halves));
      const watch = (): void => {
        if (urgent.outcome === "open") return world.clock.after(1, watch);
        expect(first.outcome).toBe("open");
        expect(second.outcome).toBe("open");
      };
      watch();
    });
    expect(world.run(DAY_MS)).toBe(true);
    expect(world.tasks.map(({ outcome }) => outcome)).toEqual(["right", "right", "right"]);
  });
});
