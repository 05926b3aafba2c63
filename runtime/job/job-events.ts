/** What happens to a job's packets, as its record and its failure have it. */
import { JobError, JobErrorCode } from "../errors.ts";
import { FAULT_WAIT_MS } from "../limits.ts";
import type { Executor } from "../contracts/executor.ts";
import type { ChunkSource } from "../contracts/chunks.ts";
import type { SetTimer } from "./time.ts";
import type { Failure } from "./failure.ts";
import type { JobSpec } from "./job.ts";
import type { MergeTree, TaskRef } from "./merge-tree.ts";
import type { JobRecord } from "./record.ts";
import { faultError } from "./result.ts";
import type { Splits } from "./splits.ts";
import type { TreeRunEvents } from "./tree-run.ts";

export interface JobEventsOptions {
  readonly source: ChunkSource;
  readonly setTimer: SetTimer;
  readonly spec: JobSpec;
  readonly record: JobRecord;
  readonly failure: Failure;
  readonly splits: Splits;
  readonly tree: MergeTree;
  /** Whether its maps are the splits that people see. */
  readonly counts: boolean;
  /** Drops all packets in flight. */
  readonly stop: () => void;
}

export class JobEvents implements TreeRunEvents {
  readonly #options: JobEventsOptions;

  constructor(options: JobEventsOptions) {
    this.#options = options;
  }

  settled(level: number, tasks: Uint32Array, executor: Executor): void {
    const { record, splits, counts } = this.#options;
    if (level > 0 || !counts) return;
    let bytes = 0;
    for (const task of tasks) bytes += splits.length[task]!;
    record.settled(tasks.length, bytes, executor.label);
  }

  reopened(level: number, tasks: readonly number[]): void {
    const { record, splits, counts } = this.#options;
    if (level > 0 || !counts) return;
    record.reopened(
      tasks.length,
      tasks.reduce((sum, task) => sum + splits.length[task]!, 0),
    );
  }

  /** The job's other packets are dropped at once; the error follows when its text is read. */
  faulted(place: TaskRef, answer: Uint8Array, executor: Executor): void {
    const { source, setTimer, spec, failure, stop } = this.#options;
    stop();
    const late = new AbortController();
    const cancel = setTimer(() => late.abort(), FAULT_WAIT_MS);
    const where = {
      job: spec.id,
      task: place.task,
      node: executor.label,
      program: spec.name,
      packet: this.#describe(place),
    };
    const signal = AbortSignal.any([late.signal, failure.signal]);
    void faultError(source, answer, where, signal).then((error) => {
      cancel();
      failure.fail(error);
    });
  }

  givenUp(place: TaskRef): void {
    const { spec, failure } = this.#options;
    const packet = this.#describe(place);
    failure.fail(
      new JobError(
        JobErrorCode.nodeLost,
        `program "${spec.name}" lost every node that ran packet ${place.task} (${packet})`,
        { job: spec.id, task: place.task, program: spec.name },
      ),
    );
  }

  failed(error: unknown): void {
    this.#options.failure.fail(error);
  }

  logged(place: TaskRef, executor: Executor, text: string): void {
    this.#options.record.logged(place.task, executor.label, text);
  }

  noted(text: string): void {
    this.#options.record.noted(text);
  }

  #describe({ level, task }: TaskRef): string {
    const { splits, spec, tree } = this.#options;
    if (level === 0) {
      const from = splits.from[task]!;
      return `bytes ${from} to ${from + splits.length[task]!} of "${spec.inputs[splits.input[task]!]!.name}"`;
    }
    const what = level === tree.top ? "finish" : "merge";
    return `${what} of results ${tree.inputsStart(level, task)} to ${tree.inputsEnd(level, task) - 1}`;
  }
}
