/** What the dispatcher runs: batches of EXEC packets, and the programs that they are for. */
import type { EditionChoice } from "../schedule/state.ts";
import type { Ref } from "../../packets/digest.ts";
import type { PacketfsError } from "../../packets/errors.ts";
import { PACKET_BYTES } from "../../packets/layout.ts";
import { fromAt, lengthsOf, packetCount } from "../../packets/packet.ts";
import type { Executor, InlineCode, ProgramKind, Tenant } from "../contracts/executor.ts";
import type { KernelUse } from "../contracts/kernels.ts";
import { Decision } from "../schedule/actions.ts";
import { Answers } from "./answers.ts";

/** Answers of one frame that belong to one batch. */
export interface AnswerRun {
  frame: Uint8Array;
  count: number;
  /** Places in the frame, tasks in the batch, and an Outcome each, which the scheduler turns into a Decision. */
  readonly indexes: Uint32Array;
  readonly tasks: Uint32Array;
  readonly outcomes: Uint8Array;
}

/** Told at once, in the middle of other things: it must not wait for anything. */
export interface BatchListener {
  /** These tasks were answered, for good unless they are redone. The array is the caller's again afterwards. */
  settled(tasks: Uint32Array, executor: Executor): void;
  /** No executor survives the task. */
  givenUp(task: number): void;
  /** Every task is settled or given up. Again after a redo. */
  finished(): void;
  /** A lane that this batch was placed on is gone: results made there may be, too. */
  laneLost(): void;
  /** The batch cannot run at all. */
  failed(error: PacketfsError): void;
  logged(task: number, executor: Executor, text: string): void;
  noted(text: string): void;
  /** What calls of kernels took that packets of its program made. */
  measured?(uses: readonly KernelUse[]): void;
}

/** EXEC packets that are made when they are sent. */
export interface PacketSource {
  readonly count: number;
  /** Input bytes of each. */
  readonly bytes: Float64Array;
  /** Writes the packets of these tasks, in their order; `at` of each is its task. */
  write(tasks: Uint32Array, frame: Uint8Array): void;
}

export interface BatchPlan {
  readonly program: number;
  /** Batches of one job have one group, which no other job has. */
  readonly group: number;
  readonly rank?: number;
  /** EXEC packets, n × 64 bytes, or what makes them. Packets of tasks that wait may still be changed, */
  readonly packets: Uint8Array | PacketSource;
  /** unless none ever is: then they need not be copied on their way. */
  readonly isFixed?: boolean;
  /**
   * The `at` of the first packet; the i-th has base + i, and its answer i. Batches that share a program at the same time,
   * or one after the other with packets still in flight, have ranges of their own.
   */
  readonly base?: number;
  readonly listener: BatchListener;
  /** Where answers are put; somewhere of its own by default. */
  readonly answers?: Answers;
}

export class Batch {
  readonly id: number;
  readonly program: number;
  readonly count: number;
  readonly base: number;
  /** The packets, where they are there from the beginning; otherwise empty. */
  readonly frame: Uint8Array;
  /** Input bytes of each task. Those of a task that waits may still be changed. */
  readonly bytes: Float64Array;
  /** Those to tasks that are not settled are of no use. */
  readonly answers: Answers;
  readonly listener: BatchListener;
  readonly #isFixed: boolean;
  readonly #source: PacketSource | undefined;

  constructor(id: number, plan: BatchPlan, bytes: Float64Array) {
    this.id = id;
    this.program = plan.program;
    const { packets } = plan;
    const isFrame = packets instanceof Uint8Array;
    this.count = isFrame ? packetCount(packets) : packets.count;
    this.base = plan.base ?? 0;
    this.frame = isFrame ? packets : new Uint8Array(0);
    this.#source = isFrame ? undefined : packets;
    this.bytes = bytes;
    this.answers = plan.answers ?? new Answers(this.count);
    this.listener = plan.listener;
    this.#isFixed = plan.isFixed ?? false;
  }

