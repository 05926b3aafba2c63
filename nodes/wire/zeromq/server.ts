/**
 * The listening side of the wire: a guarded port whose connections become sessions, each a `Link`.
 *
 *     appeared ─▶ pending ─signed HELLO──▶ session ──lost, closed──▶ over
 *                   └──refused───────────────────────────────────▶ over: not spoken with any more
 */
import { EnvelopeOffset, MessageType } from "../../../packets/envelope.ts";
import { hasCode } from "../../../packets/errors.ts";
import type { PacketfsError } from "../../../packets/errors.ts";
import { RefusalReason, WireError, WireErrorCode } from "../../errors.ts";
import { errorMessage, closedHere } from "../session/errors.ts";
import { outFrame, toParts } from "../session/message.ts";
import type { Identity } from "../trust/keys.ts";
import type { Link, OutMessage, WireMessage } from "../link.ts";
import { BulkGrants } from "../bulk/granting.ts";
import type { BulkGrantsOptions } from "../bulk/granting.ts";
import { BULK_FEATURE } from "../bulk/messages.ts";
import { PendingConnections } from "./pending-connections.ts";
import type { Admission } from "./admissions.ts";
import type { BegunSession } from "./pending-connections.ts";
import { Port } from "./port.ts";
import { SocketWriter } from "./socket-writer.ts";
import { putOut, refusal, replayedHello } from "../handshake/server-handshake.ts";
import type { AllowList, AllowListEntry } from "../trust/allow-list.ts";
import { SessionLink } from "../session/session-link.ts";
import { Ticker } from "../session/ticker.ts";
import type { WireEvent } from "./events.ts";

/** What a server tells its owner beside its links, in words for people. */
export { describeWireEvent } from "./events.ts";
export { checkPort } from "./port.ts";

export interface WireServerOptions {
  readonly identity: Identity;
  /** Asked at every connection; removing an entry ends its sessions. */
  readonly allowList: AllowList;
  readonly role: "hub" | "node";
  readonly label: string;
  readonly features?: readonly string[];
  /** A session began. Say who answers it (`onRequest`) before the first await. */
  readonly onLink: (link: Link) => void;
  /** A machine has joined the allow list; keep it. When this rejects, the machine is removed again and refused. */
  readonly onJoin?: (joined: AllowListEntry, token: AllowListEntry) => void | Promise<void>;
  readonly onEvent?: (event: WireEvent) => void;
  /** Bulk channels, where peers may open some. */
  readonly bulk?: Pick<BulkGrantsOptions, "allowsClear" | "onChannel">;
}

export class WireServer implements AsyncDisposable {
  /** Resolves with the reason when the port is closed. */
  readonly closed: Promise<PacketfsError>;
  readonly #options: WireServerOptions;
  readonly #port: Port;
  readonly #pending: PendingConnections;
  readonly #writer: SocketWriter<SessionLink>;
  readonly #sessions = new Map<number, SessionLink>();
  readonly #connections = new Map<SessionLink, number>();
  /** Connections whose sessions are over, though the peers may not know. */
  readonly #over = new Set<number>();
  readonly #ignoreRemovals: () => void;
  readonly #ticker: Ticker;
  #address: string | undefined;
  #grants: BulkGrants | undefined;
  #resolveClosed!: (error: PacketfsError) => void;

