/**
 * Second copies of packets that take far longer than their like, on executors that have nothing else to do. The first
 * answer wins; a node that swallows packets costs the tasks it holds a wait, and nothing more.
 */
import { STRAGGLER_MS_BLIND, STRAGGLER_MS_MIN } from "../limits.ts";
import type { LaneState } from "./lanes.ts";
import { depart } from "./placement.ts";
import { hire } from "./staffing.ts";
import { bytesFree, occupancyOf } from "./state.ts";
import type { BatchState, State } from "./state.ts";

/** How much longer than the middle packet is too long. */
const MEDIANS = 3;
/** Copies sent out for one batch at one time. */
const COPIES_AT_ONCE = 64;
/** Executors less full than this have time for copies. */
const OCCUPANCY_MAX = 0.5;

const scratch = new Uint32Array(COPIES_AT_ONCE);

export function copyStragglers(state: State, batch: BatchState, now: number): void {
  const { tasks, latencies } = batch;
  if (tasks.placedCount === 0) return;
  const median = latencies.median();
  const patience = median === undefined ? STRAGGLER_MS_BLIND : Math.max(MEDIANS * median, STRAGGLER_MS_MIN);
  const count = tasks.overdue(now, patience, scratch);
  let isHelpComing = isLoading(batch);
  for (let index = 0; index < count; index++) {
    const task = scratch[index]!;
    const busy = executorsOf(state, batch, task);
    let lane = freestLane(state, batch, busy, false, now);
    // One new lane at a time: it takes more than one copy once it is ready.
    if (lane === undefined && !isHelpComing) isHelpComing = hire(state, batch, now, busy) !== undefined;
    if (lane === undefined && !isHelpComing) lane = freestLane(state, batch, busy, true, now);
    if (lane !== undefined) copyTo(state, batch, task, lane, now);
  }
}

function copyTo(state: State, batch: BatchState, task: number, lane: LaneState, now: number): void {
  const writtenOff = state.lanes.get(batch.tasks.copy(task, lane.id, now));
  if (writtenOff !== undefined) {
    writtenOff.writtenOff++;
    batch.inFlight.set(writtenOff.id, (batch.inFlight.get(writtenOff.id) ?? 1) - 1);
  }
  batch.copies++;
  depart(state, batch, lane, Uint32Array.of(task), batch.tasks.bytes[task]!);
}

/** The executors that have the task already. */
function executorsOf(state: State, batch: BatchState, task: number): readonly number[] {
  const lanes = [batch.tasks.laneOf(task), batch.tasks.copyLaneOf(task)];
  return lanes.flatMap((id) => state.lanes.get(id)?.executor ?? []);
}

/** `mayBeSuspect`: also lanes that still owe answers which were given to others meanwhile. */
function freestLane(
  state: State,
  batch: BatchState,
  except: readonly number[],
  mayBeSuspect: boolean,
  now: number,
): LaneState | undefined {
  let freest: LaneState | undefined;
  let least = OCCUPANCY_MAX;
  for (const lane of batch.program.lanes.values()) {
    if (!lane.isOpen(now) || except.includes(lane.executor)) continue;
    if (lane.writtenOff > 0 && !mayBeSuspect) continue;
    const executor = state.executors.get(lane.executor)!;
    const occupancy = occupancyOf(executor);
    if (occupancy >= least || bytesFree(executor) <= 0) continue;
    least = occupancy;
    freest = lane;
  }
  return freest;
}

function isLoading(batch: BatchState): boolean {
  for (const { phase } of batch.program.lanes.values()) if (phase === "loading") return true;
  return false;
}
