/**
 * The logic of a session, without sockets, timers or clock: events go in with the time they happened at, messages to send
 * and actions to take come out. Both ends of a session run this same code.
 *
 *     ask ────▶ requests ──┐                       receive ──▶ receiver ──▶ asked, notified
 *     answer ─▶ responses ─┼─▶ send queue ──▶ next                 │         answered, failed
 *     notify ──────────────┘                                       └──▶ withdrawn, room, closed
 *     tick ──▶ heartbeats, timeouts
 */
import { EnvelopeFlag, MessageType } from "../../../packets/envelope.ts";
import type { PacketfsError } from "../../../packets/errors.ts";
import {
  IDLE_TICK_MS,
  LINK_QUEUE_BYTES_MAX,
  LINK_QUEUE_LOW_BYTES,
  QUESTION_SILENCE_MS,
  REQUEST_QUEUE_BYTES_MAX,
  SUSPICION_MS,
  TICK_MS,
  TRANSFER_SILENCE_MS,
  WORK_SILENCE_MS,
} from "../../limits.ts";
import type { OutMessage, WireMessage } from "../link.ts";
import {
  busy,
  endedBy,
  errorFrame,
  errorOf,
  expired,
  lost,
  offence,
  silent,
  slow,
  unknownType,
} from "./errors.ts";
import { Heartbeat } from "./heartbeat.ts";
import { LoopClock } from "./loop-clock.ts";
import { atWork, isRequest, outFrame, PING, PONG, streamCredit } from "./message.ts";
import type { OutFrame } from "./message.ts";
import { Receiver } from "./receiver.ts";
import { Responses, Requests } from "./requests.ts";
import { SendQueue } from "./send-queue.ts";

/** What the core of a session wants the shell around it to do. */
export type SessionAction =
  /** The peer asks; `answer` the request. */
  | { readonly kind: "asked"; readonly request: number; readonly message: WireMessage }
  | { readonly kind: "notified"; readonly message: WireMessage }
  /** A reply to what was asked here. What a stream's reader took is to be given back with `taken`. */
  | {
      readonly kind: "answered";
      readonly request: number;
      readonly message: WireMessage;
      readonly isLast: boolean;
      readonly cost: number;
    }
  | { readonly kind: "failed"; readonly request: number; readonly error: PacketfsError }
  /** The asker does not want the answer any more, or (with the reason) the session is over. */
  | { readonly kind: "withdrawn"; readonly request: number; readonly error?: PacketfsError }
  /** The peer begins to leave requests without a word, or answers again. */
  | { readonly kind: "silence"; readonly isSilent: boolean }
  /** Who waits for room may look again. */
  | { readonly kind: "room" }
  /** The session is over; nothing comes after this. */
  | { readonly kind: "closed"; readonly error: PacketfsError };

export interface AskOptions {
  readonly isStream?: boolean;
  readonly timeoutMs?: number | undefined;
  readonly silenceMs?: number | undefined;
}

/** Of most events. */
const NO_ACTIONS: readonly SessionAction[] = [];

/** What a peer is silent about: requests of one type. */
interface Silence {
  /** When it last spoke of the one that was given up. */
  readonly since: number;
  readonly givenUpAt: number;
}

