import { describe, expect, test } from "vitest";
import {
  EXECUTORS_WAIT_MS,
  LANE_IN_FLIGHT_MAX,
  SEND_PACKETS_MAX,
  TASK_FAULTS_MAX,
} from "../../../runtime/limits.ts";
import { Outcome, Decision } from "../../../runtime/schedule/actions.ts";
import type { Action } from "../../../runtime/schedule/actions.ts";
import { Scheduler } from "../../../runtime/schedule/scheduler.ts";

type Of<Kind extends Action["kind"]> = Action & { readonly kind: Kind };

function actionsOf<Kind extends Action["kind"]>(actions: readonly Action[], kind: Kind): Of<Kind>[] {
  return actions.filter((action): action is Of<Kind> => action.kind === kind);
}

/** A scheduler, a batch of `tasks` alike, and lanes that are ready at once. */
class Bench {
  readonly scheduler = new Scheduler(0);
  readonly program = this.scheduler.openProgram("js");
  readonly sends: Of<"send">[] = [];
  isDone = false;
  now = 0;

  add(tasks: number, bytes = 100): number {
    const { scheduler, program } = this;
    const batch = scheduler.addBatch(
      { program, group: 1, bytes: new Float64Array(tasks).fill(bytes) },
      this.now,
    );
    scheduler.release(batch, this.now);
    this.drain();
    return batch;
  }

  drain(): void {
    for (
      let actions = this.scheduler.takeActions();
      actions.length > 0;
      actions = this.scheduler.takeActions()
    ) {
      for (const { lane } of actionsOf(actions, "load")) this.scheduler.laneReady(lane, this.now);
      this.sends.push(...actionsOf(actions, "send"));
      this.isDone ||= actionsOf(actions, "done").length > 0;
    }
  }

  /** All that is in flight is answered, after `milliseconds`. */
  answer(milliseconds: number): number[] {
    this.now += milliseconds;
    const sends = this.sends.splice(0);
    for (const { lane, batch, tasks } of sends) {
      this.scheduler.returned(lane, batch, tasks, new Uint8Array(tasks.length), this.now);
    }
    this.drain();
    return sends.map(({ tasks }) => tasks.length);
  }
}

/**
 * How long executors of one slot each take for tasks of such lengths, in milliseconds, one after the other in the order in which
 * they were sent. The executor numbered `home` has the bytes of all.
 */
function makespan(milliseconds: readonly number[], executors: number, home: number | undefined): number {
  const scheduler = new Scheduler(0);
  const program = scheduler.openProgram("js");
  const joined = Array.from({ length: executors }, () => scheduler.join({ capacity: { js: 1 } }, 0));
  const bytes = new Float64Array(milliseconds.length).fill(100);
  const batch = scheduler.addBatch({ program, group: 1, bytes }, 0);
  if (home !== undefined) scheduler.located(batch, joined[home]!, bytes);
  scheduler.release(batch, 0);
  const busyUntil = new Map<number, number>();
  const answers: { readonly at: number; readonly lane: number; readonly task: number }[] = [];
  for (let now = 0; ;) {
    for (let actions = scheduler.takeActions(); actions.length > 0; actions = scheduler.takeActions()) {
      for (const { lane } of actionsOf(actions, "load")) scheduler.laneReady(lane, now);
      for (const { lane, tasks } of actionsOf(actions, "send")) {
        for (const task of tasks) {
          const at = Math.max(now, busyUntil.get(lane) ?? 0) + milliseconds[task]!;
          busyUntil.set(lane, at);
          answers.push({ at, lane, task });
        }
      }
    }
    if (answers.length === 0) return now;
    answers.sort((a, b) => a.at - b.at);
    const { at, lane, task } = answers.shift()!;
    now = at;
    scheduler.returned(lane, batch, Uint32Array.of(task), new Uint8Array(1), now);
  }
}

