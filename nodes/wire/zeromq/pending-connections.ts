/**
 * Where connections wait that are no sessions yet. It carries out what `reception` decides: challenges, refusals, and the
 * WELCOME, with which a guest leaves the lobby.
 */
import { randomBytes } from "node:crypto";
import { MessageType, Priority } from "../../../packets/envelope.ts";
import { RefusalReason, WireErrorCode } from "../../errors.ts";
import type { WireError } from "../../errors.ts";
import { HELLO_TIMEOUT_MS } from "../../limits.ts";
import type { Admission } from "./admission.ts";
import { errorMessage } from "../session/error-frame.ts";
import { outFrame, toParts } from "../session/message.ts";
import { NONCE_BYTES } from "../handshake/handshake-messages.ts";
import type { SignedHello } from "../handshake/handshake-messages.ts";
import { ownerOf, signWelcome } from "../handshake/signed-hello.ts";
import type { Identity } from "../trust/keys.ts";
import { Role } from "../link.ts";
import type { OutMessage, PeerInfo } from "../link.ts";
import { receiveGuest, refusal } from "../handshake/server-handshake.ts";
import type { Guest, Verdict } from "../handshake/server-handshake.ts";
import type { Roster, RosterEntry } from "../trust/allow-list.ts";
import type { WireEvent } from "./wire-event.ts";

export interface LobbyOptions {
  readonly identity: Identity;
  readonly roster: Roster;
  readonly role: "hub" | "node";
  readonly label: string;
  readonly features: readonly string[];
  readonly onJoin: ((joined: RosterEntry, invite: RosterEntry) => void | Promise<void>) | undefined;
  readonly onEvent: (event: WireEvent) => void;
  readonly write: (connection: number, parts: readonly Uint8Array[]) => void;
  /** A guest was welcomed: from now on the connection is a session with this peer. */
  readonly onSession: (connection: number, peer: PeerInfo, admission: Admission) => void;
}

interface Waiting extends Guest {
  readonly since: number;
  /** Whether a signed HELLO is being decided about; what comes meanwhile is not listened to. */
  isBusy: boolean;
}

export class Lobby {
  readonly #options: LobbyOptions;
  readonly #guests = new Map<number, Waiting>();

  constructor(options: LobbyOptions) {
    this.#options = options;
  }

  appeared(connection: number, admission: Admission): void {
    this.#guests.set(connection, {
      admission,
      challenge: undefined,
      since: performance.now(),
      isBusy: false,
    });
  }

  disappeared(connection: number): void {
    this.#guests.delete(connection);
  }

  /** Whether the message was a guest's. */
  received(connection: number, parts: readonly Uint8Array[]): boolean {
    const guest = this.#guests.get(connection);
    if (guest === undefined) return false;
    if (guest.isBusy) return true;
    const { identity, roster } = this.#options;
    const random = (): Uint8Array => randomBytes(NONCE_BYTES);
    this.#carryOut(connection, guest, receiveGuest(guest, parts, { server: identity, roster, random }));
    return true;
  }

  tick(): void {
    const oldest = performance.now() - HELLO_TIMEOUT_MS;
    for (const [connection, guest] of this.#guests) {
      if (guest.since < oldest)
        this.#refuse(connection, guest, refusal(RefusalReason.hello, "no HELLO in time"));
    }
  }

  clear(): void {
    this.#guests.clear();
  }

  #carryOut(connection: number, guest: Waiting, verdict: Verdict): void {
    switch (verdict.kind) {
      case "challenged":
        return this.#say(connection, verdict.answer);
      case "refused":
        return this.#refuse(connection, guest, verdict.error);
      case "accepted":
        guest.isBusy = true;
        return void this.#accept(connection, guest, verdict);
    }
  }

  async #accept(connection: number, guest: Waiting, verdict: Verdict & { kind: "accepted" }): Promise<void> {
    const { hello, version, entry } = verdict;
    if (hello.joiner !== undefined) {
      try {
        await this.#join(hello, entry, guest.admission.address);
      } catch (error) {
        const text = error instanceof Error ? error.message : String(error);
        return this.#refuse(connection, guest, refusal(RefusalReason.declined, text));
      }
      // It may have gone while it was decided about.
      if (!this.#guests.has(connection)) return;
    }
    this.#guests.delete(connection);
    const { identity, role, label, features } = this.#options;
    const owner = ownerOf(hello);
    const welcome = signWelcome({ version, features, role, label, you: owner.id }, hello, identity);
    this.#say(connection, { type: MessageType.WELCOME, priority: Priority.control, meta: welcome });
    const peer: PeerInfo = {
      ...owner,
      role: hello.joiner === undefined ? entry.role : Role.node,
      label: hello.label,
      ...(hello.address === undefined ? {} : { address: hello.address }),
      features: hello.features,
      version,
    };
    this.#options.onSession(connection, peer, guest.admission);
  }

  async #join(hello: SignedHello, invite: RosterEntry, from: string): Promise<void> {
    const { roster, onJoin, onEvent } = this.#options;
    const owner = ownerOf(hello);
    const { label, address } = hello;
    const wasKnown = roster.byId(owner.id) !== undefined;
    const joined = roster.add({
      ...owner,
      role: Role.node,
      label,
      ...(address === undefined ? {} : { address }),
    });
    try {
      await onJoin?.(joined, invite);
    } catch (error) {
      if (!wasKnown) roster.remove(joined.id);
      throw error;
    }
    onEvent({ kind: "joined", id: joined.id, label, address: from });
  }

  #refuse(connection: number, guest: Waiting, error: WireError): void {
    this.#guests.delete(connection);
    this.#say(connection, errorMessage(error));
    const id = guest.admission.entry?.id ?? "";
    const { address } = guest.admission;
    if (error.code === WireErrorCode.helloReplayed) this.#options.onEvent({ kind: "replayed", id, address });
    else this.#options.onEvent({ kind: "refused", id, address, reason: error.message });
  }

  #say(connection: number, message: OutMessage): void {
    this.#options.write(connection, toParts(outFrame(message), 0, 0));
  }
}
