/** The dialing side of the wire: one dial, one session. `Redialer` makes a new one whenever one is lost. */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Context, Dealer, Event } from "zeromq";
import { PacketfsError, messageOf } from "../../../packets/errors.ts";
import { systemCode } from "../../../runtime/errors.ts";
import { unlessAborted } from "../../../runtime/unless-aborted.ts";
import { RefusalReason, WireError, WireErrorCode } from "../../errors.ts";
import {
  CONNECT_TIMEOUT_MS,
  PEER_LOST_MS,
  RECONNECT_MS_MAX,
  RECONNECT_MS_MIN,
  TICK_MS,
} from "../../limits.ts";
import { BulkLink } from "../bulk/dialing.ts";
import type { BulkLinkOptions } from "../bulk/dialing.ts";
import { ClientHandshake } from "../handshake/client-handshake.ts";
import { NONCE_BYTES } from "../handshake/messages.ts";
import type { ServerKeys } from "../handshake/messages.ts";
import type { ExecutorOffer, Link, PeerInfo, Role } from "../link.ts";
import { closedHere } from "../session/errors.ts";
import { LoopClock } from "../session/loop-clock.ts";
import { SessionLink } from "../session/session-link.ts";
import { Ticker } from "../session/ticker.ts";
import { parseAddress, resolveEndpoints } from "../trust/address.ts";
import type { Endpoint } from "../trust/address.ts";
import type { Identity } from "../trust/keys.ts";
import { SocketWriter } from "./socket-writer.ts";
import { watchEvents, createContext, createDealer } from "./sockets.ts";
import { WRONG_KEY_STATUS } from "./zmtp.ts";

export interface DialOptions {
  /** HOST:PORT. */
  readonly address: string;
  /** The keys that the other side must hold, as its token or allow list entry says. */
  readonly server: ServerKeys;
  /** Who dials; a join token's identity when a machine joins. */
  readonly identity: Identity;
  readonly role: Role;
  readonly label: string;
  readonly features?: readonly string[];
  /** What this side lends. */
  readonly executors?: readonly ExecutorOffer[];
  /** HOST:PORT where others reach this side, if it listens. */
  readonly listen?: string | undefined;
  /** The machine's own identity when `identity` is a join token's: the session is then this one's. */
  readonly joining?: Identity | undefined;
  /**
   * How long nothing may come of the dial, by the time that this process had turns to listen; anew with each step that comes.
   * By default CONNECT_TIMEOUT_MS until there is a connection, and PEER_LOST_MS from then on.
   */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** For the link's bulk channels. */
  readonly bulk?: BulkLinkOptions;
}

/** Contexts own threads and live until the process ends, so all dials share one. */
let context: Context | undefined;

/**
 * Opens a session. Rejects with PFS_PEER_UNREACHABLE when nobody answers in time or each connection is cut, PFS_PEER_REFUSED
 * {reason} when the port or its keys are not what they must be or it says no, PFS_HELLO_REPLAYED, PFS_ADDRESS_INVALID, and
 * with the signal's own reason.
 */
export async function dial(options: DialOptions): Promise<Link> {
  const { address, server, identity, signal, timeoutMs = CONNECT_TIMEOUT_MS } = options;
  const endpoints = await lookUp(address, timeoutMs, signal);
  signal?.throwIfAborted();
  context ??= createContext();
  const ipv6 = endpoints.some((each) => each.ipv6);
  const dealer = createDealer({ context, identity, serverKey: server.curveKey, ipv6 });
  // An address from which nothing comes back must leave time for the others.
  dealer.connectTimeout = Math.ceil(Math.min(timeoutMs, CONNECT_TIMEOUT_MS) / endpoints.length);
  const connection = new DialedConnection(dealer, endpoints, options);
  const ticker = setInterval(() => connection.tick(), TICK_MS);
  const abort = (): void => connection.fail(signal!.reason);
  signal?.addEventListener("abort", abort, { once: true });
  try {
    connection.connect();
    return await connection.answered;
  } finally {
    clearInterval(ticker);
    signal?.removeEventListener("abort", abort);
  }
}

