/**
 * A program on an executor: whether its lane is there, and how much it may have in flight: the number of packets
 * that the lane would hold if the executor worked for it alone: about LANE_HOLDS_MS of work, and never so few that a slot
 * of the executor waits while the next packet is under way.
 *
 *              ready                    lost, failed to load
 *   loading ──────────▶ ready ─────────────────────────────────▶ down ──▶ (a new lane after a pause) | given-up
 */
import {
  EXECUTORS_WAIT_MS,
  LANE_HOLDS_MS,
  LANE_LOAD_MS_PATIENCE,
  LANE_LOSSES_MAX,
  LANE_PAUSE_MS,
  LANE_PAUSE_MS_MAX,
  LANE_IN_FLIGHT_MAX,
  LOAD_REFUSALS_MAX,
} from "../limits.ts";
import type { StuckReason } from "./actions.ts";
import { isLeftToHomes, staysAtHome } from "./homes.ts";
import { inFlightOf } from "./state.ts";
import type { BatchState, ExecutorState, ProgramState, State } from "./state.ts";

/** Failures in a row after which a lane pauses: one bad packet says nothing about an executor. */
const FAULTS_IN_ROW = 3;
/** What a lane may have in flight shrinks to this part when its packets take a little too long. */
const DECREASE = 0.8;

export type LanePhase = "loading" | "ready" | "down" | "given-up";

export class LaneState {
  readonly id: number;
  readonly executor: number;
  readonly program: number;
  readonly slots: number;
  phase: LanePhase = "loading";
  /** When the phase began. */
  since: number;
  /** When it last became ready, or answered something. */
  heardAt: number;
  /** Packets that it may have in flight. */
  inFlightMax: number;
  /** Packets sent and not answered, those nobody waits for any more included. */
  inFlight = 0;
  inFlightBytes = 0;
  /** Of those in flight: of batches that have ended, or given to another lane meanwhile. */
  writtenOff = 0;
  /** No packets at all: its executor is barred. */
  isBarred = false;
  /** No packets for now: its executor is suspect, and there are others. */
  isShunned = false;
  /** No packets before then. */
  pausedUntil = 0;
  /** How often in a row the program's lane was lost on this executor. */
  losses: number;
  /** More packets would have been sent, had `inFlightMax` been larger. */
  isLimited = false;
  #adjustedAt = 0;
  /** How long the packet took that was answered last. */
  #lastMs = 0;
  #faultsInRow = 0;

  constructor(
    id: number,
    place: { readonly executor: number; readonly program: number; readonly slots: number },
    losses: number,
    now: number,
  ) {
    this.id = id;
    this.executor = place.executor;
    this.program = place.program;
    this.slots = place.slots;
    this.losses = losses;
    this.since = now;
    this.heardAt = now;
    this.inFlightMax = place.slots * 2;
  }

  enter(phase: LanePhase, now: number): void {
    this.phase = phase;
    this.since = now;
    this.heardAt = now;
  }

  isOpen(now: number): boolean {
    return this.phase === "ready" && !this.isShut && now >= this.pausedUntil;
  }

  /** Whether tasks will run in it without anything else happening. */
  isPromising(now: number): boolean {
    if (this.isShut) return false;
    return this.phase === "ready" || (this.phase === "loading" && now - this.since < LANE_LOAD_MS_PATIENCE);
  }

  /** Whether it gets no packets, ready or not. */
  get isShut(): boolean {
    return this.isBarred || this.isShunned;
  }

  /** Whether its program may be loaded again on the executor. */
  mayReload(now: number): boolean {
    return this.phase === "down" && now >= this.pausedUntil;
  }

