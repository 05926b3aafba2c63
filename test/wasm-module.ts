/** WebAssembly modules as tests write them: sections as objects, code as words in the text format's flat form. */

export type ValueType = "i32" | "i64" | "f32" | "f64" | "v128" | "funcref" | "externref";

export interface WasmFunction {
  readonly params?: readonly ValueType[];
  readonly results?: readonly ValueType[];
  readonly locals?: readonly ValueType[];
  /** Words such as "local.get 0 i32.const 8 i32.add", without the last end; or bytes. */
  readonly code: string | readonly number[];
  readonly name?: string;
}

export interface WasmParts {
  readonly imports?: readonly { readonly module: string; readonly name: string; readonly kind: number[] }[];
  /** Pages, at least and at most. */
  readonly memory?: readonly [least: number, most?: number];
  /** Flags of the memory, where they are not those of the two numbers. */
  readonly memoryFlags?: number;
  readonly globals?: readonly { readonly type: ValueType; readonly code: string; readonly isConst?: true }[];
  /** Elements of a table of functions, at least and at most. */
  readonly table?: readonly [least: number, most?: number];
  /** Functions that stand in the table from 0 on. */
  readonly elements?: readonly number[];
  readonly functions?: readonly WasmFunction[];
  readonly start?: number;
  /** With a place, or passive without. */
  readonly data?: readonly { readonly at?: number; readonly bytes: readonly number[] | string }[];
  readonly sections?: readonly { readonly id: number; readonly bytes: readonly number[] }[];
}

const TYPES: Readonly<Record<ValueType, number>> = {
  i32: 0x7f,
  i64: 0x7e,
  f32: 0x7d,
  f64: 0x7c,
  v128: 0x7b,
  funcref: 0x70,
  externref: 0x6f,
};

export function u32(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...u32(Math.floor(value / 0x80))];
}

function signed(value: bigint): number[] {
  const low = Number(value & 0x7fn);
  const rest = value >> 7n;
  const isLast = (rest === 0n && low < 0x40) || (rest === -1n && low >= 0x40);
  return isLast ? [low] : [low | 0x80, ...signed(rest)];
}

function vector(items: readonly (readonly number[])[]): number[] {
  return [...u32(items.length), ...items.flat()];
}

function text(value: string): number[] {
  return vector([...Buffer.from(value)].map((byte) => [byte]));
}

function float(value: string, bytes: 4 | 8): number[] {
  const view = new DataView(new ArrayBuffer(bytes));
  // "nan:7f800001" gives the bits.
  if (value.startsWith("nan:"))
    view[bytes === 4 ? "setUint32" : "setBigUint64"](0, parseBits(value, bytes) as never, true);
  else view[bytes === 4 ? "setFloat32" : "setFloat64"](0, Number(value), true);
  return [...new Uint8Array(view.buffer)];
}

function parseBits(value: string, bytes: 4 | 8): number | bigint {
  const bits = BigInt(`0x${value.slice(4)}`);
  return bytes === 4 ? Number(bits) : bits;
}

/** Instructions without immediates, in the order of their opcodes from 0x45 on. */
const NUMERIC = `i32.eqz i32.eq i32.ne i32.lt_s i32.lt_u i32.gt_s i32.gt_u i32.le_s i32.le_u i32.ge_s i32.ge_u
i64.eqz i64.eq i64.ne i64.lt_s i64.lt_u i64.gt_s i64.gt_u i64.le_s i64.le_u i64.ge_s i64.ge_u
f32.eq f32.ne f32.lt f32.gt f32.le f32.ge f64.eq f64.ne f64.lt f64.gt f64.le f64.ge
i32.clz i32.ctz i32.popcnt i32.add i32.sub i32.mul i32.div_s i32.div_u i32.rem_s i32.rem_u i32.and i32.or i32.xor i32.shl
i32.shr_s i32.shr_u i32.rotl i32.rotr
i64.clz i64.ctz i64.popcnt i64.add i64.sub i64.mul i64.div_s i64.div_u i64.rem_s i64.rem_u i64.and i64.or i64.xor i64.shl
i64.shr_s i64.shr_u i64.rotl i64.rotr
f32.abs f32.neg f32.ceil f32.floor f32.trunc f32.nearest f32.sqrt f32.add f32.sub f32.mul f32.div f32.min f32.max f32.copysign
f64.abs f64.neg f64.ceil f64.floor f64.trunc f64.nearest f64.sqrt f64.add f64.sub f64.mul f64.div f64.min f64.max f64.copysign
i32.wrap_i64 i32.trunc_f32_s i32.trunc_f32_u i32.trunc_f64_s i32.trunc_f64_u i64.extend_i32_s i64.extend_i32_u i64.trunc_f32_s
i64.trunc_f32_u i64.trunc_f64_s i64.trunc_f64_u f32.convert_i32_s f32.convert_i32_u f32.convert_i64_s f32.convert_i64_u
f32.demote_f64 f64.convert_i32_s f64.convert_i32_u f64.convert_i64_s f64.convert_i64_u f64.promote_f32 i32.reinterpret_f32
i64.reinterpret_f64 f32.reinterpret_i32 f64.reinterpret_i64 i32.extend8_s i32.extend16_s i64.extend8_s i64.extend16_s
i64.extend32_s`.split(/\s+/);
/** Loads and stores, from 0x28 on: their immediates are an alignment of 0 and the offset that follows. */
const MEMORY =
  `i32.load i64.load f32.load f64.load i32.load8_s i32.load8_u i32.load16_s i32.load16_u i64.load8_s
i64.load8_u i64.load16_s i64.load16_u i64.load32_s i64.load32_u i32.store i64.store f32.store f64.store i32.store8 i32.store16
i64.store8 i64.store16 i64.store32`.split(/\s+/);

