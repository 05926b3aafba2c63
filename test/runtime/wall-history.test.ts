import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { WALL_HISTORY_FILE, WallHistory } from "../../runtime/wall-history.ts";
import { describeLostWalls, wallStates, WallName } from "../../runtime/sandbox/process/wall-states.ts";
import { temporaryDirectory } from "../sdk/cli/run-pfs.ts";

const STRONG = wallStates([WallName.environment, WallName.limits, WallName.landlock], {});
const WEAK = wallStates([WallName.environment, WallName.limits], {});

test("a wall that stood once and is missing now is told, until it stands again", async () => {
  const history = new WallHistory(join(await temporaryDirectory(), WALL_HISTORY_FILE));
  expect(describeLostWalls(await history.compare(WEAK))).toBeUndefined();
  await history.remember(STRONG);
  // However often it is missing.
  for (let start = 0; start < 2; start++) {
    const walls = await history.compare(WEAK);
    expect(walls.filter(({ stood }) => stood === true).map(({ name }) => name)).toEqual(["Landlock"]);
    expect(describeLostWalls(walls)).toContain("without Landlock.");
    await history.remember(walls);
  }
  expect(await history.compare(STRONG)).toEqual(STRONG);
});

test("a file that is damaged says nothing, and is made anew", async () => {
  const file = join(await temporaryDirectory(), WALL_HISTORY_FILE);
  writeFileSync(file, '{"stood":');
  const history = new WallHistory(file);
  expect(await history.compare(WEAK)).toEqual(WEAK);
  await history.remember(STRONG);
  expect(JSON.parse(readFileSync(file, "utf8"))).toEqual({
    stood: STRONG.filter(({ state }) => state === "stands").map(({ name }) => name),
  });
});

test("a file that cannot be written costs the memory, and nothing else", async () => {
  const history = new WallHistory(join(await temporaryDirectory(), "nowhere", WALL_HISTORY_FILE));
  await history.remember(STRONG);
  expect(await history.compare(WEAK)).toEqual(WEAK);
});
