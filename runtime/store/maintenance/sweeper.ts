/**
 * The writer's half of gc: it knows which chunks are live (marked by the other half, or protected by a writer) and rewrites
 * segments without the rest.
 *
 *   segment 3 │ live │ dead │ live │        1. the live records are appended to the current segment, and synchronised
 *                │             │            2. one transaction: their rows point to the copies, the dead rows are gone
 *   segment 9    └────▶ │ live │ live │     3. segment 3 is deleted, durably, before the next one is looked at
 *
 * A crash after 1 leaves copies that nothing points to (those of names have to be known all the same: a removal must outlive
 * them), after 2 a file that recovery deletes. Meanwhile chunks are written and found present: what a writer begins to rely
 * on before 2 is copied too. On a full disk the same is done with a piece of the segment's end at a time, which is cut off.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import {
  GC_DEAD_SHARE_MIN,
  GC_FREE_BYTES_MIN,
  GC_SMALL_SEGMENT_BYTES,
  INDEX_PAGE_ROWS,
  READ_RUN_BYTES_MAX,
} from "../../limits.ts";
import { segmentPath } from "../directory.ts";
import { systemCode } from "../../errors.ts";
import { truncateFile } from "../disk.ts";
import { transaction } from "../../sqlite.ts";
import type { NameRow } from "../index/name-table.ts";
import { rowsInSegment } from "../index/tables.ts";
import type { ChunkRowWithRef } from "../index/tables.ts";
import {
  RecordKind,
  SEGMENT_HEADER_BYTES,
  decodeName,
  offsetOf,
  placeOf,
  recordBytes,
  segmentOf,
} from "../segments/format.ts";
import { scanSegment } from "../segments/scan.ts";
import type { WriterContext } from "../writer/append.ts";
import type { SweepAnswer } from "../writer/protocol.ts";
import { RefSet } from "./ref-set.ts";
import { SegmentMove } from "./segment-move.ts";

interface Candidate {
  readonly number: number;
  readonly liveBytes: number;
}

interface Freed {
  readonly chunks: number;
  readonly bytes: number;
}

/** What stands in a segment from a place on; `first` is 0 for all of it. */
interface Tail {
  /** In the order of their places. */
  readonly rows: Iterable<ChunkRowWithRef>;
  readonly names: readonly NameRow[];
  readonly first: number;
}

