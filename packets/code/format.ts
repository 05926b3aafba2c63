/**
 * The 32 bytes of a packet-code program: records of the input, those of them that a filter passes, and what they are
 * aggregated to. Numbers, offsets and names stand here and nowhere else; section 12 of SPEC.md is this file in prose.
 *
 *   bytes ──▶ records ──▶ filter ──▶ aggregate ──▶ state ──▶ merged along the job's tree ──▶ value
 *
 * There are no jumps and no loops but that over the records, so what a program costs per byte follows from its bytes.
 */
import { PacketError, PacketErrorCode } from "../errors.ts";
import { CODE_SEPARATOR_BYTES_MAX } from "../limits.ts";
import { ColumnType, isFloat, readValue, valueBytes, writeValue } from "./column-type.ts";
import type { ValueRange } from "./column-type.ts";

export const CODE_BYTES = 32;
export const CODE_VERSION = 1;
/** All that answers depend on beside the 32 bytes and the input. */
export const CODE_EDITION: string = `packet-code-${CODE_VERSION}`;

export const CodeOffset = {
  version: 0,
  records: 1,
  filter: 2,
  aggregate: 3,
  types: 4,
  count: 5,
  size: 6,
  column: 8,
  filterColumn: 10,
  operand: 12,
} as const;

/** How bytes become records: the low four bits of `records`. */
export const Records = { ROWS: 1, LINES: 2 } as const;
export type Records = (typeof Records)[keyof typeof Records];

/** What a lane does with its input: the high four bits of `records`. */
export const Stage = { MAP: 0, MERGE: 1, FINISH: 2 } as const;
export type Stage = (typeof Stage)[keyof typeof Stage];

/** Which records count: `filter` without the bit NOT. */
export const Filter = { ALL: 0, IN: 1, AT: 2, CONTAINS: 3, BEGINS: 4, ENDS: 5 } as const;
export type Filter = (typeof Filter)[keyof typeof Filter];
/** The bit of `filter` that passes what would not pass. */
export const FILTER_NOT = 0x80;

export const Aggregate = {
  COUNT: 1,
  SUM: 2,
  MIN: 3,
  MAX: 4,
  MEAN: 5,
  XOR: 6,
  HISTOGRAM: 7,
  CRC32: 8,
} as const;
export type Aggregate = (typeof Aggregate)[keyof typeof Aggregate];

const NAMES = {
  records: nameTable(Records),
  filter: nameTable(Filter),
  aggregate: nameTable(Aggregate),
  type: nameTable(ColumnType),
};
const OPERAND_BYTES = CODE_BYTES - CodeOffset.operand;

/** A program as its fields say it. What does not apply is left out. */
export interface Code {
  readonly stage: Stage;
  readonly records: Records;
  /** Bytes of a row, of ROWS. */
  readonly rowBytes: number;
  /** What ends a line, of LINES. */
  readonly separator: Uint8Array;
  readonly filter: Filter;
  readonly isNot: boolean;
  /** The column that IN looks at; of LINES it is the line's length. */
  readonly filterType: ColumnType | 0;
  /** Where that column, or what AT looks for, stands in a row. */
  readonly filterOffset: number;
  /** Of IN: ascending, apart from each other. */
  readonly ranges: readonly ValueRange[];
  /** Of AT, CONTAINS, BEGINS and ENDS. */
  readonly needle: Uint8Array;
  readonly aggregate: Aggregate;
  /** The column that is aggregated; of LINES it is the line's length. 0 for COUNT. */
  readonly type: ColumnType | 0;
  readonly offset: number;
}

export type CodeFields = Partial<Code> & Pick<Code, "records" | "aggregate">;

