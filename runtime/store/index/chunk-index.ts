/** Where each chunk is: the rows of the index's `chunks` table. One instance per connection. */
import type { DatabaseSync, StatementSync } from "node:sqlite";
import { readInteger32 } from "../../../packets/integer.ts";
import { INDEX_PAGE_ROWS } from "../../limits.ts";
import { IndexDamaged } from "./index-database.ts";
import { placeOf } from "../segments/segment-format.ts";

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

const COLUMNS = "ref, place, stored, plain, codec, mark";

export class ChunkIndex {
  readonly #find: StatementSync;
  readonly #put: StatementSync;
  readonly #move: StatementSync;
  readonly #remove: StatementSync;
  readonly #page: StatementSync;
  readonly #count: StatementSync;

  constructor(database: DatabaseSync) {
    this.#find = rows(database, `select ${COLUMNS} from chunks where ref = ?`);
    this.#page = rows(database, `select ${COLUMNS} from chunks where place >= ? order by place limit ?`);
    this.#count = rows(database, "select count(*) from chunks");
    this.#put = database.prepare("insert or replace into chunks values (?, ?, ?, ?, ?, ?)");
    this.#move = database.prepare("update chunks set place = ?, mark = ? where ref = ? and place = ?");
    this.#remove = database.prepare("delete from chunks where ref = ? and place = ?");
  }

  find(ref: Uint8Array): ChunkRow | undefined {
    const row = this.#find.get(ref) as unknown[] | undefined;
    return row === undefined ? undefined : decode(row);
  }

  put(ref: Uint8Array, row: Omit<ChunkRow, "isDamaged">, isDamaged = false): void {
    const codec = isDamaged ? row.codec | DAMAGED : row.codec;
    const mark = markOf(ref, row.place, row.storedBytes, row.plainBytes, codec);
    this.#put.run(ref, row.place, row.storedBytes, row.plainBytes, codec, mark);
  }

  /** Says that the record was copied, unless the chunk has been written elsewhere meanwhile. */
  move(row: ChunkRowWithRef, place: number): void {
    const codec = row.isDamaged ? row.codec | DAMAGED : row.codec;
    this.#move.run(place, markOf(row.ref, place, row.storedBytes, row.plainBytes, codec), row.ref, row.place);
  }

  /** Whether there was such a row at that place. */
  remove(ref: Uint8Array, place: number): boolean {
    return this.#remove.run(ref, place).changes > 0;
  }

  /** Up to `limit` rows from `place` on, in the order of their places. */
  page(place: number, limit: number): ChunkRowWithRef[] {
    return (this.#page.all(place, limit) as unknown as unknown[][]).map(decode);
  }

  /** The rows of a segment, in the order of their places; read a page at a time, so that they may be changed meanwhile. */
  *inSegment(segment: number): Generator<ChunkRowWithRef, void, undefined> {
    const end = placeOf(segment + 1, 0);
    for (let place = placeOf(segment, 0); ;) {
      const page = this.page(place, INDEX_PAGE_ROWS);
      for (const row of page) {
        if (row.place >= end) return;
        yield row;
      }
      if (page.length === 0) return;
      place = page.at(-1)!.place + 1;
    }
  }

  count(): number {
    return (this.#count.get() as unknown as [number])[0];
  }
}

function rows(database: DatabaseSync, sql: string): StatementSync {
  const statement = database.prepare(sql);
  statement.setReturnArrays(true);
  return statement;
}

function decode(row: unknown[]): ChunkRowWithRef {
  const [ref, place, stored, plain, codec, mark] = row as [
    Uint8Array,
    number,
    number,
    number,
    number,
    number,
  ];
  // A flipped bit can change a column's type as well as its value; then the sum is not a number and differs too.
  if (!(ref instanceof Uint8Array) || mark !== markOf(ref, place, stored, plain, codec)) {
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
