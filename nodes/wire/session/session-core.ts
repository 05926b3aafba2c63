/**
 * The logic of a session, without sockets, timers or clock: events go in with the time they happened at, messages to send
 * and actions to take come out. Both ends of a session run this same code.
 *
 *     ask ──▶ ask book ──┐                      receive ──▶ inbox ──▶ asked, notified
 *     answer ▶ answer book ──▶ outbox ──▶ next                  │         answered, failed
 *     notify ────────────┘                                      └──▶ withdrawn, room, closed
 *     tick ──▶ heartbeats, timeouts
 */
import { EnvelopeFlag, MessageType } from "../../../packets/envelope.ts";
import type { PacketfsError } from "../../../packets/errors.ts";
import { ASK_QUEUE_BYTES_MAX, LINK_QUEUE_BYTES_MAX, LINK_QUEUE_LOW_BYTES } from "../../limits.ts";
import { AnswerBook } from "./responses.ts";
import { AskBook } from "./requests.ts";
import { errorFrame, errorOf } from "./error-frame.ts";
import { isRequest, outFrame } from "./message.ts";
import type { OutFrame } from "./message.ts";
import { Inbox } from "./inbox.ts";
import type { LinkAction } from "./link-action.ts";
import { busy, endedBy, expired, lost, offence, slow, unknownType } from "./link-errors.ts";
import type { OutMessage, WireMessage } from "../link.ts";
import { Outbox } from "./outbox.ts";
import { PING, PONG, streamCredit } from "./own-frames.ts";
import { Pulse } from "./heartbeat.ts";

export interface AskOptions {
  readonly isStream?: boolean;
  readonly timeoutMs?: number | undefined;
}

export class LinkCore {
  readonly #peer: string;
  readonly #actions: LinkAction[] = [];
  readonly #asks = new AskBook();
  readonly #answers = new AnswerBook();
  readonly #outbox = new Outbox((frame) => !isRequest(frame) || this.#asks.leaves(frame.request));
  readonly #pulse: Pulse;
  readonly #inbox: Inbox;
  #hadFewBuffered = true;
  #closed: PacketfsError | undefined;

  /** `peer` names the peer in errors. */
  constructor(peer: string, now: number) {
    this.#peer = peer;
    this.#pulse = new Pulse(now);
    const { sendWindow, receiveWindow } = this.#outbox;
    this.#inbox = new Inbox({ pulse: this.#pulse, sendWindow, receiveWindow });
  }

  /** Bytes that wait to be sent. */
  get bufferedBytes(): number {
    return this.#outbox.bytes + this.#asks.heldBytes + this.#answers.heldBytes;
  }

  get hasFewBuffered(): boolean {
    return this.#closed !== undefined || this.bufferedBytes < LINK_QUEUE_LOW_BYTES;
  }

  /** Why the session is over, or undefined. */
  get closed(): PacketfsError | undefined {
    return this.#closed;
  }

  /** Whether everything that was to be said has left, a goodbye included. */
  get isFlushed(): boolean {
    return this.#outbox.isEmpty;
  }

  takeActions(): LinkAction[] {
    return this.#actions.splice(0);
  }

