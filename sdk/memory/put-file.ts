/**
 * Puts a file of this machine at a hub or node by a transfer: what is there already is not sent, what is like something there goes as a
 * patch, and of a file that did not change since it was put there nothing is read.
 *
 *   the file ─▶ what is remembered of it: its root                  there: nothing is sent
 *            ─▶ what the client keeps (or its place on the disk) ─▶ the rest, against versions that both have
 */
import { hasCode } from "../../packets/errors.ts";
import { refToHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { WireErrorCode } from "../../nodes/errors.ts";
import { TRANSFER_FILE_BYTES_MIN } from "../../nodes/limits.ts";
import { chunksThere } from "../../nodes/remote/chunks-there.ts";
import type { IsThere } from "../../nodes/remote/chunks-there.ts";
import type { RemoteStore } from "../../nodes/remote/remote-store.ts";
import type { TransferredPut } from "../../nodes/remote/transfer-client.ts";
import type { SentSource } from "../../nodes/transfer/sent-root.ts";
import type { NameRecord } from "../../runtime/contracts/catalog.ts";
import { StoreError, StoreErrorCode } from "../../runtime/errors.ts";
import { HeldFile } from "../../runtime/stream/execute.ts";
import { fileSource, ingest, inputChanged } from "../../runtime/stream/ingest.ts";
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
  readonly onProgress: ((bytes: number) => void) | undefined;
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

/** Nothing is read before it is known to be lacking. */
const NOTHING: SentSource = { read: (refs) => Promise.reject(notHere(refs)) };

async function putRead(options: FilePut, seen: SeenFile): Promise<PutByTransfer> {
  const { memory, signal } = options;
  // Who may put need not be one who may ask for names.
  const versions = memory === undefined ? [] : await allowed(options.history(), []);
  const bases = versions.slice(0, BASES_MAX).map(({ root }) => root);
  const kept = await memory?.store.open(seen.length, bases, signal);
  try {
    const done = await putKept(options, seen, kept);
    if (done !== undefined) return done;
  } catch (error) {
    await kept?.[Symbol.asyncDispose]();
    throw error;
  }
  // What is kept turned out to be of no use.
  await kept?.[Symbol.asyncDispose]();
  return (await putKept(options, seen, undefined))!;
}

/** With what is kept, whatever that is; undefined where it fails for that. */
async function putKept(
  options: FilePut,
  seen: SeenFile,
  kept: KeptFiles | undefined,
): Promise<PutByTransfer | undefined> {
  const open: AsyncDisposable[] = kept === undefined ? [] : [kept];
  try {
    const file = await readInto(options, kept);
    if (file.held !== undefined) open.unshift(file.held);
    const { root, length, packets, chunks, source } = file;
    const bases = kept?.roots ?? [];
    // What is reachable from a base need not be asked about.
    const isThere =
      bases.length > 0
        ? undefined
        : await allowed(chunksThere(options.peer, source, root, options.signal), undefined);
    const put = await send(options, { root, length, source, bases, isThere, isTold: true });
    open.unshift(put);
    const remember = async (): Promise<void> => {
      if (file.held === undefined) await kept?.keep(root, length);
      await options.memory?.files.remember(seen, root);
    };
    return { root, length, packets, chunks, put, remember, ...closing(open) };
  } catch (error) {
    for (const each of open) if (each !== kept) await each[Symbol.asyncDispose]();
    options.signal?.throwIfAborted();
    const isOfCache = error instanceof StoreError || isLost(error);
    if (!isOfCache) throw error;
    if ((await seeFile(seen.path))?.mark !== seen.mark) throw inputChanged(seen.path, "it was written to");
    if (kept === undefined) throw error;
    for (const root of kept.roots) await kept.forget(root);
    return undefined;
  }
}

interface ReadFile extends FileRoot {
  readonly source: SentSource;
  readonly held: HeldFile | undefined;
}

/** Into what is kept, where that can be written to; what the file is where it lies, otherwise. */
async function readInto(
  { path, signal, onProgress }: FilePut,
  kept: KeptFiles | undefined,
): Promise<ReadFile> {
  const how = {
    ...(signal === undefined ? {} : { signal }),
    ...(onProgress === undefined ? {} : { onProgress: (bytes: number) => onProgress(bytes / 2) }),
  };
  if (kept?.writer !== undefined) {
    const stored = await ingest(kept.writer, fileSource(path, signal), how);
    return { ...stored, source: kept.store, held: undefined };
  }
  const held = await HeldFile.open(path, how);
  const { root, length, packets, chunks } = held;
  return { root, length, packets, chunks, source: kept === undefined ? held : held.before(kept.store), held };
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
  return await peer.transfers.put({
    ...sent,
    name,
    signal,
    onProgress: isTold ? ({ doneBytes, length }) => onProgress?.((length + doneBytes) / 2) : undefined,
  });
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
