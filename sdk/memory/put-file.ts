/**
 * Puts a file of this machine at a hub or node by a transfer: what is there already is not sent, what is like something there goes as a
 * patch, and of a file that did not change since it was put there nothing is read.
 *
 *   the file ─▶ what is remembered of it: its root                  there: nothing is sent
 *            ─▶ what the client keeps (or its place on the disk) ─▶ the rest, against versions that both have
 */
import { hasCode } from "../../packets/errors.ts";
import { refKey, refToHex, sameBytes } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { WireErrorCode } from "../../nodes/errors.ts";
import { TRANSFER_BASES_MAX, TRANSFER_FILE_BYTES_MIN } from "../../nodes/limits.ts";
import { chunksThere } from "../../nodes/remote/chunks-there.ts";
import type { IsThere } from "../../nodes/remote/chunks-there.ts";
import type { RemoteStore } from "../../nodes/remote/remote-store.ts";
import type { TransferredPut } from "../../nodes/remote/transfer-client.ts";
import type { SentSource } from "../../nodes/transfer/sent-root.ts";
import type { TransferProgress } from "../../nodes/transfer/transfer-channel.ts";
import type { NameRecord } from "../../runtime/contracts/catalog.ts";
import { StoreError, StoreErrorCode } from "../../runtime/errors.ts";
import { HeldFile, heldBefore } from "../../runtime/stream/execute.ts";
import { estimateUpdate } from "../../runtime/stream/patch/estimate.ts";
import { fileSource, ingest, inputChanged } from "../../runtime/stream/ingest.ts";
import type { PutOptions, TransferCost } from "../packetfs.ts";
import { alikeRoots, openKnown, placesOf } from "./alike-files.ts";
import type { AlikeRoot } from "./alike-files.ts";
import type { ClientMemory } from "./client-memory.ts";
import type { KeptFiles } from "./client-store.ts";
import { seeFile } from "./file-index.ts";
import type { SeenFile } from "./file-index.ts";

/** Versions of its name that it may be like. */
const BASES_MAX = 4;

export interface FilePut {
  readonly peer: RemoteStore;
  /** The versions of its name, the latest first. */
  readonly history: () => Promise<readonly NameRecord[]>;
  readonly memory: ClientMemory | undefined;
  readonly path: string;
  readonly name: string | undefined;
  readonly signal: AbortSignal | undefined;
  /** Called with bytes of the file that are done with, of reading them and bringing them there the mean. */
  readonly onProgress: PutOptions["onProgress"];
}

/** What is known of the file when it has been brought there. */
interface FileRoot {
  readonly root: Ref;
  readonly length: number;
  /** Of all its streams, and its chunks with them; 0 where it was not read, since nothing changed. */
  readonly packets: number;
  readonly chunks: number;
}

/** The peer has the file, and keeps it from gc until this is disposed of. */
export interface PutByTransfer extends FileRoot, AsyncDisposable {
  readonly put: TransferredPut;
  /** It is durable there: what will save work the next time is kept. Never rejects. */
  remember(): Promise<void>;
}

/**
 * Undefined where the file has to be put by messages of the session. Rejects as reading the file does, and as `TransferClient.put`
 * does.
 */
export async function putByTransfer(options: FilePut): Promise<PutByTransfer | undefined> {
  const { peer, path } = options;
  if (!peer.transfers.isOffered) return undefined;
  const seen = await seeFile(path);
  if (seen === undefined || seen.length < TRANSFER_FILE_BYTES_MIN) return undefined;
  try {
    return (await putKnown(options, seen)) ?? (await putRead(options, seen));
  } catch (error) {
    if (hasCode(error, WireErrorCode.bulkUnavailable)) return undefined;
    throw error;
  }
}

/** Asks whether a file is there that did not change since its root was known. Undefined where it is not, or not known. */
async function putKnown(options: FilePut, seen: SeenFile): Promise<PutByTransfer | undefined> {
  const root = options.memory?.files.rootOf(seen);
  if (root === undefined) return undefined;
  try {
    const put = await send(options, { root, length: seen.length, source: NOTHING, bases: [], isTold: false });
    const remember = async (): Promise<void> => {};
    return { root, length: seen.length, packets: 0, chunks: 0, put, remember, ...closing([put]) };
  } catch (error) {
    if (isLost(error)) return undefined;
    throw error;
  }
}

