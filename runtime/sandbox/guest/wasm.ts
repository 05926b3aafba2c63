/**
 * WebAssembly modules of a program: each is read, written again and compiled once per isolate (program/wasm/rewriter.ts), and
 * as if it were instantiated anew for each packet: what a packet wrote to is put back before the next one uses the module.
 * The program gets a handle that calls exports, and nothing of WebAssembly's own, which could be written to.
 */
import type { Faults } from "./faults.ts";
import type { Freeze } from "./freeze.ts";
import type { PacketLog } from "./console.ts";
import type { Primordials } from "./primordials.ts";
import type { TextCodec } from "./text-codec.ts";
import type { RewriteWasm, WasmSignature } from "../../program/wasm/rewriter.ts";

export interface WasmTools {
  readonly rewrite: RewriteWasm;
  readonly codec: TextCodec;
  readonly faults: Faults;
  readonly freeze: Freeze;
  readonly log: PacketLog;
  /** FaultCode. */
  readonly codes: { readonly threw: number; readonly memoryLimit: number };
  /** A module's memory has at most its program's, divided by this. */
  readonly memoryShare: number;
  readonly tableElementsMax: number;
}

/** What a program knows as an imported module (sdk/wasm-program.ts). */
export interface WasmHandle {
  readonly name: string;
  readonly exports: Readonly<Record<string, WasmSignature>>;
  call(name: string, ...args: readonly unknown[]): number | bigint | undefined;
  bytes(name: string, ...args: readonly unknown[]): Uint8Array<ArrayBuffer> | undefined;
  text(name: string, ...args: readonly unknown[]): string | undefined;
}

export interface WasmModules {
  /** How much memory the program may have, of which its modules' are a part, and whether that is held against it. */
  allow(memoryBytes: number, isCounted: boolean): void;
  /** A packet begins, and its modules are new. */
  begin(): void;
  /** The module whose bytes these are, in base64. */
  readonly open: (name: string, base64: string) => WasmHandle;
}

type ExportedFunction = (...args: readonly (number | bigint)[]) => number | bigint | undefined;

/** What WebAssembly has of it; the types of Node do not say. */
interface Engine {
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: Record<string, unknown> };
  readonly Memory: new (size: { readonly initial: number; readonly maximum: number }) => {
    readonly buffer: ArrayBuffer;
  };
}

