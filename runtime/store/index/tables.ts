/** The index's tables on one connection. */
import type { DatabaseSync, StatementSync } from "node:sqlite";
import { crc32 } from "node:zlib";
import { sameBytes } from "../../../packets/digest.ts";
import { readInteger32 } from "../../../packets/integer.ts";
import { INDEX_PAGE_ROWS } from "../../limits.ts";
import { placeOf, recordBytes } from "../segments/format.ts";
import { IndexDamaged } from "./database.ts";
import { NameTable } from "./name-table.ts";

export interface SegmentRow {
  readonly number: number;
  /** Every record before this offset is in the tables and durable. */
  readonly committedBytes: number;
  /** gc has emptied it: its file is to be deleted if it is still there. */
  readonly isDropped: boolean;
}

export interface StoreStatistics {
  readonly chunks: number;
  /** Bytes of the chunks, and what is stored of them. */
  readonly plainBytes: number;
  readonly storedBytes: number;
  readonly names: number;
  readonly segments: number;
  /** Bytes of the segments: the stored chunks, headers, names, and what gc would free. */
  readonly segmentBytes: number;
}

export class IndexTables {
  readonly database: DatabaseSync;
  readonly chunks: ChunkTable;
  readonly names: NameTable;
  readonly #segments: StatementSync;
  readonly #putSegment: StatementSync;
  readonly #forgetSegment: StatementSync;
  readonly #sequence: StatementSync;
  readonly #setSequence: StatementSync;

  constructor(database: DatabaseSync) {
    this.database = database;
    this.chunks = new ChunkTable(database);
    this.names = new NameTable(database);
    this.#segments = database.prepare(
      "select number, committed, dropped, mark from segments order by number",
    );
    this.#putSegment = database.prepare("insert or replace into segments values (?, ?, ?, ?)");
    this.#forgetSegment = database.prepare(
      "delete from segments where number = ?1 and number < (select max(number) from segments)",
    );
    this.#sequence = database.prepare("select sequence, mark from counters");
    this.#setSequence = database.prepare("insert or replace into counters values (1, ?, ?)");
  }

  segments(): SegmentRow[] {
    return this.#segments.all().map(({ number, committed, dropped, mark }) => {
      if (mark !== checkOf(number, committed, dropped))
        throw new IndexDamaged("a segment's row does not match its check");
      return { number: Number(number), committedBytes: Number(committed), isDropped: dropped !== 0 };
    });
  }

  putSegment({ number, committedBytes, isDropped }: SegmentRow): void {
    const dropped = isDropped ? 1 : 0;
    this.#putSegment.run(number, committedBytes, dropped, checkOf(number, committedBytes, dropped));
  }

  /**
   * Forgets a segment whose file is gone, unless no other has a greater number: numbers are given out once, since an older
   * index, put back by somebody, would take what stands in another segment for what it knows.
   */
  forgetSegment(number: number): void {
    this.#forgetSegment.run(number);
  }

  /** The largest sequence that a committed record has. */
  get sequence(): number {
    const row = this.#sequence.get();
    if (row === undefined) return 0;
    if (row["mark"] !== checkOf(row["sequence"]))
      throw new IndexDamaged("the sequence does not match its check");
    return Number(row["sequence"]);
  }

  set sequence(value: number) {
    this.#setSequence.run(value, checkOf(value));
  }

  /** Reads the whole index. */
  statistics(): StoreStatistics {
    const [chunks = 0, plainBytes = 0, storedBytes = 0] = this.#numbers(
      "select count(*), coalesce(sum(plain), 0), coalesce(sum(stored), 0) from chunks",
    );
    const [segments = 0, segmentBytes = 0] = this.#numbers(
      "select count(*), coalesce(sum(committed), 0) from segments where dropped = 0",
    );
    const names = this.names.liveCount();
    return { chunks, plainBytes, storedBytes, names, segments, segmentBytes };
  }

  #numbers(sql: string): number[] {
    return Object.values(this.database.prepare(sql).get() ?? {}).map(Number);
  }

  close(): void {
    this.database.close();
  }
}

function checkOf(...values: readonly unknown[]): number {
  return crc32(values.join(" "));
}

/** Set in a row's codec when the chunk's bytes were found to be wrong: it then counts as absent, and may be written again. */
const DAMAGED = 0x80;

export interface ChunkRow {
  /** Segment and offset of the record; see `placeOf`. */
  readonly place: number;
  readonly storedBytes: number;
  readonly plainBytes: number;
  readonly codec: number;
  readonly isDamaged: boolean;
}

export interface ChunkRowWithRef extends ChunkRow {
  /** 32 bytes. */
  readonly ref: Uint8Array;
}

const COLUMNS = "place, stored, plain, codec, mark";

/** Where each chunk is: the rows of the `chunks` table. */
export class ChunkTable {
  readonly #find: StatementSync;
  readonly #put: StatementSync;
  readonly #move: StatementSync;
  readonly #remove: StatementSync;
  readonly #page: StatementSync;
  readonly #pageBefore: StatementSync;
  readonly #count: StatementSync;

