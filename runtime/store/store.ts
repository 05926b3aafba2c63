/**
 * What one machine keeps: chunks by their hash, and names for the streams among them.
 *
 *   put ─▶ StoreWriter ─▶ writer thread ─▶ segments (the truth) ─▶ index (can be built again)
 *   get ◀─ ChunkReader ◀─────────────────── segments ◀──────────── index
 *
 * One process writes; others may read beside it.
 */
import { resolve } from "node:path";
import type { Ref } from "../../packets/digest.ts";
import { hasCode } from "../../packets/errors.ts";
import type { Binding, Catalog, GcRoots, NameCondition } from "../contracts/catalog.ts";
import type {
  ChunkPlacer,
  ChunkPlaces,
  ChunkSource,
  PlacedPieces,
  StoredChunk,
  StoredPlaces,
  StoredFormStore,
  StoredFormWriter,
  StoreWriterOptions,
  WholeFiles,
  WholePut,
} from "../contracts/chunks.ts";
import type { Events } from "../contracts/events.ts";
import type { GcResult, Maintenance, StoreReport } from "../contracts/maintenance.ts";
import { checkBlock } from "../block.ts";
import { StoreError, StoreErrorCode } from "../errors.ts";
import { LOCK_WAIT_MS } from "../limits.ts";
import { StoreCatalog, checkBinding } from "./catalog.ts";
import { readStoreId, segmentBytes, segmentPath, storePaths } from "./directory.ts";
import { diskError } from "./disk.ts";
import type { StorePaths } from "./directory.ts";
import { IndexReader, PendingPlaces } from "./index/reader.ts";
import type { StoreStatistics } from "./index/tables.ts";
import { collectGarbage } from "./maintenance/collector.ts";
import { verifyStore } from "./maintenance/verifier.ts";
import { ChunkReader } from "./segments/chunk-reader.ts";
import { SegmentFiles } from "./segments/files.ts";
import { checkSeed } from "./segments/format.ts";
import { ClientWriter, WriterClient, newOf } from "./writer/client.ts";
import type { OpenedWriter, WriterEvents } from "./writer/client.ts";
import type { WriterData } from "./writer/protocol.ts";

export interface StoreOptions {
  /** Makes no file and takes no lock; sees what a writer in another process has made durable. */
  readonly readOnly?: boolean;
  /** How long to wait for another writer to end. */
  readonly lockWaitMs?: number;
  /** Little is written before it is closed: what writes shares the caller's thread, if no other writer is there. Default false. */
  readonly writesLittle?: boolean;
  /** Hears as "repair" of what was found wrong and put right, while opening too. */
  readonly events?: Events | undefined;
}

