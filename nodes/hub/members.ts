/** The nodes that are connected to a hub now: their links, their chunks, and the executors that they lend. */
import { sameBytes } from "../../packets/digest.ts";
import { MessageType, Priority } from "../../packets/envelope.ts";
import type { NameRecord } from "../../runtime/contracts/catalog.ts";
import type { BarInfo, Editions, Executor, ProgramKind } from "../../runtime/contracts/executor.ts";
import { ExecutorList } from "../../runtime/job/candidates.ts";
import { partName } from "../../runtime/job/results.ts";
import { unlessAborted } from "../../runtime/unless-aborted.ts";
import { LANES_WAIT_MS, QUESTION_SILENCE_MS, QUESTION_TIMEOUT_MS } from "../limits.ts";
import { NodeLanes } from "../messages.ts";
import type { NodeStatus } from "../messages.ts";
import { LastingLink } from "../remote/lasting-link.ts";
import { RemoteCatalog } from "../remote/remote-catalog.ts";
import { RemoteExecutors } from "../remote/remote-executor.ts";
import { RemoteChunks } from "../transfer/remote-chunks.ts";
import { Role } from "../wire/link.ts";
import type { Link, PeerInfo } from "../wire/link.ts";
import { readJson } from "../wire/session/meta.ts";
import type { AllowList } from "../wire/trust/allow-list.ts";
import { keysToJson } from "../wire/trust/keys.ts";
import type { Identity } from "../wire/trust/keys.ts";

/** What a scheduler knows of an executor. */
export interface ExecutorLoad {
  readonly inFlight: number;
  readonly done: number;
  readonly barred: readonly BarInfo[];
}

interface Member {
  readonly link: Link;
  readonly chunks: RemoteChunks;
  readonly catalog: RemoteCatalog;
  readonly remote: RemoteExecutors;
  readonly since: number;
}

export class Members {
  /** What jobs run on; the hub adds its own executor to it. */
  readonly executors: ExecutorList;
  readonly #members = new Map<Link, Member>();

  constructor(executors: ExecutorList) {
    this.executors = executors;
  }

  /** Takes a node in until its link closes. Returns what it lends, whose messages are to be served. */
  add(link: Link): RemoteExecutors {
    const remote = new RemoteExecutors(link);
    const chunks = new RemoteChunks(link, { here: true });
    const catalog = new RemoteCatalog(LastingLink.over(link), QUESTION_TIMEOUT_MS);
    this.#members.set(link, { link, chunks, catalog, remote, since: performance.now() });
    for (const executor of remote.executors) this.executors.add(executor);
    void link.closed.then(() => {
      this.#members.delete(link);
      for (const executor of remote.executors) this.executors.remove(executor);
    });
    return remote;
  }

  /** The executors of the nodes that are called so, by id or label. */
  executorsOf(node: string): readonly Executor[] {
    return [...this.#members.values()].flatMap(({ link: { peer }, remote }) =>
      peer.id === node || peer.label === node ? remote.executors : [],
    );
  }

  /** The node whose executor this is, and what the node itself calls it; undefined for the hub's own. */
  lenderOf(executor: Executor): { readonly link: Link; readonly name: string } | undefined {
    for (const { link, remote } of this.#members.values()) {
      const name = remote.nameOf(executor);
      if (name !== undefined) return { link, name };
    }
    return undefined;
  }

  /** What the node with this id says of its lanes, at most so many; undefined when it does not say. */
  async lanesOf(node: string, lanesMax: number): Promise<NodeLanes | undefined> {
    const link = this.links.find(({ peer }) => peer.id === node);
    if (link === undefined || link.isSuspect) return undefined;
    const request = { type: MessageType.MEMBERS, meta: { op: "lanes", lanesMax } };
    try {
      return readJson(NodeLanes, await link.request(request, { timeoutMs: LANES_WAIT_MS }));
    } catch {
      // One of an older version, or one that is gone or busy: who asks wants to see the others.
      return undefined;
    }
  }

