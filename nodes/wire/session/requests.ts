/**
 * The requests of this side that are not answered for good. Those whose bytes would be too many for the peer at once wait
 * here (held) until others are answered, so that a request's bytes are never in nobody's budget.
 *
 *   held ──▶ queued ──▶ sent ──▶ settled
 */
import type { Priority } from "../../../packets/envelope.ts";
import { WireError, WireErrorCode } from "../../errors.ts";
import { REQUESTS_PER_LINK_MAX, REQUEST_WINDOW_BYTES, STREAM_WINDOW_BYTES } from "../../limits.ts";
import type { OutFrame } from "./message.ts";
import { SendQueue } from "./send-queue.ts";

interface Ask {
  readonly frame: OutFrame;
  readonly isStream: boolean;
  readonly deadline: number;
  state: "held" | "queued" | "sent";
  /** Bytes of a stream's replies that came and were not taken. */
  waiting: number;
  /** Bytes of a stream's replies that were taken and that the peer does not know of. */
  untold: number;
}

/** A stream's replies may exceed its window by the one message that was begun while there was room. */
const STREAM_BYTES_MAX = STREAM_WINDOW_BYTES * 4;
const LOWEST: Priority = 2;

export class AskBook {
  readonly #asks = new Map<number, Ask>();
  readonly #held = new SendQueue<number>();
  #lastRequest = 0;
  #outstandingBytes = 0;
  #earliestDeadline = Number.POSITIVE_INFINITY;

  get heldBytes(): number {
    return this.#held.bytes;
  }

  /** A number for a new request. Throws PFS_PEER_BUSY when there are too many. */
  nextRequest(peer: string): number {
    if (this.#asks.size >= REQUESTS_PER_LINK_MAX) {
      const message = `${peer} has ${REQUESTS_PER_LINK_MAX} unanswered requests from here already`;
      throw new WireError(WireErrorCode.busy, message, { peer });
    }
    return ++this.#lastRequest;
  }

  /** Writes a request down. Whether it may be queued now; otherwise `released` gives it back later. */
  open(frame: OutFrame, options: { readonly isStream: boolean; readonly deadline: number }): boolean {
    const mayGo = this.#mayGo(frame.cost);
    const { isStream, deadline } = options;
    const state = mayGo ? "queued" : "held";
    this.#asks.set(frame.request, { frame, isStream, deadline, state, waiting: 0, untold: 0 });
    this.#earliestDeadline = Math.min(this.#earliestDeadline, deadline);
    if (mayGo) this.#outstandingBytes += frame.cost;
    else this.#held.push(frame.request, frame.priority, frame.cost);
    return mayGo;
  }

  /** The request's frame leaves. Whether it still should: it may have been withdrawn. */
  leaves(request: number): boolean {
    const ask = this.#asks.get(request);
    if (ask !== undefined) ask.state = "sent";
    return ask !== undefined;
  }

  has(request: number): boolean {
    return this.#asks.has(request);
  }

  /** Forgets a request. Whether the peer knows of it; undefined when there is no such request. */
  settle(request: number): boolean | undefined {
    const ask = this.#asks.get(request);
    if (ask === undefined) return undefined;
    this.#asks.delete(request);
    if (ask.state !== "held") this.#outstandingBytes -= ask.frame.cost;
    return ask.state === "sent";
  }

  /** The next held request that may go now. */
  released(): OutFrame | undefined {
    for (;;) {
      const request = this.#held.take(LOWEST, (cost) => this.#mayGo(cost));
      if (request === undefined) return undefined;
      const ask = this.#asks.get(request);
      if (ask === undefined) continue;
      ask.state = "queued";
      this.#outstandingBytes += ask.frame.cost;
      return ask.frame;
    }
  }

  /** A reply came that is not the last. Whether the peer kept to the stream's window. */
  replied(request: number, cost: number): boolean {
    const ask = this.#asks.get(request);
    if (ask === undefined) return true;
    ask.waiting += cost;
    return ask.waiting <= STREAM_BYTES_MAX;
  }

  isStream(request: number): boolean {
    return this.#asks.get(request)?.isStream === true;
  }

  /** Replies were taken. The bytes to tell the peer about, 0 when that can wait. */
  taken(request: number, cost: number): number {
    const ask = this.#asks.get(request);
    if (ask === undefined) return 0;
    ask.waiting -= cost;
    ask.untold += cost;
    if (ask.untold < STREAM_WINDOW_BYTES / 4) return 0;
    const credit = ask.untold;
    ask.untold = 0;
    return credit;
  }

  /** Requests whose time is over. */
  expired(now: number): number[] {
    if (now < this.#earliestDeadline) return [];
    const over: number[] = [];
    this.#earliestDeadline = Number.POSITIVE_INFINITY;
    for (const [request, { deadline }] of this.#asks) {
      if (deadline <= now) over.push(request);
      else this.#earliestDeadline = Math.min(this.#earliestDeadline, deadline);
    }
    return over;
  }

  /** Forgets everything, and says what it was. */
  clear(): number[] {
    const requests = [...this.#asks.keys()];
    this.#asks.clear();
    this.#held.clear();
    return requests;
  }

  #mayGo(cost: number): boolean {
    return this.#outstandingBytes === 0 || this.#outstandingBytes + cost <= REQUEST_WINDOW_BYTES;
  }
}
