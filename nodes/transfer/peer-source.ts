/**
 * Chunks from this machine's store, and from its peers those that it lacks or whose bytes turn out to be damaged. What a
 * peer sent is verified (by `RemoteChunks`), stored, and only then passed on, so a chunk crosses the wire once, and one that
 * was damaged is whole again after its first read.
 */
import { refAt, refFromHex, refToHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { hasCode } from "../../packets/errors.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import { blockOf } from "../../runtime/block.ts";
import type { ChunkSource, ChunkStore, StoreWriter } from "../../runtime/contracts/chunks.ts";
import type { Events } from "../../runtime/contracts/events.ts";
import { readEach } from "../../runtime/read-each.ts";
import { unlessAborted } from "../../runtime/unless-aborted.ts";
import { WireError } from "../errors.ts";
import { CACHE_WRITER_IDLE_MS, FETCH_PATIENCE_MS } from "../limits.ts";
import { FetchPlan } from "./fetch-plan.ts";
import type { FetchAction } from "./fetch-plan.ts";
import type { RemoteChunks } from "./remote-chunks.ts";

export interface PeerSourceOptions {
  readonly store: Pick<ChunkStore, "read" | "has" | "openWriter">;
  /**
   * The peers to ask, the most promising first. Looked up at each read: they come and go. One that is there still is the
   * same object.
   */
  readonly peers: () => Promise<readonly RemoteChunks[]>;
  readonly events?: Events | undefined;
}

/** A chunk that readers wait for. */
interface Awaited {
  /** Its ref as hexadecimal digits. */
  readonly name: string;
  readonly ref: Ref;
  readonly promise: Promise<Uint8Array>;
  readonly resolve: (bytes: Uint8Array) => void;
  readonly reject: (error: unknown) => void;
  readers: number;
}

export class PeerSource implements ChunkSource, AsyncDisposable {
  readonly #options: PeerSourceOptions;
  readonly #plan = new FetchPlan<RemoteChunks>();
  /** By ref as hexadecimal digits, so that two readers of one chunk ask for it once. */
  readonly #awaited = new Map<string, Awaited>();
  readonly #requests = new Map<number, AbortController>();
  #writer: Promise<StoreWriter> | undefined;
  #idle: NodeJS.Timeout | undefined;

  constructor(options: PeerSourceOptions) {
    this.#options = options;
  }

  async read(refs: readonly Ref[], signal?: AbortSignal): Promise<Uint8Array[]> {
    signal?.throwIfAborted();
    const { store } = this.#options;
    const here = await store.has(Buffer.concat(refs), signal);
    const local = refs.filter((_, index) => here[index] === 1);
    const lacking = refs.filter((_, index) => here[index] === 0);
    const [found, fetched] = await Promise.all([
      readEach(store, local, signal),
      this.#fetchOrTell(lacking, signal),
    ]);
    const damaged = local.filter((_, index) => !(found[index] instanceof Uint8Array));
    const mended = await this.#fetchOrTell(damaged, signal);
    let nextFound = 0;
    let nextFetched = 0;
    let nextMended = 0;
    return refs.map((_, index) => {
      if (here[index] === 0) return fetched[nextFetched++]!;
      const chunk = found[nextFound++]!;
      return chunk instanceof Uint8Array ? chunk : mended[nextMended++]!;
    });
  }

  /** As `#fetch`, and when nobody has a chunk it is told who has it with wrong bytes: this machine, or a peer. */
  async #fetchOrTell(refs: readonly Ref[], signal: AbortSignal | undefined): Promise<Uint8Array[]> {
    if (refs.length === 0) return [];
    try {
      return await this.#fetch(refs, signal);
    } catch (error) {
      signal?.throwIfAborted();
      const lacking = lackingIn(error);
      const own = await readEach(this.#options.store, lacking === undefined ? refs : [lacking], signal);
      const damaged =
        own.find((chunk) => hasCode(chunk, "PFS_CHUNK_DAMAGED")) ??
        (lacking && (await this.#damagedAtPeers(lacking, signal)));
      if (!hasCode(damaged, "PFS_CHUNK_DAMAGED")) throw error;
      const text = `${damaged.message}, and no node that answers has it`;
      throw new WireError("PFS_CHUNK_DAMAGED", text, damaged.data, { cause: error });
    }
  }

  /** What a peer says of it that has it damaged. Asked which chunks it has, it leaves out those that are. */
  async #damagedAtPeers(ref: Ref, signal: AbortSignal | undefined): Promise<unknown> {
    const peers = (await this.#options.peers()).filter(({ isSuspect }) => !isSuspect);
    const refusals = await Promise.all(
      peers.map((peer) => peer.fetch([ref], signal).catch((error: unknown) => error)),
    );
    signal?.throwIfAborted();
    return refusals.find((refusal) => hasCode(refusal, "PFS_CHUNK_DAMAGED"));
  }

  /** Chunks that are not in the store. Overlapping calls share what they have in common. */
  async #fetch(refs: readonly Ref[], signal: AbortSignal | undefined): Promise<Uint8Array[]> {
    signal?.throwIfAborted();
    const fresh: string[] = [];
    const entries = refs.map((ref) => {
      const name = refToHex(ref);
      const known = this.#awaited.get(name);
      if (known === undefined) fresh.push(name);
      return known ?? this.#await(name, ref);
    });
    const distinct = new Set(entries);
    for (const entry of distinct) entry.readers++;
    const waits = entries.map(({ promise }) => promise);
    try {
      if (fresh.length > 0) await unlessAborted(this.#want(fresh), signal);
      return await unlessAborted(Promise.all(waits), signal);
    } finally {
      this.#release(distinct);
    }
  }

  #await(name: string, ref: Ref): Awaited {
    const entry = { name, ref, ...Promise.withResolvers<Uint8Array>(), readers: 0 };
    // A reader that went away must not turn a failed fetch into an unhandled rejection.
    entry.promise.catch(() => undefined);
    this.#awaited.set(name, entry);
    return entry;
  }

  async #want(names: readonly string[]): Promise<void> {
    let peers: readonly RemoteChunks[];
    try {
      peers = await this.#options.peers();
    } catch (error) {
      for (const name of names) this.#settle(name, ({ reject }) => reject(error));
      return;
    }
    this.#tell((now) => {
      // Whoever wanted some of them may have gone meanwhile.
      const wanted = names.filter((name) => this.#awaited.has(name));
      const suspects = peers.filter(({ isSuspect }) => isSuspect);
      const others = peers.filter((peer) => !suspects.includes(peer));
      this.#plan.want(wanted, [...others, ...suspects], now);
    });
  }

  /** One reader less; what no other waits for is not fetched any more. */
  #release(entries: Iterable<Awaited>): void {
    const dropped: string[] = [];
    for (const entry of entries) {
      const { name } = entry;
      // Once it has come, others may wait for the same chunk anew: that is none of this reader's.
      if (--entry.readers > 0 || this.#awaited.get(name) !== entry) continue;
      this.#awaited.delete(name);
      dropped.push(name);
    }
    if (dropped.length > 0) this.#tell((now) => this.#plan.drop(dropped, now));
  }

  #settle(name: string, settle: (entry: Awaited) => void): void {
    const entry = this.#awaited.get(name);
    this.#awaited.delete(name);
    if (entry !== undefined) settle(entry);
  }

  /** Tells the plan something, and does what it wants done. */
  #tell(event: (now: number) => void): void {
    event(performance.now());
    for (const action of this.#plan.takeActions()) this.#do(action);
  }

  #do(action: FetchAction<RemoteChunks>): void {
    switch (action.kind) {
      case "ask":
      case "fetch":
        return void this.#request(action);
      case "cancel":
        return this.#requests.get(action.request)?.abort();
      case "gone":
        return this.#settle(action.chunk, ({ ref, reject }) => reject(errorOf(ref, action.failure)));
    }
  }

  async #request(action: FetchAction<RemoteChunks> & { kind: "ask" | "fetch" }): Promise<void> {
    const { kind, request, peer, chunks: names } = action;
    const controller = new AbortController();
    this.#requests.set(request, controller);
    const refs = Buffer.from(names.join(""), "hex");
    const ask = (): void => this.#tell((now) => this.#plan.overdue(request, now));
    const impatience = kind === "ask" ? setTimeout(ask, FETCH_PATIENCE_MS) : undefined;
    try {
      if (kind === "ask") {
        const bits = await peer.has(refs, controller.signal);
        this.#tell((now) => this.#plan.answered(request, bits, now));
      } else {
        const each = names.map((_, index) => refAt(refs, index));
        const { chunks, wireBytes } = await peer.fetch(each, controller.signal);
        // Not kept, it is read all the same: a full store must not keep a program from its input.
        await this.#keep(chunks).catch(() => undefined);
        const transfer = { kind: "fetched", from: peer.id, chunks: chunks.length, bytes: wireBytes } as const;
        this.#options.events?.emit("transfer", transfer);
        this.#tell((now) => this.#plan.fetched(request, now));
        names.forEach((name, index) => this.#settle(name, ({ resolve }) => resolve(chunks[index]!)));
      }
    } catch (error) {
      // Another peer may do better: one that is gone or lies must not end the read.
      const lacking = lackingIn(error);
      this.#tell((now) => this.#plan.failed(request, error, now, lacking && refToHex(lacking)));
    } finally {
      clearTimeout(impatience);
      this.#requests.delete(request);
    }
  }

  async #keep(chunks: readonly Uint8Array[]): Promise<void> {
    const writer = await this.#openWriter();
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => void this.#closeWriter(), CACHE_WRITER_IDLE_MS);
    this.#idle.unref();
    const { block, lengths } = blockOf(chunks);
    await writer.write(block, lengths);
  }

  async #openWriter(): Promise<StoreWriter> {
    const opening = (this.#writer ??= this.#options.store.openWriter());
    try {
      return await opening;
    } catch (error) {
      // What it failed for may be gone by the next time.
      if (this.#writer === opening) this.#writer = undefined;
      throw error;
    }
  }

  /** From then on gc may collect what was fetched and no name reaches. */
  async #closeWriter(): Promise<void> {
    const writer = this.#writer;
    this.#writer = undefined;
    await (await writer)?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#idle);
    for (const controller of this.#requests.values()) controller.abort();
    await this.#closeWriter();
  }
}