/** What putting it would cost: as much is sent as for this, and nothing else is done. Rejects as reading the file does. */
export async function costOfPut(options: FilePut): Promise<TransferCost> {
  const { peer, memory, path, signal } = options;
  const seen = await seeFile(path);
  const known = seen === undefined ? undefined : memory?.files.rootOf(seen);
  const nothing = { newBytes: 0, wireBytes: { sent: 0, received: 0 }, exact: true };
  if (known !== undefined && (await peer.has(known, signal))[0] === 1)
    return { root: refToHex(known), length: seen!.length, ...nothing };
  await using held = await HeldFile.open(path, { signal });
  const { root, length } = held;
  const of = { root: refToHex(root), length };
  if ((await peer.has(root, signal))[0] === 1) return { ...of, ...nothing };
  await using kept =
    memory === undefined || seen === undefined ? NOTHING_KEPT : await openKept(options, memory, seen, 0);
  const source = heldBefore([held, ...kept.copies], kept.files?.store ?? NOTHING);
  const there = kept.bases.length === 0 ? [] : await peer.has(Buffer.concat(kept.bases), signal);
  const bases = kept.bases.filter((_, index) => there[index] === 1);
  const isThere = await allowed(chunksThere(peer, source, root, signal), undefined);
  const { plainBytes, wireBytes, isExact } = await estimateUpdate(source, root, bases, { isThere, signal });
  return { ...of, newBytes: plainBytes, wireBytes: { sent: wireBytes, received: 0 }, exact: isExact };
}

/** Nothing is read before it is known to be lacking. */
const NOTHING: SentSource = { read: (refs) => Promise.reject(notHere(refs)) };

async function putRead(options: FilePut, seen: SeenFile): Promise<PutByTransfer> {
  const { memory } = options;
  if (memory !== undefined) {
    const kept = await openKept(options, memory, seen);
    try {
      const done = await putKept(options, seen, kept);
      if (done !== undefined) return done;
    } catch (error) {
      await kept[Symbol.asyncDispose]();
      throw error;
    }
    // What is kept turned out to be of no use.
    await kept[Symbol.asyncDispose]();
  }
  return (await putKept(options, seen, NOTHING_KEPT))!;
}

/** What is here that the file may be like, and what it is stored in to be that for others. */
interface Kept extends AsyncDisposable {
  readonly files: KeptFiles | undefined;
  readonly copies: readonly HeldFile[];
  readonly bases: readonly Ref[];
  /** Whether one of them is a version of its name: what the peer has of it is reachable from that. */
  readonly hasVersion: boolean;
}

const NOTHING_KEPT: Kept = {
  files: undefined,
  copies: [],
  bases: [],
  hasVersion: false,
  [Symbol.asyncDispose]: async () => {},
};

async function openKept(
  options: FilePut,
  memory: ClientMemory,
  seen: SeenFile,
  bytes: number = seen.length,
): Promise<Kept> {
  const { path, name, signal } = options;
  // Who may put need not be one who may ask for names.
  const versions = await allowed(options.history(), []);
  const known = alikeRoots(memory, path, name);
  const roots = new Map<string, AlikeRoot>(known.map((alike) => [refKey(alike.root), alike]));
  for (const { root } of versions.slice(0, BASES_MAX)) {
    if (!roots.has(refKey(root))) roots.set(refKey(root), placesOf(memory.files, root));
  }
  const alike = [...roots.values()].slice(0, TRANSFER_BASES_MAX);
  const files = await memory.store.open(
    bytes,
    alike.map(({ root }) => root),
    signal,
  );
  const bases = [...(files?.roots ?? [])];
  const copies: HeldFile[] = [];
  const close = async (): Promise<void> => {
    for (const copy of copies.splice(0)) await copy[Symbol.asyncDispose]();
    await files?.[Symbol.asyncDispose]();
  };
  try {
    for (const each of alike) {
      if (bases.some((root) => sameBytes(root, each.root))) continue;
      const copy = await openKnown(memory, each, signal);
      if (copy === undefined) continue;
      copies.push(copy);
      bases.push(each.root);
    }
  } catch (error) {
    await close();
    throw error;
  }
  const hasVersion = versions.some(({ root }) => bases.some((base) => sameBytes(base, root)));
  return { files, copies, bases, hasVersion, [Symbol.asyncDispose]: close };
}

