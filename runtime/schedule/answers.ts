/** What answers change: whose they are, which of them count, and what they say about the lane that sent them. */
import { Outcome, Verdict } from "./actions.ts";
import type { LaneState } from "./lanes.ts";
import { windowsOf } from "./state.ts";
import type { BatchState, ExecutorState } from "./state.ts";
import { Awaited } from "./tasks.ts";

/** A window grows by this part of all windows of its executor. */
const STEPS = 8;

/** Takes the answers of one frame; `outcomes` becomes verdicts. */
export function receive(
  batch: BatchState,
  lane: LaneState,
  executor: ExecutorState,
  answers: Uint32Array,
  outcomes: Uint8Array,
  now: number,
): void {
  const { tasks } = batch;
  let packets = 0;
  let bytes = 0;
  let sample = -1;
  for (let index = 0; index < answers.length; index++) {
    const task = answers[index]!;
    const outcome = outcomes[index]!;
    outcomes[index] = Verdict.ignored;
    const awaited = tasks.answered(task, lane.id);
    if (awaited === Awaited.no) continue;
    packets++;
    bytes += tasks.bytes[task]!;
    if (awaited === Awaited.late) continue;
    if (outcome === Outcome.elsewhere && tasks.again(task, lane.executor)) {
      outcomes[index] = Verdict.again;
      batch.retries++;
      lane.failed(now);
      continue;
    }
    tasks.settle(task);
    outcomes[index] = Verdict.accepted;
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
  const factor = lane.measure(tasks.placedAt(sample), now, windowsOf(executor) / STEPS);
  // Lanes that grow by the same steps and shrink together become equal (Chiu and Jain, "Analysis of the Increase and
  // Decrease Algorithms for Congestion Avoidance", 1989): jobs that came first have no lasting advantage.
  if (factor < 1) for (const other of executor.lanes.values()) other.shrink(factor, now);
}

/** Packets that nobody waited for came back after all; anything beyond those was never in flight. */
export function clearOff(lane: LaneState, packets: number): void {
  const cleared = Math.min(packets, lane.writtenOff);
  if (cleared === 0) return;
  lane.inFlightBytes -= (lane.inFlightBytes / lane.inFlight) * cleared;
  lane.writtenOff -= cleared;
  lane.inFlight -= cleared;
}