describe("packets in flight", () => {
  test("packets with long answers: two a slot, whatever there is to do", () => {
    const bench = new Bench();
    bench.scheduler.join({ capacity: { js: 4 } }, 0);
    bench.add(1000);
    for (let round = 0; round < 20; round++) expect(bench.answer(1000).reduce((a, b) => a + b, 0)).toBe(8);
  });

  test("packets that are answered at once: thousands, in frames", () => {
    const bench = new Bench();
    bench.scheduler.join({ capacity: { js: 2 } }, 0);
    bench.add(200_000);
    let largest = 0;
    let most = 0;
    while (!bench.isDone) {
      const frames = bench.answer(1);
      largest = Math.max(largest, ...frames);
      most = Math.max(
        most,
        frames.reduce((a, b) => a + b, 0),
      );
    }
    expect(largest).toBe(SEND_PACKETS_MAX);
    expect(most).toBe(LANE_IN_FLIGHT_MAX);
  });

  test("towards the end nobody takes more than its share", () => {
    const bench = new Bench();
    for (let executor = 0; executor < 4; executor++) bench.scheduler.join({ capacity: { js: 2 } }, 0);
    bench.add(8);
    expect(bench.answer(10)).toEqual([2, 2, 2, 2]);
    expect(bench.isDone).toBe(true);
  });

  test("long packets are held back for whoever is done first, wherever their bytes are", () => {
    const milliseconds = [105, 105, 105, 105, 105, 105, 52, 52, 52, 52];
    const least = milliseconds.reduce((a, b) => a + b, 0) / 2;
    for (const home of [undefined, 0]) expect(makespan(milliseconds, 2, home)).toBeLessThan(1.05 * least);
  });

  test("bytes in flight are bounded, however many packets they are", () => {
    const bench = new Bench();
    const executor = bench.scheduler.join({ capacity: { js: 2 } }, 0);
    bench.add(100, 48 * 1024 * 1024);
    expect(bench.scheduler.inFlight(executor)).toEqual({ packets: 2, bytes: 96 * 1024 * 1024 });
  });
});

describe("lanes", () => {
  test("as many executors load a program as have something to do", () => {
    const scheduler = new Scheduler(0);
    for (let executor = 0; executor < 10; executor++) scheduler.join({ capacity: { js: 2 } }, 0);
    const program = scheduler.openProgram("js");
    const batch = scheduler.addBatch({ program, group: 1, bytes: new Float64Array(3) }, 0);
    scheduler.release(batch, 0);
    expect(actionsOf(scheduler.takeActions(), "load")).toHaveLength(2);
  });

  test("the one that has the bytes loads first", () => {
    const scheduler = new Scheduler(0);
    const executors = Array.from({ length: 5 }, () => scheduler.join({ capacity: { js: 2 } }, 0));
    const program = scheduler.openProgram("js");
    const batch = scheduler.addBatch({ program, group: 1, bytes: Float64Array.of(10) }, 0);
    scheduler.located(batch, executors[3]!, Float64Array.of(10));
    scheduler.release(batch, 0);
    expect(actionsOf(scheduler.takeActions(), "load").map(({ executor }) => executor)).toEqual([
      executors[3],
    ]);
  });

  test("batches of one program share its lanes, and closing it closes them", () => {
    const bench = new Bench();
    bench.scheduler.join({ capacity: { js: 2 } }, 0);
    const first = bench.add(4);
    const second = bench.add(4);
    const lanes = new Set<number>();
    while (bench.sends.length > 0) {
      for (const { lane } of bench.sends) lanes.add(lane);
      bench.answer(1);
    }
    expect(lanes.size).toBe(1);
    bench.scheduler.removeBatch(first, bench.now);
    expect(() => bench.scheduler.closeProgram(bench.program)).toThrow("still has batches");
    bench.scheduler.removeBatch(second, bench.now);
    bench.scheduler.closeProgram(bench.program);
    expect(bench.scheduler.takeActions()).toEqual([{ kind: "close", lane: [...lanes][0] }]);
  });
});

