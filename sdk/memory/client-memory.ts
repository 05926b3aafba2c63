/** All that a client of hubs remembers of files, in one directory of the user's cache. */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { removeDeadParts } from "../target/file-target.ts";
import { cacheDirectory } from "../programs/result-cache.ts";
import { ClientStore } from "./client-store.ts";
import { FileIndex } from "./file-index.ts";
import { KeptCopies } from "./kept-copies.ts";

/** Of the bytes that it may take, what is for copies of files that were fetched; the rest is for what was stored. */
const COPIES_SHARE: number = 1 / 3;

export interface ClientMemoryOptions {
  /** Where it is, or is to be; the user's cache by default. */
  readonly directory?: string | undefined;
  /** Bytes of disk that what is kept may take; 0 for remembering nothing. By default a tenth of what is free, and 20 GiB at most. */
  readonly bytesMax?: number | undefined;
}

export class ClientMemory implements Disposable {
  readonly directory: string;
  /** Which files have which root. */
  readonly files: FileIndex;
  /** What was stored. */
  readonly store: ClientStore;
  /** What was fetched. */
  readonly copies: KeptCopies;

  private constructor(directory: string, files: FileIndex, bytesMax: number | undefined) {
    this.directory = directory;
    this.files = files;
    this.store = new ClientStore({
      directory: join(directory, "store"),
      bytesMax,
      share: 1 - COPIES_SHARE,
    });
    this.copies = new KeptCopies({
      directory: join(directory, "fetched"),
      bytesMax: async () => Math.floor((await this.#bytesMax()) * COPIES_SHARE),
    });
  }

  /** Never rejects: what cannot be there is as if it were empty. */
  static async open(options: ClientMemoryOptions = {}): Promise<ClientMemory> {
    const { directory = cacheDirectory("files"), bytesMax } = options;
    return new ClientMemory(directory, await FileIndex.open(directory, bytesMax === 0), bytesMax);
  }

  /** Bytes of disk that it takes, and that what is kept may take. */
  async usage(): Promise<{ readonly bytes: number; readonly bytesMax: number }> {
    const { bytes } = await this.store.usage();
    const copies = await this.copies.bytes();
    const names = await readdir(this.directory).catch(() => []);
    const sizes = await Promise.all(
      names.map((name) =>
        stat(join(this.directory, name)).then(
          (found) => (found.isFile() ? found.size : 0),
          () => 0,
        ),
      ),
    );
    return {
      bytes: bytes + copies + sizes.reduce((sum, size) => sum + size, 0),
      bytesMax: await this.#bytesMax(),
    };
  }

  async #bytesMax(): Promise<number> {
    const { bytesMax } = await this.store.usage();
    return Math.round(bytesMax / (1 - COPIES_SHARE));
  }

  /**
   * Removes what killed processes, or those that were interrupted, left of files on their way, if it is so old, in milliseconds. Resolves
   * with its bytes. Never rejects.
   */
  async removeParts(ageMs: number): Promise<number> {
    let removed = 0;
    for (const { directory, since } of this.files.partDirectories()) {
      // What was left there cannot be old yet.
      if (Date.now() - since < ageMs) continue;
      const { bytes, isClean } = await removeDeadParts(directory, ageMs);
      removed += bytes;
      if (isClean) this.files.forgetPart(directory);
    }
    return removed;
  }

  /**
   * Forgets everything, parts of files with it that nobody fetches any more. Resolves with the bytes that are free for it. Rejects as
   * clearing the store does.
   */
  async clear(signal?: AbortSignal): Promise<number> {
    const parts = await this.removeParts(0);
    const before = (await this.usage()).bytes;
    await this.store.clear(signal);
    await this.copies.clear();
    this.files.clear();
    return parts + Math.max(0, before - (await this.usage()).bytes);
  }

  [Symbol.dispose](): void {
    this.files.close();
  }
}
