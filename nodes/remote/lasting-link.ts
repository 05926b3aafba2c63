/**
 * A peer as a client holds it: one session at a time, dialed anew when somebody needs it and it is lost. What was asked over
 * a session that was lost is asked again over the next one, so whatever goes through here must bear to be asked twice.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { PacketfsError, hasCode } from "../../packets/errors.ts";
import { StoreErrorCode } from "../../runtime/errors.ts";
import { unlessAborted } from "../../runtime/unless-aborted.ts";
import { RefusalReason, WireErrorCode } from "../errors.ts";
import { CLIENT_REDIAL_MS_MAX, RECONNECT_MS_MIN, SESSIONS_PER_REQUEST_MAX } from "../limits.ts";
import type { Link, OutMessage, PeerInfo, RequestOptions, WireMessage } from "../wire/link.ts";
import { closedHere } from "../wire/session/errors.ts";

/** What becomes of a session that its user does not see end. */
export type ConnectionEvent =
  /** Somebody needs it and it is lost, or a dial failed; it is dialed again in `retryMs`. */
  | { readonly kind: "lost"; readonly error: PacketfsError; readonly retryMs: number }
  | { readonly kind: "back" };

export interface LastingLinkOptions {
  /** Opens another session with the same peer. */
  readonly dial: (signal: AbortSignal) => Promise<Link>;
  /** How long somebody who needs a session waits for another one; what the last dial failed with is the error then. */
  readonly reconnectMs: number;
  readonly onEvent?: ((event: ConnectionEvent) => void) | undefined;
  /** Milliseconds of a monotonic clock; the process's own by default. */
  readonly now?: () => number;
}

/** One try of something, over one session. */
export interface Attempt {
  /** 0 for the first; what was asked before may have been done, though its answer never came. */
  readonly number: number;
  /** Something came of it: sessions that are lost later are counted anew. */
  readonly progressed: () => void;
}

export class LastingLink {
  readonly #options: LastingLinkOptions;
  readonly #closing = new AbortController();
  #link: Link;
  #dialing: Promise<Link> | undefined;
  #renewed: (link: Link) => void = () => {};

  /** Over a session that is there. */
  constructor(link: Link, options: LastingLinkOptions) {
    this.#options = options;
    this.#link = link;
  }

  /** One session and no other: its end is the end of this. */
  static over(link: Link): LastingLink {
    const dial = async (): Promise<never> => {
      throw await link.closed;
    };
    return new LastingLink(link, { dial, reconnectMs: 0 });
  }

  /** Calls this with each later session, before anything is asked over it. */
  onRenewed(listener: (link: Link) => void): void {
    this.#renewed = listener;
  }

  /** Whether there may be another session after this one. */
  get isLasting(): boolean {
    return this.#options.reconnectMs > 0;
  }

  /** As the present session or the last one says. */
  get peer(): PeerInfo {
    return this.#link.peer;
  }

  get isSuspect(): boolean {
    return this.#link.ended === undefined && this.#link.isSuspect;
  }

  /** As a link's `request`, over as many sessions as it takes. */
  async request(message: OutMessage, options: RequestOptions = {}): Promise<WireMessage> {
    return await this.repeat((link) => link.request(message, options), options.signal);
  }

  /**
   * Does something over the present session, and all of it again over the next one when that is lost. Rejects with what
   * `work` rejects with for another reason, with the signal's reason, or as a dial does when there is no other session.
   */
  async repeat<Result>(
    work: (link: Link, attempt: Attempt) => Promise<Result>,
    signal?: AbortSignal,
  ): Promise<Result> {
    let lost = 0;
    for (let number = 0; ; number++) {
      const link = await this.#session(signal);
      try {
        return await work(link, { number, progressed: () => (lost = 0) });
      } catch (error) {
        signal?.throwIfAborted();
        if (!wasLost(link, error) || ++lost >= SESSIONS_PER_REQUEST_MAX) throw placed(error, link.peer);
      }
    }
  }

  /** Ends the session, and whatever waits for another. */
  async close(): Promise<void> {
    this.#closing.abort(closedHere());
    await this.#dialing?.catch(() => undefined);
    await this.#link.close();
  }

  async #session(signal: AbortSignal | undefined): Promise<Link> {
    signal?.throwIfAborted();
    this.#closing.signal.throwIfAborted();
    if (this.#link.ended === undefined) return this.#link;
    this.#dialing ??= this.#dialAgain().finally(() => (this.#dialing = undefined));
    return await unlessAborted(this.#dialing, signal);
  }

  async #dialAgain(): Promise<Link> {
    const { dial, reconnectMs, onEvent, now = monotonic } = this.#options;
    const { signal } = this.#closing;
    const giveUpAt = now() + reconnectMs;
    let error: PacketfsError = await this.#link.closed;
    onEvent?.({ kind: "lost", error, retryMs: 0 });
    for (let pauseMs = RECONNECT_MS_MIN; ; pauseMs = Math.min(CLIENT_REDIAL_MS_MAX, pauseMs * 2)) {
      try {
        const link = await dial(signal);
        if (signal.aborted) await link.close();
        signal.throwIfAborted();
        this.#link = link;
        this.#renewed(link);
        onEvent?.({ kind: "back" });
        return link;
      } catch (failure) {
        signal.throwIfAborted();
        if (!(failure instanceof PacketfsError)) throw failure;
        error = failure;
      }
      // Clients that lost the same hub at the same moment must not come back at the same moment.
      const retryMs = pauseMs * (0.75 + Math.random() / 2);
      if (!mayPass(error) || now() + retryMs >= giveUpAt) throw error;
      onEvent?.({ kind: "lost", error, retryMs });
      await sleep(retryMs, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
  }
}

/** A full disk is the peer's, which its own sentence says nothing of. */
function placed(error: unknown, { label }: PeerInfo): unknown {
  if (!hasCode(error, StoreErrorCode.full)) return error;
  const message = `the disk of ${JSON.stringify(label)} is full`;
  return new PacketfsError(error.code, message, error.data, { cause: error });
}

/** Whether a failure is that of the session, and another session may do better. */
function wasLost({ ended: reason }: Link, error: unknown): boolean {
  return reason !== undefined && reason === error && mayRenew(reason);
}

/** A connection that broke, or a peer that went in order or has forgotten the session; not one that was ended for cause. */
function mayRenew(reason: PacketfsError): boolean {
  if (!hasCode(reason, WireErrorCode.nodeLost)) return false;
  const { cause } = reason;
  if (cause === undefined) return true;
  return hasCode(cause, WireErrorCode.closed) || hasCode(cause, WireErrorCode.sessionUnknown);
}

/** Whether a dial that failed like this may succeed a little later: the peer is being started, perhaps. */
function mayPass(error: PacketfsError): boolean {
  if (hasCode(error, WireErrorCode.refused)) return error.data["reason"] === RefusalReason.server;
  return hasCode(error, WireErrorCode.unreachable) || hasCode(error, WireErrorCode.nodeLost);
}

function monotonic(): number {
  return performance.now();
}
