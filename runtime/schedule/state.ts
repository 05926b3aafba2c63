/** What the scheduler knows: executors, the programs on them, and the batches of tasks that run those programs. */
import { EXECUTOR_SLOT_BYTES_MAX, LONG_IN_FLIGHT_MAX, WEIGHT_STALE_MS } from "../limits.ts";
import type { Action } from "./actions.ts";
import type { LaneState } from "./lanes.ts";
import { Strikes } from "./strikes.ts";
import { TaskTable } from "./tasks.ts";

/** Packets whose times are remembered. */
const SAMPLES = 64;

/**
 * What the programs of a job share: all their packets run on executors of one edition. It is undefined until there is an
 * executor to choose, and that of the first one that is given something to load from then on.
 */
export interface EditionChoice {
  edition: string | undefined;
  /** How long batches wait for an executor of it when there is none; EXECUTORS_WAIT_MS unless given. */
  readonly waitMs?: number;
}

export interface ExecutorState {
  readonly id: number;
  /** By kind of program: large packets that it works on at once, as far as it is believed. It runs no other kinds. */
  readonly slotsByKind: ReadonlyMap<string, number>;
  /** Of all kinds together. */
  readonly slots: number;
  readonly edition: string;
  /** By program: the lane that is there, is coming, or was lost. */
  readonly lanes: Map<number, LaneState>;
  /** What its strikes are counted by: another connection of the same executor has the same name. */
  readonly name: string;
  /** Kinds of program of which it gets no packets. */
  readonly barred: Set<string>;
  /** It may be silent: whoever asked it something lately had no answer. */
  isSuspect: boolean;
  /** It is, and others can do what it does: it gets nothing until it is not suspect any more. */
  isShunned: boolean;
}

/** Batches that share a program share its lanes. */
export interface ProgramState {
  readonly id: number;
  /** What it is made of; only executors with capacity for it run it. */
  readonly kind: string;
  readonly choice: EditionChoice;
  readonly lanes: Map<number, LaneState>;
  readonly batches: Set<BatchState>;
  /** Executors that have loaded it. */
  readonly loadedBy: Set<number>;
  /** Executors that could not load it, which nobody has disproved yet; true for those that say that it is to blame. */
  readonly failedLoads: Map<number, boolean>;
  /** Packets that its lanes may have in flight together, as of `weighedAt`. */
  weight: number;
  /** Their slots, as of then. */
  slots: number;
  weighedAt: number;
}

/** Whose turn it is: batches of one group (one job) share what the group gets. */
export interface GroupState {
  readonly id: number;
  /** A group of weight 2 gets twice as much as one of weight 1. */
  readonly weight: number;
  /** Slots × LANE_HOLDS_MS that it was given, divided by its weight. The group with the least is next. */
  served: number;
  batches: number;
  /** By executor, by name: who did not get an input that it got, as its answers say. They are believed once no batch is left. */
  readonly witnessed: Map<string, Miss[]>;
}

/** An executor, by name, did not get its input for packets of programs of this kind. */
export interface Miss {
  readonly executor: string;
  readonly kind: string;
}

export interface BatchOptions {
  readonly program: number;
  /** Batches of one job have one group; groups share the executors by weight, 1 where the first one does not say. */
  readonly group: number;
  readonly weight?: number;
  /** Within a group, higher ranks go first. 0 by default. */
  readonly rank?: number;
  /** Input bytes of each task; the scheduler's from now on. */
  readonly bytes: Float64Array;
}

export interface BatchState {
  readonly id: number;
  readonly program: ProgramState;
  readonly group: GroupState;
  /** Within a group, higher ranks go first. */
  readonly rank: number;
  readonly tasks: TaskTable;
  /** Packets of the batch in flight, by lane. */
  readonly inFlight: Map<number, number>;
  readonly latencies: Latencies;
  /** When it last had nothing to wait for but executors. */
  waitsSince: number;
  isDone: boolean;
  /** Tasks that were placed again after a lane was lost or failed them. */
  retries: number;
  /** Second copies of tasks that took long. */
  copies: number;
}

export class State {
  readonly executors: Map<number, ExecutorState> = new Map();
  readonly programs: Map<number, ProgramState> = new Map();
  readonly groups: Map<number, GroupState> = new Map();
  readonly batches: Map<number, BatchState> = new Map();
  /** Loading and ready lanes. */
  readonly lanes: Map<number, LaneState> = new Map();
  readonly strikes: Strikes = new Strikes();
  readonly actions: Action[] = [];
  /** What the group that was served last had been given: groups that come or wake up begin there. */
  clock = 0;
  readonly began: number;
  /** When the last executor of an edition left, by edition. */
  readonly goneSince: Map<string, number> = new Map();
  #lastId = 0;

  constructor(now: number) {
    this.began = now;
  }

