/** A disk that does what a test says, and a store's writer on it in the test's own thread. */
import { mkdirSync } from "node:fs";
import { nodeDisk } from "../../../runtime/store/disk.ts";
import type { Disk, DiskFile } from "../../../runtime/store/disk.ts";
import { WriterLock } from "../../../runtime/store/directory.ts";
import { createStore, readStoreId, storePaths } from "../../../runtime/store/directory.ts";
import { WriterThread } from "../../../runtime/store/writer/thread.ts";

export type DiskOperation = "create" | "open" | "remove" | "sync-directory" | "write" | "sync" | "truncate";

/** `before` is called before each operation, with its number from 1 on; what it throws is what the operation fails with. */
export class FaultyDisk implements Disk {
  operations = 0;
  /** What it says of itself. */
  free: number = Infinity;
  readonly #files: Set<DiskFile> = new Set();
  readonly #before: (operation: DiskOperation, number: number) => void;

  constructor(before: (operation: DiskOperation, number: number) => void) {
    this.#before = before;
  }

  async create(path: string): Promise<DiskFile> {
    this.#next("create");
    return this.#wrap(await nodeDisk.create(path));
  }

  async open(path: string): Promise<DiskFile> {
    this.#next("open");
    return this.#wrap(await nodeDisk.open(path));
  }

  async remove(path: string): Promise<void> {
    this.#next("remove");
    await nodeDisk.remove(path);
  }

  async syncDirectory(path: string): Promise<void> {
    this.#next("sync-directory");
    await nodeDisk.syncDirectory(path);
  }

  async freeBytes(): Promise<number> {
    return this.free;
  }

  /** Closes the files that are open, as the end of a process does. */
  async abandon(): Promise<void> {
    for (const file of this.#files) await file.close();
  }

  #next(operation: DiskOperation): void {
    this.#before(operation, ++this.operations);
  }

  #wrap(file: DiskFile): DiskFile {
    this.#files.add(file);
    return {
      write: async (buffers, position) => {
        try {
          this.#next("write");
        } catch (error) {
          // A disk that is full takes a part first.
          const [first] = buffers;
          await file.write([first!.subarray(0, Math.ceil(first!.byteLength / 2))], position);
          throw error;
        }
        await file.write(buffers, position);
      },
      sync: async () => {
        this.#next("sync");
        await file.sync();
      },
      truncate: async (length) => {
        this.#next("truncate");
        await file.truncate(length);
      },
      close: async () => {
        this.#files.delete(file);
        await file.close();
      },
    };
  }
}

export function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: the test says so`), { code });
}

export interface OpenWriterOptions {
  readonly disk: Disk & { abandon(): Promise<void> };
  readonly segmentBytesMax?: number;
  readonly reserveBytesMax?: number;
  readonly uncommittedBytesMax?: number;
}

/** Opens the writer of a store; `abandon` ends it as a crash of the process would. */
export async function openWriter(
  directory: string,
  options: OpenWriterOptions,
): Promise<{ writer: WriterThread; abandon: () => Promise<void> }> {
  const paths = storePaths(directory);
  mkdirSync(paths.directory, { recursive: true });
  const lock = WriterLock.acquire(paths, 1000);
  const storeId = readStoreId(paths) ?? (await createStore(paths));
  const opened = WriterThread.open({
    ...options,
    paths,
    storeId,
    lock,
    onCommitted: () => {},
    onNote: () => {},
    onDropped: () => {},
    onRepaired: () => {},
  });
  opened.catch(() => lock.release());
  const writer = await opened;
  const abandon = async (): Promise<void> => {
    await options.disk.abandon();
    writer.tables.close();
    lock.release();
  };
  return { writer, abandon };
}
