/**
 * The writer's half of gc: it knows which chunks are live (marked by the other half, or protected by a writer) and rewrites
 * segments without the rest.
 *
 *   segment 3 │ live │ dead │ live │        1. the live records are appended to the current segment, and synchronised
 *                │             │            2. one transaction: their rows point to the copies, the dead rows are gone
 *   segment 9    └────▶ │ live │ live │     3. segment 3 is deleted, durably, before the next one is looked at
 *
 * A crash after 1 leaves copies that nothing points to, after 2 a file that recovery deletes. Meanwhile chunks are written
 * and found present: what a writer begins to rely on before 2 is copied too.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { Codec } from "../../../packets/codec.ts";
import type { Codec as CodecType } from "../../../packets/codec.ts";
import { sha256 } from "../../../packets/digest.ts";
import {
  GC_DEAD_SHARE_MIN,
  GC_SMALL_SEGMENT_BYTES,
  INDEX_PAGE_ROWS,
  READ_RUN_BYTES_MAX,
} from "../../limits.ts";
import { segmentPath } from "../directory.ts";
import { systemCode } from "../disk.ts";
import { transaction } from "../index/database.ts";
import type { NameRow } from "../index/name-table.ts";
import type { ChunkRowWithRef, IndexTables } from "../index/tables.ts";
import { SegmentFiles, bodyInRun, planRuns } from "../segments/files.ts";
import {
  NameAction,
  RecordKind,
  SEGMENT_HEADER_BYTES,
  encodeName,
  recordBytes,
  segmentOf,
} from "../segments/format.ts";
import type { WriterContext } from "../writer/append.ts";
import type { SweepAnswer } from "../writer/protocol.ts";
import { RefSet } from "./ref-set.ts";

interface Freed {
  readonly chunks: number;
  readonly bytes: number;
}

export class Sweeper {
  readonly #store: WriterContext;
  #marks: RefSet | undefined;
  /** Roots that got a name since the gc began. */
  #named: Uint8Array[] = [];
  #isStopped = false;

  constructor(store: WriterContext) {
    this.#store = store;
  }

  /** From here on nothing that a writer protects, or gives a name to, is swept. */
  begin(): void {
    if (this.#marks !== undefined) throw new Error("a gc is running");
    this.#marks = new RefSet(this.#store.tables.chunks.count());
    this.#named = [];
    this.#isStopped = false;
    this.#store.writers.hold();
  }

  mark(refs: Uint8Array): void {
    this.#marks?.addAll(refs);
  }

  named(root: Uint8Array): void {
    if (this.#marks !== undefined) this.#named.push(root);
  }

  /** A running sweep ends after the segment that it is at. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Must not be called while a sweep runs. */
  end(): void {
    this.#marks = undefined;
    this.#named = [];
    this.#store.writers.release();
  }

  /** Rewrites segments, unless roots were named since: then it only says which. */
  async sweep(): Promise<SweepAnswer> {
    const roots = Buffer.concat(this.#named);
    this.#named = [];
    const freed = { freedChunks: 0, freedBytes: 0, unreadableSegments: 0 };
    if (roots.byteLength > 0) return { roots, keptChunks: 0, ...freed };
    await this.#removeDropped();
    for (const number of await this.#store.withReserve(() => this.#candidates())) {
      if (this.#isStopped) break;
      const swept = await this.#store.withReserve(() => this.#sweepSegment(number));
      if (swept === undefined) freed.unreadableSegments++;
      freed.freedChunks += swept?.chunks ?? 0;
      freed.freedBytes += swept?.bytes ?? 0;
    }
    await this.#store.withReserve(() => this.#store.commits.durable());
    return { roots, keptChunks: this.#store.tables.chunks.count(), ...freed };
  }

  /** Copies everything that the index knows of a segment into another one; false when it cannot be read. Not while a gc runs. */
  async rewrite(number: number): Promise<boolean> {
    if (this.#marks !== undefined) throw new Error("a gc is running");
    await this.#finish([number]);
    const swept = await this.#sweepSegment(number);
    await this.#store.commits.durable();
    return swept !== undefined;
  }

  /** Without marks everything is. */
  #isLive(row: ChunkRowWithRef): boolean {
    if (this.#marks === undefined || this.#marks.has(row.ref)) return true;
    return this.#store.writers.isProtected(row.ref, row.place);
  }

  /** Segments that are worth rewriting, those with the least to copy first: they make room for the others. */
  async #candidates(): Promise<number[]> {
    const { tables } = this.#store;
    const live = await this.#liveBytes();
    const candidates: { readonly number: number; readonly liveBytes: number }[] = [];
    for (const { number, committedBytes, isDropped } of tables.segments()) {
      const liveBytes = live.get(number) ?? 0;
      const deadBytes = committedBytes - SEGMENT_HEADER_BYTES - liveBytes;
      const isSmall = committedBytes <= GC_SMALL_SEGMENT_BYTES;
      const isWorth = isSmall || deadBytes >= committedBytes * GC_DEAD_SHARE_MIN;
      if (!isDropped && deadBytes > 0 && isWorth) candidates.push({ number, liveBytes });
    }
    const numbers = candidates.toSorted((a, b) => a.liveBytes - b.liveBytes).map(({ number }) => number);
    await this.#finish(numbers);
    return numbers;
  }

  /**
   * Begins another segment when one of these is being appended to, and has the index know all that is in them: also of one
   * that was finished since the last commit nothing else would be copied.
   */
  async #finish(numbers: readonly number[]): Promise<void> {
    const { segments, commits } = this.#store;
    if (numbers.includes(segments.segment)) await segments.finishSegment();
    await commits.durable();
  }

  /** Bytes of live records, by segment. */
  async #liveBytes(): Promise<Map<number, number>> {
    const live = new Map(this.#store.tables.names.neededBytes());
    for (let place = 0; ;) {
      const page = this.#store.tables.chunks.page(place, INDEX_PAGE_ROWS);
      if (page.length === 0) return live;
      for (const row of page) {
        if (!this.#isLive(row)) continue;
        const segment = segmentOf(row.place);
        live.set(segment, (live.get(segment) ?? 0) + recordBytes(row.storedBytes));
      }
      place = page.at(-1)!.place + 1;
      await nextTurn();
    }
  }

  /** Undefined when it cannot be read: then it is left as it is. */
  async #sweepSegment(number: number): Promise<Freed | undefined> {
    const move = new SegmentMove(this.#store, number);
    try {
      let dead: ChunkRowWithRef[] = [];
      for (const row of this.#store.tables.chunks.inSegment(number)) {
        if (!this.#isLive(row)) dead.push(row);
        else if (!(await move.add(row))) return undefined;
      }
      for (;;) {
        if (!(await move.finish())) return undefined;
        await this.#store.segments.sync();
        const wanted = new Set(dead.filter((row) => this.#isLive(row)));
        // No turn of the event loop between this answer and the transaction.
        if (wanted.size === 0) return await this.#drop(number, move, dead);
        dead = dead.filter((row) => !wanted.has(row));
        for (const row of wanted) if (!(await move.add(row))) return undefined;
      }
    } finally {
      move.close();
    }
  }

  async #drop(number: number, move: SegmentMove, dead: readonly ChunkRowWithRef[]): Promise<Freed> {
    const { tables } = this.#store;
    const committedBytes = tables.segments().find((row) => row.number === number)?.committedBytes ?? 0;
    let chunks = 0;
    transaction(tables.database, () => {
      move.commit(tables);
      for (const row of dead) if (tables.chunks.remove(row.ref, row.place)) chunks++;
      tables.putSegment({ number, committedBytes, isDropped: true });
    });
    await this.#removeFile(number);
    return { chunks, bytes: committedBytes - move.bytes };
  }

  /** What a gc before this one emptied, and then failed to remove. */
  async #removeDropped(): Promise<void> {
    for (const { number, isDropped } of this.#store.tables.segments())
      if (isDropped) await this.#removeFile(number);
  }

  async #removeFile(number: number): Promise<void> {
    const { disk, paths } = this.#store;
    await disk.remove(segmentPath(paths, number)).catch((error: unknown) => {
      if (systemCode(error) !== "ENOENT") throw error;
    });
    this.#store.onDropped(number);
    await disk.syncDirectory(paths.segments);
    this.#store.tables.removeSegment(number);
  }
}

/** Copies what is still needed of one segment behind all others, for gc. */
class SegmentMove {
  /** Bytes of the copies. */
  bytes = 0;
  readonly #store: WriterContext;
  readonly #segment: number;
  readonly #files: SegmentFiles;
  /** Rows to be copied, and rows that were, with their new places. */
  #waiting: ChunkRowWithRef[] = [];
  #waitingBytes = 0;
  readonly #moved: { readonly row: ChunkRowWithRef; readonly place: number }[] = [];
  readonly #names: { readonly row: NameRow; readonly segment: number }[] = [];
  #hasNames = false;

  constructor(store: WriterContext, segment: number) {
    this.#store = store;
    this.#segment = segment;
    this.#files = new SegmentFiles(store.paths);
  }

  /** Rows come in the order of their places. False when the segment cannot be read: then it is to be left as it is. */
  async add(row: ChunkRowWithRef): Promise<boolean> {
    this.#waiting.push(row);
    this.#waitingBytes += recordBytes(row.storedBytes);
    return this.#waitingBytes < READ_RUN_BYTES_MAX || this.#copy();
  }

  /** Every row added and the segment's names are in other segments when it resolves, though not yet synchronised. */
  async finish(): Promise<boolean> {
    if (!(await this.#copy())) return false;
    if (this.#hasNames) return true;
    this.#hasNames = true;
    for (const row of this.#store.tables.names.inSegment(this.#segment)) {
      if (this.#isNeeded(row)) this.#appendName(row);
    }
    await this.#store.segments.flush();
    return true;
  }

  /** Makes the copies the ones that count. Inside a transaction. */
  commit(tables: IndexTables): void {
    for (const { row, place } of this.#moved) tables.chunks.move(row, place);
    for (const { row, segment } of this.#names) tables.names.move(row, segment);
    for (const row of tables.names.inSegment(this.#segment)) tables.names.remove(row);
  }

  close(): void {
    this.#files.close();
  }

  /** A removal is needed as long as a segment has an older record of the name, which it has to outlive. */
  #isNeeded(row: NameRow): boolean {
    if (row.action === NameAction.bind) return row.isListed;
    return this.#store.tables.names.hasOlderElsewhere(row);
  }

  #appendName(row: NameRow): void {
    const body = encodeName(row);
    const record = { kind: RecordKind.name, codec: Codec.plain, plainBytes: body.byteLength, body };
    const place = this.#store.segments.append({ ...record, sequence: row.sequence, ref: sha256(body) });
    this.#names.push({ row, segment: segmentOf(place) });
    this.bytes += recordBytes(body.byteLength);
  }

  async #copy(): Promise<boolean> {
    const rows = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    for (const run of planRuns(rows)) {
      const bytes = await this.#files.read(run.segment, run.offset, run.length).catch(() => undefined);
      if (bytes === undefined) return false;
      for (const row of rows.slice(run.first, run.end)) {
        const body = bodyInRun(bytes, run, row);
        if (body.byteLength !== row.storedBytes) return false;
        this.#moved.push({ row, place: this.#append(row, body) });
      }
      await this.#store.segments.flush();
    }
    return true;
  }

  /** The copy of a damaged chunk is as damaged: whoever reads it finds out again. */
  #append(row: ChunkRowWithRef, body: Uint8Array): number {
    this.bytes += recordBytes(row.storedBytes);
    const { ref, plainBytes } = row;
    const codec = row.codec as CodecType;
    const record = { kind: RecordKind.chunk, codec, plainBytes, ref, body };
    return this.#store.segments.append({ ...record, sequence: this.#store.nextSequence() });
  }
}
