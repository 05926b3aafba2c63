/** Writes the bytes of WebAssembly modules: only what packet code is compiled to. Core specification 2.0, section 5. */

/** Instructions by their names in the text format, and their bytes. */
const PLAIN = {
  block: [0x02, 0x40],
  loop: [0x03, 0x40],
  if: [0x04, 0x40],
  else: [0x05],
  end: [0x0b],
  return: [0x0f],
  select: [0x1b],
  "i32.eqz": [0x45],
  "i32.eq": [0x46],
  "i32.lt_u": [0x49],
  "i32.gt_u": [0x4b],
  "i32.le_u": [0x4d],
  "i32.ge_u": [0x4f],
  "i64.eq": [0x51],
  "i64.lt_s": [0x53],
  "i64.lt_u": [0x54],
  "i64.gt_s": [0x55],
  "i64.gt_u": [0x56],
  "i64.le_u": [0x58],
  "f64.le": [0x65],
  "f64.ge": [0x66],
  "i32.ctz": [0x68],
  "i32.add": [0x6a],
  "i32.sub": [0x6b],
  "i32.and": [0x71],
  "i32.or": [0x72],
  "i32.shl": [0x74],
  "i32.shr_u": [0x76],
  "i64.add": [0x7c],
  "i64.sub": [0x7d],
  "i64.and": [0x83],
  "i64.xor": [0x85],
  "i64.shr_s": [0x87],
  "i64.shr_u": [0x88],
  "f64.add": [0xa0],
  "f64.min": [0xa4],
  "f64.max": [0xa5],
  "i64.extend_i32_s": [0xac],
  "i64.extend_i32_u": [0xad],
  "f64.promote_f32": [0xbb],
  "v128.not": [0xfd, 77],
  "v128.and": [0xfd, 78],
  "v128.or": [0xfd, 80],
  "v128.xor": [0xfd, 81],
  "v128.bitselect": [0xfd, 82],
  "i8x16.eq": [0xfd, 35],
  "i8x16.le_u": [0xfd, 42],
  "i8x16.bitmask": [0xfd, 100],
  "i8x16.add": [0xfd, 110],
  "i8x16.sub": [0xfd, 0xf1, 0x00],
  "i8x16.min_u": [0xfd, 119],
  "i8x16.max_u": [0xfd, 121],
  "i16x8.extadd_pairwise_i8x16_u": [0xfd, 125],
  "i32x4.extadd_pairwise_i16x8_u": [0xfd, 127],
  "i32x4.add": [0xfd, 0xae, 0x01],
} as const;

/** Loads and stores, whose address stands on the stack and whose offset is given. None has to be aligned. */
const MEMORY = {
  "i32.load": [0x28],
  "i64.load": [0x29],
  "f32.load": [0x2a],
  "f64.load": [0x2b],
  "i32.load8_s": [0x2c],
  "i32.load8_u": [0x2d],
  "i32.load16_s": [0x2e],
  "i32.load16_u": [0x2f],
  "i32.store": [0x36],
  "i64.store": [0x37],
  "f64.store": [0x39],
  "v128.load": [0xfd, 0],
} as const;

const INDEXED = {
  br: 0x0c,
  br_if: 0x0d,
  call: 0x10,
  "local.get": 0x20,
  "local.set": 0x21,
  "local.tee": 0x22,
} as const;

export const ValueType = { i32: 0x7f, i64: 0x7e, f64: 0x7c, v128: 0x7b } as const;
export type ValueType = (typeof ValueType)[keyof typeof ValueType];

/** A function of i32 parameters that returns an i32. */
export class FunctionBody {
  readonly params: number;
  readonly #locals: ValueType[] = [];
  readonly #code: number[] = [];
  /** The locals of constants, by the byte that they repeat. */
  readonly #splats = new Map<number, number>();

  constructor(params: number) {
    this.params = params;
  }

  /** Another local, zero at first; its index. */
  local(type: ValueType): number {
    return this.params + this.#locals.push(type) - 1;
  }

  /** Instructions without operands, in their order. */
  op(...names: (keyof typeof PLAIN)[]): this {
    for (const name of names) this.#code.push(...PLAIN[name]);
    return this;
  }

