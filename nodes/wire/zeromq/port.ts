/**
 * A guarded port: a proxy, a ROUTER behind it, and the authenticator without which neither is open. It turns ZeroMQ's
 * messages into connections that appear, speak and disappear, each with the key that it was let in with.
 *
 *   open: ZAP ─▶ ROUTER on this machine ─▶ check ─▶ proxy on the port ── authenticator ends, or close ─▶ closed
 */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import type { NetConnectOpts } from "node:net";
import type { Context, Router } from "zeromq";
import { PacketfsError } from "../../../packets/errors.ts";
import { WireError, WireErrorCode } from "../../errors.ts";
import { systemCode } from "../../../runtime/errors.ts";
import { PEER_LOST_MS } from "../../limits.ts";
import type { BulkEnd } from "../bulk/bulk-end.ts";
import { LoopClock } from "../session/loop-clock.ts";
import { endpointPort, formatAddress } from "../trust/address.ts";
import type { Address } from "../trust/address.ts";
import type { AllowList } from "../trust/allow-list.ts";
import { keyToHex } from "../trust/keys.ts";
import type { Identity } from "../trust/keys.ts";
import { Admissions, connectionOf, routingIdOf } from "./admissions.ts";
import type { Admission } from "./admissions.ts";
import { Authenticator } from "./authenticator.ts";
import type { RefusalOfConnection, WireEvent } from "./events.ts";
import { Penalties } from "./penalties.ts";
import { checkGuarded } from "./port-check.ts";
import { ProxyClient } from "./proxy-client.ts";
import { RefusalReports } from "./refusal-reports.ts";
import type { WriteResult } from "./socket-writer.ts";
import { randomizeRoutingIds, createContext, createRouter } from "./sockets.ts";

export interface PortListener {
  appeared(connection: number, admission: Admission): void;
  disappeared(connection: number): void;
  received(connection: number, parts: readonly Uint8Array[]): void;
  /** A connection that may not stay, because it chose its routing id or came unexpectedly. */
  refused(routingId: Uint8Array, admission: Admission | undefined): void;
  /** The port is closed for good, and not because it was asked to. */
  failed(error: PacketfsError): void;
}

export interface PortOptions {
  readonly identity: Identity;
  readonly allowList: AllowList;
  readonly listener: PortListener;
  readonly onEvent: (event: WireEvent) => void;
}

const SECRET_BYTES = 24;

/** What tells connections of the ROUTER apart: numbers, but of peers that chose their routing ids, which are those as text. */
type Name = number | string;

/** A connection that the ROUTER has. */
interface Connection {
  readonly routingId: Uint8Array;
  readonly admission: Admission | undefined;
  readonly key: string;
  /** Its number in the proxy, and what counts its bytes; undefined for the port's own. */
  readonly proxied: { readonly number: number; readonly counter: number } | undefined;
}

const NOBODY = { admission: undefined, candidate: undefined };

interface Candidate {
  readonly address: string;
  /** The connection's number in the proxy. */
  readonly number: number;
  /** By the loop's clock. */
  readonly since: number;
}

export class Port {
  readonly #options: PortOptions;
  readonly #context: Context = createContext();
  readonly #admissions = new Admissions<Candidate>();
  readonly #penalties = new Penalties();
  readonly #reports = new RefusalReports(performance.now());
  readonly #clock = new LoopClock(performance.now());
  readonly #connections = new Map<Name, Connection>();
  /** Names of connections by their numbers in the proxy. */
  readonly #names = new Map<number, Name>();
  readonly #countOfKey = new Map<string, number>();
  /** Routing ids that peers forged: nobody is let in while the ROUTER still has one. */
  readonly #forged = new Set<Name>();
  readonly #disconnected = randomBytes(SECRET_BYTES);
  #proxy: ProxyClient | undefined;
  #isGranted = false;
  #authenticator: Authenticator | undefined;
  #router: Router | undefined;
  #address: Address = { host: "", port: 0 };
  #isClosed = false;

  constructor(options: PortOptions) {
    this.#options = options;
  }

