/**
 * Appends records to segments. Places are given out at once, in memory; what stands at them is written behind, in order:
 *
 *   append, append, … ──▶ batch ── flush() ──▶ queue of batches ──▶ file ── sync() ──▶ disk
 *
 * When a write fails, it and what is queued behind it are lost; when a sync fails, everything since the last one that did
 * not. The file is then cut back to what is good, and the next append begins a new segment, whose header says where this one
 * ended: cutting may fail as well.
 */
import type { Codec } from "../../../packets/codec.ts";
import { SEGMENT_BYTES_MAX } from "../../limits.ts";
import { segmentPath } from "../directory.ts";
import type { StorePaths } from "../directory.ts";
import { diskError } from "../disk.ts";
import { systemCode } from "../../errors.ts";
import type { Disk, DiskFile } from "../disk.ts";
import {
  RECORD_HEADER_BYTES,
  SEGMENT_HEADER_BYTES,
  encodeRecordHeader,
  encodeSegmentHeader,
  offsetOf,
  placeOf,
  segmentOf,
} from "./format.ts";
import type { RecordKind, SegmentPosition } from "./format.ts";

export interface SegmentAppenderOptions {
  readonly paths: StorePaths;
  readonly disk: Disk;
  readonly storeId: Uint8Array;
  readonly seed: number;
  readonly position: SegmentPosition | undefined;
  readonly nextSegment: number;
  /**
   * What was appended at or behind `place` is gone. `wasWritten` says that some of it had been flushed with success before,
   * so that a caller was told that it is there.
   */
  readonly onLost: (place: number, error: Error, wasWritten: boolean) => void;
  readonly segmentBytesMax?: number | undefined;
}

export class SegmentAppender {
  /** Where segments ended that nothing is appended to any more. Whoever has written that down takes them out. */
  readonly ends: SegmentPosition[] = [];
  readonly #options: SegmentAppenderOptions;
  readonly #tail: SegmentTail;
  #queue: Promise<void> = Promise.resolve();
  /** Rises with every failure: what was queued before it is not written any more. */
  #failures = 0;
  #failure: Error | undefined;
  #syncs: Promise<unknown> = Promise.resolve();
  #syncFailures = 0;
  #file: DiskFile | undefined;
  #fileSegment = 0;
  /** Everything before it is in the file, and everything before `#syncedPlace` on the disk. */
  #writtenPlace: number;
  #syncedPlace: number;
  /** Where the segment before the next one ended. */
  #previous: SegmentPosition | undefined;

