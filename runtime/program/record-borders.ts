/**
 * Which records belong to a split. A record that straddles a border belongs to the split it starts in, so a split's
 * records begin at the first start at or after its own start, and end where the first record at or after its end
 * begins: each record falls to exactly one split, whatever the borders are.
 *
 *          start                       end
 *   ───────┼───────────────────────────┼──────────────── input
 *   ──┐ ┌──┼──┐ ┌───────┐ ┌────────┐ ┌─┼───────┐ ┌──────
 *     └─┘  │  └─┘       └─┘        └─┘ │       └─┘       records
 *              ╰──────── records of the split ─╯╌╌╌╌╯
 *                                                tail: what the last ones overlap
 *
 * Only the bytes around the borders are read. The rows of a CSV cannot be found so: their ranges were settled before, by
 * scanning (csv-rows.ts), and are whole.
 */
import { JobError, JobErrorCode } from "../errors.ts";
import { BORDER_STEP_BYTES, RECORD_BYTES_MAX } from "../limits.ts";
import { CSV_START, CsvRows, namedSeparator } from "./csv-rows.ts";
import type { CsvSpec } from "./csv-rows.ts";
import { bordersOf, decodedAs } from "./readers.ts";
import type { Borders, ReaderSpec, TextEncoding } from "./readers.ts";

/** Bytes `start` to `end` of an input of `total` bytes. */
export interface Split {
  readonly start: number;
  readonly end: number;
  readonly total: number;
  /** The range is whole records: nothing is looked for around its ends. Otherwise that of a CSV begins with a row. */
  readonly whole: boolean;
}

export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** Bytes of the input, all of them within it. The result may be a view; it is not kept. */
export type ReadBytes = (start: number, end: number) => Promise<Uint8Array>;

/** Where a split's records are. An empty range where it has none. */
export interface SplitRecords extends ByteRange {
  /** The beginning of the file as far as rows need it: the line that names the separator, and the header. May be empty. */
  readonly prefix: ByteRange;
  /** Bytes behind `end` that the last records overlap. */
  readonly tailBytes: number;
}

export interface BorderLimits {
  readonly stepBytes: number;
  readonly recordBytesMax: number;
}

const LIMITS: BorderLimits = { stepBytes: BORDER_STEP_BYTES, recordBytesMax: RECORD_BYTES_MAX };

const NOWHERE: ByteRange = { start: 0, end: 0 };