/** What the address leads to. The system asks name servers for as long as it likes, and cannot be told to stop: nobody waits longer. */
async function lookUp(
  address: string,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<[Endpoint, ...Endpoint[]]> {
  signal?.throwIfAborted();
  const { promise: givenUp, reject } = Promise.withResolvers<never>();
  const clock = new LoopClock(performance.now());
  const ticker = setInterval(() => {
    if (clock.look(performance.now()) >= timeoutMs)
      reject(unreachable(address, "no name server says what its name means"));
  }, TICK_MS);
  try {
    return await unlessAborted(Promise.race([resolveEndpoints(parseAddress(address)), givenUp]), signal);
  } catch (error) {
    if (error instanceof WireError || signal?.aborted === true) throw error;
    throw unreachable(address, "its name is not known", error);
  } finally {
    clearInterval(ticker);
  }
}

/** One dialing socket, from its first connection to the end of its session. */
class DialedConnection {
  readonly answered: Promise<Link>;
  readonly #dealer: Dealer;
  /** All that the name leads to; the first of them is tried now. */
  readonly #endpoints: Endpoint[];
  readonly #address: string;
  readonly #bulk: BulkLinkOptions | undefined;
  readonly #handshake: ClientHandshake;
  #resolve!: (link: Link) => void;
  #reject!: (error: unknown) => void;
  #link: SessionLink | undefined;
  readonly #timeoutMs: number | undefined;
  readonly #clock = new LoopClock(performance.now());
  /** When something came of the dial last, by the loop's clock. */
  #newsAt = 0;
  #hasConnected = false;
  #hasShakenHands = false;
  /** Connections that were cut before they were encrypted, and whether the present one was. */
  #cuts = 0;
  #isCut = false;

  constructor(dealer: Dealer, endpoints: readonly Endpoint[], options: DialOptions) {
    const {
      address,
      server,
      identity,
      role,
      label,
      features = [],
      executors = [],
      listen,
      joining,
      timeoutMs,
      bulk,
    } = options;
    this.#bulk = bulk;
    this.#timeoutMs = timeoutMs;
    this.#dealer = dealer;
    this.#endpoints = [...endpoints];
    this.#address = address;
    const self = { label, features, executors, ...(listen === undefined ? {} : { address: listen }) };
    const random = (): Uint8Array => randomBytes(NONCE_BYTES);
    this.#handshake = new ClientHandshake({ address, server, identity, role, self, joining, random });
    this.answered = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    watchEvents(dealer, (event) => this.#happened(event));
    void this.#receive();
  }

  connect(): void {
    this.#dealer.connect(this.#endpoints[0]!.endpoint);
  }

  /** To be called every TICK_MS until there is an answer. */
  tick(): void {
    const patienceMs = this.#timeoutMs ?? (this.#hasConnected ? PEER_LOST_MS : CONNECT_TIMEOUT_MS);
    if (this.#clock.look(performance.now()) - this.#newsAt >= patienceMs) this.fail(this.#silence());
  }

  fail(error: unknown): void {
    if (this.#link !== undefined) return;
    this.#reject(error);
    if (!this.#dealer.closed) this.#dealer.linger = 0;
    this.#dealer.close();
  }

  #happened(event: Event): void {
    switch (event.type) {
      case "connect":
        this.#isCut = false;
        if (!this.#hasConnected) this.#news();
        this.#hasConnected = true;
        return;
      case "connect:retry":
        return this.#tryNext();
      case "handshake":
        this.#hasShakenHands = true;
        this.#news();
        if (this.#link === undefined) this.#say(this.#handshake.hello());
        return;
      case "handshake:error:auth":
        return this.fail(
          event.error.status === WRONG_KEY_STATUS
            ? this.#wrongServer()
            : refused(
                this.#address,
                RefusalReason.key,
                "does not let this token in: it was revoked or has expired, or is kept out for a moment; ask whoever runs the hub for a new one",
              ),
        );
      case "handshake:error:other":
        // The line broke, or the other side ended it without a word: there will be another connection.
        this.#cuts++;
        this.#isCut = true;
        return;
      case "disconnect":
        return this.#disconnected();
      default:
    }
  }

  #news(): void {
    this.#newsAt = this.#clock.at(performance.now());
  }

  /** Nobody listens at that address: the name may lead to others. */
  #tryNext(): void {
    if (this.#endpoints.length < 2 || this.#hasConnected || this.#dealer.closed) return;
    const tried = this.#endpoints.shift()!;
    this.#dealer.disconnect(tried.endpoint);
    this.#endpoints.push(tried);
    this.connect();
  }

  #disconnected(): void {
    const link = this.#link;
    if (link !== undefined) return this.#loseWhenRead(link);
    // It ended because of what it said, which no PacketFS port says.
    if (!this.#hasShakenHands && !this.#isCut) this.fail(this.#wrongServer());
  }

  /** What came before the connection ended is still to be read; a goodbye may be among it. */
  #loseWhenRead(link: SessionLink): void {
    if (!this.#dealer.closed && this.#dealer.readable) setImmediate(() => this.#loseWhenRead(link));
    else link.lose("its connection ended");
  }

  #say(parts: Uint8Array[]): void {
    // A failed write shows as a lost connection or as the end of the timeout.
    this.#dealer.send(parts).catch(() => undefined);
  }

  async #receive(): Promise<void> {
    try {
      for (;;) {
        const parts = await this.#dealer.receive();
        if (this.#link === undefined) this.#step(parts);
        else this.#link.receive(parts);
      }
    } catch (error) {
      // The socket was closed: by a failure that was told, or because the session is over.
      this.#link?.lose(messageOf(error));
    }
  }

  #step(parts: readonly Uint8Array[]): void {
    this.#news();
    const step = this.#handshake.receive(parts);
    switch (step.kind) {
      case "say":
        return this.#say(step.parts);
      case "failed":
        return this.fail(step.error);
      case "welcomed":
        this.#link = this.#begin(step.peer, step.session);
        return this.#resolve(this.#link);
    }
  }

  #begin(peer: PeerInfo, session: Uint8Array): SessionLink {
    const dealer = this.#dealer;
    const writer = new SocketWriter<SessionLink>({
      write: async (_link, parts) => {
        try {
          await dealer.send(parts);
          return "written";
        } catch (error) {
          return systemCode(error) === "EAGAIN" ? "later" : "gone";
        }
      },
      onGone: (gone) => gone.lose("its connection is gone"),
    });
    const link: SessionLink = new SessionLink({
      peer,
      session,
      now: () => performance.now(),
      port: {
        wake: () => {
          writer.wake(link);
          if (!link.core.isIdle) ticker.hurry();
        },
        over: () => {
          ticker.close();
          writer.close();
          dealer.close();
        },
      },
    });
    link.bulk = new BulkLink(link, this.#bulk);
    const ticker = new Ticker(() => {
      link.tick();
      return !link.core.isIdle;
    });
    return link;
  }

  #silence(): WireError {
    if (this.#hasShakenHands) return unreachable(this.#address, "it does not finish its handshake");
    if (!this.#hasConnected) return unreachable(this.#address, "nobody listens there");
    if (this.#cuts === 0) return unreachable(this.#address, "it does not answer");
    const times = this.#cuts === 1 ? "once" : `${this.#cuts} times`;
    return unreachable(this.#address, `the connection was cut ${times} before it was encrypted`);
  }

  #wrongServer(): WireError {
    return refused(
      this.#address,
      RefusalReason.server,
      "does not hold the expected key, or is no PacketFS port",
    );
  }
}

function unreachable(address: string, reason: string, cause?: unknown): WireError {
  const message = `${address} cannot be reached: ${reason}`;
  return new WireError(WireErrorCode.unreachable, message, { address, reason }, { cause });
}

function refused(address: string, reason: RefusalReason, text: string): WireError {
  return new WireError(WireErrorCode.refused, `${address} ${text}`, { address, reason });
}

export interface RedialerOptions extends Omit<DialOptions, "signal"> {
  /** A session began. Say who answers it (`onRequest`) before the first await. */
  readonly onLink: (link: Link) => void;
  /** A dial failed, or the session was lost; it is tried again. */
  readonly onFailure?: (error: PacketfsError) => void;
}

/** Keeps one session with a peer alive: dials, and dials again after ¼ s, ½ s, 1 s … 10 s when it is lost or refused. */
export class Redialer implements AsyncDisposable {
  #options: RedialerOptions;
  readonly #closing = new AbortController();
  readonly #done: Promise<void>;
  #link: Link | undefined;

  constructor(options: RedialerOptions) {
    this.#options = options;
    this.#done = this.#run();
  }

  /** The present session, if there is one. */
  get link(): Link | undefined {
    return this.#link;
  }

  /** This side lends these from now on, which is said at the beginning of a session: the present one ends. */
  lend(executors: readonly ExecutorOffer[]): void {
    this.#options = { ...this.#options, executors };
    void this.#link?.close();
  }

  async close(): Promise<void> {
    this.#closing.abort(closedHere());
    await this.#link?.close();
    await this.#done;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    let pauseMs = RECONNECT_MS_MIN;
    while (!signal.aborted) {
      const error = await this.#session(() => (pauseMs = RECONNECT_MS_MIN));
      if (signal.aborted) return;
      // Peers that lost the same hub at the same moment must not come back at the same moment.
      const retryMs = pauseMs * (0.75 + Math.random() / 2);
      this.#options.onFailure?.(error);
      await sleep(retryMs, undefined, { signal }).catch(() => undefined);
      pauseMs = Math.min(RECONNECT_MS_MAX, pauseMs * 2);
    }
  }

  /** Resolves with what ended the session, or with why there was none. */
  async #session(begun: () => void): Promise<PacketfsError> {
    try {
      const { signal } = this.#closing;
      const { executors } = this.#options;
      const link = await dial({ ...this.#options, signal });
      // It may have come in the very moment of the end, which waits for no session that it does not know.
      if (signal.aborted) await link.close();
      signal.throwIfAborted();
      this.#link = link;
      begun();
      this.#options.onLink(link);
      // It was said before that this side lends others.
      if (this.#options.executors !== executors) void link.close();
      return await link.closed;
    } catch (error) {
      if (error instanceof PacketfsError) return error;
      throw error;
    } finally {
      this.#link = undefined;
    }
  }
}