/** The rest: opcode, and whether an unsigned number follows; -1: what it is done with is written in front. */
const OTHER: Readonly<Record<string, readonly [code: readonly number[], immediates: number]>> = {
  unreachable: [[0x00], 0],
  nop: [[0x01], 0],
  block: [[0x02, 0x40], 0],
  loop: [[0x03, 0x40], 0],
  if: [[0x04, 0x40], 0],
  else: [[0x05], 0],
  end: [[0x0b], 0],
  br: [[0x0c], 1],
  br_if: [[0x0d], 1],
  return: [[0x0f], 0],
  call: [[0x10], 1],
  call_indirect: [[0x11], 2],
  return_call: [[0x12], 1],
  drop: [[0x1a], 0],
  select: [[0x1b], 0],
  "local.get": [[0x20], 1],
  "local.set": [[0x21], 1],
  "local.tee": [[0x22], 1],
  "global.get": [[0x23], 1],
  "global.set": [[0x24], 1],
  "table.get": [[0x25], 1],
  "table.set": [[0x26], 1],
  "memory.size": [[0x3f, 0], 0],
  "memory.grow": [[0x40, 0], 0],
  "ref.func": [[0xd2], 1],
  "ref.null": [[0xd0, 0x70], 0],
  "memory.init": [[0xfc, 8], 2],
  "data.drop": [[0xfc, 9], 1],
  "memory.copy": [[0xfc, 10, 0, 0], 0],
  "memory.fill": [[0xfc, 11, 0], 0],
  "table.grow": [[0xfc, 15], 1],
  "table.size": [[0xfc, 16], 1],
  "table.fill": [[0xfc, 17], 1],
  "v128.load": [[0xfd, 0, 0], 1],
  "v128.store": [[0xfd, 11, 0], 1],
  "v128.store8_lane": [[0xfd, 88, 0], 2],
  "f32x4.splat": [[0xfd, 19], 0],
  "f64x2.splat": [[0xfd, 20], 0],
  "i32x4.extract_lane": [[0xfd, 27], 1],
  "i64x2.extract_lane": [[0xfd, 29], 1],
  "f32x4.sqrt": [[0xfd, 0xe3, 1], 0],
  "f32x4.add": [[0xfd, 0xe4, 1], 0],
  "f32x4.div": [[0xfd, 0xe7, 1], 0],
  "f64x2.sqrt": [[0xfd, 0xef, 1], 0],
  "f64x2.sub": [[0xfd, 0xf1, 1], 0],
  "f64x2.div": [[0xfd, 0xf3, 1], 0],
  "f32x4.demote_f64x2_zero": [[0xfd, 0x5e], 0],
  "f64x2.promote_low_f32x4": [[0xfd, 0x5f], 0],
  "i8x16.relaxed_swizzle": [[0xfd, 0x80, 2], 0],
  "i32.atomic.load": [[0xfe, 0x10, 2], 1],
};

export function codeOf(words: string): number[] {
  const bytes: number[] = [];
  const list = words.split(/\s+/).filter((word) => word !== "");
  for (let at = 0; at < list.length; at++) {
    const word = list[at]!;
    const immediate = (): string => list[++at] ?? "";
    const numeric = NUMERIC.indexOf(word);
    const memory = MEMORY.indexOf(word);
    const other = OTHER[word];
    if (numeric >= 0) bytes.push(0x45 + numeric);
    else if (memory >= 0) bytes.push(0x28 + memory, 0, ...u32(Number(immediate())));
    else if (word === "i32.const") bytes.push(0x41, ...signed(BigInt(Number(immediate()) | 0)));
    else if (word === "i64.const") bytes.push(0x42, ...signed(BigInt.asIntN(64, BigInt(immediate()))));
    else if (word === "f32.const") bytes.push(0x43, ...float(immediate(), 4));
    else if (word === "f64.const") bytes.push(0x44, ...float(immediate(), 8));
    else if (other !== undefined) {
      bytes.push(...other[0]);
      for (let count = other[1]; count > 0; count--) bytes.push(...u32(Number(immediate())));
    } else throw new Error(`no instruction is called ${word}`);
  }
  return bytes;
}

