/**
 * A directory comes from a hub or node by a transfer, into what the client keeps, and is written from there: what versions of it that were
 * kept before, or the directory that it is written to, have of it does not come again.
 *
 *   versions that are kept ─┐
 *   what is in the target  ─┴─▶ bases ──▶ what changed comes as patches ──▶ what the client keeps ──▶ the target
 */
import { sameBytes } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { hasCode, PacketErrorCode } from "../../packets/errors.ts";
import { WireErrorCode } from "../../nodes/errors.ts";
import { TRANSFER_FILE_BYTES_MIN } from "../../nodes/limits.ts";
import { Op } from "../../packets/layout.ts";
import { lengthAt, opAt, refOf } from "../../packets/packet.ts";
import { Stream } from "../../packets/stream-reader.ts";
import type { RemoteStore } from "../../nodes/remote/remote-store.ts";
import type { TransferStats } from "../../nodes/transfer/replication/statistics.ts";
import { WriterStore } from "../../nodes/transfer/writer-store.ts";
import type { NameRecord } from "../../runtime/contracts/catalog.ts";
import type { ChunkSource } from "../../runtime/contracts/chunks.ts";
import { readEach } from "../../runtime/read-each.ts";
import { walkStreams } from "../../runtime/stream/walk.ts";
import { storeTree } from "../../runtime/tree/store-tree.ts";
import type { StoredTreeResult } from "../../runtime/tree/store-tree.ts";
import type { TreeTarget } from "../trees.ts";
import type { ClientMemory } from "./client-memory.ts";
import type { KeptFiles } from "./client-store.ts";
import { NearSource } from "./near-source.ts";

/** Versions of its name that it may be like. */
const BASES_MAX = 4;
/** What is in the target is read where that is so many times what is lacking, at most: more would take longer than what it saves. */
const READ_TIMES_MAX = 16;
/** All of it comes where at least this part of it is lacking. */
const LACKING_SHARE_MIN = 0.5;
const STREAMS_KEPT_AT_ONCE = 64;

/** A shorter manifest is there sooner by messages of the session. */
const MANIFEST_BYTES_MIN: number = 64 * 1024;

export type ManifestGet = Pick<TreeGet, "peer" | "memory" | "record" | "history"> & {
  readonly near: NearSource;
  readonly signal: AbortSignal | undefined;
};

/**
 * Brings the manifest of a directory into what is kept, as what changed of one that is kept, if a version of its name is. Whoever reads it asks its
 * peer otherwise. Rejects with the signal's reason alone.
 */
export async function getManifest(options: ManifestGet): Promise<void> {
  const { peer, memory, record, history, near, signal } = options;
  if (!peer.transfers.isOffered || record.version === 0) return;
  try {
    // What names it is here only if it is.
    if ((await near.near?.has(record.root))?.[0] !== 0) return;
    const [top] = await near.read([record.root], signal);
    const manifest = manifestOf(top!);
    if (manifest === undefined || manifest.length < MANIFEST_BYTES_MIN) return;
    const others = (await history()).slice(0, BASES_MAX).map((version) => version.root);
    await using kept = await memory.store.open(manifest.length, others, signal);
    if (kept?.writer === undefined || kept.roots.length === 0) return;
    const into = new WriterStore(kept.store, kept.writer);
    // Not the directories that they are of: what is new would be looked for in all of their files.
    const tops = await readEach(kept.store, kept.roots, signal);
    const known = tops.filter((bytes) => bytes instanceof Uint8Array);
    const bases = known.map((bytes) => manifestOf(bytes)?.root).filter((base) => base !== undefined);
    await peer.transfers.get({
      store: into,
      root: manifest.root,
      bases,
      ...(signal === undefined ? {} : { signal }),
    });
    await into.keep([{ ref: record.root, bytes: top! }]);
    await kept.writer.flush();
  } catch {
    signal?.throwIfAborted();
  }
}

/** The manifest of a directory, by its stream's top; undefined for other streams. Throws for what is none. */
function manifestOf(top: Uint8Array): { readonly root: Ref; readonly length: number } | undefined {
  const { frame, isTree } = Stream.parse(top);
  if (!isTree || opAt(frame, 0) !== Op.CALL) return undefined;
  return { root: refOf(frame, 0).slice(), length: lengthAt(frame, 0) };
}

