/** Lanes as whoever looks after a machine sees them: whose they are, what they do, and what they have used. */
import type { ProgramKind, Tenant } from "./executor.ts";

/** A lane that rests keeps its place and what it made; what it needs to run packets comes back with the next of them. */
export type LaneState = "loading" | "idle" | "running" | "resting";

/** What packets took. */
export interface LaneUse {
  /** Those that were answered, faults included. */
  readonly packets: number;
  readonly faults: number;
  /** CPU time of the threads that ran them, in milliseconds. */
  readonly cpuMs: number;
  /** Bytes of their ranges, and of their results. */
  readonly inputBytes: number;
  readonly outputBytes: number;
}

export interface LaneInfo extends LaneUse {
  /** Its slot on its machine, 1 to 65,535. Packets say a number of their job's or stream's. */
  readonly lane: number;
  readonly kind: ProgramKind;
  /** For people; empty until the program was read. */
  readonly program: string;
  /** Whose program it is, unless it is that of the machine's owner. */
  readonly tenant?: Tenant | undefined;
  readonly state: LaneState;
  /** Packets that are not answered yet. */
  readonly inFlight: number;
  readonly ageMs: number;
}

/** The lanes of one machine. */
export interface LanesInfo {
  readonly open: number;
  /** Of all packets since the machine was started, those of lanes that are closed too. */
  readonly use: LaneUse;
  /** Those that run packets first, then those that used most CPU time; as many as were asked for. */
  readonly lanes: readonly LaneInfo[];
}
