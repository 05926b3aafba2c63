/** The index's tables on one connection. */
import type { DatabaseSync, StatementSync } from "node:sqlite";
import { crc32 } from "node:zlib";
import { NameTable } from "./name-table.ts";
import { ChunkIndex } from "./chunk-index.ts";
import { IndexDamaged } from "./index-database.ts";

export interface SegmentRow {
  readonly number: number;
  /** Every record before this offset is in the tables and durable. */
  readonly committedBytes: number;
  /** gc has emptied it: its file may still be there and is to be deleted. */
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
  readonly chunks: ChunkIndex;
  readonly names: NameTable;
  readonly #segments: StatementSync;
  readonly #putSegment: StatementSync;
  readonly #removeSegment: StatementSync;
  readonly #sequence: StatementSync;
  readonly #setSequence: StatementSync;

  constructor(database: DatabaseSync) {
    this.database = database;
    this.chunks = new ChunkIndex(database);
    this.names = new NameTable(database);
    this.#segments = database.prepare(
      "select number, committed, dropped, mark from segments order by number",
    );
    this.#putSegment = database.prepare("insert or replace into segments values (?, ?, ?, ?)");
    this.#removeSegment = database.prepare("delete from segments where number = ?");
    this.#sequence = database.prepare("select sequence, mark from counters");
    this.#setSequence = database.prepare("insert or replace into counters values (1, ?, ?)");
  }

  segments(): SegmentRow[] {
    return this.#segments.all().map(({ number, committed, dropped, mark }) => {
      if (mark !== markOf(number, committed, dropped))
        throw new IndexDamaged("a segment's row does not match its check");
      return { number: Number(number), committedBytes: Number(committed), isDropped: dropped !== 0 };
    });
  }

  putSegment({ number, committedBytes, isDropped }: SegmentRow): void {
    const dropped = isDropped ? 1 : 0;
    this.#putSegment.run(number, committedBytes, dropped, markOf(number, committedBytes, dropped));
  }

  removeSegment(number: number): void {
    this.#removeSegment.run(number);
  }

  /** The largest sequence that a committed record has. */
  get sequence(): number {
    const row = this.#sequence.get();
    if (row === undefined) return 0;
    if (row["mark"] !== markOf(row["sequence"]))
      throw new IndexDamaged("the sequence does not match its check");
    return Number(row["sequence"]);
  }

  set sequence(value: number) {
    this.#setSequence.run(value, markOf(value));
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

function markOf(...values: readonly unknown[]): number {
  return crc32(values.join(" "));
}
