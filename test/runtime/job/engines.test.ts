/** Jobs whose results depend on the engine: planned on one class, and begun again on another when that is lost. */
import { describe, expect, test } from "vitest";
import { FaultCode } from "../../../packets/faults.ts";
import { ENGINE_WAIT_MS, JOB_ENGINES_MAX } from "../../../runtime/limits.ts";
import type { KernelUse } from "../../../runtime/contracts/kernels.ts";
import type { JobOutcome } from "../../../runtime/contracts/jobs.ts";
import type { ProgramDescription } from "../../../runtime/program/program.ts";
import { FLOAT_KERNEL, INFO } from "../engine/kernels.ts";
import type { ScriptedExecutor, Waiting } from "./scripted-executor.ts";
import { ScriptedWorld, settle } from "./scripted-world.ts";

const GPU_EDITION = `test-${INFO.engineClass}`;
const FAST = { ...INFO, calibration: { uploadGBps: 10, downloadGBps: 10, launchMs: 0.1, gops: 10_000 } };
const OTHER = { ...FAST, label: "another GPU", engineClass: "other-0123456789ab" };

const FLOATS: Partial<ProgramDescription> = { kernels: [FLOAT_KERNEL] };

/** What the first split is found to call. */
function estimate(n: number): string {
  return JSON.stringify([{ kernel: 0, dimensions: { n }, scalars: {}, inputs: ["range"] }]);
}

function use(fields: Partial<KernelUse> = {}): KernelUse {
  return {
    kernel: 0,
    engine: "gpu",
    engineClass: INFO.engineClass,
    bucket: 1024,
    calls: 1,
    milliseconds: 3,
    reason: "the job runs on it",
    ...fields,
  };
}

/** Answers by where it is: results of different engines show. */
function answering(name: string, n = 1_000_000): { taken: (waiting: Waiting) => void } {
  return {
    taken: ({ entry, lane, packet }) => {
      if (entry === "estimate") return lane.answer(packet, estimate(n));
      return lane.answer(packet, entry === "finish" ? JSON.stringify(name) : name);
    },
  };
}

function entriesOf(executor: ScriptedExecutor): string[] {
  return executor.lanes.map(({ entry }) => entry);
}

