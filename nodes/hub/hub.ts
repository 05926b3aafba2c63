/**
 * A hub: the machine that keeps the names and schedules the jobs of a network, and stores and computes like a node.
 *
 *   client ──▶ chunks, names, jobs ──▶ hub ◀── chunks, lanes ──▶ node
 */
import { EventEmitter } from "node:events";
import { hostname } from "node:os";
import { join } from "node:path";
import type { PacketfsError } from "../../packets/errors.ts";
import type { EventMap } from "../../runtime/contracts/events.ts";
import { ExecutorList } from "../../runtime/job/candidates.ts";
import type { Jobs } from "../../runtime/job/jobs.ts";
import type { Executor } from "../../runtime/contracts/executor.ts";
import { Machine } from "../../runtime/machine.ts";
import type { NodeStatus } from "../messages.ts";
import { WireErrorCode } from "../errors.ts";
import { serve } from "../serve/service.ts";
import { PeerSource } from "../transfer/peer-source.ts";
import type { Address } from "../wire/trust/address.ts";
import { Role } from "../wire/link.ts";
import type { Link } from "../wire/link.ts";
import type { AllowList } from "../wire/trust/allow-list.ts";
import { describeWireEvent, WireServer } from "../wire/zeromq/server.ts";
import { HUB_ID, HubServices } from "./hub-services.ts";
import { Members, lentBy, pushMembers } from "./members.ts";
import type { ExecutorLoad } from "./members.ts";
import { readAllowList, AllowListWriter } from "./allow-list-file.ts";
import { loadSecrets, makeTokens } from "./tokens.ts";
import type { HubSecrets, HubTokens } from "./tokens.ts";

export interface HubOptions {
  /** The store's directory; what else the hub keeps stands in it too. */
  readonly store: string;
  readonly listen: Address;
  /** Its name for people; the host's by default. */
  readonly label?: string;
  /** Packets that it works on itself at once; 0 for a hub that only coordinates. By default one per core. */
  readonly workers?: number;
  /** Ends the hub. */
  readonly signal?: AbortSignal;
  /** News for people: who came, who went, who was refused. */
  readonly onEvent?: (text: string) => void;
}

/** Rejects as `Store.open` does, with PFS_PORT_UNAVAILABLE, PFS_IDENTITY_INVALID or PFS_ALLOW_LIST_INVALID. */
export async function startHub(options: HubOptions): Promise<Hub> {
  const { store: directory, label = hostname(), workers } = options;
  const members = new Members(new ExecutorList());
  const peers = async (): Promise<Members["chunks"]> => members.chunks;
  const events = new EventEmitter<EventMap>();
  events.on("repair", ({ text }) => options.onEvent?.(`store: ${text}`));
  const machine = await Machine.open({
    directory,
    events,
    id: HUB_ID,
    label,
    workers,
    source: (store) => new PeerSource({ store, peers, events }),
  });
  try {
    const secrets = await loadSecrets(directory);
    const allowListFile = join(directory, "allow-list.json");
    const allowList = await readAllowList(allowListFile);
    const { client, invite } = secrets;
    allowList.add({
      signingKey: client.signingKey,
      curveKey: client.curveKey,
      role: Role.client,
      label: "client",
    });
    allowList.add({
      signingKey: invite.signingKey,
      curveKey: invite.curveKey,
      role: Role.invite,
      label: "invite",
    });
    const hub = new Hub({ ...options, label }, { machine, members, secrets, allowList, allowListFile });
    await hub.open(options.listen);
    return hub;
  } catch (error) {
    await machine.close();
    throw error;
  }
}

interface HubParts {
  readonly machine: Machine;
  readonly members: Members;
  readonly secrets: HubSecrets;
  readonly allowList: AllowList;
  readonly allowListFile: string;
}