const TAIL_PAGE_ROWS = 256;
const TAIL_ROWS_MAX: number = 64 * TAIL_PAGE_ROWS;
/** The file is gone, or the medium cannot read it. */
const UNREADABLE = new Set(["ENOENT", "EIO"]);

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
    let isFull = false;
    for (const { number, liveBytes } of await this.#store.withReserve(() => this.#candidates())) {
      if (this.#isStopped) break;
      const swept = await this.#store.withReserve(async (isAgain) => {
        isFull ||= isAgain || !(await this.#hasRoomFor(liveBytes));
        return isFull ? this.#shrinkSegment(number) : this.#sweepSegment(number);
      });
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
    await this.#removeDropped();
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
  async #candidates(): Promise<Candidate[]> {
    const live = await this.#liveBytes();
    const found: Candidate[] = [];
    for (const { number, committedBytes, isDropped } of this.#store.tables.segments()) {
      const liveBytes = live.get(number) ?? 0;
      const deadBytes = committedBytes - SEGMENT_HEADER_BYTES - liveBytes;
      const isSmall = committedBytes <= GC_SMALL_SEGMENT_BYTES;
      const isWorth = isSmall || deadBytes >= committedBytes * GC_DEAD_SHARE_MIN;
      if (!isDropped && deadBytes > 0 && isWorth) found.push({ number, liveBytes });
    }
    await this.#finish(found.map(({ number }) => number));
    return found.toSorted((a, b) => a.liveBytes - b.liveBytes);
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

  /** Whether so much can be copied before anything is freed, as far as the disk says. */
  async #hasRoomFor(bytes: number): Promise<boolean> {
    const { disk, paths } = this.#store;
    return (await disk.freeBytes(paths.directory)) >= bytes + GC_FREE_BYTES_MIN;
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
    const rows = rowsInSegment(() => this.#store.tables.chunks, number);
    const tail = { rows, names: this.#store.tables.names.inSegment(number), first: 0 };
    let freed: Freed | undefined;
    const isMoved = await this.#moveOut(number, tail, (move, dead) => {
      freed = this.#conclude(number, move, dead, undefined);
    });
    if (!isMoved) return undefined;
    await this.#removeFile(number);
    return freed;
  }

  /**
   * As `#sweepSegment`, in steps that begin at the segment's end, each of which gives back more than it took: for a disk on
   * which there is no room for what is left of a segment.
   */
  async #shrinkSegment(number: number): Promise<Freed | undefined> {
    const { disk, paths } = this.#store;
    let chunks = 0;
    let bytes = 0;
    for (let end = Infinity; ;) {
      const tail = this.#tailOf(number, end);
      if (tail === "unreadable") return undefined;
      if (tail === undefined) break;
      const isMoved = await this.#moveOut(number, tail, (move, dead) => {
        const freed = this.#conclude(number, move, dead, offsetOf(tail.first));
        chunks += freed.chunks;
        bytes += freed.bytes;
      });
      if (!isMoved) return undefined;
      // What stands behind it the index knows nothing of any more.
      await truncateFile(disk, segmentPath(paths, number), offsetOf(tail.first));
      end = tail.first;
      if (this.#isStopped) return { chunks, bytes };
    }
    const rest = await this.#sweepSegment(number);
    return rest && { chunks: chunks + rest.chunks, bytes: bytes + rest.bytes };
  }

  /** The last records of a segment before `end`, about as many as are read at once; undefined when no chunks are left. */
  #tailOf(number: number, end: number): Tail | "unreadable" | undefined {
    const { tables } = this.#store;
    const rows: ChunkRowWithRef[] = [];
    let liveBytes = 0;
    let before = Math.min(end, placeOf(number + 1, 0));
    while (liveBytes < READ_RUN_BYTES_MAX && rows.length < TAIL_ROWS_MAX) {
      const page = tables.chunks.pageBefore(before, TAIL_PAGE_ROWS);
      const own = page.filter((row) => segmentOf(row.place) === number);
      for (const row of own) {
        if (liveBytes >= READ_RUN_BYTES_MAX) break;
        rows.push(row);
        if (this.#isLive(row)) liveBytes += recordBytes(row.storedBytes);
      }
      if (own.length < TAIL_PAGE_ROWS) break;
      before = own.at(-1)!.place;
    }
    const first = rows.at(-1)?.place;
    if (first === undefined) return undefined;
    try {
      return { rows: rows.toReversed(), names: this.#namesFrom(number, offsetOf(first)), first };
    } catch (error) {
      if (UNREADABLE.has(systemCode(error))) return "unreadable";
      throw error;
    }
  }

  /** The names whose records stand in a segment from an offset on. */
  #namesFrom(segment: number, from: number): NameRow[] {
    const { tables, paths, seed } = this.#store;
    const scan = { path: segmentPath(paths, segment), segment, seed, from };
    const names: NameRow[] = [];
    for (const { body, header } of scanSegment({
      ...scan,
      acknowledgedBytes: Infinity,
      checksChunks: false,
    })) {
      const event = header.kind === RecordKind.name && body !== undefined ? decodeName(body) : undefined;
      const row = event && tables.names.find({ name: event.name, sequence: header.sequence });
      if (row?.segment === segment) names.push(row);
    }
    return names;
  }

  /**
   * Copies what is live and calls `conclude`, once everything that it is to take over is on the disk. False when the segment
   * cannot be read.
   */
  async #moveOut(
    number: number,
    { rows, names, first }: Tail,
    conclude: (move: SegmentMove, dead: readonly ChunkRowWithRef[]) => void,
  ): Promise<boolean> {
    const move = new SegmentMove(this.#store);
    try {
      let dead: ChunkRowWithRef[] = [];
      for (const row of rows) {
        if (!this.#isLive(row)) dead.push(row);
        else if (!(await move.add(row))) return false;
      }
      if (!(await move.copy())) return false;
      // Older events of a name stand before the newer ones, in what is not moved yet.
      for (const row of names) move.addName(row, first > 0);
      for (;;) {
        if (!(await move.copy())) return false;
        await this.#store.segments.flush();
        await this.#store.commits.durable();
        const wanted = new Set(dead.filter((row) => this.#isLive(row)));
        // No turn of the event loop between this answer and the transaction.
        if (wanted.size === 0) {
          conclude(move, dead);
          return true;
        }
        dead = dead.filter((row) => !wanted.has(row));
        for (const row of wanted) if (!(await move.add(row))) return false;
      }
    } finally {
      move.close();
    }
  }

  /** The transaction after which the copies count: of a whole segment, or of what stands in it from `cutAt` on. */
  #conclude(
    number: number,
    move: SegmentMove,
    dead: readonly ChunkRowWithRef[],
    cutAt: number | undefined,
  ): Freed {
    const { tables } = this.#store;
    const before = tables.segments().find((row) => row.number === number)?.committedBytes ?? 0;
    let chunks = 0;
    transaction(tables.database, () => {
      move.commit(tables);
      for (const row of dead) if (tables.chunks.remove(row.ref, row.place)) chunks++;
      if (cutAt === undefined) tables.names.removeCopies(number);
      const committedBytes = cutAt ?? before;
      tables.putSegment({ number, committedBytes, isDropped: cutAt === undefined });
    });
    return { chunks, bytes: before - (cutAt ?? 0) - move.bytes };
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
    this.#store.tables.forgetSegment(number);
  }
}
