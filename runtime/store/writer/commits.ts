/**
 * What was appended and is not in the index yet, and how it gets there: the segments are synchronised, then one transaction
 * takes over everything that was in them. Calls that come while a commit runs share the next one.
 */
import { refOfKey, sameBytes } from "../../../packets/digest.ts";
import { COMMITS_BEHIND_MAX, COMMIT_BYTES, COMMIT_RECORDS } from "../../limits.ts";
import { recoverableTransaction } from "../index/database.ts";
import type { ChunkRow, IndexTables } from "../index/tables.ts";
import type { SegmentAppender } from "../segments/appender.ts";
import { offsetOf, placeOf, segmentOf } from "../segments/format.ts";
import type { NameEvent, SegmentPosition } from "../segments/format.ts";

export type PendingChunk = Omit<ChunkRow, "isDamaged">;

export interface PendingName {
  readonly event: NameEvent;
  readonly sequence: number;
  readonly place: number;
}

/** One more record of an event. */
export interface PendingCopy {
  readonly name: Uint8Array;
  readonly sequence: number;
  readonly place: number;
}

export interface CommitsOptions {
  readonly segments: SegmentAppender;
  readonly tables: () => IndexTables;
  /** The sequence of the newest record. */
  readonly sequence: () => number;
  /** Called when a commit begins, and with `true` when everything appended before that is durable. */
  readonly onPhase: (isDone: boolean) => void;
  /** Every chunk before `place` is in the index. */
  readonly onCommitted: (place: number) => void;
}

interface Records {
  /** With their keys. */
  readonly chunks: readonly (readonly [string, PendingChunk])[];
  readonly names: readonly PendingName[];
  readonly copies: readonly PendingCopy[];
  readonly ends: readonly SegmentPosition[];
}

export class Commits {
  readonly #options: CommitsOptions;
  /** By ref (as latin1) and by name, both in the order of their places. */
  readonly #chunks: Map<string, PendingChunk> = new Map();
  readonly #names: PendingName[] = [];
  /** Records of gc of events that are in the index already. */
  #copies: PendingCopy[] = [];
  #bytes = 0;
  #committedPlace = 0;
  #waiting: Promise<void> | undefined;
  #last: Promise<void> = Promise.resolve();

  constructor(options: CommitsOptions) {
    this.#options = options;
  }

  find(key: string): PendingChunk | undefined {
    return this.#chunks.get(key);
  }

  /** The newest event of a name that is not committed yet. */
  latest(name: Uint8Array): NameEvent | undefined {
    return this.#names.findLast(({ event }) => sameBytes(event.name, name))?.event;
  }

  addChunk(key: string, chunk: PendingChunk): void {
    this.#chunks.set(key, chunk);
    this.#bytes += chunk.storedBytes;
  }

  addName(name: PendingName): void {
    this.#names.push(name);
  }

  addCopy(copy: PendingCopy): void {
    this.#copies.push(copy);
  }

  /** Everything before it is durable and in the index. */
  get committedPlace(): number {
    return this.#committedPlace;
  }

  /** How many commits' worth of records is waiting. */
  get behind(): number {
    return Math.max(this.#bytes / COMMIT_BYTES, this.#chunks.size / COMMIT_RECORDS);
  }

  /** Whether whoever appends has to wait for the disk. */
  get isFarBehind(): boolean {
    return this.behind >= COMMITS_BEHIND_MAX;
  }

  /** Everything appended before the call is durable, and in the index, when it resolves. */
  durable(): Promise<void> {
    this.#waiting ??= this.#last.then(() => {
      this.#waiting = undefined;
      return this.#commit();
    });
    this.#last = this.#waiting.catch(() => {});
    return this.#waiting;
  }

  /** Forgets what was appended at or behind a place. */
  lose(place: number): void {
    for (const [key, chunk] of this.#chunks) if (chunk.place >= place) this.#forget(key, chunk);
    const kept = this.#names.filter((name) => name.place < place);
    this.#names.splice(0, this.#names.length, ...kept);
    this.#copies = this.#copies.filter((copy) => copy.place < place);
  }

  async #commit(): Promise<void> {
    const { segments, onPhase, onCommitted } = this.#options;
    onPhase(false);
    const place = await segments.sync();
    if (place === this.#committedPlace && segments.ends.length === 0) return onPhase(true);
    const chunks = [...this.#chunks].filter(([, chunk]) => chunk.place < place);
    const names = this.#names.filter((name) => name.place < place);
    const copies = this.#copies.filter((copy) => copy.place < place);
    // One that was finished meanwhile may end behind what this commit takes over.
    const ends = segments.ends.filter(({ segment, bytes }) => placeOf(segment, bytes) <= place);
    this.#write(place, { chunks, names, copies, ends });
    this.#committedPlace = place;
    this.#copies = this.#copies.filter((copy) => copy.place >= place);
    segments.ends.splice(0, ends.length);
    for (const [key, chunk] of chunks) this.#forget(key, chunk);
    this.#names.splice(0, names.length);
    onPhase(true);
    onCommitted(place);
  }

  #write(place: number, { chunks, names, copies, ends }: Records): void {
    const { sequence } = this.#options;
    const tables = this.#options.tables();
    // Neighbours in the tree are written together: half the pages are touched half as often.
    const sorted = chunks.toSorted(([a], [b]) => (a < b ? -1 : 1));
    // The segments have it already.
    recoverableTransaction(tables.database, () => {
      for (const [key, chunk] of sorted) tables.chunks.put(refOfKey(key), chunk);
      for (const name of names) tables.names.append(name.event, name.sequence, segmentOf(name.place));
      for (const copy of copies) tables.names.addCopy(copy, segmentOf(copy.place));
      const last = { segment: segmentOf(place), bytes: offsetOf(place) };
      for (const { segment, bytes } of [...ends, last]) {
        if (bytes > 0) tables.putSegment({ number: segment, committedBytes: bytes, isDropped: false });
      }
      tables.sequence = sequence();
    });
  }

  #forget(key: string, chunk: PendingChunk): void {
    this.#chunks.delete(key);
    this.#bytes -= chunk.storedBytes;
  }
}
