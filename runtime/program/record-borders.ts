/**
 * Which records belong to a split. A record that straddles a border belongs to the split it starts in, so a split's
 * records begin at the first start at or after its own start, and end where the first record at or after its end
 * begins: each record falls to exactly one split, whatever the borders are.
 *
 *          start                       end
 *   ───────┼───────────────────────────┼──────────────── input
 *   ──┐ ┌──┼──┐ ┌───────┐ ┌────────┐ ┌─┼───────┐ ┌──────
 *     └─┘  │  └─┘       └─┘        └─┘ │       └─┘       records
 *              ╰──────── records of the split ─╯
 *
 * Only the bytes around the borders are read, except in CSV, where all of a split's quotes count.
 */
import { JobError, JobErrorCode } from "../errors.ts";
import { BORDER_STEP_BYTES, QUOTE_STEP_BYTES, RECORD_BYTES_MAX } from "../limits.ts";
import { hasOddQuotes } from "./quote-parity.ts";
import { rowBytes } from "./readers.ts";
import type { ReaderSpec } from "./readers.ts";

/** Bytes `start` to `end` of an input of `total` bytes. */
export interface Split {
  readonly start: number;
  readonly end: number;
  readonly total: number;
  /** The split begins inside a quoted CSV field. */
  readonly quoted: boolean;
}

export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** Bytes of the input, all of them within it. The result may be a view; it is not kept. */
export type ReadBytes = (start: number, end: number) => Promise<Uint8Array>;

/** Where a split's records are. An empty range where it has none. */
export interface SplitRecords extends ByteRange {
  /** The header record of a CSV, for splits that begin behind it; empty otherwise. */
  readonly header: ByteRange;
}

export interface BorderLimits {
  readonly stepBytes: number;
  readonly quoteStepBytes: number;
  readonly recordBytesMax: number;
}

const LIMITS: BorderLimits = {
  stepBytes: BORDER_STEP_BYTES,
  quoteStepBytes: QUOTE_STEP_BYTES,
  recordBytesMax: RECORD_BYTES_MAX,
};

const LF = 0x0a;
const CR = 0x0d;
const QUOTE = 0x22;
const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf] as const;
const NOWHERE: ByteRange = { start: 0, end: 0 };

/**
 * The records that start in `split`. Rejects with PFS_RECORD_INVALID {at} when one of them reaches more than
 * RECORD_BYTES_MAX beyond it or a row of fixed size is cut off by the input's end; and with whatever `read` rejects with.
 */
export async function recordsOfSplit(
  reader: ReaderSpec,
  split: Split,
  read: ReadBytes,
  limits: BorderLimits = LIMITS,
): Promise<SplitRecords> {
  const { start, end, total } = split;
  if (!(start >= 0 && start <= end && end <= total)) throw new Error("a split lies within its input");
  if (start === end) return { start, end: start, header: NOWHERE };
  switch (reader.kind) {
    case "bytes":
      return reader.size === undefined ? { start, end, header: NOWHERE } : rowsOfSplit(reader.size, split);
    case "columns":
      return rowsOfSplit(rowBytes(reader), split);
    case "blocks":
    case "lines":
    case "json-lines":
      return new TextBorders(split, read, limits, false).records(false);
    case "csv":
      return new TextBorders(split, read, limits, true).records(reader.header);
  }
}

function rowsOfSplit(size: number, { start, end, total }: Split): SplitRecords {
  const first = Math.ceil(start / size) * size;
  const behind = Math.ceil(end / size) * size;
  if (first >= end) return { start, end: start, header: NOWHERE };
  if (behind > total) {
    const at = behind - size;
    throw new JobError(
      JobErrorCode.invalidRecord,
      `the input ends ${total - at} bytes into a row of ${size} bytes, which begins at byte ${at}`,
      { at },
    );
  }
  return { start: first, end: behind, header: NOWHERE };
}

/** Borders of records that end with an LF; where `csv`, with one outside of quotes. A CR alone delimits nothing. */
class TextBorders {
  readonly #split: Split;
  readonly #read: ReadBytes;
  readonly #limits: BorderLimits;
  readonly #csv: boolean;
  /** Whether the byte that is looked at next is quoted. Stays false unless `csv`. */
  #quoted = false;

