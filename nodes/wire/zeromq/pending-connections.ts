/**
 * Where connections wait that are no sessions yet. It carries out what the server handshake decides: challenges, refusals, and the
 * WELCOME, with which a connection becomes a session.
 */
import { randomBytes } from "node:crypto";
import { messageOf } from "../../../packets/errors.ts";
import { MessageType, Priority } from "../../../packets/envelope.ts";
import { RefusalReason, WireErrorCode } from "../../errors.ts";
import type { WireError } from "../../errors.ts";
import { HELLO_TIMEOUT_MS } from "../../limits.ts";
import type { Admission } from "./admissions.ts";
import { errorMessage } from "../session/errors.ts";
import { LoopClock } from "../session/loop-clock.ts";
import { outFrame, toParts } from "../session/message.ts";
import { NONCE_BYTES, ownerOf, sessionOf, signWelcome } from "../handshake/messages.ts";
import type { SignedHello } from "../handshake/messages.ts";
import { withHost } from "../trust/address.ts";
import type { Identity } from "../trust/keys.ts";
import { Role } from "../link.ts";
import type { OutMessage, PeerInfo } from "../link.ts";
import { receiveHello, refusal } from "../handshake/server-handshake.ts";
import type { PendingConnection, RevokedMachine, ServerStep } from "../handshake/server-handshake.ts";
import type { AllowList, AllowListEntry } from "../trust/allow-list.ts";
import type { WireEvent } from "./events.ts";

export interface PendingConnectionsOptions {
  readonly identity: Identity;
  readonly allowList: AllowList;
  readonly role: "hub" | "node";
  readonly label: string;
  readonly features: readonly string[];
  readonly onJoin: ((joined: AllowListEntry, token: AllowListEntry) => void | Promise<void>) | undefined;
  readonly onEvent: (event: WireEvent) => void;
  readonly write: (connection: number, parts: readonly Uint8Array[]) => void;
  /** A connection was welcomed: from now on the connection is a session with this peer. */
  readonly onSession: (connection: number, begun: BegunSession) => void;
}

export interface BegunSession {
  readonly peer: PeerInfo;
  /** As its `Link` has it. */
  readonly session: Uint8Array;
  readonly admission: Admission;
}

interface Waiting extends PendingConnection {
  /** By the loop's clock. */
  readonly since: number;
  /** Whether a signed HELLO is being decided about; what comes meanwhile is not listened to. */
  isBusy: boolean;
}

export class PendingConnections {
  readonly #options: PendingConnectionsOptions;
  readonly #pending = new Map<number, Waiting>();
  /** Machines that people were told of, of the few that somebody revoked here. */
  readonly #toldRevoked = new Set<string>();
  readonly #clock = new LoopClock(performance.now());

  constructor(options: PendingConnectionsOptions) {
    this.#options = options;
  }

  get isEmpty(): boolean {
    return this.#pending.size === 0;
  }

  appeared(connection: number, admission: Admission): void {
    this.#pending.set(connection, {
      admission,
      challenge: undefined,
      since: this.#clock.at(performance.now()),
      isBusy: false,
    });
  }

  disappeared(connection: number): void {
    this.#pending.delete(connection);
  }

  /** Whether the message was for this side of a handshake. */
  received(connection: number, parts: readonly Uint8Array[]): boolean {
    const pending = this.#pending.get(connection);
    if (pending === undefined) return false;
    if (pending.isBusy) return true;
    const { identity, allowList } = this.#options;
    const random = (): Uint8Array => randomBytes(NONCE_BYTES);
    this.#carryOut(
      connection,
      pending,
      receiveHello(pending, parts, { server: identity, allowList, random }),
    );
    return true;
  }

  tick(): void {
    const oldest = this.#clock.look(performance.now()) - HELLO_TIMEOUT_MS;
    for (const [connection, pending] of this.#pending) {
      if (pending.since < oldest)
        this.#refuse(connection, pending, refusal(RefusalReason.hello, "no HELLO in time"));
    }
  }

  clear(): void {
    this.#pending.clear();
  }

  #carryOut(connection: number, pending: Waiting, step: ServerStep): void {
    switch (step.kind) {
      case "challenged":
        return this.#say(connection, step.answer);
      case "refused":
        return this.#refuse(connection, pending, step.error, step.revoked);
      case "accepted":
        pending.isBusy = true;
        return void this.#accept(connection, pending, step);
    }
  }

  async #accept(
    connection: number,
    pending: Waiting,
    step: ServerStep & { kind: "accepted" },
  ): Promise<void> {
    const { hello, version } = step;
    let { entry } = step;
    if (hello.joiner !== undefined) {
      try {
        entry = await this.#join(hello, entry, pending.admission.address);
      } catch (error) {
        const text = messageOf(error);
        return this.#refuse(connection, pending, refusal(RefusalReason.declined, text));
      }
      // It may have gone while it was decided about.
      if (!this.#pending.has(connection)) return;
    }
    this.#pending.delete(connection);
    const { identity, role, label, features } = this.#options;
    const owner = ownerOf(hello);
    const address = entry.address ?? hello.address;
    const welcome = signWelcome({ version, features, role, label, you: owner.id }, hello, identity);
    this.#say(connection, { type: MessageType.WELCOME, priority: Priority.control, meta: welcome });
    const peer: PeerInfo = {
      ...owner,
      role: entry.role,
      // What it is called here, which nobody else is, whatever it calls itself.
      label: entry.label,
      ...(address === undefined ? {} : { address }),
      features: hello.features,
      executors: hello.executors,
      version,
    };
    const session = sessionOf(hello, identity);
    this.#options.onSession(connection, { peer, session, admission: pending.admission });
  }

  async #join(hello: SignedHello, token: AllowListEntry, from: string): Promise<AllowListEntry> {
    const { allowList, onJoin, onEvent } = this.#options;
    const owner = ownerOf(hello);
    const wasKnown = allowList.byId(owner.id) !== undefined;
    const joined = allowList.add({
      signingKey: owner.signingKey,
      curveKey: owner.curveKey,
      role: Role.node,
      label: hello.label,
      ...(hello.address === undefined ? {} : { address: withHost(hello.address, from) }),
      joinedBy: token.id,
      ...(token.expiresAt === undefined ? {} : { expiresAt: token.expiresAt }),
    });
    try {
      await onJoin?.(joined, token);
    } catch (error) {
      if (!wasKnown) allowList.remove(joined.id);
      throw error;
    }
    // Its token may have been revoked meanwhile, and then it went with it.
    if (allowList.byId(joined.id) === undefined) throw new Error("its token was revoked");
    // One that is known only comes back.
    if (!wasKnown) onEvent({ kind: "joined", id: joined.id, label: joined.label, address: from });
    return joined;
  }

  #refuse(connection: number, pending: Waiting, error: WireError, revoked?: RevokedMachine): void {
    this.#pending.delete(connection);
    this.#say(connection, errorMessage(error));
    const { address, entry } = pending.admission;
    const { id = "", label = "" } = revoked ?? entry ?? {};
    if (error.code === WireErrorCode.helloReplayed)
      return this.#options.onEvent({ kind: "replayed", id, address });
    // It does not know that it is for good, and comes again and again.
    if (revoked !== undefined && this.#toldRevoked.has(id)) return;
    if (revoked !== undefined) this.#toldRevoked.add(id);
    this.#options.onEvent({ kind: "refused", id, label, address, reason: error.message });
  }

  #say(connection: number, message: OutMessage): void {
    this.#options.write(connection, toParts(outFrame(message), 0, 0));
  }
}