describe("where it is planned to run", () => {
  test("is a GPU where its kernels do much, and all of it runs there: maps, merges and what finishes it", async () => {
    const world = new ScriptedWorld();
    const cpu = world.add("cpu", answering("cpu"), 4);
    const gpu = world.add("gpu", answering("gpu"), 2, GPU_EDITION, FAST);
    const input = await world.putFile("x", 4_000);
    const { value, statistics } = await world.run({ inputs: [input], splitBytes: 100 }, FLOATS);
    expect([value, statistics.byNode]).toEqual(["gpu", { "node gpu": 40 }]);
    expect(new Set(entriesOf(gpu))).toEqual(new Set(["map", "merge", "finish"]));
    expect(entriesOf(cpu).filter((entry) => entry !== "estimate")).toEqual([]);
  });

  test("are CPUs where they do little, or nobody says what, or no GPU is there", async () => {
    const world = new ScriptedWorld();
    world.add("cpu", answering("cpu", 1), 4);
    const input = await world.putFile("x", 1_000);
    const alone = await world.run({ inputs: [input], splitBytes: 100 }, FLOATS);
    expect(alone.value).toBe("cpu");
    const gpu = world.add("gpu", answering("gpu", 1), 2, GPU_EDITION, FAST);
    expect((await world.run({ inputs: [input], splitBytes: 100 }, FLOATS)).value).toBe("cpu");
    for (const nonsense of ["", "{}", "[1]", estimate(2 ** 52)]) {
      const silent = new ScriptedWorld();
      const says = answering("cpu");
      silent.add("cpu", {
        taken: (waiting) =>
          waiting.entry === "estimate" ? waiting.lane.answer(waiting.packet, nonsense) : says.taken(waiting),
      });
      silent.add("gpu", { taken: says.taken }, 2, GPU_EDITION, FAST);
      const file = await silent.putFile("x", 1_000);
      expect((await silent.run({ inputs: [file], splitBytes: 100 }, FLOATS)).value).toBe("cpu");
    }
    expect(entriesOf(gpu).filter((entry) => entry !== "estimate")).toEqual([]);
  });

  test("is not asked where there is nothing to choose", async () => {
    const world = new ScriptedWorld();
    const cpu = world.add("cpu", answering("cpu"), 4);
    const input = await world.putFile("x", 1_000);
    await world.run({ inputs: [input], splitBytes: 100 }, FLOATS);
    const gpu = world.add("gpu", answering("gpu"), 2, GPU_EDITION, FAST);
    expect((await world.run({ inputs: [input], splitBytes: 100, engine: "cpu" }, FLOATS)).value).toBe("cpu");
    expect((await world.run({ inputs: [input], splitBytes: 100, engine: "gpu" }, FLOATS)).value).toBe("gpu");
    expect([...entriesOf(cpu), ...entriesOf(gpu)]).not.toContain("estimate");
  });

  test("is refused where a GPU is asked for and there is none", async () => {
    const world = new ScriptedWorld();
    world.add("cpu", answering("cpu"), 4);
    const input = await world.putFile("x", 1_000);
    const running = world.run({ inputs: [input], engine: "gpu" }, FLOATS);
    await expect(running).rejects.toMatchObject({
      code: "PFS_NO_EXECUTOR",
      message: expect.stringContaining("there is no GPU") as unknown,
    });
    expect(world.writers).toBe(1);
  });

  test("is a GPU where that is asked for, though its results do not depend on it, and no other gets a packet", async () => {
    const world = new ScriptedWorld();
    const cpu = world.add("cpu", answering("cpu"), 4);
    const exact = { kernels: [{ ...FLOAT_KERNEL, result: "exact" as const }] };
    const input = await world.putFile("x", 1_000);
    await expect(world.run({ inputs: [input], engine: "gpu" }, exact)).rejects.toMatchObject({
      code: "PFS_NO_EXECUTOR",
      data: { reason: "no engine" },
      message: expect.stringContaining("there is no GPU") as unknown,
    });
    world.add("gpu", answering("gpu"), 2, GPU_EDITION, FAST);
    const { value, statistics } = await world.run({ inputs: [input], splitBytes: 100, engine: "gpu" }, exact);
    expect([value, statistics.retries, statistics.notes]).toEqual(["gpu", 0, []]);
    await using loaded = await world.jobs.load({ ...world.program(exact), engine: "gpu" });
    expect(loaded.loadable).toMatchObject({ kind: "kernel", edition: GPU_EDITION });
    expect(cpu.lanes).toEqual([]);
  });

  test("is any edition of CPUs as ever where results do not depend on it", async () => {
    const world = new ScriptedWorld();
    world.add("cpu", answering("cpu"), 4);
    const gpu = world.add("gpu", answering("gpu"), 2, GPU_EDITION, FAST);
    const exact = { kernels: [{ ...FLOAT_KERNEL, result: "exact" as const }] };
    const input = await world.putFile("x", 1_000);
    expect((await world.run({ inputs: [input], splitBytes: 100 }, exact)).value).toBe("cpu");
    expect(gpu.lanes).toEqual([]);
  });
});

