/** What becomes of the splits of a file on their way to the reader: their scan, their borders, and the bytes they get. */
import { PacketfsError } from "../../../packets/errors.ts";
import { RECORD_BYTES_MAX } from "../../../runtime/limits.ts";
import {
  CsvRows,
  decodeScan,
  encodeScan,
  namedSeparator,
  rowRanges,
} from "../../../runtime/program/csv-rows.ts";
import { recordsOfSplit, scannedRange } from "../../../runtime/program/record-borders.ts";
import type { BorderLimits, ReadBytes } from "../../../runtime/program/record-borders.ts";
import type { ReaderSpec } from "../../../runtime/program/readers.ts";

/** Where splits end. The last one ends with the input. */
export type Plan = readonly number[];

export interface SplitInput {
  readonly bytes: Uint8Array;
  readonly place: number;
  readonly prefix: number;
  readonly tail: number;
}

/** What the packet of each split gets, or why there is none. */
export async function packetsOf(
  spec: ReaderSpec,
  input: Uint8Array,
  ends: Plan,
  limits?: BorderLimits,
): Promise<(SplitInput | PacketfsError)[]> {
  const total = input.byteLength;
  const read: ReadBytes = async (start, end) => input.subarray(start, end);
  const splits = ends.map((end, index) => ({
    start: index === 0 ? 0 : ends[index - 1]!,
    end,
    total,
    whole: false,
  }));
  let ranges = splits;
  if (spec.kind === "csv" && splits.length > 1) {
    const scans = await Promise.all(
      splits.map(async (split) => {
        const { start, end, prefix } = await scannedRange(spec, split, read);
        const rows = new CsvRows(spec, namedSeparator(spec, input.subarray(prefix.start, prefix.end)));
        const scanner = rows.scan(start - split.start);
        // In pieces, as nobody promises one.
        const middle = start + 2 * Math.floor((end - start) / 4);
        scanner.push(input.subarray(start, middle));
        scanner.push(input.subarray(middle, end));
        return decodeScan(encodeScan(scanner.result()), split.end - split.start)!;
      }),
    );
    const rows = rowRanges(scans, ends, limits?.recordBytesMax ?? RECORD_BYTES_MAX);
    ranges = rows.map(({ from, length, whole }) => ({ start: from, end: from + length, total, whole }));
  }
  return Promise.all(
    ranges.map(async (range) => {
      try {
        const { start, end, prefix, tailBytes } = await recordsOfSplit(spec, range, read, limits);
        const before = input.subarray(prefix.start, prefix.end);
        const bytes = Buffer.concat([before, input.subarray(start, end + tailBytes)]);
        return { bytes, place: start, prefix: before.byteLength, tail: tailBytes };
      } catch (error) {
        if (error instanceof PacketfsError) return error;
        throw error;
      }
    }),
  );
}