  /** The packets of these tasks, which do not change any more. */
  packetsOf(tasks: Uint32Array): Uint8Array {
    if (this.#isFixed && areNeighbours(tasks)) {
      if (tasks.length === this.count) return this.frame;
      const start = tasks[0]! * PACKET_BYTES;
      return this.frame.subarray(start, start + tasks.length * PACKET_BYTES);
    }
    const packets = new Uint8Array(tasks.length * PACKET_BYTES);
    if (this.#source === undefined) gatherPackets(this.frame, tasks, packets);
    else this.#source.write(tasks, packets);
    return packets;
  }

  /**
   * Takes over the answers that the scheduler accepted, whose tasks stand first in `run` then. Returns how many those are,
   * how many tasks run again, and the number of the first fault that one of those does for.
   */
  accept(
    run: AnswerRun,
    maker: number,
  ): { readonly accepted: number; readonly again: number; readonly fault: number | undefined } {
    const { frame, indexes, tasks, outcomes } = run;
    let accepted = 0;
    let again = 0;
    let fault: number | undefined;
    for (let index = 0; index < run.count; index++) {
      if (outcomes[index] === Decision.again) {
        fault ??= fromAt(frame, indexes[index]!);
        again++;
      }
      if (outcomes[index] !== Decision.accepted) continue;
      indexes[accepted] = indexes[index]!;
      tasks[accepted++] = tasks[index]!;
    }
    this.answers.take({ frame, indexes, tasks, count: accepted }, maker, this.base !== 0);
    return { accepted, again, fault };
  }
}

function areNeighbours(tasks: Uint32Array): boolean {
  for (let index = 1; index < tasks.length; index++) if (tasks[index] !== tasks[0]! + index) return false;
  return true;
}

/** Input bytes of each packet. */
export function inputBytes(frame: Uint8Array | PacketSource): Float64Array {
  return frame instanceof Uint8Array ? lengthsOf(frame) : frame.bytes;
}

/** Copies the packets of these tasks, one behind the other, neighbours together. */
function gatherPackets(source: Uint8Array, tasks: Uint32Array, target: Uint8Array): void {
  for (let first = 0; first < tasks.length;) {
    const start = tasks[first]!;
    let run = 1;
    while (first + run < tasks.length && tasks[first + run] === start + run) run++;
    const bytes = source.subarray(start * PACKET_BYTES, (start + run) * PACKET_BYTES);
    target.set(bytes, first * PACKET_BYTES);
    first += run;
  }
}

export interface ProgramToLoad {
  /** For people. */
  readonly name: string;
  readonly kind: ProgramKind;
  /** What lanes load it by: its manifest, or packet code itself. */
  readonly source: Ref | InlineCode;
  /** Whose it is; this machine's owner's unless it says otherwise. */
  readonly tenant?: Tenant | undefined;
  /** Whether it calls kernels, which there may be no engine for. */
  readonly hasKernels: boolean;
}

/** A program that batches run. */
export class DispatchedProgram {
  readonly number: number;
  readonly name: string;
  readonly kind: ProgramKind;
  readonly source: Ref | InlineCode;
  readonly tenant: Tenant | undefined;
  readonly hasKernels: boolean;
  readonly choice: EditionChoice;
  readonly batches: Set<Batch> = new Set();
  /** Why it could not be loaded the last time. */
  loadError: unknown;

  constructor(
    number: number,
    { name, kind, source, tenant, hasKernels }: ProgramToLoad,
    choice: EditionChoice,
  ) {
    this.number = number;
    this.name = name;
    this.kind = kind;
    this.source = source;
    this.tenant = tenant;
    this.hasKernels = hasKernels;
    this.choice = choice;
  }

  add(batch: Batch): void {
    for (const { base, count } of this.batches) {
      if (batch.base < base + count && base < batch.base + batch.count)
        throw new Error("two batches share packets");
    }
    this.batches.add(batch);
  }

  /** The batch that a packet with this `at` belongs to. */
  batchAt(at: number): Batch | undefined {
    for (const batch of this.batches) if (at >= batch.base && at < batch.base + batch.count) return batch;
    return undefined;
  }
}
