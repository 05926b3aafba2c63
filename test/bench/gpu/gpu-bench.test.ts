/** The bench of GPUs still works, without one and, where a CPU imitates one, with it. How good its figures are is not looked at. */
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { ROOT } from "../../source-tree.ts";
import { noGpu } from "../../suites/gpu.ts";
import type { Report } from "./report.ts";

async function bench(isSoftwareUsed: boolean, ...words: readonly string[]): Promise<Report> {
  const out = mkdtempSync(join(tmpdir(), "pfs-gpu-bench-test-"));
  try {
    const command = ["--part", "0.0001", "--rounds", "1", "--out", out, ...words];
    const { PACKETFS_GPU_SOFTWARE: _, ...rest } = process.env;
    const env = isSoftwareUsed ? { ...rest, PACKETFS_GPU_SOFTWARE: "1" } : rest;
    await promisify(execFile)(join(ROOT, "test/bench/gpu/run.sh"), command, { env });
    expect(readFileSync(join(out, "gpu.md"), "utf8")).toContain("### Examples, as jobs");
    return JSON.parse(readFileSync(join(out, "gpu.json"), "utf8")) as Report;
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

test("without a GPU, examples are compared and timed on the CPU", async () => {
  const { tables, goals, wrong } = await bench(false, "--only", "mandelbrot");
  expect(wrong).toEqual([]);
  expect(goals.length).toBeGreaterThan(4);
  const examples = tables.find(({ title }) => title === "Examples, as jobs")!;
  const seconds = examples.rows.flatMap((row) => row.slice(2, 4));
  expect(seconds.map((figure) => typeof figure === "number" && figure > 0)).toEqual([true, true]);
});

test.skipIf(noGpu !== undefined)("with one, every part has figures", async () => {
  const { tables, wrong } = await bench(true, "--only", "mandelbrot,histogram");
  expect(wrong).toEqual([]);
  const rows = Object.fromEntries(tables.map(({ title, rows: { length } }) => [title, length]));
  expect(rows).toEqual({
    GPUs: 1,
    "Examples, as jobs": 2,
    "Packet code, as jobs": 4,
    "Kernels of the examples, as calls": 2,
    "A product of two matrices of 64 × 64": 4,
    "Jobs through a hub and a node": 2,
  });
  for (const { title, columns, rows: all } of tables)
    for (const row of all) expect([title, row.length >= columns.length - 3]).toEqual([title, true]);
});
