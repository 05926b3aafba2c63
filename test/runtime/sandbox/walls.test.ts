/** Which walls a process starts behind depends on what the machine allows, and never on how slow or how full it is. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { ExecutorProcess, standingWalls } from "../../../runtime/sandbox/process/executor-process.ts";
import { possibleEnclosures } from "../../../runtime/sandbox/process/enclosures.ts";
import { wallStates, WallName } from "../../../runtime/sandbox/process/wall-states.ts";
import { possibleConfinements } from "../../../runtime/sandbox/process/confinement.ts";
import type { Confinement } from "../../../runtime/sandbox/process/confinement.ts";
import { Walls } from "../../../runtime/sandbox/process/walls.ts";
import { descendantsOf, HAS_PROC, signalAll } from "../../suites/processes.ts";
import { runOnce, startExecutor } from "./harness.ts";

const OPTIONS = { threads: 1, rssBytesMax: 600_000_000, sharedMemoryBytes: 1 << 16 };

/** Kills processes below this one as soon as they are seen, but those that were there before; so many rounds of it. */
async function killNew(rounds: number, over: AbortSignal): Promise<void> {
  const before = descendantsOf(process.pid);
  for (let round = 0; round < rounds && !over.aborted;) {
    const found = descendantsOf(process.pid).filter((each) => !before.includes(each));
    signalAll(found, "SIGKILL");
    before.push(...found);
    if (found.length > 0) round++;
    await sleep(5);
  }
}

describe.runIf(HAS_PROC)("the walls of a machine", () => {
  it("are the same for a start that was killed and made again", async () => {
    const first = await startExecutor();
    await first.close();
    for (let start = 0; start < 3; start++) {
      const killing = killNew(1, new AbortController().signal);
      await using executor = await startExecutor();
      await killing;
      expect(executor.walls).toEqual(first.walls);
    }
  });

  it("are the same after starts of which nothing came", async () => {
    const first = await startExecutor();
    await first.close();
    const over = new AbortController();
    const killing = killNew(Infinity, over.signal);
    for (let start = 0; start < 4; start++) {
      await expect(ExecutorProcess.start(OPTIONS)).rejects.toMatchObject({
        code: "PFS_EXECUTOR_START_FAILED",
      });
    }
    over.abort();
    await killing;
    await using last = await startExecutor();
    expect(last.walls).toEqual(first.walls);
  });

  it("are told one by one, with what to do about those that are missing", async () => {
    await using executor = await startExecutor();
    const states = standingWalls()!;
    expect(states.map(({ name }) => name)).toEqual(Object.values(WallName));
    expect(
      states
        .filter(({ state }) => state === "stands")
        .map(({ name }) => name)
        .toSorted(),
    ).toEqual(executor.walls.toSorted());
    for (const { state, advice } of wallStates([], {})) {
      expect(state).not.toBe("stands");
      expect(advice).toBeDefined();
    }
  });
});

/** What a program does that asks much of an executor: memory that comes and goes, long texts, large numbers, errors. */
const BUSY = `export default { input: { kind: "lines" }, limits: { timeMs: 60_000 }, map(line) {
  let kept = [];
  for (let round = 0; round < 20; round++) kept = Array.from({ length: 50_000 }, (_, index) => ({ index, round }));
  const [, who] = /(\\w+)@/.exec(line.repeat(1000));
  try { null.x; } catch (error) { return who.length + kept.length + (2n ** 2000n).toString().length; }
}, combine: (a, b) => a + b };`;

describe.runIf(HAS_PROC)("an executor", () => {
  // The last but one has no namespaces, which most containers forbid.
  const places = possibleEnclosures()
    .slice(-2, -1)
    .flatMap((enclosure) =>
      [...possibleConfinements(), undefined].map((confinement) => ({
        enclosure,
        confinement,
        title: [...enclosure.names, ...(confinement?.names ?? [])].join(", "),
      })),
    );
  it.each(places)("does its work behind $title", async ({ enclosure, confinement }) => {
    const walls = new Walls([enclosure], confinement === undefined ? [] : [confinement]);
    const options = { ...OPTIONS, threads: 2 };
    await using executor = await ExecutorProcess.start(options, undefined, walls);
    expect(executor.walls).toEqual(expect.arrayContaining([...enclosure.names]));
    expect(await runOnce(executor, BUSY, "one@two")).toMatchObject({
      status: 0,
      text: "50606\n",
    });
  });
});

describe("a confinement", () => {
  it.runIf(HAS_PROC)("is given up alone when it is that which is impossible, with the reason", async () => {
    const [strongest] = possibleEnclosures().slice(-1);
    const impossible: Confinement = {
      names: [WallName.landlock, WallName.systemCalls],
      confine: (confined) => ({ ...confined, command: ["/bin/false"] }),
    };
    const walls = new Walls([strongest!], [impossible]);
    expect(await walls.refused(walls.current, "Landlock: Function not implemented", 1)).toBe(true);
    const next = walls.current;
    expect(next).toMatchObject({ enclosure: strongest, confinement: undefined, permission: true });
    expect(walls.stand(next)).toBe(true);
    const landlock = walls.states!.find(({ name }) => name === WallName.landlock);
    expect(landlock).toMatchObject({
      state: "missing",
      advice: expect.stringContaining("Landlock: Function not implemented") as unknown,
    });
  });
});

describe("an enclosure", () => {
  it("is not given up for what a machine is short of, nor for one process that ended", async () => {
    const walls = new Walls();
    const strongest = walls.current;
    expect(await walls.refused(strongest, "sh: 1: Cannot fork: Resource temporarily unavailable", 3)).toBe(
      false,
    );
    expect(await walls.refused(strongest, "it ended with code 1", 1)).toBe(false);
    expect(walls.current).toBe(strongest);
  });

  it("is given up when nothing runs in it, with the reason, and the next is tried", async () => {
    const impossible = { ...possibleEnclosures()[0]!, command: () => ["/bin/false"] };
    const [, ...others] = possibleEnclosures();
    const walls = new Walls([impossible, ...others]);
    const strongest = walls.current;
    expect(await walls.refused(strongest, "unshare failed: Operation not permitted", 1)).toBe(true);
    const next = walls.current;
    expect(next.enclosure).toBe(others[0]);
    expect(walls.stand(next)).toBe(true);
    const missing = walls.states!.filter(({ state }) => state === "missing");
    expect(missing.every(({ advice }) => advice !== undefined)).toBe(true);
  });

  it("stands once a process has started behind it, whatever happens later", async () => {
    const impossible = { ...possibleEnclosures()[0]!, command: () => ["/bin/false"] };
    const walls = new Walls([impossible, ...possibleEnclosures()]);
    const strongest = walls.current;
    expect(walls.stand(strongest)).toBe(true);
    expect(await walls.refused(strongest, "unshare failed: Operation not permitted", 3)).toBe(false);
    expect(walls.stand({ ...strongest })).toBe(false);
    expect(walls.current).toBe(strongest);
  });
});
