/**
 * A guarded port: a ROUTER and the authenticator without which it is never open. It turns ZeroMQ's messages into
 * connections that appear, speak and disappear, each with the key that it was let in with.
 *
 *   open: ZAP ─▶ ROUTER on the loopback ─▶ check ─▶ ROUTER on the port ── authenticator ends, or close ─▶ closed
 *                   ▲                                     │
 *                   └───────────── reopen ────────────────┘ a peer forged a routing id
 */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Context, Router, Dealer } from "zeromq";
import { PacketfsError } from "../../../packets/errors.ts";
import { WireError, WireErrorCode, systemCode } from "../../errors.ts";
import { PORT_CHECK_TIMEOUT_MS, REBIND_TRIES, REBIND_MS } from "../../limits.ts";
import { endpointPort, formatAddress, resolveEndpoint } from "../trust/address.ts";
import type { Address, Endpoint } from "../trust/address.ts";
import type { AllowList } from "../trust/allow-list.ts";
import { Identity } from "../trust/keys.ts";
import { Authenticator, AdmissionControl, connectionOf, routingIdOf } from "./authenticator.ts";
import type { Stranger, Admission } from "./authenticator.ts";
import { Connections, nativeMemory } from "./floods.ts";
import type { WriteResult } from "./socket-writer.ts";
import {
  randomizeRoutingIds,
  createContext,
  createRouter,
  unbind,
  watchEvents,
  createDealer,
} from "./sockets.ts";

export interface PortListener {
  appeared(connection: number, admission: Admission): void;
  disappeared(connection: number): void;
  received(connection: number, parts: readonly Uint8Array[]): void;
  /** A connection that may not stay, because it chose its routing id or came unexpectedly. */
  refused(routingId: Uint8Array, admission: Admission | undefined): void;
  /** A connection is asked to say something, because it may be one that never says anything whole. */
  silent(connection: number): void;
  /** All connections are gone, because a peer attacked the port; it opens again. */
  reopened(culprit: Admission | undefined, reason: string): void;
  /** The port is closed for good, and not because it was asked to. */
  failed(error: PacketfsError): void;
}

export interface PortOptions {
  readonly identity: Identity;
  readonly allowList: AllowList;
  readonly listener: PortListener;
  readonly onStranger?: ((stranger: Stranger) => void) | undefined;
}

const SECRET_BYTES = 24;

export class Port {
  readonly #options: PortOptions;
  readonly #context: Context = createContext();
  readonly #admissions = new AdmissionControl();
  #authenticator: Authenticator | undefined;
  #router: Router | undefined;
  #address: Address = { host: "", port: 0 };
  #endpoint: Endpoint | undefined;
  readonly #connections = new Connections({ memory: nativeMemory, now: () => performance.now() });
  #disconnected: Buffer = Buffer.alloc(0);
  #isClosed = false;

  constructor(options: PortOptions) {
    this.#options = options;
  }

