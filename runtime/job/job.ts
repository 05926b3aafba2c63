/**
 * One job from its inputs to its result.
 *
 *   plan splits ─▶ (CSV: scan) ─▶ maps ─▶ merges ─▶ finish ─▶ value or file
 *                                   │                 ╰─ groups ─▶ (order) ─▶ value, or file left where it was made
 *                                   ╰───── bytes ──────────────────────────▶ file, left where it was made
 *
 * All of it runs on one edition (attempt.ts). Which one is asked where results depend on the engine that computes them; when
 * that is lost, all of it runs again on another.
 */
import { refToHex } from "../../packets/digest.ts";
import { PacketfsError, hasCode, messageOf } from "../../packets/errors.ts";
import { faultErrorCode } from "../../packets/faults.ts";
import { JobError, JobErrorCode } from "../errors.ts";
import { ENGINE_WAIT_MS, JOB_TASKS_MAX, JOB_ENGINES_MAX, PLAN_PACKETS_MAX } from "../limits.ts";
import type { ChunkSource, StoreWriter } from "../contracts/chunks.ts";
import type { JobInput, JobOutcome, JobRequest } from "../contracts/jobs.ts";
import type { Engine } from "../contracts/kernels.ts";
import type { KernelAverages } from "../program/kernel/averages.ts";
import { expectedCalls } from "../program/kernel/estimate.ts";
import type { ExpectedCalls } from "../program/kernel/estimate.ts";
import { inputFault } from "../stream/inputs.ts";
import { leafBorders } from "../stream/leaves.ts";
import type { LeafBorders } from "../stream/leaves.ts";
import type { EditionChoice } from "../schedule/state.ts";
import { inTurns } from "../turns.ts";
import { Attempt } from "./attempt.ts";
import type { AttemptOptions, Result, ResultFile, StoredStream } from "./attempt.ts";
import type { Dispatcher, SetTimer } from "./dispatcher.ts";
import { CPU_CLASS, chooseEngine, engineOptions, noEngine, rememberGivenUp } from "./engine-choice.ts";
import type { EngineOption, EnginePlan, ResidentInputs } from "./engine-choice.ts";
import type { ProgramSpec } from "./program-sources.ts";
import { Failure } from "./record.ts";
import type { Residency } from "./residency.ts";
import type { JobRecord } from "./record.ts";
import { expectedSplits, inputsToCut, planSplits } from "./splits.ts";
import type { Splits } from "./splits.ts";

export interface JobSpec extends Omit<JobRequest, "kind">, ProgramSpec {
  /** No other running job has it. */
  readonly id: string;
}

export interface JobContext {
  readonly source: ChunkSource;
  /** For what the job writes itself; closed at its end. */
  readonly writer: StoreWriter;
  readonly dispatcher: Dispatcher;
  readonly setTimer: SetTimer;
  /** What calls of kernels took. */
  readonly averages: KernelAverages;
  /** What GPUs computed over lately. */
  readonly residency: Residency;
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
  /** Whether this job is one that has another engine run something of it too, for what that takes. */
  readonly mayProbe: () => boolean;
  /** Told of what runs so, at once. */
  readonly probing: (probe: Probe) => void;
}

/** What another engine runs of a job, whose answer nobody sees. */
export interface Probe {
  /** Resolves when it is over, however it ended. */
  readonly over: Promise<void>;
  /** Ends it. */
  drop(): void;
}

export class Job {
  readonly #context: JobContext;
  readonly #spec: JobSpec;
  /** The version that the name of its result must have. */
  #expected: number | undefined;
  readonly #record: JobRecord;
  readonly #group: number;
  readonly #failure = new Failure();
  readonly #writer: StoreWriter;
  /** What runs for it now, or did last. */
  #attempt: Attempt | undefined;
  /** What is not over: it may go on when the job is done, and closes the writer then. */
  #probe: Probe | undefined;
  #hasEnded = false;
  /** Packets that its splits have taken of the budget. */
  #packets = 0;
  #retries = 0;
  /** What its packets ran on that made the result. */
  #edition: string | undefined;