  get links(): readonly Link[] {
    return [...this.#members.keys()];
  }

  /** Whom to ask for chunks that the hub lacks. */
  get chunks(): readonly RemoteChunks[] {
    return [...this.#members.values()].map(({ chunks }) => chunks);
  }

  /** Frees what the nodes keep for an output file that was removed. Those that are away keep it. */
  async removeParts(file: string): Promise<void> {
    await this.#everyNode(async ({ catalog, remote }) => {
      await Promise.allSettled(remote.executors.map(({ id }) => catalog.remove(partName(file, id))));
    });
  }

  /**
   * Removes the name where it means what it meant here, in any of its versions: that was put at that node. Those that are away
   * keep it.
   */
  async removeCopies(name: string, versions: readonly NameRecord[]): Promise<void> {
    await this.#everyNode(async ({ catalog }) => {
      const copy = await catalog.resolve(name);
      if (copy === undefined || !versions.some(({ root }) => sameBytes(copy.root, root))) return;
      await catalog.remove(name, { expected: copy.version });
    });
  }

  async #everyNode(change: (member: Member) => Promise<void>): Promise<void> {
    const changes = [...this.#members.values()].filter(({ link }) => !link.isSuspect).map(change);
    // What is not there needs no removal, and a node that does not answer keeps what it has. One that says for ever that it
    // is at work is waited for as long as one that says nothing.
    const patience = AbortSignal.timeout(QUESTION_SILENCE_MS);
    await unlessAborted(Promise.allSettled(changes), patience).catch(() => undefined);
  }

  statuses(loadOf: (executor: Executor) => ExecutorLoad): NodeStatus[] {
    return [...this.#members.values()].map(({ link: { peer, silentMs }, remote }) => ({
      id: peer.id,
      label: peer.label,
      role: "node",
      ...(peer.address === undefined ? {} : { address: peer.address }),
      ...keysToJson(peer),
      ...lentBy(remote.executors, loadOf),
      ...wallsOf(peer),
      // A node that says nothing at all for PEER_LOST_MS is no member any more; one that only keeps its session alive is.
      lastSeenMs: silentMs,
    }));
  }
}

/** Those that all its executors say they are behind, where they say so. */
function wallsOf({ executors }: PeerInfo): Pick<NodeStatus, "walls"> {
  const [first, ...others] = executors;
  if (first?.walls === undefined) return {};
  return { walls: first.walls.filter((wall) => others.every(({ walls = [] }) => walls.includes(wall))) };
}

/** What executors of one machine are, and have to do, together. */
export function lentBy(
  executors: readonly Executor[],
  loadOf: (executor: Executor) => ExecutorLoad,
): Pick<NodeStatus, "workers" | "editions" | "accelerators" | "inFlight" | "done" | "barred"> {
  const lent = { workers: 0, inFlight: 0, done: 0, barred: [] as BarInfo[] };
  for (const executor of executors) {
    const { inFlight, done, barred } = loadOf(executor);
    lent.workers += executor.capacity.js ?? 0;
    lent.inFlight += inFlight;
    lent.done += done;
    lent.barred.push(...barred);
  }
  const accelerators = executors.flatMap(({ accelerator }) => accelerator ?? []);
  return { ...lent, editions: editionsOf(executors), accelerators };
}

function editionsOf(executors: readonly Executor[]): Editions {
  const editions: Partial<Record<ProgramKind, string[]>> = {};
  for (const { capacity, edition } of executors) {
    for (const kind of Object.keys(capacity) as ProgramKind[]) {
      const known = (editions[kind] ??= []);
      if (!known.includes(edition)) known.push(edition);
    }
  }
  return editions;
}

/**
 * Tells nodes who else belongs to the network, so that they let each other and clients in. Join tokens stay with the hub: a
 * machine joins there and nowhere else.
 */
export function pushMembers(hub: Identity, allowList: AllowList, links: readonly Link[]): void {
  const entries = allowList.toJSON().filter(({ role }) => role !== Role.join);
  const self = { ...keysToJson(hub), role: Role.hub, label: "hub" };
  const chunks = Buffer.from(JSON.stringify([self, ...entries]));
  for (const link of links) link.notify({ type: MessageType.MEMBERS, priority: Priority.control, chunks });
}