describe("when the class that it runs on is lost", () => {
  async function started(
    taken: (waiting: Waiting, executor: ScriptedExecutor) => void,
    spec: Parameters<ScriptedWorld["run"]>[0] = {},
  ): Promise<{ world: ScriptedWorld; gpu: ScriptedExecutor; outcome: Promise<JobOutcome> }> {
    const world = new ScriptedWorld();
    world.add("cpu", answering("cpu"), 4);
    const estimates = answering("gpu");
    const gpu = world.add(
      "gpu",
      {
        taken: (waiting, executor) =>
          waiting.entry === "estimate" ? estimates.taken(waiting) : taken(waiting, executor),
      },
      2,
      GPU_EDITION,
      FAST,
    );
    const input = await world.putFile("x", 2_000);
    const outcome = world.run({ inputs: [input], splitBytes: 100, ...spec }, FLOATS);
    outcome.catch(() => undefined);
    await settle();
    return { world, gpu, outcome };
  }

  test("by a kernel that it does not run any more, all packets run again on one other, once", async () => {
    let answered = 0;
    const faults: number[] = [];
    const { world, outcome } = await started(({ lane, packet }) => {
      if (answered++ < 7) return lane.answer(packet, "gpu");
      faults.push(packet.at);
      return lane.fault(packet, FaultCode.engineLost, "the GPU does not run it any more");
    });
    const { value, statistics } = await outcome;
    expect([value, statistics.byNode]).toEqual(["cpu", { "node cpu": 20 }]);
    // No packet is tried there twice.
    expect(new Set(faults).size).toBe(faults.length);
    expect(statistics.retries).toBeGreaterThanOrEqual(7);
    expect(statistics.notes).toContainEqual(
      expect.stringMatching(/^a GPU of tests is given up, and all packets run again: /),
    );
    expect(world.writers).toBe(1);
    expect(world.events.filter(({ kind }) => kind === "started")).toHaveLength(1);
    // The next one does not begin where that was given up.
    const input = await world.putFile("y", 2_000);
    const next = await world.run({ id: "next", inputs: [input], splitBytes: 100 }, FLOATS);
    expect([next.value, next.statistics.retries]).toEqual(["cpu", 0]);
  });

  test("by its executor's end, it waits for another one for a second, and no longer", async () => {
    const { world, gpu, outcome } = await started(({ lane, packet }) => {
      if (packet.at < 5) lane.answer(packet, "gpu");
    });
    world.executors.remove(gpu);
    await world.pass(ENGINE_WAIT_MS + 200);
    expect((await outcome).value).toBe("cpu");
  });

  test("for a moment, it goes on there", async () => {
    const { world, gpu, outcome } = await started(() => undefined);
    world.executors.remove(gpu);
    await world.pass(ENGINE_WAIT_MS / 2);
    world.add("again", answering("gpu"), 2, GPU_EDITION, FAST);
    await world.pass(ENGINE_WAIT_MS);
    const { value, statistics } = await outcome;
    expect([value, statistics.byNode]).toEqual(["gpu", { "node again": 20 }]);
  });

  test("one by one, it tries each class once, CPUs last", async () => {
    const world = new ScriptedWorld();
    const tried: string[] = [];
    const losing = (name: string): { taken: (waiting: Waiting) => void } => ({
      taken: (waiting) => {
        if (waiting.entry === "estimate") return answering(name).taken(waiting);
        if (!tried.includes(name)) tried.push(name);
        return waiting.lane.fault(waiting.packet, FaultCode.engineLost, `${name} is gone`);
      },
    });
    world.add("a", losing("a"), 2, GPU_EDITION, FAST);
    world.add("b", losing("b"), 2, `test-${OTHER.engineClass}`, OTHER);
    world.add("cpu", answering("cpu"), 1);
    const { value, statistics } = await world.run(
      { inputs: [await world.putFile("x", 500)], splitBytes: 100 },
      FLOATS,
    );
    expect(value).toBe("cpu");
    expect(tried.toSorted()).toEqual(["a", "b"]);
    expect(statistics.notes.filter((note) => note.includes("given up"))).toHaveLength(2);
  });

  test("by a machine that comes back as another each time, it ends on CPUs", async () => {
    const world = new ScriptedWorld();
    world.add("cpu", answering("cpu"), 1);
    let classes = 0;
    const join = (): void => {
      const engineClass = `class-${classes++}`;
      const liar = world.add(
        engineClass,
        {
          taken: (waiting) => {
            if (waiting.entry === "estimate") return answering("gpu").taken(waiting);
            waiting.lane.fault(waiting.packet, FaultCode.engineLost, "gone");
            if (!world.executors.list().includes(liar)) return;
            world.executors.remove(liar);
            join();
          },
        },
        2,
        `test-${engineClass}`,
        { ...FAST, engineClass },
      );
    };
    join();
    const running = world.run({ inputs: [await world.putFile("x", 500)], splitBytes: 100 }, FLOATS);
    await world.pass(JOB_ENGINES_MAX * (ENGINE_WAIT_MS + 200));
    const { value, statistics } = await running;
    expect(value).toBe("cpu");
    expect(statistics.notes.filter((note) => note.includes("given up"))).toHaveLength(JOB_ENGINES_MAX - 1);
  });

  test("in a program that has no kernels, who says so is not believed, and struck for it", async () => {
    const world = new ScriptedWorld();
    const liar = world.add(
      "liar",
      { taken: ({ lane, packet }) => lane.fault(packet, FaultCode.engineLost, "gone") },
      4,
    );
    world.add("honest", answering("right"), 1);
    for (let job = 0; job < 10; job++) {
      const input = await world.putFile("x", 1_000);
      const running = world.run({ id: `job${job}`, inputs: [input], splitBytes: 100 });
      await world.pass(2_000);
      expect((await running).value).toBe("right");
    }
    expect(liar.lanes.length).toBeGreaterThan(0);
    expect(world.jobs.barsOf("liar")).toEqual([{ kind: "js", reason: "it failed packets that others ran" }]);
  });

  test("goes to another executor of the class first, whose results are the same", async () => {
    const world = new ScriptedWorld();
    world.add("cpu", answering("cpu"), 1);
    world.add(
      "barred",
      {
        taken: (waiting) =>
          waiting.entry === "estimate"
            ? answering("gpu").taken(waiting)
            : waiting.lane.fault(waiting.packet, FaultCode.engineLost, "it is barred here"),
      },
      2,
      GPU_EDITION,
      FAST,
    );
    world.add("well", answering("gpu"), 2, GPU_EDITION, FAST);
    const running = world.run({ inputs: [await world.putFile("x", 2_000)], splitBytes: 100 }, FLOATS);
    await world.pass(2_000);
    const { value, statistics } = await running;
    expect([value, statistics.byNode]).toEqual(["gpu", { "node well": 20 }]);
    // Who says that it cannot is not struck for it.
    expect(world.jobs.barsOf("barred")).toEqual([]);
  });

  test("ends with what the GPU said where nothing else may run it", async () => {
    const { world, outcome } = await started(
      ({ lane, packet }) => lane.fault(packet, FaultCode.engineLost, "the GPU does not run it any more"),
      { engine: "gpu" },
    );
    await expect(outcome).rejects.toMatchObject({
      code: "PFS_ENGINE_LOST",
      message: expect.stringContaining("the GPU does not run it any more") as unknown,
    });
    expect(world.writers).toBe(1);
    // Nothing runs again, and nothing says so.
    expect(world.events.filter(({ kind }) => kind === "note")).toEqual([]);
  });

  test("and the job is cancelled right then, it is cancelled", async () => {
    const world = new ScriptedWorld();
    world.watched.on("job", (event) => {
      if (event.kind === "note" && event.text.includes("given up")) world.jobs.cancel(event.job);
    });
    const cpu = answering("cpu");
    const asked: string[] = [];
    const taken = (waiting: Waiting): void => {
      asked.push(waiting.entry);
      cpu.taken(waiting);
    };
    world.add("cpu", { taken }, 4);
    world.add(
      "gpu",
      { taken: ({ lane, packet }) => lane.fault(packet, FaultCode.engineLost, "gone") },
      2,
      GPU_EDITION,
      FAST,
    );
    const input = await world.putFile("x", 500);
    const outcome = world.run({ inputs: [input], splitBytes: 100 }, FLOATS);
    await expect(outcome).rejects.toMatchObject({ code: "PFS_CANCELLED" });
    expect([world.writers, asked]).toEqual([1, ["estimate"]]);
  });

  test("leaves a file under its name from one class alone", async () => {
    const world = new ScriptedWorld();
    world.add("cpu", answering("cpu"), 4);
    let answered = 0;
    world.add(
      "gpu",
      {
        taken: ({ entry, lane, packet }) => {
          if (entry === "estimate") return lane.answer(packet, estimate(1_000_000));
          if (answered++ < 15) return lane.answer(packet, "gpu");
          return lane.fault(packet, FaultCode.engineLost, "gone");
        },
      },
      2,
      GPU_EDITION,
      FAST,
    );
    const input = await world.putFile("x", 2_000);
    const { file } = await world.run(
      { inputs: [input], splitBytes: 100, out: "y" },
      { ...FLOATS, yields: "bytes", hasCombine: false },
    );
    expect(file).toMatchObject({ name: "y", length: 20 * 3 });
    expect(await world.read(world.names.get("y")!.root)).toBe("cpu".repeat(20));
  });
});

