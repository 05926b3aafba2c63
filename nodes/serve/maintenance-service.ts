/** Looks after the store behind the link, and (a hub) after those of its nodes. */
import type * as v from "valibot";
import { MessageType } from "../../packets/envelope.ts";
import { isComplete } from "../../runtime/stream/walk.ts";
import type { GcResult, Maintenance } from "../../runtime/contracts/maintenance.ts";
import type { Catalog } from "../../runtime/contracts/catalog.ts";
import type { ChunkSource } from "../../runtime/contracts/chunks.ts";
import type { StoreReport } from "../../runtime/contracts/maintenance.ts";
import { GcResultJson, StoreReportJson, MaintenanceMeta } from "../messages.ts";
import { readJson, readMeta } from "../wire/session/meta.ts";
import type { Link, OutMessage, WireMessage } from "../wire/link.ts";
import type { Handler, Service } from "./service.ts";

export interface MaintenanceServiceOptions {
  readonly store: Maintenance;
  readonly catalog: Catalog;
  readonly source: ChunkSource;
  readonly hasAnywhere: (refs: Uint8Array) => Promise<Uint8Array>;
  /** The machines behind a hub, whose stores are looked after with its own. */
  readonly others?: () => readonly Link[];
}

export class MaintenanceService implements Service {
  readonly handlers: ReadonlyMap<MessageType, Handler>;
  readonly #options: MaintenanceServiceOptions;
  readonly #closing = new AbortController();

  constructor(options: MaintenanceServiceOptions) {
    this.#options = options;
    this.handlers = new Map([[MessageType.MAINTENANCE, (message: WireMessage) => this.#answer(message)]]);
  }

  async #answer(message: WireMessage): Promise<OutMessage> {
    const { op } = readMeta(MaintenanceMeta, message);
    const report = op === "gc" ? await this.#gc() : await this.#verify();
    return { type: MessageType.OK, chunks: Buffer.from(JSON.stringify(report)) };
  }

  async #gc(): Promise<GcResult> {
    const own = await this.#options.store.gc(this.#closing.signal);
    const others = await this.#askOthers("gc", GcResultJson);
    return [own, ...others].reduce((sum, { keptChunks, freedChunks, freedBytes }) => ({
      keptChunks: sum.keptChunks + keptChunks,
      freedChunks: sum.freedChunks + freedChunks,
      freedBytes: sum.freedBytes + freedBytes,
    }));
  }

  async #verify(): Promise<StoreReport> {
    const own = await this.#verifyOwn();
    const others = await this.#askOthers("verify", StoreReportJson);
    return [own, ...others].reduce((sum, { chunks, bytes, damaged, incomplete, lostRecords }) => ({
      chunks: sum.chunks + chunks,
      bytes: sum.bytes + bytes,
      damaged: [...new Set([...sum.damaged, ...damaged])],
      incomplete: [...new Set([...sum.incomplete, ...incomplete])],
      lostRecords: sum.lostRecords + lostRecords,
    }));
  }

  /** The answers of the nodes behind a hub. One that does not answer is left out. */
  async #askOthers<Answer>(op: "verify" | "gc", schema: v.GenericSchema<unknown, Answer>): Promise<Answer[]> {
    const links = (this.#options.others?.() ?? []).filter(({ isSuspect }) => !isSuspect);
    const asked = links.map(async (link) => {
      const request = { type: MessageType.MAINTENANCE, meta: { op } };
      return readJson(schema, await link.request(request, { signal: this.#closing.signal }));
    });
    const answers = await Promise.allSettled(asked);
    return answers.flatMap((answer) => (answer.status === "fulfilled" ? [answer.value] : []));
  }

  /** A name is incomplete here only when no node has what this store lacks: files may stay where they were made. */
  async #verifyOwn(): Promise<StoreReport> {
    const { store, catalog, source, hasAnywhere } = this.#options;
    const { signal } = this.#closing;
    const report = await store.verify(signal);
    const incomplete: string[] = [];
    for (const name of report.incomplete) {
      const root = (await catalog.resolve(name))?.root;
      if (root !== undefined && !(await isComplete(source, root, hasAnywhere, { signal })))
        incomplete.push(name);
    }
    return { ...report, incomplete };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
  }
}