describe("kinds of program", () => {
  test("run where there is capacity for them, and for as much as that", () => {
    const scheduler = new Scheduler(0);
    const both = scheduler.join({ capacity: { js: 2, wasm: 5 } }, 0);
    scheduler.join({ capacity: { js: 4 } }, 0);
    const wide = scheduler.join({ capacity: { wasm: 8 } }, 0);
    const program = scheduler.openProgram("wasm");
    const batch = scheduler.addBatch({ program, group: 1, bytes: new Float64Array(1000) }, 0);
    scheduler.release(batch, 0);
    const loads = actionsOf(scheduler.takeActions(), "load");
    expect(loads.map(({ executor }) => executor).toSorted((a, b) => a - b)).toEqual([both, wide]);
    const sent = new Map<number, number>();
    for (const { lane, executor } of loads) {
      scheduler.laneReady(lane, 0);
      const packets = actionsOf(scheduler.takeActions(), "send").reduce(
        (sum, { tasks }) => sum + tasks.length,
        0,
      );
      sent.set(executor, packets);
    }
    expect(sent).toEqual(
      new Map([
        [both, 10],
        [wide, 16],
      ]),
    );
  });

  test("wait for an executor that takes them, and are given up when none comes", () => {
    const scheduler = new Scheduler(0);
    scheduler.join({ capacity: { js: 4, wasm: 0 } }, 0);
    const program = scheduler.openProgram("wasm");
    const batch = scheduler.addBatch({ program, group: 1, bytes: new Float64Array(1) }, 0);
    scheduler.release(batch, 0);
    scheduler.tick(EXECUTORS_WAIT_MS - 1);
    expect(scheduler.takeActions()).toEqual([]);
    scheduler.tick(EXECUTORS_WAIT_MS);
    expect(scheduler.takeActions()).toEqual([{ kind: "stuck", batch, reason: "no executor" }]);
    const late = scheduler.join({ capacity: { wasm: 1 } }, EXECUTORS_WAIT_MS);
    expect(actionsOf(scheduler.takeActions(), "load")).toMatchObject([{ executor: late }]);
  });

  test("a task that failed comes back to the only executor of its kind, whoever else is there", () => {
    const bench = new Bench();
    bench.scheduler.join({ capacity: { js: 1 } }, 0);
    bench.scheduler.join({ capacity: { wasm: 9 } }, 0);
    const batch = bench.add(1);
    const [first] = bench.sends.splice(0);
    bench.scheduler.returned(first!.lane, batch, first!.tasks, Uint8Array.of(Outcome.elsewhere), 10);
    bench.drain();
    expect(bench.sends).toMatchObject([{ lane: first!.lane }]);
    bench.answer(1);
    expect(bench.isDone).toBe(true);
  });
});

describe("executors that may be silent", () => {
  test("get nothing as long as there are others, and their part again when they speak", () => {
    const bench = new Bench();
    const [silent, other] = [1, 2].map(() => bench.scheduler.join({ capacity: { js: 2 } }, 0));
    bench.scheduler.suspect(silent!, true, 0);
    bench.add(100);
    expect(bench.scheduler.inFlight(silent!).packets).toBe(0);
    expect(bench.scheduler.inFlight(other!).packets).toBe(4);
    bench.scheduler.suspect(silent!, false, 0);
    bench.drain();
    expect(bench.scheduler.inFlight(silent!).packets).toBe(4);
    while (!bench.isDone) bench.answer(1);
  });

  test("get everything when there are no others", () => {
    const bench = new Bench();
    const silent = bench.scheduler.join({ capacity: { js: 2 } }, 0);
    bench.scheduler.suspect(silent, true, 0);
    bench.add(100);
    expect(bench.scheduler.inFlight(silent).packets).toBe(4);
    const other = bench.scheduler.join({ capacity: { js: 2 } }, 0);
    bench.drain();
    bench.answer(1);
    expect(bench.scheduler.inFlight(silent).packets).toBe(0);
    bench.scheduler.leave(other, bench.now);
    bench.drain();
    while (!bench.isDone) bench.answer(1);
  });

  test("are not waited for by a task that failed on all others", () => {
    const bench = new Bench();
    const silent = bench.scheduler.join({ capacity: { js: 1 } }, 0);
    bench.scheduler.join({ capacity: { js: 1 } }, 0);
    bench.scheduler.suspect(silent, true, 0);
    const batch = bench.add(1);
    for (let fault = 1; fault < TASK_FAULTS_MAX; fault++) {
      const [sent] = bench.sends.splice(0);
      bench.scheduler.returned(sent!.lane, batch, sent!.tasks, Uint8Array.of(Outcome.elsewhere), bench.now);
      bench.drain();
    }
    bench.answer(1);
    expect(bench.isDone).toBe(true);
  });
});

