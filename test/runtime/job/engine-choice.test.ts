/** Which class of engine a job runs on: what is measured goes before what is calculated, and what is asked for before both. */
import { describe, expect, test } from "vitest";
import { KernelAverages } from "../../../runtime/program/kernel/averages.ts";
import { bucketOf, workOf } from "../../../runtime/program/kernel/cost.ts";
import type { ExpectedCalls } from "../../../runtime/program/kernel/estimate.ts";
import { chooseEngine, engineOptions } from "../../../runtime/job/engine-choice.ts";
import type { EngineQuestion } from "../../../runtime/job/engine-choice.ts";
import { INFO } from "../engine/kernels.ts";

const GPU = {
  ...INFO,
  label: "GPU A",
  calibration: { uploadGBps: 9, downloadGBps: 7, launchMs: 0.65, gops: 4600 },
};
const OTHER = { ...GPU, label: "GPU B", engineClass: "other-0123456789ab" };
const CPUS = { capacity: { js: 16, kernel: 16 }, edition: "v8" };
const ON_GPU = { capacity: { kernel: 4 }, edition: `v8-${GPU.engineClass}`, accelerator: GPU };
const ON_OTHER = { capacity: { kernel: 4 }, edition: `v8-${OTHER.engineClass}`, accelerator: OTHER };

function calls(fields: Partial<ExpectedCalls["size"]> = {}, count = 32): ExpectedCalls {
  const size = { operations: 2e9, inputBytes: 8e6, uploadBytes: 8e6, outputBytes: 4e6, ...fields };
  return { kernel: 0, key: "k", size, calls: count, sharedBytes: 0, rangeBytes: 0 };
}

function question(fields: Partial<EngineQuestion> = {}): EngineQuestion {
  return { lost: new Set(), calls: [calls()], averages: new KernelAverages(), ...fields };
}

describe("what a job can run on", () => {
  test("are editions, with all that executors of each lend: CPUs by packets, GPUs one by one", () => {
    const options = engineOptions(
      [CPUS, CPUS, ON_GPU, ON_GPU, { capacity: { code: 4 }, edition: "1" }],
      "kernel",
    );
    expect(options).toMatchObject([
      { edition: "v8", engine: "cpu", engineClass: "cpu", lanes: 32 },
      { edition: ON_GPU.edition, engine: "gpu", engineClass: GPU.engineClass, label: "GPU A", lanes: 2 },
    ]);
    expect(engineOptions([CPUS], "code")).toEqual([]);
  });
});

