/**
 * Runners of a machine's lanes, of which there are few: who has one and does nothing gives it back when another needs the place,
 * or the process that it has a part in.
 */
import { LANE_REST_MS, RUNNERS_MAX } from "../limits.ts";

/** Whoever has a runner that may do nothing. */
export interface RunnerHolder {
  /** Closes the runner and gives its place back. The next packet begins another one. */
  rest(): void;
}

export class RunnerPlaces {
  readonly #isCrowded: () => boolean;
  readonly #now: () => number;
  /** Since when they do nothing, those that have for longest first. */
  readonly #idle = new Map<RunnerHolder, number>();
  #taken = 0;

  /** `isCrowded` says whether somebody waits for a process. `now`: milliseconds of a monotonic clock. */
  constructor(isCrowded: () => boolean, now: () => number = () => performance.now()) {
    this.#isCrowded = isCrowded;
    this.#now = now;
  }

  /** Whether there was a place, that of one who has done nothing for a while if there was no other. */
  take(): boolean {
    if (this.#taken >= RUNNERS_MAX) {
      const [oldest] = this.#idle;
      if (oldest === undefined || this.#now() - oldest[1] < LANE_REST_MS) return false;
      oldest[0].rest();
    }
    this.#taken++;
    return true;
  }

  /** The same where nobody has to give up anything for it. */
  takeFree(): boolean {
    if (this.#taken >= RUNNERS_MAX || this.#isCrowded()) return false;
    this.#taken++;
    return true;
  }

  /** For a runner that must be, however many there are. */
  takeAnyway(): void {
    this.#taken++;
  }

  give(holder: RunnerHolder): void {
    this.#idle.delete(holder);
    this.#taken--;
  }

  idle(holder: RunnerHolder): void {
    this.#idle.set(holder, this.#now());
    if (this.#isCrowded()) this.restOldest();
  }

  busy(holder: RunnerHolder): void {
    this.#idle.delete(holder);
  }

  /** Has the one that has done nothing for longest give its runner back, if there is one. */
  restOldest(): void {
    const [oldest] = this.#idle;
    oldest?.[0].rest();
  }
}
