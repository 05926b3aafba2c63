/**
 * The scheduler: told what happens, it says what to do. It has no clock, no timers and no promises of its own, so a test
 * can run a year of it in a second and every run is the same. `now` is milliseconds of any monotonic clock.
 *
 * After each call, take the actions and do them in order. Call `tick` about every SCHEDULE_TICK_MS while batches run.
 */
import { EXECUTOR_SLOTS_MAX, LANE_LOAD_MS_MAX } from "../limits.ts";
import { Decision, LaneEnd, StrikeReason } from "./actions.ts";
import type { Action } from "./actions.ts";
import { clearOff, receive } from "./answers.ts";
import { isElsewherePossible, isRefused, loadOneMore, loadWhereNeeded, stuckFor } from "./lanes.ts";
import type { LaneState } from "./lanes.ts";
import { copyStragglers, place } from "./placement.ts";
import { State, inFlightOf } from "./state.ts";
import type { BatchOptions, BatchState, EditionChoice, ExecutorState } from "./state.ts";
import { believe, blame, strike } from "./strikes.ts";
import type { Bar } from "./strikes.ts";

export interface JoiningExecutor {
  /** By kind of program: large packets that it works on at once. */
  readonly capacity: Readonly<Partial<Record<string, number>>>;
  readonly edition?: string;
  /** Its strikes are remembered by it when it leaves and comes back; without one they end with it. */
  readonly name?: string;
}

export interface BatchNumbers {
  readonly done: number;
  readonly queued: number;
  readonly placed: number;
  readonly retries: number;
  readonly copies: number;
}

export class Scheduler {
  readonly #state: State;

  constructor(now: number) {
    this.#state = new State(now);
  }

  /** What is to be done since the last time it was asked. */
  takeActions(): Action[] {
    return this.#state.actions.splice(0);
  }

  // ── executors ──

  join({ capacity, edition = "", name }: JoiningExecutor, now: number): number {
    const state = this.#state;
    const id = state.nextId();
    const slotsByKind = new Map<string, number>();
    for (const [kind, packets = 0] of Object.entries(capacity)) {
      if (packets > 0) slotsByKind.set(kind, Math.min(EXECUTOR_SLOTS_MAX, Math.max(1, Math.floor(packets))));
    }
    // Programs of all kinds share what it works with.
    const slots = Math.max(0, ...slotsByKind.values());
    const known = name ?? `executor ${id}`;
    const barred = new Set(state.strikes.barsOf(known).map(({ kind }) => kind));
    state.executors.set(id, {
      id,
      slotsByKind,
      slots,
      edition,
      lanes: new Map(),
      name: known,
      barred,
      isSuspect: false,
      isShunned: false,
    });
    state.goneSince.delete(edition);
    state.shun();
    for (const batch of state.batches.values()) loadWhereNeeded(state, batch, now);
    return id;
  }

  /** The kinds of program of which executors of this name get no packets, and why. */
  barsOf(name: string): Bar[] {
    return this.#state.strikes.barsOf(name);
  }

  /** Executors of this name get packets again, and their strikes are forgotten. */
  allow(name: string, now: number): void {
    const state = this.#state;
    state.strikes.forgive(name);
    for (const executor of state.executors.values()) {
      if (executor.name !== name) continue;
      executor.barred.clear();
      for (const lane of executor.lanes.values()) {
        lane.isBarred = false;
        state.programs.get(lane.program)!.weight = 0;
      }
    }
    state.shun();
    this.#placeAll(now);
  }

  /** The executor is silent, or may be; or is so no more. As long as there are others it gets nothing. */
  suspect(id: number, isSuspect: boolean, now: number): void {
    const executor = this.#state.executors.get(id);
    if (executor === undefined || executor.isSuspect === isSuspect) return;
    executor.isSuspect = isSuspect;
    this.#state.shun();
    this.#placeAll(now);
  }

  /** The executor is gone, with its lanes and all that was in flight. */
  leave(id: number, now: number): void {
    const state = this.#state;
    const executor = state.executors.get(id);
    if (executor === undefined) return;
    state.executors.delete(id);
    state.shun();
    const { edition } = executor;
    if (![...state.executors.values()].some((other) => other.edition === edition)) {
      state.goneSince.set(edition, now);
    }
    for (const lane of executor.lanes.values()) {
      const program = state.programs.get(lane.program)!;
      program.lanes.delete(id);
      program.failedLoads.delete(id);
      this.#strip(lane, executor, LaneEnd.gone);
    }
    for (const { tasks } of state.batches.values()) tasks.queue.dropHome(id);
    this.#placeAll(now);
  }

  inFlight(executor: number): { readonly packets: number; readonly bytes: number } {
    const state = this.#state.executors.get(executor);
    return state === undefined ? { packets: 0, bytes: 0 } : inFlightOf(state);
  }

