/**
 * Whether a GPU's process does nothing of what it was told: it says no word and uses no CPU time, as often as one looks. Looks are
 * counted and not time, since nobody looks while this process is stopped or has no turns.
 */
import { GPU_SILENCE_LOOKS, GPU_SILENCE_LOOK_MS } from "../limits.ts";

export interface SilenceOptions {
  /** A number that is another one after whatever the process did. */
  readonly progress: () => number;
  /** Whether it has all that it needs for something that it does not wait for itself. */
  readonly owes: () => boolean;
  /** Called once, unless it is closed before. */
  readonly over: () => void;
}

export class SilenceWatch {
  readonly #timer: NodeJS.Timeout;
  #progress: number;
  #looks = 0;

  constructor({ progress, owes, over }: SilenceOptions) {
    this.#progress = progress();
    this.#timer = setInterval(() => {
      const now = progress();
      this.#looks = owes() && now === this.#progress ? this.#looks + 1 : 0;
      this.#progress = now;
      if (this.#looks < GPU_SILENCE_LOOKS) return;
      this.close();
      over();
    }, GPU_SILENCE_LOOK_MS).unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
