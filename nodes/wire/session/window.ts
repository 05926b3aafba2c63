/**
 * How many bytes may be under way to a peer. Bytes that were handed to ZeroMQ cannot be overtaken, so there must be few of
 * them, yet enough to keep the line busy: what it moves in a quarter of a second. The peer says what came (credit).
 */
import { CREDIT_BYTES, LINK_WINDOW_BYTES, LINK_WINDOW_BYTES_MIN, LINK_WINDOW_MS } from "../../limits.ts";

const START_BYTES = 4 * 1024 * 1024;
/** A line's speed is measured over at least this long. */
const SAMPLE_MS = 50;

export class SendWindow {
  #unacknowledged = 0;
  #limit = START_BYTES;
  #sampleStart: number | undefined;
  #sampleBytes = 0;

  /** Bytes that may be under way. */
  get limit(): number {
    return this.#limit;
  }

  /** Whether `bytes` more may leave. A message larger than the window leaves when nothing is under way. */
  admits(bytes: number, now: number): boolean {
    if (this.#unacknowledged === 0 || this.#unacknowledged + bytes <= this.#limit) return true;
    // The line's speed shows only while there is more to send than the window lets through.
    this.#sampleStart ??= now;
    return false;
  }

  sent(bytes: number): void {
    this.#unacknowledged += bytes;
  }

  /** The peer has taken `bytes` more. A peer that claims more than was sent gains nothing. */
  acknowledged(bytes: number, now: number): void {
    this.#unacknowledged = Math.max(0, this.#unacknowledged - bytes);
    if (this.#sampleStart === undefined) return;
    this.#sampleBytes += bytes;
    const elapsed = now - this.#sampleStart;
    if (elapsed < SAMPLE_MS) return;
    const inWindow = (this.#sampleBytes / elapsed) * LINK_WINDOW_MS;
    this.#limit = Math.min(LINK_WINDOW_BYTES, Math.max(LINK_WINDOW_BYTES_MIN, inWindow));
    this.#sampleStart = undefined;
    this.#sampleBytes = 0;
  }
}

/** The other end: counts what came, and says when it is time to tell. */
export class ReceiveWindow {
  #untold = 0;

  received(bytes: number): void {
    this.#untold += bytes;
  }

  /** Whether there is so much to tell that it should not wait for another message to ride on. */
  get due(): boolean {
    return this.#untold >= CREDIT_BYTES;
  }

  /** Bytes to tell the peer about, from then on told. */
  take(): number {
    const bytes = Math.min(this.#untold, 0xffff_ffff);
    this.#untold -= bytes;
    return bytes;
  }
}
