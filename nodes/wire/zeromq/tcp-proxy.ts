/**
 * A TCP proxy before the ROUTER, because of what libzmq cannot do: count the bytes of one connection, let the keys that it
 * asks about be told apart by connection, and close a single one. Every connection from outside is joined to one of the
 * ROUTER's own endpoint.
 *
 * A handshake is held back until all that the other side has to say in it is there. So whoever is let in does not make
 * anybody wait, however its line is.
 *
 * It runs in a thread of its own, so that lines go on moving while the port's own thread computes. That costs an eighth of the
 * CPU that a hub uses for a put and a twentieth of that for a get, and some tens of microseconds a message.
 */
import { once } from "node:events";
import { connect, createServer } from "node:net";
import type { AddressInfo, NetConnectOpts, Server, Socket } from "node:net";
import {
  CONNECTION_LINGER_MS,
  HANDSHAKE_TIMEOUT_MS,
  PENDING_CONNECTIONS_MAX,
  TICK_MS,
} from "../../limits.ts";
import { LoopClock } from "../session/loop-clock.ts";
import type { Address } from "../trust/address.ts";
import { KeyBudget } from "./key-budget.ts";
import { ProxiedConnection } from "./proxied-connection.ts";
import type { AcceptBulk } from "./proxied-connection.ts";
import { FULL_INDEX } from "./proxy-protocol.ts";
import type { FromProxy, ProxyCounters } from "./proxy-protocol.ts";

export interface TcpProxyOptions {
  /** Where the ROUTER listens. */
  readonly inner: NetConnectOpts;
  readonly counters: ProxyCounters;
  readonly tell: (message: FromProxy) => void;
  /** A connection would be a bulk channel. Whether it is one: it then belongs to that. */
  readonly acceptBulk: AcceptBulk;
}

export class TcpProxy {
  readonly #options: TcpProxyOptions;
  readonly #server: Server;
  readonly #connections = new Map<number, ProxiedConnection>();
  /** Those in their greeting or waiting, by address, the oldest first. */
  readonly #pending = new Map<string, Set<ProxiedConnection>>();
  readonly #full = new Set<ProxiedConnection>();
  readonly #budgets = new Map<string, KeyBudget<ProxiedConnection>>();
  readonly #clock = new LoopClock(performance.now());
  /** The one that is being admitted, or the last one that was. */
  #admitted: ProxiedConnection | undefined;
  #isGranted = false;
  #lastNumber = 0;
  #pendingCount = 0;
  #ticker: NodeJS.Timeout | undefined;
  #closed: Promise<void> | undefined;

  constructor(options: TcpProxyOptions) {
    this.#options = options;
    this.#server = createServer({ noDelay: true, keepAlive: true }, (client) => this.#accept(client));
  }

