/** What a port reports, in words for the person who watches it. */
import type { WireEvent } from "./wire/zeromq/wire-event.ts";

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
