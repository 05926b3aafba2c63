/** A machine that is closed writes nothing more: its directory may be gone. */
import { readdir } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { Machine } from "../../runtime/machine.ts";
import { WALL_HISTORY_FILE } from "../../runtime/wall-history.ts";
import { temporaryDirectory } from "./store/store-fixture.ts";

test("what stands there when it is closed is all that will", async () => {
  await using directory = await temporaryDirectory();
  const open = (): Promise<Machine> =>
    Machine.open({ directory: directory.path, id: "local", label: "local", workers: 1 });
  // Its walls are told once an executor has started.
  const machine = await open();
  const asked = machine.walls();
  const told = asked.then(() => machine.standingWalls());
  await machine.close();
  const files = await readdir(directory.path);
  expect((await asked).length + (await told).length).toBeGreaterThanOrEqual(0);
  await sleep(200);
  expect(await readdir(directory.path)).toEqual(files);
  const again = await open();
  const walls = await again.walls();
  await again.close();
  expect((await readdir(directory.path)).includes(WALL_HISTORY_FILE)).toBe(walls.length > 0);
});
