/** Heartbeats of one session: when to say something, and when the other side's silence means that it is lost. */
import {
  PEER_LOST_MS,
  PING_INTERVAL_MS,
  SILENCE_MS_MAX,
  SLOW_LINE_BYTES_PER_SECOND,
  TICK_MS,
} from "../../limits.ts";

export class Heartbeat {
  #heardAt: number;
  #saidAt: number;
  #tickedAt: number;
  #silentUntil = 0;
  #pingIsOnItsWay = false;

  constructor(now: number) {
    this.#heardAt = now;
    this.#saidAt = now;
    this.#tickedAt = now;
  }

  /** How long a peer must not expect anything while `bytes` cross a slow line, in milliseconds. */
  static silenceFor(bytes: number): number {
    const milliseconds = PEER_LOST_MS + (bytes / SLOW_LINE_BYTES_PER_SECOND) * 1000;
    return Math.min(SILENCE_MS_MAX, Math.ceil(milliseconds));
  }

  /** Something came; `silenceMs` is how long it says that nothing more may come. */
  heard(now: number, silenceMs = 0): void {
    this.#heardAt = now;
    this.#silentUntil = silenceMs === 0 ? 0 : now + Math.min(SILENCE_MS_MAX, silenceMs);
  }

  said(now: number): void {
    this.#saidAt = now;
    this.#pingIsOnItsWay = false;
  }

  /**
   * To be asked at every tick, once: milliseconds since the last one that are nobody's silence. When this process stood
   * still, what the peer said meanwhile is still to be read; and a peer that announced a large message says nothing else.
   */
  excusedMs(now: number): number {
    const elapsedMs = now - this.#tickedAt;
    this.#tickedAt = now;
    const stoodStillMs = elapsedMs - TICK_MS;
    if (stoodStillMs > PING_INTERVAL_MS) {
      this.#heardAt = Math.max(this.#heardAt, now - PING_INTERVAL_MS);
      return stoodStillMs;
    }
    return now < this.#silentUntil ? elapsedMs : 0;
  }

  isLost(now: number): boolean {
    return now > Math.max(this.#heardAt + PEER_LOST_MS, this.#silentUntil);
  }

  /** Whether to say PING; true once per silence. */
  isPingDue(now: number): boolean {
    if (this.#pingIsOnItsWay || now - this.#saidAt < PING_INTERVAL_MS) return false;
    this.#pingIsOnItsWay = true;
    return true;
  }
}
