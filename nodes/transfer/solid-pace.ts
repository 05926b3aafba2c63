/**
 * Whether chunks that are being sent should be compressed better than they are stored, several of them together: that takes a
 * core's time, and pays where the link takes longer. Nobody asks what the link is like: it is measured how much of the file
 * goes by, as its chunks are stored and together, and what is faster is done. Pure, but for a clock.
 *
 *     stored ──little goes by──▶ together ──less of the file goes by, or it is hardly smaller──▶ stored, and longer each time ─▶ …
 *        ▲──────────────────────────┴─ the link does not keep it waiting any more: how fast is it as stored?
 */
import {
  SOLID_GAIN_MIN,
  SOLID_LINK_BYTES_MAX,
  SOLID_MEASURED_BYTES,
  SOLID_PAUSE_BYTES,
  SOLID_PAUSE_BYTES_MAX,
  SOLID_TRIED_BYTES,
} from "../limits.ts";

/** What differs by less may be chance. */
const SLOWER_SHARE = 0.9;
/** Whoever waits for less than this share of the time is what others wait for. */
const WAITING_SHARE_MIN = 0.1;

/** Since a moment: bytes on the wire and of the file, and milliseconds in which there was no room. */
interface Measured {
  readonly from: number;
  wire: number;
  plain: number;
  waitedMs: number;
}

/** Chunks of so many plain bytes, stored as so many, became so many together in so many milliseconds. */
export interface SolidCost {
  readonly plain: number;
  readonly stored: number;
  readonly together: number;
  readonly ms: number;
}

export class SolidPace {
  readonly #windowBytes: number;
  readonly #now: () => number;
  #isTogether = false;
  #measured: Measured | undefined;
  #handedAt = 0;
  /** Bytes of the file in a millisecond. */
  #storedRate = 0;
  #togetherRate: number | undefined;
  /** Bytes on the wire before it is the link, and not its buffers, that says when there is room; or before it is tried again. */
  #unmeasured: number;
  #pause = SOLID_PAUSE_BYTES;
  #sinceStored = 0;
  /** What chunks have been as they are stored, and what became of them. */
  #storedBytes = 0;
  #madeBytes = 0;
  #plainBytes = 0;
  #madeMs = 0;
  #tried = false;

  /** `windowBytes` may be on their way. */
  constructor(windowBytes: number, now: () => number = () => performance.now()) {
    this.#windowBytes = windowBytes;
    this.#now = now;
    this.#unmeasured = windowBytes;
  }

  /** Whether the next chunks are to go together. */
  get isTogether(): boolean {
    return this.#isTogether;
  }

  /** There is room for a message: what was handed over before went by meanwhile. */
  wanted(): void {
    if (this.#unmeasured > 0) return;
    const now = this.#now();
    const measured = this.#measured;
    if (measured === undefined) return this.#measure(now);
    measured.waitedMs += now - this.#handedAt;
    const ms = now - measured.from;
    if (measured.wire < SOLID_MEASURED_BYTES || ms <= 0) return;
    this.#measure(now);
    if (this.#isTogether) this.#decideTogether(measured, ms);
    else this.#decideStored(measured, ms);
  }

  /** A message is handed over. */
  handed(wireBytes: number, plainBytes: number): void {
    if (this.#unmeasured > 0) this.#unmeasured -= wireBytes;
    if (this.#isTogether) this.#sinceStored += wireBytes;
    if (this.#measured === undefined) return;
    this.#measured.wire += wireBytes;
    this.#measured.plain += plainBytes;
    this.#handedAt = this.#now();
  }

  /**
   * Chunks were compressed together, and it was their turn. A core that cannot keep up
   * with what went by as it is stored is found out before much depends on it.
   */
  made(made: SolidCost): void {
    this.#storedBytes += made.stored;
    this.#madeBytes += made.together;
    this.#plainBytes += made.plain;
    this.#madeMs += made.ms;
    if (this.#plainBytes < SOLID_TRIED_BYTES || this.#tried) return;
    this.#tried = true;
    if (this.#plainBytes < this.#storedRate * this.#madeMs) this.#giveUp();
  }

  #measure(now: number): void {
    this.#measured = { from: now, wire: 0, plain: 0, waitedMs: 0 };
    this.#handedAt = now;
  }

  #decideStored({ wire, plain }: Measured, ms: number): void {
    this.#storedRate = plain / ms;
    if ((wire / ms) * 1000 >= SOLID_LINK_BYTES_MAX) return;
    if (this.#storedRate < (this.#togetherRate ?? Number.POSITIVE_INFINITY)) this.#go(true, 0);
  }

  #decideTogether({ plain, waitedMs }: Measured, ms: number): void {
    this.#togetherRate = plain / ms;
    const isSlower = this.#togetherRate < this.#storedRate * SLOWER_SHARE;
    if (isSlower || this.#madeBytes > this.#storedBytes * (1 - SOLID_GAIN_MIN)) {
      this.#giveUp();
    } else if (waitedMs < ms * WAITING_SHARE_MIN && this.#sinceStored > SOLID_PAUSE_BYTES) this.#go(false, 0);
  }

  /** It is of no use now, and tried again later. */
  #giveUp(): void {
    this.#togetherRate = undefined;
    this.#go(false, this.#pause);
    this.#pause = Math.min(this.#pause * 2, SOLID_PAUSE_BYTES_MAX);
  }

  /** What is on its way still goes by at the pace of before. */
  #go(isTogether: boolean, pause: number): void {
    this.#isTogether = isTogether;
    this.#unmeasured = Math.max(pause, this.#windowBytes);
    this.#measured = undefined;
    this.#sinceStored = 0;
    [this.#storedBytes, this.#madeBytes, this.#plainBytes, this.#madeMs] = [0, 0, 0, 0];
    this.#tried = false;
  }
}
