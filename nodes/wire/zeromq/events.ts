/** What a port has to tell its owner beside its links: for the log and for counters. */
export type WireEvent =
  /** A key that the allow list does not have tried to connect; `refusals` is how many did since the last report. */
  | {
      readonly kind: "stranger";
      readonly curveKey: string;
      readonly address: string;
      readonly refusals: number;
    }
  /** A key of the allow list connected, and was refused what it asked for. */
  | { readonly kind: "refused"; readonly id: string; readonly address: string; readonly reason: string }
  /** A signed HELLO came a second time. */
  | { readonly kind: "replayed"; readonly id: string; readonly address: string }
  /** A machine joined with an invite. */
  | { readonly kind: "joined"; readonly id: string; readonly label: string; readonly address: string }
  /** A peer broke the rules and its session was ended. */
  | { readonly kind: "offence"; readonly id: string; readonly address: string; readonly reason: string }
  /** A peer attacked the port itself: it is kept out for a while, and all other peers have to connect again. */
  | { readonly kind: "attacked"; readonly id: string; readonly address: string; readonly reason: string };

/** The same in words, for the person who watches the port. */
export function describeWireEvent(event: WireEvent): string {
  const { address } = event;
  switch (event.kind) {
    case "stranger": {
      const key = event.curveKey === "" ? "no key" : `the unknown key ${event.curveKey.slice(0, 12)}…`;
      const times = event.refusals > 1 ? `, ${event.refusals} times` : "";
      return `refused a stranger at ${address} with ${key}${times}: it has no valid token`;
    }
    case "refused":
      return `refused ${event.id.slice(0, 8)} at ${address}: ${event.reason}`;
    case "replayed":
      return `refused ${event.id.slice(0, 8)} at ${address}: its signed HELLO was used before`;
    case "joined":
      return `${event.label} (${event.id.slice(0, 8)}) joined from ${address}`;
    case "offence":
      return `ended the session of ${event.id.slice(0, 8)} at ${address}: ${event.reason}`;
    case "attacked":
      return `kept ${event.id.slice(0, 8)} at ${address} out: it attacked the port with ${event.reason}`;
  }
}
