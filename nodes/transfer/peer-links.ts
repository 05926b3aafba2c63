/** A node's sessions with other nodes, made when a chunk is wanted that the hub itself has not. */
import { PEER_DIAL_MS, PEER_RETRY_MS } from "../limits.ts";
import { Role } from "../wire/link.ts";
import type { Link } from "../wire/link.ts";
import type { AllowList, AllowListEntry } from "../wire/trust/allow-list.ts";
import type { Identity } from "../wire/trust/keys.ts";
import { closedHere } from "../wire/session/errors.ts";
import { dial } from "../wire/zeromq/dial.ts";
import { RemoteChunks } from "./remote-chunks.ts";

export interface PeerLinksOptions {
  readonly identity: Identity;
  readonly label: string;
  readonly allowList: AllowList;
  /** A session with a node began. Say who answers it before the first await. */
  readonly onLink: (link: Link) => void;
}

interface PeerLink {
  readonly link: Link;
  readonly chunks: RemoteChunks;
}

export class PeerLinks implements AsyncDisposable {
  readonly #options: PeerLinksOptions;
  readonly #links = new Map<string, PeerLink>();
  readonly #dialing = new Map<string, Promise<void>>();
  /** When a peer that could not be reached may be tried again. */
  readonly #retryAt = new Map<string, number>();
  /** The hub's own chunks, and what only it can reach. */
  #hub: readonly [RemoteChunks, RemoteChunks] | undefined;
  readonly #closing = new AbortController();
  readonly #ignoreRemovals: () => void;

  constructor(options: PeerLinksOptions) {
    this.#options = options;
    this.#ignoreRemovals = options.allowList.onRemoval(({ id }) => this.#forget(id));
  }

  /** The session with the hub, while there is one. */
  setHub(hub: Link | undefined): void {
    this.#hub =
      hub === undefined
        ? undefined
        : [new RemoteChunks(hub, { here: true }), new RemoteChunks(hub, { here: false })];
  }

  /** Whom to ask for chunks, in this order: the hub for its own, nodes for theirs, the hub for what only it can reach. */
  async chunks(): Promise<readonly RemoteChunks[]> {
    await Promise.all(this.#reachable().map((entry) => this.#ensure(entry)));
    const nodes = [...this.#links.values()].map(({ chunks }) => chunks);
    const hub = this.#hub;
    if (hub === undefined) return nodes;
    const [own, relayed] = hub;
    return [own, ...nodes, relayed];
  }

  #reachable(): AllowListEntry[] {
    const { allowList, identity } = this.#options;
    const now = performance.now();
    return allowList
      .entries()
      .filter(
        ({ id, role, address }) =>
          role === Role.node &&
          address !== undefined &&
          id !== identity.id &&
          !this.#links.has(id) &&
          (this.#retryAt.get(id) ?? 0) <= now,
      );
  }

  async #ensure(entry: AllowListEntry): Promise<void> {
    let dialing = this.#dialing.get(entry.id);
    if (dialing === undefined) {
      dialing = this.#dial(entry).finally(() => this.#dialing.delete(entry.id));
      this.#dialing.set(entry.id, dialing);
    }
    await dialing;
  }

  async #dial(entry: AllowListEntry): Promise<void> {
    const { identity, label, allowList } = this.#options;
    const { id, address, curveKey, signingKey } = entry;
    try {
      const server = { curveKey, signingKey };
      const timeoutMs = PEER_DIAL_MS;
      const { signal } = this.#closing;
      const link = await dial({
        address: address!,
        server,
        identity,
        role: Role.node,
        label,
        timeoutMs,
        signal,
      });
      // Meanwhile it may have been revoked, or this node have ended.
      if (allowList.byId(id)?.role !== Role.node || signal.aborted) return void link.close();
      this.#options.onLink(link);
      this.#links.set(id, { link, chunks: new RemoteChunks(link, { here: true }) });
      void link.closed.then(() => {
        if (this.#links.get(id)?.link === link) this.#links.delete(id);
      });
    } catch {
      // The hub relays what this peer has, and it is tried again later.
      this.#retryAt.set(id, performance.now() + PEER_RETRY_MS);
    }
  }

  /** Who is off the list is not asked any more, and does not hear what others ask for. */
  #forget(id: string): void {
    const link = this.#links.get(id)?.link;
    this.#links.delete(id);
    void link?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ignoreRemovals();
    this.#closing.abort(closedHere());
    await Promise.all(this.#dialing.values());
    await Promise.all([...this.#links.values()].map(({ link }) => link.close()));
  }
}