/** Takes WebAssembly, which is gone afterwards. */
export function makeWasm(p: Primordials, tools: WasmTools): WasmModules {
  const { rewrite, codec, faults, freeze, log, codes, memoryShare, tableElementsMax } = tools;
  const { Module, Instance, Memory } = (globalThis as unknown as { readonly WebAssembly: Engine })
    .WebAssembly;
  const unsigned = BigInt as { readonly asUintN: (bits: number, value: bigint) => bigint };
  const asUintN = unsigned.asUintN;
  const PAGE_BYTES = 65536;
  const PLACE = 4294967296n;
  /** What lies in a module's memory of one call begins at multiples of this. */
  const ALIGNMENT = 16;
  const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const handles = new p.Map<string, WasmHandle>();
  let memoryBytes = 0;
  let isCounted = false;
  /** The packet, by a number of its own. */
  let packet = 0;

  function decoded(base64: string): Uint8Array<ArrayBuffer> {
    const padding = base64.endsWith("==") ? 2 : base64.endsWith("=") ? 1 : 0;
    const bytes = new p.Uint8Array((base64.length / 4) * 3 - padding);
    const values = new p.Uint8Array(256);
    for (let value = 0; value < 64; value++) values[p.charCodeAt(DIGITS, value)] = value;
    for (let from = 0, to = 0; from < base64.length; from += 4, to += 3) {
      let group = 0;
      for (let digit = 0; digit < 4; digit++)
        group = (group << 6) | values[p.charCodeAt(base64, from + digit)]!;
      bytes[to] = group >> 16;
      bytes[to + 1] = group >> 8;
      bytes[to + 2] = group;
    }
    return bytes;
  }

  /** What V8 throws is of a realm that is not frozen, so it is not for programs. */
  function withoutEngine<Made>(file: string, make: () => Made): Made {
    try {
      return make();
    } catch (error) {
      throw new p.TypeError(`${file}: ${(error as Error).message}`);
    }
  }

  function open(file: string, base64: string): WasmHandle {
    if (typeof file !== "string" || typeof base64 !== "string") throw new p.TypeError("a module is text");
    const known = p.mapGet(handles, base64);
    if (known !== undefined) return known;
    const handle = freeze.deep(makeHandle(file, base64));
    p.mapSet(handles, base64, handle);
    return handle;
  }

  function makeHandle(file: string, base64: string): WasmHandle {
    const memoryPagesMax = (memoryBytes / memoryShare / PAGE_BYTES) | 0;
    const module = withoutEngine(file, () => rewrite(decoded(base64), { memoryPagesMax, tableElementsMax }));
    const { imageBytes, marksAt, granuleBits } = module;
    const compiled = withoutEngine(file, () => new Module(module.bytes));
    const allocates = hasExport("alloc", "i32", "i32");
    const initializes = hasExport("_initialize", "", "");
    const functions = new p.Map<string, ExportedFunction>();
    let memory: { readonly buffer: ArrayBuffer } | undefined;
    let marks: { readonly buffer: ArrayBuffer } | undefined;
    let bytes = new p.Uint8Array(0);
    let marked = new p.Uint8Array(0);
    let restore: () => void;
    let pages: { readonly value: number };
    let usedBy = -1;
    /** It is being made new. Where that was cut off, for lack of stack, nothing of it is used any more. */
    let isRenewing = false;
    /** What alloc gave this packet: see `layOut`. */
    let region = 0;
    let regionBytes = 0;

    function hasExport(name: string, parameters: string, results: string): boolean {
      const signature = module.exports.get(name);
      return signature?.parameters.join() === parameters && signature.results.join() === results;
    }

    /** V8 does not count a module's memory as the isolate's, so a buffer of its size stands in for it, which nothing touches. */
    let counted: ArrayBuffer | undefined;

    function takeMemory(): void {
      const { memoryPages, marksPages } = module;
      if (isCounted) counted ??= allocated(() => new p.ArrayBuffer(memoryPages * PAGE_BYTES));
      memory = allocated(() => new Memory({ initial: memoryPages, maximum: memoryPages }));
      marks = allocated(() => new Memory({ initial: marksPages, maximum: marksPages }));
      bytes = new p.Uint8Array(memory.buffer);
      marked = new p.Uint8Array(marks.buffer);
    }

    function allocated<Made>(make: () => Made): Made {
      try {
        return make();
      } catch (error) {
        return faults.fail(codes.memoryLimit, `${file}: ${(error as Error).message}`);
      }
    }

    function instantiate(): void {
      const imports = { "packetfs:host": { memory, marks }, packetfs: { log: logged } };
      const { exports } = withoutEngine(file, () => new Instance(compiled, imports));
      module.exports.forEach(({ parameters, results }, name) => {
        if (results.length > 1 || isReference(parameters) || isReference(results)) return;
        p.mapSet(functions, name, exports[name] as ExportedFunction);
      });
      if (module.hasStart)
        p.mapSet(functions, "packetfs:start", exports["packetfs:start"] as ExportedFunction);
      restore = exports["packetfs:restore"] as () => void;
      pages = exports["packetfs:pages"] as typeof pages;
    }

    /** Whether a value is nothing that JavaScript has a number for. */
    function isReference(types: readonly string[]): boolean {
      return types.some((type) => type === "funcref" || type === "externref" || type === "v128");
    }

    /** Makes the module what it is before anything has run. */
    function renew(): void {
      if (usedBy === packet) return;
      const isNew = memory === undefined || isRenewing;
      isRenewing = true;
      if (isNew) takeMemory();
      else restore();
      if (isNew || module.wearsOut) instantiate();
      if (isNew) p.bytesSet(marked, new p.Uint8Array(memory!.buffer, 0, imageBytes));
      region = 0;
      regionBytes = 0;
      usedBy = packet;
      isRenewing = false;
      if (module.hasStart) invoke("packetfs:start", []);
      if (initializes) invoke("_initialize", []);
    }

    function isWithin(place: number, length: number): boolean {
      return place + length <= pages.value * PAGE_BYTES;
    }

    /** packetfs.log: the module says something. */
    function logged(place: number, length: number): void {
      const [from, count] = [place >>> 0, length >>> 0];
      if (!isWithin(from, count)) {
        throw new p.RangeError(`log was given ${count} bytes at ${from}, which are outside of its memory`);
      }
      // No more is looked at than can be kept, and one byte to see that there is more.
      log.write(codec.decode(bytes, from, from + p.min(count, log.left() + 1)));
    }

    function invoke(name: string, args: readonly (number | bigint)[]): number | bigint | undefined {
      try {
        return p.apply(p.mapGet(functions, name)! as never, undefined, args as never) as number | bigint;
      } catch (error) {
        const { message } = error as Error;
        const trap = `${file}: ${name}: ${message}`;
        // How deep calls may go is the machine's, so the program may not go on from that.
        if (message === "Maximum call stack size exceeded") faults.fail(codes.threw, `RangeError: ${trap}`);
        throw new p.Error(trap);
      }
    }

    function signatureOf(name: string): WasmSignature {
      const signature = module.exports.get(name);
      if (signature === undefined) throw new p.TypeError(`${file} exports no function ${p.stringify(name)!}`);
      if (p.mapGet(functions, name) === undefined)
        throw new p.TypeError(`${file}: ${name} takes or gives what JavaScript has no number for`);
      return signature;
    }

    /** Room for `length` bytes, the module's own to read and write until the next call. */
    function layOut(length: number): number {
      if (length <= regionBytes) return region;
      const wanted = length > regionBytes * 2 ? length : regionBytes * 2;
      signatureOf("alloc");
      if (!allocates)
        throw new p.TypeError(
          `${file}: alloc takes an i32, how many bytes, and gives an i32, where they are`,
        );
      const place = (invoke("alloc", [wanted]) as number) >>> 0;
      if (!isWithin(place, wanted) || place === 0) {
        throw new p.RangeError(
          `${file}: alloc was asked for ${wanted} bytes and gave ${place}, ${place === 0 ? "which is none" : "which is outside of its memory"}`,
        );
      }
      region = place;
      regionBytes = wanted;
      return place;
    }

    /** To be called before these bytes are written to: between both nothing may be left out. */
    function mark(place: number, length: number): void {
      if (length === 0) return;
      const first = place >>> granuleBits;
      const last = (place + length - 1) >>> granuleBits;
      for (let granule = first; granule <= last; granule++) marked[marksAt + granule] = 1;
    }

    function call(name: string, ...args: readonly unknown[]): number | bigint | undefined {
      renew();
      const { parameters } = signatureOf(name);
      let length = 0;
      for (let index = 0; index < args.length; index++) length += roomFor(args[index]);
      let place = length > 0 ? layOut(length) : 0;
      const given: (number | bigint)[] = [];
      for (let index = 0; index < args.length; index++) {
        const value = args[index];
        const type = parameters[given.length];
        const wrong = `${file}: ${name} takes (${parameters.join(", ")}), a typed array or a string in place of two i32`;
        if (typeof value === "number" && type !== "i64" && type !== undefined) {
          // Whatever NaN it is.
          given[given.length] = value === value ? value : NaN;
        } else if (typeof value === "bigint" && type === "i64") {
          given[given.length] = value;
        } else if (isArray(value) || typeof value === "string") {
          if (type !== "i32" || parameters[given.length + 1] !== "i32") throw new p.TypeError(wrong);
          const room = roomFor(value);
          mark(place, room);
          given[given.length] = place;
          if (typeof value === "string") {
            given[given.length] = codec.encode(value, bytes, place) - place;
          } else {
            const source = p.bytesOf(value);
            given[given.length] = p.bytesLength(source);
            p.bytesSet(bytes, source, place);
          }
          place += room;
        } else {
          throw new p.TypeError(wrong);
        }
      }
      if (given.length !== parameters.length) {
        throw new p.TypeError(
          `${file}: ${name} takes (${parameters.join(", ")}), and was given ${given.length} of them`,
        );
      }
      return invoke(name, given);
    }

    /** Whether it is a typed array, of any class. */
    function isArray(value: unknown): value is object {
      return typeof value === "object" && value !== null && p.arrayKind(value) !== undefined;
    }

    /** Bytes of memory that an argument needs. None, and it has a place all the same. */
    function roomFor(value: unknown): number {
      const length =
        typeof value === "string"
          ? value.length * 3
          : isArray(value)
            ? p.bytesLength(p.bytesOf(value))
            : undefined;
      if (length === undefined) return 0;
      const over = length % ALIGNMENT;
      return over === 0 && length > 0 ? length : length + ALIGNMENT - over;
    }

    /** Where the bytes are that an export gave: i64, the place in its upper half and the length in its lower one. */
    function slice(name: string, args: readonly unknown[]): { place: number; length: number } | undefined {
      renew();
      const { results } = signatureOf(name);
      if (results[0] !== "i64")
        throw new p.TypeError(`${file}: ${name} gives no bytes: those are an i64, place << 32 | length`);
      const given = asUintN(64, p.apply(call as never, undefined, [name, ...args]) as bigint);
      if (given === 0n) return undefined;
      const place = p.Number(given / PLACE);
      const length = p.Number(given % PLACE);
      if (isWithin(place, length)) return { place, length };
      throw new p.RangeError(
        `${file}: ${name} gave ${length} bytes at ${place}, which are outside of its memory`,
      );
    }

    const exports: Record<string, WasmSignature> = {};
    module.exports.forEach(({ parameters, results }, name) => {
      p.defineProperty(exports, name, { value: { parameters, results }, enumerable: true });
    });
    return {
      name: file,
      exports,
      call,
      bytes(name, ...args) {
        const found = slice(name, args);
        if (found === undefined) return undefined;
        const copy = new p.Uint8Array(found.length);
        p.bytesSet(copy, new p.Uint8Array(memory!.buffer, found.place, found.length));
        return copy;
      },
      text(name, ...args) {
        const found = slice(name, args);
        return found && codec.decode(bytes, found.place, found.place + found.length);
      },
    };
  }

  return {
    allow(bytes, counted) {
      memoryBytes = bytes;
      isCounted = counted;
    },
    begin() {
      packet++;
    },
    open,
  };
}
