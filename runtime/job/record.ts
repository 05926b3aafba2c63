/** What is known of a job while it runs and after: its numbers, its notes, what went wrong, and what people are told. */
import { errorToJson } from "../../packets/errors.ts";
import type { ErrorJson } from "../../packets/errors.ts";
import { JobError, JobErrorCode } from "../errors.ts";
import { FAULT_WAIT_MS, JOB_NOTES_MAX, JOB_NOTE_CHARS_MAX, PROGRESS_MS } from "../limits.ts";
import type { JobEvent } from "../contracts/events.ts";
import type { Executor } from "../contracts/executor.ts";
import type { JobInfo, JobStatistics } from "../contracts/jobs.ts";
import type { KernelUse } from "../contracts/kernels.ts";
import { measuredOf } from "../program/kernel/cost.ts";
import type { KernelSpec } from "../program/kernel/kernel.ts";
import type { EnginePlan } from "./engine-choice.ts";
import type { JobContext, JobSpec } from "./job.ts";
import { KernelReports } from "./kernel-reports.ts";
import type { LabelOf } from "./kernel-reports.ts";
import type { MergeTree, TaskRef } from "./merge-tree.ts";
import { faultError } from "./results.ts";
import type { FaultPlace } from "./results.ts";
import type { Splits } from "./splits.ts";
import type { TreeRunEvents } from "./tree-run.ts";

export interface RecordOptions {
  readonly job: string;
  readonly program: string;
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  readonly onEvent: (event: JobEvent) => void;
  /** The program's. */
  readonly kernels?: readonly Pick<KernelSpec, "name">[] | undefined;
}

export class JobRecord {
  readonly #options: RecordOptions;
  readonly #began: number;
  /** Finished splits by the label of the node; the labels, and by split the place of the one that made it. */
  readonly #byNode = new Map<string, number>();
  readonly #nodes: string[] = [];
  #nodeOf: Uint16Array = new Uint16Array(0);
  readonly #notes: string[] = [];
  #plan: EnginePlan | undefined;
  readonly #kernels: KernelReports;
  #state: JobInfo["state"] = "running";
  #error: ErrorJson | undefined;
  #ended: number | undefined;
  #tasks = 0;
  #done = 0;
  #inputBytes = 0;
  #doneBytes = 0;
  #toldAt = -Infinity;

  constructor(options: RecordOptions) {
    this.#options = options;
    this.#kernels = new KernelReports(options.kernels ?? []);
    this.#began = options.now();
  }

  get isRunning(): boolean {
    return this.#state === "running";
  }

  /** Told once, however often it begins again. */
  started(tasks: number, inputBytes: number): void {
    const isAgain = this.#nodeOf.length > 0;
    this.#tasks = tasks;
    this.#inputBytes = inputBytes;
    this.#nodeOf = new Uint16Array(tasks);
    if (!isAgain) this.#options.onEvent({ kind: "started", job: this.#options.job, tasks, inputBytes });
  }

