/**
 * Gc as the store's users see it: mark what names reach, from this thread, then let the writer sweep. Names that are bound
 * meanwhile are marked before anything is swept, and from then on writers protect what they use (see sweeper.ts).
 */
import { refAt, refToHex } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { PacketErrorCode, PacketfsError } from "../../../packets/errors.ts";
import { REF_BYTES } from "../../../packets/layout.ts";
import { StoreError, StoreErrorCode } from "../../errors.ts";
import { reachable } from "../../stream/walk.ts";
import type { Catalog, GcRoots, NameRecord } from "../../contracts/catalog.ts";
import type { ChunkSource } from "../../contracts/chunks.ts";
import type { GcResult } from "../../contracts/maintenance.ts";
import type { WriterClient } from "../writer/client.ts";

export interface CollectorOptions {
  readonly catalog: Pick<Catalog, "resolve"> & GcRoots;
  readonly source: ChunkSource;
  readonly writer: WriterClient;
  readonly signal: AbortSignal | undefined;
}

export async function collectGarbage(options: CollectorOptions): Promise<GcResult> {
  const { writer, signal } = options;
  signal?.throwIfAborted();
  await writer.call({ kind: "gc-begin" });
  const stop = (): void => void writer.call({ kind: "gc-stop" }).catch(() => {});
  signal?.addEventListener("abort", stop);
  try {
    const marker = new Marker(options);
    await marker.markNames();
    for (;;) {
      const { roots, ...result } = await writer.call({ kind: "gc-sweep" });
      signal?.throwIfAborted();
      if (roots.byteLength === 0) return result;
      for (let index = 0; index < roots.byteLength / REF_BYTES; index++)
        await marker.mark([refAt(roots, index)]);
    }
  } finally {
    signal?.removeEventListener("abort", stop);
    await writer.call({ kind: "gc-end" });
  }
}

/** A root that is not a stream: the chunk alone is what the name keeps. */
const NOT_STREAMS: ReadonlySet<string> = new Set([
  PacketErrorCode.invalidPacket,
  PacketErrorCode.invalidStream,
]);
const INCOMPLETE: ReadonlySet<string> = new Set([StoreErrorCode.chunkMissing, StoreErrorCode.chunkDamaged]);

class Marker {
  readonly #options: CollectorOptions;
  readonly #seen: Set<string> = new Set();

  constructor(options: CollectorOptions) {
    this.#options = options;
  }

  async markNames(): Promise<void> {
    for await (const page of this.#options.catalog.roots()) await this.#markPage(page);
  }

  /** Rejects when a stream cannot be read: then nobody knows what it needs. */
  async mark(roots: readonly Ref[]): Promise<void> {
    const { source, writer, signal } = this.#options;
    // Whatever becomes of them, the roots themselves stay.
    await writer.call({ kind: "gc-mark", refs: Buffer.concat(roots) });
    for await (const refs of reachable(source, roots, { signal, seen: this.#seen })) {
      await writer.call({ kind: "gc-mark", refs });
    }
  }

  async #markPage(page: readonly NameRecord[]): Promise<void> {
    try {
      await this.mark(page.map(({ root }) => root));
    } catch (error) {
      this.#options.signal?.throwIfAborted();
      if (!(error instanceof PacketfsError)) throw error;
      // One of them is at fault; the streams that were met and not yet read have to be met again.
      this.#seen.clear();
      for (const row of page) await this.#markOne(row);
    }
  }

  async #markOne(row: NameRecord): Promise<void> {
    try {
      await this.mark([row.root]);
    } catch (error) {
      this.#seen.clear();
      if (!(error instanceof PacketfsError) || NOT_STREAMS.has(error.code)) {
        if (error instanceof PacketfsError) return;
        throw error;
      }
      if (!INCOMPLETE.has(error.code)) throw error;
      const { name, version } = row;
      // An earlier version that cannot be read whole any more does not keep gc from all others.
      if ((await this.#options.catalog.resolve(name))?.version !== version) return;
      throw new StoreError(
        error.code as StoreErrorCode,
        `gc frees nothing while ${JSON.stringify(name)} is incomplete: ${error.message}; store it again or remove it`,
        { ...error.data, name, root: refToHex(row.root) },
        { cause: error },
      );
    }
  }
}
