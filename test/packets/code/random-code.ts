/** Random packet code and files, from a seed: programs of every kind, mostly valid ones. */
import { ColumnType, isFloat, readValue, valueBytes } from "../../../packets/code/column-type.ts";
import { Aggregate, Filter, Records, encodeCode } from "../../../packets/code/format.ts";
import type { CodeFields } from "../../../packets/code/format.ts";

export type Random = (below: number) => number;

/** Numbers from 0 to `below` − 1 (Mulberry32). */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

const TYPES = Object.values(ColumnType);

/** Bytes of a few values, so that what is looked for is found. */
export function randomBytes(random: Random, length: number, values: number = 4): Uint8Array {
  const base = random(2) === 0 ? 0 : 10;
  return Uint8Array.from({ length }, () => (random(16) === 0 ? random(256) : base + random(values)));
}

/** The 32 bytes of a program. */
export function randomCode(random: Random): Uint8Array {
  for (;;) {
    try {
      return encodeCode(random(2) === 0 ? randomRows(random) : randomLines(random));
    } catch {
      // Ranges that overlap, a separator that overlaps itself: another one.
    }
  }
}

function randomRows(random: Random): CodeFields {
  const rowBytes = [1, 1, 1, 2, 3, 4, 8, 12, 24, 40][random(10)]!;
  const columnIn = (types: readonly ColumnType[]): { type: ColumnType; offset: number } => {
    const fitting = types.filter((type) => valueBytes(type) <= rowBytes);
    const type = fitting[random(fitting.length)]!;
    return { type, offset: random(rowBytes - valueBytes(type) + 1) };
  };
  const filter = [Filter.ALL, Filter.IN, Filter.AT][random(3)]!;
  const aggregates = Object.values(Aggregate).filter(
    (each) => each !== Aggregate.CRC32 || (rowBytes === 1 && filter === Filter.ALL),
  );
  const aggregate = aggregates[random(aggregates.length)]!;
  const isByteWise = aggregate === Aggregate.HISTOGRAM || aggregate === Aggregate.CRC32;
  const types = isByteWise
    ? [ColumnType.u8]
    : TYPES.filter((type) => aggregate !== Aggregate.XOR || !isFloat(type));
  const fields: CodeFields = { records: Records.ROWS, rowBytes, aggregate, filter };
  const column = aggregate === Aggregate.COUNT ? {} : columnIn(types);
  if (filter === Filter.AT) {
    const needle = randomBytes(random, 1 + random(random(2) === 0 ? 3 : 20), 2);
    return { ...fields, ...column, needle, filterOffset: random(rowBytes), isNot: random(3) === 0 };
  }
  if (filter === Filter.ALL) return { ...fields, ...column };
  const { type: filterType, offset: filterOffset } = columnIn(TYPES);
  return { ...fields, ...column, filterType, filterOffset, ...randomRanges(random, filterType) };
}

function randomLines(random: Random): CodeFields {
  const separator = randomBytes(random, 1 + random(4), 3);
  const filter = [Filter.ALL, Filter.IN, Filter.CONTAINS, Filter.BEGINS, Filter.ENDS][random(5)]!;
  const aggregates = [
    Aggregate.COUNT,
    Aggregate.SUM,
    Aggregate.MIN,
    Aggregate.MAX,
    Aggregate.MEAN,
    Aggregate.XOR,
  ];
  const aggregate = aggregates[random(aggregates.length)]!;
  const type = aggregate === Aggregate.COUNT ? {} : { type: ColumnType.u32 };
  const fields: CodeFields = { records: Records.LINES, separator, aggregate, filter, ...type };
  if (filter === Filter.ALL) return fields;
  if (filter === Filter.IN)
    return { ...fields, filterType: ColumnType.u32, ranges: [{ low: random(4), high: 3 + random(8) }] };
  return { ...fields, needle: randomBytes(random, 1 + random(3), 2), isNot: random(3) === 0 };
}

function randomRanges(random: Random, type: ColumnType): Partial<CodeFields> {
  const size = valueBytes(type);
  const count = 1 + random(Math.floor(20 / (2 * size)));
  const values = Array.from({ length: 2 * count }, () => readValue(randomBytes(random, size), 0, type));
  const ends = values
    .map((value) => (value === 0 ? 0 : value))
    .toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  const ranges = Array.from({ length: count }, (_, index) => ({
    low: ends[2 * index]!,
    high: ends[2 * index + 1]!,
  }));
  return { ranges, isNot: random(3) === 0 };
}
