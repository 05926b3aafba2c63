import { describe, expect, test } from "vitest";
import { JOB_NOTES_MAX } from "../../../runtime/limits.ts";
import { ScriptedWorld, settle } from "./scripted-world.ts";

test("who watches hears of all jobs and of executors that come and go", async () => {
  const world = new ScriptedWorld();
  const heard: unknown[] = [];
  world.watched.on("job", (event) => heard.push(event));
  world.watched.on("node", ({ kind, node }) => heard.push(`${node} ${kind}`));
  const first = world.add("a", { taken: ({ lane, packet }) => lane.answer(packet, "1") }, 3);
  await world.run({ inputs: [await world.putFile("x", 1)] });
  world.executors.remove(first);
  expect(heard).toEqual(["a joined", ...world.events, "a left"]);
  expect(world.events.map(({ kind }) => kind)).toContain("progress");
});

describe("notes of a job", () => {
  test("what was noted is not noted again", async () => {
    const world = new ScriptedWorld();
    const first = world.add("a");
    const running = world.run({ inputs: [await world.putFile("x", 1)] });
    await settle();
    const [map] = first.waiting.splice(0);
    for (let note = 0; note < 10; note++) map!.lane.listener.noted(note % 2 === 0 ? "even" : "odd");
    map!.lane.answer(map!.packet, "1");
    await settle();
    first.answerAll(() => "1");
    expect((await running).statistics.notes).toEqual([`node "node a": even`, `node "node a": odd`]);
  });

  test("notes are bounded, however often something happens", async () => {
    const world = new ScriptedWorld();
    const first = world.add("a");
    const running = world.run({ inputs: [await world.putFile("x", 1)] });
    await settle();
    const [map] = first.waiting.splice(0);
    for (let note = 0; note < 1000; note++) map!.lane.listener.noted(`${note} ${"x".repeat(5000)}`);
    map!.lane.answer(map!.packet, "1");
    await settle();
    first.answerAll(() => "1");
    const { notes } = (await running).statistics;
    expect(notes).toHaveLength(JOB_NOTES_MAX);
    expect(notes.at(-1)).toBe("more notes followed");
    expect(Math.max(...notes.map(({ length }) => length))).toBeLessThan(1100);
  });
});
