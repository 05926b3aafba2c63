/** What calls of kernels took, added up: of calls alike, whoever is told of them is told once. Pure. */
import type { EngineDecision, KernelUse } from "../../contracts/kernels.ts";

/** A call that is over, as `KernelUse` has it. */
export interface UsedCall {
  /** Index among the kernels of the program. */
  readonly kernel: number;
  readonly engine: KernelUse["engine"];
  readonly decision: Pick<EngineDecision, "engineClass" | "predictedMs" | "reason">;
  readonly bucket: number;
  readonly milliseconds: number;
}

export class KernelUses {
  readonly #uses = new Map<string, KernelUse>();

  /** Of calls alike, the last one's reason stands for all. */
  add({ kernel, engine, decision, bucket, milliseconds }: UsedCall): void {
    const { engineClass, predictedMs, reason } = decision;
    const key = `${kernel} ${engineClass} ${bucket}`;
    const known = this.#uses.get(key);
    const predicted = predictedMs === undefined ? undefined : predictedMs + (known?.predictedMs ?? 0);
    this.#uses.set(key, {
      kernel,
      engine,
      engineClass,
      bucket,
      calls: (known?.calls ?? 0) + 1,
      milliseconds: (known?.milliseconds ?? 0) + milliseconds,
      ...(predicted === undefined ? {} : { predictedMs: predicted }),
      reason,
    });
  }

  /** All of them, in the order in which the first of each came; none are left here. */
  take(): KernelUse[] {
    const uses = [...this.#uses.values()];
    this.#uses.clear();
    return uses;
  }
}
