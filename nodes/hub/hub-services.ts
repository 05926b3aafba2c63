/** What a hub does for those who are connected to it: everything for clients, chunks and lanes for nodes. */
import type { Jobs } from "../../runtime/job/jobs.ts";
import { findFile } from "../../runtime/find-file.ts";
import type { Machine } from "../../runtime/machine.ts";
import type { NameRecord } from "../../runtime/contracts/catalog.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { MembersMeta } from "../messages.ts";
import type { MachineLanes, NodeLanes, NodeStatus } from "../messages.ts";
import type { RemoteExecutors } from "../remote/remote-executor.ts";
import { CatalogService } from "../serve/catalog-service.ts";
import { ChunkService, PutWriters } from "../serve/chunk-service.ts";
import { FollowedJobs } from "../serve/followed-jobs.ts";
import { HeldPuts } from "../serve/held-puts.ts";
import { HeldResults } from "../serve/held-results.ts";
import { lanesOf } from "../serve/lane-list.ts";
import { JobService } from "../serve/job-service.ts";
import { answering } from "../serve/service.ts";
import type { Service } from "../serve/service.ts";
import { MessageType } from "../../packets/envelope.ts";
import { TransferService } from "../serve/transfer-service.ts";
import { MaintenanceService } from "../serve/maintenance-service.ts";
import { readMeta } from "../wire/session/meta.ts";
import { hasAnywhere } from "../transfer/peer-source.ts";
import type { Identity } from "../wire/trust/keys.ts";
import { HubGrants } from "./hub-grants.ts";
import type { Members } from "./members.ts";
import type { Usage, Usages } from "../serve/usage.ts";

/** The hub's own executor among those of its nodes, which have their peer ids. */
export const HUB_ID = "hub";

export interface HubServicesOptions {
  /** The hub's name for people. */
  readonly label: string;
  readonly machine: Machine;
  readonly members: Members;
  readonly jobs: Jobs;
  readonly usages: Usages;
  /** Signs grants. */
  readonly identity: Identity;
  /** Told what was left behind of clients that went, because it could not be put away. */
  readonly onFailure: (error: unknown) => void;
}

export class HubServices {
  readonly #options: HubServicesOptions;
  readonly #followed = new FollowedJobs();
  readonly #held: HeldResults;
  readonly #grants: HubGrants;
  readonly #puts = new HeldPuts();

  constructor(options: HubServicesOptions) {
    this.#options = options;
    const { jobs, members, identity, onFailure } = options;
    this.#grants = new HubGrants({ identity, members, barsOf: (executor) => jobs.barsOf(executor) });
    this.#held = new HeldResults({ release: (job) => jobs.release(job), onFailure });
  }

  /** A node may read what the hub has or can get, and answers for the lanes that it lends. */
  forNode(executors: RemoteExecutors): Service[] {
    const shared = this.#shared();
    const { catalog } = this.#options.machine.store;
    return [new ChunkService(shared), new TransferService({ ...shared, catalog }), executors];
  }

  /** `usage` is the client's: jobs that it left behind on a lost connection are found by its id. */
  forClient(nodes: () => readonly NodeStatus[], usage: Usage): Service[] {
    const { label, machine, members, jobs, usages } = this.#options;
    const shared = this.#shared();
    const { catalog } = machine.store;
    const held = { puts: this.#puts, key: usage.id };
    const puts = new PutWriters(() => machine.store.openWriter(), held);
    return [
      new ChunkService({ ...shared, puts, usage }),
      new TransferService({ ...shared, catalog, puts, usage }),
      new CatalogService({
        ...shared,
        catalog,
        puts,
        usage,
        removed: (name, versions) => this.#removed(name, versions),
      }),
      new JobService({
        jobs,
        followed: this.#followed,
        held: this.#held,
        usage,
        grants: this.#grants,
        resolve: (name) => catalog.resolve(name),
        find: (file) => findFile({ source: shared.source, catalog }, file),
      }),
      answering(MessageType.MEMBERS, async (message) => {
        const asked = readMeta(MembersMeta, message);
        if (asked?.op === "allow") this.#allow(asked.node, nodes());
        const answer =
          asked?.op === "lanes"
            ? await this.#machinesLanes(nodes(), asked.lanesMax)
            : await this.#complete(nodes());
        return { type: MessageType.OK, chunks: Buffer.from(JSON.stringify(answer)) };
      }),
      new MaintenanceService({
        ...shared,
        catalog,
        recounting: () => usages.recounting(machine.store),
        network: { label, others: () => members.links },
      }),
    ];
  }

  /** The key with this id is let in no more: its jobs end, though its sessions may have been lost before. */
  dismiss(id: string): void {
    this.#followed.dismiss(id);
  }

  /** The node gets packets again, whatever it did. One that is away is known by its id. Throws PFS_NOT_FOUND. */
  #allow(node: string, nodes: readonly NodeStatus[]): void {
    const { machine, members, jobs } = this.#options;
    const ids = members.executorsOf(node).map(({ id }) => id);
    const isHub = nodes.some(({ role, id, label }) => role === "hub" && (id === node || label === node));
    if (isHub) ids.push(...machine.executors.map(({ id }) => id));
    if (ids.length === 0 && jobs.barsOf(node).length > 0) ids.push(node);
    if (ids.length === 0)
      throw new WireError(WireErrorCode.notFound, `the hub has no node called "${node}"`, { node });
    for (const id of ids) jobs.allow(id);
  }

  /** The lanes of those that tell of them, at most so many of each. */
  async #machinesLanes(nodes: readonly NodeStatus[], lanesMax: number): Promise<MachineLanes[]> {
    const told = await Promise.all(
      nodes.map(async (node) => {
        const said = await this.#lanesOf(node, lanesMax);
        if (said === undefined) return [];
        const { open, use, lanes } = said;
        return [{ id: node.id, label: node.label, open, use, lanes }];
      }),
    );
    return told.flat();
  }

  /** With what the nodes themselves say of what they do. */
  async #complete(nodes: readonly NodeStatus[]): Promise<NodeStatus[]> {
    return await Promise.all(
      nodes.map(async (node) => {
        const said = await this.#lanesOf(node, 0);
        if (said === undefined) return node;
        const { open, use, granted = { inFlight: 0, done: 0 }, unusedAccelerators } = said;
        const packets = { inFlight: node.inFlight + granted.inFlight, done: node.done + granted.done };
        return { ...node, ...packets, unusedAccelerators, lanes: { open, use } };
      }),
    );
  }

  async #lanesOf({ id, role }: NodeStatus, lanesMax: number): Promise<NodeLanes | undefined> {
    const { machine, members } = this.#options;
    return role === "hub" ? lanesOf(machine, lanesMax) : await members.lanesOf(id, lanesMax);
  }

  #shared(): Pick<Machine, "store" | "source"> & { hasAnywhere: (refs: Uint8Array) => Promise<Uint8Array> } {
    const { machine, members } = this.#options;
    const { store, source } = machine;
    const peers = async (): Promise<Members["chunks"]> => members.chunks;
    return { store, source, hasAnywhere: (refs) => hasAnywhere({ store, peers }, refs) };
  }

  /** A file that was put at a node has its name there too. */
  async #removed(name: string, versions: readonly NameRecord[]): Promise<void> {
    const { machine, members } = this.#options;
    await Promise.all([
      members.removeCopies(name, versions),
      machine.removeParts(name),
      members.removeParts(name),
    ]);
  }
}
