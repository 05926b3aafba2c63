/**
 * Whether chunks that are being sent should be compressed better than they are stored, several of them together: that takes a
 * core's time, and pays where the link takes longer. Nobody asks what the link is like: it is measured how much goes by,
 * as chunks are stored and together. A link takes as many bytes of either in the same time, so that more of the file goes by
 * together; a receiver or a core that others wait for does not. Pure, but for a clock.
 *
 *     stored ──little goes by──▶ together ──no more goes by, or it is hardly smaller──▶ stored, and longer each time ─▶ …
 *        ▲──────────────────────────┴─ for a while, or nobody waits for the link: how fast is it as stored?
 */
import {
  SOLID_GAIN_MIN,
  SOLID_LINK_BYTES_MAX,
  SOLID_MEASURED_BYTES,
  SOLID_PAUSE_BYTES,
  SOLID_PAUSE_BYTES_MAX,
  SOLID_SURE_BYTES,
  SOLID_TRIED_BYTES,
} from "../limits.ts";

/** Of what is saved of bytes, as much is to be gained of time: less is what a receiver or a core is glad of, and not a link. */
const GAINED_SHARE = 0.5;
/** One measurement may be chance. */
const WORSE_MAX = 2;
/** Whoever waits for less than this share of the time is what others wait for. */
const WAITING_SHARE_MIN = 0.1;

/** Since a moment: bytes on the wire, what they would be as they are stored, and milliseconds in which there was no room. */
interface Measured {
  readonly from: number;
  wire: number;
  stored: number;
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
  /** Bytes as they are stored that went by in a millisecond: as such, and together. */
  #storedRate = 0;
  #togetherRate: number | undefined;
  /** What would be gained of that if the link alone took time. */
  #gain = 1;
  /** Measurements, one after the other, in which too little was gained. */
  #worse = 0;
  /** Bytes on the wire before it is the link, and not its buffers, that says when there is room; or before it is tried again. */
  #unmeasured: number;
  #pause = SOLID_PAUSE_BYTES;
  #sinceStored = 0;
  /** So many go together before it is measured again how fast it is as stored. */
  #sure = SOLID_SURE_BYTES;
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

  /** A message is handed over that would be so long as its chunks are stored. */
  handed(wireBytes: number, storedBytes: number): void {
    if (this.#unmeasured > 0) this.#unmeasured -= wireBytes;
    if (this.#isTogether) this.#sinceStored += wireBytes;
    if (this.#measured === undefined) return;
    this.#measured.wire += wireBytes;
    this.#measured.stored += storedBytes;
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
    if (this.#storedBytes < this.#storedRate * this.#madeMs) this.#giveUp();
  }

  #measure(now: number): void {
    this.#measured = { from: now, wire: 0, stored: 0, waitedMs: 0 };
    this.#handedAt = now;
  }

  #decideStored({ wire }: Measured, ms: number): void {
    this.#storedRate = wire / ms;
    if (this.#storedRate * 1000 >= SOLID_LINK_BYTES_MAX) return;
    if (!this.#isTooLittle()) this.#go(true, 0);
    else this.#giveUp();
  }

  #decideTogether({ wire, stored, waitedMs }: Measured, ms: number): void {
    this.#togetherRate = stored / ms;
    this.#gain = stored / wire;
    this.#worse = this.#isTooLittle() ? this.#worse + 1 : 0;
    const isHardlySmaller = this.#madeBytes > this.#storedBytes * (1 - SOLID_GAIN_MIN);
    if (this.#worse >= WORSE_MAX || isHardlySmaller) return this.#giveUp();
    const isSure = this.#sinceStored < this.#sure;
    if (isSure && (waitedMs >= ms * WAITING_SHARE_MIN || this.#sinceStored <= SOLID_PAUSE_BYTES)) return;
    if (!isSure) this.#sure = Math.min(this.#sure * 2, SOLID_PAUSE_BYTES_MAX);
    this.#go(false, 0);
  }

  /** Whether that more of the file goes by together is not what a link would make of it. */
  #isTooLittle(): boolean {
    if (this.#togetherRate === undefined) return false;
    return this.#togetherRate < this.#storedRate * (1 + (this.#gain - 1) * GAINED_SHARE);
  }

  /** It is of no use now, and tried again later. */
  #giveUp(): void {
    this.#togetherRate = undefined;
    this.#sure = SOLID_SURE_BYTES;
    this.#go(false, this.#pause);
    this.#pause = Math.min(this.#pause * 2, SOLID_PAUSE_BYTES_MAX);
  }

  /** What is on its way still goes by at the pace of before. */
  #go(isTogether: boolean, pause: number): void {
    this.#isTogether = isTogether;
    this.#unmeasured = Math.max(pause, this.#windowBytes);
    this.#measured = undefined;
    this.#sinceStored = 0;
    this.#worse = 0;
    [this.#storedBytes, this.#madeBytes, this.#plainBytes, this.#madeMs] = [0, 0, 0, 0];
    this.#tried = false;
  }
}