function section(id: number, content: readonly number[]): number[] {
  return [id, ...u32(content.length), ...content];
}

function sizes([least, most]: readonly [least: number, most?: number], flags?: number): number[] {
  const known = most === undefined ? [0, ...u32(least)] : [1, ...u32(least), ...u32(most)];
  return flags === undefined ? known : [flags, ...known.slice(1)];
}

/** Each function has a type of its own, with its number; functions of `imports` come first. */
export function wasmModule(parts: WasmParts): Uint8Array<ArrayBuffer> {
  const { functions = [], imports = [], data = [], globals = [], memory, table, elements, start } = parts;
  const types = (list: readonly ValueType[] = []): number[] => vector(list.map((type) => [TYPES[type]]));
  const importedFunctions = imports.filter(({ kind }) => kind[0] === 0).length;
  const bodies = functions.map(({ locals = [], code }) => {
    const bytes = typeof code === "string" ? [...codeOf(code), 0x0b] : code;
    const body = [...vector(locals.map((type) => [1, TYPES[type]])), ...bytes];
    return [...u32(body.length), ...body];
  });
  const named = functions.flatMap(({ name }, index) =>
    name === undefined ? [] : [[...text(name), 0, ...u32(importedFunctions + index)]],
  );
  const signatures = functions.map(({ params, results }) => [0x60, ...types(params), ...types(results)]);
  // What packetfs.log takes, behind those of the functions.
  signatures.push([0x60, 2, 0x7f, 0x7f, 0]);
  const log = functions.length;
  const imported = imports.map(({ module, name, kind }) => [
    ...text(module),
    ...text(name),
    ...(kind[0] === 0 && kind.length === 1 ? [0, ...u32(log)] : kind),
  ]);
  const values = data.map(({ at, bytes }) => [
    ...(at === undefined ? [1] : [0, ...codeOf(`i32.const ${at}`), 0x0b]),
    ...vector([...(typeof bytes === "string" ? Buffer.from(bytes) : bytes)].map((byte) => [byte])),
  ]);
  const has = (id: number, content: readonly (readonly number[])[]): number[] =>
    content.length === 0 ? [] : section(id, vector(content));
  const needsCount = data.some(({ at }) => at === undefined);
  return Uint8Array.from([
    0x00,
    0x61,
    0x73,
    0x6d,
    0x01,
    0x00,
    0x00,
    0x00,
    ...has(1, signatures),
    ...has(2, imported),
    ...has(
      3,
      functions.map((_, index) => u32(index)),
    ),
    ...has(4, table === undefined ? [] : [[0x70, ...sizes(table)]]),
    ...has(5, memory === undefined ? [] : [sizes(memory, parts.memoryFlags)]),
    ...has(
      6,
      globals.map(({ type, code, isConst }) => [
        TYPES[type],
        isConst === true ? 0 : 1,
        ...codeOf(code),
        0x0b,
      ]),
    ),
    ...has(7, named),
    ...(start === undefined ? [] : section(8, u32(start))),
    ...has(
      9,
      elements === undefined
        ? []
        : [[0, ...codeOf("i32.const 0"), 0x0b, ...vector(elements.map((each) => u32(each)))]],
    ),
    ...(needsCount ? section(12, u32(data.length)) : []),
    ...has(10, bodies),
    ...has(11, values),
    ...(parts.sections ?? []).flatMap(({ id, bytes }) => section(id, bytes)),
  ]);
}

/** The handle of a module, as an expression of programs that are not bundled. */
export function imported(parts: WasmParts | Uint8Array): string {
  const bytes = parts instanceof Uint8Array ? parts : wasmModule(parts);
  return `$packetfs.wasm("k.wasm", "${Buffer.from(bytes).toString("base64")}")`;
}

/**
 * Exports that take bytes need these two: a place to put them, behind `place`, and more memory where it ends. Its global is
 * the module's first, and its memory has `pages` at first.
 */
export function allocator(place: number): {
  readonly globals: NonNullable<WasmParts["globals"]>;
  readonly alloc: WasmFunction;
} {
  return {
    globals: [{ type: "i32", code: `i32.const ${place}` }],
    alloc: {
      name: "alloc",
      params: ["i32"],
      results: ["i32"],
      locals: ["i32"],
      code: `global.get 0 local.tee 1 local.get 0 i32.add global.set 0
        global.get 0 i32.const 65535 i32.add i32.const 16 i32.shr_u memory.size i32.gt_u
        if
          global.get 0 i32.const 65535 i32.add i32.const 16 i32.shr_u memory.size i32.sub memory.grow i32.const -1 i32.eq
          if i32.const 0 return end
        end
        local.get 1`,
    },
  };
}
