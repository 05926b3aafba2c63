/**
 * A file comes from a hub or node by a transfer, into a part file: what this machine has of it, and what an earlier try has written there,
 * does not come again.
 *
 *     what stands there already ──▶ has its root: nothing is written
 *     what is held ──▶ its root: a base, where the peer has it too ──▶ what changed comes as patches
 *                  └─▶ where the peer does not: the file's streams are read, and say which chunks are lacking
 *
 * What came is remembered, with a copy of it: it is what a later version is like, there and here.
 */
import { dirname } from "node:path";
import { refKey, refToHex, sameBytes } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { hasCode, PacketErrorCode } from "../../packets/errors.ts";
import { Op, REF_BYTES } from "../../packets/layout.ts";
import { opAt, packetCount } from "../../packets/packet.ts";
import { WireErrorCode } from "../../nodes/errors.ts";
import { TRANSFER_FILE_BYTES_MIN } from "../../nodes/limits.ts";
import type { RemoteStore } from "../../nodes/remote/remote-store.ts";
import { ReceivedFile } from "../../nodes/transfer/received-file.ts";
import type { HeldChunks } from "../../nodes/transfer/received-file.ts";
import type { TransferStats } from "../../nodes/transfer/replication/statistics.ts";
import type { ChunkSource } from "../../runtime/contracts/chunks.ts";
import { HeldFile } from "../../runtime/stream/execute.ts";
import { walkStreams } from "../../runtime/stream/walk.ts";
import { fileFailure } from "../errors.ts";
import type { ProgressStep, TransferCost, TransferInfo } from "../packetfs.ts";
import { PART_AGE_MS_MAX } from "../target/file-target.ts";
import type { Part } from "../target/file-target.ts";
import { transferInfo } from "../transfer-info.ts";
import { alikeRoots, openKnown, openRead, placesOf } from "./alike-files.ts";
import type { AlikeRoot } from "./alike-files.ts";
import type { ClientMemory } from "./client-memory.ts";
import type { KeptFiles } from "./client-store.ts";
import { seeAgain, seeFile } from "./file-index.ts";

/** Files that are read to know whether they are what they were, at most. */
const READ_MAX = 2;

export interface FileGet {
  readonly peer: RemoteStore;
  readonly memory: ClientMemory | undefined;
  readonly root: Ref;
  readonly length: number;
  /** Where the file is to be. */
  readonly path: string;
  /** What it is stored as, where that is known. */
  readonly name: string | undefined;
  readonly signal: AbortSignal | undefined;
  /** Called with bytes of the file that are there, and what is being done. */
  readonly onProgress: (bytes: number, step: ProgressStep) => void;
  /** Whether what came stays where its part is when the signal ends it. */
  readonly leavesPart: boolean;
}

/** Of less than this nobody goes on: it comes again as fast. */
const LEFT_BYTES_MIN: number = 1024 * 1024;

/** What came, and what it cost. */
interface Came {
  readonly stats: TransferStats;
  readonly streams: readonly Uint8Array[];
}

/** One file that is fetched. It has files open until it is disposed of. */
export class FileFromPeer implements AsyncDisposable {
  readonly #get: FileGet;
  /** What stands where it is to be, once that was read or is known. */
  #there: HeldFile | undefined;
  readonly #open: AsyncDisposable[] = [];
  #came: Came | undefined;
  #doneBytes = 0;
  #leftBytes: number | undefined;

  constructor(get: FileGet) {
    this.#get = get;
  }

