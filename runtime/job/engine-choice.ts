/**
 * Which class of engine a job runs on whose results depend on it: the one on which its kernels are expected to be done first, by
 * what calls like its own took before, or else by what they have to move and compute. All its packets run there; when the class
 * is lost, all of them run again on one other. Pure.
 */
import { JobError, JobErrorCode } from "../errors.ts";
import type { Executor, ProgramKind } from "../contracts/executor.ts";
import type { AcceleratorInfo, Engine } from "../contracts/kernels.ts";
import { formatDuration } from "../format.ts";
import { KERNEL_AVERAGE_CALLS } from "../limits.ts";
import type { KernelAverages } from "../program/kernel/averages.ts";
import { bucketOf, cpuCallMs, gpuCallMs, workOf } from "../program/kernel/cost.ts";
import type { CallSize } from "../program/kernel/cost.ts";
import type { ExpectedCalls } from "../program/kernel/estimate.ts";
import type { KernelSpec } from "../program/kernel/kernel.ts";

/** What all CPUs are called: they compute the same, as far as an edition goes. */
export const CPU_CLASS = "cpu";

/** Executors of one edition, which give the same results. */
export interface EngineOption {
  readonly edition: string;
  readonly engine: Engine;
  /** The accelerators' class, or "cpu". */
  readonly engineClass: string;
  /** For people. */
  readonly label: string;
  /** Calls that are computed at once: one for each GPU, or each CPU that is lent. */
  readonly lanes: number;
  /** The first of its GPUs. */
  readonly accelerator?: AcceleratorInfo | undefined;
}

export interface EngineQuestion {
  /** What shall compute it, where somebody says so. */
  readonly wanted?: Engine | undefined;
  /** Editions that it was lost on. */
  readonly lost: ReadonlySet<string>;
  /** None where nothing is known of them. */
  readonly calls: readonly ExpectedCalls[];
  readonly averages: KernelAverages;
  /** What is likely to be in the memory of a class's GPUs; nothing unless given. */
  readonly residentOn?: ((engineClass: string) => ResidentInputs) | undefined;
}

/** Which inputs of calls need not be sent. */
export interface ResidentInputs {
  /** The program's files. */
  readonly files: boolean;
  /** The ranges that packets read. */
  readonly ranges: boolean;
}

export interface EnginePlan {
  readonly option: EngineOption;
  /** Why, for people. */
  readonly reason: string;
  /** Milliseconds of one call of a kernel there, by its index, as far as they are expected. */
  readonly callMs: ReadonlyMap<number, number>;
}

/** What programs of the kind can run on. The executors are those that get packets of it. */
export function engineOptions(
  executors: Iterable<Pick<Executor, "capacity" | "edition" | "accelerator">>,
  kind: ProgramKind,
): EngineOption[] {
  const options = new Map<string, EngineOption>();
  for (const { capacity, edition, accelerator } of executors) {
    const packets = capacity[kind];
    if (packets === undefined) continue;
    const known = options.get(edition);
    const isGpu = accelerator !== undefined;
    options.set(edition, {
      edition,
      engine: isGpu ? "gpu" : "cpu",
      engineClass: accelerator?.engineClass ?? CPU_CLASS,
      label: accelerator?.label ?? "CPUs",
      lanes: (known?.lanes ?? 0) + (isGpu ? 1 : packets),
      accelerator: known?.accelerator ?? accelerator,
    });
  }
  return [...options.values()];
}

/** What was asked for to compute a program's kernels is not there. */
export function noEngine(wanted: Engine, program: string): JobError {
  const what = wanted === "gpu" ? 'no GPU; "pfs doctor" says why' : "nothing that computes kernels on CPUs";
  return new JobError(JobErrorCode.noExecutor, `program "${program}" cannot run: there is ${what}`, {
    reason: "no engine",
    program,
  });
}

