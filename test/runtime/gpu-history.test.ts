/** What is remembered of GPUs beside a store, and what of a file that says otherwise is not believed. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { GpuHistory } from "../../runtime/gpu-history.ts";
import {
  GPU_CALIBRATIONS_MAX,
  GPU_CALIBRATION_MS_MAX,
  GPU_HANG_MS,
  GPU_HISTORY_BYTES_MAX,
} from "../../runtime/limits.ts";
import { temporaryDirectory } from "./store/store-fixture.ts";

const CALIBRATION = { uploadGBps: 9, downloadGBps: 7, launchMs: 0.04, gops: 30_000 };
const KEY = "a".repeat(64);
const DRIVERS = "d".repeat(64);

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let file: string;
let files = 0;

beforeAll(async () => {
  directory = await temporaryDirectory();
});
afterAll(() => directory[Symbol.asyncDispose]());
beforeEach(() => {
  file = join(directory.path, `${files++}.json`);
  return () => vi.useRealTimers();
});

function at(milliseconds: number): void {
  vi.useFakeTimers({ now: milliseconds, toFake: ["Date"] });
}

test("what was measured is known to whoever opens the file, as long as it is young", async () => {
  at(1_000_000_000_000);
  const history = await GpuHistory.open(file);
  expect(history.calibration(KEY)).toBeUndefined();
  history.measured(KEY, CALIBRATION);
  await history.keep();
  const again = await GpuHistory.open(file);
  expect(again.calibration(KEY)).toEqual(CALIBRATION);
  expect(again.calibration("b".repeat(64))).toBeUndefined();
  at(1_000_000_000_000 + GPU_CALIBRATION_MS_MAX - 1);
  expect(again.calibration(KEY)).toEqual(CALIBRATION);
  at(1_000_000_000_000 + GPU_CALIBRATION_MS_MAX);
  expect(again.calibration(KEY)).toBeUndefined();
  // Of a clock that was set back nobody knows how long ago it is.
  at(999_999_999_999);
  expect(again.calibration(KEY)).toBeUndefined();
});

test("a hang is known for a while, of these drivers and that adapter, until it answers", async () => {
  at(1_000_000_000_000);
  const history = await GpuHistory.open(file);
  history.hung("", DRIVERS);
  history.hung("card", DRIVERS);
  await history.keep();
  at(1_000_000_060_000);
  const again = await GpuHistory.open(file);
  expect([again.hungAgoMs("", DRIVERS), again.hungAgoMs("card", DRIVERS)]).toEqual([60_000, 60_000]);
  expect([again.hungAgoMs("other", DRIVERS), again.hungAgoMs("card", KEY)]).toEqual([undefined, undefined]);
  again.answered("");
  await again.keep();
  const third = await GpuHistory.open(file);
  expect([third.hungAgoMs("", DRIVERS), third.hungAgoMs("card", DRIVERS)]).toEqual([undefined, 60_000]);
  at(1_000_000_000_000 + GPU_HANG_MS);
  expect(third.hungAgoMs("card", DRIVERS)).toBeUndefined();
});

test("it takes what another file says in its place, also where that says nothing", async () => {
  const found = await GpuHistory.open(file);
  found.measured(KEY, CALIBRATION);
  await found.keep();
  const other = join(directory.path, "other.json");
  const history = await GpuHistory.open(other);
  history.hung("", DRIVERS);
  await history.keep();
  await history.adopt(file);
  await history.keep();
  const again = await GpuHistory.open(other);
  expect([again.hungAgoMs("", DRIVERS), again.calibration(KEY)]).toEqual([undefined, CALIBRATION]);
  await again.adopt(join(directory.path, "none.json"));
  await again.keep();
  expect((await GpuHistory.open(other)).calibration(KEY)).toBeUndefined();
  // And makes none to say so.
  const nothing = await GpuHistory.open(join(directory.path, "nothing.json"));
  await nothing.adopt(join(directory.path, "none.json"));
  await nothing.keep();
  await expect(readFile(join(directory.path, "nothing.json"))).rejects.toThrow("ENOENT");
});

test("no more than a file may have is kept, the latest", async () => {
  const history = await GpuHistory.open(file);
  const keys = Array.from({ length: GPU_CALIBRATIONS_MAX + 3 }, (_, index) =>
    String(index).padStart(64, "0"),
  );
  for (const key of keys) history.measured(key, CALIBRATION);
  await history.keep();
  const again = await GpuHistory.open(file);
  expect(keys.filter((key) => again.calibration(key) !== undefined)).toEqual(keys.slice(3));
});

const entry = { key: KEY, at: 0, ...CALIBRATION };
test.each([
  ["no JSON", "{"],
  ["another shape", JSON.stringify([entry])],
  ["what nothing measures", JSON.stringify({ calibrations: [{ ...entry, gops: 1e300 }], hangs: [] })],
  [
    "nothing where there must be something",
    JSON.stringify({ calibrations: [{ ...entry, uploadGBps: 0 }], hangs: [] }),
  ],
  ["less than nothing", JSON.stringify({ calibrations: [{ ...entry, launchMs: -1 }], hangs: [] })],
  ["no number", JSON.stringify({ calibrations: [{ ...entry, at: "now" }], hangs: [] })],
  [
    "more than there may be",
    `${JSON.stringify({ calibrations: [entry], hangs: [] })}${" ".repeat(GPU_HISTORY_BYTES_MAX)}`,
  ],
])("a file that says %s is as none", async (_what, text) => {
  at(1);
  await writeFile(file, text);
  const history = await GpuHistory.open(file);
  expect([history.calibration(KEY), history.hungAgoMs("", DRIVERS)]).toEqual([undefined, undefined]);
  // And is replaced.
  history.measured(KEY, CALIBRATION);
  await history.keep();
  expect((await GpuHistory.open(file)).calibration(KEY)).toEqual(CALIBRATION);
});

test("the same file is believed that has nothing of that in it", async () => {
  at(1);
  await writeFile(file, JSON.stringify({ calibrations: [entry], hangs: [] }));
  expect((await GpuHistory.open(file)).calibration(KEY)).toEqual(CALIBRATION);
});

test("one that cannot be written costs nothing else", async () => {
  await mkdir(file);
  const history = await GpuHistory.open(file);
  history.measured(KEY, CALIBRATION);
  await history.keep();
  expect(history.calibration(KEY)).toEqual(CALIBRATION);
});
