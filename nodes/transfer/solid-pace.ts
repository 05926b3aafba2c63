/**
 * Whether chunks that are being sent should be compressed better than they are stored, several of them together: that takes a
 * core's time, and pays where the link takes longer. Nobody asks what the link is like: it is measured how much goes by,
 * as chunks are stored and together, and what is faster is done. Where the receiver is what others wait for, fewer bytes are no
 * help. Pure, but for a clock.
 *
 *     stored ──little goes by, through the link──▶ together ──less, or hardly smaller, or the receiver is slow──▶ stored, and longer each time ─▶ …
 *        ▲────────────────────────────────────────┴─ a core takes the time: how fast is it as stored?
 */
import {
  SOLID_CORE_BYTES,
  SOLID_GAIN_MIN,
  SOLID_LINK_BYTES_MAX,
  SOLID_MEASURED_BYTES,
  SOLID_PAUSE_BYTES,
  SOLID_PAUSE_BYTES_MAX,
  SOLID_TRIED_BYTES,
} from "../limits.ts";
import type { Bottleneck } from "./replication/sender.ts";

/** What differs by less may be chance. */
const SLOWER_SHARE = 0.9;
/** Messages come in bursts: one measurement may be chance, too. */
const SLOWER_TIMES = 2;

/** Since a moment: bytes on the wire, what they would be as they are stored, and how often what took the time. */
interface Measured {
  readonly from: number;
  wire: number;
  stored: number;
  readonly looks: Record<Bottleneck, number>;
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
  /** Bytes as they are stored that went by in a millisecond: as such, and together. */
  #storedRate = 0;
  #togetherRate: number | undefined;
  /** Measurements, one after the other, by which it is slower together. */
  #slower = 0;
  /** Bytes on the wire before it is the link, and not its buffers, that says when there is room; or before it is tried again. */
  #unmeasured: number;
  #pause = SOLID_PAUSE_BYTES;
  #sinceStored = 0;
  #coreBytes = SOLID_CORE_BYTES;
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

  /** There is room for a message: what was handed over before went by meanwhile, or lies at the receiver. */
  wanted(bottleneck: Bottleneck): void {
    if (this.#unmeasured > 0) return;
    const now = this.#now();
    const measured = this.#measured;
    if (measured === undefined) return this.#measure(now);
    measured.looks[bottleneck]++;
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
    this.#measured = { from: now, wire: 0, stored: 0, looks: { link: 0, receiver: 0, sender: 0 } };
  }

  #decideStored({ wire, looks }: Measured, ms: number): void {
    this.#storedRate = wire / ms;
    if (this.#storedRate * 1000 >= SOLID_LINK_BYTES_MAX || isMost(looks, "receiver")) return;
    if (this.#storedRate < (this.#togetherRate ?? Number.POSITIVE_INFINITY)) this.#go(true, 0);
  }

  #decideTogether({ stored, looks }: Measured, ms: number): void {
    this.#togetherRate = stored / ms;
    this.#slower = this.#togetherRate < this.#storedRate * SLOWER_SHARE ? this.#slower + 1 : 0;
    const isHardlySmaller = this.#madeBytes > this.#storedBytes * (1 - SOLID_GAIN_MIN);
    if (this.#slower >= SLOWER_TIMES || isHardlySmaller || isMost(looks, "receiver")) this.#giveUp();
    else if (isMost(looks, "sender") && this.#sinceStored > this.#coreBytes) {
      this.#coreBytes = Math.min(this.#coreBytes * 2, SOLID_PAUSE_BYTES_MAX);
      this.#go(false, 0);
    }
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
    this.#slower = 0;
    [this.#storedBytes, this.#madeBytes, this.#plainBytes, this.#madeMs] = [0, 0, 0, 0];
    this.#tried = false;
  }
}

function isMost(looks: Readonly<Record<Bottleneck, number>>, bottleneck: Bottleneck): boolean {
  return looks[bottleneck] * 2 > looks.link + looks.receiver + looks.sender;
}
