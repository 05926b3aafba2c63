/**
 * A hub: the machine that keeps the names and schedules the jobs of a network, and stores and computes like a node.
 *
 *   client ──▶ chunks, names, jobs ──▶ hub ◀── chunks, lanes ──▶ node
 */
import { EventEmitter } from "node:events";
import { hostname } from "node:os";
import { join } from "node:path";
import { messageOf } from "../../packets/errors.ts";
import type { PacketfsError } from "../../packets/errors.ts";
import type { EventMap } from "../../runtime/contracts/events.ts";
import { ExecutorList } from "../../runtime/job/candidates.ts";
import type { Jobs } from "../../runtime/job/jobs.ts";
import type { Executor } from "../../runtime/contracts/executor.ts";
import { Machine } from "../../runtime/machine.ts";
import { namesOfStanding } from "../../runtime/sandbox/process/wall-states.ts";
import type { WallState } from "../../runtime/sandbox/process/wall-states.ts";
import { COST_FEATURE, WHOLE_PUT_FEATURE } from "../messages.ts";
import type { NodeStatus } from "../messages.ts";
import { WireErrorCode } from "../errors.ts";
import { describeLeftBehind, serve } from "../serve/service.ts";
import type { ServedLink, Service } from "../serve/service.ts";
import { USAGE_FILE, Usages } from "../serve/usage.ts";
import { PeerSource } from "../transfer/peer-source.ts";
import { TRANSFER_FEATURE } from "../transfer/replication/messages.ts";
import { reachableAddress } from "../wire/trust/address.ts";
import type { Address } from "../wire/trust/address.ts";
import { keysToJson } from "../wire/trust/keys.ts";
import type { Identity } from "../wire/trust/keys.ts";
import { Role } from "../wire/link.ts";
import type { Link } from "../wire/link.ts";
import { checkPort, describeWireEvent, WireServer } from "../wire/zeromq/server.ts";
import { HUB_ID, HubServices } from "./hub-services.ts";
import { describeFound, describeWithdrawn } from "../accelerator-info.ts";
import { Members, lentBy, pushMembers } from "./members.ts";
import type { ExecutorLoad } from "./members.ts";
import { Access } from "./access.ts";
import { HubTokens } from "./tokens.ts";
import type { PrintedTokens } from "./tokens.ts";

export interface HubOptions {
  /** The store's directory; what else the hub keeps stands in it too. */
  readonly store: string;
  readonly listen: Address;
  /** HOST:PORT where others reach it; by default it follows from where it listens. */
  readonly advertise?: string;
  /** Its name for people; the host's by default. */
  readonly label?: string;
  /** Packets that it works on itself at once; 0 for a hub that only coordinates. By default one per core. */
  readonly workers?: number;
  /** Whether bytes that are verified otherwise travel in the clear to clients that would have it so too; they do not by default. */
  readonly allowsClear?: boolean;
  /** Ends the hub. */
  readonly signal?: AbortSignal;
  /** News for people: who came, who went, who was refused. */
  readonly onEvent?: (text: string) => void;
}

/** Rejects as `Store.open` does, with PFS_PORT_UNAVAILABLE, PFS_IDENTITY_INVALID or PFS_ALLOW_LIST_INVALID. */
export async function startHub(options: HubOptions): Promise<Hub> {
  const { store: directory, label = hostname(), workers, listen } = options;
  // No store is made for a hub that cannot be.
  await checkPort(listen);
  const members = new Members(new ExecutorList());
  const peers = async (): Promise<Members["chunks"]> => members.chunks;
  const events = new EventEmitter<EventMap>();
  events.on("node", (event) => {
    if (event.kind === "barred") options.onEvent?.(`${event.label} gets no more packets: ${event.reason}`);
  });
  events.on("withdrawn", (gpu) => options.onEvent?.(describeWithdrawn(gpu)));
  events.on("repair", ({ text }) => options.onEvent?.(`store: ${text}`));
  const machine = await Machine.open({
    directory,
    events,
    id: HUB_ID,
    label,
    workers,
    looksAfresh: true,
    source: (store) => new PeerSource({ store, peers, events }),
  });
  try {
    const tokens = new HubTokens(directory);
    const identity = await tokens.start();
    const onEvent = (text: string): void => options.onEvent?.(text);
    const access = await Access.open({ directory, label, tokens, onEvent });
    try {
      const usages = await Usages.open(join(directory, USAGE_FILE), access.allowList);
      const hub = new Hub({ ...options, label }, { machine, members, identity, tokens, access, usages });
      await hub.open(options.listen);
      return hub;
    } catch (error) {
      access.close();
      throw error;
    }
  } catch (error) {
    await machine.close();
    throw error;
  }
}

interface HubParts {
  readonly machine: Machine;
  readonly members: Members;
  readonly identity: Identity;
  readonly tokens: HubTokens;
  readonly access: Access;
  readonly usages: Usages;
}

export class Hub implements AsyncDisposable {
  /** Resolves when the hub has ended, with the reason when nobody asked for it. */
  readonly closed: Promise<PacketfsError | undefined>;
  readonly #options: HubOptions & { readonly label: string };
  readonly #parts: HubParts;
  readonly #jobs: Jobs;
  readonly #services: HubServices;
  readonly #server: WireServer;
  readonly #served = new WeakMap<Link, ServedLink>();
  #advertised = "";
  #printed: PrintedTokens | undefined;
  /** Once they are known. */
  #walls: readonly string[] | undefined;
  #ending: Promise<void> | undefined;
  #resolveClosed!: (error: PacketfsError | undefined) => void;

