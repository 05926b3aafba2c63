/**
 * Which packets go where, now. An executor is filled in two rounds: first with tasks whose bytes it has or whose bytes are
 * nowhere in particular, up to what its lanes may have in flight; then, if it is less than half full, with tasks whose
 * bytes others have, but for those that stay there (homes.ts). Between groups the one that was served least is next, so that
 * jobs share executors by time and not by how many packets they have.
 */
import { SEND_PACKETS_MAX, STEAL_GRACE_MS } from "../limits.ts";
import { isLeftToHomes, patienceWith } from "./homes.ts";
import { isElsewherePossible, loadOneMore } from "./lanes.ts";
import type { LaneState } from "./lanes.ts";
import type { Take } from "./task-queue.ts";
import type { Failure } from "./tasks.ts";
import { bytesFree, occupancyOf } from "./state.ts";
import type { BatchState, ExecutorState, State } from "./state.ts";

type Reach = "own" | "any";

/** Up to which occupancy each round fills an executor. */
const OCCUPANCY_MAX: Readonly<Record<Reach, number>> = { own: 1, any: 0.5 };
/** Lanes that share an executor take turns of this part of what they may have in flight; and smaller frames are not worth their cost. */
const TURN = 1 / 8;

/** Copies sent out for one batch at one time. */
const COPIES_AT_ONCE = 64;
/** Executors less full than this have time for copies. */
const COPIES_OCCUPANCY_MAX = 0.5;

interface Choice {
  readonly batch: BatchState;
  readonly lane: LaneState;
  readonly packets: number;
}

const scratch = new Uint32Array(SEND_PACKETS_MAX);
const overdue = new Uint32Array(COPIES_AT_ONCE);

/** Fills these executors as far as there is work for them. */
export function place(
  state: State,
  executors: readonly ExecutorState[] | ReadonlyMap<number, ExecutorState>,
  now: number,
): void {
  for (const executor of executors.values()) fill(state, executor, "own", now);
  for (const executor of executors.values()) fill(state, executor, "any", now);
}

function fill(state: State, executor: ExecutorState, reach: Reach, now: number): void {
  let skipped: BatchState[] | undefined;
  for (;;) {
    const choice = choose(state, executor, reach, skipped, now);
    if (choice === undefined) return;
    state.clock = Math.max(state.clock, choice.batch.group.served);
    if (!send(state, executor, choice, reach, now)) (skipped ??= []).push(choice.batch);
  }
}

/** The batch whose turn it is among those that have something for the executor and room on it. */
function choose(
  state: State,
  executor: ExecutorState,
  reach: Reach,
  skipped: readonly BatchState[] | undefined,
  now: number,
): Choice | undefined {
  const occupancy = occupancyOf(executor);
  let batch: BatchState | undefined;
  let best: LaneState | undefined;
  let packets = 0;
  let rivals = 0;
  for (const lane of executor.lanes.values()) {
    if (!lane.isOpen(now)) continue;
    for (const other of state.programs.get(lane.program)!.batches) {
      if (other.tasks.queue.count === 0 || skipped?.includes(other) === true) continue;
      if (reach === "any" && (expectsHome(state, other, now) || isLeftToHomes(state, other, now))) continue;
      const room = roomFor(state, other, lane, executor, OCCUPANCY_MAX[reach] - occupancy, now);
      if (room < 1) continue;
      rivals++;
      if (batch !== undefined && !goesBefore(other, batch)) continue;
      batch = other;
      best = lane;
      packets = room;
    }
  }
  if (batch === undefined || best === undefined) return undefined;
  if (rivals > 1) packets = Math.min(packets, Math.max(1, Math.floor(best.inFlightMax * TURN)));
  return { batch, lane: best, packets };
}

function goesBefore(a: BatchState, b: BatchState): boolean {
  if (a.group !== b.group) return a.group.served < b.group.served;
  return a.rank > b.rank;
}

/** How many packets of the batch the lane may be sent. */
function roomFor(
  state: State,
  batch: BatchState,
  lane: LaneState,
  executor: ExecutorState,
  free: number,
  now: number,
): number {
  if (bytesFree(executor) <= 0) return 0;
  // One packet always counts as fitting, or lanes that may have few in flight would wait for room that others take at once.
  let room = free < TURN ? 0 : Math.max(1, Math.floor(free * lane.inFlightMax));
  // Whoever has nothing on an executor need not wait until others leave room: their packets may take long.
  if (lane.inFlight === 0) room = Math.max(1, room);
  if (room < 1) {
    lane.isLimited = true;
    return 0;
  }
  // Towards the end everyone gets their share of what is left, so that all finish together.
  const { tasks } = batch;
  const left = tasks.queue.count + tasks.placedCount;
  const least = tasks.queue.hasLocal(executor.id) ? lane.slots : 1;
  const share = Math.max(least, state.shareOf(left, lane, batch.program, now));
  // What is in flight in the lane may have been answered by another long ago, and never be here.
  const awaited = Math.min(batch.inFlight.get(lane.id) ?? 0, tasks.placedCount);
  return Math.min(room, share - awaited, SEND_PACKETS_MAX);
}