/** The fields as 32 bytes. Throws PFS_CODE_INVALID {reason} where they are no program, and what does not fit is none. */
export function encodeCode(fields: CodeFields): Uint8Array {
  const { stage = Stage.MAP, records, filter = Filter.ALL, aggregate, isNot = false } = fields;
  const { rowBytes = 0, separator = NO_BYTES, ranges = [], needle = NO_BYTES } = fields;
  const { type = 0, offset = 0, filterType = 0, filterOffset = 0 } = fields;
  const bytes = new Uint8Array(CODE_BYTES);
  bytes[CodeOffset.version] = CODE_VERSION;
  bytes[CodeOffset.records] = records | (stage << 4);
  bytes[CodeOffset.filter] = filter | (isNot ? FILTER_NOT : 0);
  bytes[CodeOffset.aggregate] = aggregate;
  bytes[CodeOffset.types] = type | (filterType << 4);
  bytes[CodeOffset.count] = filter === Filter.IN ? ranges.length : needle.byteLength;
  if (records === Records.LINES) {
    if (separator.byteLength > CODE_SEPARATOR_BYTES_MAX) throw invalid("the separator has 1 to 4 bytes");
    writeShort(bytes, CodeOffset.size, separator.byteLength);
    bytes.set(separator, CodeOffset.column);
  } else {
    if (!isShort(rowBytes)) throw invalid("a row has 1 to 65535 bytes");
    if (!isShort(offset) || !isShort(filterOffset)) throw invalid("a column stands beyond its row");
    writeShort(bytes, CodeOffset.size, rowBytes);
    writeShort(bytes, CodeOffset.column, offset);
    writeShort(bytes, CodeOffset.filterColumn, filterOffset);
  }
  if (filter === Filter.IN && filterType !== 0) writeRanges(bytes, filterType, ranges);
  else if (needle.byteLength > OPERAND_BYTES) throw invalid("the needle has 1 to 20 bytes");
  else bytes.set(needle, CodeOffset.operand);
  requireCode(bytes);
  return bytes;
}

function writeRanges(bytes: Uint8Array, type: ColumnType, ranges: readonly ValueRange[]): void {
  const size = valueBytes(type);
  if (ranges.length * 2 * size > OPERAND_BYTES) {
    const most = Math.floor(OPERAND_BYTES / (2 * size));
    throw invalid(`there is room for ${most} ranges of ${NAMES.type.get(type)!}`);
  }
  for (const [index, { low, high }] of ranges.entries()) {
    writeValue(bytes, CodeOffset.operand + 2 * index * size, type, low);
    writeValue(bytes, CodeOffset.operand + (2 * index + 1) * size, type, high);
  }
}

/** Reads 32 bytes. Throws PFS_CODE_INVALID {reason}. */
export function decodeCode(bytes: Uint8Array): Code {
  requireCode(bytes);
  return fieldsOf(bytes);
}

/** Throws PFS_CODE_INVALID {reason} for bytes that are no program. */
export function requireCode(bytes: Uint8Array): void {
  const reason = invalidCode(bytes);
  if (reason !== null) throw invalid(reason);
}

/** The same program for another stage of a job: what maps records, merges states, or makes the value of them. */
export function codeFor(code: Uint8Array, stage: Stage): Uint8Array {
  const bytes = Uint8Array.from(code);
  bytes[CodeOffset.records] = (bytes[CodeOffset.records]! & 0x0f) | (stage << 4);
  return bytes;
}

/** Why the bytes are no program, in a few words; null when they are one. */
export function invalidCode(bytes: Uint8Array): string | null {
  if (bytes.byteLength !== CODE_BYTES) return "not 32 bytes";
  if (bytes[CodeOffset.version] !== CODE_VERSION) return "unknown version";
  const code = fieldsOf(bytes);
  const { records, stage, filter, isNot, aggregate, type, filterType } = code;
  if (!NAMES.records.has(records)) return "unknown records";
  if (stage > Stage.FINISH) return "unknown stage";
  if (!NAMES.filter.has(filter)) return "unknown filter";
  if (!NAMES.aggregate.has(aggregate)) return "unknown aggregate";
  if (!NAMES.type.has(type) && type !== 0) return "unknown type";
  if (!NAMES.type.has(filterType) && filterType !== 0) return "unknown type";
  if (filter === Filter.ALL && isNot) return "nothing to negate";
  return (
    (records === Records.ROWS ? invalidRows(code) : invalidLines(bytes, code)) ?? invalidOperand(bytes, code)
  );
}

