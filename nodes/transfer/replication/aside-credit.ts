/**
 * What the sender of a transfer may send, where messages are placed aside of the receiver (receiver.ts): that hears of them later, and
 * so whoever places them counts what it does not know yet. Pure: events go in, what is to be granted comes out.
 */
import { TRANSFER_GRANTS_PER_WINDOW } from "../../limits.ts";
import type { Grant } from "./receiver.ts";

export class AsideCredit {
  #run = 0;
  #window = 0;
  /** What the receiver has granted, knowing of so many bytes of messages that were placed aside. */
  #granted = 0;
  #known = 0;
  #waiting = 0;
  /** What those cost in all, and what was granted to the peer. */
  #placed = 0;
  #told = 0;

  /** The run whose messages are placed aside; 0 before the first. */
  get run(): number {
    return this.#run;
  }

  /** Bytes that were granted to the peer in this run, by whomever. */
  get granted(): number {
    return this.#told;
  }

  /** What waits to be placed where the receiver does that itself, in bytes, as it said last. */
  get waiting(): number {
    return this.#waiting;
  }

  /**
   * The receiver grants more, or is about to ask for a new run. Returns what is to be granted to the peer, in bytes since the run's
   * beginning; undefined for nothing.
   */
  grantedBy({ run, granted, window, aside, waiting }: Omit<Grant, "transfer">): number | undefined {
    if (run < this.#run) return undefined;
    // What is asked for says itself how much may come.
    if (run > this.#run) [this.#run, this.#placed, this.#told] = [run, 0, granted];
    [this.#granted, this.#window, this.#known, this.#waiting] = [granted, window, aside, waiting];
    return this.#next();
  }

  /** A message of the run was placed, of that cost. Returns what `grantedBy` does. */
  placed(cost: number): number | undefined {
    this.#placed += cost;
    return this.#next();
  }

  /** What was placed is granted anew, and not for each message. */
  #next(): number | undefined {
    const granted = this.#granted + this.#placed - this.#known;
    if (granted - this.#told < this.#window / TRANSFER_GRANTS_PER_WINDOW) return undefined;
    this.#told = granted;
    return granted;
  }
}
