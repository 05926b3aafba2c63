/**
 * The port's side of the handshake: decides whether a connection becomes a session, and as whom. It sends nothing and
 * changes nothing but the connection's challenge.
 *
 *     connection ──HELLO──▶ challenged ──signed HELLO──▶ accepted        anything else, or nothing in time ──▶ refused
 */
import * as v from "valibot";
import { sameBytes } from "../../../packets/digest.ts";
import { MessageType, Priority } from "../../../packets/envelope.ts";
import { RefusalReason, WireError, WireErrorCode } from "../../errors.ts";
import { HELLO_BYTES_MAX } from "../../limits.ts";
import type { Admission } from "../zeromq/admissions.ts";
import { fromParts } from "../session/message.ts";
import { Hello, SignedHello, commonVersion, isHelloSigned, ownerOf } from "./messages.ts";
import type { ServerKeys } from "./messages.ts";
import { peerId } from "../trust/keys.ts";
import { Role, isClient } from "../link.ts";
import type { OutMessage } from "../link.ts";
import type { AllowList, AllowListEntry } from "../trust/allow-list.ts";

/** A connection that is no session yet. */
export interface PendingConnection {
  readonly admission: Admission;
  /** What it must sign; gone when it was used. */
  challenge: Uint8Array | undefined;
}

/** A machine that was revoked and tries to come in. */
export interface RevokedMachine {
  readonly id: string;
  /** How it calls itself. */
  readonly label: string;
}

export type ServerStep =
  | { readonly kind: "challenged"; readonly answer: OutMessage }
  | {
      readonly kind: "accepted";
      readonly hello: SignedHello;
      readonly version: number;
      /** The allow list's entry of the HELLO's key: a join token's when a machine joins. */
      readonly entry: AllowListEntry;
    }
  | {
      readonly kind: "refused";
      readonly error: WireError;
      /** Where that is the reason. */
      readonly revoked?: RevokedMachine;
    };

export interface ServerHandshakeOptions {
  readonly server: ServerKeys;
  readonly allowList: AllowList;
  readonly random: () => Uint8Array;
}

/** Takes the next message of a connection that is no session yet. */
export function receiveHello(
  connection: PendingConnection,
  parts: readonly Uint8Array[],
  options: ServerHandshakeOptions,
): ServerStep {
  const received = fromParts(parts);
  if (received.kind !== "message" || received.message.type !== MessageType.HELLO) {
    return refused(RefusalReason.hello, "a connection begins with HELLO");
  }
  const { meta } = received.message;
  if (received.cost > HELLO_BYTES_MAX) return refused(RefusalReason.hello, "the HELLO is too long");
  const signed = v.safeParse(SignedHello, meta);
  if (signed.success) return receiveSigned(connection, signed.output, options);
  const hello = v.safeParse(Hello, meta);
  if (!hello.success) return refused(RefusalReason.hello, hello.issues[0].message);
  if (commonVersion(hello.output.versions) === undefined) {
    return refused(RefusalReason.version, "no version of the protocol in common; update the older side");
  }
  connection.challenge = options.random();
  const answer = {
    type: MessageType.CHALLENGE,
    priority: Priority.control,
    meta: { challenge: connection.challenge },
  };
  return { kind: "challenged", answer };
}

function receiveSigned(
  connection: PendingConnection,
  hello: SignedHello,
  { server, allowList }: ServerHandshakeOptions,
): ServerStep {
  const challenge = connection.challenge;
  connection.challenge = undefined;
  if (challenge === undefined || !sameBytes(challenge, hello.challenge))
    return { kind: "refused", error: replayedHello() };
  const version = commonVersion(hello.versions);
  if (version === undefined) return refused(RefusalReason.version, "no version of the protocol in common");
  const entry = allowList.byId(peerId(hello.signingKey));
  const isAdmitted = sameBytes(connection.admission.curveKey, hello.curveKey);
  if (entry === undefined || !sameBytes(entry.curveKey, hello.curveKey) || !isAdmitted) {
    return refused(RefusalReason.identity, "the allow list does not know this identity");
  }
  if (!isHelloSigned(hello, server)) return refused(RefusalReason.signature, "the signature is not valid");
  const { id } = ownerOf(hello);
  if (allowList.isRevoked(id)) {
    return { kind: "refused", error: putOut(true), revoked: { id, label: hello.label } };
  }
  const reason = wrongRole(hello, entry, allowList);
  return reason === null ? { kind: "accepted", hello, version, entry } : refused(RefusalReason.role, reason);
}

/** Why the allow list's entry does not let its bearer be what the HELLO asks for, or null. */
function wrongRole(hello: SignedHello, entry: AllowListEntry, allowList: AllowList): string | null {
  if (hello.joiner === undefined) {
    if (entry.role === Role.join) return "a join token lets a machine join, and nothing else";
    // Whoever holds a token does not know, and need not, what it lets him do.
    const asked = isClient(entry.role) && hello.role === Role.client ? entry.role : hello.role;
    return asked === entry.role ? null : `this identity is a ${entry.role}, not a ${hello.role}`;
  }
  if (entry.role !== Role.join)
    return `a ${entry.role} cannot let another machine join; that takes a join token`;
  if (hello.role !== Role.node) return "a join token makes nodes, and nothing else";
  const owner = ownerOf(hello);
  const known = allowList.byId(owner.id);
  if (known !== undefined && known.role !== Role.node)
    return `this machine is known as a ${known.role} already`;
  const holder = allowList.byCurveKey(owner.curveKey);
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

/** The error for whom the allow list had and has no more: a machine that was revoked itself, or whose token is over. */
export function putOut(isMachine: boolean): WireError {
  if (isMachine)
    return new WireError(WireErrorCode.refused, "this machine was revoked at the hub", {
      reason: RefusalReason.revoked,
    });
  const text = "this token was revoked or has expired; ask whoever runs the hub for a new one";
  return new WireError(WireErrorCode.refused, text, { reason: RefusalReason.key });
}

function refused(reason: RefusalReason, text: string): ServerStep {
  return { kind: "refused", error: refusal(reason, text) };
}
