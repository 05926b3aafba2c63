/**
 * Jobs and loaded programs on whatever executors there are, all through one scheduler: what the embedded SDK has for
 * itself, and a hub for its clients.
 */
import { randomBytes } from "node:crypto";
import type { Ref } from "../../packets/digest.ts";
import { hasCode } from "../../packets/errors.ts";
import { invalidName } from "../../packets/name.ts";
import { JobError, JobErrorCode } from "../errors.ts";
import {
  JOBS_MAX,
  JOBS_REMEMBERED,
  KERNEL_PROBES_MAX,
  KERNEL_PROBE_JOBS,
  PROGRAMS_OPEN_MAX,
  WALL_CEILING_MS_MIN,
  WALL_CEILING_TIMES,
} from "../limits.ts";
import type { ChunkSource, StoreWriter } from "../contracts/chunks.ts";
import type { Events, JobEvent } from "../contracts/events.ts";
import type { BarInfo, Executor } from "../contracts/executor.ts";
import type { JobInfo, JobOutcome, JobRequest, StoredProgram } from "../contracts/jobs.ts";
import type { KernelHistory } from "../kernel-history.ts";
import { describeCode } from "../program/code.ts";
import { programKind } from "../program/program.ts";
import { KernelAverages } from "../program/kernel/averages.ts";
import type { ProgramDescription } from "../program/program.ts";
import { reachable } from "../stream/walk.ts";
import { unlessAborted } from "../unless-aborted.ts";
import type { ProgramToLoad } from "./batch.ts";
import type { ExecutorSet } from "./candidates.ts";
import { Dispatcher } from "./dispatcher.ts";
import type { SetTimer } from "./dispatcher.ts";
import type { JobHistory } from "./job-history.ts";
import { Job } from "./job.ts";
import type { Probe } from "./job.ts";
import { LoadedEngine } from "./loaded-engine.ts";
import { ProgramLanes } from "./loaded-program.ts";
import { programSources } from "./program-sources.ts";
import type { ProgramSpec } from "./program-sources.ts";
import { JobRecord } from "./record.ts";
import { Residency } from "./residency.ts";
import { unnamedOut } from "./results.ts";

export type { SetTimer } from "./dispatcher.ts";
export type { LoadableProgram, ProgramLanes } from "./loaded-program.ts";

export interface JobsOptions {
  /** Reads whatever executors made, wherever it is. */
  readonly source: ChunkSource;
  /** Opens a writer for what jobs write themselves: manifests, inputs of merges, files. */
  readonly openWriter: () => Promise<StoreWriter>;
  readonly executors: ExecutorSet;
  /** What the program whose bundle's stream is `code` says of itself. Rejects with PFS_PROGRAM_INVALID. */
  readonly inspect: (code: Ref) => Promise<ProgramDescription>;
  /** Resolves when GPUs of this machine that kernels may run on are among the executors. Never rejects. */
  readonly findGpus?: (() => Promise<void>) | undefined;
  /** Frees what executors keep for the output file `out`. */
  readonly removeParts: (out: string) => Promise<void>;
  /** Milliseconds of a monotonic clock; the process's own by default. */
  readonly now?: () => number;
  readonly setTimer?: SetTimer;
  /** From 0 on to 1, of which each is as likely; the process's own by default. */
  readonly chance?: () => number;
  /** Told of all jobs, and of executors that come and go. */
  readonly events?: Events | undefined;
  /** Where ended jobs are remembered beyond the life of this. */
  readonly history?: JobHistory | undefined;
  /** What calls of kernels took, beyond the life of this. */
  readonly kernels?: KernelHistory | undefined;
}

export interface RunJobOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: JobEvent) => void) | undefined;
  /** What is remembered of an error that the job ends with, for whoever knows more of the program than its bundle. */
  readonly explain?: ((error: unknown) => unknown) | undefined;
}

interface RunningJob {
  readonly job: Job;
  readonly record: JobRecord;
  readonly ended: Promise<unknown>;
}