  /** `group`: no other job of the dispatcher has it. */
  constructor(context: JobContext, spec: JobSpec, record: JobRecord, group: number) {
    this.#context = context;
    this.#writer = context.writer;
    this.#spec = spec;
    this.#expected = spec.expected;
    this.#record = record;
    this.#group = group;
  }

  /** Ends the job with this error, unless it has ended. */
  fail(error: unknown): void {
    this.#failure.fail(error);
    this.#attempt?.fail(error);
  }

  /** Rejects with the first thing that went wrong for good. */
  async run(): Promise<JobOutcome<Uint8Array>> {
    try {
      return await this.#failure.race(this.#outcome());
    } catch (error) {
      // Whatever is still being waited for is not needed any more.
      this.fail(error);
      throw error;
    } finally {
      await this.#end();
    }
  }

  async #end(): Promise<void> {
    this.#attempt?.close();
    this.#context.dispatcher.budget.give(this.#packets);
    if (this.#probe === undefined) return await this.#writer.close();
    this.#hasEnded = true;
    if (this.#failure.signal.aborted) this.#probe.drop();
  }

  async #outcome(): Promise<JobOutcome<Uint8Array>> {
    const { id: job, description } = this.#spec;
    const splits = await this.#plan();
    const result = await this.#work(splits);
    return {
      job,
      yields: description.yields,
      ...result,
      statistics: this.#record.statistics(this.#retries, this.#edition),
    };
  }