  constructor(options: HubOptions & { readonly label: string }, parts: HubParts) {
    this.#options = options;
    this.#parts = parts;
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    const { machine, members, identity, access } = parts;
    this.#jobs = machine.openJobs(members.executors, (out) => members.removeParts(out));
    this.#services = new HubServices({
      label: options.label,
      machine,
      members,
      jobs: this.#jobs,
      usages: parts.usages,
      identity,
      onFailure: (error) =>
        options.onEvent?.(`a result that nobody waits for could not be freed: ${messageOf(error)}`),
    });
    this.#server = new WireServer({
      identity,
      allowList: access.allowList,
      role: "hub",
      label: options.label,
      features: [TRANSFER_FEATURE, WHOLE_PUT_FEATURE, COST_FEATURE],
      bulk: {
        allowsClear: options.allowsClear === true,
        onChannel: (channel, link) => this.#served.get(link)!.channel(channel),
      },
      onLink: (link) => this.#welcome(link),
      onJoin: () => access.save(),
      onEvent: (event) => options.onEvent?.(describeWireEvent(event)),
    });
    access.onChange(() => this.#tellMembers());
    access.allowList.onRemoval(({ id }) => this.#services.dismiss(id));
  }

  /** Opens the port. */
  async open({ host, port }: Address): Promise<void> {
    await this.#server.bind(host, port);
    try {
      this.#advertised = this.#options.advertise ?? (await reachableAddress(this.#server.address));
      this.#printed = await this.#parts.tokens.printed(this.#advertised);
    } catch (error) {
      this.#server.kill();
      throw error;
    }
    // Jobs without kernels need not wait for its own GPUs, and those with any wait less.
    const { machine } = this.#parts;
    void machine.findAccelerators().then(() => {
      if (machine.accelerators.length === 0 || this.#ending !== undefined) return;
      this.#options.onEvent?.(describeFound(machine.accelerators));
    });
    void this.walls().then((walls) => (this.#walls = namesOfStanding(walls)));
    const { signal } = this.#options;
    signal?.addEventListener("abort", () => void this.close(), { once: true });
    void this.#server.closed.then((error) => this.#end(error));
    if (signal?.aborted === true) await this.close();
  }

  /** HOST:PORT where it listens. */
  get address(): string {
    return this.#server.address;
  }

  /**
   * What stands between programs and this machine, and what is missing, once a first executor process has started; none when
   * it does not start.
   */
  walls(): Promise<readonly WallState[]> {
    return this.#parts.machine.walls();
  }

  /** HOST:PORT where others reach it. */
  get advertised(): string {
    return this.#advertised;
  }

  /** Lets whoever has it use the hub. */
  get clientToken(): string {
    return this.#tokens().clientToken;
  }

  /** Lets whoever has it bring machines in. */
  get joinToken(): string {
    return this.#tokens().joinToken;
  }

  async close(): Promise<void> {
    await this.#server.close();
    await this.#end(undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #tokens(): PrintedTokens {
    if (this.#printed === undefined) throw new Error("the hub is not open");
    return this.#printed;
  }

  #end(error: PacketfsError | undefined): Promise<void> {
    this.#ending ??= (async () => {
      this.#parts.access.close();
      await this.#jobs.close();
      await this.#parts.usages.close();
      await this.#parts.machine.close();
      this.#resolveClosed(error?.code === WireErrorCode.closed ? undefined : error);
    })();
    return this.#ending;
  }

  #welcome(link: Link): void {
    const { usages } = this.#parts;
    if (link.peer.role === Role.node) this.#welcomeNode(link);
    else
      this.#serve(
        link,
        this.#services.forClient(() => this.#nodes(), usages.of(link.peer.id)),
      );
  }

  #serve(link: Link, services: readonly Service[]): void {
    const served = serve(link, services, (error) =>
      this.#options.onEvent?.(describeLeftBehind(link.peer, error)),
    );
    this.#served.set(link, served);
  }

  #welcomeNode(link: Link): void {
    const { members } = this.#parts;
    const { label } = link.peer;
    this.#serve(link, this.#services.forNode(members.add(link)));
    this.#options.onEvent?.(`${label} is here`);
    link.onSilence((isSilent) =>
      this.#options.onEvent?.(
        isSilent
          ? `${label} keeps its session alive and answers nothing; others are asked first until it does`
          : `${label} answers again`,
      ),
    );
    this.#tellMembers();
    void link.closed.then(({ code, message }) => {
      // It is this hub that goes.
      if (code === WireErrorCode.closed) return;
      // What the node is told says what it is to do.
      const reason = code === WireErrorCode.refused ? "it may not be here any more" : message;
      this.#options.onEvent?.(`${label} is gone: ${reason}`);
    });
  }

  #tellMembers(): void {
    const { identity, access, members } = this.#parts;
    pushMembers(identity, access.allowList, members.links);
  }

  #nodes(): NodeStatus[] {
    const { identity, machine, members } = this.#parts;
    const loadOf = (executor: Executor): ExecutorLoad => this.#jobs.loadOf(executor);
    const self: NodeStatus = {
      id: identity.id,
      label: this.#options.label,
      role: "hub",
      address: this.advertised,
      ...keysToJson(identity),
      ...lentBy(machine.executors, loadOf),
      ...(this.#walls === undefined ? {} : { walls: this.#walls }),
      lastSeenMs: 0,
    };
    return [self, ...members.statuses(loadOf)];
  }
}
