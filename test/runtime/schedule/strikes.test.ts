import { describe, expect, test } from "vitest";
import {
  LANE_LOAD_MS_MAX,
  STRAGGLER_MS_BLIND,
  STRIKES_MAX,
  STRIKE_ACCOUNTS_MAX,
  STRIKE_APART_MS,
  STRIKE_HALF_LIFE_MS,
} from "../../../runtime/limits.ts";
import { Decision, LaneEnd, Outcome, StrikeReason } from "../../../runtime/schedule/actions.ts";
import type { Action } from "../../../runtime/schedule/actions.ts";
import { Scheduler } from "../../../runtime/schedule/scheduler.ts";
import { Strikes } from "../../../runtime/schedule/strikes.ts";

const { load, fault, result } = StrikeReason;

/** How many strikes, so far apart, lead to more than STRIKES_MAX; at most 1,000. */
function strikesUntilMany(strikes: Strikes, apartMs: number): number {
  for (let count = 1; count <= 1_000; count++) {
    if (strikes.add("a", "js", fault, count * apartMs)) return count;
  }
  return Infinity;
}

describe("strikes", () => {
  test("count when they come in quick succession, and as one when they come at once", () => {
    expect(strikesUntilMany(new Strikes(), STRIKE_APART_MS)).toBe(STRIKES_MAX + 1);
    expect(strikesUntilMany(new Strikes(), 0)).toBe(Infinity);
  });

  test("fade by half in STRIKE_HALF_LIFE_MS, so that one now and then never becomes many", () => {
    expect(strikesUntilMany(new Strikes(), STRIKE_HALF_LIFE_MS / 2)).toBe(Infinity);
    const strikes = new Strikes();
    for (let count = 0; count < STRIKES_MAX; count++) strikes.add("a", "js", fault, count * STRIKE_APART_MS);
    // All but a few of them have faded.
    expect(strikes.add("a", "js", fault, 2 * STRIKE_HALF_LIFE_MS)).toBe(false);
  });

  test("are counted by executor and by kind of program; the reason is what most were for", () => {
    const strikes = new Strikes();
    for (let count = 1; count <= STRIKES_MAX; count++) {
      strikes.add("a", "js", count % 3 === 0 ? load : result, count * STRIKE_APART_MS);
    }
    expect(strikes.add("b", "js", fault, 10_000)).toBe(false);
    expect(strikes.add("a", "wasm", fault, 10_000)).toBe(false);
    expect(strikes.add("a", "js", load, 10_000)).toBe(true);
    expect(strikes.bar("a", "js")).toEqual({ kind: "js", reason: result });
    expect(strikes.barsOf("a")).toEqual([{ kind: "js", reason: result }]);
    expect(strikes.barsOf("b")).toEqual([]);
    strikes.forgive("a");
    expect(strikes.barsOf("a")).toEqual([]);
    expect(strikes.add("a", "js", fault, 10_000)).toBe(false);
  });

  test("of many executors take a bounded room, and who is barred stays barred", () => {
    const strikes = new Strikes();
    for (let count = 0; count <= STRIKES_MAX; count++) strikes.add("bad", "js", fault, count * 1_000);
    strikes.bar("bad", "js");
    for (let other = 0; other < STRIKE_ACCOUNTS_MAX * 2; other++) strikes.add(`n${other}`, "js", fault, 1e6);
    expect(strikes.barsOf("bad")).toHaveLength(1);
  });
});

/** A scheduler with executors by name, and one batch after another, whose lanes load at once. */
class Network {
  readonly scheduler = new Scheduler(0);
  readonly executors = new Map<string, number>();
  readonly loads: string[] = [];
  readonly barred: string[] = [];
  now = 0;

  join(name: string): void {
    this.executors.set(name, this.scheduler.join({ capacity: { js: 2 }, name }, this.now));
  }