/** With what is kept, whatever that is; undefined where it fails for that. */
async function putKept(options: FilePut, seen: SeenFile, kept: Kept): Promise<PutByTransfer | undefined> {
  const open: AsyncDisposable[] = [kept];
  try {
    const file = await readInto(options, kept);
    if (file.held !== undefined) open.unshift(file.held);
    const { root, length, packets, chunks, source } = file;
    const { bases } = kept;
    const isThere = kept.hasVersion
      ? undefined
      : await allowed(chunksThere(options.peer, source, root, options.signal), undefined);
    const put = await send(options, { root, length, source, bases, isThere, isTold: true });
    open.unshift(put);
    const remember = async (): Promise<void> => {
      if (file.held === undefined) await kept.files?.keep(root, length);
      await options.memory?.files.remember(seen, root, options.name);
    };
    return { root, length, packets, chunks, put, remember, ...closing(open) };
  } catch (error) {
    for (const each of open) if (each !== kept) await each[Symbol.asyncDispose]();
    options.signal?.throwIfAborted();
    const isOfCache = error instanceof StoreError || isLost(error);
    if (!isOfCache) throw error;
    if ((await seeFile(seen.path))?.mark !== seen.mark) throw inputChanged(seen.path, "it was written to");
    if (kept === NOTHING_KEPT) throw error;
    for (const root of kept.bases) await kept.files?.forget(root);
    return undefined;
  }
}

interface ReadFile extends FileRoot {
  readonly source: SentSource;
  readonly held: HeldFile | undefined;
}

/** Into what is kept, where that can be written to; what the file is where it lies, otherwise. */
async function readInto({ path, signal, onProgress }: FilePut, { files, copies }: Kept): Promise<ReadFile> {
  const how = {
    ...(signal === undefined ? {} : { signal }),
    ...(onProgress === undefined
      ? {}
      : { onProgress: (bytes: number) => onProgress(bytes / 2, { doing: "reading", bytes }) }),
  };
  if (files?.writer !== undefined) {
    const stored = await ingest(files.writer, fileSource(path, signal), how);
    const { store } = files;
    const source = copies.length === 0 ? store : withCopies(copies, store);
    return { ...stored, source, held: undefined };
  }
  const held = await HeldFile.open(path, how);
  const { root, length, packets, chunks } = held;
  const source = heldBefore([held, ...copies], files?.store ?? NOTHING);
  return { root, length, packets, chunks, source, held };
}

/** Chunks of bases come from the copies, those of the file as they are stored. */
function withCopies(copies: readonly HeldFile[], store: KeptFiles["store"]): SentSource {
  return {
    ...heldBefore(copies, store),
    places: (refs) => store.places(refs),
    readStored: (refs, signal) => store.readStored(refs, signal),
  };
}

interface Sent {
  readonly root: Ref;
  readonly length: number;
  readonly source: SentSource;
  readonly bases: readonly Ref[];
  readonly isThere?: IsThere | undefined;
  readonly isTold: boolean;
}

async function send(
  { peer, name, signal, onProgress }: FilePut,
  { isTold, ...sent }: Sent,
): Promise<TransferredPut> {
  const tell = ({ doneBytes: bytes, length }: TransferProgress): void =>
    onProgress?.((length + bytes) / 2, { doing: "sending", bytes, peer: peer.transfers.route.peer });
  return await peer.transfers.put({ ...sent, name, signal, onProgress: isTold ? tell : undefined });
}

/** What comes of it, or something else where the peer does not let this client ask. */
async function allowed<Result>(asked: Promise<Result>, otherwise: Result): Promise<Result> {
  return await asked.catch((error: unknown) => {
    if (hasCode(error, WireErrorCode.notAllowed)) return otherwise;
    throw error;
  });
}

function closing(open: readonly AsyncDisposable[]): AsyncDisposable {
  return {
    [Symbol.asyncDispose]: async () => {
      for (const each of open) await each[Symbol.asyncDispose]();
    },
  };
}

function isLost(error: unknown): boolean {
  return hasCode(error, StoreErrorCode.chunkMissing) || hasCode(error, StoreErrorCode.chunkDamaged);
}

function notHere([first]: readonly Ref[]): StoreError {
  const ref = first === undefined ? "" : refToHex(first);
  return new StoreError(StoreErrorCode.chunkMissing, `chunk ${ref} was not read`, { ref });
}
