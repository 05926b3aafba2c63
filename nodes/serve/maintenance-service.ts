/** Looks after the store behind the link, and (a hub) after those of its nodes. */
import type * as v from "valibot";
import { refAt } from "../../packets/digest.ts";
import { MessageType } from "../../packets/envelope.ts";
import { isComplete, isStreamFault } from "../../runtime/stream/walk.ts";
import type { GcResult, Maintenance } from "../../runtime/contracts/maintenance.ts";
import type { Catalog } from "../../runtime/contracts/catalog.ts";
import type { ChunkSource, ChunkStore } from "../../runtime/contracts/chunks.ts";
import { readEach } from "../../runtime/read-each.ts";
import type { DamagedStore, StoreReport } from "../../runtime/contracts/maintenance.ts";
import { GcResultJson, StoreReportJson, MaintenanceMeta } from "../messages.ts";
import { readJson, readMeta } from "../wire/session/meta.ts";
import type { Link, OutMessage, Reply, WireMessage } from "../wire/link.ts";
import type { Handler, Service } from "./service.ts";
import { WorkPlaces } from "./work-places.ts";

export interface MaintenanceServiceOptions {
  readonly store: Maintenance & Pick<ChunkStore, "has" | "read">;
  readonly catalog: Catalog;
  readonly source: ChunkSource;
  readonly hasAnywhere: (refs: Uint8Array) => Promise<Uint8Array>;
  /** Called before chunks are freed, and what it resolves with after that: what they counted as may be others' then. */
  readonly recounting?: () => Promise<() => Promise<void>>;
  /** How a hub is called, and the machines behind it, whose stores are looked after with its own. */
  readonly network?: { readonly label: string; readonly others: () => readonly Link[] };
}

/** Damaged chunks that are fetched together, and in memory then. */
const REPAIR_CHUNKS = 16;

export class MaintenanceService implements Service {
  readonly handlers: ReadonlyMap<MessageType, Handler>;
  readonly #options: MaintenanceServiceOptions;
  readonly #closing = new AbortController();
  // Each goes through a whole store: what one peer asks for is done one after the other.
  readonly #place = new WorkPlaces(1);

  constructor(options: MaintenanceServiceOptions) {
    this.#options = options;
    this.handlers = new Map([
      [MessageType.MAINTENANCE, (message: WireMessage, reply: Reply) => this.#answer(message, reply)],
    ]);
  }

  async #answer(message: WireMessage, reply: Reply): Promise<OutMessage> {
    const meta = readMeta(MaintenanceMeta, message);
    // Whoever asked may give it up before the link ends.
    const signal = AbortSignal.any([this.#closing.signal, reply.signal]);
    const report = await this.#place.run(async () => {
      signal.throwIfAborted();
      return meta.op === "gc" ? await this.#gc(meta, signal) : await this.#verify(meta, signal);
    });
    return { type: MessageType.OK, chunks: Buffer.from(JSON.stringify(report)) };
  }

