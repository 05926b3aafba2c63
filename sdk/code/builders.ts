/**
 * Builders of packet code: programs of 32 bytes that run at the speed of memory beside the store, without a sandbox, because
 * there is nothing in them that could do harm. Each says what a record is, which records count, and what they come to:
 *
 *   count("\n")                                          bytes that are a line feed
 *   lines().filter(contains("ERROR")).count()            lines that contain a text
 *   columns({ id: "u32", x: "f64" }).filter("id", ">=", 10).mean("x")
 *
 * Whatever does not fit into 32 bytes throws PFS_CODE_INVALID and says why.
 */
import { ColumnType, valueBytes } from "../../packets/code/column-type.ts";
import type { ColumnTypeName } from "../../packets/code/column-type.ts";
import { Aggregate, Filter, Records, encodeCode, invalid } from "../../packets/code/format.ts";
import type { CodeFields } from "../../packets/code/format.ts";
import type { CodeValue } from "../../packets/code/state.ts";
import { codeText } from "../../packets/code/text.ts";
import { SetRange, ValueSet, bytesOf, comparisonFields, rangesFields, setOf } from "./values.ts";
import type { Column, ColumnOf, Comparison, Integer, Text } from "./values.ts";

/** A program of 32 bytes. What `run` takes in place of a module. */
export class PacketCode<Value extends CodeValue = CodeValue> {
  /** Carries the type of what the program gives; never set. */
  declare readonly value?: Value;
  /** The 32 bytes, as packets/SPEC.md has them. */
  readonly packetCode: Uint8Array;

  constructor(fields: CodeFields) {
    this.packetCode = encodeCode(fields);
  }

  /** The calls that make it. */
  toString(): string {
    return codeText(this.packetCode);
  }
}

/** Something to be found in a line, or at a place of a row. */
export class Pattern {
  readonly filter: Filter;
  readonly bytes: Uint8Array;
  readonly offset: number;
  readonly isNot: boolean;

  constructor(filter: Filter, bytes: Uint8Array, offset: number = 0, isNot: boolean = false) {
    this.filter = filter;
    this.bytes = bytes;
    this.offset = offset;
    this.isNot = isNot;
  }
}

/** Any of these: bytes as numbers, the ASCII characters of strings, ranges; of other columns numbers and ranges. */
export function anyOf(...items: ValueSet["items"]): ValueSet {
  return new ValueSet(items, false);
}

export function range(low: SetRange["low"], high: SetRange["high"]): SetRange {
  return new SetRange(low, high);
}

/** What would not pass. */
export function not<Kind extends ValueSet | Pattern>(of: Kind): Kind {
  if (of instanceof ValueSet) return new ValueSet(of.items, !of.isNot) as Kind;
  if (of instanceof Pattern) return new Pattern(of.filter, of.bytes, of.offset, !of.isNot) as Kind;
  throw invalid("not takes anyOf(…), contains(…), begins(…), ends(…) or at(…)");
}