  /** The places where inputs may be split are read from their streams. */
  async #plan(): Promise<Splits> {
    const { inputs, splitBytes, description, kind } = this.#spec;
    const { reader, yields } = description;
    const options = { reader, yields, kind, splitBytes };
    // Before anything is planned for which there is no room.
    this.#reserve(Math.min(JOB_TASKS_MAX, expectedSplits(inputs, options)));
    const borders: (LeafBorders | undefined)[] = [];
    let packets = PLAN_PACKETS_MAX;
    for (const index of inputsToCut(inputs, options)) {
      if (packets <= 0) break;
      borders[index] = await this.#bordersOf(inputs[index]!, packets);
      packets -= borders[index].at.length + 1;
    }
    const splits = await inTurns(planSplits(inputs, options, borders));
    this.#reserve(splits.count);
    return splits;
  }

  /** Takes so many packets of the budget in place of those that it had. */
  #reserve(packets: number): void {
    const { budget } = this.#context.dispatcher;
    budget.give(this.#packets);
    this.#packets = 0;
    budget.take(packets);
    this.#packets = packets;
  }

  async #bordersOf({ name, root }: JobInput, packetsMax: number): Promise<LeafBorders> {
    const { signal } = this.#failure;
    try {
      return await leafBorders(this.#context.source, root, packetsMax, signal);
    } catch (cause) {
      if (signal.aborted || !(cause instanceof PacketfsError)) throw cause;
      throw new JobError(
        faultErrorCode(inputFault(cause)) as JobErrorCode,
        `the stream of "${name}" cannot be read: ${cause.message}`,
        { job: this.#spec.id, program: this.#spec.name },
        { cause },
      );
    }
  }

  /** On one edition after the other, until one is not lost. */
  async #work(splits: Splits): Promise<Result> {
    const { dispatcher } = this.#context;
    if (this.#spec.kind !== "kernel") {
      const edition = dispatcher.chooseEdition(this.#spec.kind);
      return await this.#with(splits, { edition }, (attempt) => attempt.run());
    }
    const lost = new Set<string>();
    let calls: readonly ExpectedCalls[] | undefined;
    for (let error: unknown; ;) {
      const options = this.#engineOptions();
      calls ??= this.#isOpen(options) ? await this.#expectedCalls(splits) : [];
      const plan = this.#choose(options, lost, calls);
      // Machines come back as others than they were, and may do so for ever.
      const isSpent = plan === undefined || lost.size >= JOB_ENGINES_MAX;
      if (isSpent && error !== undefined) throw error;
      if (error !== undefined) this.#retries += this.#record.restarted(lossOf(error));
      const edition = editionOf(plan, options, lost);
      this.#record.planned(plan);
      const engineClass = plan?.option.engineClass;
      if (lost.size === 0 && calls.length > 0) this.#probeOther(splits, plan, options, calls);
      try {
        const result = await this.#with(splits, { edition, engineClass }, (attempt) => attempt.run());
        this.#computedOver(plan, calls);
        return result;
      } catch (cause) {
        if (edition.edition === undefined || !isEngineLost(cause)) throw cause;
        error = cause;
        lost.add(edition.edition);
        const { kernels = [] } = this.#spec.description;
        if (plan !== undefined && hasCode(cause, JobErrorCode.engineLost))
          rememberGivenUp(this.#context.averages, plan, calls, kernels);
      }
    }
  }

  /** What its calls had is in the memory of the GPUs that it ran on, for the next job. */
  #computedOver(plan: EnginePlan | undefined, calls: readonly ExpectedCalls[]): void {
    const { accelerator, engineClass, lanes } = plan?.option ?? {};
    if (accelerator === undefined) return;
    const memoryBytes = accelerator.memoryBytes * lanes!;
    for (const [streams, how, has] of [
      [Object.values(this.#spec.files ?? {}), WHOLE, calls.some(({ sharedBytes }) => sharedBytes > 0)],
      [this.#spec.inputs, this.#cut, calls.some(({ rangeBytes }) => rangeBytes > 0)],
    ] as const)
      if (has) this.#context.residency.used(engineClass!, streams, how, memoryBytes, this.#context.now());
  }

  /** What is likely to be there of its own. */
  #residentOn(engineClass: string): ResidentInputs {
    const { residency, now } = this.#context;
    const { files = {}, inputs } = this.#spec;
    return {
      files: residency.has(engineClass, Object.values(files), WHOLE, now()),
      ranges: residency.has(engineClass, inputs, this.#cut, now()),
    };
  }

  /** What ranges its inputs are cut into follows from. */
  get #cut(): string {
    const { description, splitBytes = 0 } = this.#spec;
    return JSON.stringify([splitBytes, description.reader]);
  }

  /** Sometimes, another engine runs the first split too: what was once slower need not be so for ever. */
  #probeOther(
    splits: Splits,
    plan: EnginePlan | undefined,
    options: readonly EngineOption[],
    calls: readonly ExpectedCalls[],
  ): void {
    const { averages, mayProbe } = this.#context;
    if (plan === undefined || this.#spec.engine !== undefined || !mayProbe()) return;
    const wanted = plan.option.engine === "gpu" ? "cpu" : "gpu";
    const other = chooseEngine(options, { wanted, lost: new Set(), calls, averages });
    if (other === undefined) return;
    const { edition, engineClass } = other.option;
    const attempt = this.#newAttempt(splits, { edition: { edition, waitMs: 0 }, engineClass });
    const over = this.#probeOn(attempt).catch(() => undefined);
    const dropped = new JobError(JobErrorCode.cancelled, "nobody waits for it any more");
    this.#probe = { over, drop: () => attempt.fail(dropped) };
    this.#context.probing(this.#probe);
  }

  async #probeOn(attempt: Attempt): Promise<void> {
    try {
      await attempt.sample();
    } finally {
      attempt.close();
      this.#probe = undefined;
      if (this.#hasEnded) await this.#writer.close();
    }
  }

  async #with<T>(
    splits: Splits,
    on: Pick<AttemptOptions, "edition" | "engineClass">,
    use: (attempt: Attempt) => Promise<T>,
  ): Promise<T> {
    this.#failure.throwIfFailed();
    const attempt = this.#newAttempt(splits, on);
    this.#attempt = attempt;
    try {
      const made = await use(attempt);
      this.#edition = on.edition.edition;
      return made;
    } finally {
      this.#retries += attempt.retries;
      attempt.close();
    }
  }

  #newAttempt(splits: Splits, on: Pick<AttemptOptions, "edition" | "engineClass">): Attempt {
    return new Attempt({
      context: this.#context,
      spec: this.#spec,
      record: this.#record,
      group: this.#group,
      splits,
      ...on,
      name: (file) => this.#name(file),
    });
  }

  #engineOptions(): EngineOption[] {
    const { kind } = this.#spec;
    return engineOptions(this.#context.dispatcher.executorsFor(kind), kind);
  }

  /** Whether there is something to choose. */
  #isOpen(options: readonly EngineOption[]): boolean {
    return this.#spec.engine === undefined && new Set(options.map(({ engine }) => engine)).size > 1;
  }

  /** Throws PFS_NO_EXECUTOR where what was asked for is not there. */
  #choose(
    options: readonly EngineOption[],
    lost: ReadonlySet<string>,
    calls: readonly ExpectedCalls[],
  ): EnginePlan | undefined {
    const { engine: wanted, name: program } = this.#spec;
    const { averages } = this.#context;
    const choose = (engine: Engine | undefined): EnginePlan | undefined =>
      chooseEngine(options, {
        wanted: engine,
        lost,
        calls,
        averages,
        residentOn: (engineClass) => this.#residentOn(engineClass),
      });
    const isLast = lost.size === JOB_ENGINES_MAX - 1;
    const plan = (isLast ? choose(wanted ?? CPU_CLASS) : undefined) ?? choose(wanted);
    if (plan !== undefined || wanted === undefined || lost.size > 0) return plan;
    throw noEngine(wanted, program);
  }

  /** Those of the first split, in each: none where it does not say. The program's own faults come again when it runs. */
  async #expectedCalls(splits: Splits): Promise<readonly ExpectedCalls[]> {
    if (splits.count === 0) return [];
    try {
      const anywhere = { edition: { edition: undefined } };
      const found = await this.#with(splits, anywhere, (attempt) => attempt.estimate());
      return expectedCalls(found, this.#spec.description.kernels ?? [], splits.count);
    } catch (error) {
      this.#failure.throwIfFailed();
      if (!(error instanceof PacketfsError)) throw error;
      return [];
    }
  }

  /** Makes the file durable, under the job's `out` if it has one. */
  async #name({ root, length }: StoredStream): Promise<ResultFile> {
    this.#failure.throwIfFailed();
    const { out } = this.#spec;
    if (out === undefined) await this.#writer.flush();
    else {
      const { version } = await this.#writer.bind({ name: out, root, length }, { expected: this.#expected });
      if (this.#expected !== undefined) this.#expected = version;
    }
    const file = { root: refToHex(root), length };
    return out === undefined ? file : { name: out, ...file };
  }
}

/** What a plan has its packets run on; where there is none yet, the edition of the first executor that comes. */
function editionOf(
  plan: EnginePlan | undefined,
  options: readonly EngineOption[],
  lost: ReadonlySet<string>,
): EditionChoice {
  const edition = plan?.option.edition;
  const isLast = options.every((each) => each.edition === edition || lost.has(each.edition));
  return isLast ? { edition } : { edition, waitMs: ENGINE_WAIT_MS };
}

/** How a program's files are given to kernels. */
const WHOLE = "file";

const LOST_CODES = [JobErrorCode.engineLost, JobErrorCode.noExecutor, JobErrorCode.nodeLost] as const;

/** Whether an attempt failed for what it ran on, so that another engine may do. */
function isEngineLost(error: unknown): boolean {
  return LOST_CODES.some((code) => hasCode(error, code));
}

/** What became of what an attempt ran on, for people. */
function lossOf(error: unknown): string {
  const isGone = hasCode(error, JobErrorCode.noExecutor) && error.data["reason"] === "no executor";
  return isGone ? 'no machine lends it any more; "pfs nodes" says why' : messageOf(error);
}
