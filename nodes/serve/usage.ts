/**
 * What the holders of keys have in use at this machine, all their sessions together, and how much of it they may have. What a key
 * stored is counted until a gc has freed it, or the key is gone.
 */
import { readFile, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import * as v from "valibot";
import { messageOf } from "../../packets/errors.ts";
import type { NameRecord } from "../../runtime/contracts/catalog.ts";
import type { ChunkSizes, WrittenChunks } from "../../runtime/contracts/chunks.ts";
import { makeDirectory, replaceFile } from "../../runtime/durable-file.ts";
import { formatBytes, plural } from "../../runtime/format.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { systemCode } from "../../runtime/errors.ts";
import { JOBS_PER_KEY_MAX, USAGE_SAVE_MS } from "../limits.ts";
import type { AllowList, Quota } from "../wire/trust/allow-list.ts";
import { Role } from "../wire/link.ts";
import { ResultNames } from "./result-names.ts";
import { StoredChunks } from "./stored-chunks.ts";

export type Resource = keyof Quota;

/** What a key has too little of, in a sentence: so much it may have, it has, and needs beyond that. */
const REFUSALS: Readonly<Record<Resource, (max: number, used: number, more: number) => string>> = {
  storedBytes: (max, used, more) =>
    `may store ${formatBytes(max)} on this machine: ${formatBytes(used)} are counted, and this needs ${formatBytes(more)} more; what is removed counts until a client has freed it with pfs gc`,
  jobs: (max, used) => `may have ${plural(max, "job")} running, and has ${used}`,
  packets: (max, used, more) =>
    `may have ${plural(max, "packet")} unanswered: it has ${used}, and this needs ${more} more; larger splits make fewer packets`,
};
/** What a key may have without a quota that says otherwise. */
const DEFAULTS: Readonly<Partial<Record<Resource, number>>> = { jobs: JOBS_PER_KEY_MAX };
/** Its name in a machine's store, */
export const USAGE_FILE = "usage.json";
/** and that of the directory beside it with a list of each key's chunks, and of the names of its results. */
const CHUNKS_DIRECTORY = "usage";

const usageFile = v.record(
  v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/)),
  v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
);

export interface UsageOptions {
  /** The key's id. */
  readonly id: string;
  readonly role: Role;
  /** What it may have now. */
  readonly quota: () => Quota | undefined;
  readonly storedBytes?: number;
  /** Called when the bytes that it stored are others than before. */
  readonly onStored?: () => void;
  /** What it stored, where that is to count only as long as it is there. */
  readonly chunks?: StoredChunks;
  /** Names that it gave to results. */
  readonly results?: ResultNames;
}

/** Of one key. */
export class Usage {
  readonly id: string;
  /** The ids of its jobs that run. */
  readonly running: Set<string> = new Set();
  readonly #options: UsageOptions;
  readonly #used: Record<Resource, number>;

  constructor(options: UsageOptions) {
    this.id = options.id;
    this.#options = options;
    this.#used = { storedBytes: options.storedBytes ?? 0, jobs: 0, packets: 0 };
  }

  /** Whether there is a limit to it that people set. */
  isLimited(resource: Resource): boolean {
    return this.#options.quota()?.[resource] !== undefined;
  }

  used(resource: Resource): number {
    return this.#used[resource];
  }

  /** Counts so much more. Throws PFS_PEER_QUOTA, and counts nothing, when that is more than the key may have. */
  reserve(resource: Resource, amount: number): void {
    const max = this.#options.quota()?.[resource] ?? DEFAULTS[resource];
    if (max !== undefined && this.#used[resource] + amount > max) {
      const used = this.#used[resource];
      const text = `this token ${REFUSALS[resource](max, used, amount)}`;
      throw new WireError(WireErrorCode.quota, text, { max, of: resource });
    }
    this.#count(resource, amount);
  }

  /** Counts so much less. */
  release(resource: Resource, amount: number): void {
    this.#count(resource, -amount);
  }

  /** It stored these chunks, of which those are counted that were new. Resolves when that is written down, or could not be. */
  async record(refs: Uint8Array, lengths: Uint32Array, isNew: Uint8Array): Promise<void> {
    const { chunks, quota } = this.#options;
    if (quota()?.storedBytes === undefined) return;
    // They count all the same, for as long as the key lives.
    await chunks?.add(refs, lengths, isNew).catch(() => undefined);
  }

  /**
   * Has somebody store chunks of these lengths for the key, of which those count that are new. Rejects with PFS_PEER_QUOTA, before
   * anything is stored, and as `store` does.
   */
  async storing<Written extends Pick<WrittenChunks, "refs" | "newBytes" | "isNew">>(
    lengths: Uint32Array,
    store: () => Promise<Written>,
  ): Promise<Written> {
    const bytes = lengths.reduce((sum, length) => sum + length, 0);
    this.reserve("storedBytes", bytes);
    let unused = bytes;
    try {
      const written = await store();
      unused -= written.newBytes;
      await this.record(written.refs, lengths, written.isNew ?? new Uint8Array(lengths.length));
      return written;
    } finally {
      this.release("storedBytes", unused);
    }
  }

