/** A client's sessions with nodes that it sends packets to itself: one with each, for all its programs. */
import { PEER_RETRY_MS } from "../limits.ts";
import type { DirectNode } from "../messages.ts";
import { serve } from "../serve/service.ts";
import type { Link } from "../wire/link.ts";
import { closedHere } from "../wire/session/errors.ts";
import { RemoteExecutors } from "./remote-executor.ts";

export class NodeLinks {
  readonly #dial: (node: DirectNode, signal: AbortSignal) => Promise<Link>;
  readonly #sessions = new Map<string, Promise<RemoteExecutors | undefined>>();
  /** When a node that could not be dialed may be tried again. */
  readonly #retryAt = new Map<string, number>();
  readonly #links = new Set<Link>();
  readonly #closing = new AbortController();

  constructor(dial: (node: DirectNode, signal: AbortSignal) => Promise<Link>) {
    this.#dial = dial;
  }

  /** The session with a node. Never rejects: undefined when there is none now. */
  async to(node: DirectNode): Promise<RemoteExecutors | undefined> {
    const { id } = node;
    const known = this.#sessions.get(id);
    if (known !== undefined) return await known;
    if ((this.#retryAt.get(id) ?? 0) > performance.now() || this.#closing.signal.aborted) return undefined;
    const session = this.#open(node);
    this.#sessions.set(id, session);
    return await session;
  }

  async #open(node: DirectNode): Promise<RemoteExecutors | undefined> {
    const { id } = node;
    try {
      const link = await this.#dial(node, this.#closing.signal);
      this.#links.add(link);
      const executors = new RemoteExecutors(link);
      serve(link, [executors]);
      void link.closed.then(() => {
        this.#links.delete(link);
        this.#sessions.delete(id);
      });
      return executors;
    } catch {
      // Whatever it is: the hub reaches the node.
      this.#retryAt.set(id, performance.now() + PEER_RETRY_MS);
      this.#sessions.delete(id);
      return undefined;
    }
  }

  async close(): Promise<void> {
    this.#closing.abort(closedHere());
    await Promise.all(this.#sessions.values());
    await Promise.all([...this.#links].map((link) => link.close()));
  }
}