/** Bytes by their hexadecimal digits. */
export function hex(digits: string): Uint8Array {
  if (!/^([0-9a-f]{2})*$/i.test(digits)) throw invalid("hex takes pairs of hexadecimal digits");
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

/** Lines that contain the text, or bytes. */
export function contains(text: Text): Pattern {
  return new Pattern(Filter.CONTAINS, bytesOf(text));
}

export function begins(text: Text): Pattern {
  return new Pattern(Filter.BEGINS, bytesOf(text));
}

export function ends(text: Text): Pattern {
  return new Pattern(Filter.ENDS, bytesOf(text));
}

/** Rows with the text, or bytes, at a byte of theirs. It may go on behind the row. */
export function at(offset: number, text: Text): Pattern {
  return new Pattern(Filter.AT, bytesOf(text), offset);
}

/** What rows of one byte are. */
const BYTE: Column = { type: ColumnType.u8, offset: 0 };

/** Rows of a fixed size. As a program itself it counts them. */
export class RowsCode extends PacketCode<number> {
  readonly #fields: CodeFields;
  readonly #columnOf: ColumnOf;

  constructor(fields: CodeFields, columnOf: ColumnOf) {
    super(fields);
    this.#fields = fields;
    this.#columnOf = columnOf;
  }

  /** Only rows whose column compares so; or is in a set; or that have a pattern. */
  filter(column: string, comparison: Comparison, value: Integer): RowsCode;
  filter(column: string, set: ValueSet): RowsCode;
  filter(what: Pattern | ValueSet | string): RowsCode;
  filter(what: string | Pattern | ValueSet, how?: Comparison | ValueSet, value?: Integer): RowsCode {
    requireUnfiltered(this.#fields);
    const { rowBytes } = this.#fields;
    if (what instanceof Pattern) return this.#with(patternFields(what));
    if (how === undefined) {
      if (rowBytes !== 1)
        throw invalid("a filter of rows says which column: filter(column, comparison, value)");
      return this.#with(rangesFields(BYTE, setOf(what)));
    }
    if (what instanceof ValueSet) throw invalid("filter(column, set) names the column first");
    return this.#with(
      how instanceof ValueSet
        ? rangesFields(this.#columnOf(what), how)
        : comparisonFields(what, this.#columnOf(what), how, value),
    );
  }

  count(): PacketCode<number> {
    return new PacketCode(this.#fields);
  }

  sum(column?: string): PacketCode<number | bigint> {
    return this.#aggregate(Aggregate.SUM, column);
  }

  min(column?: string): PacketCode<number | bigint | null> {
    return this.#aggregate(Aggregate.MIN, column);
  }

  max(column?: string): PacketCode<number | bigint | null> {
    return this.#aggregate(Aggregate.MAX, column);
  }

  mean(column?: string): PacketCode<number | null> {
    return this.#aggregate(Aggregate.MEAN, column);
  }

  xor(column?: string): PacketCode<number | bigint> {
    return this.#aggregate(Aggregate.XOR, column);
  }

  /** Rows by the value of a column of bytes: 256 counts. */
  histogram(column?: string): PacketCode<number[]> {
    return this.#aggregate(Aggregate.HISTOGRAM, column);
  }

  /** That of zlib, of every byte. */
  crc32(): PacketCode<number> {
    return this.#aggregate(Aggregate.CRC32, undefined);
  }

  #with(fields: Partial<CodeFields>): RowsCode {
    return new RowsCode({ ...this.#fields, ...fields }, this.#columnOf);
  }

  #aggregate<Value extends CodeValue>(aggregate: Aggregate, column: string | undefined): PacketCode<Value> {
    if (column === undefined && this.#fields.rowBytes !== 1) throw invalid("this takes the name of a column");
    const { type, offset } = column === undefined ? BYTE : this.#columnOf(column);
    return new PacketCode<Value>({ ...this.#fields, aggregate, type, offset });
  }
}

/** Lines. As a program itself it counts them; what is aggregated is their length in bytes, without what ends them. */
export class LinesCode extends PacketCode<number> {
  readonly #fields: CodeFields;

  constructor(fields: CodeFields) {
    super(fields);
    this.#fields = fields;
  }

  /** Only lines with a pattern, or whose length compares so: filter("length", ">", 80). */
  filter(what: Pattern): LinesCode;
  filter(column: "length", set: ValueSet): LinesCode;
  filter(column: "length", comparison: Comparison, value: number): LinesCode;
  filter(what: Pattern | string, how?: Comparison | ValueSet, value?: Integer): LinesCode {
    requireUnfiltered(this.#fields);
    if (what instanceof Pattern) return new LinesCode({ ...this.#fields, ...patternFields(what) });
    if (how === undefined) throw invalid("a filter of lines is a pattern, or compares the length");
    const fields =
      how instanceof ValueSet
        ? rangesFields(lengthColumn(what), how)
        : comparisonFields(what, lengthColumn(what), how, value);
    return new LinesCode({ ...this.#fields, ...fields });
  }

  count(): PacketCode<number> {
    return new PacketCode(this.#fields);
  }

  sum(): PacketCode<number | bigint> {
    return this.#aggregate(Aggregate.SUM);
  }

  min(): PacketCode<number | null> {
    return this.#aggregate(Aggregate.MIN);
  }

  max(): PacketCode<number | null> {
    return this.#aggregate(Aggregate.MAX);
  }

  mean(): PacketCode<number | null> {
    return this.#aggregate(Aggregate.MEAN);
  }

  xor(): PacketCode<number> {
    return this.#aggregate(Aggregate.XOR);
  }

  #aggregate<Value extends CodeValue>(aggregate: Aggregate): PacketCode<Value> {
    return new PacketCode<Value>({ ...this.#fields, aggregate, type: ColumnType.u32 });
  }
}

function lengthColumn(name: string): Column {
  if (name !== "length") throw invalid(`lines have one column, "length", and not ${JSON.stringify(name)}`);
  return { type: ColumnType.u32, offset: 0 };
}

/** Every byte is a record. */
export function bytes(): RowsCode {
  return rows(1);
}

/** Rows of so many bytes, whose columns are called by type and place: "u32@4". */
export function rows(rowBytes: number): RowsCode {
  return new RowsCode({ records: Records.ROWS, rowBytes, aggregate: Aggregate.COUNT }, columnAt);
}

/** Rows of columns that stand back to back in this order, little-endian. */
export function columns(types: Readonly<Record<string, ColumnTypeName>>): RowsCode {
  const places = new Map<string, Column>();
  let offset = 0;
  for (const [name, typeName] of Object.entries(types)) {
    const type = typeOf(typeName);
    places.set(name, { type, offset });
    offset += valueBytes(type);
  }
  const columnOf: ColumnOf = (name) => {
    const column = places.get(name);
    if (column !== undefined) return column;
    throw invalid(`there is no column ${JSON.stringify(name)} among ${[...places.keys()].join(", ")}`);
  };
  return new RowsCode({ records: Records.ROWS, rowBytes: offset, aggregate: Aggregate.COUNT }, columnOf);
}

/** Lines: what stands between separators, of 1 to 4 bytes, or else between line feeds. The last one needs none, and behind the last one stands none. */
export function lines(separator?: Text): LinesCode {
  const bytes = bytesOf(separator ?? "\n");
  return new LinesCode({ records: Records.LINES, separator: bytes, aggregate: Aggregate.COUNT });
}

/** How many bytes are this one, or one of these; all of them, if left out. */
export function count(what?: string | number | ValueSet): PacketCode<number> {
  if (what === undefined) return bytes().count();
  const set = typeof what === "number" ? anyOf(what) : what;
  if (typeof set === "string" && bytesOf(set).byteLength !== 1)
    throw invalid(`count takes one byte or anyOf(…); match(${JSON.stringify(set)}) counts a text`);
  return bytes().filter(set).count();
}

/** At how many places these bytes stand; they may overlap. */
export function match(text: Text): PacketCode<number> {
  return bytes().filter(at(0, text)).count();
}

/** How many bytes have each value: 256 counts. */
export function histogram(): PacketCode<number[]> {
  return bytes().histogram();
}

/** That of zlib, of all bytes. */
export function crc32(): PacketCode<number> {
  return bytes().crc32();
}

/** Of a file that is one column of this type. Integers are added exactly. */
export function sum(type: ColumnTypeName): PacketCode<number | bigint> {
  return rowsOf(type).sum(type);
}

export function min(type: ColumnTypeName): PacketCode<number | bigint | null> {
  return rowsOf(type).min(type);
}

export function max(type: ColumnTypeName): PacketCode<number | bigint | null> {
  return rowsOf(type).max(type);
}

export function mean(type: ColumnTypeName): PacketCode<number | null> {
  return rowsOf(type).mean(type);
}

export function xor(type: ColumnTypeName): PacketCode<number | bigint> {
  return rowsOf(type).xor(type);
}

/** Of a file that is one column of this type: filter("f64", ">", 0).mean("f64"). */
export function filter(type: ColumnTypeName, comparison: Comparison, value: Integer): RowsCode {
  return rowsOf(type).filter(type, comparison, value);
}

function rowsOf(type: ColumnTypeName): RowsCode {
  return rows(valueBytes(typeOf(type)));
}

const columnAt: ColumnOf = (column) => {
  const [, name = "", offset = "0"] = /^([a-z]\d+)(?:@(\d+))?$/.exec(column) ?? [];
  if (name === "")
    throw invalid(`${JSON.stringify(column)} is no column: say its type and place, such as "u32@4"`);
  return { type: typeOf(name), offset: Number(offset) };
};

function typeOf(name: string): ColumnType {
  if (Object.hasOwn(ColumnType, name)) return ColumnType[name as ColumnTypeName];
  throw invalid(`${JSON.stringify(name)} is no type: there are ${Object.keys(ColumnType).join(", ")}`);
}

function requireUnfiltered({ filter: present = Filter.ALL }: CodeFields): void {
  if (present !== Filter.ALL) throw invalid("packet code has one filter");
}

function patternFields({ filter: kind, bytes: needle, offset, isNot }: Pattern): Partial<CodeFields> {
  if (needle.byteLength === 0) throw invalid("there is nothing to look for");
  return { filter: kind, needle, isNot, filterOffset: offset };
}