export class Jobs implements AsyncDisposable {
  readonly #options: JobsOptions;
  readonly #now: () => number;
  readonly #setTimer: SetTimer;
  readonly #dispatcher: Dispatcher;
  readonly #averages: KernelAverages;
  readonly #residency = new Residency();
  readonly #running = new Map<string, RunningJob>();
  /** Jobs that are taken on: those that run, and those whose programs are being looked into. */
  readonly #admitted = new Set<string>();
  /** Oldest first. Plain data: nothing that a job worked with is kept when it has ended. */
  readonly #finished: JobInfo[] = [];
  readonly #programs = new Set<ProgramLanes>();
  /** Those that are not over, of jobs that run or have ended. */
  readonly #probes = new Set<Probe>();
  readonly #chance: () => number;
  /** Programs that will be among them when they are loaded. */
  #loading = 0;
  /** Ended jobs whose results have no name and stay until they are released. */
  readonly #leases = new Set<string>();
  #lastGroup = 0;
  #isClosed = false;

  constructor(options: JobsOptions) {
    this.#options = options;
    this.#now = options.now ?? monotonic;
    this.#setTimer = options.setTimer ?? processTimer;
    this.#chance = options.chance ?? Math.random;
    this.#averages = options.kernels?.averages ?? new KernelAverages();
    const { executors, events } = options;
    this.#dispatcher = new Dispatcher({ executors, events, now: this.#now, setTimer: this.#setTimer });
  }

