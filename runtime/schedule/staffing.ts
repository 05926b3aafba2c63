/** On which executors a batch's program is loaded: as many as have work to do, those that have its bytes first. */
import { EXECUTORS_WAIT_MS, LANE_LOAD_MS_PATIENCE } from "../limits.ts";
import { LaneState } from "./lanes.ts";
import { inFlightOf } from "./state.ts";
import type { BatchState, ExecutorState, State } from "./state.ts";

/** Loads the batch's program wherever its tasks in line need it. */
export function staff(state: State, batch: BatchState, now: number): void {
  const { line, repeatCount } = batch.tasks;
  if (line.count === 0) return;
  let slots = 0;
  let lanes = 0;
  for (const lane of batch.program.lanes.values()) {
    if (!isPromising(lane, now)) continue;
    lanes++;
    slots += slotsOf(state, lane);
  }
  for (const home of line.homes()) {
    const executor = state.executors.get(home);
    if (lanes >= line.count || executor === undefined || !line.hasLocal(home)) continue;
    if (!mayLoad(executor, batch, now)) continue;
    lanes++;
    slots += slotsOf(state, load(state, batch, executor, now));
  }
  // A task that failed somewhere needs a second place to go to.
  while (slots < line.count || (repeatCount > 0 && lanes < 2)) {
    const lane = hire(state, batch, now);
    if (lane === undefined) return;
    lanes++;
    slots += slotsOf(state, lane);
  }
}

/** Loads the batch's program on one more executor, not one of `except`. Undefined when there is none. */
export function hire(
  state: State,
  batch: BatchState,
  now: number,
  except: readonly number[] = [],
): LaneState | undefined {
  let best: ExecutorState | undefined;
  let least = Infinity;
  for (const executor of state.executors.values()) {
    if (except.includes(executor.id) || !mayLoad(executor, batch, now)) continue;
    const busy = inFlightOf(executor).packets / executor.width;
    if (busy >= least) continue;
    best = executor;
    least = busy;
  }
  return best === undefined ? undefined : load(state, batch, best, now);
}

function mayLoad(executor: ExecutorState, batch: BatchState, now: number): boolean {
  const lane = executor.lanes.get(batch.program.id);
  return lane === undefined || lane.mayReload(now);
}

function load(state: State, batch: BatchState, executor: ExecutorState, now: number): LaneState {
  const { program } = batch;
  const losses = executor.lanes.get(program.id)?.losses ?? 0;
  const place = { executor: executor.id, program: program.id, width: executor.width };
  const lane = new LaneState(state.nextId(), place, losses, now);
  executor.lanes.set(program.id, lane);
  program.lanes.set(executor.id, lane);
  program.weight = 0;
  state.lanes.set(lane.id, lane);
  state.actions.push({ kind: "load", lane: lane.id, executor: executor.id, program: program.id });
  return lane;
}

/** Why nothing will ever run the batch's tasks in line, or undefined when something may. */
export function stuckFor(
  { executors, emptySince }: State,
  batch: BatchState,
  now: number,
): "no executor" | "not loadable" | undefined {
  if (batch.tasks.line.count === 0) return undefined;
  if (executors.size === 0) {
    const since = Math.max(emptySince, batch.waitsSince);
    return now - since >= EXECUTORS_WAIT_MS ? "no executor" : undefined;
  }
  for (const { lanes } of executors.values()) {
    if (lanes.get(batch.program.id)?.phase !== "given-up") return undefined;
  }
  return "not loadable";
}

/** Whether tasks will run in the lane without anything else happening. */
function isPromising(lane: LaneState, now: number): boolean {
  return lane.phase === "ready" || (lane.phase === "loading" && now - lane.since < LANE_LOAD_MS_PATIENCE);
}

function slotsOf(state: State, lane: LaneState): number {
  const executor = state.executors.get(lane.executor)!;
  return Math.max(lane.inFlight === 0 ? 1 : 0, executor.width - inFlightOf(executor).packets);
}
