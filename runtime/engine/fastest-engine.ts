/**
 * The engine of executors on CPUs. Kernels whose results are the same on every engine are computed, call by call, where they are
 * expected to be done first; the others by the program, since a CPU's results are what its job is of. A GPU that is slower, dies or
 * does not run a call costs time and nothing else.
 */
import { errorToJson, hasCode } from "../../packets/errors.ts";
import type {
  Accelerator,
  EngineDecision,
  KernelAnswer,
  KernelCall,
  KernelEngine,
} from "../contracts/kernels.ts";
import { EngineError, EngineErrorCode, KernelErrorCode } from "../errors.ts";
import { formatDuration } from "../format.ts";
import { KERNEL_AVERAGES_MAX, KERNEL_PROBE_CALLS, KERNEL_PROBE_TIMES_MAX } from "../limits.ts";
import type { KernelAverages } from "../program/kernel/averages.ts";
import {
  bucketOf,
  cpuCallMs,
  gpuCallMs,
  measuredOf,
  measuredGpuMs,
  sizeOf,
  workOf,
} from "../program/kernel/cost.ts";
import type { CallSize } from "../program/kernel/cost.ts";
import { isGpuError, runOn } from "./gpu-engine.ts";

export interface FastestEngineOptions {
  /** Those that are there now. */
  readonly accelerators: () => readonly Accelerator[];
  /** What calls took so far: measured ones are added. */
  readonly averages: KernelAverages;
}

/** What is expected of a call. */
interface Expected {
  readonly of: ReturnType<typeof measuredOf>;
  readonly size: CallSize;
  readonly cpuMs: number;
}

interface ExpectedOfGpu {
  readonly accelerator: Accelerator;
  /** Of the call itself. */
  readonly callMs: number;
  /** Of its code, where that is not there yet. */
  readonly compileMs: number;
  /** Of both, and of the calls before it. */
  readonly doneMs: number;
}

const CPU = "cpu";

export class FastestEngine implements KernelEngine {
  readonly #options: FastestEngineOptions;
  /** What is expected of the calls that each GPU has from here. */
  readonly #aheadMs = new Map<Accelerator, number>();
  /**
   * By GPU and key, milliseconds that calls would have been faster there than they were on CPUs: once they come to what the code of a
   * kernel takes, that is worth making. Infinity where it is made.
   */
  readonly #missed = new WeakMap<Accelerator, Map<string, number>>();
  /** Calls that a GPU and a CPU could compute. */
  #calls = 0;

  constructor(options: FastestEngineOptions) {
    this.#options = options;
  }

  async run(call: KernelCall, signal: AbortSignal): Promise<EngineDecision> {
    const { kernel, engine } = call;
    if (kernel.result !== "exact") return byCpu("its results are to be a CPU's");
    if (engine === CPU) return byCpu("it was asked for");
    const all = this.#options.accelerators();
    const accelerators = all.filter((accelerator) => !accelerator.isBarred(kernel));
    if (accelerators.length === 0) {
      const reason = all.length === 0 ? "there is no GPU here" : "no GPU here runs it any more";
      if (engine === "gpu") throw noGpu(reason);
      return byCpu(reason);
    }
    const expected = this.#expect(call);
    const gpu = accelerators
      .map((accelerator) => this.#expectOf(accelerator, call, expected))
      .reduce((best, other) => (other.doneMs < best.doneMs ? other : best));
    if (engine !== "gpu" && !this.#prefersGpu(expected, gpu)) {
      this.#missedBy(expected, gpu);
      const reason = `${gpu.accelerator.info.label} would take ${formatDuration(gpu.doneMs)}`;
      return byCpu(reason, expected.cpuMs);
    }
    try {
      const answer = await this.#runOn(gpu, expected, call, signal);
      const reason =
        engine === "gpu" ? "it was asked for" : `a CPU would take ${formatDuration(expected.cpuMs)}`;
      const { engineClass } = gpu.accelerator.info;
      return { answer, engineClass, predictedMs: gpu.callMs, reason };
    } catch (error) {
      signal.throwIfAborted();
      const { message } = errorToJson(error);
      // What its inputs have is told where the program can catch it: it looks at them as the GPU did.
      if (hasCode(error, KernelErrorCode.invalidCall)) return byCpu(message, expected.cpuMs);
      if (engine === "gpu") throw isGpuError(error) ? noGpu(message, error) : error;
      // What cannot be read has its own fault when the program reads it.
      return byCpu(message, expected.cpuMs);
    }
  }

  mayUseGpu(kernels: readonly KernelCall["kernel"][]): boolean {
    return this.#options.accelerators().length > 0 && kernels.some(({ result }) => result === "exact");
  }

  computed(call: KernelCall, cpuMs: number): void {
    // Who plans jobs remembers those whose results depend on the engine.
    if (call.kernel.result !== "exact") return;
    this.#measured(measuredOf(call.kernel), sizeOf(call), CPU, cpuMs);
  }

  async #runOn(
    { accelerator, callMs }: ExpectedOfGpu,
    { of, size }: Expected,
    call: KernelCall,
    signal: AbortSignal,
  ): Promise<KernelAnswer> {
    this.#ahead(accelerator, callMs);
    try {
      const answer = await runOn(accelerator, call, signal);
      const { uploadedBytes, compileMs } = answer.times;
      this.#missedOn(accelerator).set(of.kernel, Number.POSITIVE_INFINITY);
      const name = classOf(accelerator, { ...size, uploadBytes: uploadedBytes });
      this.#measured(of, size, name, measuredGpuMs(answer.times), compileMs);
      return answer;
    } finally {
      this.#ahead(accelerator, -callMs);
    }
  }