  /** These splits with so many bytes are finished. */
  settled(tasks: Uint32Array, bytes: number, node: string): void {
    this.#done += tasks.length;
    this.#doneBytes += bytes;
    const place = this.#placeOf(node);
    for (const task of tasks) this.#nodeOf[task] = place;
    this.#byNode.set(node, (this.#byNode.get(node) ?? 0) + tasks.length);
    const now = this.#options.now();
    if (now - this.#toldAt < PROGRESS_MS && this.#done < this.#tasks) return;
    this.#toldAt = now;
    this.#options.onEvent({
      kind: "progress",
      job: this.#options.job,
      done: this.#done,
      tasks: this.#tasks,
      doneBytes: this.#doneBytes,
      inputBytes: this.#inputBytes,
    });
  }

  /** Their results were lost: they run again, and count for the node that finishes them then. */
  reopened(tasks: readonly number[], bytes: number): void {
    this.#done -= tasks.length;
    this.#doneBytes -= bytes;
    for (const task of tasks) {
      const node = this.#nodes[this.#nodeOf[task]!]!;
      const left = this.#byNode.get(node)! - 1;
      if (left > 0) this.#byNode.set(node, left);
      else this.#byNode.delete(node);
    }
  }

  /** Calls of kernels took so long. */
  measured(uses: readonly KernelUse[], labelOf: LabelOf): void {
    for (const use of uses) this.#kernels.add(use, this.#plan, labelOf);
  }

  /** What runs it from now on, and why; undefined where that is still to come. */
  planned(plan: EnginePlan | undefined): void {
    this.#plan = plan;
  }

  /** All of it runs again, on something else. Returns how many splits were finished. */
  restarted(why: string): number {
    const label = this.#plan?.option.label ?? "what ran it";
    this.noted(`${label} is given up, and all packets run again: ${why}`);
    const done = this.#done;
    this.#done = 0;
    this.#doneBytes = 0;
    this.#byNode.clear();
    return done;
  }

  #placeOf(node: string): number {
    const place = this.#nodes.indexOf(node);
    return place < 0 ? this.#nodes.push(node) - 1 : place;
  }

  logged(at: number, node: string, text: string): void {
    this.#options.onEvent({ kind: "log", job: this.#options.job, at, node, text });
  }

  /** What was said before is not said again. Notes beyond the limit are dropped. */
  noted(text: string): void {
    const note = text.length > JOB_NOTE_CHARS_MAX ? `${text.slice(0, JOB_NOTE_CHARS_MAX)}…` : text;
    if (this.#notes.length >= JOB_NOTES_MAX || this.#notes.includes(note)) return;
    this.#notes.push(this.#notes.length + 1 < JOB_NOTES_MAX ? note : "more notes followed");
    this.#options.onEvent({ kind: "note", job: this.#options.job, text: this.#notes.at(-1)! });
  }

  ended(state: Exclude<JobInfo["state"], "running">, error?: unknown): void {
    this.#state = state;
    this.#ended = this.#options.now();
    if (error !== undefined) this.#error = errorToJson(error);
  }

  info(): JobInfo {
    const { job, program, startedAt } = this.#options;
    const info = {
      job,
      program,
      state: this.#state,
      startedAt,
      milliseconds: this.#milliseconds(),
      done: this.#done,
      tasks: this.#tasks,
    };
    return { ...info, ...(this.#error === undefined ? {} : { error: this.#error }), ...this.#kernels.all() };
  }

  /** `edition`: what its packets ran on. */
  statistics(retries: number, edition: string | undefined): JobStatistics {
    return {
      tasks: this.#tasks,
      inputBytes: this.#inputBytes,
      milliseconds: this.#milliseconds(),
      retries,
      byNode: Object.fromEntries(this.#byNode),
      notes: [...this.#notes],
      ...(edition === undefined ? {} : { edition }),
      ...this.#kernels.all(),
    };
  }

  #milliseconds(): number {
    return Math.round((this.#ended ?? this.#options.now()) - this.#began);
  }
}

export class Failure {
  readonly #abort = new AbortController();
  readonly #failed: Promise<never>;
  #reject!: (error: unknown) => void;

  constructor() {
    this.#failed = new Promise<never>((_, reject) => {
      this.#reject = reject;
    });
    // Whoever does not race with it hears of it through the signal.
    this.#failed.catch(() => {});
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Only the first one counts. */
  fail(error: unknown): void {
    this.#reject(error);
    this.#abort.abort(error);
  }

  throwIfFailed(): void {
    this.#abort.signal.throwIfAborted();
  }

  /** What the promise resolves with, unless something fails before. */
  race<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([promise, this.#failed]);
  }

  lostOutputs({ id, name }: JobSpec): JobError {
    return new JobError(
      JobErrorCode.nodeLost,
      `what "${name}" made was lost again and again before it was kept`,
      { job: id, program: name },
    );
  }
}

export interface JobReporterOptions {
  readonly context: JobContext;
  readonly spec: JobSpec;
  readonly record: JobRecord;
  readonly failure: Failure;
  readonly splits: Splits;
  readonly tree: MergeTree;
  /** Whether its maps are the splits that people see. */
  readonly counts: boolean;
  /** Whether its packets are none that people are told of: they run again, or did already. */
  readonly isApart: boolean;
  /** The class of engine that computes its kernels, where that is chosen. */
  readonly engineClass: string | undefined;
  /** Drops all packets in flight. */
  readonly stop: () => void;
}

export class JobReporter implements TreeRunEvents {
  readonly #options: JobReporterOptions;
  /** What the job ends with, unless a task before it fails too. */
  #fault: { readonly error: Promise<JobError>; readonly reading: AbortController } | undefined;

  constructor(options: JobReporterOptions) {
    this.#options = options;
  }

  settled(level: number, tasks: Uint32Array, executor: Executor): void {
    const { record, splits, counts } = this.#options;
    if (level > 0 || !counts) return;
    let bytes = 0;
    for (const task of tasks) bytes += splits.length[task]!;
    record.settled(tasks, bytes, executor.label);
  }

  reopened(level: number, tasks: readonly number[]): void {
    const { record, splits, counts } = this.#options;
    if (level > 0 || !counts) return;
    record.reopened(
      tasks,
      tasks.reduce((sum, task) => sum + splits.length[task]!, 0),
    );
  }

  /** Its text is read at once: who has it may be gone when the fault turns out to be the first. */
  faulted(place: TaskRef, answer: Uint8Array, executor: Executor): void {
    const { context, spec, failure } = this.#options;
    const { source, setTimer } = context;
    this.#fault?.reading.abort();
    const reading = new AbortController();
    const cancel = setTimer(() => reading.abort(), FAULT_WAIT_MS);
    const where = {
      job: spec.id,
      task: place.task,
      node: executor.label,
      program: spec.name,
      packet: this.#describe(place),
      ...this.#input(place),
    };
    const signal = AbortSignal.any([reading.signal, failure.signal]);
    const error = faultError(source, answer, where, signal).finally(cancel);
    this.#fault = { error, reading };
  }

  /** The job's other packets are dropped at once; the error follows when its text is read. */
  faultFinal(): void {
    const { failure, stop } = this.#options;
    stop();
    void this.#fault?.error.then((error) => failure.fail(error));
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
    if (!this.#options.isApart) this.#options.record.logged(place.task, executor.label, text);
  }

  noted(text: string): void {
    if (!this.#options.isApart) this.#options.record.noted(text);
  }

  measured(uses: readonly KernelUse[]): void {
    const { record, context, spec, engineClass } = this.#options;
    const { kernels = [] } = spec.description;
    if (!this.#options.isApart) record.measured(uses, (name) => context.dispatcher.labelOf(name));
    for (const { kernel: index, ...use } of uses) {
      const kernel = kernels[index];
      // Of what it is not to run on, an executor has nothing to say.
      if (kernel === undefined || use.engineClass !== engineClass) continue;
      context.averages.add({ ...measuredOf(kernel), ...use });
    }
  }

  #input({ level, task }: TaskRef): Pick<FaultPlace, "input"> {
    const { splits, spec } = this.#options;
    if (level > 0) return {};
    return { input: { file: spec.inputs[splits.input[task]!]!, reader: spec.description.reader } };
  }

  #describe({ level, task }: TaskRef): string {
    const { splits, spec, tree } = this.#options;
    if (level === 0) {
      const from = splits.from[task]!;
      return `bytes ${from} to ${from + splits.length[task]!} of "${spec.inputs[splits.input[task]!]!.name}"`;
    }
    const { groupsStart, groupsEnd, partition, partitions } = tree.inputsOf(level, task);
    const part = partitions === 1 ? "" : `, part ${partition + 1} of ${partitions}`;
    const entry = tree.entryOf(level);
    if (entry === "order") return `order of the results${part}`;
    return `${entry} of results ${groupsStart} to ${groupsEnd - 1}${part}`;
  }
}