/** Undefined where nothing is left that it may run on. */
export function chooseEngine(
  options: readonly EngineOption[],
  question: EngineQuestion,
): EnginePlan | undefined {
  const { wanted, lost } = question;
  const possible = options.filter(
    ({ edition, engine }) => !lost.has(edition) && (wanted === undefined || engine === wanted),
  );
  // Of several that are the same to a job, the one with more to work with.
  possible.sort((a, b) => (a.engine === b.engine ? b.lanes - a.lanes : a.engine === "cpu" ? -1 : 1));
  const expected = possible.map((option) => expect(option, question));
  const [first, ...others] = expected;
  if (first === undefined) return undefined;
  const best = others.reduce((least, each) => (each.totalMs < least.totalMs ? each : least), first);
  const { option, callMs } = best;
  return { option, callMs, reason: reasonFor(best, expected, question, options) };
}

/** What gave kernels up is expected to take as long as those may on it, until that is measured again. */
export function rememberGivenUp(
  averages: KernelAverages,
  { option: { engineClass } }: EnginePlan,
  calls: readonly ExpectedCalls[],
  kernels: readonly KernelSpec[],
): void {
  for (const { kernel, key, size } of calls) {
    averages.add({
      kernel: key,
      engineClass,
      bucket: bucketOf(workOf(size)),
      calls: KERNEL_AVERAGE_CALLS,
      milliseconds: kernels[kernel]!.limits.gpuMs * KERNEL_AVERAGE_CALLS,
      isCounted: false,
    });
  }
}

interface Expectation {
  readonly option: EngineOption;
  readonly callMs: ReadonlyMap<number, number>;
  /** Of all calls, with as many at once as can be. */
  readonly totalMs: number;
  /** Whether all of it is by what such calls took. */
  readonly isMeasured: boolean;
}

function expect(option: EngineOption, { calls, averages, residentOn }: EngineQuestion): Expectation {
  const resident = residentOn?.(option.engineClass) ?? { files: false, ranges: false };
  const callMs = new Map<number, number>();
  let totalMs = 0;
  let isMeasured = calls.length > 0;
  for (const each of calls) {
    const measured = averages.callMs(each.key, option.engineClass, workOf(each.size));
    const uploadBytes = each.size.uploadBytes - (resident.ranges ? each.rangeBytes : 0);
    const milliseconds = measured ?? modelledMs(option, { ...each.size, uploadBytes }, averages);
    isMeasured &&= measured !== undefined;
    callMs.set(each.kernel, milliseconds);
    totalMs += (milliseconds * each.calls) / Math.max(1, Math.min(option.lanes, each.calls));
    if (option.accelerator === undefined || measured !== undefined) continue;
    if (!resident.files) totalMs += each.sharedBytes / (option.accelerator.calibration.uploadGBps * 1e6);
    // What was never measured there is not compiled either; each GPU does that for itself, at the same time.
    totalMs += averages.compileMs(option.engineClass);
  }
  return { option, callMs, totalMs, isMeasured };
}

function modelledMs({ accelerator }: EngineOption, size: CallSize, averages: KernelAverages): number {
  return accelerator === undefined
    ? cpuCallMs(size, averages.workPerMs(CPU_CLASS))
    : gpuCallMs(size, accelerator.calibration);
}

function reasonFor(
  best: Expectation,
  expected: readonly Expectation[],
  { wanted, lost, calls }: EngineQuestion,
  options: readonly EngineOption[],
): string {
  const gone = options.filter(({ edition }) => lost.has(edition)).map(({ label }) => label);
  if (gone.length > 0) return `${gone.join(" and ")} did not run it`;
  if (lost.size > 0) return "what ran it before is gone";
  if (wanted !== undefined) return "it was asked for";
  const others = expected.filter((each) => each !== best);
  if (others.length === 0) return best.option.engine === "cpu" ? "there is no GPU" : "nothing else runs it";
  if (calls.length === 0) return "how much its kernels have to do is not known beforehand";
  const times = others.map(({ option, totalMs }) => `${formatDuration(totalMs)} on ${option.label}`);
  const how = expected.every(({ isMeasured }) => isMeasured) ? "as measured before" : "as calculated";
  return `it should take ${formatDuration(best.totalMs)}, and ${times.join(" and ")}, ${how}`;
}