describe("what is measured", () => {
  test("is told with the job, by kernel and engine, and remembered for the next", async () => {
    const world = new ScriptedWorld();
    world.add("cpu", answering("cpu"), 4);
    const says = answering("gpu");
    world.add(
      "gpu",
      {
        taken: (waiting) => {
          if (waiting.entry === "map") waiting.lane.listener.measured?.([use(), use({ kernel: 7 })]);
          says.taken(waiting);
        },
      },
      2,
      GPU_EDITION,
      FAST,
    );
    const input = await world.putFile("x", 2_000);
    const { statistics } = await world.run({ inputs: [input], splitBytes: 100 }, FLOATS);
    expect(statistics.kernels).toEqual([
      {
        kernel: "double",
        label: INFO.label,
        engine: "gpu",
        engineClass: INFO.engineClass,
        calls: 20,
        measuredMs: 60,
        predictedMs: expect.any(Number) as unknown,
        reason: expect.stringMatching(/^it should take .* on CPUs, as calculated$/) as unknown,
      },
    ]);
    expect(world.jobs.jobs()[0]!.kernels).toEqual(statistics.kernels);
  });

  test("is not believed of what the job does not run on", async () => {
    const world = new ScriptedWorld();
    world.add("cpu", {
      taken: (waiting) => {
        waiting.lane.listener.measured?.([
          use({ engineClass: FAST.engineClass, bucket: 2 ** 30, milliseconds: 1e9 }),
        ]);
        answering("cpu").taken(waiting);
      },
    });
    const input = await world.putFile("x", 500);
    await world.run({ inputs: [input], splitBytes: 100, engine: "cpu" }, FLOATS);
    world.add("gpu", answering("gpu"), 2, GPU_EDITION, FAST);
    expect((await world.run({ inputs: [input], splitBytes: 100 }, FLOATS)).value).toBe("gpu");
  });
});

