/**
 * The names: rows of the index's `names` table, one per event (a name was bound to a root, or removed).
 *
 *   notes.txt   bind 1   bind 2   remove   bind 1   bind 2 … bind 11   bind 12
 *               └─────────── unlisted ───────────────────┘   └─ listed: the latest NAME_VERSIONS_MAX since the last removal
 *
 * A row stays until the segment that holds its record is gone, also when it is unlisted: only so is it known when the record
 * of a removal may go as well. Before that, an index built again from the segments would bring the removed name back. So would
 * a second record of the same event, which a gc leaves that ended between its copy and its transaction: `name_copies` says
 * where there are any.
 */
import type { DatabaseSync, StatementSync } from "node:sqlite";
import { crc32 } from "node:zlib";
import { REF_BYTES } from "../../../packets/layout.ts";
import { CATALOG_PAGE_NAMES, NAME_VERSIONS_MAX } from "../../limits.ts";
import { IndexDamaged } from "./database.ts";
import { NameAction, encodeName, nameRecordBytes } from "../segments/format.ts";
import type { NameEvent } from "../segments/format.ts";

/** An event and where its record is. */
export interface NameRow extends NameEvent {
  readonly sequence: number;
  readonly segment: number;
  readonly isListed: boolean;
}

/** Where a row stands in the table. */
export type NamePosition = Pick<NameRow, "name" | "sequence">;

const COLUMNS = "name, sequence, action, version, stored_at, length, root, segment, listed, mark";
const IS_LATEST = "sequence = (select max(sequence) from names other where other.name = names.name)";

export class NameTable {
  readonly #insert: StatementSync;
  readonly #unlist: StatementSync;
  readonly #move: StatementSync;
  readonly #remove: StatementSync;
  readonly #newest: StatementSync;
  readonly #live: StatementSync;
  readonly #liveCount: StatementSync;
  readonly #listed: StatementSync;
  readonly #event: StatementSync;
  readonly #segment: StatementSync;
  readonly #segmentPage: StatementSync;
  readonly #elsewhere: StatementSync;
  readonly #names: StatementSync;
  readonly #needed: StatementSync;
  readonly #roots: StatementSync;
  readonly #addCopy: StatementSync;
  readonly #removeCopy: StatementSync;
  readonly #removeCopies: StatementSync;