  // ── lanes ──

  laneReady(id: number, now: number): void {
    const lane = this.#state.lanes.get(id);
    if (lane?.phase !== "loading") return;
    lane.enter("ready", now);
    const program = this.#state.programs.get(lane.program)!;
    program.loadedBy.add(lane.executor);
    for (const other of program.failedLoads.keys()) {
      program.failedLoads.delete(other);
      if (other === lane.executor) continue;
      strike(this.#state, this.#state.executors.get(other)!.name, program.kind, StrikeReason.load, now);
    }
    place(this.#state, [this.#state.executors.get(lane.executor)!], now);
  }

  /** The lane did not load, or is gone with all that was in flight in it. */
  laneLost(id: number, now: number, end: LaneEnd = LaneEnd.gone): void {
    const state = this.#state;
    const lane = state.lanes.get(id);
    if (lane === undefined) return;
    const program = state.programs.get(lane.program)!;
    const executor = state.executors.get(lane.executor)!;
    blame(state, program, executor, end, now);
    // Whoever says that the program is at fault, or was found out, is asked again only when there is nobody else.
    const isFoundOut = end === LaneEnd.resultless || end === LaneEnd.offended;
    const isForGood =
      end === LaneEnd.refused || (isFoundOut && isElsewherePossible(state, program, [executor.name]));
    lane.goDown(now, isForGood);
    this.#strip(lane, executor, end);
    if (!isRefused(state, program)) return this.#placeAll(now);
    for (const { id: batch } of program.batches)
      state.actions.push({ kind: "stuck", batch, reason: "refused" });
  }

  // ── programs and batches ──

  /** The edition with the most slots now for programs of the kind, for a job that begins. */
  chooseEdition(kind: string): EditionChoice {
    const slotsOf = new Map<string, number>();
    for (const { edition, slotsByKind, barred } of this.#state.executors.values()) {
      const slots = slotsByKind.get(kind);
      if (slots !== undefined && !barred.has(kind)) slotsOf.set(edition, (slotsOf.get(edition) ?? 0) + slots);
    }
    let choice: string | undefined;
    for (const [edition, slots] of slotsOf) {
      if (choice === undefined || slots > slotsOf.get(choice)!) choice = edition;
    }
    return { edition: choice };
  }

  /** Programs of one job share its choice. */
  openProgram(kind: string, choice: EditionChoice = this.chooseEdition(kind)): number {
    const id = this.#state.nextId();
    const batches = new Set<BatchState>();
    this.#state.programs.set(id, {
      id,
      kind,
      choice,
      lanes: new Map(),
      batches,
      loadedBy: new Set(),
      failedLoads: new Map(),
      weight: 0,
      slots: 0,
      weighedAt: 0,
    });
    return id;
  }

  /** Closes the program's lanes. Its batches must have been removed. */
  closeProgram(id: number): void {
    const state = this.#state;
    const program = state.programs.get(id);
    if (program === undefined) return;
    if (program.batches.size > 0) throw new Error("the program still has batches");
    state.programs.delete(id);
    for (const lane of program.lanes.values()) {
      state.executors.get(lane.executor)!.lanes.delete(id);
      if (state.lanes.delete(lane.id)) state.actions.push({ kind: "close", lane: lane.id });
    }
  }

  /** Its tasks wait until they are released. */
  addBatch(options: BatchOptions, now: number): number {
    const program = this.#state.programs.get(options.program);
    if (program === undefined) throw new Error("no such program");
    if (options.bytes.length === 0) throw new Error("a batch has tasks");
    return this.#state.addBatch(program, options, now).id;
  }

