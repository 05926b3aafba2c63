/** Tells nodes who else belongs to the network, so that they let each other and clients in. */
import { MessageType, Priority } from "../../packets/envelope.ts";
import type { Identity } from "../wire/trust/keys.ts";
import { Role } from "../wire/link.ts";
import type { Link } from "../wire/link.ts";
import type { Roster } from "../wire/trust/allow-list.ts";

/** Invites stay with the hub: a machine joins there and nowhere else. */
export function pushRoster(hub: Identity, roster: Roster, links: readonly Link[]): void {
  const entries = roster.toJSON().filter(({ role }) => role !== Role.invite);
  const self = { signingKey: hex(hub.signingKey), curveKey: hex(hub.curveKey), role: Role.hub, label: "hub" };
  const chunks = Buffer.from(JSON.stringify([self, ...entries]));
  for (const link of links) link.notify({ type: MessageType.ROSTER, priority: Priority.control, chunks });
}

function hex(key: Uint8Array): string {
  return Buffer.from(key).toString("hex");
}
