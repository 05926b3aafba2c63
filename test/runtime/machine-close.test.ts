/** A machine that is closed writes nothing more: its directory may be gone. */
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Machine } from "../../runtime/machine.ts";
import { WALL_HISTORY_FILE } from "../../runtime/wall-history.ts";
import { temporaryDirectory } from "./store/store-fixture.ts";

test("walls are told of a closed machine, and what is being kept of them is there when it is closed", async () => {
  await using directory = await temporaryDirectory();
  const open = (): Promise<Machine> =>
    Machine.open({ directory: directory.path, id: "local", label: "local", workers: 1 });
  const hasHistory = async (): Promise<boolean> =>
    (await readdir(directory.path)).includes(WALL_HISTORY_FILE);
  const forget = (): Promise<void> => rm(join(directory.path, WALL_HISTORY_FILE), { force: true });

  // From now on it is known what stands, as it is when a hub's first executor starts while the hub ends.
  const first = await open();
  const walls = await first.walls();
  await first.close();
  expect(await hasHistory()).toBe(walls.length > 0);

  await forget();
  const second = await open();
  const told = second.standingWalls();
  await second.close();
  expect(await hasHistory()).toBe(walls.length > 0);
  expect(await told).toEqual(walls);

  await forget();
  expect(await second.standingWalls()).toEqual(walls);
  expect(await hasHistory()).toBe(false);
});
