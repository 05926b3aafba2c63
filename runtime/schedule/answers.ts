/**
 * What becomes of the answers that a lane gives: each is the one that its task needed, or came too late, or sends the task
 * elsewhere. How long they took says how much the lane may have in flight.
 */
import { Decision, Outcome, StrikeReason } from "./actions.ts";
import { isElsewherePossible } from "./lanes.ts";
import type { LaneState } from "./lanes.ts";
import { inFlightMaxOf } from "./state.ts";
import type { BatchState, ExecutorState, State } from "./state.ts";
import { strike, witness } from "./strikes.ts";
import { Awaited } from "./tasks.ts";

/** What a lane may have in flight grows by this part of what all lanes of its executor may. */
const GROWTH_STEPS = 8;

/** What came in one frame: answers to these tasks of a batch, from a lane of the executor. */
export interface Receipt {
  readonly batch: BatchState;
  readonly lane: LaneState;
  readonly executor: ExecutorState;
  readonly tasks: Uint32Array;
  /** An Outcome for each, which becomes a Decision. */
  readonly outcomes: Uint8Array;
}

/** Takes the answers of one frame. Executors that they prove wrong are struck. */
export function receive(
  state: State,
  { batch, lane, executor, tasks: answers, outcomes }: Receipt,
  now: number,
): void {
  const { tasks } = batch;
  const { kind } = batch.program;
  const disprove = (other: string, reason: StrikeReason): void =>
    reason === StrikeReason.input
      ? witness(batch.group, executor.name, { executor: other, kind })
      : strike(state, other, kind, reason, now);
  lane.heardAt = now;
  let packets = 0;
  let bytes = 0;
  let sample = -1;
  const isPossible = (than: readonly string[]): boolean => isElsewherePossible(state, batch.program, than);
  // What is missing for an executor that is alone stays missing, and what it cannot do it will not do.
  let isElsewhere: boolean | undefined;
  const mayHelp = (outcome: Outcome): boolean =>
    outcome === Outcome.elsewhere || (isElsewhere ??= isPossible([executor.name]));
  for (let index = 0; index < answers.length; index++) {
    const task = answers[index]!;
    const outcome = outcomes[index] as Outcome;
    outcomes[index] = Decision.ignored;
    const awaited = tasks.answered(task, lane.id);
    if (awaited === Awaited.no) continue;
    packets++;
    bytes += tasks.bytes[task]!;
    if (awaited === Awaited.late) continue;
    if (outcome === Outcome.final) tasks.disproved(task, executor, disprove);
    else if (mayHelp(outcome) && tasks.again(task, executor.name, reasonOf(outcome), isPossible)) {
      outcomes[index] = Decision.again;
      batch.retries++;
      if (outcome !== Outcome.inputMissing) lane.failed(now);
      continue;
    }
    tasks.settle(task);
    outcomes[index] = Decision.accepted;
    sample = task;
  }
  lane.inFlight -= packets;
  lane.inFlightBytes = lane.inFlight === 0 ? 0 : lane.inFlightBytes - bytes;
  batch.inFlight.set(lane.id, (batch.inFlight.get(lane.id) ?? packets) - packets);
  if (packets < answers.length) clearOff(lane, answers.length - packets);
  if (sample < 0) return;
  lane.succeeded();
  if (tasks.copiesOf(sample) > 0) return;
  batch.latencies.add(now - tasks.placedAt(sample));
  const factor = lane.measure(tasks.placedAt(sample), now, inFlightMaxOf(executor) / GROWTH_STEPS);
  // Lanes that grow by the same steps and shrink together become equal (Chiu and Jain, "Analysis of the Increase and
  // Decrease Algorithms for Congestion Avoidance", 1989): jobs that came first have no lasting advantage.
  if (factor < 1) for (const other of executor.lanes.values()) other.shrink(factor, now);
}

function reasonOf(outcome: Outcome): StrikeReason | undefined {
  if (outcome === Outcome.incapable) return undefined;
  return outcome === Outcome.inputMissing ? StrikeReason.input : StrikeReason.fault;
}

/** Packets that nobody waited for came back after all; anything beyond those was never in flight. */
export function clearOff(lane: LaneState, packets: number): void {
  const cleared = Math.min(packets, lane.writtenOff);
  if (cleared === 0) return;
  lane.inFlightBytes -= (lane.inFlightBytes / lane.inFlight) * cleared;
  lane.writtenOff -= cleared;
  lane.inFlight -= cleared;
}