  /** Opens the port; 0 lets the system choose. Resolves with HOST:PORT. Rejects with PFS_PORT_UNAVAILABLE. */
  async open(host: string, port: number): Promise<string> {
    this.#address = { host, port };
    try {
      this.#endpoint = await resolveEndpoint(this.#address);
      this.#startAuthenticator();
      await this.#openRouter(1);
      return formatAddress(this.#address);
    } catch (error) {
      this.close();
      throw error instanceof PacketfsError ? error : this.#unavailable(error);
    }
  }

  /** Writes one message to a connection. */
  async write(connection: number, parts: readonly Uint8Array[]): Promise<WriteResult> {
    return await this.writeTo(routingIdOf(connection), parts);
  }

  async writeTo(routingId: Uint8Array, parts: readonly Uint8Array[]): Promise<WriteResult> {
    const router = this.#router;
    if (router === undefined || router.closed) return "gone";
    try {
      await router.send([routingId, ...parts]);
      return "written";
    } catch (error) {
      return systemCode(error) === "EAGAIN" ? "later" : "gone";
    }
  }

  /** To be called every TICK_MS. */
  tick(): void {
    const flood = this.#connections.findFlood((name) => {
      const connection = connectionOf(Buffer.from(name, "latin1"));
      if (connection !== undefined) this.#options.listener.silent(connection);
    });
    if (flood !== undefined) this.#reopen(flood, "a message without end");
  }

  /** What was written still leaves, within SOCKET_LINGER_MS. */
  close(): void {
    this.#isClosed = true;
    this.#router?.close();
    this.#authenticator?.close();
  }

  #startAuthenticator(): void {
    const { allowList, onStranger } = this.#options;
    const authenticator = Authenticator.start({
      context: this.#context,
      allowList,
      admissions: this.#admissions,
      connections: (key) => ({ ofKey: this.#connections.countOf(key), all: this.#connections.size }),
      onStranger,
    });
    this.#authenticator = authenticator;
    void authenticator.ended.then(() => {
      const message = "the port was closed because its authenticator ended";
      this.#fail(new WireError(WireErrorCode.authenticatorLost, message));
    });
  }

  async #openRouter(tries: number): Promise<void> {
    const { identity } = this.#options;
    const { endpoint, ipv6 } = this.#endpoint!;
    const authenticator = this.#authenticator!;
    this.#admissions.reset();
    authenticator.admitOnly(identity.curveKey);
    this.#disconnected = randomBytes(SECRET_BYTES);
    const options = { context: this.#context, identity, disconnected: this.#disconnected, ipv6 };
    const router = randomizeRoutingIds(this.#context, () => createRouter(options));
    this.#router = router;
    // Never `bind` and `unbind`: they work in another thread, while a socket is for one thread at a time.
    router.bindSync(ipv6 ? "tcp://[::1]:*" : "tcp://127.0.0.1:*");
    const loopback = router.lastEndpoint ?? "";
    void this.#receive(router);
    const hasRefused = (curveKey: Uint8Array): boolean => authenticator.hasRefused(curveKey);
    const calibrated = this.#admissions.calibrated();
    await checkGuarded({ context: this.#context, endpoint: loopback, identity, hasRefused, calibrated });
    unbind(router, loopback);
    await bindAgain(router, endpoint, tries);
    if (this.#isClosed) throw new WireError(WireErrorCode.closed, "the port was closed while it opened");
    // When it opens again, it is the same port.
    this.#endpoint = { endpoint: router.lastEndpoint ?? endpoint, ipv6 };
    this.#address = { host: this.#address.host, port: endpointPort(this.#endpoint.endpoint) };
    authenticator.admitListed();
  }

  async #receive(router: Router): Promise<void> {
    try {
      for (;;) {
        const [routingId, ...parts] = await router.receive();
        // What an old ROUTER still has to say concerns connections that are gone.
        if (router !== this.#router) return;
        this.#sort(routingId!, parts);
      }
    } catch (error) {
      if (!this.#isClosed && router === this.#router) this.#fail(this.#unavailable(error));
    }
  }

  #sort(routingId: Buffer, parts: readonly Buffer[]): void {
    const name = routingId.toString("latin1");
    const connection = connectionOf(routingId);
    const isKnown = this.#connections.hear(name);
    if (parts.length === 1 && this.#disconnected.equals(parts[0]!)) {
      this.#connections.remove(name);
      if (isKnown && connection !== undefined) this.#options.listener.disappeared(connection);
      return;
    }
    // The ROUTER announces a connection before anything that comes over it.
    if (!isKnown) return this.#appeared(name, routingId);
    // Peers that chose their routing ids are not spoken with.
    if (connection !== undefined) this.#options.listener.received(connection, parts);
  }

  #appeared(name: string, routingId: Buffer): void {
    const { listener } = this.#options;
    const appearance = this.#admissions.appeared(routingId);
    this.#connections.add(name, appearance.kind === "unexpected" ? undefined : appearance.admission);
    switch (appearance.kind) {
      case "admitted":
        // The port's own connection has shown where the counter stands, and that is all.
        if (appearance.admission.entry === undefined) return;
        return listener.appeared(appearance.connection, appearance.admission);
      case "forged":
        return this.#reopen(appearance.admission, "a forged routing id");
      case "named":
        return listener.refused(routingId, appearance.admission);
      case "unexpected":
        return listener.refused(routingId, undefined);
    }
  }

  /** Gets rid of a dangerous connection. All others go with it, for ZeroMQ cannot close a single one. */
  #reopen(culprit: Admission | undefined, reason: string): void {
    if (culprit !== undefined) this.#authenticator?.suspend(culprit.curveKey);
    // Nobody else may be let in while that connection lives.
    this.#authenticator?.admitOnly(this.#options.identity.curveKey);
    this.#closeRouter();
    this.#options.listener.reopened(culprit, reason);
    this.#openRouter(REBIND_TRIES).catch((error: unknown) => {
      this.#fail(error instanceof PacketfsError ? error : this.#unavailable(error));
    });
  }

  #closeRouter(): void {
    const router = this.#router;
    this.#router = undefined;
    this.#connections.clear();
    if (router === undefined) return;
    router.linger = 0;
    router.close();
  }

  #unavailable(cause: unknown): WireError {
    const address = formatAddress(this.#address);
    const system = systemCode(cause);
    const message = `the port ${address} cannot be opened: ${cause instanceof Error ? cause.message : system}`;
    return new WireError(WireErrorCode.portUnavailable, message, { address, system }, { cause });
  }

  #fail(error: PacketfsError): void {
    if (this.#isClosed) return;
    this.close();
    this.#options.listener.failed(error);
  }
}

