/**
 * What a node may say beside its answers: logs of programs and notes of its own. A program may log without end, and a node
 * may lie; each text costs what it is long, and something for being one, whether it passes or not. Both sides keep to it: a
 * node leaves out what is too much and says so, and a hub takes twice as much before it leaves out anything itself. Pure.
 */
import { LOG_BURST_CHARACTERS, LOG_CHARACTERS_PER_SECOND, LOG_TEXT_COST_CHARACTERS } from "../limits.ts";

export class LogBudget {
  readonly #times: number;
  #allowance: number;
  #at: number;
  #cut = 0;

  /** `times` is how much of the usual budget this one is. */
  constructor(now: number, times = 1) {
    this.#times = times;
    this.#allowance = times * LOG_BURST_CHARACTERS;
    this.#at = now;
  }

  /** Whether as much was cut as may pass at once: whoever goes on like this does not keep to it. */
  get isFlooded(): boolean {
    return this.#allowance === -this.#times * LOG_BURST_CHARACTERS;
  }

  /** Whether a text of so many characters may pass. */
  admits(characters: number, now: number): boolean {
    const refill = this.#times * LOG_CHARACTERS_PER_SECOND * (Math.max(0, now - this.#at) / 1000);
    this.#allowance = Math.min(this.#times * LOG_BURST_CHARACTERS, this.#allowance + refill);
    this.#at = now;
    this.#allowance -= characters + LOG_TEXT_COST_CHARACTERS;
    if (this.#allowance >= 0) return true;
    this.#allowance = Math.max(-this.#times * LOG_BURST_CHARACTERS, this.#allowance);
    this.#cut++;
    return false;
  }

  /** Texts that were cut, from then on told. */
  takeCut(): number {
    const cut = this.#cut;
    this.#cut = 0;
    return cut;
  }
}
