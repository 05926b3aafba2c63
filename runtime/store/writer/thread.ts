/**
 * The one thread that writes a store: it takes blocks of chunks, finds out which are new, appends those and names to
 * segments, and answers when what was asked for is true. Hashing and the disk would block any other thread.
 */
import { Compressor } from "../../../packets/codec.ts";
import { refAt, refToHex } from "../../../packets/digest.ts";
import { REF_BYTES } from "../../../packets/layout.ts";
import type { Binding, NameCondition, NameRecord } from "../../contracts/catalog.ts";
import type { StoreWriterOptions, StoredForms, WholePut } from "../../contracts/chunks.ts";
import type { StorePaths, WriterLock } from "../directory.ts";
import { isDiskFull } from "../disk.ts";
import type { Disk } from "../disk.ts";
import { RESERVE_BYTES_MAX } from "../../limits.ts";
import { transaction } from "../../sqlite.ts";
import { hasWal, shortenLog, writeIndexCheck } from "../index/database.ts";
import { IndexKeeper } from "../index/rebuild.ts";
import type { IndexTables } from "../index/tables.ts";
import { Sweeper } from "../maintenance/sweeper.ts";
import { SegmentAppender } from "../segments/appender.ts";
import { checkSeed } from "../segments/format.ts";
import { NameWriter, appendBlock, appendStored, findPlace } from "./append.ts";
import type { WriterContext } from "./append.ts";
import { Commits } from "./commits.ts";
import { OpenWriters } from "./open-writers.ts";
import type { OpenWriter } from "./open-writers.ts";
import type { SweepAnswer, WriteAnswer } from "./protocol.ts";
import { Reserve, reserveBytes } from "./reserve.ts";
import { recover } from "./recovery.ts";
import type { Recovered } from "./recovery.ts";

export interface WriterOptions {
  readonly paths: StorePaths;
  readonly storeId: Buffer;
  readonly disk: Disk;
  readonly lock: WriterLock;
  /** Every chunk before the place is in the index. */
  readonly onCommitted: (place: number) => void;
  /** Something for people: what was found wrong, or is right again. */
  readonly onNote: (text: string) => void;
  /** A segment's file was removed. */
  readonly onDropped: (segment: number) => void;
  /** The index file was replaced. */
  readonly onRepaired: (generation: number, note: string) => void;
  readonly segmentBytesMax?: number;
  readonly reserveBytesMax?: number;
  readonly uncommittedBytesMax?: number;
}

/** The index's log may take so much of what was kept free. */
const LOG_RESERVE_SHARE = 4;

export class WriterThread implements WriterContext {
  readonly notes: readonly string[];
  readonly paths: StorePaths;
  readonly disk: Disk;
  readonly seed: number;
  readonly segments: SegmentAppender;
  readonly commits: Commits;
  readonly writers: OpenWriters = new OpenWriters();
  readonly #options: WriterOptions;
  readonly #compressor: Compressor = new Compressor();
  readonly #sweeper: Sweeper;
  readonly #index: IndexKeeper;
  readonly #names: NameWriter;
  readonly #reserve: Reserve;
  /** What is to be kept free, for the segments that there were at the last commit. */
  #reserveBytes = 0;
  /** Whether the index's log is kept short, since there is no room. */
  #isLogShort = false;
  #sequence: number;
  /** The writers' clock when the last successful commit began, and when the running one did. */
  #durableClock = 0;
  #commitClock = 0;

