import { describe, expect, test } from "vitest";
import { JOB_NOTES_MAX } from "../../../runtime/limits.ts";
import { ScriptedWorld, settle } from "./scripted-world.ts";

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