export class SessionCore {
  readonly #peer: string;
  #actions: SessionAction[] = [];
  readonly #requests = new Requests();
  readonly #responses = new Responses();
  readonly #sendQueue = new SendQueue(
    (frame, now) => !isRequest(frame) || this.#requests.leaves(frame.request, this.#clock.at(now)),
  );
  readonly #clock: LoopClock;
  readonly #heartbeat: Heartbeat;
  readonly #receiver: Receiver;
  readonly #silences = new Map<MessageType, Silence>();
  #hadFewBuffered = true;
  #closed: PacketfsError | undefined;

  /** `peer` names the peer in errors. */
  constructor(peer: string, now: number) {
    this.#peer = peer;
    this.#clock = new LoopClock(now);
    this.#heartbeat = new Heartbeat(now);
    const { sendWindow, receiveWindow } = this.#sendQueue;
    this.#receiver = new Receiver({
      clock: this.#clock,
      heartbeat: this.#heartbeat,
      sendWindow,
      receiveWindow,
    });
  }

  /** Bytes that wait to be sent. */
  get bufferedBytes(): number {
    return this.#sendQueue.bytes + this.#requests.heldBytes + this.#responses.heldBytes;
  }

  get hasFewBuffered(): boolean {
    return this.#closed !== undefined || this.bufferedBytes < LINK_QUEUE_LOW_BYTES;
  }

  /** Why the session is over, or undefined. */
  get closed(): PacketfsError | undefined {
    return this.#closed;
  }

  /** Whether all is well for a while: nothing was asked that may time out, and the session is not ending. */
  get isIdle(): boolean {
    return this.#closed === undefined && this.#requests.isEmpty;
  }

  /** Whether everything that was to be said has left, a goodbye included. */
  get isFlushed(): boolean {
    return this.#sendQueue.isEmpty;
  }

  takeActions(): readonly SessionAction[] {
    const actions = this.#actions;
    if (actions.length === 0) return NO_ACTIONS;
    this.#actions = [];
    return actions;
  }

  /** Asks the peer; the number names the request from then on. Throws PFS_PEER_SLOW, PFS_PEER_BUSY, or the session's end. */
  ask(message: OutMessage, options: AskOptions, now: number): number {
    const { isStream = false, timeoutMs, silenceMs = silenceFor(message.type) } = options;
    if (this.#closed !== undefined) throw this.#closed;
    const request = this.#requests.nextRequest(this.#peer);
    const frame = outFrame(message, {
      request,
      deadlineMs: Math.min(0xffff_ffff, Math.ceil(timeoutMs ?? 0)),
    });
    if (this.bufferedBytes + frame.cost > REQUEST_QUEUE_BYTES_MAX) throw slow(this.#peer, this.bufferedBytes);
    const time = this.#clock.at(now);
    const deadline = timeoutMs === undefined ? Number.POSITIVE_INFINITY : time + timeoutMs;
    if (this.#requests.open(frame, { isStream, deadline, silenceMs }, time)) this.#push(frame);
    return request;
  }

  /** The answer is not wanted any more: the request fails with `error`, and the peer is told if it knows of it. */
  withdraw(request: number, error: PacketfsError): void {
    const wasSent = this.#requests.settle(request);
    if (wasSent === undefined) return;
    this.#actions.push({ kind: "failed", request, error });
    if (wasSent) this.#push(errorFrame(error, request, false));
    this.#releaseRequests();
  }

  /** A stream's reader took a reply of this cost. */
  taken(request: number, cost: number): void {
    const bytes = this.#requests.taken(request, cost);
    if (bytes > 0) this.#push(streamCredit(request, bytes));
  }

  /** Throws PFS_MESSAGE_TOO_LARGE. */
  notify(message: OutMessage): void {
    if (this.#closed !== undefined) return;
    this.#push(outFrame(message));
  }

  /** Answers the peer's request, unless it was withdrawn or answered for good. */
  answer(request: number, message: OutMessage, isLast: boolean): void {
    if (this.#closed !== undefined || !this.#responses.isOpen(request)) return;
    const flags = EnvelopeFlag.REPLY | (isLast ? 0 : EnvelopeFlag.MORE);
    const frame = outFrame(message, { request, flags });
    for (const ready of this.#responses.answer(request, frame, isLast)) this.#push(ready);
    this.#checkBuffered();
  }

  /** The peer's request is being worked on. */
  atWork(request: number): void {
    if (this.#responses.isOpen(request)) this.#push(atWork(request));
  }

  /** Milliseconds since the peer last spoke of a request that was given up for its silence; 0 when it answers. */
  silentMs(now: number): number {
    const time = this.#clock.at(now);
    return [...this.#silences.values()].reduce((most, { since }) => Math.max(most, time - since), 0);
  }

  /** Whether a request was given up for the peer's silence lately, and none like it answered since. */
  isSuspect(now: number): boolean {
    return [...this.#silences.values()].some(({ givenUpAt }) => now < givenUpAt + SUSPICION_MS);
  }

  /** Whether the peer still waits for an answer to its request. */
  isWanted(request: number): boolean {
    return this.#responses.isOpen(request);
  }

  /** Whether the asker takes another reply of a stream now. */
  hasRoom(request: number): boolean {
    return this.#closed !== undefined || (this.#responses.hasRoom(request) && this.hasFewBuffered);
  }

  /** Ends the session in order: what waits still leaves, then the reason. */
  close(error: PacketfsError): void {
    if (this.#closed !== undefined) return;
    this.#sendQueue.pushGoodbye(errorFrame(error, 0, false));
    this.#finish(error);
  }

  /** Ends the session at once, with nothing but the reason. */
  end(error: PacketfsError): void {
    this.#sendQueue.clear();
    this.close(error);
  }

  /** The session is over, and nothing can be said any more. */
  lose(reason: string): void {
    this.#sendQueue.clear();
    if (this.#closed === undefined) this.#finish(lost(this.#peer, reason));
  }

  /** Takes a message's parts, as they came. */
  receive(parts: readonly Uint8Array[], now: number): void {
    if (this.#closed !== undefined) return;
    const arrival = this.#receiver.take(parts, now);
    switch (arrival.kind) {
      case "nothing":
        return;
      case "invalid":
        return this.end(offence(this.#peer, arrival.reason));
      case "gap":
        return this.lose("messages were lost on the way");
      case "goodbye":
        this.#sendQueue.clear();
        return this.#finish(endedBy(this.#peer, arrival.error));
      case "unknown":
        return this.#push(errorFrame(unknownType(arrival.type), arrival.request, true));
      case "ping":
        return this.#push(PONG);
      case "at-work":
        return this.#heard(arrival.request, this.#clock.at(now));
      case "credit":
        for (const frame of this.#responses.credited(arrival.request, arrival.bytes)) this.#push(frame);
        return void this.#actions.push({ kind: "room" });
      case "withdrawal":
        if (this.#responses.withdraw(arrival.request)) {
          this.#actions.push({ kind: "withdrawn", request: arrival.request });
        }
        return;
      case "reply":
        this.#heard(arrival.message.requestId, this.#clock.at(now));
        return this.#replied(arrival.message, arrival.isLast, arrival.cost);
      case "request":
        return this.#asked(arrival.message);
      case "notification":
        return void this.#actions.push({ kind: "notified", message: arrival.message });
    }
  }

  /**
   * Time passes: requests expire, silence is broken or means loss. To be called every TICK_MS, or every IDLE_TICK_MS while the
   * session is idle; what it is late by is not counted against the peer.
   */
  tick(now: number): void {
    if (this.#closed !== undefined) return;
    const time = this.#clock.look(now, this.isIdle ? IDLE_TICK_MS : TICK_MS);
    const excusedMs = this.#heartbeat.excusedMs(time);
    if (this.#heartbeat.isLost(time)) return this.lose("it has been silent for too long");
    if (this.#heartbeat.isPingDue(now)) this.#push(PING);
    if (excusedMs > 0) this.#requests.excuse(excusedMs);
    for (const { request, type, silentSince } of this.#requests.expired(time, this.#receiver.movedAt)) {
      if (silentSince === undefined) {
        this.withdraw(request, expired(this.#peer));
      } else {
        this.#suspect(type, silentSince, now);
        this.withdraw(request, silent(this.#peer, time - silentSince));
      }
    }
  }

  /** The parts of the next message to send; undefined when there is none, or when the peer must take some first. */
  next(now: number): Uint8Array[] | undefined {
    const parts = this.#sendQueue.next(now);
    if (parts !== undefined) this.#heartbeat.said(now);
    this.#noticeRoom();
    return parts;
  }

  #heard(request: number, time: number): void {
    const type = this.#requests.heard(request, time);
    if (type === undefined || !this.#silences.delete(type) || this.#silences.size > 0) return;
    this.#actions.push({ kind: "silence", isSilent: false });
  }

  #suspect(type: MessageType, silentSince: number, now: number): void {
    if (this.#silences.size === 0) this.#actions.push({ kind: "silence", isSilent: true });
    const since = this.#silences.get(type)?.since ?? silentSince;
    this.#silences.set(type, { since, givenUpAt: now });
  }

  #asked(message: WireMessage): void {
    const request = message.requestId;
    const opened = this.#responses.open(request);
    if (opened === "repeated") return this.end(offence(this.#peer, "a request's number is taken already"));
    if (opened === "full") return this.#push(errorFrame(busy(this.#peer), request, true));
    this.#actions.push({ kind: "asked", request, message });
  }

  #replied(message: WireMessage, hasNoMore: boolean, cost: number): void {
    const { requestId: request, type } = message;
    const isLast = hasNoMore || type === MessageType.ERROR;
    // What was withdrawn may be answered while the peer does not know that yet.
    if (!this.#requests.has(request)) return;
    if (isLast) {
      this.#requests.settle(request);
      this.#releaseRequests();
    } else {
      if (!this.#requests.replied(request, cost)) {
        return this.end(offence(this.#peer, "more replies than there was room for"));
      }
      // Who wants one reply gets the last one.
      if (!this.#requests.isStream(request)) return this.taken(request, cost);
    }
    if (type === MessageType.ERROR) this.#actions.push({ kind: "failed", request, error: errorOf(message) });
    else this.#actions.push({ kind: "answered", request, message, isLast, cost });
  }

  #releaseRequests(): void {
    for (;;) {
      const frame = this.#requests.released();
      if (frame === undefined) return;
      this.#push(frame);
    }
  }

  #push(frame: OutFrame): void {
    if (this.#closed !== undefined) return;
    this.#sendQueue.push(frame);
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
    for (const request of this.#requests.clear()) this.#actions.push({ kind: "failed", request, error });
    for (const request of this.#responses.clear()) this.#actions.push({ kind: "withdrawn", request, error });
    this.#actions.push({ kind: "room" }, { kind: "closed", error });
  }
}

/** How long a peer may say nothing about a request of this type, in milliseconds. */
function silenceFor(type: MessageType): number {
  switch (type) {
    case MessageType.WANT:
    case MessageType.NAME:
    case MessageType.MEMBERS:
      return QUESTION_SILENCE_MS;
    case MessageType.FILE_REQUEST:
    case MessageType.STORE:
      return TRANSFER_SILENCE_MS;
    default:
      return WORK_SILENCE_MS;
  }
}
