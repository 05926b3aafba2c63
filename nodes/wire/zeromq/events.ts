/** What a port has to tell its owner beside its links: for the log and for counters. */

/** A connection that did not come in. */
export interface RefusalOfConnection {
  /** CURVE public key, 64 hexadecimal digits; empty when it is not known. */
  readonly curveKey: string;
  /** Of the allow list's entry; empty when there is none. */
  readonly id: string;
  /** Of an entry that the allow list had, and has no more. */
  readonly label?: string | undefined;
  /** IP address. */
  readonly address: string;
  readonly reason:
    /** The allow list does not have its key. */
    | "unknown-key"
    /** It did harm before, and may come again soon. */
    | "paused"
    /** The key, or the port, has as many connections as it may. */
    | "full"
    /** It speaks something else than ZeroMQ with CURVE. */
    | "foreign"
    /** It did not finish its encrypted handshake in time. */
    | "late"
    /** Somebody on this machine went around the proxy. */
    | "unexpected";
}

export type WireEvent =
  /** A connection was not let in; `refusals` is how many were not since the last report, this one included. */
  | ({ readonly kind: "turned-away"; readonly refusals: number } & RefusalOfConnection)
  /** A key of the allow list connected, and was refused what it asked for. */
  | {
      readonly kind: "refused";
      readonly id: string;
      /** Of the allow list's entry, or how a machine that was revoked calls itself; empty when it is not known. */
      readonly label: string;
      readonly address: string;
      readonly reason: string;
    }
  /** A signed HELLO came a second time. */
  | { readonly kind: "replayed"; readonly id: string; readonly address: string }
  /** A machine joined by a join token, for the first time. */
  | { readonly kind: "joined"; readonly id: string; readonly label: string; readonly address: string }
  /** A peer broke the rules and its session was ended. */
  | { readonly kind: "offence"; readonly id: string; readonly address: string; readonly reason: string }
  /** A peer attacked the port itself: its connection was cut, and its key is kept out at that address for a while. */
  | {
      readonly kind: "cut";
      readonly id: string;
      readonly address: string;
      readonly reason: string;
      readonly pauseMs: number;
    };

/** The same in words, for the person who watches the port. */
export function describeWireEvent(event: WireEvent): string {
  const { address } = event;
  switch (event.kind) {
    case "turned-away": {
      const others = event.refusals - 1;
      const more = others > 0 ? ` (${others} more were refused since the last report)` : "";
      return describeRefusal(event) + more;
    }
    case "refused":
      return `refused ${nameOf(event)} at ${address}: ${event.reason}`;
    case "replayed":
      return `refused ${event.id.slice(0, 8)} at ${address}: its signed HELLO was used before`;
    case "joined":
      return `${nameOf(event)} joined from ${address} for the first time`;
    case "offence":
      return `ended the session of ${event.id.slice(0, 8)} at ${address}: ${event.reason}`;
    case "cut": {
      const seconds = (event.pauseMs / 1000).toFixed(1);
      return `cut off ${event.id.slice(0, 8)} at ${address} for ${seconds} s: it sent ${event.reason}`;
    }
  }
}

function nameOf({ label, id }: { readonly label: string; readonly id: string }): string {
  return label === "" ? id.slice(0, 8) : `${label} (${id.slice(0, 8)})`;
}

function describeRefusal({ reason, curveKey, id, label, address }: RefusalOfConnection): string {
  switch (reason) {
    case "unknown-key":
      return label === undefined
        ? `refused a stranger at ${address} with the unknown key ${curveKey.slice(0, 12)}…: it has no valid token`
        : `refused ${label} at ${address}: its token was revoked or has expired`;
    case "paused":
      return `refused ${id.slice(0, 8)} at ${address}: it was cut off a moment ago, and may come again soon`;
    case "full":
      return `refused ${id.slice(0, 8)} at ${address}: there are as many connections as may be`;
    case "foreign":
      return `refused a stranger at ${address}: it does not speak the protocol of this port`;
    case "late":
      return `gave up on a connection from ${address}: its handshake did not finish in time`;
    case "unexpected":
      return "refused a process on this machine that went around the port";
  }
}
