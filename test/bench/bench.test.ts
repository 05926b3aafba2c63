/** The bench still works: every row of every section gives its figures, of both sides. How good they are is not looked at. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { ROOT } from "../source-tree.ts";
import type { RowResult, Spread } from "./harness.ts";
import { SECTIONS } from "./sections.ts";

async function bench(...words: readonly string[]): Promise<string> {
  const command = ["test/bench/main.ts", "--smallest", ...words];
  const { stdout } = await promisify(execFile)(process.execPath, command, { cwd: ROOT });
  return stdout;
}

describe("npm run bench, in its smallest sizes", () => {
  test.each(Object.keys(SECTIONS))("%s", async (section) => {
    const { results } = JSON.parse(await bench("--only", section, "--json")) as {
      results: readonly RowResult[];
    };
    expect(results).not.toEqual([]);
    for (const result of results) {
      const { question, ours, rivals, goal, reached } = result;
      expect(result).toMatchObject({ section, unit: expect.stringMatching(/./) as unknown });
      expect([question, rivals.length > 0]).toEqual([question, true]);
      expect([question, typeof reached]).toEqual([question, goal === undefined ? "undefined" : "boolean"]);
      const spreads: readonly Spread[] = [
        ours.figure,
        ...rivals.flatMap(({ figure, ratio }) => [figure, ratio]),
      ];
      for (const { min, median, max } of spreads) {
        const isSpread = 0 < min && min <= median && median <= max && max < Infinity;
        expect([question, isSpread]).toEqual([question, true]);
      }
    }
  });

  test("says which sections there are", async () => {
    await expect(bench("--only", "wrong")).rejects.toThrow(
      /no section "wrong": there are files, bulk, word-count/,
    );
  });
});
