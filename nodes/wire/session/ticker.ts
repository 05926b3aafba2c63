/**
 * Time as it passes for links: a tick every TICK_MS while somebody waits for something, and every IDLE_TICK_MS while nobody
 * does, so that a machine without work sleeps.
 */
import { IDLE_TICK_MS, TICK_MS } from "../../limits.ts";

export class Ticker {
  readonly #tick: () => boolean;
  #timer: NodeJS.Timeout;
  #isIdle = false;
  #isClosed = false;

  /** `tick` returns whether somebody waits for something. */
  constructor(tick: () => boolean) {
    this.#tick = tick;
    this.#timer = this.#every(TICK_MS);
  }

  /** Somebody began to wait. */
  hurry(): void {
    if (this.#isIdle) this.#change(false);
  }

  close(): void {
    this.#isClosed = true;
    clearInterval(this.#timer);
  }

  #every(ms: number): NodeJS.Timeout {
    return setInterval(() => {
      const isIdle = !this.#tick();
      if (isIdle !== this.#isIdle) this.#change(isIdle);
    }, ms).unref();
  }

  #change(isIdle: boolean): void {
    if (this.#isClosed) return;
    this.#isIdle = isIdle;
    clearInterval(this.#timer);
    this.#timer = this.#every(isIdle ? IDLE_TICK_MS : TICK_MS);
  }
}
