/** Copies what is still needed of one segment behind all others, for gc. */
import { sha256 } from "../../../packets/digest.ts";
import { READ_RUN_BYTES_MAX } from "../../limits.ts";
import type { NameRow } from "../index/name-table.ts";
import type { ChunkRowWithRef } from "../index/chunk-index.ts";
import type { IndexTables } from "../index/index-tables.ts";
import { NameAction, encodeName } from "../segments/name-format.ts";
import { bodyInRun, planRuns } from "../segments/read-runs.ts";
import { Codec } from "../../../packets/codec.ts";
import { RecordKind, recordBytes, segmentOf } from "../segments/segment-format.ts";
import type { Codec as CodecType } from "../../../packets/codec.ts";
import { SegmentFiles } from "../segments/segment-files.ts";
import type { WriterContext } from "../writer/writer-context.ts";

export class SegmentMove {
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
