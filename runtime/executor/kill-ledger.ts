/**
 * What becomes of a packet whose executor process died under it. The process says that it died, not of what: so each
 * packet that was in flight becomes a suspect and runs again, alone in a process, where a second death is its own.
 *
 *   waiting ──▶ in flight ──▶ answered
 *                 │ process died
 *                 ▼
 *               suspect ──▶ alone in flight ──▶ answered
 *                             │ process died
 *                             ▼
 *                           FAULT: memory limit when memory was the reason both times, otherwise quarantined
 *
 * Pure: the lane runs the packets.
 */
import { FaultCode } from "../../packets/faults.ts";

/** `crash` is any end that was nobody's decision: an abort inside V8, a signal from outside. */
export type DeathReason = "memory" | "crash";

/** A packet (64 bytes) that runs one a frame from now on, and the deaths that it was in flight at. */
export interface Trial {
  readonly packet: Uint8Array;
  readonly deaths: readonly DeathReason[];
}

export interface Circumstances {
  readonly reason: DeathReason;
  /** No other packet was in flight in the process. */
  readonly alone: boolean;
  /** Nor had one run in it before. */
  readonly fresh: boolean;
}

/** Another try, or the code of the FAULT that the packet ends with. */
export type Verdict =
  | { readonly kind: "retry"; readonly trial: Trial }
  | { readonly kind: "fault"; readonly code: FaultCode };

export function afterDeath(trial: Trial, { reason, alone, fresh }: Circumstances): Verdict {
  const deaths = [...trial.deaths, reason];
  // Memory that was taken while the packet was the only one that ever ran there can be nobody else's.
  if (reason === "memory" && alone && fresh) return { kind: "fault", code: FaultCode.memoryLimit };
  if (!alone || deaths.length < 2) return { kind: "retry", trial: { packet: trial.packet, deaths } };
  const byMemory = deaths.every((death) => death === "memory");
  return { kind: "fault", code: byMemory ? FaultCode.memoryLimit : FaultCode.quarantined };
}

/** Whether the packet must run with no other beside it. */
export function isSuspect(trial: Trial): boolean {
  return trial.deaths.length > 0;
}
