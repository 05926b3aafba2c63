/**
 * The dialing side of the handshake, without a socket: what to say next, and what came of it.
 *
 *     hello() ─▶ HELLO ··· CHALLENGE ─▶ signed HELLO ··· WELCOME ─▶ welcomed
 */
import * as v from "valibot";
import { MessageType, Priority } from "../../../packets/envelope.ts";
import { hasCode } from "../../../packets/errors.ts";
import type { PacketfsError } from "../../../packets/errors.ts";
import { RefusalReason, WireError, WireErrorCode } from "../../errors.ts";
import { errorOf } from "../session/errors.ts";
import { fromParts, outFrame, toParts } from "../session/message.ts";
import {
  Challenge,
  Welcome,
  WIRE_VERSIONS,
  isWelcomeSigned,
  ownerOf,
  sessionOf,
  signHello,
} from "./messages.ts";
import type { Hello, SelfDescription, SignedHello, ServerKeys } from "./messages.ts";
import { peerId } from "../trust/keys.ts";
import type { Identity } from "../trust/keys.ts";
import type { PeerInfo, Role } from "../link.ts";

export interface ClientHandshakeOptions {
  /** HOST:PORT, for errors. */
  readonly address: string;
  readonly server: ServerKeys;
  readonly identity: Identity;
  readonly role: Role;
  readonly self: SelfDescription;
  /** The machine's own identity when `identity` is a join token's. */
  readonly joining?: Identity | undefined;
  readonly random: () => Uint8Array;
}

export type ClientStep =
  | { readonly kind: "say"; readonly parts: Uint8Array[] }
  | { readonly kind: "welcomed"; readonly peer: PeerInfo; readonly session: Uint8Array }
  | { readonly kind: "failed"; readonly error: PacketfsError };

export class ClientHandshake {
  readonly #options: ClientHandshakeOptions;
  #hello: Hello | undefined;
  #signed: SignedHello | undefined;

  constructor(options: ClientHandshakeOptions) {
    this.#options = options;
  }

  /** Begins, or begins again on a new connection. */
  hello(): Uint8Array[] {
    const { identity, role, self, random } = this.#options;
    const { signingKey, curveKey } = identity;
    this.#hello = { versions: WIRE_VERSIONS, role, ...self, signingKey, curveKey, nonce: random() };
    this.#signed = undefined;
    return say(this.#hello);
  }

  receive(parts: readonly Uint8Array[]): ClientStep {
    const received = fromParts(parts);
    if (received.kind !== "message") return this.#nonsense("a message that cannot be read");
    const { message } = received;
    switch (message.type) {
      case MessageType.CHALLENGE:
        return this.#challenged(message.meta);
      case MessageType.WELCOME:
        return this.#welcomed(message.meta);
      case MessageType.ERROR:
        return { kind: "failed", error: this.#refused(errorOf(message)) };
      default:
        return this.#nonsense("a message before the session");
    }
  }

  #challenged(meta: unknown): ClientStep {
    const parsed = v.safeParse(Challenge, meta);
    const hello = this.#hello;
    if (!parsed.success || hello === undefined || this.#signed !== undefined)
      return this.#nonsense("a bad CHALLENGE");
    const { server, identity, joining } = this.#options;
    this.#signed = signHello(hello, parsed.output.challenge, server, identity, joining);
    return { kind: "say", parts: say(this.#signed) };
  }

  #welcomed(meta: unknown): ClientStep {
    const parsed = v.safeParse(Welcome, meta);
    const signed = this.#signed;
    const { server } = this.#options;
    if (!parsed.success || signed === undefined) return this.#nonsense("a bad WELCOME");
    const welcome = parsed.output;
    const isMeant = welcome.you === ownerOf(signed).id && WIRE_VERSIONS.includes(welcome.version);
    if (!isMeant || !isWelcomeSigned(welcome, signed, server)) {
      const error = this.#error(
        RefusalReason.server,
        "does not prove that it holds the expected signing key",
      );
      return { kind: "failed", error };
    }
    const { role, label, features, version } = welcome;
    const peer = { id: peerId(server.signingKey), ...server, role, label, features, executors: [], version };
    const session = sessionOf(signed, server);
    return { kind: "welcomed", peer: { ...peer, address: this.#options.address }, session };
  }

  /** The port's own words, with the address that was dialed. */
  #refused(error: PacketfsError): PacketfsError {
    const { address } = this.#options;
    const isOurs = hasCode(error, WireErrorCode.refused) || hasCode(error, WireErrorCode.helloReplayed);
    const code = isOurs ? (error.code as WireErrorCode) : WireErrorCode.refused;
    return new WireError(code, `${address}: ${error.message}`, {
      reason: error.code,
      ...error.data,
      address,
    });
  }

  #nonsense(what: string): ClientStep {
    return { kind: "failed", error: this.#error(RefusalReason.hello, `answered with ${what}`) };
  }

  #error(reason: RefusalReason, text: string): WireError {
    const { address } = this.#options;
    return new WireError(WireErrorCode.refused, `${address} ${text}`, { address, reason });
  }
}

function say(hello: Hello): Uint8Array[] {
  return toParts(outFrame({ type: MessageType.HELLO, priority: Priority.control, meta: hello }), 0, 0);
}
