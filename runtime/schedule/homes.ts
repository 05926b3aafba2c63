/**
 * Packets that stay where their bytes are. Programs of some kinds are through their bytes faster than those can be sent to
 * another executor: reading, encrypting and sending them costs the one that has them more than the packet does. So its
 * queue is left to it, as long as it answers.
 */
import { STRAGGLER_MS_BLIND, STRAGGLER_MS_MIN } from "../limits.ts";
import type { BatchState, State } from "./state.ts";

/** How much longer than the middle packet is too long. */
const STRAGGLER_MEDIANS = 3;
/** Packet code counts at 1 to 4 GB/s a core, and a core encrypts at 0.4. */
const STAYING_KINDS: ReadonlySet<string> = new Set(["code"]);

/** Milliseconds that a packet of the batch, or an executor that has its bytes, is waited for. */
export function patienceWith({ latencies }: BatchState): number {
  const median = latencies.median();
  return median === undefined ? STRAGGLER_MS_BLIND : Math.max(STRAGGLER_MEDIANS * median, STRAGGLER_MS_MIN);
}

/** Whether executors that have bytes of the batch's queued tasks load its program, however many others have it. */
export function staysAtHome({ program, tasks }: BatchState): boolean {
  return STAYING_KINDS.has(program.kind) && tasks.spread === 0;
}

/**
 * Whether nobody takes queued tasks of the batch whose bytes others have: each of those can be expected to run them. One that
 * failed somewhere goes wherever it can.
 */
export function isLeftToHomes(state: State, batch: BatchState, now: number): boolean {
  if (!staysAtHome(batch)) return false;
  const { queue } = batch.tasks;
  for (const home of queue.homes())
    if (queue.hasLocal(home) && !isAtWork(state, batch, home, now)) return false;
  return true;
}

function isAtWork(state: State, batch: BatchState, home: number, now: number): boolean {
  const lane = state.executors.get(home)?.lanes.get(batch.program.id);
  if (lane === undefined) return false;
  if (lane.phase !== "ready") return lane.isPromising(now);
  if (!lane.isOpen(now)) return false;
  const silence = now - Math.max(lane.heardAt, batch.waitsSince);
  return silence <= STRAGGLER_MS_MIN || silence <= patienceWith(batch);
}