  async #gc(meta: MaintenanceMeta, signal: AbortSignal): Promise<GcResult> {
    const own = await this.#gcOwn(signal);
    const { answers, unreachable } = await this.#askOthers(meta, GcResultJson, signal);
    return { ...[own, ...answers.map(([, answer]) => answer)].reduce(sumOfGcs), unreachable };
  }

  async #gcOwn(signal: AbortSignal): Promise<GcResult> {
    const { store, recounting } = this.#options;
    const recount = await recounting?.();
    try {
      return await store.gc(signal, this.#withPeers());
    } finally {
      await recount?.();
    }
  }

  /** Chunks from peers too, but a peer that fails keeps nobody from knowing what is here. */
  #withPeers(): ChunkSource {
    const { store, source } = this.#options;
    return {
      read: (refs, signal) =>
        source.read(refs, signal).catch((error: unknown) => {
          signal?.throwIfAborted();
          if (isStreamFault(error)) throw error;
          return store.read(refs, signal);
        }),
    };
  }

  async #verify(meta: MaintenanceMeta, signal: AbortSignal): Promise<StoreReport> {
    const own = await this.#verifyOwn(signal);
    const { answers, unreachable } = await this.#askOthers(meta, StoreReportJson, signal);
    const sum = { ...[own, ...answers.map(([, answer]) => answer)].reduce(sumOfReports), unreachable };
    const { network } = this.#options;
    return network === undefined ? sum : { ...sum, stores: damagedOf([[network.label, own], ...answers]) };
  }

  /** The answers of the nodes behind a hub, each with its label, and the labels of those that do not answer in time. */
  async #askOthers<Answer>(
    { op, nodesMs }: MaintenanceMeta,
    schema: v.GenericSchema<unknown, Answer>,
    signal: AbortSignal,
  ): Promise<{ answers: (readonly [string, Answer])[]; unreachable: string[] }> {
    const answers: (readonly [string, Answer])[] = [];
    const unreachable: string[] = [];
    const options = { signal, ...(nodesMs === undefined ? {} : { timeoutMs: nodesMs }) };
    const ask = async (link: Link): Promise<void> => {
      try {
        if (link.isSuspect) return void unreachable.push(link.peer.label);
        const answer = await link.request({ type: MessageType.MAINTENANCE, meta: { op } }, options);
        answers.push([link.peer.label, readJson(schema, answer)]);
      } catch {
        signal.throwIfAborted();
        unreachable.push(link.peer.label);
      }
    };
    await Promise.all((this.#options.network?.others() ?? []).map(ask));
    return { answers, unreachable };
  }

  /**
   * What is damaged is fetched again from whoever has it. A name is incomplete here only when no node has what this store
   * lacks: files may stay where they were made.
   */
  async #verifyOwn(signal: AbortSignal): Promise<StoreReport> {
    const { store, catalog, source, hasAnywhere } = this.#options;
    const report = await store.verify(signal);
    const damaged: string[] = [];
    const repaired: string[] = [];
    for (let start = 0; start < report.damaged.length; start += REPAIR_CHUNKS) {
      const names = report.damaged.slice(start, start + REPAIR_CHUNKS);
      const refs = Buffer.from(names.join(""), "hex");
      await readEach(
        source,
        names.map((_, index) => refAt(refs, index)),
        signal,
      );
      const isHere = await store.has(refs, signal);
      names.forEach((name, index) => (isHere[index] === 1 ? repaired : damaged).push(name));
    }
    const incomplete: string[] = [];
    for (const name of report.incomplete) {
      const root = (await catalog.resolve(name))?.root;
      if (root !== undefined && !(await isComplete(source, root, hasAnywhere, { signal })))
        incomplete.push(name);
    }
    return { ...report, damaged, repaired, incomplete };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
  }
}

/** What two stores say, together. */
function sumOfGcs(some: GcResult, one: GcResult): GcResult {
  return {
    keptChunks: some.keptChunks + one.keptChunks,
    freedChunks: some.freedChunks + one.freedChunks,
    freedBytes: some.freedBytes + one.freedBytes,
    incomplete: union(some.incomplete, one.incomplete),
    unreadableSegments: some.unreadableSegments + one.unreadableSegments,
    unreachable: union(some.unreachable, one.unreachable),
  };
}

function sumOfReports(some: StoreReport, one: StoreReport): StoreReport {
  return {
    chunks: some.chunks + one.chunks,
    bytes: some.bytes + one.bytes,
    damaged: union(some.damaged, one.damaged),
    repaired: union(some.repaired, one.repaired),
    incomplete: union(some.incomplete, one.incomplete),
    lostRecords: some.lostRecords + one.lostRecords,
    mendedRecords: some.mendedRecords + one.mendedRecords,
    stores: [],
    unreachable: union(some.unreachable, one.unreachable),
  };
}

/** Those of these reports that tell of damage. */
function damagedOf(reports: readonly (readonly [string, StoreReport])[]): DamagedStore[] {
  return reports
    .map(([label, { damaged, repaired, lostRecords }]) => ({ label, damaged, repaired, lostRecords }))
    .filter(
      ({ damaged, repaired, lostRecords }) => damaged.length > 0 || repaired.length > 0 || lostRecords > 0,
    );
}

function union(some: readonly string[], others: readonly string[]): string[] {
  return [...new Set([...some, ...others])];
}
