/** What becomes of jobs whose clients come and go, by timers that the test lets run out. */
import { beforeEach, describe, expect, test } from "vitest";
import {
  JOBS_KEPT_BYTES_MAX,
  JOBS_KEPT_PER_CLIENT_MAX,
  JOB_EVENTS_KEPT,
  LOG_CHARACTERS_MAX,
} from "../../../nodes/limits.ts";
import { FollowedJobs } from "../../../nodes/serve/followed-jobs.ts";
import type { Follower, SentOutcome } from "../../../nodes/serve/followed-jobs.ts";
import type { JobEvent } from "../../../runtime/contracts/events.ts";

/** A job that the test ends. */
interface Started {
  readonly signal: AbortSignal;
  readonly onEvent: (event: JobEvent) => void;
  readonly end: (value?: Uint8Array) => Promise<void>;
}

let timers: Set<() => void>;
let jobs: FollowedJobs;
let started: Started[];
beforeEach(() => {
  timers = new Set();
  started = [];
  jobs = new FollowedJobs((run) => {
    timers.add(run);
    return () => timers.delete(run);
  });
});

function runOut(): void {
  const due = [...timers];
  timers.clear();
  for (const run of due) run();
}

interface Followed {
  readonly follower: Follower;
  readonly events: JobEvent[];
  /** Of the last event. */
  readonly seen: () => number;
}

function follow(client: string, number: string, seen = 0): Followed {
  const events: JobEvent[] = [];
  let last = seen;
  const follower = jobs.follow({
    client,
    number,
    seen,
    onEvent: (event, at) => {
      events.push(event);
      last = at;
    },
    start: async (signal, onEvent) => {
      const { promise, resolve, reject } = Promise.withResolvers<SentOutcome>();
      signal.addEventListener("abort", () => reject(signal.reason as Error));
      const statistics = { tasks: 1, inputBytes: 1, milliseconds: 1, retries: 0, byNode: {}, notes: [] };
      const end = async (value?: Uint8Array): Promise<void> => {
        resolve({ outcome: { job: "j", yields: "value", statistics }, value });
        await promise;
        await new Promise(setImmediate);
      };
      started.push({ signal, onEvent, end });
      return promise;
    },
  });
  follower.outcome.catch(() => undefined);
  return { follower, events, seen: () => last };
}

function progress(done: number): JobEvent {
  return { kind: "progress", job: "j", done, tasks: 1_000_000, doneBytes: 0, inputBytes: 0 };
}

describe("a job whose client", () => {
  test("loses its connection goes on, and is found with the events that were missed", async () => {
    const first = follow("a", "j");
    for (const done of [1, 2]) started[0]!.onEvent(progress(done));
    first.follower.leave();
    for (const done of [3, 4]) started[0]!.onEvent(progress(done));
    const second = follow("a", "j", 2);
    started[0]!.onEvent(progress(5));
    expect(started).toHaveLength(1);
    expect(first.events).toEqual([1, 2].map(progress));
    expect(second.events).toEqual([3, 4, 5].map(progress));
    runOut();
    expect(started[0]!.signal.aborted).toBe(false);
    await started[0]!.end(Buffer.from("7"));
    expect((await second.follower.outcome).value).toEqual(Buffer.from("7"));
  });

  test("misses more than is kept is told how many", () => {
    follow("a", "j").follower.leave();
    for (let done = 0; done < JOB_EVENTS_KEPT + 10; done++) started[0]!.onEvent(progress(done));
    const { events } = follow("a", "j", 3);
    expect(events).toHaveLength(JOB_EVENTS_KEPT + 1);
    expect(events[0]).toMatchObject({ kind: "note", job: "j", text: expect.stringMatching(/^7 events/) });
    expect(events[1]).toEqual(progress(10));
  });

  test("loses its connection twice hears nothing twice", () => {
    const first = follow("a", "j");
    for (let done = 0; done < 10; done++) started[0]!.onEvent(progress(done));
    first.follower.leave();
    for (let done = 10; done < JOB_EVENTS_KEPT + 50; done++) started[0]!.onEvent(progress(done));
    const second = follow("a", "j", first.seen());
    expect(second.events).toHaveLength(JOB_EVENTS_KEPT + 1);
    second.follower.leave();
    const third = follow("a", "j", second.seen());
    expect(third.events).toEqual([]);
    started[0]!.onEvent(progress(1000));
    expect(third.events).toEqual([progress(1000)]);
    expect(third.seen()).toBe(JOB_EVENTS_KEPT + 51);
  });

  test("does not return is ended", async () => {
    const { follower } = follow("a", "j");
    follower.leave();
    runOut();
    await expect(follower.outcome).rejects.toMatchObject({ code: "PFS_CANCELLED" });
  });

  test("gives up over the connection that counts ends it, over an older one not", async () => {
    const older = follow("a", "j");
    const newer = follow("a", "j");
    older.follower.cancel(new Error("late"));
    older.follower.leave();
    runOut();
    expect(started[0]!.signal.aborted).toBe(false);
    newer.follower.cancel(new Error("given up"));
    await expect(newer.follower.outcome).rejects.toThrow("given up");
  });

  test("is another one is another job", () => {
    follow("a", "j");
    follow("b", "j");
    expect(started).toHaveLength(2);
  });
});