export interface TreeGet {
  readonly peer: RemoteStore;
  readonly memory: ClientMemory;
  readonly record: NameRecord;
  /** The versions of its name. */
  readonly history: () => Promise<readonly NameRecord[]>;
  readonly target: TreeTarget;
  readonly signal: AbortSignal;
  /** Hears of how much of it has come, 0 to 1. */
  readonly onProgress: (share: number) => void;
}

/** A directory that is here. */
export interface FetchedTree extends AsyncDisposable {
  readonly source: ChunkSource;
  /** Undefined where it was here already. */
  readonly stats: TransferStats | undefined;
}

/**
 * Undefined where files have to be read from the peer as they are written: it is older, or little is lacking, or nothing can be kept. Rejects as
 * `TransferClient.get` does.
 */
export async function getTree(options: TreeGet): Promise<FetchedTree | undefined> {
  const { peer, memory, record, target, signal } = options;
  const { root, length } = record;
  if (!peer.transfers.isOffered || target.lackingBytes < TRANSFER_FILE_BYTES_MIN) return undefined;
  const versions = record.version === 0 ? [] : await options.history();
  const others = versions.slice(0, BASES_MAX).map((version) => version.root);
  const isReadHere =
    target.thereBytes > 0 && target.thereBytes <= READ_TIMES_MAX * Math.max(1, target.lackingBytes);
  const bytes = isReadHere ? target.thereBytes + target.lackingBytes : length;
  const kept = await memory.store.open(bytes, [root, ...others], signal);
  if (kept === undefined) return undefined;
  try {
    const fetched = await fetchInto(kept, options, isReadHere);
    if (fetched !== undefined) return fetched;
  } catch (error) {
    await kept[Symbol.asyncDispose]();
    throw error;
  }
  await kept[Symbol.asyncDispose]();
  return undefined;
}

async function fetchInto(
  kept: KeptFiles,
  options: TreeGet,
  isReadHere: boolean,
): Promise<FetchedTree | undefined> {
  const { peer, record, target, signal, onProgress } = options;
  const { root, length } = record;
  const near = new NearSource(peer);
  near.near = kept.store;
  const here = (stats: TransferStats | undefined): FetchedTree => ({
    source: near,
    stats,
    [Symbol.asyncDispose]: async () => {
      near.near = undefined;
      await kept[Symbol.asyncDispose]();
    },
  });
  if (kept.roots.some((each) => sameBytes(each, root))) return here(undefined);
  const { writer } = kept;
  if (writer === undefined) return undefined;
  const into = new WriterStore(kept.store, writer);
  const bases: Ref[] = [...kept.roots];
  if (bases.length === 0) {
    if (isReadHere) bases.push(...(await readTarget(kept, options, into, near)));
    else if (target.lackingBytes < LACKING_SHARE_MIN * length) return undefined;
  }
  try {
    const stats = await peer.transfers.get({
      store: into,
      root,
      bases,
      signal,
      onProgress: ({ doneBytes, length: all }) => onProgress(doneBytes / Math.max(1, all)),
    });
    await kept.keep(root, length);
    return here(stats);
  } catch (error) {
    if (hasCode(error, WireErrorCode.bulkUnavailable) || hasCode(error, PacketErrorCode.notPlain))
      return undefined;
    throw error;
  }
}

/**
 * Takes what is in the target into what is kept. Resolves with its root, if the peer has it; otherwise the streams of what is to come are
 * read, which say what of it is here.
 */
async function readTarget(
  kept: KeptFiles,
  { peer, record, target, signal }: TreeGet,
  into: WriterStore,
  near: NearSource,
): Promise<Ref[]> {
  let stored: StoredTreeResult;
  try {
    stored = await storeTree(async () => kept.writer!, target.path, {
      filter: target.filter,
      skipsUnreadable: true,
      signal,
    });
  } catch {
    signal.throwIfAborted();
    return [];
  }
  const [isThere] = await peer.has(stored.root, signal);
  if (isThere === 1) return [stored.root];
  let streams: { ref: Ref; bytes: Uint8Array }[] = [];
  for await (const { ref, frame } of walkStreams(near, record.root, signal)) {
    streams.push({ ref: ref.slice(), bytes: frame });
    if (streams.length < STREAMS_KEPT_AT_ONCE) continue;
    await into.keep(streams);
    streams = [];
  }
  await into.keep(streams);
  return [];
}
