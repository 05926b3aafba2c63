/** A node: lends its workers and its store to a hub, and fetches what it lacks from whoever has it. */
import { EventEmitter } from "node:events";
import { hostname } from "node:os";
import { join } from "node:path";
import type { PacketfsError } from "../packets/errors.ts";
import { MessageType } from "../packets/envelope.ts";
import type { EventMap } from "../runtime/contracts/events.ts";
import type { Executor } from "../runtime/contracts/executor.ts";
import { Machine } from "../runtime/machine.ts";
import { namesOfStanding } from "../runtime/sandbox/process/wall-states.ts";
import type { WallState } from "../runtime/sandbox/process/wall-states.ts";
import { unlessAborted } from "../runtime/unless-aborted.ts";
import { describeFound, describeWithdrawn } from "./accelerator-info.ts";
import { WireErrorCode } from "./errors.ts";
import { Grants } from "./grants/grants.ts";
import { COST_FEATURE, MembersMeta, WHOLE_PUT_FEATURE, WithdrawMeta } from "./messages.ts";
import type { NodeLanes } from "./messages.ts";
import { PeerLinks } from "./transfer/peer-links.ts";
import { CatalogService } from "./serve/catalog-service.ts";
import { ChunkService, PutWriters } from "./serve/chunk-service.ts";
import { HeldPuts } from "./serve/held-puts.ts";
import { lanesOf } from "./serve/lane-list.ts";
import { LaneService } from "./serve/lane-service.ts";
import { USAGE_FILE, Usages } from "./serve/usage.ts";
import type { Usage } from "./serve/usage.ts";
import { answering, describeLeftBehind, serve } from "./serve/service.ts";
import type { ServedLink, Service } from "./serve/service.ts";
import { TransferService } from "./serve/transfer-service.ts";
import { MaintenanceService } from "./serve/maintenance-service.ts";
import { hasAnywhere, PeerSource } from "./transfer/peer-source.ts";
import { TRANSFER_FEATURE } from "./transfer/replication/messages.ts";
import { reachableAddress } from "./wire/trust/address.ts";
import type { Address } from "./wire/trust/address.ts";
import { loadIdentity } from "./wire/trust/identity-file.ts";
import { Identity } from "./wire/trust/keys.ts";
import { Role, isClient } from "./wire/link.ts";
import type { ExecutorOffer, Link } from "./wire/link.ts";
import { Redialer } from "./wire/zeromq/dial.ts";
import { AllowList } from "./wire/trust/allow-list.ts";
import { describeWireEvent, WireServer } from "./wire/zeromq/server.ts";
import { ACCESS_LOOK_MS } from "./limits.ts";
import { readMeta } from "./wire/session/meta.ts";
import { parseToken } from "./wire/trust/token.ts";

export interface JoinOptions {
  /** The join token that the hub printed. */
  readonly token: string;
  /** The store's directory; the node's identity stands in it too. */
  readonly store: string;
  /** Where other nodes reach it; without, the hub relays what it has. */
  readonly listen?: Address;
  /** HOST:PORT that other nodes and clients are told to dial; by default it follows from where it listens. */
  readonly advertise?: string;
  /** Its name for people; the host's by default. */
  readonly label?: string;
  /** Packets that it works on at once; one per core by default. */
  readonly workers?: number;
  /** As HubOptions has it. */
  readonly allowsClear?: boolean;
  /** Ends the node. */
  readonly signal?: AbortSignal;
  /** News for people. */
  readonly onEvent?: (text: string) => void;
}

/**
 * Joins a hub, and stays joined: a lost session is dialed again. Rejects with PFS_TOKEN_INVALID, as `Store.open` does,
 * with PFS_PORT_UNAVAILABLE, with what the first dial rejects with (PFS_PEER_UNREACHABLE, PFS_PEER_REFUSED), and with the signal's
 * reason before that has an answer.
 */
export async function joinHub(options: JoinOptions): Promise<JoinedNode> {
  const token = parseToken(options.token, "join");
  const { store: directory, label = hostname(), workers } = options;
  const allowList = new AllowList();
  let links: PeerLinks | undefined;
  const peers = async (): Promise<Awaited<ReturnType<PeerLinks["chunks"]>>> => (await links?.chunks()) ?? [];
  const events = new EventEmitter<EventMap>();
  events.on("repair", ({ text }) => options.onEvent?.(`store: ${text}`));
  const machine = await Machine.open({
    directory,
    events,
    id: "node",
    label,
    workers,
    looksAfresh: true,
    source: (store) => new PeerSource({ store, peers, events }),
  });
  let node: JoinedNode | undefined;
  try {
    const identity = await loadIdentity(join(directory, "node.identity"));
    const usages = await Usages.open(join(directory, USAGE_FILE), allowList);
    links = new PeerLinks({ identity, label, allowList, onLink: (link) => serve(link, []) });
    const grants = new Grants(token.signingKey, identity.id, Date.now());
    node = new JoinedNode({ ...options, label }, { machine, identity, allowList, links, usages, grants });
    await node.join(token);
    return node;
  } catch (error) {
    await (node ?? machine).close();
    throw error;
  }
}