  /** One with an index: of a local, a function or a label. */
  at(name: keyof typeof INDEXED, index: number): this {
    this.#code.push(INDEXED[name], ...unsigned(index));
    return this;
  }

  get(local: number): this {
    return this.at("local.get", local);
  }

  set(local: number): this {
    return this.at("local.set", local);
  }

  memory(name: keyof typeof MEMORY, offset: number): this {
    this.#code.push(...MEMORY[name], 0, ...unsigned(offset));
    return this;
  }

  i32(value: number): this {
    this.#code.push(0x41, ...signed(BigInt(value | 0)));
    return this;
  }

  i64(value: bigint): this {
    this.#code.push(0x42, ...signed(BigInt.asIntN(64, value)));
    return this;
  }

  f64(value: number): this {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setFloat64(0, value, true);
    this.#code.push(0x44, ...bytes);
    return this;
  }

  /** Sixteen times the byte. It stands in a local from the beginning on: engines make a constant anew in each turn of a loop. */
  splat(byte: number): this {
    const value = byte & 0xff;
    let local = this.#splats.get(value);
    if (local === undefined) {
      local = this.local(ValueType.v128);
      this.#splats.set(value, local);
    }
    return this.get(local);
  }

  i32x4Lane(lane: number): this {
    this.#code.push(0xfd, 27, lane);
    return this;
  }

  i64x2Lane(lane: number): this {
    this.#code.push(0xfd, 29, lane);
    return this;
  }

  i8x16Lane(lane: number): this {
    this.#code.push(0xfd, 22, lane);
    return this;
  }

  bytes(): number[] {
    const locals = this.#locals.flatMap((type) => [1, type]);
    const splats = Array.from(this.#splats, ([byte, local]) => {
      const lanes = Array.from({ length: 16 }, () => byte);
      return [0xfd, 12, ...lanes, INDEXED["local.set"], ...unsigned(local)];
    });
    const code = [...splats.flat(), ...this.#code, ...PLAIN.end];
    const body = [...unsigned(this.#locals.length), ...locals, ...code];
    return [...unsigned(body.length), ...body];
  }
}

const MAGIC = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00] as const;

/** A module that imports `env.memory` and exports its first function as `run`. */
export function moduleBytes(
  functions: readonly FunctionBody[],
  memoryPagesMin: number,
): Uint8Array<ArrayBuffer> {
  const types = functions.map(({ params }) => [
    0x60,
    ...vector(Array.from({ length: params }, () => [ValueType.i32])),
    ...vector([[ValueType.i32]]),
  ]);
  return Uint8Array.from([
    ...MAGIC,
    ...section(1, vector(types)),
    ...section(2, vector([[...text("env"), ...text("memory"), 0x02, 0x00, ...unsigned(memoryPagesMin)]])),
    ...section(3, vector(functions.map((_, index) => unsigned(index)))),
    ...section(7, vector([[...text("run"), 0x00, 0x00]])),
    ...section(10, vector(functions.map((each) => each.bytes()))),
  ]);
}

function section(id: number, content: readonly number[]): number[] {
  return [id, ...unsigned(content.length), ...content];
}

function vector(items: readonly (readonly number[])[]): number[] {
  return [...unsigned(items.length), ...items.flat()];
}

function text(characters: string): number[] {
  return vector(Array.from(characters, (character) => [character.charCodeAt(0)]));
}

/** LEB128. */
function unsigned(value: number): number[] {
  const bytes: number[] = [];
  let left = value;
  do {
    const more = left > 0x7f;
    bytes.push((left & 0x7f) | (more ? 0x80 : 0));
    left >>>= 7;
  } while (left > 0);
  return bytes;
}

function signed(value: bigint): number[] {
  const bytes: number[] = [];
  for (let left = value; ;) {
    const byte = Number(left & 0x7fn);
    left >>= 7n;
    if ((left === 0n && (byte & 0x40) === 0) || (left === -1n && (byte & 0x40) !== 0))
      return [...bytes, byte];
    bytes.push(byte | 0x80);
  }
}