  /**
   * Runs a batch of `tasks`; `answer` says what an executor makes of a task, or undefined for nothing yet. What `foundOut`
   * answered turns out to be nowhere.
   */
  run(
    tasks: number,
    answer: (name: string) => Outcome | undefined,
    home?: { readonly name: string; readonly bytes: number },
    foundOut?: string,
  ): void {
    const { scheduler } = this;
    const program = scheduler.openProgram("js");
    const bytes = new Float64Array(tasks).fill(home?.bytes ?? 0);
    const batch = scheduler.addBatch({ program, group: program, bytes: bytes.slice() }, this.now);
    if (home !== undefined) scheduler.located(batch, this.executors.get(home.name)!, bytes);
    scheduler.release(batch, this.now);
    const lanes = new Map<number, string>();
    const owed: { readonly lane: number; readonly task: number }[] = [];
    let isDone = false;
    for (let rounds = 0; !isDone && rounds < 10_000; rounds++) {
      for (const action of scheduler.takeActions()) {
        if (action.kind === "load") {
          lanes.set(action.lane, this.#nameOf(action.executor));
          this.loads.push(this.#nameOf(action.executor));
          scheduler.laneReady(action.lane, this.now);
        } else if (action.kind === "send") {
          for (const task of action.tasks) owed.push({ lane: action.lane, task });
        } else if (action.kind === "done") isDone = true;
        else this.#note(action);
      }
      for (const { lane, task } of owed.splice(0)) {
        const outcome = answer(lanes.get(lane)!);
        if (outcome === undefined) owed.push({ lane, task });
        else scheduler.returned(lane, batch, Uint32Array.of(task), Uint8Array.of(outcome), this.now);
      }
      this.now += 50;
      scheduler.tick(this.now);
    }
    expect(isDone).toBe(true);
    for (const [lane, name] of lanes)
      if (name === foundOut) scheduler.laneLost(lane, this.now, LaneEnd.resultless);
    scheduler.removeBatch(batch, this.now);
    scheduler.closeProgram(program);
    for (const action of scheduler.takeActions()) this.#note(action);
  }

  #note(action: Action): void {
    if (action.kind === "barred") this.barred.push(this.#nameOf(action.executor));
  }

  #nameOf(executor: number): string {
    for (const [name, id] of this.executors) if (id === executor) return name;
    throw new Error("no such executor");
  }
}

describe("executors that are struck", () => {
  const failsAt =
    (bad: string, outcome: Outcome = Outcome.elsewhere) =>
    (name: string): Outcome =>
      name === bad ? outcome : Outcome.final;

  test("are barred, also when they come again, and get nothing until they are allowed", () => {
    const network = new Network();
    for (const name of ["good", "bad"]) network.join(name);
    for (let job = 0; job < 30 && network.barred.length === 0; job++) network.run(40, failsAt("bad"));
    expect(network.barred).toEqual(["bad"]);
    network.scheduler.leave(network.executors.get("bad")!, network.now);
    network.join("bad");
    network.loads.length = 0;
    network.run(40, failsAt(""));
    expect(network.loads).toEqual(["good"]);
    network.scheduler.allow("bad", network.now);
    network.run(40, failsAt(""));
    expect(network.loads).toContain("bad");
    expect(network.scheduler.barsOf("bad")).toEqual([]);
  });

  test("are not barred for what nobody can do, nor for what only those have that answer", () => {
    const network = new Network();
    for (const name of ["a", "b"]) network.join(name);
    for (let job = 0; job < 30; job++) network.run(20, () => Outcome.elsewhere);
    expect(network.barred).toEqual([]);
    // The one that has the bytes can read them: that says nothing of the other.
    const missing = failsAt("b", Outcome.inputMissing);
    for (let job = 0; job < 30; job++) network.run(20, missing, { name: "a", bytes: 1_000 });
    expect(network.barred).toEqual([]);
    for (let job = 0; job < 30 && network.barred.length === 0; job++) network.run(20, missing);
    expect(network.barred).toEqual(["b"]);
  });

  test("are not struck for saying that they cannot, and each is asked once for each task", () => {
    const network = new Network();
    for (const name of ["able", "a", "b", "c", "d"]) network.join(name);
    const cannot = (name: string): Outcome => (name === "able" ? Outcome.final : Outcome.incapable);
    for (let job = 0; job < 30; job++) {
      let refusals = 0;
      network.run(20, (name) => {
        const outcome = cannot(name);
        if (outcome === Outcome.incapable) refusals++;
        return outcome;
      });
      expect(refusals).toBeLessThanOrEqual(20 * 4);
    }
    expect(network.barred).toEqual([]);
    // Where all say so, that is the answer, and comes at once.
    let asked = 0;
    const before = network.now;
    network.run(20, () => {
      asked++;
      return Outcome.incapable;
    });
    expect(asked).toBeLessThanOrEqual(20 * 5);
    expect(network.now - before).toBeLessThan(60_000);
    const alone = new Network();
    alone.join("alone");
    let once = 0;
    alone.run(20, () => {
      once++;
      return Outcome.incapable;
    });
    expect(once).toBe(20);
  });

  test("are not barred by the word of one that is found out", () => {
    const network = new Network();
    for (const name of ["liar", "honest", "other"]) network.join(name);
    // What nobody has, the liar answers: with results that are nowhere.
    const answer = (name: string): Outcome => (name === "liar" ? Outcome.final : Outcome.inputMissing);
    for (let job = 0; job < 30 && network.barred.length === 0; job++)
      network.run(20, answer, undefined, "liar");
    expect(network.barred).toEqual(["liar"]);
  });

  test("are not barred when they are the last: something is better than nothing", () => {
    const network = new Network();
    for (const name of ["a", "b", "c"]) network.join(name);
    let turn = 0;
    for (let job = 0; job < 60; job++) {
      // All of them fail now and then, and each is disproved by the others.
      network.run(20, () => (turn++ % 3 === 0 ? Outcome.elsewhere : Outcome.final));
    }
    expect(new Set(network.barred).size).toBe(network.barred.length);
    expect(network.barred.length).toBeLessThan(3);
    network.run(20, failsAt(""));
  });
});

describe("a lane that ends badly", () => {
  test("for slowness is nobody's fault, however often it is and whoever else was quicker", () => {
    const scheduler = new Scheduler(0);
    scheduler.join({ capacity: { js: 2 } }, 0);
    const quick = scheduler.join({ capacity: { js: 2 } }, 0);
    let givenUp = 0;
    for (let job = 0, now = 0; job < 20; job++, now += 2 * LANE_LOAD_MS_MAX) {
      const program = scheduler.openProgram("js");
      const batch = scheduler.addBatch({ program, group: 1, bytes: new Float64Array(100) }, now);
      scheduler.release(batch, now);
      scheduler.tick(now + 1);
      for (const action of scheduler.takeActions()) {
        if (action.kind === "load" && action.executor === quick) scheduler.laneReady(action.lane, now + 1);
      }
      scheduler.tick(now + LANE_LOAD_MS_MAX + 1);
      const actions = scheduler.takeActions();
      givenUp += actions.filter(({ kind }) => kind === "close").length;
      expect(actions.filter(({ kind }) => kind === "barred")).toEqual([]);
      scheduler.removeBatch(batch, now + LANE_LOAD_MS_MAX + 1);
      scheduler.closeProgram(program);
      scheduler.takeActions();
    }
    expect(givenUp).toBeGreaterThan(STRIKES_MAX);
  });

  test("leaves its task to one that owes an answer which another has given", () => {
    const scheduler = new Scheduler(0);
    const owes = scheduler.join({ name: "owes", capacity: { js: 1 } }, 0);
    const other = scheduler.join({ name: "other", capacity: { js: 1 } }, 0);
    const program = scheduler.openProgram("js");
    const batch = scheduler.addBatch({ program, group: 1, bytes: new Float64Array(2) }, 0);
    const executorOf = new Map<number, number>();
    /** Loads what is to be loaded. Returns what was sent where. */
    const perform = (now: number): { readonly executor: number; readonly task: number }[] => {
      const sent: { readonly executor: number; readonly task: number }[] = [];
      for (let actions = scheduler.takeActions(); actions.length > 0; actions = scheduler.takeActions()) {
        for (const action of actions) {
          if (action.kind === "load") executorOf.set(action.lane, action.executor);
          if (action.kind === "load") scheduler.laneReady(action.lane, now);
          if (action.kind !== "send") continue;
          for (const task of action.tasks) sent.push({ executor: executorOf.get(action.lane)!, task });
        }
      }
      return sent;
    };
    const laneOf = (executor: number): number =>
      [...executorOf].findLast(([, candidate]) => candidate === executor)![0];
    scheduler.release(batch, 0);
    const answer = (task: number, now: number): void =>
      scheduler.returned(laneOf(other), batch, Uint32Array.of(task), Uint8Array.of(Outcome.final), now);
    const [first, second] = perform(0);
    expect([first!.executor, second!.executor]).toEqual([owes, other]);
    answer(second!.task, 1);
    let now = 2 * STRAGGLER_MS_BLIND;
    scheduler.tick(now);
    expect(perform(now)).toEqual([{ executor: other, task: first!.task }]);
    answer(first!.task, now);
    // The result of the second is gone, and whoever makes it again is lost with it: then the other one has to.
    scheduler.redo(batch, (now += 1), [second!.task]);
    const [again] = perform(now);
    scheduler.laneLost(laneOf(again!.executor), now);
    const sent = perform(now);
    scheduler.tick((now += 1_000));
    sent.push(...perform(now));
    expect(sent).toEqual([{ executor: again!.executor === other ? owes : other, task: second!.task }]);
  });

  test("for a result that is nowhere is not loaded again where there is another", () => {
    const scheduler = new Scheduler(0);
    const bad = scheduler.join({ capacity: { js: 2 } }, 0);
    const program = scheduler.openProgram("js");
    const batch = scheduler.addBatch({ program, group: 1, bytes: new Float64Array(2) }, 0);
    scheduler.release(batch, 0);
    const loads = (): { readonly executor: number; readonly lane: number }[] =>
      scheduler.takeActions().flatMap((action) => (action.kind === "load" ? [action] : []));
    const [first] = loads();
    scheduler.laneReady(first!.lane, 0);
    // Alone, it is asked again after a pause.
    scheduler.laneLost(first!.lane, 0, LaneEnd.resultless);
    scheduler.tick(1_000);
    const [again] = loads();
    expect(again!.executor).toBe(bad);
    scheduler.laneReady(again!.lane, 1_000);
    const good = scheduler.join({ capacity: { js: 2 } }, 1_000);
    scheduler.laneLost(again!.lane, 1_000, LaneEnd.resultless);
    for (let now = 2_000; now < 60_000; now += 1_000) {
      for (const { executor, lane } of loads()) {
        expect(executor).toBe(good);
        scheduler.laneReady(lane, now);
      }
      scheduler.tick(now);
    }
    const outcomes = Uint8Array.of(Outcome.final);
    scheduler.returned(again!.lane, batch, Uint32Array.of(0), outcomes, 60_000);
    expect(outcomes[0]).toBe(Decision.ignored);
  });
});