  /** Whether the file there has these bytes: it is read where nobody knows. Rejects with the signal's reason. */
  async isThere(): Promise<boolean> {
    const { memory, root, length, path, name, signal } = this.#get;
    const seen = await seeFile(path);
    if (seen?.length !== length) return false;
    const known = memory?.files.rootOf(seen);
    if (known !== undefined) return sameBytes(known, root);
    this.#there = await this.#read(path);
    if (this.#there === undefined || !sameBytes(this.#there.root, root)) return false;
    await memory?.files.remember(seen, root, name);
    signal?.throwIfAborted();
    return true;
  }

  /**
   * Undefined where it has to come by its chunks: the peer is older, or the file is small, or has to be computed. Resolves with its bytes
   * otherwise. Rejects as `TransferClient.get` and writing files do.
   */
  async fill(part: Part): Promise<number | undefined> {
    const { peer, root, length, path, signal, onProgress } = this.#get;
    if (!peer.transfers.isOffered || length < TRANSFER_FILE_BYTES_MIN) return undefined;
    this.#get.memory?.files.notePart(dirname(part.path));
    const { held, bases } = await this.#held(part.held);
    const { handle, path: partPath, journal } = part;
    const file = await ReceivedFile.open({ root, handle, path: partPath, journal, held });
    try {
      const stats = await peer.transfers.get({
        store: file,
        root,
        bases,
        onProgress: ({ doneBytes }) => {
          this.#doneBytes = doneBytes;
          onProgress(doneBytes, { doing: "receiving", bytes: doneBytes, peer: peer.transfers.route.peer });
        },
        ...(signal === undefined ? {} : { signal }),
      });
      this.#came = { stats, streams: await streamsOf(file.streams, root, signal) };
      return length;
    } catch (error) {
      if (hasCode(error, WireErrorCode.bulkUnavailable) || hasCode(error, PacketErrorCode.notPlain))
        return undefined;
      throw partError(error, path);
    } finally {
      await file.close();
    }
  }

  /** Whether what came until this error is left to whoever tries again. */
  survives(error: unknown): boolean {
    const { signal, leavesPart } = this.#get;
    const isStopped = signal?.aborted === true && leavesPart && this.#doneBytes >= LEFT_BYTES_MIN;
    if (!isStopped && !isOfConnection(error)) return false;
    this.#leftBytes = this.#doneBytes;
    return true;
  }

  /** Bytes of it that were left to whoever tries again. */
  get leftBytes(): number | undefined {
    return this.#leftBytes;
  }

  /** What it would cost, as far as the peer tells. Rejects as `fill` does. */
  async cost(): Promise<TransferCost> {
    const { peer, root, length, path, signal } = this.#get;
    const of = { root: refToHex(root), length };
    if (await this.isThere()) return { ...of, newBytes: 0, wireBytes: { sent: 0, received: 0 }, exact: true };
    const isHere = (await seeFile(path)) !== undefined;
    const { bases } = await this.#held(isHere ? [path] : []);
    const told = await peer.cost(root, bases, signal).catch((error: unknown) => {
      if (hasCode(error, PacketErrorCode.notPlain)) return undefined;
      throw error;
    });
    // Of one that has to be computed, and of an older peer, no more is known than how long the file is.
    const { plainBytes, wireBytes, isExact } = told ?? {
      plainBytes: length,
      wireBytes: length,
      isExact: false,
    };
    return { ...of, newBytes: plainBytes, wireBytes: { sent: 0, received: wireBytes }, exact: isExact };
  }

  /** What it cost, once it is there; undefined where it came by its chunks, or was there. */
  get transfer(): TransferInfo | undefined {
    if (this.#came === undefined) return undefined;
    const { stats, streams } = this.#came;
    const { length, peer } = this.#get;
    return transferInfo(stats, length, chunksIn(streams) - stats.chunks, peer.transfers.route);
  }

  /** It is where it is to be: what will save work the next time is kept. Never rejects. */
  async remember(): Promise<void> {
    const { memory, root, length, path, name } = this.#get;
    if (memory === undefined) return;
    const seen = await seeFile(path);
    if (seen?.length !== length) return;
    if (this.#came !== undefined) await memory.copies.keep(path, root, length, this.#came.streams);
    await memory.files.remember(await seeAgain(seen), root, name);
    await memory.removeParts(PART_AGE_MS_MAX);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const each of this.#open.splice(0)) await each[Symbol.asyncDispose]();
  }

  async #read(path: string): Promise<HeldFile | undefined> {
    const { signal } = this.#get;
    const onProgress = (bytes: number): void => this.#get.onProgress(0, { doing: "reading", bytes });
    const held = await HeldFile.open(path, { signal, onProgress }).catch(() => undefined);
    signal?.throwIfAborted();
    return this.#keepOpen(held);
  }

  #keepOpen<Opened extends AsyncDisposable>(opened: Opened | undefined): Opened | undefined {
    if (opened !== undefined) this.#open.push(opened);
    return opened;
  }

  /** What is here of it, and which of that are bases. */
  async #held(paths: readonly string[]): Promise<Held> {
    const { peer, memory, root, path, name, signal } = this.#get;
    const same = memory === undefined ? undefined : await this.#find(memory, [placesOf(memory.files, root)]);
    if (same !== undefined) return same;
    const there: HeldFile[] = [];
    for (const each of paths) {
      const file = this.#there ?? (await this.#openThere(each));
      if (file !== undefined) there.push(file);
    }
    const alike = memory === undefined ? [] : alikeRoots(memory, path, name);
    const known = await rootsAt(
      peer,
      [...there, ...alike].map((each) => each.root),
      signal,
    );
    const bases = there.map((file) => file.root).filter((each) => known.has(refKey(each)));
    if (bases.length > 0 || memory === undefined) return this.#withPeer({ held: there, bases });
    const found = await this.#find(
      memory,
      alike.filter((each) => known.has(refKey(each.root))),
    );
    return this.#withPeer({ held: [...there, ...(found?.held ?? [])], bases: found?.bases ?? [] });
  }

  /** Without a base the streams say what is lacking: they are few, and come first. */
  #withPeer({ held, bases }: Held): Held {
    if (bases.length > 0 || held.length === 0) return { held, bases };
    const { peer, signal } = this.#get;
    return { held: [...held, { read: (refs) => peer.read(refs, signal) }], bases };
  }

  /** The first of them that is here. */
  async #find(memory: ClientMemory, alike: readonly AlikeRoot[]): Promise<Held | undefined> {
    const { signal } = this.#get;
    const roots = alike.map(({ root }) => root);
    let kept: KeptFiles | undefined;
    for (const [index, each] of alike.entries()) {
      const known = this.#keepOpen(await openKnown(memory, each, signal));
      if (known !== undefined) return { held: [known], bases: [each.root] };
      kept ??= this.#keepOpen(await memory.store.open(0, roots, signal));
      const { store, roots: stored = [] } = kept ?? {};
      if (store !== undefined && stored.some((root) => sameBytes(root, each.root)))
        return { held: [{ read: (refs) => store.read(refs) }], bases: [each.root] };
      const read = index < READ_MAX ? this.#keepOpen(await openRead(each, signal)) : undefined;
      if (read !== undefined && sameBytes(read.root, each.root)) return { held: [read], bases: [each.root] };
    }
    return undefined;
  }

  async #openThere(path: string): Promise<HeldFile | undefined> {
    const { memory, signal } = this.#get;
    const seen = memory === undefined ? undefined : await seeFile(path);
    const root = seen === undefined ? undefined : memory?.files.rootOf(seen);
    const known = root === undefined ? undefined : await memory?.copies.at(path, root, signal);
    return this.#keepOpen(known) ?? (await this.#read(path));
  }
}

