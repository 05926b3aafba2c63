/** What arrives in a session, taken once each and in order, and sorted by who it is for: the link itself or its user. */
import { EnvelopeFlag, MessageType, Priority } from "../../../packets/envelope.ts";
import type { PacketfsError } from "../../../packets/errors.ts";
import type { WireMessage } from "../link.ts";
import { errorOf } from "./errors.ts";
import type { Heartbeat } from "./heartbeat.ts";
import type { LoopClock } from "./loop-clock.ts";
import { fromParts } from "./message.ts";
import type { ReceiveWindow, SendWindow } from "./window.ts";

export type Arrival =
  | { readonly kind: "nothing" }
  /** Against the rules: the session must end. */
  | { readonly kind: "invalid"; readonly reason: string }
  | { readonly kind: "gap" }
  | { readonly kind: "goodbye"; readonly error: PacketfsError }
  /** A request of a type that this version does not know. */
  | { readonly kind: "unknown"; readonly request: number; readonly type: number }
  | { readonly kind: "ping" }
  /** The peer works on a request of this side. */
  | { readonly kind: "at-work"; readonly request: number }
  | { readonly kind: "credit"; readonly request: number; readonly bytes: number }
  | { readonly kind: "withdrawal"; readonly request: number }
  | { readonly kind: "reply"; readonly message: WireMessage; readonly isLast: boolean; readonly cost: number }
  | { readonly kind: "request"; readonly message: WireMessage }
  | { readonly kind: "notification"; readonly message: WireMessage };

const NOTHING: Arrival = { kind: "nothing" };

export interface ReceiverOptions {
  readonly clock: LoopClock;
  readonly heartbeat: Heartbeat;
  readonly sendWindow: SendWindow;
  readonly receiveWindow: ReceiveWindow;
}

export class Receiver {
  readonly #options: ReceiverOptions;
  #counter = 0;
  #movedAt = Number.NEGATIVE_INFINITY;

  constructor(options: ReceiverOptions) {
    this.#options = options;
  }

  /** When bytes last moved, by the loop's clock: a message with many of them came, or the peer said that it has taken some. */
  get movedAt(): number {
    return this.#movedAt;
  }

  take(parts: readonly Uint8Array[], now: number): Arrival {
    const received = fromParts(parts);
    if (received.kind === "invalid") return received;
    const { request, flags, counter, type } = received.kind === "message" ? received.envelope : received;
    const isReply = (flags & EnvelopeFlag.REPLY) !== 0;
    // A peer that has forgotten the session has no counter to say so with.
    if (received.kind === "message" && type === MessageType.ERROR && request === 0) {
      return { kind: "goodbye", error: errorOf(received.message) };
    }
    if (counter <= this.#counter) return NOTHING;
    // A connection neither loses nor reorders, so a gap says that it is not the one that the session began on.
    if (counter > this.#counter + 1) return { kind: "gap" };
    this.#counter = counter;
    const { clock, heartbeat, sendWindow, receiveWindow } = this.#options;
    if (received.kind === "unknown") {
      heartbeat.heard(clock.at(now));
      return request === 0 || isReply ? NOTHING : { kind: "unknown", request, type };
    }
    const { envelope, message, cost } = received;
    // With metadata it is the user's.
    const isOwnCredit = type === MessageType.CREDIT && message.meta === undefined;
    heartbeat.heard(clock.at(now), isOwnCredit ? envelope.deadlineMs : 0);
    if (envelope.priority !== Priority.control) receiveWindow.received(cost);
    if (envelope.priority === Priority.bulk || envelope.creditBytes > 0) this.#movedAt = clock.at(now);
    if (isOwnCredit && request !== 0) return { kind: "credit", request, bytes: envelope.creditBytes };
    if (envelope.creditBytes > 0) sendWindow.acknowledged(envelope.creditBytes, now);
    if (isOwnCredit) return NOTHING;
    return sorted(message, cost);
  }
}

function sorted(message: WireMessage, cost: number): Arrival {
  const { type, flags, requestId: request } = message;
  switch (type) {
    case MessageType.PING:
      return { kind: "ping" };
    case MessageType.PONG:
      return request === 0 ? NOTHING : { kind: "at-work", request };
    case MessageType.HELLO:
    case MessageType.CHALLENGE:
    case MessageType.WELCOME:
      return { kind: "invalid", reason: "a handshake inside a session" };
    default:
  }
  if ((flags & EnvelopeFlag.REPLY) !== 0) {
    return { kind: "reply", message, isLast: (flags & EnvelopeFlag.MORE) === 0, cost };
  }
  if (request === 0) return { kind: "notification", message };
  return type === MessageType.ERROR ? { kind: "withdrawal", request } : { kind: "request", message };
}