  /** An id that no job has which runs, or whose result is kept until it is released. */
  newId(): string {
    for (;;) {
      const id = randomBytes(4).toString("hex");
      if (!this.#admitted.has(id) && !this.#leases.has(id)) return id;
    }
  }

  /**
   * Runs a job to its end. A result that is a file without a name stays until the job is released. Rejects with
   * PFS_PROGRAM_INVALID, the first fault of the program (its code as in FAULT packets; data: job, task, node, program),
   * PFS_NODE_LOST, PFS_NO_EXECUTOR, PFS_JOB_OVER_LIMIT, PFS_NAME_INVALID, PFS_CANCELLED, or the signal's reason.
   */
  async run(request: JobRequest, options: RunJobOptions = {}): Promise<JobOutcome<Uint8Array>> {
    options.signal?.throwIfAborted();
    const { id = this.newId() } = request;
    this.#admit(id, request.out);
    this.#admitted.add(id);
    try {
      return await this.#run(id, request, options);
    } finally {
      this.#admitted.delete(id);
    }
  }

  async #run(id: string, request: JobRequest, options: RunJobOptions): Promise<JobOutcome<Uint8Array>> {
    const { signal, onEvent = () => {} } = options;
    const { description, writer } = await this.#prepare(request, signal);
    const kind = request.kind ?? programKind(description, request.engine);
    try {
      signal?.throwIfAborted();
      if (this.#isClosed) throw closedUnder(id);
    } catch (error) {
      await writer.close();
      throw error;
    }
    const record = new JobRecord({
      job: id,
      program: request.name,
      // Of packet code, what maps is the only one.
      kernels: kind === "code" ? [request] : description.kernels,
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
    const { source } = this.#options;
    const context = {
      source,
      writer,
      dispatcher: this.#dispatcher,
      setTimer: this.#setTimer,
      averages: this.#averages,
      residency: this.#residency,
      now: this.#now,
      mayProbe: () => this.#probes.size < KERNEL_PROBES_MAX && this.#chance() < KERNEL_PROBE_JOBS,
      probing: (probe: Probe) => this.#probing(probe),
    };
    const job: Job = new Job(context, { ...request, id, kind, description }, record, ++this.#lastGroup);
    const abort = (): void => job.fail(signal!.reason);
    signal?.addEventListener("abort", abort);
    const ended = this.#follow(job, record, options);
    this.#running.set(id, { job, record, ended });
    try {
      const outcome = await ended;
      if (outcome.file !== undefined && request.out === undefined) this.#leases.add(id);
      return outcome;
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#running.delete(id);
      const info = record.info();
      this.#finished.push(info);
      if (this.#finished.length > JOBS_REMEMBERED) this.#finished.shift();
      await this.#options.history?.add(info);
      if (info.kernels !== undefined) void this.#options.kernels?.keep();
    }
  }

  /**
   * Loads a program for callers that make its EXEC packets themselves. Rejects with PFS_PROGRAM_INVALID,
   * PFS_JOB_OVER_LIMIT or PFS_CANCELLED.
   */
  async load(stored: StoredProgram): Promise<ProgramLanes> {
    if (this.#isClosed) throw cancelled("no program is loaded any more");
    if (this.#programs.size + this.#loading >= PROGRAMS_OPEN_MAX) {
      const max = PROGRAMS_OPEN_MAX;
      throw new JobError(JobErrorCode.overLimit, `${max} programs are open already`, { programs: max, max });
    }
    this.#loading++;
    try {
      return await this.#load(stored);
    } finally {
      this.#loading--;
    }
  }

  async #load(stored: StoredProgram): Promise<ProgramLanes> {
    const { description, writer } = await this.#prepare(stored);
    try {
      const kind = stored.kind ?? programKind(description, stored.engine);
      const spec: ProgramSpec = { ...stored, kind, description };
      const { name, tenant } = spec;
      const [source, estimate] = await programSources(
        writer,
        spec,
        kind === "kernel" ? ["map", "estimate"] : ["map"],
      );
      if (this.#isClosed) throw cancelled("no program is loaded any more");
      const hasKernels = description.kernels !== undefined;
      const toLoad = { name, kind, source: source!, tenant, hasKernels };
      const engine = estimate === undefined ? undefined : this.#loadedEngine(spec, toLoad, estimate);
      const choice = engine?.choice ?? this.#dispatcher.chooseEdition(kind);
      const program = new ProgramLanes({
        dispatcher: this.#dispatcher,
        setTimer: this.#setTimer,
        program: this.#dispatcher.openProgram(toLoad, choice),
        group: () => ++this.#lastGroup,
        packetMs: packetMsOf(description),
        writer,
        closed: () => {
          this.#programs.delete(program);
          if (engine !== undefined) void this.#options.kernels?.keep();
        },
        engine,
      });
      this.#programs.add(program);
      return program;
    } catch (error) {
      await writer.close();
      throw error;
    }
  }

  /** What chooses where a program runs whose results depend on the engine. Throws PFS_NO_EXECUTOR. */
  #loadedEngine(spec: ProgramSpec, toLoad: ProgramToLoad, estimate: ProgramToLoad["source"]): LoadedEngine {
    return new LoadedEngine({
      dispatcher: this.#dispatcher,
      source: this.#options.source,
      averages: this.#averages,
      kernels: spec.description.kernels ?? [],
      wanted: spec.engine,
      estimate: { ...toLoad, source: estimate },
      group: () => ++this.#lastGroup,
    });
  }

  /** Nobody reads the job's unnamed result any more: what executors keep for it is freed. What fails may be tried again. */
  async release(job: string): Promise<void> {
    if (!this.#leases.has(job)) return;
    await this.#options.removeParts(unnamedOut(job));
    this.#leases.delete(job);
  }

  /** Jobs that are running, then those that ended, the newest first; beyond the life of this where there is a history. */
  async list(): Promise<JobInfo[]> {
    return (await this.#options.history?.list(this)) ?? this.jobs();
  }

  /** Running jobs, and those that ended here last, newest first. */
  jobs(): JobInfo[] {
    const running = [...this.#running.values()].map(({ record }) => record.info());
    return [...running, ...this.#finished.toReversed()];
  }

  /** Packets in flight on the executor, those that it has finished since it came, and the kinds that it is barred from. */
  loadOf(executor: Executor): {
    readonly inFlight: number;
    readonly done: number;
    readonly barred: readonly BarInfo[];
  } {
    return { ...this.#dispatcher.loadOf(executor), barred: this.barsOf(executor.id) };
  }

  /** The kinds of program of which the executor with this id gets no packets because of what it did, and why. */
  barsOf(executor: string): BarInfo[] {
    return this.#dispatcher.barsOf(executor);
  }

  /** The executor with this id gets packets again, and what it did is forgotten. */
  allow(executor: string): void {
    this.#dispatcher.allow(executor);
  }

  /** False when no such job is running. */
  cancel(id: string): boolean {
    const running = this.#running.get(id);
    running?.job.fail(cancelled("the job was cancelled", id));
    return running !== undefined;
  }

  /** Cancels everything and resolves when it has ended, every lane is closed and every unnamed result freed. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const running = [...this.#running.keys()].map((id) => {
      const { job, ended } = this.#running.get(id)!;
      job.fail(cancelled("the store that it ran on was closed", id));
      return ended;
    });
    await Promise.allSettled(running);
    for (const probe of this.#probes) probe.drop();
    await Promise.all([...this.#probes].map(({ over }) => over));
    for (const program of this.#programs) await program.close();
    await this.#dispatcher.close();
    for (const job of this.#leases) await this.release(job);
    await this.#options.kernels?.keep();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** What the program says of itself, and the writer that keeps its code safe from gc until it is closed. */
  async #prepare(
    { kind, code, engine }: StoredProgram,
    signal?: AbortSignal,
  ): Promise<{ readonly description: ProgramDescription; readonly writer: StoreWriter }> {
    const described = kind === "code" ? describeCode(code) : undefined;
    const writer = await this.#options.openWriter();
    if (described !== undefined) return { description: described, writer };
    try {
      for await (const refs of reachable(this.#options.source, code)) await writer.claim(refs);
      const description = await this.#options.inspect(code);
      // Where its kernels are computed is decided when it is planned.
      const { findGpus } = this.#options;
      if (description.kernels !== undefined && engine !== "cpu" && findGpus !== undefined)
        await unlessAborted(findGpus(), signal);
      return { description, writer };
    } catch (error) {
      await writer.close();
      throw error;
    }
  }

  /** Throws when the job cannot be taken on. */
  #admit(id: string, out: string | undefined): void {
    if (this.#isClosed) throw closedUnder(id);
    if (this.#admitted.has(id))
      throw new JobError(JobErrorCode.overLimit, `a job ${id} is running already`, { jobs: 1, max: 1 });
    if (this.#admitted.size >= JOBS_MAX) {
      const max = JOBS_MAX;
      throw new JobError(JobErrorCode.overLimit, `${max} jobs are running already`, { jobs: max, max });
    }
    const reason = out === undefined ? null : invalidName(out);
    if (reason === null) return;
    throw new JobError(JobErrorCode.invalidName, `the result cannot have this name: ${reason}`, { reason });
  }

  /** It goes on when its job has ended, until there are no more jobs at all. */
  #probing(probe: Probe): void {
    this.#probes.add(probe);
    void probe.over.then(() => {
      this.#probes.delete(probe);
      void this.#options.kernels?.keep();
    });
  }

  async #follow(
    job: Job,
    record: JobRecord,
    { signal, explain = (error) => error }: RunJobOptions,
  ): Promise<JobOutcome<Uint8Array>> {
    try {
      const outcome = await job.run();
      record.ended("done");
      return outcome;
    } catch (error) {
      const isCancelled =
        hasCode(error, JobErrorCode.cancelled) || (signal?.aborted === true && error === signal.reason);
      record.ended(isCancelled ? "cancelled" : "failed", explain(error));
      throw error;
    }
  }
}

function closedUnder(job: string): JobError {
  return cancelled("the store that it would run on is closed", job);
}

function cancelled(message: string, job?: string): JobError {
  return new JobError(JobErrorCode.cancelled, message, job === undefined ? {} : { job });
}

/** A packet that is ended for taking too long by the clock runs once more, alone, and then no more. */
function packetMsOf({ limits }: ProgramDescription): number {
  return 2 * Math.max(WALL_CEILING_MS_MIN, limits.timeMs * WALL_CEILING_TIMES);
}

/** Milliseconds of the process's monotonic clock. */
function monotonic(): number {
  return performance.now();
}

function processTimer(run: () => void, milliseconds: number): () => void {
  const timer = setTimeout(run, milliseconds);
  return () => clearTimeout(timer);
}