  constructor(options: SegmentAppenderOptions) {
    this.#options = options;
    this.#tail = new SegmentTail({
      ...options,
      segmentBytesMax: options.segmentBytesMax ?? SEGMENT_BYTES_MAX,
    });
    this.#writtenPlace = this.#tail.place;
    this.#syncedPlace = this.#writtenPlace;
  }

  /** Where the next record will stand, or a place before it. */
  get place(): number {
    return this.#tail.place;
  }

  /** The segment that records are being appended to. */
  get segment(): number {
    return this.#tail.segment;
  }

  /** Puts a record behind all others and returns its place. `flush` has to follow in the same turn of the event loop. */
  append(record: RecordToAppend): number {
    return this.#tail.append(record, this.#syncedPlace);
  }

  /** Begins another segment; resolves when this one is complete on the disk and its end is among `ends`. */
  async finishSegment(): Promise<void> {
    this.#tail.roll();
    await this.flush();
    const finished = this.#queue.then(async () => {
      if (this.#file !== undefined && this.#fileSegment !== this.segment) await this.#finishFile();
    });
    this.#queue = finished.catch(() => {});
    await finished;
  }

  /** Resolves when everything appended so far is in the file, where other processes can read it. */
  flush(): Promise<void> {
    const batch = this.#tail.takeParts();
    const failures = this.#failures;
    const written = this.#queue.then(async () => {
      if (failures !== this.#failures) throw this.#failure!;
      await this.#write(batch);
    });
    // Whoever called gets the failure; the queue itself goes on.
    this.#queue = written.catch(() => {});
    return written;
  }

  /** Resolves with the place before which everything is on the disk; at least what was appended before the call. */
  sync(): Promise<number> {
    const synced = this.#syncs.then(() => this.#sync());
    this.#syncs = synced.catch(() => {});
    return synced;
  }

  async close(): Promise<void> {
    await this.#queue;
    await this.#file?.close();
    this.#file = undefined;
  }

  async #sync(): Promise<number> {
    await this.flush();
    const place = this.#writtenPlace;
    const failures = this.#syncFailures;
    try {
      if (place > this.#syncedPlace) await this.#file?.sync();
    } catch (error) {
      // In the queue, since a write to the same file may be under way.
      await (this.#queue = this.#queue.then(() => this.#loseUnsynced(error, failures)));
    }
    // The system tells of a failed write-back once; it may have told another call for the same file.
    if (failures !== this.#syncFailures) throw this.#failure!;
    this.#syncedPlace = Math.max(this.#syncedPlace, place);
    return place;
  }

  async #write(batch: readonly SegmentPart[]): Promise<void> {
    for (const part of batch) {
      if (this.#file !== undefined && this.#fileSegment !== segmentOf(part.place)) await this.#finishFile();
      try {
        this.#file ??= await this.#open(part.place);
        // Not before: the segment before it could have ended elsewhere until now.
        if (offsetOf(part.place) === 0) part.buffers[0] = this.#encodeHeader();
        await this.#file.write(part.buffers, offsetOf(part.place));
      } catch (error) {
        await this.#lose(error, part.place, false);
        throw this.#failure!;
      }
      this.#writtenPlace = part.place + part.bytes;
    }
  }

  #encodeHeader(): Uint8Array {
    const { storeId } = this.#options;
    return encodeSegmentHeader({ number: this.#fileSegment, storeId, previous: this.#previous });
  }

  async #open(place: number): Promise<DiskFile> {
    const { disk, paths } = this.#options;
    this.#fileSegment = segmentOf(place);
    const path = segmentPath(paths, this.#fileSegment);
    if (offsetOf(place) > 0) return disk.open(path);
    const file = await disk.create(path);
    try {
      await disk.syncDirectory(paths.segments);
      return file;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** A segment is complete on the disk before the next one is begun. */
  async #finishFile(): Promise<void> {
    const failures = this.#syncFailures;
    try {
      await this.#file!.sync();
    } catch (error) {
      await this.#loseUnsynced(error, failures);
    }
    if (failures !== this.#syncFailures) throw this.#failure!;
    this.#syncedPlace = Math.max(this.#syncedPlace, this.#writtenPlace);
    this.#end(offsetOf(this.#writtenPlace));
    const file = this.#file!;
    this.#file = undefined;
    // Its bytes are on the disk: nothing can be lost any more.
    await file.close().catch(() => {});
  }

  async #loseUnsynced(error: unknown, failures: number): Promise<void> {
    if (failures !== this.#syncFailures) return;
    this.#syncFailures++;
    await this.#lose(error, this.#syncedPlace, true);
  }

  /** Nothing more is appended to the segment that the file is of. */
  #end(bytes: number): void {
    this.#previous = { segment: this.#fileSegment, bytes };
    this.ends.push(this.#previous);
  }

  /** Everything from `place` on is lost. Runs in the queue: nothing is written meanwhile. */
  async #lose(error: unknown, place: number, wasWritten: boolean): Promise<void> {
    const file = this.#file;
    const { onLost } = this.#options;
    this.#failures++;
    this.#failure = diskError(error);
    this.#tail.abandon();
    this.#file = undefined;
    this.#writtenPlace = place;
    onLost(place, this.#failure, wasWritten);
    if (segmentOf(place) !== this.#fileSegment || offsetOf(place) <= SEGMENT_HEADER_BYTES) {
      await file?.close().catch(() => {});
      await this.#removeEmpty();
      return;
    }
    try {
      await file?.truncate(offsetOf(place));
      this.#syncedPlace = place;
    } catch {
      // Then what stands before `place` and was not synchronised cannot be any more. Recovery will cut the file.
      if (place > this.#syncedPlace) {
        this.#syncFailures++;
        this.#writtenPlace = this.#syncedPlace;
        onLost(this.#syncedPlace, this.#failure, true);
      }
    }
    await file?.close().catch(() => {});
    if (segmentOf(this.#syncedPlace) === this.#fileSegment) this.#end(offsetOf(this.#syncedPlace));
    else await this.#removeEmpty();
  }

  /** Removes a segment of which nothing counts. */
  async #removeEmpty(): Promise<void> {
    const { disk, paths } = this.#options;
    try {
      await disk.remove(segmentPath(paths, this.#fileSegment));
    } catch (error) {
      if (systemCode(error) !== "ENOENT") this.#previous = { segment: this.#fileSegment, bytes: 0 };
    }
  }
}

export interface RecordToAppend {
  readonly kind: RecordKind;
  readonly codec: Codec;
  readonly plainBytes: number;
  readonly sequence: number;
  readonly ref: Uint8Array;
  /** As stored. Not copied: it must stay as it is until it is written. */
  readonly body: Uint8Array;
}

/** Buffers that go to one place of one segment. */
interface SegmentPart {
  readonly place: number;
  readonly buffers: Uint8Array[];
  bytes: number;
}

interface SegmentTailOptions {
  readonly seed: number;
  readonly segmentBytesMax: number;
  /** Where to go on; undefined to begin a segment. */
  readonly position: SegmentPosition | undefined;
  /** The first number that no segment has or had. */
  readonly nextSegment: number;
}

/** Where the next record goes, and the bytes of those that are not handed to a file yet. All in memory. */
class SegmentTail {
  readonly #options: SegmentTailOptions;
  #nextSegment: number;
  #segment: number;
  /** 0 when the segment is still to be begun. */
  #bytes: number;
  #parts: SegmentPart[] = [];

  constructor(options: SegmentTailOptions) {
    this.#options = options;
    this.#nextSegment = options.nextSegment;
    this.#segment = options.position?.segment ?? this.#nextSegment++;
    this.#bytes = options.position?.bytes ?? 0;
  }

  /** Where the next record will stand, or a place before it. */
  get place(): number {
    return placeOf(this.#segment, this.#bytes);
  }

  get segment(): number {
    return this.#segment;
  }

  /** Puts a record behind all others and returns its place. Everything before `durablePlace` is on the disk. */
  append(record: RecordToAppend, durablePlace: number): number {
    const storedBytes = record.body.byteLength;
    const bytes = RECORD_HEADER_BYTES + storedBytes;
    if (this.#bytes + bytes > this.#options.segmentBytesMax) this.roll();
    // Room for the header, which is written when it is known where the segment before this one ends.
    if (this.#bytes === 0) this.#add([new Uint8Array(SEGMENT_HEADER_BYTES)], SEGMENT_HEADER_BYTES);
    const { place } = this;
    const segment = this.#segment;
    const durableBytes = segmentOf(durablePlace) === segment ? offsetOf(durablePlace) : 0;
    const header = { ...record, storedBytes, segment, offset: this.#bytes, durableBytes };
    this.#add([encodeRecordHeader(header, this.#options.seed), record.body], bytes);
    return place;
  }

  /** Begins another segment with the next record, unless this one is empty. */
  roll(): void {
    if (this.#bytes <= SEGMENT_HEADER_BYTES) return;
    this.#segment = this.#nextSegment++;
    this.#bytes = 0;
  }

  /** What was appended since the last call, in order. */
  takeParts(): readonly SegmentPart[] {
    const parts = this.#parts;
    this.#parts = [];
    return parts;
  }

  /** Forgets what was not taken and goes on in another segment: the file of this one is not what it should be. */
  abandon(): void {
    this.#parts = [];
    this.#segment = this.#nextSegment++;
    this.#bytes = 0;
  }

  #add(buffers: readonly Uint8Array[], bytes: number): void {
    const { place } = this;
    const last = this.#parts.at(-1);
    if (last !== undefined && last.place + last.bytes === place) {
      last.buffers.push(...buffers);
      last.bytes += bytes;
    } else this.#parts.push({ place, buffers: [...buffers], bytes });
    this.#bytes += bytes;
  }
}
