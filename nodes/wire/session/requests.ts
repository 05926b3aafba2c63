/**
 * What one session is asked and asks. `Requests` are those of this side that are not answered for good. Those whose bytes would
 * be too many for the peer at once wait here (held) until others are answered, so that a request's bytes are never in nobody's
 * budget.
 *
 *   held ──▶ queued ──▶ sent ──▶ settled
 */
import { Priority } from "../../../packets/envelope.ts";
import type { MessageType } from "../../../packets/envelope.ts";
import { WireError, WireErrorCode } from "../../errors.ts";
import { REQUESTS_PER_LINK_MAX, REQUESTS_OUTSTANDING_BYTES_MAX, STREAM_CREDIT_BYTES } from "../../limits.ts";
import type { OutFrame } from "./message.ts";
import { PriorityQueue } from "./send-queue.ts";

interface OpenRequest {
  readonly frame: OutFrame;
  readonly isStream: boolean;
  /** By the session's loop clock. */
  readonly deadline: number;
  readonly silenceMs: number;
  /** When the peer last spoke of it; until then, when it was asked, and when it left. */
  heardAt: number;
  state: "held" | "queued" | "sent";
  /** Bytes of a stream's replies that came and were not taken. */
  waiting: number;
  /** Bytes of a stream's replies that were taken and that the peer does not know of. */
  untold: number;
}

/** A stream's replies may exceed its credit by the one message that was begun while there was room. */
const STREAM_BYTES_MAX = STREAM_CREDIT_BYTES * 4;
const LOWEST: Priority = Priority.bulk;

export interface OpenOptions {
  readonly isStream: boolean;
  /** When it is over, whatever the peer says. */
  readonly deadline: number;
  readonly silenceMs: number;
}

/** A request whose time is over: all that it had, or what the peer may be silent for. */
export interface Expired {
  readonly request: number;
  readonly type: MessageType;
  /** Since when the peer has said nothing about it; undefined where that is not the reason. */
  readonly silentSince: number | undefined;
}

export class Requests {
  readonly #requests = new Map<number, OpenRequest>();
  readonly #held = new PriorityQueue<number>();
  #lastRequest = 0;
  #outstandingBytes = 0;
  /** No request's time is over before. */
  #earliest = Number.POSITIVE_INFINITY;

  get isEmpty(): boolean {
    return this.#requests.size === 0;
  }

  get heldBytes(): number {
    return this.#held.bytes;
  }

  /** A number for a new request. Throws PFS_PEER_BUSY when there are too many. */
  nextRequest(peer: string): number {
    if (this.#requests.size >= REQUESTS_PER_LINK_MAX) {
      const message = `${peer} has ${REQUESTS_PER_LINK_MAX} unanswered requests from here already`;
      throw new WireError(WireErrorCode.busy, message, { peer });
    }
    return ++this.#lastRequest;
  }

  /** Writes a request down. Whether it may be queued now; otherwise `released` gives it back later. */
  open(frame: OutFrame, options: OpenOptions, time: number): boolean {
    const mayGo = this.#mayGo(frame.cost);
    const state = mayGo ? "queued" : "held";
    const entry: OpenRequest = { frame, ...options, heardAt: time, state, waiting: 0, untold: 0 };
    this.#requests.set(frame.request, entry);
    this.#earliest = Math.min(this.#earliest, options.deadline, time + options.silenceMs);
    if (mayGo) this.#outstandingBytes += frame.cost;
    else this.#held.push(frame.request, frame.priority, frame.cost);
    return mayGo;
  }

  /** The request's frame leaves. Whether it still should: it may have been withdrawn. */
  leaves(request: number, time: number): boolean {
    const entry = this.#requests.get(request);
    if (entry === undefined) return false;
    entry.state = "sent";
    entry.heardAt = time;
    return true;
  }

  /** The peer speaks of the request: it replies, or says that it is at work. What kind of request it is, if there is one. */
  heard(request: number, time: number): MessageType | undefined {
    const entry = this.#requests.get(request);
    if (entry === undefined) return undefined;
    entry.heardAt = time;
    return entry.frame.type;
  }