export class Hub implements AsyncDisposable {
  /** Resolves when the hub has ended, with the reason when nobody asked for it. */
  readonly closed: Promise<PacketfsError | undefined>;
  readonly #options: HubOptions & { readonly label: string };
  readonly #parts: HubParts;
  readonly #jobs: Jobs;
  readonly #services: HubServices;
  readonly #server: WireServer;
  #tokens: HubTokens | undefined;
  #ending: Promise<void> | undefined;
  #resolveClosed!: (error: PacketfsError | undefined) => void;

  constructor(options: HubOptions & { readonly label: string }, parts: HubParts) {
    this.#options = options;
    this.#parts = parts;
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    const { machine, members, allowList, allowListFile, secrets } = parts;
    const allowListWriter = new AllowListWriter(allowListFile, allowList);
    this.#jobs = machine.openJobs(members.executors, (out) => members.removeParts(out));
    this.#services = new HubServices({ machine, members, jobs: this.#jobs });
    this.#server = new WireServer({
      identity: secrets.hub,
      allowList,
      role: "hub",
      label: options.label,
      onLink: (link) => this.#welcome(link),
      onJoin: () => allowListWriter.save(),
      onEvent: (event) => options.onEvent?.(describeWireEvent(event)),
    });
  }

  /** Opens the port. */
  async open({ host, port }: Address): Promise<void> {
    await this.#server.bind(host, port);
    this.#parts.machine.warm();
    const { signal } = this.#options;
    signal?.addEventListener("abort", () => void this.close(), { once: true });
    void this.#server.closed.then((error) => this.#end(error));
    if (signal?.aborted === true) await this.close();
  }

  /** HOST:PORT. */
  get address(): string {
    return this.#server.address;
  }

  get clientToken(): string {
    return this.#makeTokens().clientToken;
  }

  get joinToken(): string {
    return this.#makeTokens().joinToken;
  }

  async close(): Promise<void> {
    await this.#server.close();
    await this.#end(undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #makeTokens(): HubTokens {
    return (this.#tokens ??= makeTokens(this.#parts.secrets, this.address));
  }

  #end(error: PacketfsError | undefined): Promise<void> {
    this.#ending ??= (async () => {
      await this.#jobs.close();
      await this.#parts.machine.close();
      this.#resolveClosed(error?.code === WireErrorCode.closed ? undefined : error);
    })();
    return this.#ending;
  }

  #welcome(link: Link): void {
    if (link.peer.role === Role.node) this.#welcomeNode(link);
    else
      serve(
        link,
        this.#services.forClient(() => this.#nodes(), link.peer.id),
      );
  }

  #welcomeNode(link: Link): void {
    const { members, allowList, secrets } = this.#parts;
    // A machine that moved, or listens elsewhere now.
    const { label, signingKey, curveKey, address } = link.peer;
    allowList.add({
      signingKey,
      curveKey,
      role: Role.node,
      label,
      ...(address === undefined ? {} : { address }),
    });
    serve(link, this.#services.forNode(members.add(link)));
    this.#options.onEvent?.(`${label} is here`);
    link.onSilence((isSilent) =>
      this.#options.onEvent?.(
        isSilent
          ? `${label} keeps its session alive and answers nothing; others are asked first until it does`
          : `${label} answers again`,
      ),
    );
    pushMembers(secrets.hub, allowList, members.links);
    void link.closed.then((error) => this.#options.onEvent?.(`${label} is gone: ${error.message}`));
  }

  #nodes(): NodeStatus[] {
    const { secrets, machine, members } = this.#parts;
    const loadOf = (executor: Executor): ExecutorLoad => this.#jobs.loadOf(executor);
    const self: NodeStatus = {
      id: secrets.hub.id,
      label: this.#options.label,
      role: "hub",
      address: this.address,
      curveKey: Buffer.from(secrets.hub.curveKey).toString("hex"),
      signingKey: Buffer.from(secrets.hub.signingKey).toString("hex"),
      ...lentBy(machine.executors, loadOf),
      lastSeenMs: 0,
    };
    return [self, ...members.statuses(loadOf)];
  }
}