/** Whether an executor that has the batch's bytes is about to be ready for them: nothing is stolen from it meanwhile. */
function expectsHome(state: State, batch: BatchState, now: number): boolean {
  if (now - batch.waitsSince >= STEAL_GRACE_MS) return false;
  for (const home of batch.tasks.queue.homes()) {
    const executor = state.executors.get(home);
    if (executor === undefined || !batch.tasks.queue.hasLocal(home)) continue;
    const lane = executor.lanes.get(batch.program.id);
    if (lane?.phase === "loading" && !lane.isShut) return true;
  }
  return false;
}

function send(state: State, executor: ExecutorState, choice: Choice, reach: Reach, now: number): boolean {
  const { batch, lane, packets } = choice;
  const { queue } = batch.tasks;
  const take: Take = {
    executor: executor.id,
    executorName: executor.name,
    lane: lane.id,
    now,
    packetsMax: packets,
    bytesMax: bytesFree(executor),
    mayRepeat: (failures) => {
      const here = failures.find((failure) => failure.executor === executor.name)!;
      const others = failures.filter((failure) => timesOf(failure) >= timesOf(here));
      const than = others.map((failure) => failure.executor);
      return !isElsewherePossible(state, batch.program, than);
    },
    into: scratch,
    count: 0,
    bytes: 0,
    isFull: false,
  };
  if (reach === "any") queue.takeAny(take);
  else {
    queue.takeLocal(take);
    if (!take.isFull) queue.takeFree(take);
  }
  if (take.count === 0) return false;
  depart(state, batch, lane, scratch.slice(0, take.count), take.bytes);
  return true;
}

function timesOf({ faults, misses, losses }: Failure): number {
  return faults + misses + losses;
}

/** Accounts for packets that are sent to the lane. */
export function depart(
  state: State,
  batch: BatchState,
  lane: LaneState,
  tasks: Uint32Array,
  bytes: number,
): void {
  lane.inFlight += tasks.length;
  lane.inFlightBytes += bytes;
  batch.inFlight.set(lane.id, (batch.inFlight.get(lane.id) ?? 0) + tasks.length);
  batch.group.served += (tasks.length * lane.slots) / lane.inFlightMax / batch.group.weight;
  state.actions.push({ kind: "send", lane: lane.id, batch: batch.id, tasks });
}

/**
 * Sends second copies of packets that take far longer than their like to executors that have nothing else to do. The first
 * answer wins; a node that swallows packets costs the tasks it holds a wait, and nothing more.
 */
export function copyStragglers(state: State, batch: BatchState, now: number): void {
  const { tasks } = batch;
  if (tasks.placedCount === 0) return;
  const count = tasks.overdue(now, patienceWith(batch), overdue);
  let isHelpComing = isLoading(batch);
  for (let index = 0; index < count; index++) {
    const task = overdue[index]!;
    // Nor does it go where it failed already.
    const failedOn = tasks.failuresOf(task).map(({ executor }) => executor);
    const busy = [...executorsOf(state, batch, task), ...failedOn];
    let lane = freestLane(state, batch, busy, false, now);
    // One new lane at a time: it takes more than one copy once it is ready.
    if (lane === undefined && !isHelpComing)
      isHelpComing = loadOneMore(state, batch, now, busy) !== undefined;
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

/** The executors that have the task already, by name. */
function executorsOf(state: State, batch: BatchState, task: number): readonly string[] {
  const lanes = [batch.tasks.laneOf(task), batch.tasks.copyLaneOf(task)];
  return lanes.flatMap((id) => {
    const lane = state.lanes.get(id);
    return lane === undefined ? [] : state.executors.get(lane.executor)!.name;
  });
}

/** `mayBeSuspect`: also lanes that still owe answers which were given to others meanwhile. */
function freestLane(
  state: State,
  batch: BatchState,
  except: readonly string[],
  mayBeSuspect: boolean,
  now: number,
): LaneState | undefined {
  let freest: LaneState | undefined;
  let least = COPIES_OCCUPANCY_MAX;
  for (const lane of batch.program.lanes.values()) {
    const executor = state.executors.get(lane.executor)!;
    if (!lane.isOpen(now) || except.includes(executor.name)) continue;
    if (lane.writtenOff > 0 && !mayBeSuspect) continue;
    const occupancy = occupancyOf(executor);
    if (occupancy >= least || bytesFree(executor) <= 0) continue;
    least = occupancy;
    freest = lane;
  }
  return freest;
}

function isLoading(batch: BatchState): boolean {
  for (const { phase, isShut } of batch.program.lanes.values()) {
    if (phase === "loading" && !isShut) return true;
  }
  return false;
}
