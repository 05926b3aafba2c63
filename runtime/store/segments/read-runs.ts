/** Which records are read with one call: neighbours in a segment, as they were written together. */
import { READ_GAP_BYTES_MAX, READ_RUN_BYTES_MAX } from "../../limits.ts";
import { RECORD_HEADER_BYTES, offsetOf, recordBytes, segmentOf } from "./segment-format.ts";

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

/** `records` in the order of their places; the same one may stand there more than once. */
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
export function bodyInRun(
  bytes: Buffer<ArrayBuffer>,
  run: ReadRun,
  record: RecordPlace,
): Buffer<ArrayBuffer> {
  const start = offsetOf(record.place) - run.offset + RECORD_HEADER_BYTES;
  return bytes.subarray(start, start + record.storedBytes);
}
