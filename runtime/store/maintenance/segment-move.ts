/**
 * What gc copies of a segment before it is deleted, or cut: chunks and events of names, appended behind all others. They count
 * from a transaction on that is the caller's.
 */
import { Codec } from "../../../packets/codec.ts";
import type { Codec as CodecType } from "../../../packets/codec.ts";
import { sha256 } from "../../../packets/digest.ts";
import { READ_RUN_BYTES_MAX } from "../../limits.ts";
import type { NameRow } from "../index/name-table.ts";
import type { ChunkRowWithRef, IndexTables } from "../index/tables.ts";
import { SegmentFiles, bodyInRun, planRuns } from "../segments/files.ts";
import { NameAction, RecordKind, encodeName, recordBytes, segmentOf } from "../segments/format.ts";
import type { WriterContext } from "../writer/append.ts";

/** Segments count from 1. */
const NO_SEGMENT = 0;

export class SegmentMove {
  /** Bytes of the copies. */
  bytes = 0;
  readonly #store: WriterContext;
  readonly #files: SegmentFiles;
  /** Rows to be copied, and rows that were, with their new places. */
  #waiting: ChunkRowWithRef[] = [];
  #waitingBytes = 0;
  readonly #moved: { readonly row: ChunkRowWithRef; readonly place: number }[] = [];
  /** Names, with the segments where they were copied to; undefined for those that are not needed. */
  readonly #names: { readonly row: NameRow; readonly segment: number | undefined }[] = [];

  constructor(store: WriterContext) {
    this.#store = store;
    this.#files = new SegmentFiles(store.paths);
  }

  /** False when the segment cannot be read: then it is to be left as it is. */
  async add(row: ChunkRowWithRef): Promise<boolean> {
    this.#waiting.push(row);
    this.#waitingBytes += recordBytes(row.storedBytes);
    return this.#waitingBytes < READ_RUN_BYTES_MAX || this.copy();
  }

  /** `hasOlder` says that older events than this one may stay in the segment. */
  addName(row: NameRow, hasOlder: boolean): void {
    const segment = this.#isNeeded(row, hasOlder) ? this.#appendName(row) : undefined;
    this.#names.push({ row, segment });
  }

  /** Makes the copies the ones that count. Inside a transaction. */
  commit({ chunks, names }: IndexTables): void {
    for (const { row, place } of this.#moved) chunks.move(row, place);
    for (const { row, segment } of this.#names) {
      if (segment === undefined) names.remove(row);
      else names.move(row, segment);
    }
  }

  close(): void {
    this.#files.close();
  }

  /** A removal is needed as long as a segment has an older record of the name, which it has to outlive. */
  #isNeeded(row: NameRow, hasOlder: boolean): boolean {
    if (row.action === NameAction.bind) return row.isListed;
    return this.#store.tables.names.hasOlderElsewhere(row, hasOlder ? NO_SEGMENT : row.segment);
  }

  #appendName(row: NameRow): number {
    const body = encodeName(row);
    const record = { kind: RecordKind.name, codec: Codec.plain, plainBytes: body.byteLength, body };
    const place = this.#store.segments.append({ ...record, sequence: row.sequence, ref: sha256(body) });
    this.#store.commits.addCopy({ name: row.name, sequence: row.sequence, place });
    this.bytes += recordBytes(body.byteLength);
    return segmentOf(place);
  }

  /** Every row added is in another segment when it resolves, though not yet synchronised. */
  async copy(): Promise<boolean> {
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
