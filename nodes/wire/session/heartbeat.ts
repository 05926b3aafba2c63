/**
 * Heartbeats of one session: when to say something, and when the other side's silence means that it is lost. What is said
 * goes by the monotonic clock, what is heard by a `LoopClock`.
 */
import { PEER_LOST_MS, PING_INTERVAL_MS, SILENCE_MS_MAX, SLOW_LINE_BYTES_PER_SECOND } from "../../limits.ts";

export class Heartbeat {
  #heardAt = 0;
  #saidAt: number;
  #tickedAt = 0;
  #silentUntil = 0;
  #pingIsOnItsWay = false;

  constructor(now: number) {
    this.#saidAt = now;
  }

  /** How long a peer must not expect anything while `bytes` cross a slow line, in milliseconds. */
  static silenceFor(bytes: number): number {
    const milliseconds = PEER_LOST_MS + (bytes / SLOW_LINE_BYTES_PER_SECOND) * 1000;
    return Math.min(SILENCE_MS_MAX, Math.ceil(milliseconds));
  }

  /** Something came, by the loop's time; `silenceMs` is how long it says that nothing more may come. */
  heard(time: number, silenceMs = 0): void {
    this.#heardAt = time;
    this.#silentUntil = silenceMs === 0 ? 0 : time + Math.min(SILENCE_MS_MAX, silenceMs);
  }

  said(now: number): void {
    this.#saidAt = now;
    this.#pingIsOnItsWay = false;
  }

  /** To be asked at every tick, once: milliseconds of the last one in which a peer that announced a large message says nothing else. */
  excusedMs(time: number): number {
    const elapsedMs = time - this.#tickedAt;
    this.#tickedAt = time;
    return time < this.#silentUntil ? elapsedMs : 0;
  }

  /** Whether the peer has been silent for too long, by the loop's time. */
  isLost(time: number): boolean {
    return time > Math.max(this.#heardAt + PEER_LOST_MS, this.#silentUntil);
  }

  /** Whether to say PING; true once per silence. */
  isPingDue(now: number): boolean {
    if (this.#pingIsOnItsWay || now - this.#saidAt < PING_INTERVAL_MS) return false;
    this.#pingIsOnItsWay = true;
    return true;
  }
}
