/** What computed a job's kernels, and how long that took: what lanes say of it, added up for people. Pure. */
import { ENGINE_LABEL_CHARACTERS_MAX, ENGINE_REASON_CHARACTERS_MAX, KERNEL_REPORTS_MAX } from "../limits.ts";
import type { KernelReport, KernelUse } from "../contracts/kernels.ts";
import type { KernelSpec } from "../program/kernel/kernel.ts";
import type { EnginePlan } from "./engine-choice.ts";

interface Sum {
  readonly kernel: string;
  readonly engine: KernelReport["engine"];
  readonly engineClass: string;
  readonly label: string | undefined;
  readonly reason: string;
  calls: number;
  measuredMs: number;
  /** Undefined when of some of the calls nobody knew what to expect. */
  predictedMs: number | undefined;
}

export type LabelOf = (engineClass: string) => string | undefined;

export class KernelReports {
  readonly #kernels: readonly Pick<KernelSpec, "name">[];
  readonly #sums = new Map<string, Sum>();

  constructor(kernels: readonly Pick<KernelSpec, "name">[]) {
    this.#kernels = kernels;
  }

  /**
   * `plan`: what the job runs on where its results depend on that; calls that run elsewhere all the same have their own reasons.
   * `labelOf`: what people call the GPUs of a class, as far as any is there. What is of no kernel of the program is left out.
   */
  add(use: KernelUse, plan: EnginePlan | undefined, labelOf: LabelOf = () => undefined): void {
    const { kernel: index, engine, engineClass, calls, milliseconds } = use;
    const kernel = this.#kernels[index]?.name;
    if (kernel === undefined || calls === 0) return;
    const planned = plan?.option.engineClass === engineClass ? plan : undefined;
    const callMs = planned?.callMs.get(index);
    const predictedMs = callMs === undefined ? use.predictedMs : callMs * calls;
    const key = `${index} ${engine} ${engineClass}`;
    const sum = this.#sums.get(key);
    if (sum === undefined) {
      if (this.#sums.size >= KERNEL_REPORTS_MAX) return;
      const reason = (planned?.reason ?? use.reason).slice(0, ENGINE_REASON_CHARACTERS_MAX);
      const measuredMs = milliseconds;
      const known = engine === "cpu" ? undefined : (planned?.option.label ?? labelOf(engineClass));
      const label = known?.slice(0, ENGINE_LABEL_CHARACTERS_MAX);
      this.#sums.set(key, { kernel, engine, engineClass, label, reason, calls, measuredMs, predictedMs });
      return;
    }
    sum.calls += calls;
    sum.measuredMs += milliseconds;
    sum.predictedMs =
      sum.predictedMs === undefined || predictedMs === undefined ? undefined : sum.predictedMs + predictedMs;
  }

  /** Nothing where there were no calls. */
  all(): { readonly kernels?: readonly KernelReport[] } {
    if (this.#sums.size === 0) return {};
    const kernels = [...this.#sums.values()].map(({ label, predictedMs, measuredMs, ...sum }) => ({
      ...sum,
      ...(label === undefined ? {} : { label }),
      measuredMs: rounded(measuredMs),
      ...(predictedMs === undefined ? {} : { predictedMs: rounded(predictedMs) }),
    }));
    return { kernels };
  }
}

/** To microseconds: what is shown of sums has no long tails. */
function rounded(milliseconds: number): number {
  return Math.round(milliseconds * 1000) / 1000;
}
