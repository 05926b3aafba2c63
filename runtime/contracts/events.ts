/**
 * What happens on a machine and in its network, told as it happens to whoever wants to watch: one seam for jobs, nodes,
 * transfers and repairs. Whoever puts a machine together makes one emitter and hands it to those that have something to
 * tell; listeners are called in the middle of the work, so they must be quick and must not throw.
 */
import type { EventEmitter } from "node:events";
import type { UnusedAccelerator } from "./kernels.ts";

/** `events.emit("repair", …)`, `events.on("job", …)`. */
export interface EventMap {
  job: [JobEvent];
  node: [NodeEvent];
  transfer: [TransferEvent];
  repair: [RepairEvent];
  withdrawn: [WithdrawnEvent];
}

export type Events = EventEmitter<EventMap>;

export type JobEvent =
  /** Its input is planned: so many splits, of so many bytes together. */
  | { readonly kind: "started"; readonly job: string; readonly tasks: number; readonly inputBytes: number }
  /** Splits and bytes that are finished; fewer than before when what a lost node made is made again. */
  | {
      readonly kind: "progress";
      readonly job: string;
      readonly done: number;
      readonly tasks: number;
      readonly doneBytes: number;
      readonly inputBytes: number;
    }
  /** Console output of the program. `at` is the split, `node` the label of where it ran. */
  | {
      readonly kind: "log";
      readonly job: string;
      readonly at: number;
      readonly node: string;
      readonly text: string;
    }
  /** Something worth knowing that did not end the job: a node was lost, an executor killed, a packet tried again. */
  | { readonly kind: "note"; readonly job: string; readonly text: string };

/**
 * An executor that jobs may run on came or went, or gets no more packets. `node` is its id, `workers` the packets that it
 * works on at once.
 */
export type NodeEvent =
  | { readonly kind: "joined"; readonly node: string; readonly label: string; readonly workers: number }
  | { readonly kind: "left"; readonly node: string; readonly label: string }
  | { readonly kind: "barred"; readonly node: string; readonly label: string; readonly reason: string };

/** Chunks that came from another machine; `bytes` as they crossed the wire. */
export interface TransferEvent {
  readonly kind: "fetched";
  /** The peer's id. */
  readonly from: string;
  readonly chunks: number;
  readonly bytes: number;
}

/** A store found something that was not as it should be, and what it did about it, in a sentence. */
export interface RepairEvent {
  readonly kind: "note";
  readonly text: string;
}

/** A machine lends the executor of this GPU no more, since it runs no calls any more. */
export type WithdrawnEvent = UnusedAccelerator;
