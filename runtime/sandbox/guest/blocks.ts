/**
 * Blocks: many bytes of a file as one record, which are read when the program looks at them. Kernels take a block for the
 * bytes that it stands for, whatever the program has written into its copy of them.
 */
import type { Freeze } from "./freeze.ts";
import type { Primordials } from "./primordials.ts";
import type { ElementType } from "../../program/kernel/kernel.ts";
import type { ColumnType } from "../../program/readers.ts";

/** Bytes of a packet's input or of a stored file. */
export interface BlockSource {
  /** What the node calls it: a packet by its place in the frame, the n-th stored file by -1 - n. */
  readonly origin: number;
  /** Where it begins there, in bytes, */
  readonly from: number;
  readonly length: number;
  /** and its bytes, if they have come along. Nobody writes to them. */
  readonly staged: Uint8Array<ArrayBuffer> | undefined;
}

/** Anything that is not a matrix has bytes for elements. */
export interface BlockShape {
  readonly type: ElementType;
  readonly rows: number;
  readonly columns: number;
}

export interface Blocks {
  block(source: BlockSource): object;
  matrix(source: BlockSource, type: ElementType, columns: number): object;
  rows(source: BlockSource, fields: readonly { readonly name: string; readonly type: ColumnType }[]): object;
  file(source: BlockSource): object;
  /** What a block stands for; undefined of anything else. */
  sourceOf(value: unknown): BlockSource | undefined;
  shapeOf(value: unknown): BlockShape | undefined;
  /** A copy of its bytes. */
  bytesOf(source: BlockSource): Uint8Array<ArrayBuffer>;
  /** Bytes as elements of a type, in the same memory. */
  elements(type: ElementType, bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer>;
  elementBytes(type: ElementType): number;
  rowBytes(fields: readonly { readonly type: ColumnType }[]): number;
}

export interface BlockTools {
  readonly freeze: Freeze;
  /** Bytes of what did not come along. */
  readonly read: (origin: number, from: number, length: number) => Uint8Array<ArrayBuffer>;
}

export function makeBlocks(p: Primordials, { freeze, read }: BlockTools): Blocks {
  // Programs reach constructors, and none of them may name bytes that it was not given.
  const KEY = {};
  type Elements = new (buffer: ArrayBuffer, from?: number, length?: number) => Uint8Array<ArrayBuffer>;
  const { BigUint64Array: U64, BigInt64Array: I64 } = globalThis as unknown as Readonly<
    Record<string, unknown>
  >;
  const ARRAYS: Readonly<Record<string, Elements>> = {
    bytes: p.Uint8Array as unknown as Elements,
    u8: p.Uint8Array as unknown as Elements,
    i8: Int8Array as unknown as Elements,
    u16: Uint16Array as unknown as Elements,
    i16: Int16Array as unknown as Elements,
    u32: p.Uint32Array as unknown as Elements,
    i32: p.Int32Array as unknown as Elements,
    u64: U64 as Elements,
    i64: I64 as Elements,
    f32: p.Float32Array as unknown as Elements,
    f64: p.Float64Array as unknown as Elements,
  };

  function checkKey(key: unknown, name: string): void {
    if (key !== KEY) throw new p.TypeError(`a ${name} is made by a reader, or of another one`);
  }

  function bytesOf({ origin, from, length, staged }: BlockSource): Uint8Array<ArrayBuffer> {
    if (staged === undefined) return read(origin, from, length);
    const copy = new p.Uint8Array(length);
    p.bytesSet(copy, staged);
    return copy;
  }

  /** As of typed arrays: from the end where it is negative. */
  function bound(value: unknown, length: number, otherwise: number): number {
    if (value === undefined) return otherwise;
    const given = p.Number(value);
    if (given >= length) return length;
    // What is no number is neither.
    if (!(given > -length)) return 0;
    const whole = given - (given % 1);
    return whole < 0 ? length + whole : whole;
  }

  function part(source: BlockSource, start: number, end: number, unit: number): BlockSource {
    const at = start * unit;
    const length = end > start ? (end - start) * unit : 0;
    const { staged } = source;
    return {
      origin: source.origin,
      from: source.from + at,
      length,
      staged: staged && new p.Uint8Array(staged.buffer, staged.byteOffset + at, length),
    };
  }

  class Block {
    readonly #source: BlockSource;
    #bytes: Uint8Array<ArrayBuffer> | undefined;

    constructor(key: unknown, source: BlockSource) {
      checkKey(key, "block");
      this.#source = source;
    }

    static sourceOf(key: unknown, value: object): BlockSource | undefined {
      checkKey(key, "block");
      return #source in value ? value.#source : undefined;
    }

    get length(): number {
      return this.#source.length;
    }

    get bytes(): Uint8Array<ArrayBuffer> {
      return (this.#bytes ??= bytesOf(this.#source));
    }

    slice(start?: number, end?: number): Block {
      const { length } = this.#source;
      return new Block(KEY, part(this.#source, bound(start, length, 0), bound(end, length, length), 1));
    }
  }

  class StoredFile extends Block {
    readonly #source: BlockSource;

    constructor(key: unknown, source: BlockSource) {
      super(key, source);
      this.#source = source;
    }

    matrix(options: { readonly type: ElementType; readonly columns: number }): Matrix {
      const { type, columns } = options;
      const isType = type === "f32" || type === "i32" || type === "u32" || type === "bytes";
      if (!isType || !p.isSafeInteger(columns) || columns < 1)
        throw new p.TypeError(
          'a matrix has a type, "f32", "i32", "u32" or "bytes", and columns, one at least',
        );
      const over = this.#source.length % (columns * elementBytes(type));
      if (over > 0)
        throw new p.RangeError(
          `the file ends ${over} bytes into a row of ${columns * elementBytes(type)} bytes`,
        );
      return new Matrix(KEY, this.#source, type, columns);
    }
  }

  type Fields = readonly { readonly name: string; readonly type: ColumnType }[];

  class RowBlock extends Block {
    readonly #source: BlockSource;
    readonly #fields: Fields;

    constructor(key: unknown, source: BlockSource, fields: Fields) {
      super(key, source);
      this.#source = source;
      this.#fields = fields;
    }

    get rows(): number {
      return this.#source.length / rowBytesOf(this.#fields);
    }

    column(name: string): Uint8Array<ArrayBuffer> {
      let at = 0;
      for (let index = 0; index < this.#fields.length; index++) {
        const field = this.#fields[index]!;
        if (field.name === name) return this.#column(at, field.type);
        at += fieldBytes(field.type);
      }
      throw new p.TypeError(`there is no column ${p.stringify(name)!}`);
    }

    #column(at: number, type: ColumnType): Uint8Array<ArrayBuffer> {
      const { bytes, rows } = this;
      const size = fieldBytes(type);
      const step = rowBytesOf(this.#fields);
      const column = new p.Uint8Array(rows * size);
      for (let row = 0, from = at, to = 0; row < rows; row++, from += step)
        for (let index = 0; index < size; index++) column[to++] = bytes[from + index]!;
      return elements(type as ElementType, column);
    }
  }

  class Matrix {
    readonly #source: BlockSource;
    readonly #type: ElementType;
    readonly #columns: number;
    #values: Uint8Array<ArrayBuffer> | undefined;

    constructor(key: unknown, source: BlockSource, type: ElementType, columns: number) {
      checkKey(key, "matrix");
      this.#source = source;
      this.#type = type;
      this.#columns = columns;
    }

    static sourceOf(key: unknown, value: object): BlockSource | undefined {
      checkKey(key, "matrix");
      return #source in value ? value.#source : undefined;
    }

    static shapeOf(key: unknown, value: object): BlockShape | undefined {
      checkKey(key, "matrix");
      if (!(#source in value)) return undefined;
      const [type, columns] = [value.#type, value.#columns];
      return { type, columns, rows: value.#source.length / (columns * elementBytes(type)) };
    }

    get type(): ElementType {
      return this.#type;
    }

    get rows(): number {
      return this.#source.length / (this.#columns * elementBytes(this.#type));
    }

    get columns(): number {
      return this.#columns;
    }

    get values(): Uint8Array<ArrayBuffer> {
      return (this.#values ??= elements(this.#type, bytesOf(this.#source)));
    }

    slice(start?: number, end?: number): Matrix {
      const { rows } = this;
      const unit = this.#columns * elementBytes(this.#type);
      const source = part(this.#source, bound(start, rows, 0), bound(end, rows, rows), unit);
      return new Matrix(KEY, source, this.#type, this.#columns);
    }
  }

  function elementBytes(type: ElementType): number {
    return type === "bytes" ? 1 : 4;
  }

  function fieldBytes(type: ColumnType): number {
    return (ARRAYS[type] as unknown as { readonly BYTES_PER_ELEMENT: number }).BYTES_PER_ELEMENT;
  }

  function rowBytesOf(fields: readonly { readonly type: ColumnType }[]): number {
    let bytes = 0;
    for (let index = 0; index < fields.length; index++) bytes += fieldBytes(fields[index]!.type);
    return bytes;
  }

  function elements(type: ElementType, bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    return new ARRAYS[type]!(bytes.buffer);
  }

  function isObject(value: unknown): value is object {
    return typeof value === "object" && value !== null;
  }

  freeze.deep([Block, StoredFile, RowBlock, Matrix]);
  return {
    block: (source) => new Block(KEY, source),
    matrix: (source, type, columns) => new Matrix(KEY, source, type, columns),
    rows: (source, fields) => new RowBlock(KEY, source, fields),
    file: (source) => freeze.one(new StoredFile(KEY, source)),
    sourceOf: (value) =>
      isObject(value) ? (Block.sourceOf(KEY, value) ?? Matrix.sourceOf(KEY, value)) : undefined,
    shapeOf: (value) => (isObject(value) ? Matrix.shapeOf(KEY, value) : undefined),
    bytesOf,
    elements,
    elementBytes,
    rowBytes: rowBytesOf,
  };
}
