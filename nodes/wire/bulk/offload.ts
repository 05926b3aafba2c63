/**
 * Work of those who use a channel that its thread does by itself, so that nobody has to be woken for each message: whoever starts the
 * thread says what that is.
 */
import type { Placed, Placement, ToBulk } from "./protocol.ts";

export type OutgoingMessage = ToBulk & { readonly kind: "send" };

export interface ArrivedMessage {
  readonly type: number;
  readonly head: Uint8Array;
  /** There until `received` returns. */
  readonly body: Uint8Array<ArrayBuffer>;
}

/** What a channel does for its offload. */
export interface OffloadContext {
  /** Sends a message without a body. */
  readonly send: (type: number, head: Uint8Array) => void;
  /** Sends a message that was held. */
  readonly pass: (message: OutgoingMessage) => void;
  /** A message that was held is not needed: its sender hears what it hears of those that were sent. */
  readonly drop: (message: OutgoingMessage) => void;
  /** Verifies and writes chunks at once, to files that are open. Throws PFS_BULK_FILE_FAILED. */
  readonly place: (body: Uint8Array, placement: Placement) => Placed;
  /** Tells the channel's user. */
  readonly tell: (said: unknown) => void;
}

export interface Offload {
  /** Whether the message is dealt with, so that the channel's user need not have it. */
  received(message: ArrivedMessage): boolean;
  /** What the channel's user says. */
  told(said: unknown): void;
  /** Whether it keeps the message for later. */
  holds(message: OutgoingMessage): boolean;
  /** The user is about to hear something: what happened before is told before. */
  flush(): void;
  /** The channel is over. */
  close(): void;
}

export type MakeOffload = (context: OffloadContext) => Offload;
