/** What one thread tells another in simulated time: in order, and later. */
import type { SimulatedClock } from "./clock.ts";

export interface LaneOptions {
  readonly clock: SimulatedClock;
  /** Milliseconds that the next of what is told takes; 0, always, for what is heard at once. */
  readonly delayMs: () => number;
  /** After something that was not heard at once. */
  readonly heard: () => void;
}

export class Lane {
  readonly #options: LaneOptions;
  readonly #told: (() => void)[] = [];
  /** When the last of it is heard: the next does not overtake it. */
  #arrival = 0;
  #isClosed = false;

  constructor(options: LaneOptions) {
    this.#options = options;
  }

  tell(happen: () => void): void {
    if (this.#isClosed) return;
    const { clock, delayMs, heard } = this.#options;
    const delay = delayMs();
    if (delay === 0) return happen();
    this.#told.push(happen);
    // Later by more than sums of such numbers are rounded.
    this.#arrival = Math.max(this.#arrival + 0.001, clock.now + delay);
    clock.after(this.#arrival - clock.now, () => {
      const next = this.#told.shift();
      if (next === undefined) return;
      next();
      heard();
    });
  }

  /** Has everything heard that was told, and nothing from then on. */
  end(): void {
    while (this.#told.length > 0) {
      this.#told.shift()!();
      this.#options.heard();
    }
    this.cut();
  }

  /** Nothing is heard any more. */
  cut(): void {
    this.#isClosed = true;
    this.#told.length = 0;
  }
}