describe("once in a while, another engine runs a split too", () => {
  async function probed(answersProbe: boolean): Promise<{
    world: ScriptedWorld;
    cpu: ScriptedExecutor;
    outcome: JobOutcome;
  }> {
    const world = new ScriptedWorld();
    world.chance = 0;
    const cpu = world.add("cpu", {
      taken: (waiting) => {
        if (waiting.entry !== "estimate" && !answersProbe) return;
        // Faster than anybody thought.
        const fast = { engine: "cpu", engineClass: "cpu", bucket: 2 ** 29, milliseconds: 0.01 } as const;
        if (waiting.entry === "map") waiting.lane.listener.measured?.([use(fast)]);
        waiting.lane.listener.noted("a note of nobody's");
        answering("cpu").taken(waiting);
      },
    });
    world.add("gpu", answering("gpu"), 2, GPU_EDITION, FAST);
    const input = await world.putFile("x", 2_000);
    const outcome = await world.run({ inputs: [input], splitBytes: 100 }, FLOATS);
    await settle();
    return { world, cpu, outcome };
  }

  test("for what that takes: nobody sees its answer, and the next job is planned by it", async () => {
    const { world, cpu, outcome } = await probed(true);
    expect([outcome.value, outcome.statistics.byNode]).toEqual(["gpu", { "node gpu": 20 }]);
    expect(entriesOf(cpu).filter((entry) => entry === "map")).toHaveLength(1);
    expect(outcome.statistics.notes).toEqual([]);
    expect(cpu.lanes.every(({ isClosed }) => isClosed)).toBe(true);
    expect(world.writers).toBe(1);
    const input = await world.putFile("y", 2_000);
    const next = await world.run({ id: "next", inputs: [input], splitBytes: 100 }, FLOATS);
    expect([next.value, next.statistics.kernels]).toEqual(["cpu", expect.anything()]);
  });

  test("and the job does not wait for it, nor does what closes all jobs", async () => {
    const { world, cpu, outcome } = await probed(false);
    expect(outcome.value).toBe("gpu");
    // It goes on, and with it what it needs; no second one does meanwhile.
    const probes = (): number => cpu.waiting.filter(({ entry }) => entry === "map").length;
    expect([world.writers, probes()]).toEqual([2, 1]);
    const input = await world.putFile("y", 2_000);
    expect((await world.run({ id: "next", inputs: [input], splitBytes: 100 }, FLOATS)).value).toBe("gpu");
    expect([world.writers, probes()]).toEqual([3, 1]);
    await world.jobs.close();
    // Those that put the files.
    expect(world.writers).toBe(2);
    expect(cpu.lanes.every(({ isClosed }) => isClosed)).toBe(true);
  });

  test("not where an engine was asked for, and in no job that is cancelled", async () => {
    const world = new ScriptedWorld();
    world.chance = 0;
    const cpu = world.add("cpu", {
      taken: (waiting) => waiting.entry === "estimate" && answering("cpu").taken(waiting),
    });
    world.add(
      "gpu",
      {
        taken: ({ entry, lane, packet }) => entry === "estimate" && lane.answer(packet, estimate(1_000_000)),
      },
      2,
      GPU_EDITION,
      FAST,
    );
    const input = await world.putFile("x", 2_000);
    const asked = world.run({ id: "asked", inputs: [input], splitBytes: 100, engine: "gpu" }, FLOATS);
    asked.catch(() => undefined);
    await settle();
    expect(cpu.waiting).toEqual([]);
    const auto = world.run({ id: "auto", inputs: [input], splitBytes: 100 }, FLOATS);
    auto.catch(() => undefined);
    await settle();
    expect(cpu.waiting.filter(({ entry }) => entry === "map")).toHaveLength(1);
    world.jobs.cancel("auto");
    world.jobs.cancel("asked");
    await settle();
    expect(cpu.lanes.every(({ isClosed }) => isClosed)).toBe(true);
    // The one that put the file.
    expect(world.writers).toBe(1);
  });
});
