/** Reads records out of segment files when the index does not say what is there: after a crash, or when it is lost. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { isRefOf } from "../../../packets/digest.ts";
import { CHUNK_BYTES_MAX } from "../../../packets/limits.ts";
import { decompress } from "../../../packets/codec.ts";
import {
  RECORD_HEADER_BYTES,
  RECORD_MAGIC,
  RecordKind,
  SEGMENT_HEADER_BYTES,
  decodeRecordHeader,
} from "./format.ts";
import type { RecordHeader } from "./format.ts";

export interface ScanOptions {
  readonly path: string;
  readonly segment: number;
  /** The store's check seed. */
  readonly seed: number;
  /** Where the first record is expected. */
  readonly from: number;
  /**
   * Where what was acknowledged ends. Behind damage before it the scan looks for the next record; behind damage after it
   * nothing counts.
   */
  readonly acknowledgedBytes: number;
  /** Where the segment ended, when it is longer than what counts of it. */
  readonly endBytes?: number | undefined;
  /**
   * Whether the bodies of chunks before `acknowledgedBytes` are read and compared with their hashes, as those of all other
   * records are.
   */
  readonly checksChunks: boolean;
}

export interface ScannedRecord {
  readonly header: RecordHeader;
  /** The plain body; only of records that are no chunks. Valid until the next record is asked for. */
  readonly body: Uint8Array | undefined;
}

const SCAN_BYTES = 4 * CHUNK_BYTES_MAX;
/** Enough for a header or a name, where bodies of chunks are passed over. */
const HEADER_SCAN_BYTES = 4096;
/** What is read at once where records are so small that most of it is looked at. */
const HEADER_SCAN_BYTES_MAX = 64 * 1024;

/** Yields the whole records of a segment, in order, and returns the offset behind what counts of it. */
export function* scanSegment(options: ScanOptions): Generator<ScannedRecord, number, undefined> {
  const { segment, seed, checksChunks } = options;
  // Behind what was acknowledged the bodies of chunks are read in any case.
  const hasTail = options.acknowledgedBytes < (options.endBytes ?? Infinity);
  const buffer = new SlidingBuffer(
    options.path,
    checksChunks ? SCAN_BYTES : HEADER_SCAN_BYTES,
    checksChunks || hasTail ? SCAN_BYTES : HEADER_SCAN_BYTES_MAX,
  );
  try {
    const size = Math.min(buffer.size, options.endBytes ?? buffer.size);
    const acknowledged = Math.min(options.acknowledgedBytes, size);
    let at = Math.max(options.from, SEGMENT_HEADER_BYTES);
    let end = Math.max(at, acknowledged);
    while (at + RECORD_HEADER_BYTES <= size) {
      const isAcknowledged = at < acknowledged;
      const header = decodeRecordHeader(buffer.at(at, RECORD_HEADER_BYTES), 0, { segment, offset: at }, seed);
      const next = header === undefined ? 0 : at + RECORD_HEADER_BYTES + header.storedBytes;
      if (header === undefined || next > size) {
        if (!isAcknowledged) return end;
        // What was acknowledged ends with a record: the first of those behind it begins there.
        at = Math.min(buffer.find(RECORD_MAGIC, at + 1), acknowledged);
        continue;
      }
      const isChunk = header.kind === RecordKind.chunk;
      const isUnread = isChunk && isAcknowledged && !checksChunks;
      const body = isUnread ? undefined : wholeBody(buffer, at, header);
      if (isUnread || body !== undefined) {
        yield { header, body: isChunk ? undefined : body };
        end = Math.max(end, next);
      } else if (!isAcknowledged) return end;
      at = next;
    }
    return end;
  } finally {
    buffer.close();
  }
}

/** How many bytes of a segment were acknowledged, as far as its records from `from` on say so. */
export function acknowledgedIn(options: Pick<ScanOptions, "path" | "segment" | "seed" | "from">): number {
  const { segment, seed } = options;
  const buffer = new SlidingBuffer(options.path, HEADER_SCAN_BYTES, HEADER_SCAN_BYTES_MAX);
  let acknowledged = 0;
  try {
    for (let at = Math.max(options.from, SEGMENT_HEADER_BYTES); at + RECORD_HEADER_BYTES <= buffer.size;) {
      const header = decodeRecordHeader(buffer.at(at, RECORD_HEADER_BYTES), 0, { segment, offset: at }, seed);
      acknowledged = Math.max(acknowledged, header?.durableBytes ?? 0);
      at =
        header === undefined
          ? buffer.find(RECORD_MAGIC, at + 1)
          : at + RECORD_HEADER_BYTES + header.storedBytes;
    }
    return Math.min(acknowledged, buffer.size);
  } finally {
    buffer.close();
  }
}

function wholeBody(buffer: SlidingBuffer, at: number, header: RecordHeader): Uint8Array | undefined {
  const stored = buffer.at(at + RECORD_HEADER_BYTES, header.storedBytes);
  const plain = decompress(stored, header.codec, header.plainBytes);
  return plain !== undefined && isRefOf(header.ref, plain) ? plain : undefined;
}

/** A file read through a buffer that slides over it. */
class SlidingBuffer {
  readonly size: number;
  readonly #file: number;
  readonly #bytesMin: number;
  readonly #buffer: Buffer;
  #start = 0;
  #length = 0;
  /** Bytes that are read at once. */
  #window: number;

  /**
   * Reads `bytesMin` bytes at once, and twice as many each time that what is asked for follows on them, up to `bytesMax`; all that
   * is asked for in any case, which is `bytesMax` at most.
   */
  constructor(path: string, bytesMin: number, bytesMax: number) {
    this.#bytesMin = bytesMin;
    this.#window = bytesMin;
    this.#buffer = Buffer.allocUnsafeSlow(bytesMax);
    this.#file = openSync(path, "r");
    this.size = fstatSync(this.#file).size;
  }

  /** The `length` bytes at `offset`, fewer at the end of the file. Valid until the next call. */
  at(offset: number, length: number): Uint8Array {
    if (offset < this.#start || offset + length > this.#start + this.#length) this.#load(offset, length);
    const from = offset - this.#start;
    return this.#buffer.subarray(from, Math.min(from + length, this.#length));
  }

  /** Where `pattern` is found next, from `offset` on; the file's size when nowhere. */
  find(pattern: Uint8Array, offset: number): number {
    for (let from = offset; from < this.size; from += this.#length - pattern.byteLength + 1) {
      this.#load(from);
      const found = this.#buffer.subarray(0, this.#length).indexOf(pattern);
      if (found !== -1) return from + found;
      if (from + this.#length >= this.size) break;
    }
    return this.size;
  }

  close(): void {
    closeSync(this.#file);
  }

  #load(offset: number, least = 0): void {
    const follows = this.#length > 0 && offset >= this.#start && offset <= this.#start + this.#length;
    this.#window = follows ? Math.min(2 * this.#window, this.#buffer.byteLength) : this.#bytesMin;
    this.#start = offset;
    this.#length = 0;
    const bytes = Math.max(this.#window, Math.min(least, this.#buffer.byteLength));
    while (this.#length < bytes) {
      const room = bytes - this.#length;
      const count = readSync(this.#file, this.#buffer, this.#length, room, offset + this.#length);
      if (count === 0) return;
      this.#length += count;
    }
  }
}
