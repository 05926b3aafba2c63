import { describe, expect, it } from "vitest";
import { LANES_MAX } from "../../packets/limits.ts";
import type { LaneState } from "../../runtime/contracts/lanes.ts";
import { LaneSlots } from "../../runtime/lane-slots.ts";

describe("slots", () => {
  it("are 65,535, each of one lane at a time, and none is given again at once", () => {
    const slots = new LaneSlots();
    const taken = Array.from({ length: LANES_MAX }, () => slots.take("code", undefined));
    expect(new Set(taken.map(({ number }) => number)).size).toBe(65_535);
    expect([taken[0]!.number, taken.at(-1)!.number]).toEqual([1, 65_535]);
    expect(() => slots.take("js", undefined)).toThrow(expect.objectContaining({ code: "PFS_LANES_FULL" }));
    slots.free(taken[41]!);
    slots.free(taken[6]!);
    const [first, second] = [slots.take("js", undefined), slots.take("js", undefined)];
    expect([first.number, second.number]).toEqual([7, 42]);
    expect(slots.info(0).open).toBe(LANES_MAX);
    // Whoever had it before frees it once more.
    slots.free(taken[6]!);
    expect(slots.info(0).open).toBe(LANES_MAX);
    const few = new LaneSlots();
    const early = few.take("js", undefined);
    few.free(early);
    expect(few.take("js", undefined).number).toBe(early.number + 1);
  });

  it("say how their lanes are, those that run first, then by CPU time", () => {
    let now = 1000;
    const slots = new LaneSlots(() => now);
    const [small, busy, large, young] = ["a", "b", undefined, "c"].map((tenant) => slots.take("js", tenant));
    now += 250;
    const states: LaneState[] = [];
    const say = (): unknown => states.push(small!.state);
    say();
    small!.isLoaded = true;
    say();
    small!.inFlight = 2;
    say();
    small!.inFlight = 0;
    small!.isResting = true;
    say();
    expect(states).toEqual(["loading", "idle", "running", "resting"]);
    Object.assign(small!, {
      program: "count",
      packets: 3,
      faults: 1,
      cpuMs: 5,
      inputBytes: 70,
      outputBytes: 9,
    });
    Object.assign(large!, { isLoaded: true, packets: 1, cpuMs: 90 });
    Object.assign(busy!, { isLoaded: true, inFlight: 1 });
    const { open, lanes, use } = slots.info(3);
    expect(open).toBe(4);
    expect(lanes.map(({ lane, state }) => [lane, state])).toEqual([
      [busy!.number, "running"],
      [large!.number, "idle"],
      [small!.number, "resting"],
    ]);
    const expected = {
      lane: 1,
      kind: "js",
      program: "count",
      tenant: "a",
      state: "resting",
      inFlight: 0,
      ageMs: 250,
    };
    expect(lanes[2]).toEqual({
      ...expected,
      packets: 3,
      faults: 1,
      cpuMs: 5,
      inputBytes: 70,
      outputBytes: 9,
    });
    expect("tenant" in lanes[1]!).toBe(false);
    const all = { packets: 4, faults: 1, cpuMs: 95, inputBytes: 70, outputBytes: 9 };
    expect(use).toEqual(all);
    // What was used stays counted when the lanes are gone.
    for (const slot of [small, busy, large, young]) slots.free(slot!);
    expect(slots.info(10)).toEqual({ open: 0, lanes: [], use: all });
  });
});