export class Store
  implements StoredFormStore, WholeFiles, ChunkPlacer, ChunkPlaces, Maintenance, AsyncDisposable
{
  readonly directory: string;
  /** The folder in which chunks stand where `places` says. */
  readonly segments: string;
  readonly catalog: Catalog & GcRoots;
  readonly #identity: { readonly paths: StorePaths; readonly seed: number };
  readonly #events: Events | undefined;
  readonly #pending: PendingPlaces = new PendingPlaces();
  readonly #files: SegmentFiles;
  readonly #index: IndexReader;
  readonly #reader: ChunkReader;
  #writer: WriterClient | undefined;
  /** Rises each time the writer builds the index again. */
  #generation = 0;
  #last: Promise<unknown> = Promise.resolve();
  #closed: Promise<void> | undefined;

  private constructor(
    paths: StorePaths,
    storeId: Uint8Array,
    writer: WriterClient | undefined,
    events: Events | undefined,
  ) {
    this.directory = paths.directory;
    this.segments = paths.segments;
    this.#identity = { paths, seed: checkSeed(storeId) };
    this.#writer = writer;
    this.#events = events;
    this.#files = new SegmentFiles(paths);
    this.#index = new IndexReader({
      ...this.#identity,
      repair: writer?.isAside === true ? () => writer.repair(this.#generation) : undefined,
      onUnusable: writer?.isAside === false ? () => writer.repairLater(this.#generation) : undefined,
      onNote: (text) => this.#tell(text),
    });
    this.catalog = new StoreCatalog(this.#index, () => this.#requireWriter());
    this.#reader = new ChunkReader({
      index: this.#index,
      pending: this.#pending,
      files: this.#files,
      // Best effort: whoever reads them next finds out again.
      onDamaged: (refs, places) => void writer?.call({ kind: "damaged", refs, places }).catch(() => {}),
    });
  }

  /**
   * Opens the store in a directory; makes one where nothing is. Rejects with PFS_STORE_UNREADABLE {directory, reason},
   * PFS_STORE_READ_ONLY {directory, reason}, PFS_STORE_BUSY {directory, pid}, PFS_STORE_FULL or PFS_STORE_IO.
   */
  static async open(directory: string, options: StoreOptions = {}): Promise<Store> {
    const paths = storePaths(resolve(directory));
    if (options.readOnly === true) return Store.#openReadOnly(paths, options.events);
    const data = { directory: paths.directory, lockWaitMs: options.lockWaitMs ?? LOCK_WAIT_MS };
    // The writer speaks only after it is open, and the store is made before it is heard.
    let store: Store | undefined;
    const { client, storeId, notes } = await openWriterClient(data, options.writesLittle === true, {
      onCommitted: (place) => store!.#pending.committed(place),
      onNote: (text) => store!.#tell(text),
      onDropped: (segment) => store!.#files.forget(segment),
      onRepaired: (generation, note) => store!.#onRepaired(generation, note),
    });
    store = new Store(paths, storeId, client, options.events);
    for (const note of notes) store.#tell(note);
    return store;
  }

  /** Whether a store is there; false where one can be made. Throws as `open` rejects where there is anything else. */
  static isIn(directory: string): boolean {
    return readStoreId(storePaths(resolve(directory))) !== undefined;
  }

  static #openReadOnly(paths: StorePaths, events: Events | undefined): Store {
    const storeId = readStoreId(paths);
    if (storeId === undefined) {
      const { directory } = paths;
      const reason = "there is none";
      throw new StoreError(StoreErrorCode.unreadable, `no store in ${directory}: ${reason}`, {
        directory,
        reason,
      });
    }
    const store = new Store(paths, storeId, undefined, events);
    store.#index.use(() => {});
    return store;
  }

  async openWriter({ isTemporary = false }: StoreWriterOptions = {}): Promise<StoredFormWriter> {
    const writer = this.#requireWriter();
    return new ClientWriter(writer, this.#pending, writer.openWriter(isTemporary));
  }

  async putWhole(
    block: Uint8Array<ArrayBuffer>,
    lengths: Uint32Array<ArrayBuffer>,
    binding: Binding,
    { expected }: NameCondition = {},
  ): Promise<WholePut> {
    checkBlock(block, lengths);
    checkBinding(binding);
    const writer = this.#requireWriter();
    const { places, ...put } = await writer.call(
      { kind: "put-whole", block, lengths, ...binding, expected },
      [block.buffer],
    );
    return { ...put, isNew: newOf(places, lengths.length) };
  }

  async has(refs: Uint8Array, signal?: AbortSignal): Promise<Uint8Array> {
    signal?.throwIfAborted();
    return this.#reader.has(refs);
  }

  sizes(refs: Uint8Array): Promise<Float64Array> {
    return this.#reader.sizes(refs);
  }

  places(refs: Uint8Array): Promise<StoredPlaces | undefined> {
    return this.#reader.places(refs);
  }

  read(refs: readonly Ref[], signal?: AbortSignal): Promise<Uint8Array[]> {
    return this.#reader.read(refs, signal);
  }

  place(refs: readonly Ref[], pieces: PlacedPieces, file: number, signal?: AbortSignal): Promise<boolean> {
    return this.#reader.place(refs, pieces, file, signal);
  }

  readStored(refs: readonly Ref[], signal?: AbortSignal): Promise<StoredChunk[]> {
    return this.#reader.readStored(refs, signal);
  }

  async verify(signal?: AbortSignal): Promise<StoreReport> {
    await this.#settle();
    const rewrite = async (segment: number): Promise<boolean> => {
      const writer = this.#writer;
      if (writer === undefined) return false;
      return await this.#alone(() => writer.call({ kind: "rewrite", segment }));
    };
    const { paths, seed } = this.#identity;
    const { catalog } = this;
    const options = { index: this.#index, reader: this.#reader, paths, seed, catalog, rewrite, signal };
    return await verifyStore(options).catch((error: unknown) => {
      throw diskError(error);
    });
  }

  /** Has the index know what was written and not flushed: copies of others' chunks that nobody waits for. */
  async #settle(): Promise<void> {
    if (this.#writer === undefined) return;
    await using writer = await this.openWriter();
    // A full disk is told to those whose chunks they are; the others can be read all the same.
    await writer.flush().catch(() => undefined);
  }

  async gc(signal?: AbortSignal, source: ChunkSource = this): Promise<GcResult> {
    const writer = this.#requireWriter();
    const { catalog } = this;
    const options = { catalog, source, index: this.#index, reader: this.#reader, writer, signal };
    return this.#alone(() => collectGarbage(options));
  }

  statistics(): StoreStatistics {
    return this.#index.use((tables) => tables.statistics());
  }

  /** The paths of segments that are gone, or have less than was made durable in them. */
  lostSegments(): string[] {
    const { paths } = this.#identity;
    const look = (): number[] =>
      this.#index
        .use((tables) => tables.segments())
        .filter(({ isDropped }) => !isDropped)
        .filter(({ number, committedBytes }) => segmentBytes(paths, number) < committedBytes)
        .map(({ number }) => number);
    const lost = look();
    if (lost.length === 0) return [];
    // A gc may have freed some while they were looked at.
    const still = new Set(look());
    return lost.filter((number) => still.has(number)).map((number) => segmentPath(paths, number));
  }

  /** Makes what was written durable, and lets another process write. Reads under way end well. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    const writer = this.#writer;
    this.#writer = undefined;
    // The writer's connection has to be the last one: it takes over the log and removes it.
    this.#index.close();
    this.#reader.close();
    this.#files.close();
    // A gc that runs has lost its reader by now, or ends after the segment that it is at.
    await writer?.call({ kind: "gc-stop" }).catch(() => {});
    await this.#last;
    await writer?.close();
  }

  /** Of what rewrites segments, one thing at a time. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => {});
    return done;
  }

  #requireWriter(): WriterClient {
    if (this.#closed !== undefined) throw new StoreError(StoreErrorCode.closed, "the store is closed");
    if (this.#writer === undefined) {
      throw new StoreError(
        StoreErrorCode.readOnly,
        `the store ${this.directory} was opened for reading only`,
      );
    }
    return this.#writer;
  }

  #onRepaired(generation: number, note: string): void {
    this.#generation = generation;
    this.#tell(note);
    this.#index.reopen();
  }

  #tell(text: string): void {
    this.#events?.emit("repair", { kind: "note", text });
  }
}

/** Nobody stands still in the caller's thread until another writer ends. */
async function openWriterClient(
  data: WriterData,
  isHere: boolean,
  events: WriterEvents,
): Promise<OpenedWriter> {
  try {
    if (isHere) return await WriterClient.open({ ...data, lockWaitMs: 0 }, events, true);
  } catch (error) {
    if (!hasCode(error, StoreErrorCode.busy)) throw error;
  }
  return await WriterClient.open(data, events);
}
