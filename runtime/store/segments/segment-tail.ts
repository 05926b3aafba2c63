/** Where the next record goes, and the bytes of those that are not handed to a file yet. All in memory. */
import type { Codec } from "../../../packets/codec.ts";
import type { RecordKind } from "./segment-format.ts";
import {
  RECORD_HEADER_BYTES,
  SEGMENT_HEADER_BYTES,
  encodeRecordHeader,
  encodeSegmentHeader,
  placeOf,
} from "./segment-format.ts";

/** The end of a segment. */
export interface SegmentPosition {
  readonly segment: number;
  readonly bytes: number;
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
export interface SegmentPart {
  readonly place: number;
  readonly buffers: Uint8Array[];
  bytes: number;
}

export interface SegmentTailOptions {
  readonly storeId: Uint8Array;
  readonly seed: number;
  readonly segmentBytesMax: number;
  /** Where to go on; undefined to begin a segment. */
  readonly position: SegmentPosition | undefined;
  /** The first number that no segment has or had. */
  readonly nextSegment: number;
}

export class SegmentTail {
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

  /** Puts a record behind all others and returns its place. */
  append(record: RecordToAppend): number {
    const storedBytes = record.body.byteLength;
    const bytes = RECORD_HEADER_BYTES + storedBytes;
    if (this.#bytes + bytes > this.#options.segmentBytesMax) this.roll();
    if (this.#bytes === 0) {
      this.#add([encodeSegmentHeader(this.#segment, this.#options.storeId)], SEGMENT_HEADER_BYTES);
    }
    const { place } = this;
    const header = { ...record, storedBytes, segment: this.#segment, offset: this.#bytes };
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
