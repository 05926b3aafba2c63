/**
 * Whose frames a process is sent now. All who have a part in it send theirs as they come, but for a suspect packet
 * (lane-queue.ts): that a process died of it is only known where nothing of anybody else's was in flight there.
 *
 *   frame ────▶ in flight beside others ──▶ over
 *   suspect ──▶ waits until nothing is in flight, before all others ──▶ in flight alone ──▶ over
 */

interface Waiter {
  readonly isAlone: boolean;
  readonly go: () => void;
}

export class ProcessTurns {
  /** Frames that were ever sent to the process. */
  framesSent = 0;
  /** Packets that it was sent and has not answered. What a dead one had in flight stays counted. */
  packetsInFlight = 0;
  /** Frames that have their turn, and whether the one that has is to be alone. */
  #turns = 0;
  #isAlone = false;
  readonly #waiting: Waiter[] = [];
  #hasEnded = false;

  /** Undefined when a frame may be sent at once; otherwise it resolves when it may, or when the process has ended. */
  begin(isAlone: boolean): Promise<void> | undefined {
    if (this.#waiting.length === 0 && this.#mayBegin(isAlone)) {
      this.#take(isAlone);
      return undefined;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const place = isAlone ? this.#waiting.findIndex((waiter) => !waiter.isAlone) : -1;
    this.#waiting.splice(place < 0 ? this.#waiting.length : place, 0, { isAlone, go: resolve });
    return promise;
  }

  /** A frame's turn is over, once for each. */
  over(): void {
    this.#turns--;
    this.#isAlone = false;
    this.#serve();
  }

  /** The process has ended: nobody waits for anything. */
  end(): void {
    this.#hasEnded = true;
    this.#serve();
  }

  #mayBegin(isAlone: boolean): boolean {
    return this.#hasEnded || (!this.#isAlone && (!isAlone || this.#turns === 0));
  }

  #take(isAlone: boolean): void {
    this.#turns++;
    this.#isAlone = isAlone;
  }

  #serve(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if (!this.#mayBegin(next.isAlone)) return;
      this.#waiting.shift();
      this.#take(next.isAlone);
      next.go();
    }
  }
}