  /** Opens the port; 0 lets the system choose. Resolves with HOST:PORT. Rejects with PFS_PORT_UNAVAILABLE. */
  async open(host: string, port: number): Promise<string> {
    this.#address = { host, port };
    try {
      this.#startAuthenticator();
      await this.#openProxy(await this.#openRouter());
      if (this.#isClosed) throw new WireError(WireErrorCode.closed, "the port was closed while it opened");
      this.#admitNext();
      return formatAddress(this.#address);
    } catch (error) {
      await this.close();
      throw error instanceof PacketfsError ? error : unavailable(this.#address, error);
    }
  }

  /** The bulk channels of its thread. */
  get bulk(): BulkEnd {
    return this.#proxy!.bulk;
  }

  /** Writes one message to a connection. */
  write(connection: number, parts: readonly Uint8Array[]): Promise<WriteResult> {
    const { routingId = routingIdOf(connection) } = this.#connections.get(connection) ?? {};
    return this.writeTo(routingId, parts);
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

  /** Whoever has this connection broke the rules: it is kept out for a moment at its address. */
  punish({ curveKey, address }: Admission): number {
    return this.#penalties.penalize(keyToHex(curveKey), address, performance.now());
  }

  /** Whether somebody is being let in, or must be looked after. */
  get isBusy(): boolean {
    return this.#admissions.candidate !== undefined || this.#proxy?.hasFull === true;
  }

  /** To be called every TICK_MS while it is busy. */
  tick(): void {
    const time = this.#clock.look(performance.now());
    this.#proxy?.tick();
    const { candidate } = this.#admissions;
    // Neither let in nor refused: libzmq has forgotten it. That must not keep the others out.
    if (candidate !== undefined && time - candidate.since > PEER_LOST_MS) this.#proxy?.cut(candidate.number);
  }

  /** Resolves when what was written has left, within CONNECTION_LINGER_MS. */
  async close(): Promise<void> {
    this.#isClosed = true;
    // First, so that nobody takes the ROUTER's end for an answer.
    const closed = this.#proxy?.close();
    this.#router?.close();
    this.#authenticator?.close();
    await closed;
  }

  #startAuthenticator(): void {
    const { allowList } = this.#options;
    const authenticator = Authenticator.start({
      context: this.#context,
      allowList,
      admissions: this.#admissions,
      connections: (key) => ({ ofKey: this.#countOfKey.get(key) ?? 0, all: this.#connections.size }),
      pauseOf: (key, address) => this.#penalties.pauseOf(key, address, performance.now()),
      onRefusal: (refusal) => this.#refused(refusal),
    });
    this.#authenticator = authenticator;
    void authenticator.ended.then(() => {
      const message = "the port was closed because its authenticator ended";
      this.#fail(new WireError(WireErrorCode.authenticatorLost, message));
    });
  }

  /** Resolves with where the ROUTER listens. */
  async #openRouter(): Promise<NetConnectOpts> {
    const { identity } = this.#options;
    const authenticator = this.#authenticator!;
    authenticator.admitOnly(identity.curveKey);
    const options = { context: this.#context, identity, disconnected: this.#disconnected, ipv6: false };
    const router = randomizeRoutingIds(this.#context, () => createRouter(options));
    this.#router = router;
    const { wanted, path } = innerEndpoint();
    // Never `bind` and `unbind`: they work in another thread, while a socket is for one thread at a time.
    router.bindSync(wanted);
    const endpoint = path === undefined ? (router.lastEndpoint ?? "") : wanted;
    void this.#receive(router);
    const hasRefused = (curveKey: Uint8Array): boolean => authenticator.hasRefused(curveKey);
    const calibrated = this.#admissions.calibrated();
    await checkGuarded({ context: this.#context, endpoint, identity, hasRefused, calibrated });
    authenticator.admitListed();
    return path === undefined ? { host: "127.0.0.1", port: endpointPort(endpoint) } : { path };
  }

  async #openProxy(inner: NetConnectOpts): Promise<void> {
    const { host } = this.#address;
    this.#proxy = await ProxyClient.open(this.#address, inner, {
      admitted: (number, address) => {
        this.#isGranted = false;
        this.#admissions.begin({ address, number, since: this.#clock.at(performance.now()) });
      },
      admissionEnded: (number) => {
        if (this.#admissions.candidate?.number !== number) return;
        this.#admissions.end();
        this.#admitNext();
      },
      unfinished: (address, reason) => this.#report({ curveKey: "", id: "", address, reason }),
      flood: (number) => this.#cut(number, "a message without end"),
      failed: (error) => this.#fail(unavailable(this.#address, error)),
    });
    this.#address = { host, port: this.#proxy.port };
  }

  async #receive(router: Router): Promise<void> {
    try {
      for (;;) {
        const parts = await router.receive();
        this.#sort(parts.shift()!, parts);
      }
    } catch (error) {
      if (!this.#isClosed) this.#fail(unavailable(this.#address, error));
    }
  }

  #sort(routingId: Buffer, parts: readonly Buffer[]): void {
    const connection = connectionOf(routingId);
    const name = connection ?? routingId.toString("latin1");
    const known = this.#connections.get(name);
    if (parts.length === 1 && this.#disconnected.equals(parts[0]!)) {
      // Those with which the routing ids were moved on were never announced.
      if (known === undefined) return;
      this.#remove(name, known);
      if (connection !== undefined) this.#options.listener.disappeared(connection);
      return;
    }
    // The ROUTER announces a connection before anything that comes over it.
    if (known === undefined) return this.#appeared(name, routingId);
    if (known.proxied !== undefined) this.#proxy?.delivered(known.proxied.counter, parts);
    // Peers that chose their routing ids are not spoken with.
    if (connection !== undefined) this.#options.listener.received(connection, parts);
  }

  #appeared(name: Name, routingId: Buffer): void {
    const { listener } = this.#options;
    const appearance = this.#admissions.appeared(routingId);
    const { admission, candidate } = appearance.kind === "unexpected" ? NOBODY : appearance;
    this.#add(name, routingId, admission, candidate);
    switch (appearance.kind) {
      case "admitted":
        // The port's own connection has shown where the counter stands, and that is all.
        if (appearance.admission.entry !== undefined)
          listener.appeared(appearance.connection, appearance.admission);
        break;
      case "forged":
        this.#forged.add(name);
        if (candidate !== undefined) this.#cut(candidate.number, "a forged routing id");
        break;
      case "named":
        listener.refused(routingId, admission);
        break;
      case "unexpected":
        listener.refused(routingId, undefined);
        break;
    }
    this.#admitNext();
  }

  #admitNext(): void {
    if (this.#isGranted || this.#admissions.candidate !== undefined || this.#forged.size > 0) return;
    if (this.#proxy === undefined || this.#isClosed) return;
    this.#isGranted = true;
    this.#proxy.grant();
  }

  #add(
    name: Name,
    routingId: Uint8Array,
    admission: Admission | undefined,
    candidate: Candidate | undefined,
  ): void {
    const key = admission === undefined ? "" : keyToHex(admission.curveKey);
    const counter = candidate === undefined ? undefined : this.#proxy?.open(candidate.number, key);
    const proxied =
      candidate === undefined || counter === undefined ? undefined : { number: candidate.number, counter };
    this.#connections.set(name, { routingId, admission, key, proxied });
    if (proxied !== undefined) this.#names.set(proxied.number, name);
    this.#count(key, 1);
  }

  #remove(name: Name, { key, proxied }: Connection): void {
    this.#connections.delete(name);
    if (proxied !== undefined) {
      this.#names.delete(proxied.number);
      this.#proxy?.gone(proxied.counter);
    }
    this.#count(key, -1);
    if (this.#forged.delete(name)) this.#admitNext();
  }

  #count(key: string, difference: number): void {
    const count = (this.#countOfKey.get(key) ?? 0) + difference;
    if (count === 0) this.#countOfKey.delete(key);
    else this.#countOfKey.set(key, count);
  }

  /** Ends one connection at once, and keeps its key out for a while at its address. */
  #cut(number: number, reason: string): void {
    this.#proxy?.cut(number);
    const name = this.#names.get(number);
    const admission = name === undefined ? undefined : this.#connections.get(name)?.admission;
    if (admission === undefined) return;
    const pauseMs = this.punish(admission);
    const { entry, address } = admission;
    this.#options.onEvent({ kind: "cut", id: entry?.id ?? "", address, reason, pauseMs });
  }

  #refused(refusal: RefusalOfConnection): void {
    this.#report(refusal);
    const { candidate } = this.#admissions;
    if (candidate === undefined || refusal.reason === "unexpected") return;
    this.#proxy?.refuse(candidate.number);
    this.#admissions.end();
    this.#admitNext();
  }

  #report(refusal: RefusalOfConnection): void {
    const refusals = this.#reports.count(performance.now());
    if (refusals > 0) this.#options.onEvent({ kind: "turned-away", refusals, ...refusal });
  }

  #fail(error: PacketfsError): void {
    if (this.#isClosed) return;
    void this.close();
    this.#options.listener.failed(error);
  }
}

/**
 * Where the ROUTER listens for the proxy: on Linux a local socket that has no file, and whose other end's process is known;
 * elsewhere the loopback.
 */
function innerEndpoint(): { readonly wanted: string; readonly path?: string } {
  if (process.platform !== "linux") return { wanted: "tcp://127.0.0.1:*" };
  const name = `packetfs-${randomBytes(SECRET_BYTES).toString("hex")}`;
  return { wanted: `ipc://@${name}`, path: `\0${name}` };
}

/** Rejects with PFS_PORT_UNAVAILABLE where a port could not be opened now: for who would make something before, in vain. */
export async function checkPort(address: Address): Promise<void> {
  const server = createServer();
  try {
    server.listen(address);
    await once(server, "listening");
  } catch (error) {
    throw unavailable(address, error);
  } finally {
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }
}

function unavailable(of: Address, cause: unknown): WireError {
  const address = formatAddress(of);
  const system = systemCode(cause);
  const message = `the port ${address} cannot be opened: ${cause instanceof Error ? cause.message : system}`;
  return new WireError(WireErrorCode.portUnavailable, message, { address, system }, { cause });
}
