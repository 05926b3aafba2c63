/** Whose results without names are kept, and until when, by timers that the test lets run out. */
import { beforeEach, describe, expect, test } from "vitest";
import { UNNAMED_RESULTS_MAX } from "../../../nodes/limits.ts";
import { HeldResults } from "../../../nodes/serve/held-results.ts";

let timers: Set<() => void>;
let released: string[];
let failures: unknown[];
let failing: Set<string>;
let held: HeldResults;
beforeEach(() => {
  timers = new Set();
  released = [];
  failures = [];
  failing = new Set();
  held = new HeldResults({
    release: async (job) => {
      if (failing.has(job)) throw new Error(`the disk of ${job}`);
      released.push(job);
    },
    onFailure: (error) => failures.push(error),
    setTimer: (run) => {
      timers.add(run);
      return () => timers.delete(run);
    },
  });
});

async function runOut(): Promise<void> {
  const due = [...timers];
  timers.clear();
  for (const run of due) run();
  await new Promise(setImmediate);
}

describe("results without names of a client", () => {
  test("that goes in order are released", async () => {
    const session = held.attend("key", "one");
    await session.hold("first");
    await session.hold("second");
    await session.leave(false);
    expect(released).toEqual(["first", "second"]);
  });

  test("whose connection broke stay until it has not come back in time", async () => {
    const session = held.attend("key", "one");
    await session.hold("first");
    await session.leave(true);
    expect(released).toEqual([]);
    await runOut();
    expect(released).toEqual(["first"]);
    // The job ended when nobody was there any more.
    await session.hold("late");
    expect(released).toEqual(["first", "late"]);
  });

  test("that came back stay as long as it is there, also what ended meanwhile", async () => {
    const broken = held.attend("key", "one");
    await broken.hold("first");
    await broken.leave(true);
    await broken.hold("meanwhile");
    const session = held.attend("key", "one");
    await runOut();
    expect(released).toEqual([]);
    await session.leave(false);
    expect(released).toEqual(["first", "meanwhile"]);
  });

  test("that came back before its broken connection was noticed stay as well", async () => {
    const broken = held.attend("key", "one");
    await broken.hold("first");
    const session = held.attend("key", "one");
    await broken.leave(true);
    await runOut();
    expect(released).toEqual([]);
    await session.leave(false);
    expect(released).toEqual(["first"]);
  });

  test("are no others', whether of the same key or not", async () => {
    const sessions = [held.attend("key", "one"), held.attend("key", "two"), held.attend("other", "one")];
    for (const [index, session] of sessions.entries()) await session.hold(`${index}`);
    await sessions[1]!.leave(false);
    expect(released).toEqual(["1"]);
    await sessions[2]!.leave(true);
    held.attend("key", "one");
    await runOut();
    expect(released).toEqual(["1", "2"]);
  });

  test("are so many at most", async () => {
    const session = held.attend("key", "one");
    for (let job = 0; job < UNNAMED_RESULTS_MAX + 2; job++) await session.hold(`${job}`);
    expect(released).toEqual(["0", "1"]);
  });

  test("that cannot be released keep nobody else's, and it is told", async () => {
    failing.add("first");
    const session = held.attend("key", "one");
    for (const job of ["first", "second"]) await session.hold(job);
    await session.leave(true);
    await runOut();
    expect(released).toEqual(["second"]);
    expect(failures).toEqual([new Error("the disk of first")]);
  });
});
