/**
 * Who is kept out, and for how long: a key at an address that did harm pauses, longer each time, and what it did is
 * forgotten by and by. The same key elsewhere, and others at the same address, are let in. Pure.
 */
import { PAUSE_MS_MAX, PAUSE_MS_MIN, PENALTIES_MAX, PENALTY_HALF_LIFE_MS } from "../../limits.ts";

interface Penalty {
  /** How often it did harm; halves every PENALTY_HALF_LIFE_MS. */
  offences: number;
  offendedAt: number;
  pausedUntil: number;
}

export class Penalties {
  /** The latest offenders last. */
  readonly #penalties = new Map<string, Penalty>();

  /** A key did harm. Milliseconds for which it is kept out at that address: 1, 2, 4 … 60 seconds. */
  penalize(curveKey: string, address: string, now: number): number {
    const name = `${curveKey} ${address}`;
    const known = this.#penalties.get(name);
    this.#penalties.delete(name);
    if (this.#penalties.size >= PENALTIES_MAX) this.#penalties.delete(this.#penalties.keys().next().value!);
    const offences = 1 + (known === undefined ? 0 : known.offences * decay(now - known.offendedAt));
    const pauseMs = Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** (offences - 1));
    this.#penalties.set(name, { offences, offendedAt: now, pausedUntil: now + pauseMs });
    return pauseMs;
  }

  /** Milliseconds for which a key is still kept out at an address; 0 when it may come. */
  pauseOf(curveKey: string, address: string, now: number): number {
    const penalty = this.#penalties.get(`${curveKey} ${address}`);
    return penalty === undefined ? 0 : Math.max(0, penalty.pausedUntil - now);
  }
}

function decay(elapsedMs: number): number {
  return 2 ** (-Math.max(0, elapsedMs) / PENALTY_HALF_LIFE_MS);
}