function invalidRows(code: Code): string | null {
  const { rowBytes, filter, filterType, filterOffset, aggregate, type, offset } = code;
  if (rowBytes === 0) return "a row has 1 to 65535 bytes";
  if (filter > Filter.AT) return "this filter is of lines";
  if (type !== 0 && offset + valueBytes(type) > rowBytes) return "a column stands beyond its row";
  if (filterType !== 0 && filterOffset + valueBytes(filterType) > rowBytes)
    return "a column stands beyond its row";
  if (filter === Filter.AT && filterOffset >= rowBytes) return "a column stands beyond its row";
  if (filter === Filter.ALL && filterOffset !== 0) return "unused field is not zero";
  if (aggregate === Aggregate.CRC32 && (rowBytes !== 1 || filter !== Filter.ALL))
    return "CRC32 takes every byte";
  return null;
}

function invalidLines(bytes: Uint8Array, code: Code): string | null {
  const { separator, filter, filterType, aggregate, type } = code;
  const size = readShort(bytes, CodeOffset.size);
  if (size < 1 || size > CODE_SEPARATOR_BYTES_MAX) return "the separator has 1 to 4 bytes";
  if (!isZero(bytes, CodeOffset.column + size, CodeOffset.operand)) return "unused field is not zero";
  if (overlapsItself(separator)) return "the separator overlaps itself";
  if (filter === Filter.AT) return "this filter is of rows";
  if (type !== 0 && type !== ColumnType.u32) return "a line's length is a u32";
  if (filterType !== 0 && filterType !== ColumnType.u32) return "a line's length is a u32";
  return aggregate === Aggregate.CRC32 ? "CRC32 takes every byte" : null;
}

function invalidOperand(bytes: Uint8Array, code: Code): string | null {
  const { filter, filterType, aggregate, type, offset, ranges } = code;
  const count = bytes[CodeOffset.count]!;
  if ((filter === Filter.IN) !== (filterType !== 0)) return "IN alone looks at a column";
  const isByteWise = aggregate === Aggregate.HISTOGRAM || aggregate === Aggregate.CRC32;
  if ((aggregate === Aggregate.COUNT) !== (type === 0)) return "COUNT alone takes no column";
  if (type === 0 && offset !== 0) return "unused field is not zero";
  if (isByteWise && type !== ColumnType.u8) return "HISTOGRAM and CRC32 take a u8";
  if (aggregate === Aggregate.XOR && isFloat(type)) return "XOR takes integers";
  const used = operandBytes(bytes);
  if (filter === Filter.ALL ? count !== 0 : count === 0 || used > OPERAND_BYTES)
    return "the operand does not fit";
  if (!isZero(bytes, CodeOffset.operand + used, CODE_BYTES)) return "unused field is not zero";
  return filterType === 0 ? null : invalidRanges(filterType, ranges);
}

function invalidRanges(type: ColumnType, ranges: readonly ValueRange[]): string | null {
  let last: number | bigint | undefined;
  for (const { low, high } of ranges) {
    if (!(low <= high)) return "a range ends before it begins";
    if (Object.is(low, -0) || Object.is(high, -0)) return "zero is +0";
    const isApart = last === undefined || (isFloat(type) ? low > last : low > next(last));
    if (!isApart) return "ranges are ascending and apart";
    last = high;
  }
  return null;
}

/** Bytes behind the end of a row that AT looks at. */
export function lookahead({ filter, filterOffset, needle, rowBytes }: Code): number {
  return filter === Filter.AT ? Math.max(0, filterOffset + needle.byteLength - rowBytes) : 0;
}