  /** Asks the peer; the number names the request from then on. Throws PFS_PEER_SLOW, PFS_PEER_BUSY, or the session's end. */
  ask(message: OutMessage, { isStream = false, timeoutMs }: AskOptions, now: number): number {
    if (this.#closed !== undefined) throw this.#closed;
    const request = this.#asks.nextRequest(this.#peer);
    const frame = outFrame(message, {
      request,
      deadlineMs: Math.min(0xffff_ffff, Math.ceil(timeoutMs ?? 0)),
    });
    if (this.bufferedBytes + frame.cost > ASK_QUEUE_BYTES_MAX) throw slow(this.#peer, this.bufferedBytes);
    const deadline = timeoutMs === undefined ? Number.POSITIVE_INFINITY : now + timeoutMs;
    if (this.#asks.open(frame, { isStream, deadline })) this.#push(frame);
    return request;
  }

  /** The answer is not wanted any more: the request fails with `error`, and the peer is told if it knows of it. */
  withdraw(request: number, error: PacketfsError): void {
    const wasSent = this.#asks.settle(request);
    if (wasSent === undefined) return;
    this.#actions.push({ kind: "failed", request, error });
    if (wasSent) this.#push(errorFrame(error, request, false));
    this.#releaseAsks();
  }

  /** A stream's reader took a reply of this cost. */
  taken(request: number, cost: number): void {
    const bytes = this.#asks.taken(request, cost);
    if (bytes > 0) this.#push(streamCredit(request, bytes));
  }

  /** Throws PFS_MESSAGE_TOO_LARGE. */
  notify(message: OutMessage): void {
    if (this.#closed !== undefined) return;
    this.#push(outFrame(message));
  }

  /** Answers the peer's request, unless it was withdrawn or answered for good. */
  answer(request: number, message: OutMessage, isLast: boolean): void {
    if (this.#closed !== undefined || !this.#answers.isOpen(request)) return;
    const flags = EnvelopeFlag.REPLY | (isLast ? 0 : EnvelopeFlag.MORE);
    const frame = outFrame(message, { request, flags });
    for (const ready of this.#answers.answer(request, frame, isLast)) this.#push(ready);
    this.#checkBuffered();
  }

  /** Whether the peer still waits for an answer to its request. */
  isWanted(request: number): boolean {
    return this.#answers.isOpen(request);
  }

  /** Whether the asker takes another reply of a stream now. */
  hasRoom(request: number): boolean {
    return this.#closed !== undefined || (this.#answers.hasRoom(request) && this.hasFewBuffered);
  }

  /** Ends the session in order: what waits still leaves, then the reason. */
  close(error: PacketfsError): void {
    if (this.#closed !== undefined) return;
    this.#outbox.pushGoodbye(errorFrame(error, 0, false));
    this.#finish(error);
  }

  /** Ends the session at once, with nothing but the reason. */
  end(error: PacketfsError): void {
    this.#outbox.clear();
    this.close(error);
  }

  /** The session is over, and nothing can be said any more. */
  lose(reason: string): void {
    this.#outbox.clear();
    if (this.#closed === undefined) this.#finish(lost(this.#peer, reason));
  }

  /** Takes a message's parts, as they came. */
  receive(parts: readonly Uint8Array[], now: number): void {
    if (this.#closed !== undefined) return;
    const arrival = this.#inbox.take(parts, now);
    switch (arrival.kind) {
      case "nothing":
        return;
      case "invalid":
        return this.end(offence(this.#peer, arrival.reason));
      case "gap":
        return this.lose("messages were lost on the way");
      case "goodbye":
        this.#outbox.clear();
        return this.#finish(endedBy(this.#peer, arrival.error));
      case "unknown":
        return this.#push(errorFrame(unknownType(arrival.type), arrival.request, true));
      case "ping":
        return this.#push(PONG);
      case "credit":
        for (const frame of this.#answers.credited(arrival.request, arrival.bytes)) this.#push(frame);
        return void this.#actions.push({ kind: "room" });
      case "withdrawal":
        if (this.#answers.withdraw(arrival.request)) {
          this.#actions.push({ kind: "withdrawn", request: arrival.request });
        }
        return;
      case "reply":
        return this.#replied(arrival.message, arrival.isLast, arrival.cost);
      case "request":
        return this.#asked(arrival.message);
      case "notification":
        return void this.#actions.push({ kind: "notified", message: arrival.message });
    }
  }

  /** Time passes: requests expire, silence is broken or means loss. */
  tick(now: number): void {
    if (this.#closed !== undefined) return;
    if (this.#pulse.isLost(now)) return this.lose("it has been silent for too long");
    if (this.#pulse.isPingDue(now)) this.#push(PING);
    for (const request of this.#asks.expired(now)) this.withdraw(request, expired(this.#peer));
  }

  /** Makes the peer answer. */
  ping(): void {
    this.#push(PING);
  }

  /** The parts of the next message to send; undefined when there is none, or when the peer must take some first. */
  next(now: number): Uint8Array[] | undefined {
    const parts = this.#outbox.next(now);
    if (parts !== undefined) this.#pulse.said(now);
    this.#noticeRoom();
    return parts;
  }

  #asked(message: WireMessage): void {
    const request = message.requestId;
    const opened = this.#answers.open(request);
    if (opened === "repeated") return this.end(offence(this.#peer, "a request's number is taken already"));
    if (opened === "full") return this.#push(errorFrame(busy(this.#peer), request, true));
    this.#actions.push({ kind: "asked", request, message });
  }

  #replied(message: WireMessage, hasNoMore: boolean, cost: number): void {
    const { requestId: request, type } = message;
    const isLast = hasNoMore || type === MessageType.ERROR;
    // What was withdrawn may be answered while the peer does not know that yet.
    if (!this.#asks.has(request)) return;
    if (isLast) {
      this.#asks.settle(request);
      this.#releaseAsks();
    } else {
      if (!this.#asks.replied(request, cost)) {
        return this.end(offence(this.#peer, "more replies than there was room for"));
      }
      // Who wants one reply gets the last one.
      if (!this.#asks.isStream(request)) return this.taken(request, cost);
    }
    if (type === MessageType.ERROR) this.#actions.push({ kind: "failed", request, error: errorOf(message) });
    else this.#actions.push({ kind: "answered", request, message, isLast, cost });
  }

  #releaseAsks(): void {
    for (;;) {
      const frame = this.#asks.released();
      if (frame === undefined) return;
      this.#push(frame);
    }
  }

  #push(frame: OutFrame): void {
    if (this.#closed !== undefined) return;
    this.#outbox.push(frame);
    this.#noticeRoom();
    this.#checkBuffered();
  }

  #checkBuffered(): void {
    if (this.bufferedBytes > LINK_QUEUE_BYTES_MAX) this.end(slow(this.#peer, this.bufferedBytes));
  }

  #noticeRoom(): void {
    const hasFew = this.hasFewBuffered;
    if (hasFew && !this.#hadFewBuffered) this.#actions.push({ kind: "room" });
    this.#hadFewBuffered = hasFew;
  }

  #finish(error: PacketfsError): void {
    this.#closed = error;
    for (const request of this.#asks.clear()) this.#actions.push({ kind: "failed", request, error });
    for (const request of this.#answers.clear()) this.#actions.push({ kind: "withdrawn", request });
    this.#actions.push({ kind: "room" }, { kind: "closed", error });
  }
}
