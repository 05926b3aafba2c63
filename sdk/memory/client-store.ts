/**
 * What a client of a hub keeps of what it stored there: a store in the user's cache, so that the next version of a file can be sent as
 * what changed of it. Files are kept under their roots. It is bounded, those go first that were not used for the longest, and it is
 * only there to save work: where it is broken it is made anew, and where another process writes to it, or it fails, one goes without.
 */
import { randomBytes } from "node:crypto";
import { readdir, rename, rm, stat, statfs } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { refToHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { hasCode } from "../../packets/errors.ts";
import type { NameRecord } from "../../runtime/contracts/catalog.ts";
import type { StoredFormWriter } from "../../runtime/contracts/chunks.ts";
import { StoreErrorCode } from "../../runtime/errors.ts";
import { makeDirectory } from "../../runtime/durable-file.ts";
import { Store } from "../../runtime/store/store.ts";

/** Bytes of disk that it takes unless somebody says otherwise: so much of what would be free without it, and no more than that. */
const DISK_SHARE = 0.1;
const BYTES_MAX: number = 20 * 1024 ** 3;
/** A file that would take more of it than that is not kept: all others would go for it. */
const FILE_SHARE_MAX = 0.5;
/** When room is made, so much of it is in use afterwards: not each file that comes has to make some. */
const USED_SHARE_AFTER = 0.8;
/** A use is written down when the last one that was is older. */
const USE_NOTED_MS: number = 60 * 60 * 1000;
/** What writes shares the caller's thread where fewer bytes are to come. */
const LITTLE_BYTES: number = 4 * 1024 * 1024;

const NO_DISK = { bavail: 0, bsize: 0 } as const;

export interface ClientStoreOptions {
  /** Where it is, or is to be. */
  readonly directory: string;
  /** Bytes of disk that it may take, and 0 for none at all; by default a tenth of what is free, and 20 GiB at most. */
  readonly bytesMax?: number | undefined;
  /** What of that it may take, and something else has the rest: a number up to 1, which it is by default. */
  readonly share?: number;
}

/** The store while somebody uses it. What reading and writing it rejects with is nobody's concern: one goes without it then. */
export interface KeptFiles extends AsyncDisposable {
  readonly store: Store;
  /** Undefined where another process writes, or there is no room. */
  readonly writer: StoredFormWriter | undefined;
  /** Those of the roots that were asked for that are here, and do not go as long as it is open. */
  readonly roots: readonly Ref[];
  /** Keeps what was written as long as there is room. Never rejects. */
  keep(root: Ref, length: number): Promise<void>;
  /** What turned out to be incomplete is here no more. Never rejects. */
  forget(root: Ref): Promise<void>;
}

interface OpenStore {
  readonly store: Store;
  readonly isWritable: boolean;
}

export class ClientStore {
  readonly directory: string;
  readonly #bytesMax: number | undefined;
  readonly #share: number;
  /** All that use it share it, and the last closes it: so others can write. */
  #opened: Promise<OpenStore | undefined> | undefined;
  #users = 0;
  #closing: Promise<unknown> = Promise.resolve();
  #makingRoom: Promise<unknown> = Promise.resolve();
  /** Roots in use, by how many. */
  readonly #inUse = new Map<string, number>();

  constructor({ directory, bytesMax, share = 1 }: ClientStoreOptions) {
    this.directory = directory;
    this.#bytesMax = bytesMax;
    this.#share = share;
  }

  /**
   * Opens it to look for `roots`, and to write up to `bytes`, for which room is made. Undefined where there is none, or it is of no
   * use. Rejects with the signal's reason alone.
   */
  async open(bytes: number, roots: readonly Ref[], signal?: AbortSignal): Promise<KeptFiles | undefined> {
    if (this.#bytesMax === 0) return undefined;
    const opened = await this.#acquire(bytes);
    if (opened === undefined) return undefined;
    const { store, isWritable } = opened;
    const found: string[] = [];
    const release = async (): Promise<void> => {
      for (const name of found.splice(0)) this.#use(name, -1);
      await this.#release();
    };
    try {
      for (const root of roots) {
        if ((await store.catalog.resolve(nameOf(root))) === undefined) continue;
        found.push(nameOf(root));
        this.#use(nameOf(root), 1);
      }
      if (isWritable) for (const name of found) await noteUse(store, name);
      const hasRoom = isWritable && (await this.#makeRoom(store, bytes, signal));
      const writer = hasRoom ? await store.openWriter() : undefined;
      return keptFiles(
        store,
        writer,
        roots.filter((root) => found.includes(nameOf(root))),
        release,
      );
    } catch {
      await release();
      signal?.throwIfAborted();
      return undefined;
    }
  }

  /** Opens it to read alone, beside whoever writes: what goes meanwhile is missing. Undefined where nothing is kept. */
  async look(): Promise<Store | undefined> {
    if (this.#bytesMax === 0) return undefined;
    return await Store.open(this.directory, { readOnly: true }).catch(() => undefined);
  }

  /** Bytes of disk that it takes, and may take. */
  async usage(): Promise<{ readonly bytes: number; readonly bytesMax: number }> {
    const bytes = await bytesIn(this.directory);
    return { bytes, bytesMax: await this.#limit(bytes) };
  }

  /** Removes all that is kept. Rejects with PFS_STORE_BUSY {directory, pid}, and as the disk does. */
  async clear(signal?: AbortSignal): Promise<void> {
    await removeDiscarded(this.directory);
    if ((await stat(this.directory).catch(() => undefined)) === undefined) return;
    try {
      await using store = await Store.open(this.directory);
      for await (const { name } of store.catalog.list()) await store.catalog.remove(name);
      await store.gc(signal);
    } catch (error) {
      if (!hasCode(error, StoreErrorCode.unreadable)) throw error;
      await discard(this.directory);
    }
  }

  async #acquire(bytes: number): Promise<OpenStore | undefined> {
    this.#users++;
    this.#opened ??= this.#closing.then(() => openStore(this.directory, bytes <= LITTLE_BYTES));
    const opened = await this.#opened;
    if (opened === undefined) await this.#release();
    return opened;
  }

  async #release(): Promise<void> {
    if (--this.#users > 0) return;
    const opened = this.#opened;
    this.#opened = undefined;
    // What could not be made durable is not kept.
    this.#closing = (opened ?? Promise.resolve(undefined))
      .then((open) => open?.store.close())
      .catch(() => {});
    await this.#closing;
  }

  #use(name: string, count: 1 | -1): void {
    const uses = (this.#inUse.get(name) ?? 0) + count;
    if (uses === 0) this.#inUse.delete(name);
    else this.#inUse.set(name, uses);
  }

  async #limit(bytes: number): Promise<number> {
    if (this.#bytesMax !== undefined) return Math.floor(this.#bytesMax * this.#share);
    const { bavail, bsize } = await statfs(await nearestThere(this.directory)).catch(() => NO_DISK);
    return Math.floor(Math.min(BYTES_MAX, (bavail * bsize + bytes) * DISK_SHARE) * this.#share);
  }

  /** One after the other. */
  async #makeRoom(store: Store, bytes: number, signal: AbortSignal | undefined): Promise<boolean> {
    const done = this.#makingRoom.then(() => this.#makeRoomAlone(store, bytes, signal));
    this.#makingRoom = done.catch(() => {});
    return await done;
  }

  async #makeRoomAlone(store: Store, bytes: number, signal: AbortSignal | undefined): Promise<boolean> {
    for (;;) {
      const used = await bytesIn(this.directory);
      const max = await this.#limit(used);
      if (bytes > max * FILE_SHARE_MAX) return false;
      if (used + bytes <= max) return true;
      const records: NameRecord[] = [];
      for await (const record of store.catalog.list()) records.push(record);
      // What they share, and how they are compressed, is not known: they are taken to be alike.
      const all = records.reduce((sum, { length }) => sum + length, 0);
      let going = (all * (used - USED_SHARE_AFTER * (max - bytes))) / used;
      const idle = records.filter(({ name }) => !this.#inUse.has(name));
      for (const { name, length } of idle.toSorted((a, b) => a.storedAt - b.storedAt)) {
        if (going <= 0) break;
        await store.catalog.remove(name);
        going -= length;
      }
      const { freedBytes } = await store.gc(signal);
      if (freedBytes === 0) return false;
    }
  }
}

/** What is kept of a root is found by this name: one that is a root itself is none. */
function nameOf(root: Ref): string {
  return `root ${refToHex(root)}`;
}

function keptFiles(
  store: Store,
  writer: StoredFormWriter | undefined,
  roots: readonly Ref[],
  release: () => Promise<void>,
): KeptFiles {
  return {
    store,
    writer,
    roots,
    keep: async (root, length) => {
      await writer?.bind({ name: nameOf(root), root, length }).catch(() => {});
    },
    forget: async (root) => {
      if (writer !== undefined) await store.catalog.remove(nameOf(root)).catch(() => {});
    },
    [Symbol.asyncDispose]: async () => {
      await writer?.close().catch(() => {});
      await release();
    },
  };
}

/** A name is given to its root again: when that was last done is when it was last used. */
async function noteUse(store: Store, name: string): Promise<void> {
  const record = await store.catalog.resolve(name);
  const age = Math.abs(Date.now() - (record?.storedAt ?? 0));
  if (record !== undefined && age > USE_NOTED_MS) await store.catalog.bind(record).catch(() => {});
}

/** For reading where another process writes. Undefined where it is of no use. */
async function openStore(directory: string, writesLittle: boolean): Promise<OpenStore | undefined> {
  const open = async (): Promise<OpenStore> => ({
    store: await Store.open(directory, { lockWaitMs: 0, writesLittle }),
    isWritable: true,
  });
  try {
    await makeDirectory(dirname(directory));
    return await open();
  } catch (error) {
    try {
      if (hasCode(error, StoreErrorCode.unreadable)) {
        await discard(directory);
        return await open();
      }
      return { store: await Store.open(directory, { readOnly: true }), isWritable: false };
    } catch {
      return undefined;
    }
  }
}

const DISCARDED = ".gone";

/** Takes what is no store away at once, so that nobody finds a part of it, and then removes it. */
async function discard(directory: string): Promise<void> {
  await rename(directory, `${directory}.${randomBytes(4).toString("hex")}${DISCARDED}`);
  await removeDiscarded(directory);
}

/** What processes left that were killed meanwhile, too. */
async function removeDiscarded(directory: string): Promise<void> {
  const above = dirname(directory);
  for (const name of await readdir(above).catch(() => [])) {
    if (name.startsWith(`${basename(directory)}.`) && name.endsWith(DISCARDED))
      await rm(join(above, name), { recursive: true, force: true });
  }
}

/** Of all files in it, so far as they can be looked at. */
async function bytesIn(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => []);
  const sizes = await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map((entry) =>
        stat(join(entry.parentPath, entry.name)).then(
          ({ size }) => size,
          () => 0,
        ),
      ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** The directory itself, or the first one above it that is there. */
async function nearestThere(path: string): Promise<string> {
  const isThere = await stat(path).then(
    () => true,
    () => false,
  );
  return isThere || dirname(path) === path ? path : await nearestThere(dirname(path));
}
