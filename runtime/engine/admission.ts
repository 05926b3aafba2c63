/**
 * Who is let in to a GPU: calls whose shares of it are 1 at most together, in the order in which they came. That is admission
 * and no enforcement: a call that takes more of the GPU than it said slows the others down, and its deadline ends it.
 */
import type { Accelerator, AcceleratorInfo, KernelAnswer, KernelCall } from "../contracts/kernels.ts";
import type { Kernel } from "../program/kernel/kernel.ts";

/** Shares are added in parts of a million, so that ten tenths are one. */
const SHARE_PARTS = 1_000_000;

interface Waiting {
  readonly parts: number;
  readonly enter: () => void;
}

/** A GPU behind such a door, the same for all engines that have calls run on it. */
export class AdmittedAccelerator implements Accelerator {
  readonly info: AcceleratorInfo;
  readonly gone: Promise<string>;
  readonly #accelerator: Accelerator;
  readonly #now: () => number;
  readonly #waiting = new Set<Waiting>();
  #free = SHARE_PARTS;

  /** `now`: milliseconds of a monotonic clock. It closes the accelerator with itself. */
  constructor(accelerator: Accelerator, now: () => number = () => performance.now()) {
    this.info = accelerator.info;
    this.gone = accelerator.gone;
    this.#accelerator = accelerator;
    this.#now = now;
  }

  /** As the accelerator's, and what it waited here is part of the times. */
  async run(call: KernelCall, signal: AbortSignal): Promise<KernelAnswer> {
    const askedAt = this.#now();
    const parts = partsOf(call.kernel);
    const entered = this.#enter(parts, signal);
    if (entered !== undefined) await entered;
    const waitedMs = this.#now() - askedAt;
    try {
      const { times, ...answer } = await this.#accelerator.run(call, signal);
      const { totalMs, waitMs } = times;
      return { ...answer, times: { ...times, totalMs: totalMs + waitedMs, waitMs: waitMs + waitedMs } };
    } finally {
      this.#free += parts;
      this.#letIn();
    }
  }

  resident(range: Parameters<Accelerator["resident"]>[0]): number {
    return this.#accelerator.resident(range);
  }

  isBarred(kernel: Kernel): boolean {
    return this.#accelerator.isBarred(kernel);
  }

  close(): Promise<void> {
    return this.#accelerator.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Undefined when it is in at once. Rejects with the signal's reason. */
  #enter(parts: number, signal: AbortSignal): Promise<void> | undefined {
    signal.throwIfAborted();
    if (this.#waiting.size === 0 && parts <= this.#free) {
      this.#free -= parts;
      return undefined;
    }
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#waiting.delete(waiting);
        reject(signal.reason as Error);
        // Who stood behind it may have room.
        this.#letIn();
      };
      const waiting: Waiting = {
        parts,
        enter: () => {
          signal.removeEventListener("abort", leave);
          resolve();
        },
      };
      this.#waiting.add(waiting);
      signal.addEventListener("abort", leave, { once: true });
    });
  }

  /** The first that waits is never passed: calls that take all of it would wait for ever behind small ones. */
  #letIn(): void {
    for (const waiting of this.#waiting) {
      if (waiting.parts > this.#free) return;
      this.#free -= waiting.parts;
      this.#waiting.delete(waiting);
      waiting.enter();
    }
  }
}

function partsOf({ gpu }: Kernel): number {
  return Math.min(SHARE_PARTS, Math.max(1, Math.round(gpu * SHARE_PARTS)));
}