describe("a job whose results depend on the engine", () => {
  const options = engineOptions([CPUS, ON_GPU], "kernel");

  test("runs on a GPU where much is computed over few bytes, and on CPUs where it is the other way round", () => {
    const much = chooseEngine(options, question())!;
    expect(much.option.engine).toBe("gpu");
    expect(much.reason).toMatch(/^it should take .*ms, and .* on CPUs, as calculated$/);
    const little = [calls({ operations: 1e6, inputBytes: 64e6, uploadBytes: 64e6, outputBytes: 64e6 })];
    const { option, reason } = chooseEngine(options, question({ calls: little }))!;
    expect([option.engine, reason]).toEqual(["cpu", expect.stringMatching(/on GPU A, as calculated$/)]);
  });

  test("counts what all its calls share once, and does not send it again", () => {
    const scan = { operations: 8e6, inputBytes: 1e9, uploadBytes: 1e9, outputBytes: 4 };
    const averages = new KernelAverages();
    // CPUs that get through bytes as fast as memory gives them.
    averages.add({
      kernel: "other",
      isCounted: true,
      engineClass: "cpu",
      bucket: 2 ** 30,
      calls: 16,
      milliseconds: 16 * 75,
    });
    expect(chooseEngine(options, question({ calls: [calls(scan, 320)], averages }))!.option.engine).toBe(
      "cpu",
    );
    const shared = { ...calls({ ...scan, uploadBytes: 0 }, 320), sharedBytes: 1e9 };
    expect(chooseEngine(options, question({ calls: [shared], averages }))!.option.engine).toBe("gpu");
  });

  test("sends nothing that is in a class's memory already", () => {
    const scan = { operations: 8e6, inputBytes: 1e9, uploadBytes: 1e9, outputBytes: 4 };
    const averages = new KernelAverages();
    const other = { kernel: "other", isCounted: true, engineClass: "cpu", bucket: 2 ** 30 } as const;
    averages.add({ ...other, calls: 16, milliseconds: 16 * 75 });
    const once = { ...calls({ ...scan, uploadBytes: 0 }, 1), sharedBytes: 1e9 };
    const ranges = { ...calls(scan, 1), rangeBytes: 1e9 };
    const engineWith = (call: typeof once, resident: { files: boolean; ranges: boolean }): string => {
      const residentOn = (engineClass: string): typeof resident =>
        engineClass === GPU.engineClass ? resident : { files: false, ranges: false };
      return chooseEngine(options, question({ calls: [call], averages, residentOn }))!.option.engine;
    };
    expect(engineWith(once, { files: false, ranges: true })).toBe("cpu");
    expect(engineWith(once, { files: true, ranges: false })).toBe("gpu");
    expect(engineWith(ranges, { files: true, ranges: false })).toBe("cpu");
    expect(engineWith(ranges, { files: false, ranges: true })).toBe("gpu");
  });

  test("believes what was measured, and says so once both engines were", () => {
    const averages = new KernelAverages();
    const [only] = question().calls;
    const bucket = bucketOf(workOf(only!.size));
    averages.add({
      kernel: "k",
      isCounted: true,
      engineClass: GPU.engineClass,
      bucket,
      calls: 4,
      milliseconds: 4 * 5_000,
    });
    const slower = chooseEngine(options, question({ averages }))!;
    expect([slower.option.engine, slower.reason]).toEqual(["cpu", expect.stringMatching(/as calculated$/)]);
    averages.add({
      kernel: "k",
      isCounted: true,
      engineClass: "cpu",
      bucket,
      calls: 4,
      milliseconds: 4 * 500_000,
    });
    const faster = chooseEngine(options, question({ averages }))!;
    expect([faster.option.engine, faster.reason]).toEqual([
      "gpu",
      expect.stringMatching(/as measured before$/),
    ]);
    expect(faster.callMs.get(0)).toBe(5_000);
  });

  test("expects a kernel's code to be made once on a GPU that never ran it, on one of that many at once", () => {
    const averages = new KernelAverages();
    const [only] = question().calls;
    const before = chooseEngine(options, question({ averages }))!;
    expect(before.option.engine).toBe("gpu");
    const compiled = { kernel: "other", isCounted: false, engineClass: GPU.engineClass, bucket: 1 } as const;
    averages.add({ ...compiled, calls: 1, milliseconds: 1, compileMs: 8e7 });
    expect(chooseEngine(options, question({ averages }))!.option.engine).toBe("cpu");
    // What was measured there has been made there.
    const { key: kernel, size } = only!;
    const known = { kernel, isCounted: false, engineClass: GPU.engineClass, bucket: bucketOf(workOf(size)) };
    averages.add({ ...known, calls: 1, milliseconds: 1 });
    expect(chooseEngine(options, question({ averages }))!.option.engine).toBe("gpu");
  });

  test("stays on CPUs as long as nothing is known of its kernels", () => {
    const { option, reason } = chooseEngine(options, question({ calls: [] }))!;
    expect([option.engine, reason]).toEqual(["cpu", expect.stringContaining("not known beforehand")]);
  });

  test("runs on what there is", () => {
    const reasons = [CPUS, ON_GPU].map(
      (only) => chooseEngine(engineOptions([only], "kernel"), question())!.reason,
    );
    expect(reasons).toEqual(["there is no GPU", "nothing else runs it"]);
  });

  test("runs on what was asked for, or on nothing", () => {
    const cpu = chooseEngine(options, question({ wanted: "cpu" }))!;
    expect([cpu.option.engine, cpu.reason]).toEqual(["cpu", "it was asked for"]);
    expect(chooseEngine(options, question({ wanted: "gpu", calls: [] }))!.option.engine).toBe("gpu");
    expect(chooseEngine(engineOptions([CPUS], "kernel"), question({ wanted: "gpu" }))).toBeUndefined();
    expect(chooseEngine([], question())).toBeUndefined();
  });

  test("goes on with the next best, each of them once", () => {
    const all = engineOptions([CPUS, ON_OTHER, ON_GPU, ON_GPU], "kernel");
    const lost = new Set<string>();
    const tried: string[] = [];
    for (;;) {
      const plan = chooseEngine(all, question({ lost }));
      if (plan === undefined) break;
      tried.push(plan.option.label);
      lost.add(plan.option.edition);
      if (tried.length > 1) expect(plan.reason).toContain("did not run it");
    }
    // Two of one class are done before one of another.
    expect(tried).toEqual(["GPU A", "GPU B", "CPUs"]);
    expect(
      chooseEngine(all, question({ wanted: "gpu", lost: new Set([ON_GPU.edition]) }))!.option.label,
    ).toBe("GPU B");
    expect(chooseEngine(all, question({ wanted: "gpu", lost }))).toBeUndefined();
  });

  test("chooses the same whatever order executors came in", () => {
    const executors = [CPUS, ON_OTHER, ON_GPU, ON_GPU, { ...CPUS, edition: "v9" }];
    const chosen = new Set<string>();
    for (let turn = 0; turn < executors.length; turn++) {
      executors.push(executors.shift()!);
      chosen.add(chooseEngine(engineOptions(executors, "kernel"), question())!.option.edition);
    }
    expect([...chosen]).toEqual([ON_GPU.edition]);
  });
});
