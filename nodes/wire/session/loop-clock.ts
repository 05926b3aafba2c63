/**
 * Time as this process's event loop had it. While the loop is busy, or the whole process stands still, what peers say waits
 * unread and what they do goes unseen; so patience with a peer must not be counted in wall-clock time. This clock goes on
 * from look to look, by no more than LOOP_TURN_MS_MAX each.
 */
import { LOOP_TURN_MS_MAX } from "../../limits.ts";

export class LoopClock {
  #lookedAt: number;
  #time = 0;

  constructor(now: number) {
    this.#lookedAt = now;
  }

  /** To be called every TICK_MS. Milliseconds since the clock was made, as far as they count. */
  look(now: number): number {
    this.#time = this.at(now);
    this.#lookedAt = now;
    return this.#time;
  }

  /** The clock's time at `now`, which is not much before the last look. */
  at(now: number): number {
    return this.#time + Math.min(LOOP_TURN_MS_MAX, now - this.#lookedAt);
  }
}
