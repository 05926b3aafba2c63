/**
 * How many packets a frame may have. Nothing is known of a program at first, so its frames begin with one packet and
 * double while they are quick: a program that gets stuck is found in a small frame, and one that does little per packet
 * soon goes in frames that hide what a border costs. Pure: the caller measures.
 */
import { RUN_AIM_MS, RUN_PACKETS_MAX } from "../limits.ts";

/** A frame is stopped when it reaches the time limit of one packet, so it should stay far below. */
const SHARE_OF_LIMIT = 0.25;

export class RunPace {
  readonly #aimMs: number;
  #packets = 1;

  /** `limitMs` is the time limit of a packet. */
  constructor(limitMs: number) {
    this.#aimMs = Math.min(RUN_AIM_MS, limitMs * SHARE_OF_LIMIT);
  }

  /** Packets that the next frame may have, 1 to RUN_PACKETS_MAX. */
  get packets(): number {
    return this.#packets;
  }

  /** Learns from a frame of `packets` packets that took `milliseconds`. */
  ran(packets: number, milliseconds: number): void {
    if (milliseconds > this.#aimMs) {
      const fitting = Math.floor((packets * this.#aimMs) / milliseconds);
      this.#packets = Math.max(1, Math.min(this.#packets, fitting));
    } else if (milliseconds < this.#aimMs / 2) {
      // A frame that was not full says nothing about fuller ones than twice itself.
      this.#packets = Math.max(this.#packets, Math.min(RUN_PACKETS_MAX, packets * 2));
    }
  }

  /** Begins small again: what was known ended with a process that was killed. */
  reset(): void {
    this.#packets = 1;
  }
}
