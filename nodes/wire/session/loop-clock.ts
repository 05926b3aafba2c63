/**
 * Time as this process's event loop had it. While the loop is busy, or the whole process stands still, what peers say waits
 * unread and what they do goes unseen; so patience with a peer must not be counted in wall-clock time. This clock goes on
 * from look to look, by no more than the time in which the next look is due and TICK_LATENESS_MS_MAX.
 */
import { TICK_LATENESS_MS_MAX, TICK_MS } from "../../limits.ts";

export class LoopClock {
  #turnMsMax = TICK_MS + TICK_LATENESS_MS_MAX;
  #lookedAt: number;
  #time = 0;

  constructor(now: number) {
    this.#lookedAt = now;
  }

  /** To be called at every tick, of which the next is due in `nextMs`. Milliseconds since the clock was made, as far as they count. */
  look(now: number, nextMs: number = TICK_MS): number {
    this.#time = this.at(now);
    this.#lookedAt = now;
    this.#turnMsMax = nextMs + TICK_LATENESS_MS_MAX;
    return this.#time;
  }

  /** The clock's time at `now`, which is not much before the last look. */
  at(now: number): number {
    return this.#time + Math.min(this.#turnMsMax, now - this.#lookedAt);
  }
}