  private constructor(options: WriterOptions, recovered: Recovered) {
    const { paths, storeId, disk } = options;
    this.#options = options;
    this.paths = paths;
    this.disk = disk;
    this.notes = recovered.notes;
    this.#sequence = recovered.sequence;
    const seed = checkSeed(storeId);
    this.seed = seed;
    const { position, nextSegment } = recovered;
    const { segmentBytesMax } = options;
    this.segments = new SegmentAppender({
      paths,
      disk,
      storeId,
      seed,
      position,
      nextSegment,
      segmentBytesMax,
      onLost: (place, error, wasWritten) => {
        this.commits.lose(place);
        if (wasWritten) this.writers.failSince(this.#durableClock, error);
      },
    });
    this.commits = new Commits({
      segments: this.segments,
      tables: () => this.tables,
      sequence: () => this.#sequence,
      onPhase: (isDone) => {
        if (isDone) this.#durableClock = this.#commitClock;
        else this.#commitClock = this.writers.clock;
      },
      onCommitted: options.onCommitted,
    });
    this.#index = new IndexKeeper({
      paths,
      seed,
      tables: recovered.tables,
      settle: () => this.segments.sync(),
      onRepaired: options.onRepaired,
    });
    this.#names = new NameWriter(this, () => this.#durable());
    this.#reserve = new Reserve(paths, disk);
    this.#sizeReserve();
    this.#sweeper = new Sweeper(this);
  }

  /** Recovers the store first. The directory, its format file and its lock are the caller's. */
  static async open(options: WriterOptions): Promise<WriterThread> {
    const { paths, storeId, disk, uncommittedBytesMax } = options;
    const recovered = await recover({ paths, seed: checkSeed(storeId), disk, uncommittedBytesMax });
    return new WriterThread(options, recovered);
  }

  get storeId(): Uint8Array {
    return this.#options.storeId;
  }

  get tables(): IndexTables {
    return this.#index.tables;
  }

  onDropped(segment: number): void {
    this.#options.onDropped(segment);
  }

  nextSequence(): number {
    return ++this.#sequence;
  }

  /** Returns the writer's number, which may be given. */
  openWriter({ isTemporary = false }: StoreWriterOptions = {}, id?: number): number {
    return this.writers.open(this.segments.place, isTemporary, id).id;
  }

  closeWriter(id: number): void {
    this.writers.close(id);
  }

  /** Resolves when the chunks can be read; `flush` makes them durable. The block has been found valid. */
  write(id: number, block: Uint8Array<ArrayBuffer>, lengths: Uint32Array): Promise<WriteAnswer> {
    return this.#index.attempt(async () => {
      if (this.#isShort) await this.#holdReserve();
      const writer = this.#writer(id);
      const compressor = writer.isTemporary ? undefined : this.#compressor;
      const answer = appendBlock(this, writer, compressor, block, lengths);
      await this.#settle();
      this.#tellMended(answer);
      return { ...answer, buffer: block.buffer };
    });
  }

  /** As `write`. Rejects with PFS_CHUNK_DAMAGED {ref}. */
  writeStored(id: number, block: Uint8Array<ArrayBuffer>, chunks: StoredForms): Promise<WriteAnswer> {
    return this.#index.attempt(async () => {
      if (this.#isShort) await this.#holdReserve();
      const answer = appendStored(this, this.#writer(id), block, chunks);
      await this.#settle();
      this.#tellMended(answer);
      return { ...answer, buffer: block.buffer };
    });
  }

  claim(id: number, refs: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
    return this.#index.attempt(async () => {
      const writer = this.#writer(id);
      const present = new Uint8Array(refs.byteLength / REF_BYTES);
      for (let index = 0; index < present.length; index++) {
        const ref = refs.subarray(index * REF_BYTES, (index + 1) * REF_BYTES);
        const place = findPlace(this, ref);
        if (place === undefined) continue;
        this.writers.rely(writer, ref, place);
        present[index] = 1;
      }
      await this.segments.flush();
      return present;
    });
  }

  flush(id: number): Promise<void> {
    return this.#index.attempt(async () => {
      this.#writer(id);
      await this.#durable();
      this.#writer(id);
    });
  }

  bind(id: number, binding: Binding, condition: NameCondition): Promise<NameRecord> {
    return this.#index.attempt(async () => {
      if (this.#isShort) await this.#holdReserve();
      const writer = this.#writer(id);
      this.#sweeper.named(binding.root);
      return this.#names.bind(writer, binding, condition);
    });
  }

  /** As `write` and `bind` of a writer of its own: chunks and name are written and synchronised together. */
  async putWhole(
    block: Uint8Array<ArrayBuffer>,
    lengths: Uint32Array,
    binding: Binding,
    condition: NameCondition,
  ): Promise<WriteAnswer & WholePut> {
    const id = this.openWriter();
    try {
      return await this.#index.attempt(async () => {
        if (this.#isShort) await this.#holdReserve();
        const writer = this.#writer(id);
        this.#sweeper.named(binding.root);
        const answer = appendBlock(this, writer, this.#compressor, block, lengths);
        try {
          const record = await this.#names.bind(writer, binding, condition);
          this.#tellMended(answer);
          return { ...answer, buffer: block.buffer, record };
        } catch (error) {
          // What was appended is there, though it got no name.
          await this.segments.flush().catch(() => {});
          throw error;
        }
      });
    } finally {
      this.closeWriter(id);
    }
  }

  /** Whether there was such a name. */
  removeName(name: string, condition: NameCondition): Promise<boolean> {
    return this.#index.attempt(() => this.#names.remove(name, condition));
  }

  /** Lets chunks with wrong bytes be written again, unless they have been written elsewhere since they were read. */
  markDamaged(refs: Uint8Array, places: Float64Array): Promise<void> {
    return this.#index.attempt(async () => {
      const marked: string[] = [];
      transaction(this.tables.database, () => {
        for (const [index, place] of places.entries()) {
          const ref = refAt(refs, index);
          const row = this.tables.chunks.find(ref);
          if (row?.place !== place || row.isDamaged) continue;
          this.tables.chunks.put(ref, row, true);
          marked.push(refToHex(ref));
        }
      });
      const [first] = marked;
      if (first === undefined) return;
      this.#options.onNote(
        marked.length === 1
          ? `the bytes of chunk ${first} are damaged`
          : `the bytes of ${marked.length} chunks are damaged, ${first} is one of them`,
      );
    });
  }

  /** Writes the records of a segment anew, in others; false when it cannot be read. Not while a gc runs. */
  rewrite(segment: number): Promise<boolean> {
    return this.#index.attempt(() => this.#sweeper.rewrite(segment));
  }

  /** When it rejects no gc has begun: the next one may. */
  async beginGc(): Promise<void> {
    await this.#index.attempt(async () => this.#sweeper.begin());
    try {
      // Names that were bound before are in the index then, where they are looked for.
      await this.withReserve(() => this.#durable());
    } catch (error) {
      this.#sweeper.end();
      throw error;
    }
  }

  markLive(refs: Uint8Array): void {
    this.#sweeper.mark(refs);
  }

  sweep(): Promise<SweepAnswer> {
    return this.#index.attempt(async () => {
      const answer = await this.#sweeper.sweep();
      this.#sizeReserve();
      // Somebody else may have taken what was freed: then the next one that stores something is told so.
      await this.#holdReserve().catch(() => {});
      return answer;
    });
  }

  stopGc(): void {
    this.#sweeper.stop();
  }

  endGc(): void {
    this.#sweeper.end();
    try {
      // The index's log is as long as it ever was; what is free of it is room like all that gc frees.
      if (!this.#isLogShort) shortenLog(this.tables.database);
    } catch {
      // It is used again then, and the next gc tries again.
    }
  }

  /** Builds the index again, unless that has been done since it had this generation. */
  repair(generation: number): Promise<void> {
    return this.#index.repair(generation);
  }

  /** What is not durable yet becomes so; then the store is another's. Rejects when it could not, and is closed all the same. */
  async close(): Promise<void> {
    try {
      await this.withReserve(() => this.#durable());
      await this.segments.close();
    } finally {
      this.tables.close();
      // The index's log is gone and has left its room.
      if (this.#isLogShort) await this.#reserve.hold(this.#reserveBytes).catch(() => {});
      this.#writeCheck();
      this.#options.lock.release();
    }
  }

  async withReserve<T>(work: (isAgain: boolean) => Promise<T>): Promise<T> {
    try {
      return await work(false);
    } catch (error) {
      if (!isDiskFull(error)) throw error;
    }
    const { bytes } = this.#reserve;
    await this.#reserve.release();
    shortenLog(this.tables.database, bytes / LOG_RESERVE_SHARE);
    this.#isLogShort = true;
    return await work(true);
  }

  /** Whether less is kept free than should be: because there is more in the store now, or it was needed. */
  get #isShort(): boolean {
    return this.#reserve.bytes < this.#reserveBytes;
  }

  /** Rejects when nothing may be stored, because what is free is needed to make room. */
  async #holdReserve(): Promise<void> {
    await this.#reserve.hold(this.#reserveBytes);
    if (this.#isLogShort) shortenLog(this.tables.database);
    this.#isLogShort = false;
  }

  #sizeReserve(): void {
    const bytesMax = this.#options.reserveBytesMax ?? RESERVE_BYTES_MAX;
    if (this.#reserve.bytes >= bytesMax) return;
    const rows = this.tables.segments().filter(({ isDropped }) => !isDropped);
    const segmentBytes = rows.reduce((sum, { committedBytes }) => sum + committedBytes, 0);
    this.#reserveBytes = reserveBytes(segmentBytes, bytesMax);
  }

  /** Resolves when what was appended can be read, and, when much of it is not durable yet, when that has changed. */
  async #settle(): Promise<void> {
    await this.segments.flush();
    if (this.commits.behind < 1) return;
    const durable = this.#durable();
    // The next flush tells of a failure: what could not be committed now is tried again then.
    if (this.commits.isFarBehind) await durable;
    else durable.catch(() => {});
  }

  #tellMended({ mendedChunks }: WriteAnswer): void {
    if (mendedChunks === 0) return;
    this.#options.onNote(
      mendedChunks === 1
        ? "a damaged chunk is whole again"
        : `${mendedChunks} damaged chunks are whole again`,
    );
  }

  #writer(id: number): OpenWriter {
    const writer = this.writers.get(id);
    if (writer.failure !== undefined) throw writer.failure;
    return writer;
  }

  /** As a step of its own: what was appended before it must not be appended again when the index has to be repaired. */
  #durable(): Promise<void> {
    return this.#index.attempt(async () => {
      await this.commits.durable();
      this.#sizeReserve();
    });
  }

  #writeCheck(): void {
    try {
      // Another process reads the index as long as its log is there: then nothing can be said about the file.
      if (!hasWal(this.paths.index)) writeIndexCheck(this.paths, this.commits.committedPlace);
    } catch {
      // Without a check the next writer looks at the index itself.
    }
  }
}
