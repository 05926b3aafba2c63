/** The bench still works: every row gives its figures, of both sides. How good they are is not looked at. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { ROOT } from "../source-tree.ts";
import type { RowResult, Spread } from "./harness.ts";

test("npm run bench, in its smallest sizes", async () => {
  const words = ["test/bench/main.ts", "--smallest", "--json"];
  const { stdout } = await promisify(execFile)(process.execPath, words, { cwd: ROOT });
  const { results } = JSON.parse(stdout) as { results: readonly RowResult[] };
  expect(results.map(({ unit }) => unit)).toEqual([
    "MB/s",
    "MB/s",
    "MB/s",
    "MB/s",
    "MB/s",
    "records/CPU s",
    "records/CPU s",
    "records/CPU s",
    "records/CPU s",
    "packets/s",
    "packets/s",
    "ms",
    "ms",
    "ms",
  ]);
  for (const { question, ours, rivals } of results) {
    expect([question, rivals.length > 0]).toEqual([question, true]);
    const spreads: readonly Spread[] = [
      ours.figure,
      ...rivals.flatMap(({ figure, ratio }) => [figure, ratio]),
    ];
    for (const { min, median, max } of spreads) {
      expect([question, 0 < min && min <= median && median <= max && max < Infinity]).toEqual([
        question,
        true,
      ]);
    }
  }
});
