/** Two adapters of one machine, both imitated by a CPU: each has processes of its own, and goes alone. */
import { rm } from "node:fs/promises";
import { delimiter } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findAccelerators } from "../../../runtime/accelerator/accelerators.ts";
import type { Accelerator, FoundAccelerators } from "../../../runtime/contracts/kernels.ts";
import { gpuProcessesOf, signalAll } from "../../suites/processes.ts";
import { noTwoGpus, writeDriver } from "../../suites/two-gpus.ts";
import { until } from "../../suites/until.ts";
import { failure, temporaryDirectory } from "../store/store-fixture.ts";
import { mix, mixed } from "./kernels.ts";

const VARIABLE = "VK_DRIVER_FILES";
const source = { read: (): Promise<never> => Promise.reject(new Error("no chunks here")) };
const { signal } = new AbortController();
const words = Uint32Array.from({ length: 10_000 }, (_, index) => index);

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
const before = process.env[VARIABLE];

beforeAll(async () => {
  directory = await temporaryDirectory();
});
afterAll(async () => {
  if (before === undefined) delete process.env[VARIABLE];
  else process.env[VARIABLE] = before;
  await directory[Symbol.asyncDispose]();
});

/** Over drivers of these manifests, and no other. */
async function find(drivers: readonly string[]): Promise<FoundAccelerators> {
  process.env[VARIABLE] = drivers.join(delimiter);
  return await findAccelerators({ source, isSoftwareUsed: true });
}

async function isRight(gpu: Accelerator): Promise<boolean> {
  const call = {
    kernel: mix,
    dimensions: { n: words.length },
    inputs: [{ bytes: new Uint8Array(words.buffer) }],
  };
  const { outputs } = await gpu.run(call, signal);
  return Buffer.compare(outputs!, new Uint8Array(mixed(words).buffer)) === 0;
}

describe.skipIf(noTwoGpus !== undefined)("two adapters", () => {
  test("are both used, measured each, in an order that stays", async () => {
    const drivers = [
      await writeDriver(directory.path, "lavapipe", "lavapipe"),
      await writeDriver(directory.path, "swiftshader", "swiftshader"),
    ];
    const { accelerators, unused } = await find(drivers);
    expect(unused).toEqual([]);
    const labels = accelerators.map(({ info }) => info.label);
    expect(labels.toSorted()).toEqual([
      expect.stringMatching(/^SwiftShader/),
      expect.stringMatching(/^llvmpipe/),
    ]);
    expect(new Set(accelerators.map(({ info }) => info.engineClass)).size).toBe(2);
    for (const { info } of accelerators)
      for (const measured of Object.values(info.calibration)) expect(measured).toBeGreaterThan(0);
    expect(await Promise.all(accelerators.map(isRight))).toEqual([true, true]);
    const again = await find(drivers);
    expect(again.accelerators.map(({ info }) => info.label)).toEqual(labels);
    await Promise.all([...accelerators, ...again.accelerators].map((each) => each.close()));
  });

  test("go one by one: one whose driver is taken away is gone, and the other computes", async () => {
    const lost = await writeDriver(directory.path, "lost", "swiftshader");
    const { accelerators } = await find([await writeDriver(directory.path, "kept", "lavapipe"), lost]);
    const [gone] = accelerators.filter(({ info }) => info.label.startsWith("Swift"));
    const [kept] = accelerators.filter(({ info }) => !info.label.startsWith("Swift"));
    await rm(lost);
    signalAll(gpuProcessesOf(process.pid), "SIGKILL");
    // Each is told by the call that finds its process dead, or by the one after it.
    const call = { kernel: mix, dimensions: { n: 1 }, inputs: [{ bytes: new Uint8Array(4) }] };
    let isGone = false;
    void gone!.gone.then(() => (isGone = true));
    await until(async () => {
      if (!isGone) await failure(gone!.run(call, signal)).catch(() => undefined);
      return isGone;
    });
    expect(await gone!.gone).toMatch(/^no process of it starts any more/);
    expect(await isRight(kept!)).toBe(true);
    await Promise.all(accelerators.map((each) => each.close()));
  });

  test("of one model are one that is used, and one of which is said why not", async () => {
    const drivers = [
      await writeDriver(directory.path, "one", "lavapipe"),
      await writeDriver(directory.path, "two", "lavapipe"),
    ];
    const { accelerators, unused } = await find(drivers);
    expect(accelerators).toHaveLength(1);
    expect(unused).toEqual([
      {
        label: accelerators[0]!.info.label,
        reason: expect.stringContaining("nothing tells the two apart"),
      },
    ]);
    await Promise.all(accelerators.map((each) => each.close()));
  });
});
