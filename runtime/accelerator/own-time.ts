/**
 * How much of its limit a kernel has had: of the GPU's own time, which nobody tells while it computes. Others may use the GPU
 * beside it, and are not its fault.
 */
import { GPU_WATCH_MS_MIN } from "../limits.ts";

/** "own": it had what it may have. "unknown": the GPU answers nobody. "ceiling": nothing came of it for very long. */
export type WatchEnd = "own" | "unknown" | "ceiling";

export interface WatchOptions {
  readonly limitMs: number;
  /** Of wall time. */
  readonly ceilingMs: number;
  /** Of what passed since it was asked last, in milliseconds, what the kernel had; undefined where the GPU answers nobody. */
  readonly share: (passedMs: number) => Promise<number | undefined> | number | undefined;
  /** Called once, unless it is closed before. */
  readonly over: (end: WatchEnd) => void;
}

/** Looks when the limit could be reached, and never in between. */
export class OwnTimeWatch {
  readonly #options: WatchOptions;
  readonly #begun = performance.now();
  #looked = this.#begun;
  #own = 0;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#lookAfter(options.limitMs);
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  #lookAfter(milliseconds: number): void {
    const { ceilingMs } = this.#options;
    const left = ceilingMs - (performance.now() - this.#begun);
    // A timer may fire a millisecond early, and whoever looks then has to look again.
    const wait = 1 + Math.max(GPU_WATCH_MS_MIN, Math.min(milliseconds, left));
    this.#timer = setTimeout(() => void this.#look(), wait);
  }

  async #look(): Promise<void> {
    const { limitMs, ceilingMs, share, over } = this.#options;
    const now = performance.now();
    const own = await share(now - this.#looked);
    if (this.#isClosed) return;
    this.#looked = now;
    this.#own += own ?? 0;
    const end =
      own === undefined
        ? "unknown"
        : this.#own >= limitMs
          ? "own"
          : performance.now() - this.#begun >= ceilingMs
            ? "ceiling"
            : undefined;
    if (end === undefined) return this.#lookAfter(limitMs - this.#own);
    this.close();
    over(end);
  }
}
