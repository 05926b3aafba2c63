/**
 * Reads a WebAssembly module before it runs, and writes it again so that its answers follow from its input alone and nothing of
 * one packet is left for the next. What it does not know it refuses. It is carried into isolates as text, so everything stands
 * in one function.
 *
 * What becomes of a module:
 *
 * - Its memory is one that is handed in, and has the module's maximum from the start: `memory.grow` moves a mark and takes
 *   nothing from the system, so whether it succeeds depends on the module alone. Reading above the mark gives zeros.
 * - Each store says in a second memory, which the module cannot reach, which granule of the first it wrote to. Behind the
 *   last packet `packetfs:restore` puts the written granules back, from an image that stands in the second memory too, and
 *   gives the globals their first values.
 * - Behind each operation that makes a NaN whose bits are the machine's, that NaN is replaced by the canonical one.
 * - Its start function is exported as `packetfs:start`, to be called for each packet. Custom sections are left out.
 *
 * The second memory: the image of the data segments from byte 0 on, then from `marksAt` on a byte per granule.
 */
export interface WasmLimits {
  /** Pages of 64 KiB. */
  readonly memoryPagesMax: number;
  /** Elements of a table. */
  readonly tableElementsMax: number;
}

/** Types of parameters and results of an exported function, such as ["i32", "i32"]. */
export interface WasmSignature {
  readonly parameters: readonly string[];
  readonly results: readonly string[];
}

export interface RewrittenModule {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Of the memory that is handed in as "packetfs:host" "memory": so many, neither less nor more. */
  readonly memoryPages: number;
  /** Of "packetfs:host" "marks". */
  readonly marksPages: number;
  /** Bytes from 0 on that data segments may have filled. */
  readonly imageBytes: number;
  readonly marksAt: number;
  /** A granule is 2 to the power of this of bytes. */
  readonly granuleBits: number;
  readonly hasStart: boolean;
  /** It may change its tables or drop segments, which cannot be undone: each packet needs an instance of its own. */
  readonly wearsOut: boolean;
  /** Functions by name, in the module's order. Names that are not printable ASCII are left out. */
  readonly exports: ReadonlyMap<string, WasmSignature>;
}

/** Throws a TypeError whose message says what is wrong with the module, and at which byte. */
export type RewriteWasm = (module: Uint8Array, limits: WasmLimits) => RewrittenModule;