  #expect(call: KernelCall): Expected {
    const { averages } = this.#options;
    const of = measuredOf(call.kernel);
    const size = sizeOf(call);
    const cpuMs = averages.callMs(of.kernel, CPU, workOf(size)) ?? cpuCallMs(size, averages.workPerMs(CPU));
    return { of, size, cpuMs };
  }

  #expectOf(accelerator: Accelerator, call: KernelCall, { of, size }: Expected): ExpectedOfGpu {
    const { averages } = this.#options;
    const resident = call.inputs.reduce(
      (sum, input) => sum + ("bytes" in input ? 0 : accelerator.resident(input)),
      0,
    );
    const sent = { ...size, uploadBytes: Math.max(0, size.inputBytes - resident) };
    const callMs =
      averages.callMs(of.kernel, classOf(accelerator, sent), workOf(size)) ??
      gpuCallMs(sent, accelerator.info.calibration);
    const missedMs = this.#missedOn(accelerator).get(of.kernel) ?? 0;
    const compileMs = Math.max(0, averages.compileMs(accelerator.info.engineClass) - missedMs);
    const doneMs = compileMs + callMs + (this.#aheadMs.get(accelerator) ?? 0);
    return { accelerator, callMs, compileMs, doneMs };
  }

  /** Some calls go where they are expected to take longer, as long as that is not much: what is expected may be wrong. */
  #prefersGpu({ cpuMs }: Expected, { doneMs }: ExpectedOfGpu): boolean {
    const isFaster = doneMs < cpuMs;
    const times = isFaster ? cpuMs / doneMs : doneMs / cpuMs;
    const isProbe = ++this.#calls % KERNEL_PROBE_CALLS === 0 && times <= KERNEL_PROBE_TIMES_MAX;
    return isProbe ? !isFaster : isFaster;
  }

  /** A call goes to a CPU, though the GPU may be faster but for its code. */
  #missedBy({ of, cpuMs }: Expected, { accelerator, compileMs, doneMs }: ExpectedOfGpu): void {
    const gainMs = cpuMs - (doneMs - compileMs);
    if (compileMs === 0 || gainMs <= 0) return;
    const missed = this.#missedOn(accelerator);
    missed.set(of.kernel, (missed.get(of.kernel) ?? 0) + gainMs);
  }

  #missedOn(accelerator: Accelerator): Map<string, number> {
    const known = this.#missed.get(accelerator);
    // Of those that were called longest ago a GPU may have no code any more.
    if (known !== undefined && known.size < KERNEL_AVERAGES_MAX) return known;
    const missed = new Map<string, number>();
    this.#missed.set(accelerator, missed);
    return missed;
  }

  #measured(
    of: Expected["of"],
    size: CallSize,
    engineClass: string,
    milliseconds: number,
    compileMs = 0,
  ): void {
    this.#options.averages.add({
      ...of,
      engineClass,
      compileMs,
      bucket: bucketOf(workOf(size)),
      calls: 1,
      milliseconds,
    });
  }

  #ahead(accelerator: Accelerator, milliseconds: number): void {
    this.#aheadMs.set(accelerator, (this.#aheadMs.get(accelerator) ?? 0) + milliseconds);
  }
}

function byCpu(reason: string, predictedMs?: number): EngineDecision {
  return { engineClass: CPU, predictedMs, reason };
}

function noGpu(reason: string, cause?: unknown): EngineError {
  return new EngineError(
    EngineErrorCode.engineLost,
    `a GPU was asked for, and none computes it: ${reason}`,
    { reason },
    { cause },
  );
}

/** Calls whose inputs are in the GPU's memory already take a fraction of others, and are measured apart. */
function classOf({ info }: Accelerator, { inputBytes, uploadBytes }: CallSize): string {
  return uploadBytes * 2 < inputBytes ? `${info.engineClass}+resident` : info.engineClass;
}