/** A port that was just given up may take a moment to be free again. */
async function bindAgain(router: Router, endpoint: string, tries: number): Promise<void> {
  for (let tried = 1; ; tried++) {
    try {
      return router.bindSync(endpoint);
    } catch (error) {
      if (tried >= tries || systemCode(error) !== "EADDRINUSE") throw error;
      await sleep(REBIND_MS);
    }
  }
}

interface PortCheckOptions {
  readonly context: Context;
  /** A `tcp://` endpoint on the loopback that leads to the port's socket. */
  readonly endpoint: string;
  readonly identity: Identity;
  /** Whether the authenticator has refused this key. */
  readonly hasRefused: (curveKey: Uint8Array) => boolean;
  /** Resolves when the port has seen the connection made with its own key. */
  readonly calibrated: Promise<void>;
}

/**
 * Checks that a port is guarded before the world can reach it: a stranger is refused, and the port's own key is not.
 * Rejects with PFS_AUTHENTICATOR_LOST when a stranger is let in, or when nobody answers.
 */
async function checkGuarded(options: PortCheckOptions): Promise<void> {
  const { context, endpoint, identity, hasRefused, calibrated } = options;
  const ipv6 = endpoint.includes("[");
  const probe = async (from: Identity, letIn?: Promise<void>): Promise<string> => {
    const dealer = createDealer({ context, identity: from, serverKey: identity.curveKey, ipv6 });
    dealer.linger = 0;
    return await outcomeOf(dealer, endpoint, letIn);
  };
  const stranger = Identity.create();
  const outcome = await probe(stranger);
  if (outcome !== "refused" || !hasRefused(stranger.curveKey)) throw unguarded(`a stranger was ${outcome}`);
  const own = await probe(identity, calibrated);
  if (own !== "let in") throw unguarded(`the port's own key was ${own}`);
}

async function outcomeOf(dealer: Dealer, endpoint: string, letIn?: Promise<void>): Promise<string> {
  return await new Promise((resolve) => {
    watchEvents(dealer, ({ type }) => {
      if (type === "handshake" && letIn === undefined) settle("let in");
      if (type === "handshake:error:auth") settle("refused");
    });
    const settle = (outcome: string): void => {
      clearTimeout(timer);
      dealer.close();
      resolve(outcome);
    };
    const timer = setTimeout(settle, PORT_CHECK_TIMEOUT_MS, "not answered");
    void letIn?.then(() => settle("let in"));
    dealer.connect(endpoint);
  });
}

function unguarded(reason: string): WireError {
  const message = `the port was not opened, because it does not check keys as it must: ${reason}`;
  return new WireError(WireErrorCode.authenticatorLost, message, { reason });
}
