/**
 * A directory on its way to a hub or node: it is written into what the client keeps, and goes from there by a transfer, against versions
 * that both have. Where nothing can be kept it is written to its place at once, by messages of the session.
 *
 *   the directory ─▶ what the client keeps ─▶ the rest, against versions that both have
 */
import { hasCode } from "../../packets/errors.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import type { Ref } from "../../packets/digest.ts";
import { WireErrorCode } from "../../nodes/errors.ts";
import { TRANSFER_FILE_BYTES_MIN } from "../../nodes/limits.ts";
import { chunksThere } from "../../nodes/remote/chunks-there.ts";
import type { RemotePut } from "../../nodes/remote/remote-catalog.ts";
import type { RemoteStore } from "../../nodes/remote/remote-store.ts";
import type { SentSource } from "../../nodes/transfer/sent-root.ts";
import type { NameRecord } from "../../runtime/contracts/catalog.ts";
import type { ChunkSource, StoreWriter } from "../../runtime/contracts/chunks.ts";
import { StoreError, StoreErrorCode } from "../../runtime/errors.ts";
import type { Store } from "../../runtime/store/store.ts";
import type { StoredTreeResult, TreeSink } from "../../runtime/tree/store-tree.ts";
import { transferInfo } from "../transfer-info.ts";
import type { FinishedTree, TreeStoring } from "../trees.ts";
import type { ClientMemory } from "./client-memory.ts";
import type { KeptFiles } from "./client-store.ts";
import { NearSource } from "./near-source.ts";

/** Versions that it may be like. */
const BASES_MAX = 4;

export interface TreePut {
  readonly peer: RemoteStore;
  /** Undefined where it goes by messages of the session. */
  readonly memory: ClientMemory | undefined;
  readonly name: string | undefined;
  /** Versions that it may be like, the most alike first. */
  readonly versions: readonly Ref[];
  /** Whether what the peer has need not be read here, though nothing is kept of it. */
  readonly namesWhatIsThere: boolean;
  readonly signal: AbortSignal | undefined;
  /** Gives the root its name, or makes it durable without one. `put` keeps what was sent for it, if anything was. */
  bind(stored: StoredTreeResult, put: RemotePut | undefined): Promise<NameRecord | undefined>;
  /** The same, of what a writer wrote. */
  bindWritten(stored: StoredTreeResult, writer: StoreWriter): Promise<NameRecord | undefined>;
}

export async function beginTreePut(options: TreePut): Promise<TreeStoring> {
  const near = new NearSource(options.peer);
  const seen = await options.memory?.store.look();
  near.near = seen;
  return new RemoteTreeStoring(options, near, seen);
}

/** Whether it was for what is kept that a directory could not be put, or for want of a channel: it goes by messages of the session then. */
export function isForSession(error: unknown): boolean {
  return error instanceof StoreError || isLost(error) || hasCode(error, WireErrorCode.bulkUnavailable);
}

class RemoteTreeStoring implements TreeStoring {
  readonly #options: TreePut;
  readonly #near: NearSource;
  #seen: Store | undefined;
  #kept: KeptFiles | undefined;
  #writer: StoreWriter | undefined;
  #sink: TreeSink | undefined;
  /** Some of it is at the peer alone. */
  #isPartial = false;

  constructor(options: TreePut, near: NearSource, seen: Store | undefined) {
    this.#options = options;
    this.#near = near;
    this.#seen = seen;
  }

  get source(): ChunkSource {
    return this.#near;
  }

  get writtenShare(): number {
    return this.#kept === undefined ? 1 : 0.5;
  }

  async openSink(bytes: number): Promise<TreeSink> {
    this.#sink ??= (await this.#openKept(bytes)) ?? (this.#writer = await this.#options.peer.openWriter());
    return this.#sink;
  }

  async finish(stored: StoredTreeResult, onProgress?: (share: number) => void): Promise<FinishedTree> {
    const kept = this.#kept;
    if (this.#writer !== undefined)
      return { record: await this.#options.bindWritten(stored, this.#writer), sent: {} };
    if (kept === undefined) return { record: await this.#options.bind(stored, undefined), sent: {} };
    try {
      return await this.#send(stored, kept, onProgress);
    } catch (error) {
      if (isLost(error)) for (const root of kept.roots) await kept.forget(root);
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#near.near = undefined;
    await this.#seen?.close();
    await this.#kept?.[Symbol.asyncDispose]();
    await this.#writer?.close();
  }

  /** Undefined where it is of no use, or another process writes there. */
  async #openKept(bytes: number): Promise<TreeSink | undefined> {
    const { memory, versions, peer, namesWhatIsThere, signal } = this.#options;
    // A little one is there sooner by messages of the session.
    if (memory === undefined || !peer.transfers.isOffered || bytes < TRANSFER_FILE_BYTES_MIN)
      return undefined;
    const kept = await memory.store.open(bytes, versions.slice(0, BASES_MAX), signal);
    const writer = kept?.writer;
    if (kept === undefined || writer === undefined) {
      await kept?.[Symbol.asyncDispose]();
      return undefined;
    }
    this.#kept = kept;
    this.#near.near = kept.store;
    await this.#seen?.close();
    this.#seen = undefined;
    return {
      write: (block, lengths) => writer.write(block, lengths),
      claim: async (refs) => {
        const there = await writer.claim(refs);
        return namesWhatIsThere ? await this.#claimAtPeer(refs, there) : there;
      },
    };
  }

  async #claimAtPeer(refs: Uint8Array, here: Uint8Array): Promise<Uint8Array> {
    const lacking = [...here.keys()].filter((index) => here[index] !== 1);
    if (lacking.length === 0) return here;
    const asked = Buffer.concat(lacking.map((row) => refs.subarray(row * REF_BYTES, (row + 1) * REF_BYTES)));
    const there = await this.#options.peer.hasItself(asked, this.#options.signal);
    const either = here.slice();
    lacking.forEach((row, index) => (either[row] = there[index]!));
    if (there.includes(1)) this.#isPartial = true;
    return either;
  }

  async #send(
    stored: StoredTreeResult,
    kept: KeptFiles,
    onProgress: ((share: number) => void) | undefined,
  ): Promise<FinishedTree> {
    const { peer, signal, name } = this.#options;
    const { root, length, chunks } = stored;
    // Old bytes that are not here would have to be fetched.
    const isWhole = !this.#isPartial;
    const bases = isWhole ? kept.roots : [];
    const isThere = bases.length > 0 ? undefined : await chunksThere(peer, this.#near, root, signal);
    await using put = await peer.transfers.put({
      root,
      length,
      source: isWhole ? kept.store : this.#mixed(kept.store),
      name: isWhole ? name : undefined,
      bases,
      isThere,
      signal,
      onProgress: ({ doneBytes, length: all }) => onProgress?.(doneBytes / Math.max(1, all)),
    });
    const record = await this.#options.bind(stored, put);
    if (isWhole) await kept.keep(root, length);
    const { stats } = put;
    return {
      record,
      sent: {
        newChunks: stats.chunks,
        newBytes: stats.plainBytes,
        storedBytes: stats.sentBytes,
        transfer: transferInfo(stats, length, chunks - stats.chunks, peer.transfers.route),
      },
    };
  }

  /** What is lacking there is all here, and the streams that say so are there or here. */
  #mixed(store: Store): SentSource {
    return {
      read: (refs, signal) => this.#near.read(refs, signal),
      places: (refs) => store.places(refs),
    };
  }
}

function isLost(error: unknown): boolean {
  return hasCode(error, StoreErrorCode.chunkMissing) || hasCode(error, StoreErrorCode.chunkDamaged);
}
