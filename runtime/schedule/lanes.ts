/**
 * A program on an executor: whether its lane is there, and how much it may hold. The window is the number of packets
 * that the lane would hold if the executor worked for it alone: about LANE_HOLDS_MS of work, and never so few that a slot
 * of the executor waits while the next packet is under way.
 *
 *              ready                    lost, failed to load
 *   loading ──────────▶ ready ─────────────────────────────────▶ down ──▶ (a new lane after a pause) | given-up
 */
import {
  LANE_HOLDS_MS,
  LANE_LOSSES_MAX,
  LANE_PAUSE_MS,
  LANE_PAUSE_MS_MAX,
  LANE_WINDOW_PACKETS_MAX,
} from "../limits.ts";

/** Failures in a row after which a lane pauses: one bad packet says nothing about an executor. */
const FAULTS_IN_ROW = 3;
/** What a window shrinks to when its packets take a little too long. */
const DECREASE = 0.8;

export type LanePhase = "loading" | "ready" | "down" | "given-up";

export class LaneState {
  readonly id: number;
  readonly executor: number;
  readonly program: number;
  readonly width: number;
  phase: LanePhase = "loading";
  /** When the phase began. */
  since: number;
  window: number;
  /** Packets sent and not answered, those nobody waits for any more included. */
  inFlight = 0;
  inFlightBytes = 0;
  /** Of those in flight: of batches that have ended, or given to another lane meanwhile. */
  writtenOff = 0;
  /** No packets before then. */
  pausedUntil = 0;
  /** How often in a row the program's lane was lost on this executor. */
  losses: number;
  /** More packets would have been sent, had the window been larger. */
  isLimited = false;
  #adjustedAt = 0;
  /** How long the packet took that was answered last. */
  #lastMs = 0;
  #faultsInRow = 0;

  constructor(
    id: number,
    place: { readonly executor: number; readonly program: number; readonly width: number },
    losses: number,
    now: number,
  ) {
    this.id = id;
    this.executor = place.executor;
    this.program = place.program;
    this.width = place.width;
    this.losses = losses;
    this.since = now;
    this.window = place.width * 2;
  }

  enter(phase: LanePhase, now: number): void {
    this.phase = phase;
    this.since = now;
  }

  isOpen(now: number): boolean {
    return this.phase === "ready" && now >= this.pausedUntil;
  }

  /** Whether its program may be loaded again on the executor. */
  mayReload(now: number): boolean {
    return this.phase === "down" && now >= this.pausedUntil;
  }

  /**
   * An answer came to a packet sent at `placedAt`. Once per round trip the window moves towards what the lane does in
   * LANE_HOLDS_MS: close to it by `step` upwards. Returns the factor by which it has to shrink, 1 when it need not.
   */
  measure(placedAt: number, now: number, step: number): number {
    this.#lastMs = Math.max(1, now - placedAt);
    if (placedAt < this.#adjustedAt) return 1;
    if (this.#lastMs > LANE_HOLDS_MS) {
      return this.window === this.width * 2 ? 1 : Math.min(DECREASE, LANE_HOLDS_MS / this.#lastMs);
    }
    if (this.isLimited)
      this.#adjust(this.#lastMs < LANE_HOLDS_MS / 2 ? this.window * 2 : this.window + step, now);
    return 1;
  }

  /** Its own packets took too long, or those of another lane of the executor did and its own not much less. */
  shrink(factor: number, now: number): void {
    if (this.#lastMs > LANE_HOLDS_MS / 2) this.#adjust(this.window * Math.max(0.5, factor), now);
  }

  succeeded(): void {
    this.#faultsInRow = 0;
    this.losses = 0;
  }

  /** An executor that fails everything fast would draw all packets to itself. */
  failed(now: number): void {
    this.#faultsInRow++;
    this.window = this.width * 2;
    if (this.#faultsInRow >= FAULTS_IN_ROW)
      this.pausedUntil = now + pauseMs(this.#faultsInRow - FAULTS_IN_ROW);
  }

  /** The lane is gone or never came. */
  goDown(now: number): void {
    this.losses++;
    this.enter(this.losses < LANE_LOSSES_MAX ? "down" : "given-up", now);
    this.pausedUntil = now + pauseMs(this.losses - 1);
    this.inFlight = 0;
    this.inFlightBytes = 0;
    this.writtenOff = 0;
  }

  #adjust(window: number, now: number): void {
    const least = this.width * 2;
    this.window = Math.min(Math.max(least, LANE_WINDOW_PACKETS_MAX), Math.max(least, window));
    this.isLimited = false;
    this.#adjustedAt = now;
  }
}

function pauseMs(times: number): number {
  return Math.min(LANE_PAUSE_MS_MAX, LANE_PAUSE_MS * 2 ** times);
}