interface NodeParts {
  /** Those that the hub gave clients for this node, and what is used of them. */
  readonly grants: Grants;
  readonly machine: Machine;
  readonly identity: Identity;
  readonly allowList: AllowList;
  readonly links: PeerLinks;
  readonly usages: Usages;
}

export class JoinedNode implements AsyncDisposable {
  readonly id: string;
  /** Resolves when the node has ended. */
  readonly closed: Promise<void>;
  readonly #options: JoinOptions;
  readonly #parts: NodeParts;
  /** Ends the sessions of keys that expired while the hub, which says so first, is away. */
  #expiry: NodeJS.Timeout | undefined;
  #label: string;
  #server: WireServer | undefined;
  #redialer: Redialer | undefined;
  readonly #served = new WeakMap<Link, ServedLink>();
  readonly #puts = new HeldPuts();
  #walls: readonly WallState[] = [];
  #ending: Promise<void> | undefined;
  #resolveClosed!: () => void;

  constructor(options: JoinOptions & { readonly label: string }, parts: NodeParts) {
    this.#label = options.label;
    this.id = parts.identity.id;
    this.#options = options;
    this.#parts = parts;
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
  }

  /** Its name for people, which no other node of its hub has. */
  get label(): string {
    return this.#label;
  }

  /** What stands between programs and this machine, and what is missing; none when no executor process starts. */
  get walls(): readonly WallState[] {
    return this.#walls;
  }