describe("fencing", () => {
  test("what a lost lane still says is ignored, the new lane's answer counts", () => {
    const bench = new Bench();
    bench.scheduler.join({ capacity: { js: 1 } }, 0);
    const batch = bench.add(1);
    const [old] = bench.sends.splice(0);
    bench.scheduler.laneLost(old!.lane, 10);
    const outcomes = Uint8Array.of(Outcome.final);
    bench.scheduler.returned(old!.lane, batch, old!.tasks, outcomes, 20);
    expect(outcomes[0]).toBe(Decision.ignored);
    bench.now = 1000;
    bench.scheduler.tick(1000);
    bench.drain();
    expect(bench.sends[0]!.lane).not.toBe(old!.lane);
    bench.answer(1);
    expect(bench.isDone).toBe(true);
    expect(bench.scheduler.numbersOf(batch)!.retries).toBe(1);
  });

  test("tasks that were never sent, or are no tasks, are ignored", () => {
    const bench = new Bench();
    bench.scheduler.join({ capacity: { js: 1 } }, 0);
    const batch = bench.add(10);
    const { lane } = bench.sends[0]!;
    const outcomes = new Uint8Array(3);
    bench.scheduler.returned(lane, batch, Uint32Array.of(9, 10, 0xffff_ffff), outcomes, 1);
    expect([...outcomes]).toEqual([Decision.ignored, Decision.ignored, Decision.ignored]);
    expect(bench.scheduler.numbersOf(batch)!.done).toBe(0);
  });

  test("answers of a removed batch free their place", () => {
    const bench = new Bench();
    const executor = bench.scheduler.join({ capacity: { js: 1 } }, 0);
    const batch = bench.add(10);
    const other = bench.add(10);
    const mine = bench.sends.splice(0).filter((send) => send.batch === batch);
    bench.scheduler.removeBatch(batch, 1);
    const before = bench.scheduler.inFlight(executor).packets;
    for (const { lane, tasks } of mine)
      bench.scheduler.returned(lane, batch, tasks, new Uint8Array(tasks.length), 2);
    bench.drain();
    expect(before).toBe(2);
    expect(bench.sends.every((send) => send.batch === other)).toBe(true);
    expect(bench.sends.length).toBeGreaterThan(0);
  });
});

describe("inputs that are missing", () => {
  /** Every packet in flight is answered with a fault of its input. Returns the decisions. */
  function miss(bench: Bench): number[] {
    const sends = bench.sends.splice(0);
    const decisions = sends.flatMap(({ lane, batch, tasks }) => {
      const outcomes = new Uint8Array(tasks.length).fill(Outcome.inputMissing);
      bench.scheduler.returned(lane, batch, tasks, outcomes, bench.now);
      return [...outcomes];
    });
    bench.drain();
    return decisions;
  }

  test("are the answer at once where nothing else could have them, and hold up nothing behind them", () => {
    const bench = new Bench();
    bench.scheduler.join({ capacity: { js: 4 } }, 0);
    const batch = bench.add(100);
    while (!bench.isDone) {
      expect(bench.sends.length).toBeGreaterThan(0);
      expect(new Set(miss(bench))).toEqual(new Set([Decision.accepted]));
    }
    expect(bench.scheduler.numbersOf(batch)).toMatchObject({ done: 100, retries: 0 });
    bench.add(1);
    expect(bench.sends).toHaveLength(1);
  });

  test("are looked for on other executors, none of which pauses", () => {
    const bench = new Bench();
    bench.scheduler.join({ capacity: { js: 4 } }, 0);
    bench.scheduler.join({ capacity: { js: 4 } }, 0);
    const batch = bench.add(100);
    const decisions = new Set<number>();
    while (!bench.isDone) {
      expect(bench.sends.length).toBeGreaterThan(0);
      for (const decision of miss(bench)) decisions.add(decision);
    }
    expect(decisions).toEqual(new Set([Decision.again, Decision.accepted]));
    expect(bench.scheduler.numbersOf(batch)).toMatchObject({ done: 100, retries: 200 });
  });
});
