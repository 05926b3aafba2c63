/**
 * Reads a WebAssembly module before it runs, and writes it again so that its answers follow from its input alone and nothing of
 * one packet is left for the next. What it does not know it refuses. It is carried into isolates as text, so its functions
 * use nothing but their parameters.
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
import { makeWasmAdditions } from "./additions.ts";
import type { WasmAdditions } from "./additions.ts";
import { makeWasmBytes } from "./bytes.ts";
import type { Sink, WasmBytes } from "./bytes.ts";
import { makeWasmInstructions } from "./instructions.ts";
import type { MakeInstructions } from "./instructions.ts";

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

/** The parts that it is made of, each of the one before it. */
export interface WasmRewriterParts {
  readonly bytes: WasmBytes;
  readonly makeInstructions: MakeInstructions;
  readonly additions: WasmAdditions;
}

export function makeWasmRewriter({ bytes, makeInstructions, additions }: WasmRewriterParts): RewriteWasm {
  const { makeSink, put, putAll, putU32, putI32, putName, written, makeCursor } = bytes;
  const GRANULE_BITS = 12;
  const PAGE_BYTES = 65536;
  // As V8 has them.
  const TYPES_MAX = 1000000;
  const FUNCTIONS_MAX = 1000000;
  const I32 = 0x7f;
  /** The sections that a module may have, in their order. */
  const SECTIONS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11];
  const MAGIC = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];

  return (module, limits) => {
    const cursor = makeCursor(module);
    const { refuse, damaged, byte, skip, u32, i32, skipSigned, count, index, valueType, name } = cursor;

    // ── sections, as they stand in the module ──────────────────────────────────────────────────────────────────────

    if (MAGIC.some((value, place) => module[place] !== value))
      throw new TypeError("the file is not a WebAssembly module, which begins with 00 61 73 6d 01 00 00 00");
    const starts = new Map<number, number>();
    const ends = new Map<number, number>();
    cursor.at = 8;
    for (let last = -1; cursor.at < module.length;) {
      const where = cursor.at;
      const id = byte();
      const bytes = u32();
      if (bytes > module.length - cursor.at) damaged();
      if (id !== 0) {
        const rank = SECTIONS.indexOf(id);
        if (rank < 0) refuse(id === 13 ? "uses exceptions" : "has a section that is not known", where);
        if (rank <= last) refuse("has its sections in no order", where);
        last = rank;
        starts.set(id, cursor.at);
        ends.set(id, cursor.at + bytes);
      }
      cursor.at += bytes;
    }

    /** Goes to a section; false where there is none. */
    function enter(id: number): boolean {
      const start = starts.get(id);
      if (start === undefined) return false;
      cursor.at = start;
      cursor.end = ends.get(id)!;
      return true;
    }

    function leave(): void {
      if (cursor.at !== cursor.end) damaged();
    }

    // ── types, imports, functions ──────────────────────────────────────────────────────────────────────────────────

    const types: WasmSignature[] = [];
    /** Of each function, those that are imported first. */
    const functionTypes: WasmSignature[] = [];
    let importedFunctions = 0;

    const typeBytes = makeSink(256);
    if (enter(1)) {
      const total = count();
      if (total > TYPES_MAX) refuse("has too many types");
      const from = cursor.at;
      for (let each = 0; each < total; each++) {
        if (byte() !== 0x60) refuse("uses types that are not functions (garbage collection)", cursor.at - 1);
        const parameters = Array.from({ length: count() }, valueType);
        const results = Array.from({ length: count() }, valueType);
        types.push({ parameters, results });
      }
      leave();
      putAll(typeBytes, module.subarray(from, cursor.at));
    }

    const importBytes = makeSink(256);
    if (enter(2)) {
      const total = count();
      const from = cursor.at;
      for (let each = 0; each < total; each++) {
        const where = cursor.at;
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
      putAll(importBytes, module.subarray(from, cursor.at));
    }

    const functionBytes = makeSink(256);
    if (enter(3)) {
      const total = count();
      if (total > FUNCTIONS_MAX) refuse("has too many functions");
      const from = cursor.at;
      for (let each = 0; each < total; each++) functionTypes.push(types[index(types.length, "type")]!);
      leave();
      putAll(functionBytes, module.subarray(from, cursor.at));
    }
    const functions = functionTypes.length;
    const ownFunctions = functions - importedFunctions;

    // ── tables, memory, globals ────────────────────────────────────────────────────────────────────────────────────

    let tables = 0;
    const tableBytes = makeSink(64);
    if (enter(4)) {
      tables = count();
      for (let each = 0; each < tables; each++) {
        const where = cursor.at;
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
      const where = cursor.at;
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
      const from = cursor.at;
      for (let each = 0; each < total; each++) {
        valueType();
        const mutability = byte();
        if (mutability > 1) refuse("has a shared global", cursor.at - 1);
        const start = cursor.at;
        skipConstant();
        if (mutability === 1) changing.push({ global: each, value: module.subarray(start, cursor.at - 1) });
        globals++;
      }
      leave();
      putAll(globalBytes, module.subarray(from, cursor.at));
    }

    /** An expression that is known before anything runs, its end included. */
    function skipConstant(): void {
      for (;;) {
        const where = cursor.at;
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
      const from = cursor.at;
      for (let each = 0; each < exports; each++) {
        const where = cursor.at;
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
      putAll(exportBytes, module.subarray(from, cursor.at));
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
        const where = cursor.at;
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

    const marksAt = Math.ceil(imageBytes / 8) * 8;
    const granules = memoryPages * (PAGE_BYTES >> GRANULE_BITS);
    // The last ones are looked at 64 at a time, too.
    const marksPages = Math.ceil((marksAt + granules + 64) / PAGE_BYTES);
    const pagesGlobal = globals;
    const restoreFunction = functions + 2;

    // ── code ───────────────────────────────────────────────────────────────────────────────────────────────────────

    const { putFunction, wearsOut } = makeInstructions(cursor, {
      types: types.length,
      functions,
      tables,
      globals,
      elements,
      segments,
      pagesGlobal,
      growFunction: functions,
      markFunction: functions + 1,
      marksAt,
      granuleBits: GRANULE_BITS,
    });
    const code = makeSink(1024);
    if (enter(10)) {
      if (count() !== ownFunctions) damaged();
      const sectionEnd = cursor.end;
      for (let each = importedFunctions; each < functions; each++) {
        const bytes = u32();
        if (bytes > sectionEnd - cursor.at) damaged();
        cursor.end = cursor.at + bytes;
        putFunction(code, functionTypes[each]!.parameters.length);
        cursor.end = sectionEnd;
      }
      leave();
    } else if (ownFunctions > 0) {
      damaged();
    }
    const parts = { initialPages, memoryPages, pagesGlobal, imageBytes, marksAt, granuleBits: GRANULE_BITS };
    additions.put(code, { ...parts, changing });

    // ── the module ─────────────────────────────────────────────────────────────────────────────────────────────────

    const result = makeSink(module.length * 2);
    put(result, ...MAGIC);

    function putSection(id: number, total: number, content: Sink): void {
      if (total === 0) return;
      const head = makeSink(8);
      putU32(head, total);
      put(result, id);
      putU32(result, head.length + content.length);
      putAll(result, written(head));
      putAll(result, written(content));
    }

    function copySection(id: number): void {
      if (!enter(id)) return;
      put(result, id);
      putU32(result, cursor.end - cursor.at);
      putAll(result, module.subarray(cursor.at, cursor.end));
    }

    put(typeBytes, ...additions.types);
    putSection(1, types.length + 3, typeBytes);
    for (const [called, size] of [
      ["memory", memoryPages],
      ["marks", marksPages],
    ] as const) {
      putName(importBytes, "packetfs:host");
      putName(importBytes, called);
      put(importBytes, 2, 1);
      putU32(importBytes, size);
      putU32(importBytes, size);
    }
    putSection(2, importedFunctions + 2, importBytes);
    for (let each = 0; each < 3; each++) putU32(functionBytes, types.length + each);
    putSection(3, ownFunctions + 3, functionBytes);
    putSection(4, tables, tableBytes);
    put(globalBytes, I32, 1, 0x41);
    putI32(globalBytes, initialPages);
    put(globalBytes, 0x0b);
    putSection(6, globals + 1, globalBytes);
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
      wearsOut: wearsOut(),
      exports: exported,
    };
  };
}

/** The rewriter for whoever is outside of isolates. */
export const rewriteWasm: RewriteWasm = (module, limits) => {
  const bytes = makeWasmBytes();
  const makeInstructions = makeWasmInstructions(bytes);
  return makeWasmRewriter({ bytes, makeInstructions, additions: makeWasmAdditions(bytes) })(module, limits);
};
