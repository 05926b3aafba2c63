/**
 * Chunks from this machine's store, and those that it lacks from its peers. What a peer sent is verified (by
 * `RemoteChunks`), stored, and only then passed on, so a chunk crosses the wire once.
 */
import { refToHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { hasCode } from "../../packets/errors.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import type { ChunkSource, ChunkStore, StoreWriter } from "../../runtime/contracts/chunks.ts";
import { WireError } from "../errors.ts";
import { CACHE_WRITER_IDLE_MS } from "../limits.ts";
import type { RemoteChunks } from "./remote-chunks.ts";

export interface PeerSourceOptions {
  readonly store: Pick<ChunkStore, "read" | "has" | "openWriter">;
  /** The peers to ask, the most promising first. Looked up at each read: they come and go. */
  readonly peers: () => Promise<readonly RemoteChunks[]>;
}

export class PeerSource implements ChunkSource, AsyncDisposable {
  readonly #store: PeerSourceOptions["store"];
  readonly #peers: () => Promise<readonly RemoteChunks[]>;
  /** Chunks being fetched, so that two readers of one chunk ask for it once. */
  readonly #fetching = new Map<string, Promise<Uint8Array>>();
  #writer: Promise<StoreWriter> | undefined;
  #idle: NodeJS.Timeout | undefined;

  constructor({ store, peers }: PeerSourceOptions) {
    this.#store = store;
    this.#peers = peers;
  }

  async read(refs: readonly Ref[], signal?: AbortSignal): Promise<Uint8Array[]> {
    const here = await this.#store.has(Buffer.concat(refs));
    if (!here.includes(0)) return await this.#store.read(refs, signal);
    const local = refs.filter((_, index) => here[index] === 1);
    const lacking = refs.filter((_, index) => here[index] === 0);
    const [found, fetched] = await Promise.all([
      this.#store.read(local, signal),
      this.#fetch(lacking, signal),
    ]);
    let nextFound = 0;
    let nextFetched = 0;
    return refs.map((_, index) => (here[index] === 1 ? found[nextFound++]! : fetched[nextFetched++]!));
  }

  /** Chunks that are not in the store. Overlapping calls share what they have in common. */
  async #fetch(refs: readonly Ref[], signal: AbortSignal | undefined): Promise<Uint8Array[]> {
    const fresh = new Map<string, Ref>();
    for (const ref of refs) {
      const hex = refToHex(ref);
      if (!this.#fetching.has(hex)) fresh.set(hex, ref);
    }
    if (fresh.size > 0) {
      const batch = this.#fetchFromPeers([...fresh.values()]);
      let index = 0;
      for (const hex of fresh.keys()) {
        const position = index++;
        const one = batch.then((chunks) => chunks[position]!);
        // A reader that went away must not turn a failed fetch into an unhandled rejection.
        one.catch(() => undefined).finally(() => this.#fetching.delete(hex));
        this.#fetching.set(hex, one);
      }
    }
    const chunks = await Promise.all(refs.map((ref) => this.#fetching.get(refToHex(ref))!));
    signal?.throwIfAborted();
    return chunks;
  }

  async #fetchFromPeers(refs: readonly Ref[]): Promise<Uint8Array[]> {
    const results = new Map<string, Uint8Array>();
    let lacking = refs;
    let failure: unknown;
    for (const peer of await this.#peers()) {
      if (lacking.length === 0) break;
      try {
        const there = await peer.has(Buffer.concat(lacking));
        const held = lacking.filter((_, index) => there[index] === 1);
        if (held.length === 0) continue;
        const chunks = await peer.read(held);
        held.forEach((ref, index) => results.set(refToHex(ref), chunks[index]!));
        await this.#keep(chunks);
      } catch (error) {
        // Another peer may do better: one that is gone or lies must not end the read.
        failure = error;
      }
      lacking = lacking.filter((ref) => !results.has(refToHex(ref)));
    }
    if (lacking.length > 0) {
      if (failure !== undefined && !hasCode(failure, "PFS_CHUNK_MISSING")) throw failure;
      const ref = refToHex(lacking[0]!);
      throw new WireError("PFS_CHUNK_MISSING", `chunk ${ref} is neither here nor on a node that answers`, {
        ref,
      });
    }
    return refs.map((ref) => results.get(refToHex(ref))!);
  }

  async #keep(chunks: readonly Uint8Array[]): Promise<void> {
    this.#writer ??= this.#store.openWriter();
    const writer = await this.#writer;
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => void this.#closeWriter(), CACHE_WRITER_IDLE_MS);
    this.#idle.unref();
    const block = new Uint8Array(Buffer.concat(chunks));
    await writer.write(
      block,
      Uint32Array.from(chunks, (chunk) => chunk.byteLength),
    );
  }

  /** From then on gc may collect what was fetched and no name reaches. */
  async #closeWriter(): Promise<void> {
    const writer = this.#writer;
    this.#writer = undefined;
    await (await writer)?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#idle);
    await this.#closeWriter();
  }
}

export interface AnywhereOptions {
  readonly store: Pick<ChunkStore, "has">;
  readonly peers: () => Promise<readonly RemoteChunks[]>;
}

/** Which chunks are somewhere among a machine and its peers: one byte (0 or 1) per ref. A peer that does not answer has nothing. */
export async function hasAnywhere({ store, peers }: AnywhereOptions, refs: Uint8Array): Promise<Uint8Array> {
  const found = await store.has(refs);
  for (const peer of await peers()) {
    const open = indexesOf(found, 0);
    if (open.length === 0) break;
    const asked = new Uint8Array(open.length * REF_BYTES);
    open.forEach((index, position) => {
      asked.set(refs.subarray(index * REF_BYTES, (index + 1) * REF_BYTES), position * REF_BYTES);
    });
    const there = await peer.has(asked).catch(() => new Uint8Array(open.length));
    open.forEach((index, position) => {
      if (there[position] === 1) found[index] = 1;
    });
  }
  return found;
}

function indexesOf(bytes: Uint8Array, value: number): number[] {
  const indexes: number[] = [];
  for (let index = bytes.indexOf(value); index !== -1; index = bytes.indexOf(value, index + 1))
    indexes.push(index);
  return indexes;
}
