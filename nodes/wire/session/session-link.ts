/** A `Link` around a `SessionCore`: promises, signals and iterators in front, a port with a socket behind. */
import type { MessageType } from "../../../packets/envelope.ts";
import { PacketfsError, errorToJson, messageOf } from "../../../packets/errors.ts";
import { CLOSE_FLUSH_MS, EARLY_REQUESTS_MAX } from "../../limits.ts";
import type { BulkLink } from "../bulk/dialing.ts";
import { errorMessage, busy, cancelled, closedHere, offence } from "./errors.ts";
import type { SessionAction } from "./session-core.ts";
import { SessionCore } from "./session-core.ts";
import type { Link, OutMessage, PeerInfo, RequestHandler, RequestOptions, WireMessage } from "../link.ts";
import { Replier, ReplyStream } from "./replies.ts";

/** The socket behind a link. */
export interface LinkPort {
  /** There may be something to send: call `next` until it says that there is not. */
  wake(): void;
  /** The session is over, and what was left to say has left, or could not within CLOSE_FLUSH_MS. Called once. */
  over(): void;
}

interface Waiter {
  answered(message: WireMessage, isLast: boolean, cost: number): void;
  /** With one of ours, or with the reason of the request's signal. */
  failed(error: unknown): void;
}

export interface SessionLinkOptions {
  readonly peer: PeerInfo;
  readonly session: Uint8Array;
  readonly port: LinkPort;
  readonly now: () => number;
  /** What the wire itself answers, whoever answers the rest. */
  readonly own?: ReadonlyMap<MessageType, (message: WireMessage) => OutMessage>;
}

export class SessionLink implements Link {
  readonly peer: PeerInfo;
  readonly session: Uint8Array;
  /** Set by who dialed it. */
  bulk: BulkLink | undefined;
  readonly closed: Promise<PacketfsError>;
  readonly core: SessionCore;
  readonly #port: LinkPort;
  readonly #now: () => number;
  readonly #own: NonNullable<SessionLinkOptions["own"]>;
  readonly #waiters = new Map<number, Waiter>();
  readonly #replier: Replier;
  readonly #early: SessionAction[] = [];
  #rooms: { readonly isThere: () => boolean; readonly resolve: () => void }[] = [];
  readonly #silenceListeners: ((isSilent: boolean) => void)[] = [];
  #handler: RequestHandler | undefined;
  #resolveClosed!: (error: PacketfsError) => void;
  #resolveOver!: () => void;
  readonly #over: Promise<void>;
  /** When the session ended; what is left to say must leave soon after. */
  #closedAt = Number.POSITIVE_INFINITY;
  #isOver = false;

