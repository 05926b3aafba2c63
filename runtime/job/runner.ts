/** Runs jobs and programs on whatever executors there are, all through one scheduler. */
import { hasCode } from "../../packets/errors.ts";
import { invalidName } from "../../packets/name.ts";
import { JobError, JobErrorCode } from "../errors.ts";
import { JOBS_MAX, JOBS_REMEMBERED, PROGRAMS_OPEN_MAX } from "../limits.ts";
import type { ChunkSource, StoreWriter } from "../contracts/chunks.ts";
import type { Events, JobEvent } from "../contracts/events.ts";
import type { Executor } from "../contracts/executor.ts";
import type { JobInfo, JobOutcome } from "../contracts/jobs.ts";
import type { ExecutorSet } from "./candidates.ts";
import { Dispatcher } from "./dispatcher.ts";
import type { SetTimer } from "./dispatcher.ts";
import type { JobHistory } from "./job-history.ts";
import { Job } from "./job.ts";
import type { JobSpec } from "./job.ts";
import { LoadedProgram, writeManifests } from "./loaded-program.ts";
import type { ProgramSpec } from "./loaded-program.ts";
import { JobRecord } from "./record.ts";

export type { LoadedProgram } from "./loaded-program.ts";

export interface JobRunnerOptions {
  /** Reads whatever executors made, wherever it is. */
  readonly source: ChunkSource;
  /** Opens a writer for what jobs write themselves: manifests, inputs of merges, files. */
  readonly openWriter: () => Promise<StoreWriter>;
  readonly executors: ExecutorSet;
  /** Milliseconds of a monotonic clock; the process's own by default. */
  readonly now?: () => number;
  readonly setTimer?: SetTimer;
  /** Told of all jobs, and of executors that come and go. */
  readonly events?: Events | undefined;
  /** Where ended jobs are remembered beyond this runner's life. */
  readonly history?: JobHistory | undefined;
}

export interface RunJobOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: JobEvent) => void) | undefined;
}

interface RunningJob {
  readonly job: Job;
  readonly record: JobRecord;
  readonly ended: Promise<unknown>;
}

export class JobRunner implements AsyncDisposable {
  readonly #options: JobRunnerOptions;
  readonly #now: () => number;
  readonly #setTimer: SetTimer;
  readonly #dispatcher: Dispatcher;
  readonly #running = new Map<string, RunningJob>();
  /** Oldest first. */
  readonly #finished: JobRecord[] = [];
  readonly #programs = new Set<LoadedProgram>();
  #lastGroup = 0;
  #isClosed = false;

  constructor(options: JobRunnerOptions) {
    this.#options = options;
    this.#now = options.now ?? monotonic;
    this.#setTimer = options.setTimer ?? processTimer;
    const { executors, events } = options;
    this.#dispatcher = new Dispatcher({ executors, events, now: this.#now, setTimer: this.#setTimer });
  }