  /** Before chunks are freed; what it returns is to be called after that. Neither rejects. */
  async recounting(store: ChunkSizes): Promise<() => Promise<void>> {
    const { chunks, quota } = this.#options;
    const before = quota()?.storedBytes === undefined ? 0 : await chunks?.rows().catch(() => undefined);
    return async () => {
      // The key may be gone meanwhile, and its list with it.
      if (chunks === undefined || before === undefined || before === 0 || quota() === undefined) return;
      // What could not be looked through is looked through after the next gc.
      const freed = await chunks.recount(store, before).catch(() => 0);
      this.release("storedBytes", Math.min(freed, this.#used.storedBytes));
    };
  }

  /** Whether it may end a job: a submitter ends its own only. */
  mayCancel(job: string): boolean {
    return this.#options.role !== Role.submitter || this.running.has(job);
  }

  /** Whether its jobs may replace results of its own only. */
  get isConfined(): boolean {
    return this.#options.role === Role.submitter;
  }

  /** Whether this file is the result of a job of its own. */
  async hasMade(record: NameRecord): Promise<boolean> {
    return (await this.#options.results?.has(record)) === true;
  }

  /** A job of it stored its result under a name; `root` is hexadecimal. */
  async stored(name: string, root: string): Promise<void> {
    // The result is there: that a disk has no room for this is no reason to fail the job.
    if (this.isConfined) await this.#options.results?.add(name, root).catch(() => undefined);
  }

  #count(resource: Resource, difference: number): void {
    if (difference === 0) return;
    this.#used[resource] += difference;
    if (resource === "storedBytes") this.#options.onStored?.();
  }
}

/** Of all keys. What those stored that have a quota for it outlives the process. */
export class Usages {
  readonly #file: string;
  readonly #allowList: AllowList;
  /** As the file says it, of keys that did not come yet. */
  readonly #stored: Map<string, number>;
  readonly #usages = new Map<string, Usage>();
  /** One list for a key's file, so that what is done with it is done one after the other. */
  readonly #chunks = new Map<string, StoredChunks>();
  readonly #ignoreRemovals: () => void;
  #timer: NodeJS.Timeout | undefined;
  #lastSave: Promise<void> = Promise.resolve();

  private constructor(file: string, allowList: AllowList, stored: Map<string, number>) {
    this.#file = file;
    this.#allowList = allowList;
    this.#stored = stored;
    this.#ignoreRemovals = allowList.onRemoval(({ id }) => {
      this.#usages.delete(id);
      this.#stored.delete(id);
      void this.#forgetChunks(id);
    });
  }

  /** Rejects with PFS_ALLOW_LIST_INVALID when the file is damaged, and as the system does. */
  static async open(file: string, allowList: AllowList): Promise<Usages> {
    await makeDirectory(join(dirname(file), CHUNKS_DIRECTORY));
    return new Usages(file, allowList, await readStored(file));
  }

  /** Of the key with this id, which is on the allow list. */
  of(id: string): Usage {
    const known = this.#usages.get(id);
    if (known !== undefined) return known;
    const usage = new Usage({
      id,
      role: this.#allowList.byId(id)?.role ?? Role.reader,
      quota: () => this.#allowList.byId(id)?.quota,
      storedBytes: this.#stored.get(id) ?? 0,
      chunks: this.#chunksOf(id),
      results: new ResultNames(this.#resultsFile(id)),
      onStored: () => this.#changed(id),
    });
    this.#usages.set(id, usage);
    return usage;
  }

  /** Before chunks are freed; what it returns is to be called after that. Neither rejects. */
  async recounting(store: ChunkSizes): Promise<() => Promise<void>> {
    const counts: (() => Promise<void>)[] = [];
    for (const { id, quota } of this.#allowList.entries())
      if (quota?.storedBytes !== undefined) counts.push(await this.of(id).recounting(store));
    return async () => {
      for (const count of counts) await count();
    };
  }

  /** What was counted is on disk when this resolves. */
  async close(): Promise<void> {
    this.#ignoreRemovals();
    const isDue = this.#timer !== undefined;
    clearTimeout(this.#timer);
    if (isDue) this.#save();
    await this.#lastSave;
  }

  #chunksOf(id: string): StoredChunks {
    const known = this.#chunks.get(id);
    const chunks = known ?? new StoredChunks(join(dirname(this.#file), CHUNKS_DIRECTORY, id));
    if (known === undefined) this.#chunks.set(id, chunks);
    return chunks;
  }

  async #forgetChunks(id: string): Promise<void> {
    await this.#chunksOf(id)
      .clear()
      .catch(() => undefined);
    await rm(this.#resultsFile(id), { force: true }).catch(() => undefined);
    // The key may be known again by then.
    if (!this.#usages.has(id)) this.#chunks.delete(id);
  }

  #resultsFile(id: string): string {
    return join(dirname(this.#file), CHUNKS_DIRECTORY, `${id}.results.json`);
  }

  #changed(id: string): void {
    if (this.#allowList.byId(id)?.quota?.storedBytes === undefined) return;
    this.#timer ??= setTimeout(() => this.#save(), USAGE_SAVE_MS).unref();
  }

  #save(): void {
    this.#timer = undefined;
    this.#lastSave = this.#lastSave.then(async () => {
      for (const [id, usage] of this.#usages) this.#stored.set(id, usage.used("storedBytes"));
      const limited = [...this.#stored].filter(
        ([id]) => this.#allowList.byId(id)?.quota?.storedBytes !== undefined,
      );
      // A disk that is full must not keep anybody from what needs no room; it is written with the next change.
      await replaceFile(this.#file, `${JSON.stringify(Object.fromEntries(limited))}\n`).catch(
        () => undefined,
      );
    });
  }
}

async function readStored(file: string): Promise<Map<string, number>> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if (systemCode(error) === "ENOENT") return new Map();
    throw error;
  }
  try {
    return new Map(Object.entries(v.parse(usageFile, JSON.parse(text))));
  } catch (error) {
    const message = `${file}, which counts what keys stored, is damaged: ${messageOf(error)}`;
    throw new WireError(WireErrorCode.allowListInvalid, message, { reason: "damaged" }, { cause: error });
  }
}