  /**
   * An answer came to a packet sent at `placedAt`. Once per round trip `inFlightMax` moves towards what the lane does in
   * LANE_HOLDS_MS: close to it by `step` upwards. Returns the factor by which it has to shrink, 1 when it need not.
   */
  measure(placedAt: number, now: number, step: number): number {
    this.#lastMs = Math.max(1, now - placedAt);
    if (placedAt < this.#adjustedAt) return 1;
    if (this.#lastMs > LANE_HOLDS_MS) {
      return this.inFlightMax === this.slots * 2 ? 1 : Math.min(DECREASE, LANE_HOLDS_MS / this.#lastMs);
    }
    if (this.isLimited)
      this.#adjust(this.#lastMs < LANE_HOLDS_MS / 2 ? this.inFlightMax * 2 : this.inFlightMax + step, now);
    return 1;
  }

  /** Its own packets took too long, or those of another lane of the executor did and its own not much less. */
  shrink(factor: number, now: number): void {
    if (this.#lastMs > LANE_HOLDS_MS / 2) this.#adjust(this.inFlightMax * Math.max(0.5, factor), now);
  }

  succeeded(): void {
    this.#faultsInRow = 0;
    this.losses = 0;
  }

  /** An executor that fails everything fast would draw all packets to itself. */
  failed(now: number): void {
    this.#faultsInRow++;
    this.inFlightMax = this.slots * 2;
    if (this.#faultsInRow >= FAULTS_IN_ROW)
      this.pausedUntil = now + pauseMs(this.#faultsInRow - FAULTS_IN_ROW);
  }

  /** The lane is gone or never came, and with `isForGood` none follows it. */
  goDown(now: number, isForGood = false): void {
    this.losses++;
    this.enter(isForGood || this.losses >= LANE_LOSSES_MAX ? "given-up" : "down", now);
    this.pausedUntil = now + pauseMs(this.losses - 1);
    this.inFlight = 0;
    this.inFlightBytes = 0;
    this.writtenOff = 0;
  }

  #adjust(packets: number, now: number): void {
    const least = this.slots * 2;
    this.inFlightMax = Math.min(Math.max(least, LANE_IN_FLIGHT_MAX), Math.max(least, packets));
    this.isLimited = false;
    this.#adjustedAt = now;
  }
}

function pauseMs(times: number): number {
  return Math.min(LANE_PAUSE_MS_MAX, LANE_PAUSE_MS * 2 ** times);
}

// ── on which executors a program is loaded: as many as have work to do, those that have its bytes first ──

/** Loads the batch's program wherever its queued tasks need it. */
export function loadWhereNeeded(state: State, batch: BatchState, now: number): void {
  const { queue, spread } = batch.tasks;
  if (queue.count === 0) return;
  let free = 0;
  let lanes = 0;
  let roomy = 0;
  const count = (lane: LaneState): void => {
    const slots = freeSlots(state, lane);
    lanes++;
    free += slots;
    if (slots > 0) roomy++;
  };
  for (const lane of batch.program.lanes.values()) if (lane.isPromising(now)) count(lane);
  for (const home of queue.homes()) {
    const executor = state.executors.get(home);
    const isEnough = lanes >= queue.count && !staysAtHome(batch);
    if (isEnough || executor === undefined || !queue.hasLocal(home)) continue;
    if (!mayLoad(executor, batch, now)) continue;
    count(load(state, batch, executor, now));
  }
  if (isLeftToHomes(state, batch, now) && !queue.hasFree) return;
  // A task that failed somewhere needs another place to go to, and one that keeps all it was given for ever is none.
  while (free < queue.count || (spread > 0 && roomy <= spread)) {
    const lane = loadOneMore(state, batch, now);
    if (lane === undefined) return;
    count(lane);
  }
}

/** Loads the batch's program on one more executor, not one of `except` by name. Undefined when there is none. */
export function loadOneMore(
  state: State,
  batch: BatchState,
  now: number,
  except: readonly string[] = [],
): LaneState | undefined {
  let best: ExecutorState | undefined;
  let least = Infinity;
  for (const executor of state.executors.values()) {
    if (except.includes(executor.name) || !mayLoad(executor, batch, now)) continue;
    const busy = inFlightOf(executor).packets / executor.slots;
    if (busy >= least) continue;
    best = executor;
    least = busy;
  }
  return best === undefined ? undefined : load(state, batch, best, now);
}

function mayLoad(executor: ExecutorState, batch: BatchState, now: number): boolean {
  if (executor.isShunned || !isEligible(executor, batch.program)) return false;
  const lane = executor.lanes.get(batch.program.id);
  return lane === undefined || lane.mayReload(now);
}

/**
 * Whether the executor may run the program's packets at all: it takes that kind of program, is not barred from it, and has
 * the job's edition.
 */
function isEligible(
  { slotsByKind, edition, barred }: ExecutorState,
  { kind, choice }: ProgramState,
): boolean {
  if (!slotsByKind.has(kind) || barred.has(kind)) return false;
  return choice.edition === undefined || choice.edition === edition;
}

/** Whether an executor that is none of these, by name, can be expected to run the program. */
export function isElsewherePossible(state: State, program: ProgramState, than: readonly string[]): boolean {
  for (const other of state.executors.values()) {
    if (other.isShunned || than.includes(other.name) || !isEligible(other, program)) continue;
    if (other.lanes.get(program.id)?.phase !== "given-up") return true;
  }
  return false;
}

/**
 * Whether the program is not loadable by its own fault: nobody has loaded it or is about to, and LOAD_REFUSALS_MAX executors,
 * or all that there are, say so. A single one of several may be wrong.
 */
export function isRefused(state: State, program: ProgramState): boolean {
  if (program.loadedBy.size > 0) return false;
  for (const { phase, isShut } of program.lanes.values()) {
    if (phase === "ready" || (phase === "loading" && !isShut)) return false;
  }
  let refusals = 0;
  for (const isToBlame of program.failedLoads.values()) if (isToBlame) refusals++;
  if (refusals === 0) return false;
  return refusals >= LOAD_REFUSALS_MAX || !isElsewherePossible(state, program, []);
}

function load(state: State, batch: BatchState, executor: ExecutorState, now: number): LaneState {
  const { program } = batch;
  const losses = executor.lanes.get(program.id)?.losses ?? 0;
  const slots = executor.slotsByKind.get(program.kind)!;
  const place = { executor: executor.id, program: program.id, slots };
  program.choice.edition ??= executor.edition;
  const lane = new LaneState(state.nextId(), place, losses, now);
  executor.lanes.set(program.id, lane);
  program.lanes.set(executor.id, lane);
  program.weight = 0;
  state.lanes.set(lane.id, lane);
  state.actions.push({ kind: "load", lane: lane.id, executor: executor.id, program: program.id });
  return lane;
}

/** Why nothing will ever run the batch's queued tasks, or undefined when something may. */
export function stuckFor(state: State, batch: BatchState, now: number): StuckReason | undefined {
  if (batch.tasks.queue.count === 0) return undefined;
  if (isRefused(state, batch.program)) return "refused";
  const eligible = [...state.executors.values()].filter((executor) => isEligible(executor, batch.program));
  if (eligible.length === 0) {
    const { edition, waitMs = EXECUTORS_WAIT_MS } = batch.program.choice;
    const gone = edition === undefined ? [...state.goneSince.values()] : [state.goneSince.get(edition) ?? 0];
    const since = Math.max(state.began, batch.waitsSince, ...gone);
    return now - since >= waitMs ? "no executor" : undefined;
  }
  for (const { lanes } of eligible) {
    if (lanes.get(batch.program.id)?.phase !== "given-up") return undefined;
  }
  return "not loadable";
}

function freeSlots(state: State, lane: LaneState): number {
  const { kind } = state.programs.get(lane.program)!;
  let packets = 0;
  for (const other of state.executors.get(lane.executor)!.lanes.values()) {
    if (state.programs.get(other.program)!.kind === kind) packets += other.inFlight;
  }
  return Math.max(lane.inFlight === 0 ? 1 : 0, lane.slots - packets);
}