/** Byte order marks, the encoding that each stands for first. */
const MARKS: readonly (readonly [TextEncoding, readonly number[]])[] = [
  ["utf-8", [0xef, 0xbb, 0xbf]],
  ["utf-16le", [0xff, 0xfe]],
  ["utf-16be", [0xfe, 0xff]],
];
/** What people take for text, by its first bytes. */
const MAGIC: readonly (readonly [string, readonly number[]])[] = [
  ["gzip", [0x1f, 0x8b, 0x08]],
  ["zip (or what is one, such as .xlsx)", [0x50, 0x4b, 0x03, 0x04]],
  ["zip", [0x50, 0x4b, 0x05, 0x06]],
  ["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ["bzip2", [0x42, 0x5a, 0x68, 0x39, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59]],
];
const HEAD_BYTES = 32;
const CHARACTER_BYTES_MAX = 4;

/**
 * The records that start in `split`. Rejects with PFS_RECORD_INVALID {at} when the file is not text though the reader takes
 * text, or a header that a split has before its rows is longer than RECORD_BYTES_MAX; and with whatever `read` rejects
 * with. A record that is too long, or a row of `columns` that the input's end cuts off, is told by the guest, behind
 * what is wrong with those before it: of the one it gets more than RECORD_BYTES_MAX bytes, of the other what there is.
 */
export async function recordsOfSplit(
  reader: ReaderSpec,
  split: Split,
  read: ReadBytes,
  limits: BorderLimits = LIMITS,
): Promise<SplitRecords> {
  const placed = placedRecords(reader, split);
  if (placed !== undefined) return placed;
  const { total } = split;
  const borders = bordersOf(reader);
  switch (borders.by) {
    case "split":
    case "size":
      throw new Error("these records are where the split says");
    case "separator": {
      const isText = decodedAs(reader) !== undefined;
      const textStart = await textStartOf(borders.encoding, isText, total, read);
      return new Separators(borders, textStart, split, read, limits).records();
    }
    case "rows":
      return csvRecords(borders.csv, split, read, limits);
  }
}

/** The same where nothing has to be read for it; undefined where records are looked for. No prefix is needed then. */
export function placedRecords(reader: ReaderSpec, split: Split): SplitRecords | undefined {
  const { start, end, total } = split;
  if (!(start >= 0 && start <= end && end <= total)) throw new Error("a split lies within its input");
  if (start === end) return emptyAt(start);
  const borders = bordersOf(reader);
  if (borders.by === "split") return { start, end, prefix: NOWHERE, tailBytes: 0 };
  return borders.by === "size" ? rowsOfSize(borders, split) : undefined;
}

/** What of a split is to be scanned for rows (csv-rows.ts), the line that names the separator before it. */
export async function scannedRange(
  csv: CsvSpec,
  { start, end, total }: Split,
  read: ReadBytes,
): Promise<SplitRecords> {
  const head = await csvHead(csv, total, read);
  // Characters of two bytes belong to the split that they begin in.
  const unit = isWide(csv.encoding) ? 2 : 1;
  const up = (at: number): number => Math.min(total - (total % unit), roundUp(at, unit));
  const from = Math.max(up(start), head.rowsStart);
  return { start: from, end: Math.max(from, up(end)), prefix: head.separatorLine, tailBytes: 0 };
}

function rowsOfSize(
  { size, overlapBytes }: Borders & { by: "size" },
  { start, end, total }: Split,
): SplitRecords {
  const first = roundUp(start, size);
  const behind = roundUp(end, size);
  if (first >= end) return emptyAt(start);
  const stop = Math.min(behind, total);
  return { start: first, end: stop, prefix: NOWHERE, tailBytes: Math.min(overlapBytes, total - stop) };
}

/**
 * Borders behind separators. Whether one stands anywhere is seen there alone: separators that overlap one another are one,
 * and those of characters of two bytes stand at even bytes of the file.
 */
class Separators {
  readonly #separator: Uint8Array;
  readonly #unit: number;
  readonly #overlapsItself: boolean;
  readonly #overlapBytes: number;
  readonly #textStart: number;
  readonly #split: Split;
  readonly #read: ReadBytes;
  readonly #limits: BorderLimits;

  constructor(
    { separator, encoding, overlapBytes }: Borders & { by: "separator" },
    textStart: number,
    split: Split,
    read: ReadBytes,
    limits: BorderLimits,
  ) {
    this.#separator = separator;
    this.#unit = isWide(encoding) ? 2 : 1;
    this.#overlapBytes = overlapBytes;
    this.#textStart = textStart;
    this.#split = split;
    this.#read = read;
    this.#limits = limits;
    this.#overlapsItself = Array.from(separator.keys()).some(
      (shift) => shift > 0 && separator.subarray(shift).every((byte, index) => byte === separator[index]),
    );
  }

  async records(): Promise<SplitRecords> {
    const { start, end, total, whole } = this.#split;
    const first =
      whole || start <= this.#textStart
        ? Math.max(start, this.#textStart)
        : await this.#border(start, end - 1);
    if (first === undefined || first >= end) return emptyAt(start);
    // A record that ends behind this is too long, and
    const limit = end - 1 + this.#limits.recordBytesMax;
    const found = whole || end >= total ? end : await this.#border(end, Math.min(total, limit));
    // so much of it shows that, also where separators that overlap one another go on from there.
    const shown = roundUp(limit + this.#separator.byteLength + CHARACTER_BYTES_MAX, this.#unit);
    const behind = found ?? Math.min(total, shown);
    const tailBytes = found === undefined ? 0 : Math.min(this.#overlapBytes, total - behind);
    return { start: first, end: behind, prefix: NOWHERE, tailBytes };
  }

  /** The first border at or behind `from`, `to` at the latest. */
  async #border(from: number, to: number): Promise<number | undefined> {
    const length = this.#separator.byteLength;
    let border: number | undefined;
    let at = Math.max(this.#textStart, from - length);
    const step = Math.max(this.#limits.stepBytes, 2 * length);
    while (at + length <= to) {
      const bytes = await this.#read(at, Math.min(to, at + step));
      for (let index = this.#find(bytes, 0, at); index >= 0; index = this.#find(bytes, index + 1, at)) {
        // A separator that begins within the one before it moves the border on.
        if (border !== undefined && at + index >= border) return border;
        border = at + index + length;
        if (!this.#overlapsItself) return border;
      }
      const next = at + bytes.byteLength - length + 1;
      if (border !== undefined && next >= border) return border;
      at = next;
    }
    if (border === undefined || !this.#overlapsItself) return border;
    // One that begins before the border and ends behind what was looked at moves it out of reach.
    const begin = Math.max(at, border - length + 1);
    const bytes = await this.#read(begin, Math.min(this.#split.total, border + length - 1));
    return this.#find(bytes, 0, begin) >= 0 ? undefined : border;
  }

  #find(bytes: Uint8Array, from: number, at: number): number {
    const separator = this.#separator;
    const first = separator[0]!;
    for (let index = bytes.indexOf(first, from); index >= 0; index = bytes.indexOf(first, index + 1)) {
      if (index + separator.byteLength > bytes.byteLength) return -1;
      if (this.#unit === 2 && (at + index) % 2 === 1) continue;
      let same = 1;
      while (same < separator.byteLength && bytes[index + same] === separator[same]) same++;
      if (same === separator.byteLength) return index;
    }
    return -1;
  }
}

/** The beginning of a CSV. */
interface CsvHead {
  /** The first line, with the byte order mark, where it names the separator. */
  readonly separatorLine: ByteRange;
  readonly rowsStart: number;
  readonly rows: CsvRows;
}

async function csvHead(csv: CsvSpec, total: number, read: ReadBytes): Promise<CsvHead> {
  const { encoding = "utf-8" } = csv;
  const textStart = await textStartOf(encoding, true, total, read);
  const bytes = await read(0, Math.min(total, HEAD_BYTES));
  const rows = new CsvRows({ kind: "csv", separator: csv.separator, header: false, encoding, quote: "" });
  // Up to the second row, there is but one line.
  const second = rows.read(bytes.subarray(textStart), CSV_START, 1).first;
  const end = second < 0 ? bytes.byteLength : textStart + second;
  const separator =
    second < 0 && total > bytes.byteLength ? undefined : namedSeparator(csv, bytes.subarray(0, end));
  if (separator === undefined)
    return { separatorLine: NOWHERE, rowsStart: textStart, rows: new CsvRows(csv) };
  return { separatorLine: { start: 0, end }, rowsStart: end, rows: new CsvRows(csv, separator) };
}

async function csvRecords(
  csv: CsvSpec,
  { start, end, total, whole }: Split,
  read: ReadBytes,
  limits: BorderLimits,
): Promise<SplitRecords> {
  const { separatorLine, rowsStart, rows } = await csvHead(csv, total, read);
  const first = Math.max(start, rowsStart);
  if (first >= end) return emptyAt(start);
  const behind = whole || end >= total ? end : await rowBehind(rows, first, end, total, read, limits);
  let prefix = separatorLine;
  if (csv.header && first > rowsStart) {
    const headerEnd = await headerEndOf(csv, rows, { start: rowsStart, end: first }, total, read, limits);
    if (headerEnd !== undefined) prefix = { start: 0, end: headerEnd };
  }
  return { start: first, end: behind, prefix, tailBytes: 0 };
}

/**
 * The first row at or behind `end`, found from the row at `first` on. Where that one is further off than a row before it may
 * be long, it is enough of that row to show it.
 */
async function rowBehind(
  rows: CsvRows,
  first: number,
  end: number,
  total: number,
  read: ReadBytes,
  limits: BorderLimits,
): Promise<number> {
  let state = CSV_START;
  // That a row begins is seen in its first character.
  const limit = Math.min(total, roundUp(end - 1 + limits.recordBytesMax, 2) + 2);
  for (let at = first; at < limit;) {
    const bytes = await read(at, Math.min(limit, at + evenStep(limits)));
    const step = rows.read(bytes, state, Math.max(0, end - at));
    if (step.first >= 0) return at + step.first;
    state = step.end;
    at += bytes.byteLength;
  }
  return Math.min(total, limit + CHARACTER_BYTES_MAX);
}

/**
 * Behind the first row that is neither empty nor a comment; undefined where none begins in `before`, the rows before those
 * that are asked for.
 */
async function headerEndOf(
  csv: CsvSpec,
  rows: CsvRows,
  before: ByteRange,
  total: number,
  read: ReadBytes,
  limits: BorderLimits,
): Promise<number | undefined> {
  for (let { start } = before; start < before.end;) {
    const end = await rowBehind(rows, start, start + 1, total, read, limits);
    if (end - start > limits.recordBytesMax) throw rowTooLong(start, limits);
    const beginning = await read(start, Math.min(end, start + 2));
    const [low, high] =
      csv.encoding === "utf-16be" ? [beginning[1], beginning[0]] : [beginning[0], beginning[1]];
    const unit = isWide(csv.encoding) && high !== 0 ? -1 : low;
    if (unit !== 0x0a && unit !== 0x0d && unit !== csv.comment?.charCodeAt(0)) return end;
    start = end;
  }
  return undefined;
}

/** Where text begins: behind its byte order mark. Rejects what is no text of this encoding by its first bytes. */
async function textStartOf(
  encoding: TextEncoding | undefined,
  isText: boolean,
  total: number,
  read: ReadBytes,
): Promise<number> {
  if (encoding === undefined) return 0;
  const head = await read(0, Math.min(total, HEAD_BYTES));
  const begins = (bytes: readonly number[]): boolean => bytes.every((byte, index) => head[index] === byte);
  const mark = MARKS.find(([, bytes]) => begins(bytes));
  if (mark !== undefined && mark[0] === encoding) return mark[1].length;
  if (!isText) return 0;
  if (mark !== undefined)
    throw notText(`this is ${mark[0]} text, read as ${encoding}: say encoding: "${mark[0]}"`);
  const magic = MAGIC.find(([, bytes]) => begins(bytes));
  if (magic !== undefined) throw notText(`this is ${magic[0]}, not text: decompress it first`);
  return 0;
}

function notText(reason: string): JobError {
  return new JobError(JobErrorCode.invalidRecord, reason, { at: 0 });
}

/** The guest says it in the same words, in the split that the row stands in. */
function rowTooLong(at: number, { recordBytesMax }: BorderLimits): JobError {
  return new JobError(
    JobErrorCode.invalidRecord,
    `a record has more than RECORD_BYTES_MAX = ${recordBytesMax} bytes (is a quoted field not closed?)`,
    { at },
  );
}

function emptyAt(start: number): SplitRecords {
  return { start, end: start, prefix: NOWHERE, tailBytes: 0 };
}

function isWide(encoding: TextEncoding | undefined): boolean {
  return encoding === "utf-16le" || encoding === "utf-16be";
}

/** Whole units of text. */
function evenStep({ stepBytes }: BorderLimits): number {
  return roundUp(stepBytes, 2);
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
