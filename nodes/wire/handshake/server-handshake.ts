/**
 * The port's side of the handshake: decides whether a connection becomes a session, and as whom. It sends nothing and
 * changes nothing but the guest's challenge.
 *
 *     connection ──HELLO──▶ challenged ──signed HELLO──▶ accepted        anything else, or nothing in time ──▶ refused
 */
import * as v from "valibot";
import { sameBytes } from "../../../packets/digest.ts";
import { MessageType, Priority } from "../../../packets/envelope.ts";
import { RefusalReason, WireError, WireErrorCode } from "../../errors.ts";
import { HELLO_BYTES_MAX } from "../../limits.ts";
import type { Admission } from "../zeromq/admission.ts";
import { fromParts } from "../session/message.ts";
import { Hello, SignedHello } from "./handshake-messages.ts";
import { commonVersion, isHelloSigned, ownerOf } from "./signed-hello.ts";
import type { ServerKeys } from "./signed-hello.ts";
import { peerId } from "../trust/keys.ts";
import { Role } from "../link.ts";
import type { OutMessage } from "../link.ts";
import type { Roster, RosterEntry } from "../trust/allow-list.ts";

/** A connection that is no session yet. */
export interface Guest {
  readonly admission: Admission;
  /** What it must sign; gone when it was used. */
  challenge: Uint8Array | undefined;
}

export type Verdict =
  | { readonly kind: "challenged"; readonly answer: OutMessage }
  | {
      readonly kind: "accepted";
      readonly hello: SignedHello;
      readonly version: number;
      /** The roster's entry of the HELLO's key: an invite when a machine joins. */
      readonly entry: RosterEntry;
    }
  | { readonly kind: "refused"; readonly error: WireError };

export interface ReceptionOptions {
  readonly server: ServerKeys;
  readonly roster: Roster;
  readonly random: () => Uint8Array;
}

/** Takes the next message of a guest. */
export function receiveGuest(guest: Guest, parts: readonly Uint8Array[], options: ReceptionOptions): Verdict {
  const received = fromParts(parts);
  if (received.kind !== "message" || received.message.type !== MessageType.HELLO) {
    return refused(RefusalReason.hello, "a connection begins with HELLO");
  }
  const { meta } = received.message;
  if (received.cost > HELLO_BYTES_MAX) return refused(RefusalReason.hello, "the HELLO is too long");
  const signed = v.safeParse(SignedHello, meta);
  if (signed.success) return receiveSigned(guest, signed.output, options);
  const hello = v.safeParse(Hello, meta);
  if (!hello.success) return refused(RefusalReason.hello, hello.issues[0].message);
  if (commonVersion(hello.output.versions) === undefined) {
    return refused(RefusalReason.version, "no version of the protocol in common; update the older side");
  }
  guest.challenge = options.random();
  const answer = {
    type: MessageType.CHALLENGE,
    priority: Priority.control,
    meta: { challenge: guest.challenge },
  };
  return { kind: "challenged", answer };
}

function receiveSigned(guest: Guest, hello: SignedHello, { server, roster }: ReceptionOptions): Verdict {
  const challenge = guest.challenge;
  guest.challenge = undefined;
  if (challenge === undefined || !sameBytes(challenge, hello.challenge))
    return { kind: "refused", error: replayedHello() };
  const version = commonVersion(hello.versions);
  if (version === undefined) return refused(RefusalReason.version, "no version of the protocol in common");
  const entry = roster.byId(peerId(hello.signingKey));
  const isAdmitted = sameBytes(guest.admission.curveKey, hello.curveKey);
  if (entry === undefined || !sameBytes(entry.curveKey, hello.curveKey) || !isAdmitted) {
    return refused(RefusalReason.identity, "the roster does not know this identity");
  }
  if (!isHelloSigned(hello, server)) return refused(RefusalReason.signature, "the signature is not valid");
  const reason = wrongRole(hello, entry, roster);
  return reason === null ? { kind: "accepted", hello, version, entry } : refused(RefusalReason.role, reason);
}

/** Why the roster's entry does not let its bearer be what the HELLO asks for, or null. */
function wrongRole(hello: SignedHello, entry: RosterEntry, roster: Roster): string | null {
  if (hello.joiner === undefined) {
    if (entry.role === Role.invite) return "a join token lets a machine join, and nothing else";
    return hello.role === entry.role ? null : `this identity is a ${entry.role}, not a ${hello.role}`;
  }
  if (entry.role !== Role.invite)
    return `a ${entry.role} cannot let another machine join; that takes a join token`;
  if (hello.role !== Role.node) return "a join token makes nodes, and nothing else";
  const owner = ownerOf(hello);
  const known = roster.byId(owner.id);
  if (known !== undefined && known.role !== Role.node)
    return `this machine is known as a ${known.role} already`;
  const holder = roster.byCurveKey(owner.curveKey);
  return holder === undefined || holder.id === owner.id ? null : "its CURVE key belongs to another identity";
}

/** The error for a signed HELLO that came before. */
export function replayedHello(): WireError {
  const message = "the signed HELLO was refused: its challenge is used up, too old or another connection's";
  return new WireError(WireErrorCode.helloReplayed, message, { reason: RefusalReason.replayed });
}

/** The error that a refused peer gets. */
export function refusal(reason: RefusalReason, text: string): WireError {
  return new WireError(WireErrorCode.refused, `the connection was refused: ${text}`, { reason });
}

function refused(reason: RefusalReason, text: string): Verdict {
  return { kind: "refused", error: refusal(reason, text) };
}