  /** Opens the port, if it is to listen, and dials the hub. */
  async join(token: ReturnType<typeof parseToken>): Promise<void> {
    const { listen, signal } = this.#options;
    if (listen !== undefined) await this.#listen(listen);
    // The hub is told at once what its programs will be behind here.
    const { machine } = this.#parts;
    this.#walls = await machine.walls();
    machine.events.on("withdrawn", (gpu) => {
      this.#options.onEvent?.(describeWithdrawn(gpu));
      this.#redialer?.lend(this.#offers());
    });
    // Finding its GPUs takes a second, and a minute where a driver hangs: the hub is told of them then.
    void machine.findAccelerators().then(() => {
      if (machine.accelerators.length === 0 || this.#ending !== undefined) return;
      this.#options.onEvent?.(describeFound(machine.accelerators));
      this.#redialer?.lend(this.#offers());
    });
    await this.#dial(token);
    // Whoever holds the node closes it too, and hears what went wrong.
    const ignored = (): void => {};
    signal?.addEventListener("abort", () => void this.close().catch(ignored), { once: true });
    if (signal?.aborted === true) await this.close();
  }

  /** Ends all its parts, whatever becomes of one of them. Rejects with what one could not end for. */
  close(): Promise<void> {
    this.#ending ??= this.#end();
    return this.#ending;
  }

  async #end(): Promise<void> {
    clearInterval(this.#expiry);
    const { links, usages, machine } = this.#parts;
    try {
      await using ending = new AsyncDisposableStack();
      // The last of these ends first: who is to ask for something is gone before what it would ask of.
      ending.defer(() => machine.close());
      ending.defer(() => usages.close());
      ending.use(links);
      ending.defer(() => this.#server?.close());
      ending.defer(() => this.#redialer?.close());
    } finally {
      this.#resolveClosed();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #listen({ host, port }: Address): Promise<void> {
    const { identity, allowList } = this.#parts;
    this.#server = new WireServer({
      identity,
      allowList,
      role: "node",
      label: this.label,
      features: [TRANSFER_FEATURE, WHOLE_PUT_FEATURE, COST_FEATURE],
      bulk: {
        allowsClear: this.#options.allowsClear === true,
        onChannel: (channel, link) => this.#served.get(link)!.channel(channel),
      },
      onLink: (link) => this.#serve(link, this.#peerServices(link)),
      onEvent: (event) => this.#options.onEvent?.(describeWireEvent(event)),
    });
    await this.#server.bind(host, port);
  }

  #offers(): ExecutorOffer[] {
    const walls = namesOfStanding(this.#walls);
    return this.#parts.machine.executors.map((executor) => offerOf(executor, walls));
  }

  /** Resolves when the hub has taken this node in. */
  async #dial({ address, curveKey, signingKey, secret }: ReturnType<typeof parseToken>): Promise<void> {
    const { identity, links } = this.#parts;
    const { advertise, signal } = this.#options;
    const bound = this.#server?.address;
    const listen = bound === undefined ? undefined : (advertise ?? (await reachableAddress(bound, address)));
    signal?.throwIfAborted();
    const joined = new Promise<void>((resolve, reject) => {
      let hasJoined = false;
      /** Why there is no session, as people were told last. */
      let told: string | undefined;
      this.#redialer = new Redialer({
        address,
        server: { curveKey, signingKey },
        identity: Identity.fromSecret(secret),
        joining: identity,
        role: Role.node,
        label: this.label,
        executors: this.#offers(),
        listen,
        onLink: (link) => {
          links.setHub(link);
          this.#serve(link, this.#hubServices(link));
          if (told !== undefined) this.#options.onEvent?.("the hub is here again");
          hasJoined = true;
          told = undefined;
          resolve();
        },
        onFailure: (error: PacketfsError) => {
          links.setHub(undefined);
          if (hasJoined) {
            // It was this side, which lends others now.
            if (error.code === WireErrorCode.closed) return;
            // It may be so for days.
            if (error.message !== told) this.#options.onEvent?.(`${error.message}; dialing again`);
            told = error.message;
            return;
          }
          void this.#redialer?.close();
          reject(error);
        },
      });
    });
    // A first dial takes as long as nobody answers.
    await unlessAborted(joined, signal);
  }

  /** Looks all the while where there is something that expires. */
  #watchExpiry(): void {
    const { allowList } = this.#parts;
    clearInterval(this.#expiry);
    if (this.#ending !== undefined || !allowList.entries().some(({ expiresAt }) => expiresAt !== undefined))
      return;
    this.#expiry = setInterval(() => allowList.removeExpired(Date.now()), ACCESS_LOOK_MS).unref();
  }

  #serve(link: Link, services: readonly Service[]): void {
    const served = serve(link, services, (error) =>
      this.#options.onEvent?.(describeLeftBehind(link.peer, error)),
    );
    this.#served.set(link, served);
  }

  #hubServices(link: Link): Service[] {
    const { machine, grants } = this.#parts;
    const learnMembers = answering(MessageType.MEMBERS, async (message) => {
      const asked = readMeta(MembersMeta, message);
      if (asked?.op === "lanes") {
        const said: NodeLanes = { ...lanesOf(machine, asked.lanesMax), granted: grants.packets };
        return { type: MessageType.OK, chunks: Buffer.from(JSON.stringify(said)) };
      }
      this.#learn(AllowList.fromJSON(JSON.parse(Buffer.from(message.chunks).toString())));
      return undefined;
    });
    const withdrawGrants = answering(MessageType.GRANT, async (message) => {
      grants.withdraw(readMeta(WithdrawMeta, message).job, Date.now());
      return undefined;
    });
    const services = [
      ...this.#storeServices(link.peer.id),
      this.#maintenanceService(),
      learnMembers,
      withdrawGrants,
    ];
    return [...services, new LaneService(link, machine)];
  }

  /** Who belongs to the network, from the hub. */
  #learn(members: AllowList): void {
    const { allowList, identity } = this.#parts;
    replaceAllowList(allowList, members);
    this.#watchExpiry();
    const label = members.byId(identity.id)?.label ?? this.#label;
    if (label === this.#label) return;
    this.#label = label;
    this.#options.onEvent?.(`the hub calls this node ${label}: another has the label it asked for`);
  }

  /** Other nodes may read; clients store and name files here too, and run packets, as far as their tokens and grants let them. */
  #peerServices(link: Link): Service[] {
    const { id, role } = link.peer;
    const { usages, machine, grants } = this.#parts;
    const { catalog } = machine.store;
    if (!isClient(role)) {
      const shared = this.#shared();
      return [new ChunkService(shared), new TransferService({ ...shared, catalog })];
    }
    return [...this.#storeServices(id, usages.of(id)), new LaneService(link, machine, grants)];
  }

  #storeServices(key: string, usage?: Usage): Service[] {
    const shared = this.#shared();
    const { store } = shared;
    const { catalog } = store;
    const puts = new PutWriters(() => store.openWriter(), { puts: this.#puts, key });
    const counted = usage === undefined ? {} : { usage };
    return [
      new ChunkService({ ...shared, puts, ...counted }),
      new TransferService({ ...shared, catalog, puts, ...counted }),
      new CatalogService({ ...shared, catalog, puts, ...counted }),
    ];
  }

  #maintenanceService(): MaintenanceService {
    const { usages } = this.#parts;
    const shared = this.#shared();
    const { store } = shared;
    const recounting = (): Promise<() => Promise<void>> => usages.recounting(store);
    return new MaintenanceService({ ...shared, catalog: store.catalog, recounting });
  }

  #shared(): Pick<Machine, "store" | "source"> & { hasAnywhere: (refs: Uint8Array) => Promise<Uint8Array> } {
    const { machine, links } = this.#parts;
    const { store, source } = machine;
    const peers = (): ReturnType<PeerLinks["chunks"]> => links.chunks();
    return { store, source, hasAnywhere: (refs) => hasAnywhere({ store, peers }, refs) };
  }
}

/** An executor as HELLO says it. A machine's executors are called by their ids there. */
function offerOf(
  { id: name, capacity, edition, accelerator }: Executor,
  walls: readonly string[],
): ExecutorOffer {
  return { name, capacity, edition, walls, ...(accelerator === undefined ? {} : { accelerator }) };
}

/** What the hub says replaces what it said before; sessions of those that it left out end. */
function replaceAllowList(allowList: AllowList, next: AllowList): void {
  for (const { id } of allowList.entries()) if (next.byId(id) === undefined) allowList.remove(id);
  for (const entry of next.entries()) allowList.add(entry);
}
