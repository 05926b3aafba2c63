/**
 * Gc as the store's users see it: mark what names reach, from this thread, then let the writer sweep. Names that are bound
 * meanwhile are marked before anything is swept, and from then on writers protect what they use (see sweeper.ts).
 *
 * What a name needs whose stream is damaged cannot be known for sure, so what it may need is kept: what can still be made
 * out in the damaged bytes, and what was written just before them, as many bytes as the file has. All else is freed.
 */
import { refAt } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { Op, REF_BYTES } from "../../../packets/layout.ts";
import { opAt, packetCount, refOf } from "../../../packets/packet.ts";
import { invalidPacket } from "../../../packets/validate.ts";
import { GC_UNKNOWN_BYTES, INDEX_PAGE_ROWS } from "../../limits.ts";
import { reachable } from "../../stream/walk.ts";
import type { Catalog, GcRoots, NameRecord } from "../../contracts/catalog.ts";
import type { ChunkSource } from "../../contracts/chunks.ts";
import type { GcResult } from "../../contracts/maintenance.ts";
import type { IndexReader } from "../index/reader.ts";
import type { ChunkReader } from "../segments/chunk-reader.ts";
import type { WriterClient } from "../writer/client.ts";
import { incompleteNames } from "./name-walk.ts";
import type { IncompleteName } from "./name-walk.ts";

export interface CollectorOptions {
  readonly catalog: Pick<Catalog, "resolve"> & GcRoots;
  /** Where streams are read from: this store, and others that may have what it lacks. */
  readonly source: ChunkSource;
  readonly index: IndexReader;
  readonly reader: ChunkReader;
  readonly writer: WriterClient;
  readonly signal: AbortSignal | undefined;
}

/** Whatever it rejects with, the next one may begin. */
export async function collectGarbage(options: CollectorOptions): Promise<GcResult> {
  const { writer, signal } = options;
  signal?.throwIfAborted();
  await writer.call({ kind: "gc-begin" });
  const stop = (): void => void writer.call({ kind: "gc-stop" }).catch(() => {});
  signal?.addEventListener("abort", stop);
  try {
    const incomplete = await markNames(options);
    for (;;) {
      const { roots, ...swept } = await writer.call({ kind: "gc-sweep" });
      signal?.throwIfAborted();
      if (roots.byteLength === 0) return { ...swept, incomplete, unreachable: [] };
      const each = Array.from({ length: roots.byteLength / REF_BYTES }, (_, index) => refAt(roots, index));
      await markStreams(options, each);
    }
  } finally {
    signal?.removeEventListener("abort", stop);
    await writer.call({ kind: "gc-end" });
  }
}

/** Marks what all names need, and says which of them lack something. */
async function markNames(options: CollectorOptions): Promise<string[]> {
  const { catalog, source, writer, signal } = options;
  const incomplete: string[] = [];
  const onRefs = async (refs: Uint8Array): Promise<boolean> => {
    await writer.call({ kind: "gc-mark", refs });
    return true;
  };
  const names = incompleteNames({ pages: catalog.roots(), source, onRefs, signal });
  for await (const name of names) {
    await markSurroundings(options, name);
    const { record } = name;
    const isLatest = (await catalog.resolve(record.name))?.version === record.version;
    incomplete.push(isLatest ? record.name : `${record.name}@${record.version}`);
  }
  return incomplete;
}

/** Marks streams and what can be found out of what they need. */
async function markStreams({ source, writer, signal }: CollectorOptions, roots: Ref[]): Promise<void> {
  // Chunks of data are marked and are no streams; who has asked knows of those that are damaged.
  for await (const refs of reachable(source, roots, { signal, onUnreadable: () => {} }))
    await writer.call({ kind: "gc-mark", refs });
}

/** Marks what a name may need of which nobody knows for sure whether it does. */
async function markSurroundings(options: CollectorOptions, name: IncompleteName): Promise<void> {
  const { record, unreadable } = name;
  for (const ref of unreadable) {
    const bytes = await options.reader.readAsIs(ref);
    // Streams that are not damaged, and are none all the same, name nothing.
    if (bytes === "sound") continue;
    if (bytes !== undefined) await markNamedIn(options, bytes);
    await markWrittenBefore(options, ref, record);
  }
}

/** Marks what the packets name that are left in a damaged stream. */
async function markNamedIn(options: CollectorOptions, frame: Uint8Array): Promise<void> {
  const data: Ref[] = [];
  const streams: Ref[] = [];
  for (let index = 0; index < packetCount(frame); index++) {
    const isCopy = opAt(frame, index) === Op.COPY && invalidPacket(frame, index) === null;
    (isCopy ? data : streams).push(refOf(frame, index));
  }
  if (data.length > 0) await options.writer.call({ kind: "gc-mark", refs: Buffer.concat(data) });
  await markStreams(options, streams);
}

/** Marks what was written just before a stream, as many bytes as its file has: chunks stand before the stream that names them. */
async function markWrittenBefore(
  { index, writer, signal }: CollectorOptions,
  stream: Ref,
  { root, length }: NameRecord,
): Promise<void> {
  const [own, top] = index.use(({ chunks }) => [chunks.find(stream), chunks.find(root)]);
  // Where nobody knows where it stood, what others wrote meanwhile may stand between.
  let left = own === undefined ? length + GC_UNKNOWN_BYTES : length;
  for (let place = (own ?? top)?.place; left > 0 && place !== undefined;) {
    signal?.throwIfAborted();
    const end = place;
    const refs: Uint8Array[] = [];
    for (const row of index.use(({ chunks }) => chunks.pageBefore(end, INDEX_PAGE_ROWS))) {
      if (left <= 0) break;
      refs.push(row.ref);
      left -= row.plainBytes;
      place = row.place;
    }
    if (refs.length === 0) return;
    await writer.call({ kind: "gc-mark", refs: Buffer.concat(refs) });
  }
}