  /** Opens the port; 0 lets the system choose. Resolves with the port's number. Rejects with the system's error. */
  async listen({ host, port }: Address): Promise<number> {
    this.#server.listen({ host, port });
    await once(this.#server, "listening");
    // A connection that cannot be accepted, for want of descriptors for example, is no loss but its own.
    this.#server.on("error", () => undefined);
    return (this.#server.address() as AddressInfo).port;
  }

  /** One connection may be admitted: the next one that waits, or that will. */
  grant(): void {
    this.#isGranted = true;
    this.#admitNext();
  }

  /** The ROUTER has the connection that was admitted, with this key; `counter` is the index of what comes out of it. */
  open(number: number, counter: number, key: string): void {
    if (this.#admitted?.number !== number) return;
    for (const [other, { isEmpty }] of this.#budgets) if (isEmpty) this.#budgets.delete(other);
    const budget = this.#budgets.get(key) ?? new KeyBudget();
    this.#budgets.set(key, budget);
    this.#admitted.open(counter, budget);
  }

  /** The connection that was admitted was refused. */
  refuse(number: number): void {
    this.#connections.get(number)?.refuse();
  }

  cut(number: number): void {
    this.#connections.get(number)?.cut();
  }

  /** Looks after those in their handshake and those that are full, every TICK_MS while there are any. */
  #tick(): void {
    const time = this.#clock.look(performance.now());
    const oldest = time - HANDSHAKE_TIMEOUT_MS;
    for (const pending of this.#pending.values()) {
      for (const connection of pending) {
        if (connection.since > oldest) break;
        // One that waits for its turn has done its part.
        if (connection.isWaiting) continue;
        this.#options.tell({ kind: "unfinished", address: connection.address, reason: "late" });
        connection.cut();
      }
    }
    for (const connection of this.#full) {
      const stuck = connection.look(time);
      if (stuck === undefined) continue;
      // No more is read of it. The port knows who it is, and says that it is to be cut.
      this.#notFull(stuck);
      this.#options.tell({ kind: "flood", connection: stuck.number });
    }
    if (this.#pendingCount === 0 && this.#full.size === 0) this.#stopTicking();
  }

  #startTicking(): void {
    this.#ticker ??= setInterval(() => this.#tick(), TICK_MS);
  }

  #stopTicking(): void {
    clearInterval(this.#ticker);
    this.#ticker = undefined;
  }

  /** Closes the port. What the ROUTER still has to say leaves, within CONNECTION_LINGER_MS; the ROUTER is to be closed too. */
  close(): Promise<void> {
    this.#closed ??= new Promise((resolve) => {
      const linger = setTimeout(() => {
        for (const connection of this.#connections.values()) connection.cut();
      }, CONNECTION_LINGER_MS);
      const done = (): void => {
        clearTimeout(linger);
        this.#stopTicking();
        resolve();
      };
      for (const pending of this.#pending.values()) for (const connection of pending) connection.cut();
      if (this.#server.listening) this.#server.close(done);
      else done();
    });
    return this.#closed;
  }

  #accept(client: Socket): void {
    const { inner, counters, tell, acceptBulk } = this.#options;
    const number = ++this.#lastNumber;
    const connection: ProxiedConnection = new ProxiedConnection({
      number,
      client,
      since: this.#clock.at(performance.now()),
      counters,
      acceptBulk,
      connectInner: (onread) => connect({ ...inner, onread }),
      onWaiting: () => this.#admitNext(),
      onForeign: () => tell({ kind: "unfinished", address: connection.address, reason: "foreign" }),
      onFull: (isFull) => {
        if (!isFull) return this.#notFull(connection);
        this.#full.add(connection);
        Atomics.store(counters, FULL_INDEX, this.#full.size);
        this.#startTicking();
      },
      onGone: (wasAdmitted) => {
        this.#connections.delete(number);
        this.#notFull(connection);
        this.#forgetPending(connection);
        if (wasAdmitted) tell({ kind: "admission-ended", connection: number });
      },
    });
    this.#connections.set(number, connection);
    this.#startTicking();
    const { address } = connection;
    const pending = this.#pending.get(address) ?? new Set();
    this.#pending.set(address, pending.add(connection));
    if (++this.#pendingCount > PENDING_CONNECTIONS_MAX) this.#cutOldestOfMost();
  }

  #admitNext(): void {
    if (!this.#isGranted) return;
    const connection = this.#takeWaiting();
    if (connection === undefined) return;
    this.#isGranted = false;
    this.#admitted = connection;
    this.#options.tell({ kind: "admitted", connection: connection.number, address: connection.address });
    connection.admit();
  }

  /** The next connection to be admitted: addresses take turns, so that none waits for the crowd of another. */
  #takeWaiting(): ProxiedConnection | undefined {
    for (const [address, pending] of this.#pending) {
      for (const connection of pending) {
        if (!connection.isWaiting) continue;
        this.#forgetPending(connection);
        const others = this.#pending.get(address);
        if (others !== undefined) {
          this.#pending.delete(address);
          this.#pending.set(address, others);
        }
        return connection;
      }
    }
    return undefined;
  }

  /** The address that has most of them must make room. */
  #cutOldestOfMost(): void {
    let most = new Set<ProxiedConnection>();
    for (const pending of this.#pending.values()) if (pending.size > most.size) most = pending;
    const [oldest] = most;
    oldest?.cut();
  }

  #notFull(connection: ProxiedConnection): void {
    this.#full.delete(connection);
    Atomics.store(this.#options.counters, FULL_INDEX, this.#full.size);
  }

  #forgetPending(connection: ProxiedConnection): void {
    const pending = this.#pending.get(connection.address);
    if (pending?.delete(connection) !== true) return;
    this.#pendingCount--;
    if (pending.size === 0) this.#pending.delete(connection.address);
  }
}