/**
 * What a program costs, known before it runs: mapping a range takes at most so many steps for each byte that is read, each a
 * comparison or an addition. Read are the range, and what its last record goes on for.
 */
export function codeCost({ filter, ranges, needle }: Code): number {
  const [recordsCost, aggregateCost] = [1, 1];
  switch (filter) {
    case Filter.ALL:
      return recordsCost + aggregateCost;
    case Filter.IN:
      return recordsCost + ranges.length + aggregateCost;
    case Filter.AT:
    case Filter.CONTAINS:
      return recordsCost + needle.byteLength + aggregateCost;
    default:
      // A line that is shorter than what it is to begin or end with is not compared with it.
      return recordsCost + 1 + aggregateCost;
  }
}

function fieldsOf(bytes: Uint8Array): Code {
  const records = (bytes[CodeOffset.records]! & 0x0f) as Records;
  const isRows = records === Records.ROWS;
  const filter = (bytes[CodeOffset.filter]! & ~FILTER_NOT) as Filter;
  const filterType = (bytes[CodeOffset.types]! >> 4) as ColumnType | 0;
  const size = readShort(bytes, CodeOffset.size);
  const count = bytes[CodeOffset.count]!;
  const operand = bytes.slice(CodeOffset.operand);
  const hasRanges =
    filter === Filter.IN && NAMES.type.has(filterType) && operandBytes(bytes) <= OPERAND_BYTES;
  return {
    stage: (bytes[CodeOffset.records]! >> 4) as Stage,
    records,
    rowBytes: isRows ? size : 0,
    separator: isRows
      ? NO_BYTES
      : bytes.slice(CodeOffset.column, CodeOffset.column + Math.min(size, CODE_SEPARATOR_BYTES_MAX)),
    filter,
    isNot: (bytes[CodeOffset.filter]! & FILTER_NOT) !== 0,
    filterType,
    filterOffset: isRows ? readShort(bytes, CodeOffset.filterColumn) : 0,
    ranges: hasRanges
      ? Array.from({ length: count }, (_, index) => rangeAt(bytes, filterType as ColumnType, index))
      : [],
    needle: filter === Filter.IN ? NO_BYTES : operand.subarray(0, count),
    aggregate: bytes[CodeOffset.aggregate] as Aggregate,
    type: (bytes[CodeOffset.types]! & 0x0f) as ColumnType | 0,
    offset: isRows ? readShort(bytes, CodeOffset.column) : 0,
  };
}

function operandBytes(bytes: Uint8Array): number {
  const count = bytes[CodeOffset.count]!;
  const type = bytes[CodeOffset.types]! >> 4;
  return (bytes[CodeOffset.filter]! & ~FILTER_NOT) === Filter.IN
    ? count * 2 * valueBytes(type as ColumnType)
    : count;
}

function rangeAt(bytes: Uint8Array, type: ColumnType, index: number): ValueRange {
  const size = valueBytes(type);
  const at = CodeOffset.operand + 2 * index * size;
  return { low: readValue(bytes, at, type), high: readValue(bytes, at + size, type) };
}

function next(value: number | bigint): number | bigint {
  return typeof value === "bigint" ? value + 1n : value + 1;
}

function overlapsItself(separator: Uint8Array): boolean {
  return Array.from(separator.keys()).some(
    (shift) => shift > 0 && separator.subarray(shift).every((byte, index) => byte === separator[index]),
  );
}

function isZero(bytes: Uint8Array, from: number, to: number): boolean {
  return bytes.subarray(from, to).every((byte) => byte === 0);
}

function isShort(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= 0xffff;
}

function readShort(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

function writeShort(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
}

function nameTable(numbers: Readonly<Record<string, number>>): ReadonlyMap<number, string> {
  return new Map(Object.entries(numbers).map(([name, number]) => [number, name]));
}

export function invalid(reason: string): PacketError {
  return new PacketError(PacketErrorCode.invalidCode, `this is no packet code: ${reason}`, { reason });
}

const NO_BYTES = new Uint8Array(0);
