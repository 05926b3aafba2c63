import { setTimeout } from "node:timers/promises";
import { PacketfsError } from "../../../packets/errors.ts";
import { RECONNECT_MS_MAX, RECONNECT_MS_MIN } from "../../limits.ts";
import { dial } from "./dial.ts";
import type { DialOptions } from "./dial.ts";
import type { Link } from "../link.ts";

export interface RedialerOptions extends Omit<DialOptions, "signal"> {
  /** A session began. Say who answers it (`onRequest`) before the first await. */
  readonly onLink: (link: Link) => void;
  /** A dial failed, or the session was lost; it is tried again in `retryMs`. */
  readonly onFailure?: (error: PacketfsError, retryMs: number) => void;
}

/** Keeps one session with a peer alive: dials, and dials again after ¼ s, ½ s, 1 s … 10 s when it is lost or refused. */
export class Redialer implements AsyncDisposable {
  readonly #options: RedialerOptions;
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

  async close(): Promise<void> {
    this.#closing.abort();
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
      this.#options.onFailure?.(error, retryMs);
      await setTimeout(retryMs, undefined, { signal }).catch(() => undefined);
      pauseMs = Math.min(RECONNECT_MS_MAX, pauseMs * 2);
    }
  }

  /** Resolves with what ended the session, or with why there was none. */
  async #session(begun: () => void): Promise<PacketfsError> {
    try {
      const link = await dial({ ...this.#options, signal: this.#closing.signal });
      this.#link = link;
      begun();
      this.#options.onLink(link);
      return await link.closed;
    } catch (error) {
      if (error instanceof PacketfsError) return error;
      throw error;
    } finally {
      this.#link = undefined;
    }
  }
}