  /** Loads the batch's program somewhere ahead of its first task, unless it is loaded already. */
  prepare(id: number, now: number): void {
    const batch = this.#state.batches.get(id);
    if (batch !== undefined && batch.program.lanes.size === 0) loadOneMore(this.#state, batch, now);
  }

  /** `held[task]` bytes of each task's input are on the executor. May come before the release, or any time later. */
  located(batch: number, executor: number, held: Float64Array): void {
    const state = this.#state.batches.get(batch);
    const holder = this.#state.executors.get(executor);
    if (state === undefined || holder === undefined || holder.barred.has(state.program.kind)) return;
    state.tasks.setHome(executor, held);
  }

  /** These tasks may run now; all of them by default. */
  release(id: number, now: number, tasks?: Iterable<number>): void {
    this.#change(id, now, (batch) => {
      if (tasks !== undefined) for (const task of tasks) batch.tasks.release(task);
      else for (let task = 0; task < batch.tasks.count; task++) batch.tasks.release(task);
    });
  }

  /** The inputs of these tasks are gone: they wait for their release again, also those that were done. */
  withdraw(id: number, now: number, tasks: Iterable<number>): void {
    this.#change(id, now, (batch) => {
      for (const task of tasks) batch.tasks.withdraw(task);
    });
  }

  /** The results of these tasks are gone: they run again. */
  redo(id: number, now: number, tasks: Iterable<number>): void {
    this.#change(id, now, (batch) => {
      for (const task of tasks) batch.tasks.redo(task);
    });
  }

  /** Done with or cancelled: what is in flight is not waited for. */
  removeBatch(id: number, now: number): void {
    const batch = this.#state.batches.get(id);
    if (batch === undefined) return;
    this.#state.removeBatch(batch);
    if (batch.group.batches === 0) believe(this.#state, batch.group, now);
    for (const [lane, packets] of batch.inFlight) {
      const state = this.#state.lanes.get(lane);
      if (state !== undefined) state.writtenOff += packets;
    }
    this.#placeAll(now);
  }

  numbersOf(id: number): BatchNumbers | undefined {
    const batch = this.#state.batches.get(id);
    if (batch === undefined) return undefined;
    const { tasks, retries, copies } = batch;
    return { done: tasks.doneCount, queued: tasks.queue.count, placed: tasks.placedCount, retries, copies };
  }

  // ── answers and time ──

  /**
   * The lane answered these tasks of the batch. `outcomes` has an Outcome per task and is overwritten with a Decision for
   * each: only what is accepted counts.
   */
  returned(id: number, batchId: number, tasks: Uint32Array, outcomes: Uint8Array, now: number): void {
    const state = this.#state;
    const lane = state.lanes.get(id);
    const batch = state.batches.get(batchId);
    if (lane === undefined || batch === undefined) {
      outcomes.fill(Decision.ignored);
      if (lane !== undefined) this.stray(id, tasks.length, now);
      return;
    }
    const retries = batch.retries;
    const executor = state.executors.get(lane.executor)!;
    receive(state, { batch, lane, executor, tasks, outcomes }, now);
    this.#settled(batch);
    if (batch.retries > retries) this.#placeAll(now);
    else place(state, [executor], now);
  }

  /** The lane answered packets that belong to no batch any more. */
  stray(id: number, packets: number, now: number): void {
    const lane = this.#state.lanes.get(id);
    if (lane === undefined) return;
    clearOff(lane, packets);
    place(this.#state, [this.#state.executors.get(lane.executor)!], now);
  }

  tick(now: number): void {
    const state = this.#state;
    for (const lane of state.lanes.values()) {
      if (lane.phase !== "loading" || now - lane.since < LANE_LOAD_MS_MAX) continue;
      state.actions.push({ kind: "close", lane: lane.id });
      // Slow is not wrong: others get its packets, and nobody is to blame.
      lane.goDown(now);
      this.#strip(lane, state.executors.get(lane.executor)!, LaneEnd.gone);
    }
    this.#placeAll(now);
    for (const batch of state.batches.values()) {
      copyStragglers(state, batch, now);
      const reason = stuckFor(state, batch, now);
      if (reason !== undefined) state.actions.push({ kind: "stuck", batch: batch.id, reason });
    }
  }

  #change(id: number, now: number, change: (batch: BatchState) => void): void {
    const batch = this.#state.batches.get(id);
    if (batch === undefined) return;
    const isIdle = batch.tasks.queue.count === 0;
    change(batch);
    if (isIdle && batch.tasks.queue.count > 0) {
      batch.waitsSince = now;
      this.#state.wake(batch.group);
    }
    this.#settled(batch);
    this.#placeAll(now);
  }

  #placeAll(now: number): void {
    for (const batch of this.#state.batches.values()) loadWhereNeeded(this.#state, batch, now);
    place(this.#state, this.#state.executors, now);
  }

  /** The lane is gone: what was in flight in it is queued again. */
  #strip(lane: LaneState, { name }: ExecutorState, end: LaneEnd): void {
    const state = this.#state;
    if (!state.lanes.delete(lane.id)) return;
    const program = state.programs.get(lane.program)!;
    program.weight = 0;
    for (const batch of program.batches) {
      if (lane.phase === "given-up") batch.tasks.queue.dropHome(lane.executor);
      batch.inFlight.delete(lane.id);
      batch.retries += batch.tasks.laneLost(lane.id, {
        executor: name,
        reason: end === LaneEnd.broken ? StrikeReason.fault : undefined,
        isElsewherePossible: (than) => isElsewherePossible(state, program, than),
        givenUp: (task) => state.actions.push({ kind: "lost", batch: batch.id, task }),
      });
      this.#settled(batch);
    }
  }

  #settled(batch: BatchState): void {
    const isDone = batch.tasks.doneCount === batch.tasks.count;
    if (isDone && !batch.isDone) this.#state.actions.push({ kind: "done", batch: batch.id });
    batch.isDone = isDone;
  }
}