  constructor(database: DatabaseSync) {
    this.#find = rows(database, `select ${COLUMNS} from chunks where ref = ?`);
    this.#page = rows(database, `select ${COLUMNS}, ref from chunks where place >= ? order by place limit ?`);
    this.#pageBefore = rows(
      database,
      `select ${COLUMNS}, ref from chunks where place < ? order by place desc limit ?`,
    );
    this.#count = rows(database, "select count(*) from chunks");
    this.#put = database.prepare("insert or replace into chunks values (?, ?, ?, ?, ?, ?)");
    this.#move = database.prepare("update chunks set place = ?, mark = ? where ref = ? and place = ?");
    this.#remove = database.prepare("delete from chunks where ref = ? and place = ?");
  }

  find(ref: Uint8Array): ChunkRow | undefined {
    const row = this.#find.get(ref) as unknown[] | undefined;
    return row === undefined ? undefined : decode(ref, row);
  }

  /**
   * `find` for each. Most chunks of a file were written one after the other: those that are asked for in this order are read
   * as neighbours, which costs a third.
   */
  findAll(refs: readonly Uint8Array[]): (ChunkRow | undefined)[] {
    let neighbours: readonly ChunkRowWithRef[] = [];
    let next = 0;
    let before: ChunkRow | undefined;
    return refs.map((ref, index) => {
      const neighbour = neighbours[next++];
      if (neighbour !== undefined && sameBytes(neighbour.ref, ref)) return (before = neighbour);
      const row = this.find(ref);
      const isBehind = row !== undefined && before !== undefined && isNext(before, row);
      neighbours = isBehind ? this.page(row.place + 1, refs.length - index - 1) : [];
      next = 0;
      return (before = row);
    });
  }

  put(ref: Uint8Array, row: Omit<ChunkRow, "isDamaged">, isDamaged = false): void {
    const codec = isDamaged ? row.codec | DAMAGED : row.codec;
    const mark = markOf(ref, row.place, row.storedBytes, row.plainBytes, codec);
    this.#put.run(ref, row.place, row.storedBytes, row.plainBytes, codec, mark);
  }

  /**
   * Says that the record at `from` was copied, unless the chunk has been written elsewhere meanwhile. Whether it is damaged
   * may have been found out since the caller read its row.
   */
  move({ ref, place: from }: Pick<ChunkRowWithRef, "ref" | "place">, place: number): void {
    const row = this.find(ref);
    if (row === undefined || row.place !== from) return;
    const codec = row.isDamaged ? row.codec | DAMAGED : row.codec;
    this.#move.run(place, markOf(ref, place, row.storedBytes, row.plainBytes, codec), ref, from);
  }

  /** Whether there was such a row at that place. */
  remove(ref: Uint8Array, place: number): boolean {
    return this.#remove.run(ref, place).changes > 0;
  }

  /** Up to `limit` rows from `place` on, in the order of their places. */
  page(place: number, limit: number): ChunkRowWithRef[] {
    return (this.#page.all(place, limit) as unknown as unknown[][]).map(decodeWithRef);
  }

  /** Up to `limit` rows that stand before a place, the nearest first. */
  pageBefore(place: number, limit: number): ChunkRowWithRef[] {
    return (this.#pageBefore.all(place, limit) as unknown as unknown[][]).map(decodeWithRef);
  }

  count(): number {
    return (this.#count.get() as unknown as [number])[0];
  }
}

/**
 * The rows of a segment, in the order of their places. They are read a page at a time, so that they may be changed meanwhile,
 * and `chunks` is asked for each page, since the index may be built again.
 */
export function* rowsInSegment(
  chunks: () => ChunkTable,
  segment: number,
): Generator<ChunkRowWithRef, void, undefined> {
  const end = placeOf(segment + 1, 0);
  for (let place = placeOf(segment, 0); ;) {
    const page = chunks().page(place, INDEX_PAGE_ROWS);
    for (const row of page) {
      if (row.place >= end) return;
      yield row;
    }
    if (page.length === 0) return;
    place = page.at(-1)!.place + 1;
  }
}

/** Whether a record stands right behind another one. */
function isNext({ place, storedBytes }: ChunkRow, behind: ChunkRow): boolean {
  return behind.place === place + recordBytes(storedBytes);
}

function rows(database: DatabaseSync, sql: string): StatementSync {
  const statement = database.prepare(sql);
  statement.setReturnArrays(true);
  return statement;
}

type Row = readonly [place: number, stored: number, plain: number, codec: number, mark: number];

function decodeWithRef(row: unknown[]): ChunkRowWithRef {
  return decode(row[5], row);
}

function decode(ref: unknown, row: readonly unknown[]): ChunkRowWithRef {
  // By index: taking an array apart makes an iterator, for each row of a store.
  const values = row as unknown as Row;
  const place = values[0];
  const stored = values[1];
  const plain = values[2];
  const codec = values[3];
  // A flipped bit can change a column's type as well as its value; then the sum is not a number and differs too.
  if (!(ref instanceof Uint8Array) || values[4] !== markOf(ref, place, stored, plain, codec)) {
    throw new IndexDamaged("a chunk's row does not match its check");
  }
  return {
    ref,
    place,
    storedBytes: stored,
    plainBytes: plain,
    codec: codec & ~DAMAGED,
    isDamaged: (codec & DAMAGED) !== 0,
  };
}

/** A check of 32 bits over a row. It finds damage, it does not resist forgery: who can write the index can write it too. */
function markOf(ref: Uint8Array, place: number, stored: number, plain: number, codec: number): number {
  let mark = 0x9e3779b9;
  for (let at = 0; at < ref.byteLength; at += 4) mark = mix(mark, readInteger32(ref, at));
  mark = mix(mark, place % 0x1_0000_0000);
  mark = mix(mark, Math.floor(place / 0x1_0000_0000));
  mark = mix(mark, stored);
  mark = mix(mark, plain);
  return mix(mark, codec) >>> 0;
}

/** One round of MurmurHash3: every input bit changes the result, whatever follows. */
function mix(mark: number, value: number): number {
  const scrambled = Math.imul(rotate(Math.imul(value, 0xcc9e2d51), 15), 0x1b873593);
  return (Math.imul(rotate(mark ^ scrambled, 13), 5) + 0xe6546b64) | 0;
}

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}
