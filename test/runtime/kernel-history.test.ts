import { fileURLToPath } from "node:url";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { KERNEL_HISTORY_FILE, KernelHistory } from "../../runtime/kernel-history.ts";
import { Machine } from "../../runtime/machine.ts";
import { runSync } from "../suites/run-sync.ts";
import { isSmallDisk } from "../suites/small-disk.ts";

let directory: string;
let file: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "packetfs-kernels-"));
  file = join(directory, KERNEL_HISTORY_FILE);
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

const calls = { kernel: "k", isCounted: true, engineClass: "cpu", bucket: 1024, calls: 1, milliseconds: 7 };

test("what calls took is known after the process that measured it", async () => {
  const first = await KernelHistory.open(file);
  first.averages.add(calls);
  await first.keep();
  const second = await KernelHistory.open(file);
  expect(second.averages.callMs("k", "cpu", 1024)).toBe(7);
});

test("whoever asks while it is written is written too", async () => {
  const history = await KernelHistory.open(file);
  const kept: Promise<void>[] = [];
  for (let index = 0; index < 50; index++) {
    history.averages.add({ ...calls, kernel: `k${index}` });
    kept.push(history.keep());
    if (index % 7 === 0) await Promise.race(kept);
  }
  await Promise.all(kept);
  expect((await KernelHistory.open(file)).averages.kept()).toHaveLength(50);
});

test("a file that is damaged, or cannot be written, costs the memory and nothing else", async () => {
  for (const content of [
    "",
    "{",
    '{"averages":[{"kernel":1}]}',
    '{"averages":[{"kernel":"k","value":-1}]}',
    // A rate by which every call takes for ever.
    '{"averages":[{"kernel":"","engineClass":"cpu","bucket":0,"value":0,"calls":16}]}',
    '{"averages":[{"kernel":"","engineClass":"cpu","bucket":0,"value":5e-324,"calls":16}]}',
  ]) {
    await writeFile(file, content);
    const history = await KernelHistory.open(file);
    expect(history.averages.kept()).toEqual([]);
    history.averages.add(calls);
    await history.keep();
    expect(JSON.parse(await readFile(file, "utf8"))).toHaveProperty("averages.0.value", 7);
  }
  const nowhere = await KernelHistory.open(join(directory, "no", "where"));
  nowhere.averages.add(calls);
  await nowhere.keep();
  expect(nowhere.averages.callMs("k", "cpu", 1024)).toBe(7);
});

/** A disk in a namespace of its own, so that nothing of it is left. */
const SMALL_DISK_BYTES = 1024 * 1024;
const SMALL_DISK = ["-rm", "sh", "-c", `mount -t tmpfs -o size=${SMALL_DISK_BYTES} tmpfs "$0" && exec "$@"`];
const IS_SMALL = isSmallDisk(tmpdir(), SMALL_DISK_BYTES);
const HAS_SMALL_DISKS = runSync("unshare", [...SMALL_DISK, tmpdir(), ...IS_SMALL]).status === 0;

test.skipIf(!HAS_SMALL_DISKS)(
  "a disk that is full costs no job anything, and all is kept once it has room",
  () => {
    const child = fileURLToPath(new URL("./full-history-child.ts", import.meta.url));
    const { stdout } = runSync("unshare", [...SMALL_DISK, directory, process.execPath, child, directory]);
    const { value, kernels, files, full, room } = JSON.parse(stdout) as Record<string, unknown>;
    expect([value, kernels]).toEqual(["gpu", [expect.objectContaining({ engine: "gpu", calls: 10 })]]);
    expect([files, full]).toEqual([["ballast"], { averages: 0, jobs: [] }]);
    expect(room).toEqual({ averages: expect.any(Number) as unknown, jobs: ["later"] });
    expect((room as { averages: number }).averages).toBeGreaterThan(0);
  },
);

test("a machine that is closed keeps what it measured, though no job was its own", async () => {
  const machine = await Machine.open({ directory, id: "node", label: "node", workers: 0 });
  machine.kernels.averages.add(calls);
  await machine.close();
  expect((await KernelHistory.open(file)).averages.callMs("k", "cpu", 1024)).toBe(7);
});