  constructor(split: Split, read: ReadBytes, limits: BorderLimits, csv: boolean) {
    this.#split = split;
    this.#read = read;
    this.#limits = limits;
    this.#csv = csv;
  }

  async records(withHeader: boolean): Promise<SplitRecords> {
    const { start, end, total, quoted } = this.#split;
    const textStart = await this.#textStart(withHeader);
    this.#quoted = this.#csv && quoted;
    // An LF just before the split, or anywhere in it but at its very end, has a record of this split behind it.
    const first = start <= textStart ? textStart : await this.#behindDelimiter(start - 1, end - 1, start);
    if (first === undefined || first >= end) return { start, end: start, header: NOWHERE };
    if (this.#csv) await this.#countQuotes(first, end - 1);
    const limit = end + this.#limits.recordBytesMax;
    const behind = await this.#behindDelimiter(end - 1, Math.min(total, limit));
    if (behind === undefined && limit < total) throw this.#tooLong(end);
    const records = { start: first, end: behind ?? total };
    const header = withHeader && first > textStart ? await this.#header(textStart) : NOWHERE;
    // Empty lines may stand before the header, and this split begin in them.
    return { ...records, header: header.end <= first ? header : NOWHERE };
  }

  /** Where the first record begins: behind the byte order mark, if there is one. */
  async #textStart(withHeader: boolean): Promise<number> {
    const { start, total } = this.#split;
    const markBytes = BYTE_ORDER_MARK.length;
    // Behind the mark it makes no difference, but to the header.
    if (total < markBytes || (start > markBytes && !withHeader)) return 0;
    const head = await this.#read(0, markBytes);
    return BYTE_ORDER_MARK.every((byte, index) => head[index] === byte) ? markBytes : 0;
  }

  /** The first record that is no empty line, and the empty lines before it. */
  async #header(textStart: number): Promise<ByteRange> {
    this.#quoted = false;
    const { total } = this.#split;
    const limit = Math.min(total, textStart + this.#limits.recordBytesMax);
    for (let start = textStart; ;) {
      const end = await this.#behindDelimiter(start, limit);
      if (end === undefined && limit < total) throw this.#tooLong(textStart);
      if (end === undefined) return { start: textStart, end: total };
      const line = end - start <= 2 ? await this.#read(start, end) : undefined;
      const isEmpty = line !== undefined && (line.byteLength === 1 || line[0] === CR);
      if (!isEmpty) return { start: textStart, end };
      start = end;
    }
  }

  /**
   * The first position behind a delimiter that stands in `from` to `to`, or undefined. Moves the quote state along,
   * which is the one at `known`: quotes before that change nothing.
   */
  async #behindDelimiter(from: number, to: number, known = from): Promise<number | undefined> {
    for (let at = from; at < to; at += this.#limits.stepBytes) {
      const bytes = await this.#read(at, Math.min(to, at + this.#limits.stepBytes));
      const index = this.#csv ? this.#unquotedLf(bytes, known - at) : bytes.indexOf(LF);
      if (index >= 0) return at + index + 1;
    }
    return undefined;
  }

  #unquotedLf(bytes: Uint8Array, known: number): number {
    for (let index = 0; index < bytes.byteLength; index++) {
      const byte = bytes[index];
      if (byte === QUOTE && index >= known) this.#quoted = !this.#quoted;
      else if (byte === LF && !this.#quoted) return index;
    }
    return -1;
  }

  async #countQuotes(from: number, to: number): Promise<void> {
    for (let at = from; at < to; at += this.#limits.quoteStepBytes) {
      const bytes = await this.#read(at, Math.min(to, at + this.#limits.quoteStepBytes));
      if (hasOddQuotes(bytes)) this.#quoted = !this.#quoted;
    }
  }

  #tooLong(at: number): JobError {
    const { recordBytesMax } = this.#limits;
    return new JobError(
      JobErrorCode.invalidRecord,
      `a record reaches more than ${recordBytesMax} bytes beyond byte ${at}`,
      { at },
    );
  }
}