  constructor(database: DatabaseSync) {
    const rows = (sql: string): StatementSync => {
      const statement = database.prepare(sql);
      statement.setReturnArrays(true);
      return statement;
    };
    this.#insert = database.prepare("insert or ignore into names values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    this.#unlist = database.prepare("update names set listed = 0, mark = ? where name = ? and sequence = ?");
    this.#move = database.prepare("update names set segment = ?, mark = ? where name = ? and sequence = ?");
    this.#remove = database.prepare("delete from names where name = ? and sequence = ?");
    this.#newest = rows(`select ${COLUMNS} from names where name = ? order by sequence desc limit ?`);
    this.#live = rows(
      `select ${COLUMNS} from names where name > ? and action = ${NameAction.bind} and ${IS_LATEST} order by name limit ?`,
    );
    this.#liveCount = rows(`select count(*) from names where action = ${NameAction.bind} and ${IS_LATEST}`);
    this.#listed = rows(
      `select ${COLUMNS} from names where (name, sequence) > (?, ?) and listed = 1 order by name, sequence limit ?`,
    );
    this.#event = rows(`select ${COLUMNS} from names where name = ? and sequence = ?`);
    this.#segment = rows(`select ${COLUMNS} from names where segment = ?`);
    this.#segmentPage = rows(
      `select ${COLUMNS} from names where segment = ? and (name, sequence) > (?, ?) order by name, sequence limit ?`,
    );
    this.#elsewhere = rows(
      `select 1 from names where name = ?1 and sequence < ?2 and segment <> ?3
       union all select 1 from name_copies where name = ?1 and sequence < ?2 and segment <> ?3 limit 1`,
    );
    this.#addCopy = database.prepare(
      `insert or ignore into name_copies select ?1, ?2, ?3
       where not exists (select 1 from names where name = ?1 and sequence = ?2 and segment = ?3)`,
    );
    this.#removeCopy = database.prepare(
      "delete from name_copies where name = ? and sequence = ? and segment = ?",
    );
    this.#removeCopies = database.prepare("delete from name_copies where segment = ?");
    this.#needed = rows(
      `select segment, count(*), sum(length(name)) from names where listed = 1 or action = ${NameAction.remove} group by segment`,
    );
    this.#roots = rows(
      `select ${COLUMNS} from names where listed = 1 and root between ? and ? group by root order by root limit ?`,
    );
    this.#names = rows("select distinct name from names where name > ? order by name limit ?");
  }

  /** The name's latest event, a removal included; undefined for a name that never was. */
  latest(name: Uint8Array): NameRow | undefined {
    return this.#newestRows(name, 1)[0];
  }

  /** The listed versions, the latest first. */
  history(name: Uint8Array): NameRow[] {
    return this.#newestRows(name, NAME_VERSIONS_MAX).filter((row) => row.isListed);
  }

  /** Up to a page of live names after `name`, in byte order. */
  live(after: Uint8Array): NameRow[] {
    return decodeAll(this.#live.all(after, CATALOG_PAGE_NAMES));
  }

  liveCount(): number {
    return (this.#liveCount.get() as unknown as [number])[0];
  }

  /** Up to a page of versions that are listed, after a row, by name and age: what gc keeps. */
  listed(after: NamePosition): NameRow[] {
    return decodeAll(this.#listed.all(after.name, after.sequence, CATALOG_PAGE_NAMES));
  }

  /** Listed versions whose roots lie between two, one for each root. */
  withRoots(first: Uint8Array, last: Uint8Array, limit: number): NameRow[] {
    return decodeAll(this.#roots.all(first, last, limit));
  }

  find({ name, sequence }: NamePosition): NameRow | undefined {
    return decodeAll(this.#event.all(name, sequence))[0];
  }

  /** All rows whose records are in a segment. */
  inSegment(segment: number): NameRow[] {
    return decodeAll(this.#segment.all(segment));
  }

  /** Up to `limit` of them after a row, by name and age. */
  pageInSegment(segment: number, { name, sequence }: NamePosition, limit: number): NameRow[] {
    return decodeAll(this.#segmentPage.all(segment, name, sequence, limit));
  }

  /** Whether older events of a name are in other segments than this one, or copies of them. */
  hasOlderElsewhere({ name, sequence }: NamePosition, segment: number): boolean {
    return this.#elsewhere.get(name, sequence, segment) !== undefined;
  }

  /** By segment, the bytes of the records that gc keeps. Removals count as kept, which at worst delays a rewrite. */
  neededBytes(): [segment: number, bytes: number][] {
    const groups = this.#needed.all() as unknown as [number, number, number][];
    return groups.map(([segment, count, nameBytes]) => [segment, count * nameRecordBytes(0) + nameBytes]);
  }

  /** Adds the name's newest event. Of one that is there already, in another segment, this is a copy. */
  append(event: NameEvent, sequence: number, segment: number): void {
    this.insert(event, sequence, segment);
    this.#relist(event.name, NAME_VERSIONS_MAX + 2);
  }

  /** Adds an event in any order; `relistAll` has to follow. */
  insert(event: NameEvent, sequence: number, segment: number): void {
    const { name, action, version, storedAt, length, root } = event;
    const listed = action === NameAction.bind ? 1 : 0;
    const mark = markOf(event, sequence, segment, listed);
    const { changes } = this.#insert.run(
      name,
      sequence,
      action,
      version,
      storedAt,
      length,
      root,
      segment,
      listed,
      mark,
    );
    if (changes === 0) this.addCopy({ name, sequence }, segment);
  }

  /** Says that a segment has one more record of an event. */
  addCopy({ name, sequence }: NamePosition, segment: number): void {
    this.#addCopy.run(name, sequence, segment);
  }

  /** Says that a segment is gone, and all that it had one more record of. */
  removeCopies(segment: number): void {
    this.#removeCopies.run(segment);
  }

  relistAll(): void {
    let after: Uint8Array = new Uint8Array(0);
    for (;;) {
      const page = this.#names.all(after, CATALOG_PAGE_NAMES) as unknown as [Uint8Array][];
      if (page.length === 0) return;
      for (const [name] of page) this.#relist(name, -1);
      after = page.at(-1)![0];
    }
  }

  /**
   * Says that the copy of an event's record is the one that counts. Whether it is listed may have changed since the caller
   * read its row.
   */
  move({ name, sequence }: NamePosition, segment: number): void {
    const row = this.find({ name, sequence });
    if (row === undefined) return;
    this.#move.run(segment, markOf(row, sequence, segment, row.isListed ? 1 : 0), name, sequence);
    this.#removeCopy.run(name, sequence, segment);
  }

  remove(row: NameRow): void {
    this.#remove.run(row.name, row.sequence);
  }

  /** Unlists what a removal or too many newer versions hide, among the name's newest `limit` rows. */
  #relist(name: Uint8Array, limit: number): void {
    let versions = 0;
    for (const row of this.#newestRows(name, limit)) {
      if (row.action === NameAction.remove) versions = NAME_VERSIONS_MAX;
      else if (++versions > NAME_VERSIONS_MAX && row.isListed) {
        this.#unlist.run(markOf(row, row.sequence, row.segment, 0), name, row.sequence);
      }
    }
  }

  #newestRows(name: Uint8Array, limit: number): NameRow[] {
    return decodeAll(this.#newest.all(name, limit));
  }
}

function decodeAll(rows: unknown): NameRow[] {
  return (rows as unknown[][]).map(decode);
}

function decode(row: unknown[]): NameRow {
  const [name, sequence, action, version, storedAt, length, root, segment, listed, mark] = row as [
    Uint8Array,
    number,
    NameAction,
    number,
    number,
    number,
    Uint8Array,
    number,
    number,
    number,
  ];
  const event: NameEvent = { action, name, version, storedAt, length, root };
  const isWhole = name instanceof Uint8Array && root instanceof Uint8Array && root.byteLength === REF_BYTES;
  if (!isWhole || mark !== markOf(event, sequence, segment, listed)) {
    throw new IndexDamaged("a name's row does not match its check");
  }
  return { ...event, sequence, segment, isListed: listed === 1 };
}

function markOf(event: NameEvent, sequence: number, segment: number, listed: number): number {
  return crc32(encodeName(event), crc32(`${sequence} ${segment} ${listed}`));
}
