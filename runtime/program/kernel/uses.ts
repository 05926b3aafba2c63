/** What calls of kernels took, added up: of calls alike, whoever is told of them is told once. Pure. */
import { ENGINE_REASON_CHARACTERS_MAX, KERNEL_USES_MAX } from "../../limits.ts";
import type { EngineDecision, KernelUse } from "../../contracts/kernels.ts";

/** A call that is over, as `KernelUse` has it. */
export interface UsedCall {
  /** Index among the kernels of the program. */
  readonly kernel: number;
  readonly engine: KernelUse["engine"];
  readonly decision: Pick<EngineDecision, "engineClass" | "predictedMs" | "reason">;
  readonly bucket: number;
  readonly milliseconds: number;
  /** What it waited besides for the GPU's code. */
  readonly compileMs?: number | undefined;
}

export class KernelUses {
  readonly #uses = new Map<string, KernelUse>();

  /** Of calls alike, the last one's reason stands for all. A program that makes calls of all sizes is not told of in full. */
  add({ kernel, engine, decision, bucket, milliseconds, compileMs = 0 }: UsedCall): void {
    const { engineClass, predictedMs, reason } = decision;
    const key = `${kernel} ${engineClass} ${bucket}`;
    const known = this.#uses.get(key);
    if (known === undefined && this.#uses.size >= KERNEL_USES_MAX) return;
    const predicted = predictedMs === undefined ? undefined : predictedMs + (known?.predictedMs ?? 0);
    const compiled = Math.max(compileMs, known?.compileMs ?? 0);
    this.#uses.set(key, {
      kernel,
      engine,
      engineClass,
      bucket,
      calls: (known?.calls ?? 0) + 1,
      milliseconds: (known?.milliseconds ?? 0) + milliseconds,
      ...(compiled === 0 ? {} : { compileMs: compiled }),
      ...(predicted === undefined ? {} : { predictedMs: predicted }),
      reason: reason.slice(0, ENGINE_REASON_CHARACTERS_MAX),
    });
  }

  /** All of them, in the order in which the first of each came; none are left here. */
  take(): KernelUse[] {
    const uses = [...this.#uses.values()];
    this.#uses.clear();
    return uses;
  }
}
