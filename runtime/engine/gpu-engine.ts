/**
 * The engine of an executor whose kernels all run on one GPU, because their results are that GPU's: where it does not run a call,
 * the packet that made it fails as PFS_ENGINE_LOST, and its job goes on elsewhere.
 */
import { PacketfsError, hasCode } from "../../packets/errors.ts";
import type { Accelerator, EngineDecision, KernelCall, KernelEngine } from "../contracts/kernels.ts";
import { AcceleratorErrorCode, EngineError, EngineErrorCode, KernelErrorCode } from "../errors.ts";
import { ACCELERATOR_TRIES_MAX } from "../limits.ts";

/** What is no fault of the call's inputs, nor of who asked: it is the GPU that does not compute this. */
const GPU_CODES: ReadonlySet<string> = new Set([
  AcceleratorErrorCode.lost,
  KernelErrorCode.barred,
  KernelErrorCode.deadline,
  KernelErrorCode.invalid,
  KernelErrorCode.overLimit,
]);

export class GpuEngine implements KernelEngine {
  readonly #accelerator: Accelerator;

  constructor(accelerator: Accelerator) {
    this.#accelerator = accelerator;
  }

  async run(call: KernelCall, signal: AbortSignal): Promise<EngineDecision> {
    const { engineClass, label } = this.#accelerator.info;
    try {
      const answer = await runOn(this.#accelerator, call, signal);
      return { answer, engineClass, reason: `the job runs on ${label}` };
    } catch (error) {
      signal.throwIfAborted();
      throw isGpuError(error) ? engineLost(error) : error;
    }
  }

  computed(): void {
    // Programs are never told to compute anything themselves.
  }
}

/**
 * Runs it again where the GPU's process was lost, which is nobody's fault, as long as that may help. Rejects as
 * `Accelerator.run`.
 */
export async function runOn(
  accelerator: Accelerator,
  call: KernelCall,
  signal: AbortSignal,
): ReturnType<Accelerator["run"]> {
  for (let tries = 1; ; tries++) {
    try {
      return await accelerator.run(call, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (tries === ACCELERATOR_TRIES_MAX || !hasCode(error, AcceleratorErrorCode.lost)) throw error;
    }
  }
}

/** Whether a call failed for the GPU's sake, so that another engine may do. */
export function isGpuError(error: unknown): error is PacketfsError {
  return error instanceof PacketfsError && GPU_CODES.has(error.code);
}

function engineLost(cause: PacketfsError): EngineError {
  const reason = cause.message;
  return new EngineError(
    EngineErrorCode.engineLost,
    `the GPU does not run it any more: ${reason}`,
    { reason },
    { cause },
  );
}