export function makeWasmRewriter(): RewriteWasm {
  const GRANULE_BITS = 12;
  const PAGE_BYTES = 65536;
  /** What any store may reach behind the granule that it begins in. */
  const STORE_BYTES_MAX = 16;
  // As V8 has them.
  const LOCALS_MAX = 50000;
  const TYPES_MAX = 1000000;
  const FUNCTIONS_MAX = 1000000;
  const [I32, I64, F32, F64, V128] = [0x7f, 0x7e, 0x7d, 0x7c, 0x7b];
  const VALUE_TYPES = new Map([
    [I32, "i32"],
    [I64, "i64"],
    [F32, "f32"],
    [F64, "f64"],
    [V128, "v128"],
    [0x70, "funcref"],
    [0x6f, "externref"],
  ]);
  /** The sections that a module may have, in their order. */
  const SECTIONS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11];
  const MAGIC = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
  const NAN_F32 = [0x00, 0x00, 0xc0, 0x7f];
  const NAN_F64 = [0, 0, 0, 0, 0, 0, 0xf8, 0x7f];
  /** SIMD operations on f32x4 and f64x2 that make NaNs. */
  const NAN_F32X4 = new Set([0x5e, 0x67, 0x68, 0x69, 0x6a, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9]);
  const NAN_F64X2 = new Set([0x5f, 0x74, 0x75, 0x7a, 0x94, 0xef, 0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5]);

  interface FunctionType extends WasmSignature {
    readonly parameterCount: number;
  }

  /** Bytes that are being written. */
  interface Sink {
    bytes: Uint8Array<ArrayBuffer>;
    length: number;
  }

  function makeSink(capacity: number): Sink {
    return { bytes: new Uint8Array(capacity), length: 0 };
  }

  function room(sink: Sink, bytes: number): void {
    if (sink.length + bytes <= sink.bytes.length) return;
    const larger = new Uint8Array(Math.max(sink.bytes.length * 2, sink.length + bytes));
    larger.set(sink.bytes.subarray(0, sink.length));
    sink.bytes = larger;
  }

  function put(sink: Sink, ...bytes: readonly number[]): void {
    room(sink, bytes.length);
    for (let index = 0; index < bytes.length; index++) sink.bytes[sink.length++] = bytes[index]!;
  }

  function putAll(sink: Sink, bytes: Uint8Array): void {
    room(sink, bytes.length);
    sink.bytes.set(bytes, sink.length);
    sink.length += bytes.length;
  }

  /** Most ranges are an instruction, for which a view would cost more than its bytes. */
  function putRange(sink: Sink, bytes: Uint8Array, from: number, to: number): void {
    if (to - from > 64) return putAll(sink, bytes.subarray(from, to));
    room(sink, to - from);
    for (let at = from; at < to; at++) sink.bytes[sink.length++] = bytes[at]!;
  }

  /** Unsigned LEB128. */
  function putU32(sink: Sink, value: number): void {
    room(sink, 5);
    let rest = value;
    while (rest >= 0x80) {
      sink.bytes[sink.length++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    sink.bytes[sink.length++] = rest;
  }

  /** Signed LEB128 of the number whose lower 32 bits these are. */
  function putI32(sink: Sink, value: number): void {
    room(sink, 5);
    for (let rest = value | 0; ; rest >>= 7) {
      const isLast = rest >= -64 && rest < 64;
      sink.bytes[sink.length++] = (rest & 0x7f) | (isLast ? 0 : 0x80);
      if (isLast) return;
    }
  }

  function putName(sink: Sink, name: string): void {
    putU32(sink, name.length);
    for (let index = 0; index < name.length; index++) put(sink, name.charCodeAt(index));
  }

  function written(sink: Sink): Uint8Array<ArrayBuffer> {
    return sink.bytes.subarray(0, sink.length);
  }

  return (module, limits) => {
    let at = 0;
    let end = module.length;

    function refuse(what: string, where: number = at): never {
      throw new TypeError(`the WebAssembly module ${what} (at byte ${where})`);
    }

    function damaged(): never {
      return refuse("is damaged");
    }

    function byte(): number {
      if (at >= end) damaged();
      return module[at++]!;
    }

    function skip(bytes: number): void {
      if (bytes > end - at) damaged();
      at += bytes;
    }

    function u32(): number {
      let value = 0;
      for (let shift = 0; ; shift += 7) {
        const next = byte();
        if (shift === 28 && next > 0x0f) damaged();
        value += (next & 0x7f) * 2 ** shift;
        if (next < 0x80) return value;
      }
    }

    /** Skips a signed number, whose value is V8's to look at. */
    function skipSigned(bytesMax: number): void {
      for (let count = 1; byte() >= 0x80; count++) if (count === bytesMax) damaged();
    }

    /** A count of things of which each takes a byte at least. */
    function count(): number {
      const value = u32();
      if (value > end - at) damaged();
      return value;
    }

    function index(of: number, what: string): number {
      const where = at;
      const value = u32();
      if (value >= of) refuse(`names a ${what} that is not there`, where);
      return value;
    }

    function valueType(): string {
      const where = at;
      const name = VALUE_TYPES.get(byte());
      return name ?? refuse("uses a type of value that programs cannot have", where);
    }

    function name(): string | undefined {
      const bytes = count();
      let text: string | undefined = "";
      for (let index = 0; index < bytes; index++) {
        const unit = byte();
        if (unit < 0x20 || unit > 0x7e) text = undefined;
        else if (text !== undefined) text += String.fromCharCode(unit);
      }
      return text;
    }

    // ── sections, as they stand in the module ──────────────────────────────────────────────────────────────────────

    if (MAGIC.some((value, place) => module[place] !== value))
      throw new TypeError("the file is not a WebAssembly module, which begins with 00 61 73 6d 01 00 00 00");
    const starts = new Map<number, number>();
    const ends = new Map<number, number>();
    at = 8;
    for (let last = -1; at < module.length;) {
      const where = at;
      const id = byte();
      const bytes = u32();
      if (bytes > module.length - at) damaged();
      if (id !== 0) {
        const rank = SECTIONS.indexOf(id);
        if (rank < 0) refuse(id === 13 ? "uses exceptions" : "has a section that is not known", where);
        if (rank <= last) refuse("has its sections in no order", where);
        last = rank;
        starts.set(id, at);
        ends.set(id, at + bytes);
      }
      at += bytes;
    }

    /** Goes to a section; false where there is none. */
    function enter(id: number): boolean {
      const start = starts.get(id);
      if (start === undefined) return false;
      at = start;
      end = ends.get(id)!;
      return true;
    }

    function leave(): void {
      if (at !== end) damaged();
    }

    // ── types, imports, functions ──────────────────────────────────────────────────────────────────────────────────

    const types: FunctionType[] = [];
    /** Of each function, those that are imported first. */
    const functionTypes: FunctionType[] = [];
    let importedFunctions = 0;

    const typeBytes = makeSink(256);
    if (enter(1)) {
      const total = count();
      if (total > TYPES_MAX) refuse("has too many types");
      const from = at;
      for (let each = 0; each < total; each++) {
        if (byte() !== 0x60) refuse("uses types that are not functions (garbage collection)", at - 1);
        const parameters = Array.from({ length: count() }, valueType);
        const results = Array.from({ length: count() }, valueType);
        types.push({ parameters, results, parameterCount: parameters.length });
      }
      leave();
      putAll(typeBytes, module.subarray(from, at));
    }

    const importBytes = makeSink(256);
    if (enter(2)) {
      const total = count();
      const from = at;
      for (let each = 0; each < total; each++) {
        const where = at;
        const [from, field] = [name(), name()];
        const called = `imports ${JSON.stringify(`${from}.${field}`)}`;
        if (byte() !== 0x00) refuse(`${called}, which is no function: it has to have its own`, where);
        const type = types[index(types.length, "type")]!;
        if (from !== "packetfs" || field !== "log")
          refuse(`${called}: there is nothing to import but packetfs.log`, where);
        if (String(type.parameters) !== "i32,i32" || type.results.length > 0)
          refuse(`${called} as what it is not: log takes (i32, i32) and gives nothing`, where);
        importedFunctions++;
        functionTypes.push(type);
      }
      leave();
      putAll(importBytes, module.subarray(from, at));
    }

    const functionBytes = makeSink(256);
    if (enter(3)) {
      const total = count();
      if (total > FUNCTIONS_MAX) refuse("has too many functions");
      const from = at;
      for (let each = 0; each < total; each++) functionTypes.push(types[index(types.length, "type")]!);
      leave();
      putAll(functionBytes, module.subarray(from, at));
    }
    const functions = functionTypes.length;
    const ownFunctions = functions - importedFunctions;

    // ── tables, memory, globals ────────────────────────────────────────────────────────────────────────────────────

    let tables = 0;
    const tableBytes = makeSink(64);
    if (enter(4)) {
      tables = count();
      for (let each = 0; each < tables; each++) {
        const where = at;
        const type = byte();
        if (type !== 0x70 && type !== 0x6f) refuse("has a table of what programs cannot have", where);
        const flags = byte();
        if (flags > 1) refuse("has a shared or 64-bit table", where);
        const least = u32();
        const most = flags === 1 ? u32() : limits.tableElementsMax;
        if (least > limits.tableElementsMax)
          refuse(`has a table of ${least} elements, more than ${limits.tableElementsMax}`, where);
        put(tableBytes, type, 1);
        putU32(tableBytes, least);
        putU32(tableBytes, Math.max(least, Math.min(most, limits.tableElementsMax)));
      }
      leave();
    }

    let initialPages = 0;
    let memoryPages = 0;
    if (enter(5)) {
      const where = at;
      if (count() !== 1) refuse("has several memories", where);
      const flags = byte();
      if ((flags & 2) !== 0) refuse("has a shared memory (threads)", where);
      if (flags > 1) refuse("has a 64-bit memory", where);
      initialPages = u32();
      const most = flags === 1 ? u32() : limits.memoryPagesMax;
      if (initialPages > limits.memoryPagesMax) {
        const needs = `has a memory of ${initialPages} pages of 64 KiB from the start, more than`;
        refuse(
          `${needs} its program may have: ${limits.memoryPagesMax}, half of its limits.memoryBytes`,
          where,
        );
      }
      if (most < initialPages) damaged();
      memoryPages = Math.min(most, limits.memoryPagesMax);
      leave();
    } else {
      throw new TypeError(
        "the WebAssembly module has no memory of its own: it has to define one and export it",
      );
    }

    let globals = 0;
    /** Which globals can change, and the bytes that give them their first value. */
    const changing: { readonly global: number; readonly value: Uint8Array }[] = [];
    const globalBytes = makeSink(64);
    if (enter(6)) {
      const total = count();
      const from = at;
      for (let each = 0; each < total; each++) {
        valueType();
        const mutability = byte();
        if (mutability > 1) refuse("has a shared global", at - 1);
        const start = at;
        skipConstant();
        if (mutability === 1) changing.push({ global: each, value: module.subarray(start, at - 1) });
        globals++;
      }
      leave();
      putAll(globalBytes, module.subarray(from, at));
    }

    /** An expression that is known before anything runs, its end included. */
    function skipConstant(): void {
      for (;;) {
        const where = at;
        const code = byte();
        if (code === 0x0b) return;
        if (code === 0x41) skipSigned(5);
        else if (code === 0x42) skipSigned(10);
        else if (code === 0x43) skip(4);
        else if (code === 0x44) skip(8);
        else if (code === 0x23) index(globals, "global");
        else if (code === 0xd0) valueType();
        else if (code === 0xd2) index(functions, "function");
        else if (code === 0xfd) {
          if (u32() !== 12) refuse("has a first value that is no constant", where);
          skip(16);
        } else if (![0x6a, 0x6b, 0x6c, 0x7c, 0x7d, 0x7e].includes(code)) {
          refuse("has a first value that is no constant", where);
        }
      }
    }

    // ── exports, start, elements, data ─────────────────────────────────────────────────────────────────────────────

    const exported = new Map<string, WasmSignature>();
    const exportBytes = makeSink(256);
    let exports = 0;
    if (enter(7)) {
      exports = count();
      const from = at;
      for (let each = 0; each < exports; each++) {
        const where = at;
        const called = name();
        const kind = byte();
        const what = u32();
        if (called?.startsWith("packetfs:") === true)
          refuse(`exports ${JSON.stringify(called)}: names like this are the sandbox's own`, where);
        if (what >= ([functions, tables, 1, globals][kind] ?? 0))
          refuse("exports something that is not there", where);
        if (kind === 0 && called !== undefined) exported.set(called, functionTypes[what]!);
      }
      leave();
      putAll(exportBytes, module.subarray(from, at));
    }

    const hasStart = enter(8);
    if (hasStart) {
      putName(exportBytes, "packetfs:start");
      put(exportBytes, 0);
      putU32(exportBytes, index(functions, "function"));
      exports++;
      leave();
    }

    let elements = 0;
    if (enter(9)) {
      elements = count();
      for (let each = 0; each < elements; each++) {
        const flags = u32();
        if (flags > 7) refuse("has elements of a kind that is not known");
        if ((flags & 1) === 0) {
          if ((flags & 2) !== 0) index(tables, "table");
          skipConstant();
        }
        const hasExpressions = (flags & 4) !== 0;
        if ((flags & 3) !== 0) {
          if (hasExpressions) valueType();
          else if (byte() !== 0) damaged();
        }
        const total = count();
        for (let one = 0; one < total; one++) {
          if (hasExpressions) skipConstant();
          else index(functions, "function");
        }
      }
      leave();
    }

    let segments = 0;
    let imageBytes = 0;
    if (enter(11)) {
      segments = count();
      for (let each = 0; each < segments; each++) {
        const where = at;
        const flags = u32();
        if (flags > 2) refuse("has data of a kind that is not known", where);
        if (flags === 2) index(1, "memory");
        let start = 0;
        if (flags !== 1) {
          if (byte() !== 0x41) refuse("has data whose place is not a plain number", where);
          start = i32() >>> 0;
          if (byte() !== 0x0b) refuse("has data whose place is not a plain number", where);
        }
        const bytes = count();
        skip(bytes);
        if (flags === 1) continue;
        if (start + bytes > initialPages * PAGE_BYTES) refuse("has data outside of its memory", where);
        imageBytes = Math.max(imageBytes, start + bytes);
      }
      leave();
    }

    function i32(): number {
      const start = at;
      let value = 0;
      for (let shift = 0; ; shift += 7) {
        const next = byte();
        value |= (next & 0x7f) << shift;
        if (next < 0x80) {
          if (shift < 28 && (next & 0x40) !== 0) value |= -1 << (shift + 7);
          return value;
        }
        if (at - start === 5) damaged();
      }
    }

    const marksAt = Math.ceil(imageBytes / 8) * 8;
    const granules = memoryPages * (PAGE_BYTES >> GRANULE_BITS);
    // The last ones are looked at 64 at a time, too.
    const marksPages = Math.ceil((marksAt + granules + 64) / PAGE_BYTES);
    const pagesGlobal = globals;
    const growFunction = functions;
    const markFunction = functions + 1;
    const restoreFunction = functions + 2;

    // ── code ───────────────────────────────────────────────────────────────────────────────────────────────────────

    let wearsOut = false;
    const code = makeSink(1024);
    if (enter(10)) {
      if (count() !== ownFunctions) damaged();
      const sectionEnd = end;
      for (let each = importedFunctions; each < functions; each++) {
        const bytes = u32();
        if (bytes > sectionEnd - at) damaged();
        end = at + bytes;
        putFunction(functionTypes[each]!.parameterCount);
        end = sectionEnd;
      }
      leave();
    } else if (ownFunctions > 0) {
      damaged();
    }

    /** Rewrites the function that stands at `at`, up to `end`. */
    function putFunction(parameters: number): void {
      const groups = count();
      const header = at;
      let locals = parameters;
      for (let group = 0; group < groups; group++) {
        locals += u32();
        valueType();
        if (locals > LOCALS_MAX) refuse("has a function of too many variables");
      }
      const headerBytes = module.subarray(header, at);
      const body = makeSink((end - at) * 2 + 16);
      const temporaries = rewriteCode(body, locals);
      const head = makeSink(32);
      putU32(head, groups + temporaries.length);
      putAll(head, headerBytes);
      for (let index = 0; index < temporaries.length; index++) put(head, 1, temporaries[index]!);
      putU32(code, head.length + body.length);
      putAll(code, written(head));
      putAll(code, written(body));
    }

    /** Copies instructions up to `end`; returns the types of variables that it has added, each behind the last. */
    function rewriteCode(body: Sink, locals: number): number[] {
      const temporaries: number[] = [];
      /** What the temporaries are for, in the same order. */
      const uses: string[] = [];
      /** From here on nothing is copied yet. */
      let from = at;

      function temporary(use: string, type: number): number {
        let found = uses.indexOf(use);
        if (found < 0) {
          found = uses.length;
          uses.push(use);
          temporaries.push(type);
        }
        return locals + found;
      }

      function copyUpTo(to: number): void {
        if (to > from) putRange(body, module, from, to);
        from = at;
      }

      function variable(op: 0x20 | 0x21 | 0x22, which: number): void {
        put(body, op);
        putU32(body, which);
      }

      /** Behind an operation: what it left, or the canonical NaN where that is none. */
      function canonical(type: number, constant: readonly number[], equal: readonly number[]): void {
        copyUpTo(at);
        const value = temporary(`nan${type}`, type);
        variable(0x22, value);
        put(body, ...constant);
        variable(0x20, value);
        variable(0x20, value);
        put(body, ...equal);
      }

      const canonicalF32 = (): void => canonical(F32, [0x43, ...NAN_F32], [0x5b, 0x1b]);
      const canonicalF64 = (): void => canonical(F64, [0x44, ...NAN_F64], [0x61, 0x1b]);
      const lanes = (nan: readonly number[]): number[] =>
        [0xfd, 0x0c].concat(...Array.from({ length: 16 / nan.length }, () => nan));

      /** In place of a store, whose address and value are there. */
      function store(start: number, type: number, offset: number): void {
        copyUpTo(start);
        const value = temporary(`value${type}`, type);
        const address = temporary("address", I32);
        variable(0x21, value);
        variable(0x22, address);
        if (offset > 0) {
          put(body, 0x41);
          putI32(body, offset);
          put(body, 0x6a);
        }
        put(body, 0x41, GRANULE_BITS, 0x76, 0x41, 1);
        putMark(body);
        variable(0x20, address);
        variable(0x20, value);
        putRange(body, module, start, at);
      }

      /** In place of what fills or copies: place, a second operand and length are there. */
      function bulk(start: number): void {
        copyUpTo(start);
        const place = temporary("place", I32);
        const other = temporary("other", I32);
        const length = temporary("length", I32);
        variable(0x21, length);
        variable(0x21, other);
        variable(0x22, place);
        variable(0x20, other);
        variable(0x20, length);
        putRange(body, module, start, at);
        variable(0x20, place);
        variable(0x20, length);
        put(body, 0x10);
        putU32(body, markFunction);
      }

      /** What a load or store says of its place. Returns the offset. */
      function memoryArgument(): number {
        const where = at;
        if (u32() > 16) refuse("names a memory that is not there", where);
        return u32();
      }

      function blockType(): void {
        const where = at;
        const type = byte();
        if (type === 0x40 || VALUE_TYPES.has(type)) return;
        at = where;
        // A signed number, which is not negative: the number of a type.
        if ((type & 0xc0) === 0x40) refuse("uses a type of value that programs cannot have", where);
        const start = at;
        let value = 0;
        for (let shift = 0; ; shift += 7) {
          const next = byte();
          value += (next & 0x7f) * 2 ** shift;
          if (next < 0x80) {
            if ((next & 0x40) !== 0) damaged();
            break;
          }
          if (at - start === 5) damaged();
        }
        if (value >= types.length) refuse("names a type that is not there", where);
      }

      while (at < end) {
        const start = at;
        const op = byte();
        if (op >= 0x45 && op <= 0xc4) {
          if ((op >= 0x8d && op <= 0x97) || op === 0xb6) canonicalF32();
          else if ((op >= 0x9b && op <= 0xa5) || op === 0xbb) canonicalF64();
          continue;
        }
        if (op >= 0x20 && op <= 0x22) {
          index(locals, "variable");
          continue;
        }
        if (op >= 0x28 && op <= 0x35) {
          memoryArgument();
          continue;
        }
        if (op >= 0x36 && op <= 0x3e) {
          const type = op === 0x38 ? F32 : op === 0x39 ? F64 : op === 0x37 || op >= 0x3c ? I64 : I32;
          store(start, type, memoryArgument());
          continue;
        }
        switch (op) {
          case 0x00:
          case 0x01:
          case 0x05:
          case 0x0b:
          case 0x0f:
          case 0x1a:
          case 0x1b:
          case 0xd1:
            break;
          case 0x02:
          case 0x03:
          case 0x04:
            blockType();
            break;
          case 0x0c:
          case 0x0d:
            u32();
            break;
          case 0x0e:
            for (let targets = count(); targets >= 0; targets--) u32();
            break;
          case 0x10:
          case 0x12:
          case 0xd2:
            index(functions, "function");
            break;
          case 0x11:
          case 0x13:
            index(types.length, "type");
            index(tables, "table");
            break;
          case 0x1c:
            for (let results = count(); results > 0; results--) valueType();
            break;
          case 0x23:
          case 0x24:
            index(globals, "global");
            break;
          case 0x25:
            index(tables, "table");
            break;
          case 0x26:
            index(tables, "table");
            wearsOut = true;
            break;
          case 0x3f:
            if (byte() !== 0) refuse("names a memory that is not there", start);
            copyUpTo(start);
            put(body, 0x23);
            putU32(body, pagesGlobal);
            break;
          case 0x40:
            if (byte() !== 0) refuse("names a memory that is not there", start);
            copyUpTo(start);
            put(body, 0x10);
            putU32(body, growFunction);
            break;
          case 0x41:
            skipSigned(5);
            break;
          case 0x42:
            skipSigned(10);
            break;
          case 0x43:
            skip(4);
            break;
          case 0x44:
            skip(8);
            break;
          case 0xd0:
            valueType();
            break;
          case 0xfc:
            miscellaneous(start);
            break;
          case 0xfd:
            vector(start);
            break;
          case 0xfe:
            refuse("uses threads, whose answers depend on timing", start);
          case 0x06:
          case 0x07:
          case 0x08:
          case 0x09:
          case 0x0a:
          case 0x18:
          case 0x19:
          case 0x1f:
            refuse("uses exceptions: let errors end it", start);
          case 0xfb:
            refuse("uses garbage collection", start);
          default:
            refuse(`uses instruction 0x${op.toString(16)}, which is not known`, start);
        }
      }
      copyUpTo(end);

      function miscellaneous(start: number): void {
        const sub = u32();
        switch (sub) {
          case 8:
            index(segments, "data segment");
            if (byte() !== 0) refuse("names a memory that is not there", start);
            bulk(start);
            return;
          case 9:
            index(segments, "data segment");
            wearsOut = true;
            return;
          case 10:
            if (byte() !== 0 || byte() !== 0) refuse("names a memory that is not there", start);
            bulk(start);
            return;
          case 11:
            if (byte() !== 0) refuse("names a memory that is not there", start);
            bulk(start);
            return;
          case 12:
            index(elements, "element segment");
            index(tables, "table");
            wearsOut = true;
            return;
          case 13:
            index(elements, "element segment");
            wearsOut = true;
            return;
          case 14:
            index(tables, "table");
            index(tables, "table");
            wearsOut = true;
            return;
          case 16:
            index(tables, "table");
            return;
          case 15:
          case 17:
            index(tables, "table");
            wearsOut = true;
            return;
          default:
            if (sub > 7) refuse(`uses instruction 0xfc ${sub}, which is not known`, start);
        }
      }

      function vector(start: number): void {
        const sub = u32();
        if (sub > 0xff) refuse("uses relaxed SIMD, whose answers are the processor's", start);
        if (sub <= 0x0a || sub === 0x5c || sub === 0x5d) {
          memoryArgument();
        } else if (sub === 0x0b) {
          store(start, V128, memoryArgument());
        } else if (sub === 0x0c || sub === 0x0d) {
          skip(16);
        } else if (sub >= 0x15 && sub <= 0x22) {
          skip(1);
        } else if (sub >= 0x54 && sub <= 0x5b) {
          const offset = memoryArgument();
          skip(1);
          if (sub < 0x58) return;
          store(start, V128, offset);
        } else if (NAN_F32X4.has(sub)) {
          canonical(V128, lanes(NAN_F32), [0xfd, 0x41, 0xfd, 0x52]);
        } else if (NAN_F64X2.has(sub)) {
          canonical(V128, lanes(NAN_F64), [0xfd, 0x47, 0xfd, 0x52]);
        }
      }
      return temporaries;
    }

    // ── what is added ──────────────────────────────────────────────────────────────────────────────────────────────

    /** Stores a byte, which lies on the number of a granule, into the marks. */
    function putMark(body: Sink): void {
      put(body, 0x3a, 0x40, 1);
      putU32(body, marksAt);
    }

    function putBody(locals: readonly number[], ops: (body: Sink) => void): void {
      const body = makeSink(256);
      put(body, locals.length, ...locals.flatMap((type) => [1, type]));
      ops(body);
      put(body, 0x0b);
      putU32(code, body.length);
      putAll(code, written(body));
    }

    function constant(body: Sink, value: number): void {
      put(body, 0x41);
      putI32(body, value);
    }

    function pages(body: Sink, op: 0x23 | 0x24): void {
      put(body, op);
      putU32(body, pagesGlobal);
    }

    // grow(pages) → the pages there were, or -1
    putBody([I32], (body) => {
      pages(body, 0x23);
      put(body, 0x21, 1);
      constant(body, memoryPages);
      // if (pages > max - before) return -1
      put(body, 0x20, 1, 0x6b, 0x20, 0, 0x49, 0x04, 0x40);
      constant(body, -1);
      put(body, 0x0f, 0x0b, 0x20, 1, 0x20, 0, 0x6a);
      pages(body, 0x24);
      put(body, 0x20, 1);
    });

    // mark(place, length)
    putBody([], (body) => {
      // if (length != 0) memory.fill(marks, place >> bits, 1, ((place + length - 1) >> bits) - (place >> bits) + 1)
      put(body, 0x20, 1, 0x04, 0x40);
      put(body, 0x20, 0, 0x41, GRANULE_BITS, 0x76);
      constant(body, marksAt);
      put(body, 0x6a, 0x41, 1);
      put(body, 0x20, 0, 0x20, 1, 0x6a, 0x41, 1, 0x6b, 0x41, GRANULE_BITS, 0x76);
      put(body, 0x20, 0, 0x41, GRANULE_BITS, 0x76, 0x6b, 0x41, 1, 0x6a);
      put(body, 0xfc, 11, 1, 0x0b);
    });

    // restore()
    putBody([I32, I32, I32, I32], (body) => {
      const [granule, first, place, bytes] = [0, 1, 2, 3] as const;
      const memoryBytes = memoryPages * PAGE_BYTES;
      const markOf = (op: readonly number[]): void => {
        put(body, ...op);
        putU32(body, marksAt);
      };
      put(body, 0x02, 0x40, 0x03, 0x40);
      // while (granule < granules)
      put(body, 0x20, granule);
      constant(body, granules);
      put(body, 0x4f, 0x0d, 1);
      // 64 that are clean are passed at once
      for (let part = 0; part < 4; part++) {
        put(body, 0x20, granule, 0xfd, 0, 0x40, 1);
        putU32(body, marksAt + part * 16);
      }
      put(body, 0xfd, 0x50, 0xfd, 0x50, 0xfd, 0x50, 0xfd, 0x53, 0x45, 0x04, 0x40);
      put(body, 0x20, granule, 0x41);
      putI32(body, 64);
      put(body, 0x6a, 0x21, granule, 0x0c, 1, 0x0b);
      put(body, 0x20, granule);
      markOf([0x2d, 0x40, 1]);
      put(body, 0x45, 0x04, 0x40, 0x20, granule, 0x41, 1, 0x6a, 0x21, granule, 0x0c, 1, 0x0b);
      // a run of granules that are not
      put(body, 0x20, granule, 0x21, first, 0x03, 0x40, 0x20, granule, 0x41, 0);
      putMark(body);
      put(body, 0x20, granule, 0x41, 1, 0x6a, 0x22, granule);
      constant(body, granules);
      put(body, 0x49, 0x04, 0x40, 0x20, granule);
      markOf([0x2d, 0x40, 1]);
      put(body, 0x0d, 1, 0x0b, 0x0b);
      // place = first << bits; bytes = min((granule << bits) + what a store may reach beyond, all) - place
      put(body, 0x20, first, 0x41, GRANULE_BITS, 0x74, 0x21, place);
      put(body, 0x20, granule, 0x41, GRANULE_BITS, 0x74, 0x41, STORE_BYTES_MAX, 0x6a, 0x21, bytes);
      put(body, 0x20, bytes);
      constant(body, memoryBytes);
      put(body, 0x20, bytes);
      constant(body, memoryBytes);
      put(body, 0x49, 0x1b, 0x20, place, 0x6b, 0x21, bytes);
      // what the image has of it
      if (imageBytes > 0) {
        const copied = first;
        put(body, 0x20, place);
        constant(body, imageBytes);
        put(body, 0x49, 0x04, 0x40);
        constant(body, imageBytes);
        put(body, 0x20, place, 0x6b, 0x22, copied, 0x20, bytes, 0x20, copied, 0x20, bytes);
        put(body, 0x49, 0x1b, 0x21, copied);
        put(body, 0x20, place, 0x20, place, 0x20, copied, 0xfc, 10, 0, 1);
        put(body, 0x20, place, 0x20, copied, 0x6a, 0x21, place);
        put(body, 0x20, bytes, 0x20, copied, 0x6b, 0x21, bytes, 0x0b);
      }
      put(body, 0x20, place, 0x41, 0, 0x20, bytes, 0xfc, 11, 0);
      put(body, 0x0c, 0, 0x0b, 0x0b);
      for (let each = 0; each < changing.length; each++) {
        const { global, value } = changing[each]!;
        putAll(body, value);
        put(body, 0x24);
        putU32(body, global);
      }
      constant(body, initialPages);
      pages(body, 0x24);
    });

    // ── the module ─────────────────────────────────────────────────────────────────────────────────────────────────

    const result = makeSink(module.length * 2);
    put(result, ...MAGIC);

    function putSection(id: number, total: number, ...parts: readonly Sink[]): void {
      if (total === 0) return;
      const head = makeSink(8);
      putU32(head, total);
      put(result, id);
      putU32(
        result,
        parts.reduce((bytes, part) => bytes + part.length, head.length),
      );
      putAll(result, written(head));
      for (let index = 0; index < parts.length; index++) putAll(result, written(parts[index]!));
    }

    function copySection(id: number): void {
      if (!enter(id)) return;
      put(result, id);
      putU32(result, end - at);
      putAll(result, module.subarray(at, end));
    }

    const added = (...bytes: readonly number[]): Sink => {
      const sink = makeSink(bytes.length);
      put(sink, ...bytes);
      return sink;
    };
    // (i32) → i32, (i32, i32) → nothing, nothing → nothing
    const addedTypes = added(0x60, 1, I32, 1, I32, 0x60, 2, I32, I32, 0, 0x60, 0, 0);
    putSection(1, types.length + 3, typeBytes, addedTypes);
    const memories = makeSink(64);
    for (const [called, size] of [
      ["memory", memoryPages],
      ["marks", marksPages],
    ] as const) {
      putName(memories, "packetfs:host");
      putName(memories, called);
      put(memories, 2, 1);
      putU32(memories, size);
      putU32(memories, size);
    }
    putSection(2, importedFunctions + 2, importBytes, memories);
    const addedFunctions = makeSink(16);
    for (let each = 0; each < 3; each++) putU32(addedFunctions, types.length + each);
    putSection(3, ownFunctions + 3, functionBytes, addedFunctions);
    putSection(4, tables, tableBytes);
    const addedGlobals = added(I32, 1, 0x41);
    putI32(addedGlobals, initialPages);
    put(addedGlobals, 0x0b);
    putSection(6, globals + 1, globalBytes, addedGlobals);
    putName(exportBytes, "packetfs:restore");
    put(exportBytes, 0);
    putU32(exportBytes, restoreFunction);
    putName(exportBytes, "packetfs:pages");
    put(exportBytes, 3);
    putU32(exportBytes, pagesGlobal);
    putSection(7, exports + 2, exportBytes);
    copySection(9);
    copySection(12);
    putSection(10, ownFunctions + 3, code);
    copySection(11);
    return {
      bytes: result.bytes.slice(0, result.length),
      memoryPages,
      marksPages,
      imageBytes,
      marksAt,
      granuleBits: GRANULE_BITS,
      hasStart,
      wearsOut,
      exports: exported,
    };
  };
}