interface Held {
  readonly held: readonly HeldChunks[];
  /** Roots of it that the peer has. */
  readonly bases: readonly Ref[];
}

/** The connection was lost, and nothing else was wrong. */
function isOfConnection(error: unknown): boolean {
  const lost = [
    WireErrorCode.nodeLost,
    WireErrorCode.unreachable,
    WireErrorCode.bulkCut,
    WireErrorCode.closed,
  ];
  return lost.some((code) => hasCode(error, code));
}

/** Keys of those that the peer has. */
async function rootsAt(
  peer: RemoteStore,
  all: readonly Ref[],
  signal: AbortSignal | undefined,
): Promise<ReadonlySet<string>> {
  const roots = new Map(all.map((root) => [refKey(root), root]));
  if (roots.size === 0) return new Set();
  const there = await peer.has(Buffer.concat([...roots.values()], roots.size * REF_BYTES), signal);
  return new Set([...roots.keys()].filter((_, index) => there[index] === 1));
}

async function streamsOf(
  source: ChunkSource,
  root: Ref,
  signal: AbortSignal | undefined,
): Promise<Uint8Array[]> {
  const streams = new Map<string, Uint8Array>();
  for await (const { ref, frame } of walkStreams(source, root, signal)) streams.set(refKey(ref), frame);
  return [...streams.values()];
}

/** Streams, and chunks that they name. */
function chunksIn(streams: readonly Uint8Array[]): number {
  let chunks = streams.length;
  for (const frame of streams)
    for (let index = 0; index < packetCount(frame); index++) if (opAt(frame, index) === Op.COPY) chunks++;
  return chunks;
}

/** What the system said of a part is told of the path that it was to become. */
export function partError(error: unknown, path: string): unknown {
  if (!hasCode(error, WireErrorCode.bulkFileFailed)) return error;
  const { system } = error.data;
  return typeof system === "string" ? fileFailure(system, "write", path, error) : error;
}