/** The chunk that a peer, or everybody, has not got with the right bytes. */
function lackingIn(error: unknown): Ref | undefined {
  if (!hasCode(error, "PFS_CHUNK_MISSING") && !hasCode(error, "PFS_CHUNK_DAMAGED")) return undefined;
  return refFromHex(String(error.data["ref"]));
}

function errorOf(ref: Ref, failure: unknown): unknown {
  if (failure !== undefined && !hasCode(failure, "PFS_CHUNK_MISSING")) return failure;
  const hex = refToHex(ref);
  return new WireError("PFS_CHUNK_MISSING", `chunk ${hex} is neither here nor on a node that answers`, {
    ref: hex,
  });
}

export interface AnywhereOptions {
  readonly store: Pick<ChunkStore, "has">;
  readonly peers: () => Promise<readonly RemoteChunks[]>;
}

/**
 * Which chunks are somewhere among a machine and its peers: one byte (0 or 1) per ref. All peers are asked at once,
 * those left out that have been silent lately. A peer that does not answer has nothing; none is waited for when the others
 * have it all.
 */
export async function hasAnywhere({ store, peers }: AnywhereOptions, refs: Uint8Array): Promise<Uint8Array> {
  const found = await store.has(refs);
  if (!found.includes(0)) return found;
  const asked = (await peers()).filter(({ isSuspect }) => !isSuspect);
  await askAbout(refs, found, asked);
  return found;
}

/** Asks peers which of the chunks they have that are not found yet, until all are or all have answered. */
async function askAbout(refs: Uint8Array, found: Uint8Array, peers: readonly RemoteChunks[]): Promise<void> {
  const open = indexesOf(found, 0);
  if (open.length === 0 || peers.length === 0) return;
  const asked = new Uint8Array(open.length * REF_BYTES);
  open.forEach((index, position) => {
    asked.set(refs.subarray(index * REF_BYTES, (index + 1) * REF_BYTES), position * REF_BYTES);
  });
  const enough = new AbortController();
  const ask = async (peer: RemoteChunks): Promise<void> => {
    const there = await peer.has(asked, enough.signal).catch(() => new Uint8Array(open.length));
    open.forEach((index, position) => {
      if (there[position] === 1) found[index] = 1;
    });
    if (!found.includes(0)) enough.abort();
  };
  await Promise.all(peers.map(ask));
}

function indexesOf(bytes: Uint8Array, value: number): number[] {
  const indexes: number[] = [];
  for (let index = bytes.indexOf(value); index !== -1; index = bytes.indexOf(value, index + 1))
    indexes.push(index);
  return indexes;
}