  /** Numbers from 1 on: 0 means none. */
  nextId(): number {
    return ++this.#lastId;
  }

  addBatch(
    program: ProgramState,
    { group: groupId, weight = 1, rank = 0, bytes }: BatchOptions,
    now: number,
  ): BatchState {
    let group = this.groups.get(groupId);
    if (group === undefined) {
      group = { id: groupId, weight, served: this.clock, batches: 0, witnessed: new Map() };
      this.groups.set(group.id, group);
    }
    group.batches++;
    const batch: BatchState = {
      id: this.nextId(),
      program,
      group,
      rank,
      tasks: new TaskTable(bytes),
      inFlight: new Map(),
      latencies: new Latencies(),
      waitsSince: now,
      isDone: false,
      retries: 0,
      copies: 0,
    };
    program.batches.add(batch);
    this.batches.set(batch.id, batch);
    return batch;
  }

  removeBatch(batch: BatchState): void {
    this.batches.delete(batch.id);
    batch.program.batches.delete(batch);
    if (--batch.group.batches === 0) this.groups.delete(batch.group.id);
  }

  /** Finds out anew which executors are shunned, after one came, left, was barred, or became suspect or not. */
  shun(): void {
    const all = [...this.executors.values()];
    for (const executor of all) {
      const isShunned = executor.isSuspect && all.some((other) => canReplace(other, executor));
      if (isShunned === executor.isShunned) continue;
      executor.isShunned = isShunned;
      for (const lane of executor.lanes.values()) {
        lane.isShunned = isShunned;
        this.programs.get(lane.program)!.weight = 0;
      }
    }
  }

  /** A group that was idle does not make up for it. */
  wake(group: GroupState): void {
    group.served = Math.max(group.served, this.clock);
  }

  /**
   * Of so many tasks of a batch that are not done, how many the lane may have in flight: its part of what the program's lanes
   * can hold together. Long packets are as unequal as it pleases them, and what is in a lane stays there though others have
   * nothing to do: of such it has half of an equal part, as long as none of its slots waits for it.
   */
  shareOf(left: number, lane: LaneState, program: ProgramState, now: number): number {
    if (program.weight === 0 || now - program.weighedAt >= WEIGHT_STALE_MS) {
      program.weight = 0;
      program.slots = 0;
      program.weighedAt = now;
      for (const { phase, inFlightMax, slots, isShut } of program.lanes.values()) {
        if (isShut || (phase !== "ready" && phase !== "loading")) continue;
        program.weight += inFlightMax;
        program.slots += slots;
      }
    }
    const byPace = Math.ceil(left * Math.min(1, lane.inFlightMax / program.weight));
    const isAlone = program.slots <= lane.slots;
    if (isAlone || lane.inFlightMax > LONG_IN_FLIGHT_MAX * lane.slots) return byPace;
    const half = Math.ceil((left * lane.slots) / program.slots / 2);
    return Math.min(byPace, Math.max(half, lane.slots));
  }
}

/** Whether the one, which is not suspect, takes all the packets that the other takes. */
function canReplace(one: ExecutorState, other: ExecutorState): boolean {
  if (one.isSuspect || one.edition !== other.edition) return false;
  return [...other.slotsByKind.keys()].every((kind) => one.slotsByKind.has(kind) && !one.barred.has(kind));
}

/** How full the executor is: each lane's packets in flight as a part of what it may have, added up. */
export function occupancyOf(executor: ExecutorState): number {
  let occupancy = 0;
  for (const lane of executor.lanes.values()) occupancy += lane.inFlight / lane.inFlightMax;
  return occupancy;
}

export function inFlightOf(executor: ExecutorState): { readonly packets: number; readonly bytes: number } {
  let packets = 0;
  let bytes = 0;
  for (const lane of executor.lanes.values()) {
    packets += lane.inFlight;
    bytes += lane.inFlightBytes;
  }
  return { packets, bytes };
}

export function inFlightMaxOf(executor: ExecutorState): number {
  let packets = 0;
  for (const lane of executor.lanes.values()) packets += lane.inFlightMax;
  return packets;
}

/** Input bytes that may still be put in flight on the executor. */
export function bytesFree(executor: ExecutorState): number {
  return executor.slots * EXECUTOR_SLOT_BYTES_MAX - inFlightOf(executor).bytes;
}

/** How long the last packets of a batch took from being placed to being answered. */
export class Latencies {
  /** Most batches have few: a table for SAMPLES of them would cost more than all else that a small one needs. */
  readonly #samples: number[] = [];
  #count = 0;

  add(milliseconds: number): void {
    this.#samples[this.#count++ % SAMPLES] = milliseconds;
  }

  /** The middle one, or undefined before the first. */
  median(): number | undefined {
    if (this.#count === 0) return undefined;
    const known = this.#samples.toSorted((a, b) => a - b);
    return known[known.length >>> 1];
  }
}