  constructor(options: SessionLinkOptions) {
    const { peer, session, port, now, own = new Map() } = options;
    this.peer = peer;
    this.session = session;
    this.#own = own;
    this.core = new SessionCore(`${peer.label} (${peer.id.slice(0, 8)})`, now());
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    this.#over = new Promise((resolve) => (this.#resolveOver = resolve));
    this.#port = port;
    this.#replier = new Replier({
      answer: (request, message, isLast) => this.#do(() => this.core.answer(request, message, isLast)),
      atWork: (request) => this.#do(() => this.core.atWork(request)),
      isWanted: (request) => this.core.isWanted(request),
      room: (request) => this.#room(() => this.core.hasRoom(request)),
    });
    this.#now = now;
  }

  async request(message: OutMessage, options: RequestOptions = {}): Promise<WireMessage> {
    return await new Promise((resolve, reject) => {
      const waiter: Waiter = { answered: resolve, failed: reject };
      this.#ask(message, options, false, waiter);
    });
  }

  stream(message: OutMessage, options: RequestOptions = {}): AsyncIterable<WireMessage> {
    return {
      [Symbol.asyncIterator]: () => {
        let request = 0;
        const stream = new ReplyStream({
          taken: (cost) => this.#do(() => this.core.taken(request, cost)),
          left: () => this.#do(() => this.core.withdraw(request, cancelled())),
        });
        request = this.#ask(message, options, true, stream);
        return stream;
      },
    };
  }

  notify(message: OutMessage): void {
    this.#do(() => this.core.notify(message));
  }

  onRequest(handler: RequestHandler): void {
    this.#handler = handler;
    for (const action of this.#early.splice(0)) this.#act(action);
  }

  get ended(): PacketfsError | undefined {
    return this.core.closed;
  }

  get silentMs(): number {
    return this.core.silentMs(this.#now());
  }

  get isSuspect(): boolean {
    return this.core.isSuspect(this.#now());
  }

  onSilence(listener: (isSilent: boolean) => void): void {
    this.#silenceListeners.push(listener);
  }

  get bufferedBytes(): number {
    return this.core.bufferedBytes;
  }

  async drained(): Promise<void> {
    await this.#room(() => this.core.hasFewBuffered);
  }

  async close(): Promise<void> {
    this.#do(() => this.core.close(closedHere()));
    await this.#over;
  }

  /** For the port: a message of this session came. */
  receive(parts: readonly Uint8Array[]): void {
    this.#do(() => this.core.receive(parts, this.#now()));
  }

  /** For the port: the connection is gone. */
  lose(reason: string): void {
    this.#do(() => this.core.lose(reason));
  }

  /** For the port: ends the session with a reason that the peer is told. */
  end(error: PacketfsError): void {
    this.#do(() => this.core.end(error));
  }

  /** For the port: called every TICK_MS, or every IDLE_TICK_MS while the core is idle. */
  tick(): void {
    this.#do(() => this.core.tick(this.#now()));
    this.#checkOver();
  }

  /** For the port: the next message to send. */
  next(): Uint8Array[] | undefined {
    const parts = this.core.next(this.#now());
    this.#actAll();
    if (parts === undefined) this.#checkOver();
    return parts;
  }

  #ask(message: OutMessage, options: RequestOptions, isStream: boolean, waiter: Waiter): number {
    const { signal, timeoutMs, silenceMs } = options;
    let request: number;
    try {
      signal?.throwIfAborted();
      request = this.core.ask(message, { isStream, timeoutMs, silenceMs }, this.#now());
    } catch (error) {
      if (!(error instanceof PacketfsError) && signal?.aborted !== true) throw error;
      waiter.failed(error);
      return 0;
    }
    if (signal === undefined) {
      this.#waiters.set(request, waiter);
    } else {
      const abort = (): void => {
        this.#waiters.delete(request);
        waiter.failed(signal.reason);
        this.#do(() => this.core.withdraw(request, cancelled()));
      };
      const done = (): void => signal.removeEventListener("abort", abort);
      signal.addEventListener("abort", abort, { once: true });
      this.#waiters.set(request, withEnd(waiter, done));
    }
    this.#port.wake();
    return request;
  }

  /** Runs something on the core, and then what it wants done. */
  #do(event: () => void): void {
    event();
    this.#actAll();
    if (this.core.closed === undefined || !this.core.isFlushed) this.#port.wake();
    else this.#checkOver();
  }

  #checkOver(): void {
    const isOver = this.core.closed !== undefined && this.core.isFlushed;
    if (this.#isOver || (!isOver && this.#now() < this.#closedAt + CLOSE_FLUSH_MS)) return;
    this.#isOver = true;
    this.#port.over();
    this.#resolveOver();
  }

  #actAll(): void {
    for (const action of this.core.takeActions()) this.#act(action);
  }

  #act(action: SessionAction): void {
    switch (action.kind) {
      case "asked":
      case "notified":
        return this.#handle(action);
      case "answered": {
        const waiter = this.#waiters.get(action.request);
        if (action.isLast) this.#waiters.delete(action.request);
        return waiter?.answered(action.message, action.isLast, action.cost);
      }
      case "failed": {
        const waiter = this.#waiters.get(action.request);
        this.#waiters.delete(action.request);
        return waiter?.failed(action.error);
      }
      case "withdrawn":
        return this.#replier.withdrawn(action.request, action.error ?? cancelled());
      case "silence":
        for (const listener of this.#silenceListeners) listener(action.isSilent);
        return;
      case "room": {
        const ready = this.#rooms.filter(({ isThere }) => isThere());
        this.#rooms = this.#rooms.filter((room) => !ready.includes(room));
        for (const { resolve } of ready) resolve();
        return;
      }
      case "closed":
        this.#early.length = 0;
        this.#closedAt = this.#now();
        return this.#resolveClosed(action.error);
    }
  }

  #handle(action: SessionAction & { kind: "asked" | "notified" }): void {
    const request = action.kind === "asked" ? action.request : 0;
    const own = this.#own.get(action.message.type);
    const handler: RequestHandler | undefined =
      own === undefined ? this.#handler : (message, reply) => reply(own(message));
    if (handler === undefined) {
      if (this.#early.length < EARLY_REQUESTS_MAX) this.#early.push(action);
      else if (request !== 0) this.core.answer(request, errorMessage(busy("this side")), true);
      return;
    }
    const reply = this.#replier.make(request);
    const fail = (error: unknown): void => {
      if (request !== 0) reply(errorMessage(PacketfsError.fromJSON(errorToJson(error))));
      // Nobody waits for an answer, so the session is what is left to end.
      else this.end(offence(this.peer.label, messageOf(error)));
    };
    try {
      const done = handler(action.message, reply);
      if (done !== undefined) done.catch(fail);
    } catch (error) {
      fail(error);
    }
  }

  #room(isThere: () => boolean): Promise<void> {
    if (isThere()) return Promise.resolve();
    return new Promise((resolve) => this.#rooms.push({ isThere, resolve }));
  }
}

function withEnd(waiter: Waiter, done: () => void): Waiter {
  return {
    answered: (message, isLast, cost) => {
      if (isLast) done();
      waiter.answered(message, isLast, cost);
    },
    failed: (error) => {
      done();
      waiter.failed(error);
    },
  };
}
