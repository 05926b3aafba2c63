/** The last 64 times that packets of a batch took from being placed to being answered. */
const SAMPLES = 64;

export class Latencies {
  readonly #samples = new Float64Array(SAMPLES);
  #count = 0;

  add(milliseconds: number): void {
    this.#samples[this.#count++ % SAMPLES] = milliseconds;
  }

  /** The middle one, or undefined before the first. */
  median(): number | undefined {
    if (this.#count === 0) return undefined;
    const known = this.#samples.slice(0, Math.min(this.#count, SAMPLES)).sort();
    return known[known.length >>> 1];
  }
}