  constructor(options: WireServerOptions) {
    this.#options = options;
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    const { identity, allowList, role, label, onJoin, bulk } = options;
    const features = [...(options.features ?? []), ...(bulk === undefined ? [] : [BULK_FEATURE])];
    const onEvent = (event: WireEvent): void => options.onEvent?.(event);
    this.#port = new Port({
      identity,
      allowList,
      onEvent,
      listener: {
        appeared: (connection, admission) => this.#pending.appeared(connection, admission),
        disappeared: (connection) => this.#disappeared(connection),
        received: (connection, parts) => this.#received(connection, parts),
        refused: (routingId, admission) => this.#refusedAtAdmission(routingId, admission),
        failed: (error) => void this.#end(error),
      },
    });
    this.#pending = new PendingConnections({
      identity,
      allowList,
      role,
      label,
      features,
      onJoin,
      onEvent,
      // The socket never makes these wait, and a connection that has no room for them is no loss.
      write: (connection, parts) => void this.#port.write(connection, parts),
      onSession: (connection, begun) => this.#begin(connection, begun),
    });
    this.#writer = new SocketWriter<SessionLink>({
      write: (link, parts) => {
        const connection = this.#connections.get(link);
        return connection === undefined ? Promise.resolve("gone") : this.#port.write(connection, parts);
      },
      onGone: (link) => link.lose("its connection is gone"),
    });
    this.#ignoreRemovals = allowList.onRemoval((entry) => this.#removed(entry));
    this.#ticker = new Ticker(() => this.#tick());
  }

  /** Opens the port, once; 0 lets the system choose. Rejects with PFS_PORT_UNAVAILABLE or PFS_AUTHENTICATOR_LOST. */
  async bind(host: string, port: number): Promise<void> {
    this.#address = await this.#port.open(host, port);
    const { bulk } = this.#options;
    if (bulk !== undefined) this.#grants = new BulkGrants({ end: this.#port.bulk, ...bulk });
  }

  /** HOST:PORT. */
  get address(): string {
    if (this.#address === undefined) throw new Error("the server is not bound");
    return this.#address;
  }

  /** The sessions there are. */
  get links(): Link[] {
    return [...this.#connections.keys()].filter((link) => link.core.closed === undefined);
  }

  /** Ends all sessions, telling the peers, and closes the port. */
  async close(): Promise<void> {
    await Promise.all([...this.#connections.keys()].map((link) => link.close()));
    await this.#end(closedHere());
  }

  /** Closes the port at once, without a word to the peers: what a crash would do. */
  kill(): void {
    void this.#end(closedHere());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #begin(connection: number, { peer, session, admission }: BegunSession): void {
    const grant = (message: WireMessage): OutMessage => this.#grants!.grant(link, message);
    const own = this.#grants === undefined ? [] : [[MessageType.BULK, grant] as const];
    const link: SessionLink = new SessionLink({
      peer,
      session,
      own: new Map(own),
      now: () => performance.now(),
      port: { wake: () => this.#wake(link), over: () => this.#forget(link) },
    });
    this.#sessions.set(connection, link);
    this.#connections.set(link, connection);
    void link.closed.then((error) => {
      if (!hasCode(error, WireErrorCode.offence) && !hasCode(error, WireErrorCode.helloReplayed)) return;
      this.#port.punish(admission);
      const { address } = admission;
      this.#options.onEvent?.({ kind: "offence", id: peer.id, address, reason: error.message });
    });
    this.#options.onLink(link);
  }

  #wake(link: SessionLink): void {
    this.#writer.wake(link);
    if (!link.core.isIdle) this.#ticker.hurry();
  }

  #disappeared(connection: number): void {
    this.#pending.disappeared(connection);
    const link = this.#sessions.get(connection);
    this.#sessions.delete(connection);
    link?.lose("its connection ended");
    this.#over.delete(connection);
  }

  #received(connection: number, parts: readonly Uint8Array[]): void {
    const link = this.#sessions.get(connection);
    if (link === undefined) {
      if (this.#pending.received(connection, parts) || !this.#over.delete(connection)) return;
      // Told once. It must connect again to be listened to.
      const error = new WireError(WireErrorCode.sessionUnknown, "it had given the session up");
      void this.#port.write(connection, toParts(outFrame(errorMessage(error)), 0, 0));
    } else if (parts[0]?.[EnvelopeOffset.type] === MessageType.HELLO) {
      link.end(replayedHello());
    } else {
      link.receive(parts);
    }
  }

  #forget(link: SessionLink): void {
    this.#writer.forget(link);
    const connection = this.#connections.get(link);
    this.#connections.delete(link);
    if (connection === undefined || !this.#sessions.delete(connection)) return;
    this.#over.add(connection);
  }

  #refusedAtAdmission(routingId: Uint8Array, admission: Admission | undefined): void {
    const error =
      admission === undefined
        ? refusal(RefusalReason.key, "the connection came when it was not expected any more; come again")
        : refusal(RefusalReason.routing, "routing ids are assigned, not chosen");
    void this.#port.writeTo(routingId, toParts(outFrame(errorMessage(error)), 0, 0));
    const { entry, address = "" } = admission ?? {};
    const { id = "", label = "" } = entry ?? {};
    this.#options.onEvent?.({ kind: "refused", id, label, address, reason: error.message });
  }

  #removed(entry: AllowListEntry): void {
    for (const link of this.#connections.keys()) {
      if (link.peer.id === entry.id) link.end(putOut(this.#options.allowList.isRevoked(entry.id)));
    }
  }

  /** Whether somebody waits for something. */
  #tick(): boolean {
    this.#port.tick();
    this.#pending.tick();
    let isBusy = this.#port.isBusy || !this.#pending.isEmpty;
    for (const link of this.#connections.keys()) {
      link.tick();
      isBusy ||= !link.core.isIdle;
    }
    return isBusy;
  }

  async #end(error: PacketfsError): Promise<void> {
    this.#ticker.close();
    this.#ignoreRemovals();
    this.#pending.clear();
    for (const link of this.#connections.keys()) link.lose(error.message);
    this.#writer.close();
    const closed = this.#port.close();
    this.#resolveClosed(error);
    await closed;
  }
}