describe("what came of a job", () => {
  test("is there for a client whose answer was lost, until it is received or time is over", async () => {
    for (const forget of [() => jobs.received("a", "j"), runOut]) {
      follow("a", "j");
      await started.at(-1)!.end();
      const before = started.length;
      follow("a", "j");
      expect(started).toHaveLength(before);
      forget();
      expect(timers.size).toBe(0);
      follow("a", "j");
      expect(started).toHaveLength(before + 1);
      await started.at(-1)!.end();
      runOut();
    }
  });

  test("is not kept beyond so many bytes of all", async () => {
    const value = new Uint8Array(JOBS_KEPT_BYTES_MAX / 2 - 100_000);
    for (const job of ["one", "two", "three"]) {
      follow("a", job);
      await started.at(-1)!.end(value);
    }
    for (const job of ["two", "three"]) follow("a", job);
    expect(started).toHaveLength(3);
    follow("a", "one");
    expect(started).toHaveLength(4);
  });

  test("and what jobs without values said neither, and the latest outcomes are kept for longest", async () => {
    const text = "x".repeat(LOG_CHARACTERS_MAX);
    const log = { kind: "log", job: "j", at: 0, node: "n", text } as const;
    const fail = async (client: string, job: string): Promise<void> => {
      const { follower } = follow(client, job);
      for (let event = 0; event < JOB_EVENTS_KEPT; event++) started.at(-1)!.onEvent(log);
      follower.cancel(new Error("failed"));
      await new Promise(setImmediate);
    };
    // What they said is more than may be kept; that they failed is not.
    for (let job = 0; job < 150; job++) await fail("a", `${job}`);
    expect(started).toHaveLength(150);
    let characters = 0;
    for (let job = 0; job < 150; job++) {
      const { events } = follow("a", `${job}`);
      expect(events[0]).toMatchObject({ kind: "note" });
      for (const event of events) characters += event.kind === "log" ? event.text.length : 0;
    }
    expect(started).toHaveLength(150);
    expect(2 * characters).toBeLessThan(JOBS_KEPT_BYTES_MAX);
    expect(characters).toBeGreaterThan(JOBS_KEPT_BYTES_MAX / 4);
  });

  test("is not kept of more than so many of one client, whatever others have", async () => {
    follow("b", "other");
    await started.at(-1)!.end();
    for (let job = 0; job <= JOBS_KEPT_PER_CLIENT_MAX; job++) {
      follow("a", `${job}`);
      await started.at(-1)!.end();
    }
    const before = started.length;
    follow("b", "other");
    follow("a", "1");
    expect(started).toHaveLength(before);
    follow("a", "0");
    expect(started).toHaveLength(before + 1);
  });
});

test("who may not come back has no job that goes on", async () => {
  const { follower } = follow("revoked", "1");
  const other = follow("other", "1");
  follower.leave();
  jobs.dismiss("revoked");
  await expect(follower.outcome).rejects.toMatchObject({ code: "PFS_CANCELLED" });
  expect(started.map(({ signal }) => signal.aborted)).toEqual([true, false]);
  await started[1]!.end();
  await other.follower.outcome;
});
