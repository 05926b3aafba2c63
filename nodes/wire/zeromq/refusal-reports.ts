/** How often a port tells of those whom it did not let in. Pure. */
import { REFUSAL_REPORTS_PER_SECOND } from "../../limits.ts";

/** Bounds how many refusals are told: those beyond are counted in the next one. */
export class RefusalReports {
  #untold = 0;
  #allowance = REFUSAL_REPORTS_PER_SECOND;
  #at: number;

  constructor(now: number) {
    this.#at = now;
  }

  /** How many refusals to tell of, this one included; 0 when it is to wait. */
  count(now: number): number {
    this.#untold++;
    const refill = ((now - this.#at) / 1000) * REFUSAL_REPORTS_PER_SECOND;
    this.#allowance = Math.min(REFUSAL_REPORTS_PER_SECOND, this.#allowance + refill);
    this.#at = now;
    if (this.#allowance < 1) return 0;
    this.#allowance--;
    const refusals = this.#untold;
    this.#untold = 0;
    return refusals;
  }
}