  /** So much time passed that is nobody's silence. */
  excuse(milliseconds: number): void {
    for (const entry of this.#requests.values()) entry.heardAt += milliseconds;
  }

  has(request: number): boolean {
    return this.#requests.has(request);
  }

  /** Forgets a request. Whether the peer knows of it; undefined when there is no such request. */
  settle(request: number): boolean | undefined {
    const entry = this.#requests.get(request);
    if (entry === undefined) return undefined;
    this.#requests.delete(request);
    if (entry.state !== "held") this.#outstandingBytes -= entry.frame.cost;
    return entry.state === "sent";
  }

  /** The next held request that may go now. */
  released(): OutFrame | undefined {
    for (;;) {
      const request = this.#held.take(LOWEST, (cost) => this.#mayGo(cost));
      if (request === undefined) return undefined;
      const entry = this.#requests.get(request);
      if (entry === undefined) continue;
      entry.state = "queued";
      this.#outstandingBytes += entry.frame.cost;
      return entry.frame;
    }
  }

  /** A reply came that is not the last. Whether the peer kept to the stream's credit. */
  replied(request: number, cost: number): boolean {
    const entry = this.#requests.get(request);
    if (entry === undefined) return true;
    entry.waiting += cost;
    return entry.waiting <= STREAM_BYTES_MAX;
  }

  isStream(request: number): boolean {
    return this.#requests.get(request)?.isStream === true;
  }

  /** Replies were taken. The bytes to tell the peer about, 0 when that can wait. */
  taken(request: number, cost: number): number {
    const entry = this.#requests.get(request);
    if (entry === undefined) return 0;
    entry.waiting -= cost;
    entry.untold += cost;
    if (entry.untold < STREAM_CREDIT_BYTES / 4) return 0;
    const credit = entry.untold;
    entry.untold = 0;
    return credit;
  }

  /**
   * Requests whose time is over. Where many bytes have to cross the line, before a request or with its answer, the peer is
   * not silent as long as bytes move: `movedAt` is when they last did.
   */
  expired(time: number, movedAt: number): Expired[] {
    if (time < this.#earliest) return [];
    const over: Expired[] = [];
    this.#earliest = Number.POSITIVE_INFINITY;
    for (const [request, { frame, state, deadline, silenceMs, heardAt }] of this.#requests) {
      const { type, priority } = frame;
      const isBehindBytes = state !== "sent" || priority === Priority.bulk;
      const since = isBehindBytes ? Math.max(heardAt, movedAt) : heardAt;
      if (deadline <= time) over.push({ request, type, silentSince: undefined });
      else if (since + silenceMs <= time) over.push({ request, type, silentSince: since });
      else this.#earliest = Math.min(this.#earliest, deadline, since + silenceMs);
    }
    return over;
  }

  /** Forgets everything, and says what it was. */
  clear(): number[] {
    const requests = [...this.#requests.keys()];
    this.#requests.clear();
    this.#held.clear();
    return requests;
  }

  #mayGo(cost: number): boolean {
    return this.#outstandingBytes === 0 || this.#outstandingBytes + cost <= REQUESTS_OUTSTANDING_BYTES_MAX;
  }
}

interface OpenResponse {
  /** Bytes that the reader still has room for; below zero by the last message that began while there was room. */
  room: number;
  readonly held: OutFrame[];
  /** The class of the first reply, and so of all: in different classes they would overtake each other. */
  priority: Priority | undefined;
  /** Whether the last reply was given, though it may be held. */
  isComplete: boolean;
}

/**
 * The peer's requests that are not answered for good. Replies of a stream beyond what its reader has room for wait here,
 * in order, until the reader takes some.
 */
export class Responses {
  readonly #responses = new Map<number, OpenResponse>();
  #heldBytes = 0;

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Writes a request of the peer down, unless there are too many, or one under that number already. */
  open(request: number): "opened" | "full" | "repeated" {
    if (this.#responses.has(request)) return "repeated";
    if (this.#responses.size >= REQUESTS_PER_LINK_MAX) return "full";
    this.#responses.set(request, {
      room: STREAM_CREDIT_BYTES,
      held: [],
      priority: undefined,
      isComplete: false,
    });
    return "opened";
  }

  /** Whether an answer is still wanted. */
  isOpen(request: number): boolean {
    return this.#responses.get(request)?.isComplete === false;
  }

  hasRoom(request: number): boolean {
    const answer = this.#responses.get(request);
    return answer === undefined || (answer.room > 0 && answer.held.length === 0);
  }

  /** Answers; the frames that may leave now. */
  answer(request: number, frame: OutFrame, isLast: boolean): OutFrame[] {
    const answer = this.#responses.get(request);
    if (answer === undefined) return [];
    answer.isComplete = isLast;
    answer.priority ??= frame.priority;
    answer.held.push(answer.priority === frame.priority ? frame : { ...frame, priority: answer.priority });
    this.#heldBytes += frame.cost;
    return this.#release(request, answer);
  }

  /** The reader took `bytes`; the frames that may leave now. */
  credited(request: number, bytes: number): OutFrame[] {
    const answer = this.#responses.get(request);
    if (answer === undefined) return [];
    answer.room = Math.min(STREAM_CREDIT_BYTES, answer.room + bytes);
    return this.#release(request, answer);
  }

  /** The asker does not want the answer any more. Whether it was still missing. */
  withdraw(request: number): boolean {
    const answer = this.#responses.get(request);
    if (answer === undefined) return false;
    this.#responses.delete(request);
    for (const frame of answer.held) this.#heldBytes -= frame.cost;
    return !answer.isComplete;
  }

  /** Forgets everything, and says what was not answered. */
  clear(): number[] {
    const requests = [...this.#responses]
      .filter(([, { isComplete }]) => !isComplete)
      .map(([request]) => request);
    this.#responses.clear();
    this.#heldBytes = 0;
    return requests;
  }

  #release(request: number, answer: OpenResponse): OutFrame[] {
    const frames: OutFrame[] = [];
    // The last reply ends the stream, so it needs no room of its own.
    while (answer.held.length > 0 && (answer.room > 0 || (answer.isComplete && answer.held.length === 1))) {
      const frame = answer.held.shift()!;
      this.#heldBytes -= frame.cost;
      answer.room -= frame.cost;
      frames.push(frame);
    }
    if (answer.isComplete && answer.held.length === 0) this.#responses.delete(request);
    return frames;
  }
}
