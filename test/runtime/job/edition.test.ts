/** All packets of a job run on executors of one edition, because others would give other bytes. */
import { expect, test } from "vitest";
import { Scheduler } from "../../../runtime/schedule/scheduler.ts";
import { EXECUTORS_WAIT_MS } from "../../../runtime/limits.ts";
import { guestEdition } from "../../../runtime/sandbox/edition.ts";
import { ScriptedWorld, settle } from "./scripted-world.ts";

const answer = { taken: ({ lane, packet }) => lane.answer(packet, "1") } satisfies Parameters<
  ScriptedWorld["add"]
>[1];

test("nodes of another edition get no packets of a job, and who watches is told", async () => {
  const world = new ScriptedWorld();
  const many = world.add("many", answer, 4, "new");
  const other = world.add("other", answer, 2, "old");
  const run = world.run({ inputs: [await world.putFile("x", 100)], splitBytes: 1 });
  await settle();
  const late = world.add("late", answer, 64, "older");
  const { statistics } = await run;
  expect(statistics.byNode).toEqual({ "node many": 100 });
  expect(many.lanes.length).toBeGreaterThan(0);
  expect([...other.lanes, ...late.lanes]).toEqual([]);
  expect(statistics.notes).toContain(
    `node "node other" gets no packets of this job, which runs on new: it has old`,
  );
});

test("a job that begins without an executor runs on the edition of the first that comes", async () => {
  const world = new ScriptedWorld();
  const run = world.run({ inputs: [await world.putFile("x", 20)], splitBytes: 1 });
  await settle();
  world.add("first", answer, 1, "old");
  await settle();
  const second = world.add("second", answer, 8, "new");
  const { statistics } = await run;
  expect(statistics.byNode).toEqual({ "node first": 20 });
  expect(second.lanes).toEqual([]);
});

test("a batch whose edition is gone waits as long as one without any executor, and no longer", () => {
  const scheduler = new Scheduler(0);
  const executor = scheduler.join({ capacity: { js: 4 }, edition: "old" }, 0);
  const program = scheduler.openProgram("js");
  const batch = scheduler.addBatch({ program, group: 1, bytes: new Float64Array(2) }, 0);
  scheduler.release(batch, 0);
  expect(scheduler.takeActions().map(({ kind }) => kind)).toEqual(["load"]);
  scheduler.join({ capacity: { js: 4 }, edition: "new" }, 10);
  scheduler.leave(executor, 10);
  scheduler.tick(EXECUTORS_WAIT_MS);
  expect(scheduler.takeActions()).toEqual([]);
  scheduler.tick(10 + EXECUTORS_WAIT_MS);
  expect(scheduler.takeActions()).toMatchObject([{ kind: "stuck", batch, reason: "no executor" }]);
});

test("an edition names the engine and the code around programs, the same each time", () => {
  expect(guestEdition()).toMatch(/^v8-[0-9.]+-icu-[0-9.]+-[0-9a-f]{12}$/);
  expect(guestEdition()).toBe(guestEdition());
  expect(guestEdition().length).toBeLessThanOrEqual(64);
});
