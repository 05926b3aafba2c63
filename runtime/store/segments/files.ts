/** Segments as files to read from, and which of their records one call reads. */
import { readSync } from "node:fs";
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import {
  READS_ASIDE,
  READ_GAP_BYTES_MAX,
  READ_HERE_BYTES_MAX,
  READ_HERE_MS_MAX,
  READ_RUN_BYTES_MAX,
  SEGMENTS_OPEN_MAX,
} from "../../limits.ts";
import { segmentPath } from "../directory.ts";
import type { StorePaths } from "../directory.ts";
import { RECORD_HEADER_BYTES, offsetOf, recordBytes, segmentOf } from "./format.ts";

interface OpenSegment {
  readonly handle: Promise<FileHandle>;
  /** Reads under way. */
  readers: number;
  /** To be closed when the last of them ends. */
  isForgotten: boolean;
}

/** Those that are open, the least recently used closed first. */
export class SegmentFiles {
  readonly #paths: StorePaths;
  readonly #openMax: number;
  /** The read that the next one waits for. */
  #last: Promise<unknown> = Promise.resolve();
  /** In the order of their last use. */
  readonly #open: Map<number, OpenSegment> = new Map();
  /** Short reads that still go to other threads. */
  #readsAside = 0;

  constructor(paths: StorePaths, openMax: number = SEGMENTS_OPEN_MAX) {
    this.#paths = paths;
    this.#openMax = openMax;
  }

  /**
   * `length` bytes at `offset`, in `memory` of that length or a buffer of their own; fewer at the end of the file. Rejects as
   * the system does.
   */
  async read(
    segment: number,
    offset: number,
    length: number,
    memory?: Uint8Array<ArrayBuffer>,
  ): Promise<Buffer<ArrayBuffer>> {
    return await this.use(segment, async (handle) => {
      if (this.#isQuick(length)) return this.#readHere(handle.fd, offset, length, memory);
      // One at a time: reads beside each other fault in their fresh buffers at a third of the speed, and what was read
      // is hashed while the next one is under way.
      const read = this.#last.then(() => readFully(handle, offset, length, memory));
      this.#last = read.catch(() => undefined);
      return await read;
    });
  }

  /** The segment's file stays open until `work` is done. Rejects as the system does where it cannot be opened. */
  async use<Result>(segment: number, work: (handle: FileHandle) => Promise<Result>): Promise<Result> {
    const file = this.#use(segment);
    try {
      return await work(await file.handle);
    } finally {
      file.readers--;
      if (file.isForgotten) closeUnused(file);
    }
  }

  /** Whether to stand still for it: most that is read is in the system's memory. */
  #isQuick(length: number): boolean {
    if (length > READ_HERE_BYTES_MAX) return false;
    if (this.#readsAside === 0) return true;
    this.#readsAside--;
    return false;
  }

  #readHere(
    file: number,
    offset: number,
    length: number,
    memory: Uint8Array<ArrayBuffer> | undefined,
  ): Buffer<ArrayBuffer> {
    const begun = performance.now();
    const buffer = bufferOf(length, memory);
    let done = 0;
    while (done < length) {
      const bytes = readSync(file, buffer, done, length - done, offset + done);
      if (bytes === 0) break;
      done += bytes;
    }
    if (performance.now() - begun > READ_HERE_MS_MAX) this.#readsAside = READS_ASIDE;
    return buffer.subarray(0, done);
  }

  pathOf(segment: number): string {
    return segmentPath(this.#paths, segment);
  }

  /** The next read opens the file again: it was removed, or its bytes are not believed. */
  forget(segment: number): void {
    const file = this.#open.get(segment);
    if (file === undefined) return;
    this.#open.delete(segment);
    file.isForgotten = true;
    closeUnused(file);
  }

  /** Reads under way still end well. */
  close(): void {
    for (const segment of this.#open.keys()) this.forget(segment);
  }

  #use(segment: number): OpenSegment {
    let file = this.#open.get(segment);
    if (file === undefined) {
      const opened: OpenSegment = {
        handle: open(segmentPath(this.#paths, segment), "r"),
        readers: 0,
        isForgotten: false,
      };
      // A file that could not be opened is not remembered as one: the next reader tries again.
      opened.handle.catch(() => {
        if (this.#open.get(segment) === opened) this.#open.delete(segment);
      });
      file = opened;
    }
    this.#open.delete(segment);
    this.#open.set(segment, file);
    file.readers++;
    if (this.#open.size > this.#openMax) this.forget(this.#open.keys().next().value!);
    return file;
  }
}

async function readFully(
  handle: FileHandle,
  offset: number,
  length: number,
  memory: Uint8Array<ArrayBuffer> | undefined,
): Promise<Buffer<ArrayBuffer>> {
  const buffer = bufferOf(length, memory);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(buffer, done, length - done, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return buffer.subarray(0, done);
}

function bufferOf(length: number, memory: Uint8Array<ArrayBuffer> | undefined): Buffer<ArrayBuffer> {
  return memory === undefined
    ? Buffer.allocUnsafeSlow(length)
    : Buffer.from(memory.buffer, memory.byteOffset, length);
}

function closeUnused(file: OpenSegment): void {
  if (file.readers > 0) return;
  // Closing what was only read cannot lose anything.
  file.handle.then((handle) => handle.close()).catch(() => {});
}

export interface RecordPlace {
  readonly place: number;
  readonly storedBytes: number;
}

/** The records `first` .. `end` of a list, which stand in `length` bytes at `offset` of a segment. */
export interface ReadRun {
  readonly segment: number;
  readonly offset: number;
  readonly length: number;
  readonly first: number;
  readonly end: number;
}

/**
 * Which records are read with one call: neighbours in a segment, as they were written together. `records` in the order of
 * their places; the same one may stand there more than once.
 */
export function planRuns(records: readonly RecordPlace[]): ReadRun[] {
  const runs: ReadRun[] = [];
  let first = 0;
  while (first < records.length) {
    const segment = segmentOf(records[first]!.place);
    const offset = offsetOf(records[first]!.place);
    let length = recordBytes(records[first]!.storedBytes);
    let end = first + 1;
    for (; end < records.length; end++) {
      const { place, storedBytes } = records[end]!;
      const from = offsetOf(place) - offset;
      const to = from + recordBytes(storedBytes);
      if (segmentOf(place) !== segment || from > length + READ_GAP_BYTES_MAX || to > READ_RUN_BYTES_MAX)
        break;
      length = Math.max(length, to);
    }
    runs.push({ segment, offset, length, first, end });
    first = end;
  }
  return runs;
}

/** The stored body of a record in what was read for its run; shorter than it should be when the segment is cut off. */
export function bodyInRun<Bytes extends Uint8Array>(bytes: Bytes, run: ReadRun, record: RecordPlace): Bytes {
  const start = bodyAt(run, record.place);
  return bytes.subarray(start, start + record.storedBytes) as Bytes;
}

/** Where the body of the record at a place begins in its run. */
export function bodyAt(run: ReadRun, place: number): number {
  return offsetOf(place) - run.offset + RECORD_HEADER_BYTES;
}