  /**
   * Runs a job to its end. Rejects with the first fault of the program (its code as in FAULT packets; data: job, task,
   * node, program), PFS_NODE_LOST, PFS_NO_EXECUTOR, PFS_JOB_OVER_LIMIT, PFS_NAME_INVALID, PFS_CANCELLED, or the
   * signal's reason.
   */
  async run(spec: JobSpec, { signal, onEvent = () => {} }: RunJobOptions = {}): Promise<JobOutcome> {
    signal?.throwIfAborted();
    this.#admit(spec);
    const record = new JobRecord({
      job: spec.id,
      program: spec.name,
      now: this.#now,
      startedAt: Date.now(),
      onEvent: (event) => {
        // A listener that throws ends its job, not the others.
        try {
          onEvent(event);
          this.#options.events?.emit("job", event);
        } catch (error) {
          job.fail(error);
        }
      },
    });
    const context = {
      source: this.#options.source,
      openWriter: this.#options.openWriter,
      dispatcher: this.#dispatcher,
      setTimer: this.#setTimer,
    };
    const job: Job = new Job(context, spec, record, ++this.#lastGroup);
    const abort = (): void => job.fail(signal!.reason);
    signal?.addEventListener("abort", abort);
    const ended = this.#follow(job, record);
    this.#running.set(spec.id, { job, record, ended });
    try {
      return await ended;
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#running.delete(spec.id);
      this.#finished.push(record);
      if (this.#finished.length > JOBS_REMEMBERED) this.#finished.shift();
      await this.#options.history?.add(record.info());
    }
  }

  /** Opens a program for callers that make its EXEC packets themselves. */
  async open(spec: ProgramSpec): Promise<LoadedProgram> {
    if (this.#isClosed) throw cancelled("the runner is closed");
    if (this.#programs.size >= PROGRAMS_OPEN_MAX) {
      const max = PROGRAMS_OPEN_MAX;
      throw new JobError(JobErrorCode.overLimit, `${max} programs are open already`, { programs: max, max });
    }
    const writer = await this.#options.openWriter();
    try {
      const [manifest] = await writeManifests(writer, spec, ["map"]);
      if (this.#isClosed) throw cancelled("the runner is closed");
      const program = new LoadedProgram({
        dispatcher: this.#dispatcher,
        setTimer: this.#setTimer,
        program: this.#dispatcher.openProgram(spec.name, manifest!),
        group: () => ++this.#lastGroup,
        writer,
        closed: () => void this.#programs.delete(program),
      });
      this.#programs.add(program);
      return program;
    } catch (error) {
      await writer.close();
      throw error;
    }
  }

  /** Running jobs, and those that ended last, newest first. */
  jobs(): JobInfo[] {
    const running = [...this.#running.values()].map(({ record }) => record);
    return [...running, ...this.#finished.toReversed()].map((record) => record.info());
  }

  /** Packets in flight on the executor, and those that it has finished since it came. */
  loadOf(executor: Executor): { readonly inFlight: number; readonly done: number } {
    return this.#dispatcher.loadOf(executor);
  }

  /** False when no such job is running. */
  cancel(id: string): boolean {
    const running = this.#running.get(id);
    running?.job.fail(cancelled("the job was cancelled", id));
    return running !== undefined;
  }

  /** Cancels everything and resolves when it has ended and every lane is closed. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const running = [...this.#running.keys()].map((id) => {
      const { job, ended } = this.#running.get(id)!;
      job.fail(cancelled("the runner was closed", id));
      return ended;
    });
    await Promise.allSettled(running);
    for (const program of this.#programs) await program.close();
    await this.#dispatcher.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Throws when the job cannot be taken on. */
  #admit({ id, out }: JobSpec): void {
    if (this.#isClosed) throw cancelled("the runner is closed", id);
    if (this.#running.has(id)) throw new Error(`a job ${id} is running already`);
    if (this.#running.size >= JOBS_MAX) {
      const max = JOBS_MAX;
      throw new JobError(JobErrorCode.overLimit, `${max} jobs are running already`, { jobs: max, max });
    }
    const reason = out === undefined ? null : invalidName(out);
    if (reason === null) return;
    throw new JobError(JobErrorCode.invalidName, `the result cannot have this name: ${reason}`, { reason });
  }

  async #follow(job: Job, record: JobRecord): Promise<JobOutcome> {
    try {
      const outcome = await job.run();
      record.ended("done");
      return outcome;
    } catch (error) {
      record.ended(isCancellation(error) ? "cancelled" : "failed", error);
      throw error;
    }
  }
}

function cancelled(message: string, job?: string): JobError {
  return new JobError(JobErrorCode.cancelled, message, job === undefined ? {} : { job });
}

/** Ours, or what an AbortController says by default. */
function isCancellation(error: unknown): boolean {
  if (hasCode(error, JobErrorCode.cancelled)) return true;
  return error instanceof Error && error.name === "AbortError";
}

/** Milliseconds of the process's monotonic clock. */
function monotonic(): number {
  return performance.now();
}

function processTimer(run: () => void, milliseconds: number): () => void {
  const timer = setTimeout(run, milliseconds);
  return () => clearTimeout(timer);
}
