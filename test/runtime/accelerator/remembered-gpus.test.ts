/** GPUs that are looked for again: what was measured is not measured again, and a driver that hangs is not waited for again. */
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { findAccelerators } from "../../../runtime/accelerator/accelerators.ts";
import type { FindOptions } from "../../../runtime/accelerator/accelerators.ts";
import type { AcceleratorInfo, FoundAccelerators } from "../../../runtime/contracts/kernels.ts";
import { copyDrivers, noGpu } from "../../suites/gpu.ts";
import { outputSync } from "../../suites/run-sync.ts";
import { temporaryDirectory } from "../store/store-fixture.ts";

const VARIABLE = "VK_DRIVER_FILES";
const PATIENCE_MS = 300;
const source = { read: (): Promise<never> => Promise.reject(new Error("no chunks here")) };
const before = process.env[VARIABLE];

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let history: string;
let files = 0;

beforeAll(async () => {
  directory = await temporaryDirectory();
});
afterAll(() => directory[Symbol.asyncDispose]());
beforeEach(() => {
  history = join(directory.path, `${files++}.json`);
  return restore;
});

function restore(): void {
  if (before === undefined) delete process.env[VARIABLE];
  else process.env[VARIABLE] = before;
}

async function find(options: Partial<FindOptions> = {}): Promise<FoundAccelerators> {
  const found = await findAccelerators({ source, isSoftwareUsed: true, history, ...options });
  await Promise.all(found.accelerators.map((each) => each.close()));
  return found;
}

async function infoOf(options: Partial<FindOptions> = {}): Promise<AcceleratorInfo> {
  const { accelerators } = await find(options);
  return accelerators[0]!.info;
}

/** What the file remembers, each number of it ten times as much. */
async function exaggerate(): Promise<void> {
  const kept = JSON.parse(await readFile(history, "utf8")) as { calibrations: Record<string, number>[] };
  for (const each of kept.calibrations)
    for (const name of ["uploadGBps", "downloadGBps", "launchMs", "gops"]) each[name]! *= 10;
  await writeFile(history, JSON.stringify(kept));
}

describe.skipIf(noGpu !== undefined)("GPUs that are looked for again", () => {
  test("are what was measured of them, unless somebody wants to know anew", async () => {
    const { calibration: measured } = await infoOf();
    expect((await infoOf()).calibration).toEqual(measured);
    await exaggerate();
    const { calibration } = await infoOf();
    expect(calibration.gops).toBe(measured.gops * 10);
    const afresh = await infoOf({ looksAfresh: true });
    expect(afresh.calibration).not.toEqual(calibration);
    expect((await infoOf()).calibration).toEqual(afresh.calibration);
  });

  test("are measured again by another driver, or another version of it", async () => {
    process.env[VARIABLE] = (await copyDrivers(join(directory.path, "drivers")))[VARIABLE];
    await infoOf();
    await exaggerate();
    const { calibration } = await infoOf();
    restore();
    // The same bytes in the same place, at another time.
    process.env[VARIABLE] = (await copyDrivers(join(directory.path, "drivers")))[VARIABLE];
    expect((await infoOf()).calibration).not.toEqual(calibration);
  });

  test("are not waited for where their driver hung, until it is another one or somebody wants to know", async () => {
    const driver = join(directory.path, "hanging.json");
    outputSync("mkfifo", [driver]);
    process.env[VARIABLE] = driver;
    const first = await find({ findMsMax: PATIENCE_MS });
    expect(first).toMatchObject({
      accelerators: [],
      unused: [{ label: "GPU", reason: expect.stringMatching(/did not answer within/) }],
    });
    // Whoever waits for it would wait for longer than a test may take.
    const second = await find({ findMsMax: 2 ** 31 - 1 });
    expect(second.unused).toEqual([
      { label: "GPU", reason: expect.stringMatching(/did not answer .* ago, .*pfs doctor/) },
    ]);
    const third = await find({ findMsMax: PATIENCE_MS, looksAfresh: true });
    expect(third.unused).toMatchObject([{ reason: expect.stringMatching(/did not answer within/) }]);
    await rm(driver);
    restore();
    process.env[VARIABLE] = (await copyDrivers(join(directory.path, "others")))[VARIABLE];
    expect((await find()).accelerators).toHaveLength(1);
  });
});
