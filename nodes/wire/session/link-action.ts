import type { PacketfsError } from "../../../packets/errors.ts";
import type { WireMessage } from "../link.ts";

/** What the core of a session wants the shell around it to do. */
export type LinkAction =
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
  /** The asker does not want the answer any more. */
  | { readonly kind: "withdrawn"; readonly request: number }
  /** Who waits for room may look again. */
  | { readonly kind: "room" }
  /** The session is over; nothing comes after this. */
  | { readonly kind: "closed"; readonly error: PacketfsError };
