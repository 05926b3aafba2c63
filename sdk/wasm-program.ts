/**
 * WebAssembly in programs. A program imports a module's file and calls what it exports:
 *
 *   import { blocks, defineProgram } from "packetfs";
 *   import kernel from "./kernel.wasm";
 *
 *   export default defineProgram({
 *     input: blocks(),
 *     map: (block) => Number(kernel.call("map", block)),
 *     combine: (a: number, b: number) => a + b,
 *   });
 *
 * and a module that exports what `wasmProgram` looks for is a program by itself: `pfs run kernel.wasm NAME`. What a module
 * exports for either is in examples/wasm/README.md.
 *
 * A packet finds a module as it was compiled: its memory, globals and tables are new to each. It imports nothing but
 * `packetfs.log(place, length)`, which is console.log, and it uses no threads, no relaxed SIMD and no exceptions.
 */
import type { ProgramLimits } from "../runtime/program/program.ts";
import type { ReaderSpec } from "../runtime/program/readers.ts";

/** The types of an exported function: "i32", "i64", "f32", "f64", and others that JavaScript cannot call it with. */
export interface WasmSignature {
  readonly parameters: readonly string[];
  readonly results: readonly string[];
}

/** What `import module from "./module.wasm"` gives. */
export interface WasmModule {
  /** What its file is called. */
  readonly name: string;
  /** Its exported functions. */
  readonly exports: Readonly<Record<string, WasmSignature>>;
  /**
   * Calls an export. A number stands for an i32, f32 or f64, a bigint for an i64; a typed array, or a string as UTF-8, stands for two
   * i32, the place in its memory that its bytes were copied to and how many they are: that place is asked for with the export
   * `alloc(bytes: i32) → i32`, once for many calls, and belongs to the module until it returns. Gives the number or bigint
   * that the export returns, or undefined. Throws an Error for a trap.
   */
  call(name: string, ...args: readonly WasmArgument[]): number | bigint | undefined;
  /**
   * The same for exports that give bytes: an i64, their place in its upper 32 bits and their length in its lower ones. Gives a
   * copy of them, undefined where the i64 is 0.
   */
  bytes(name: string, ...args: readonly WasmArgument[]): Uint8Array<ArrayBuffer> | undefined;
  /** The same for bytes that are UTF-8. */
  text(name: string, ...args: readonly WasmArgument[]): string | undefined;
}

export type WasmArgument =
  | number
  | bigint
  | string
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float32Array
  | Float64Array
  | BigInt64Array
  | BigUint64Array;

/** What a module may say of itself, as JSON that its export `describe` gives. */
interface Declaration {
  /** By default blocks: all lines of a split as one record. */
  readonly input?: ReaderSpec;
  readonly yields?: "value" | "groups" | "bytes";
  /** What the bytes are that it gives for a value: JSON (the default), or the value itself, a Uint8Array. */
  readonly values?: "json" | "bytes";
  readonly limits?: Partial<ProgramLimits>;
}

/** A program that is a WebAssembly module: what `defineProgram` makes, of functions that the module exports. */
export interface WasmProgram {
  readonly input: ReaderSpec;
  readonly yields: "value" | "groups" | "bytes";
  readonly limits?: Partial<ProgramLimits>;
  readonly init?: (args: unknown) => undefined;
  readonly map: (
    record: unknown,
    context: { readonly emit: (key: string, value: unknown) => void },
  ) => unknown;
  readonly combine?: (a: unknown, b: unknown) => unknown;
  readonly reduce?: (value: unknown) => unknown;
}

/** What a sandbox gives to modules: see bundle.ts. */
declare const $packetfs: { readonly shared: (make: () => unknown) => unknown };

/**
 * The program that a module is. Of its exports it uses
 *
 *   describe() → i64              JSON {"input", "yields", "values", "limits"}, each of which has a default
 *   init(place, length)           takes the job's arguments as JSON, once for each split
 *   map(place, length) → value    takes a record: bytes or text as they are, others as JSON
 *   combine(value, value) → value
 *   reduce(value) → value         not where it yields "groups"
 *
 * A value is a number where a function has one type for it (i32, f32, f64). Where it gives an i64, and takes (place, length),
 * a value is JSON, or bytes where `values` says so; 0 adds nothing. "groups" are a JSON object, or [[keys], [values]],
 * whose values are combined by their keys, and "bytes" are written as they are.
 */
export function wasmProgram(module: WasmModule): WasmProgram {
  const { exports, name } = module;
  const declaration = $packetfs.shared(() =>
    exports["describe"] === undefined ? {} : JSON.parse(module.text("describe") ?? "{}"),
  ) as Declaration;
  const { input = { kind: "blocks" }, yields = "value", values = "json", limits } = declaration;
  if (values !== "json" && values !== "bytes")
    throw new TypeError(`${name}: what its values are is "json" or "bytes"`);
  if (exports["map"] === undefined)
    throw new TypeError(`${name} is no program: it exports no map(place, length)`);
  if (yields === "groups" && exports["reduce"] !== undefined)
    throw new TypeError(`${name}: reduce is for what yields one value`);

  function given(value: unknown): WasmArgument {
    return values === "bytes" ? (value as Uint8Array) : JSON.stringify(value);
  }

  function apply(called: string, taken: readonly unknown[]): unknown {
    const { parameters, results } = exports[called]!;
    const args = parameters.length === taken.length ? (taken as number[]) : taken.map(given);
    return value(called, results, args);
  }

  function value(called: string, results: readonly string[], args: readonly WasmArgument[]): unknown {
    if (results[0] !== "i64") return module.call(called, ...args);
    if (values === "bytes" || yields === "bytes") return module.bytes(called, ...args);
    const text = module.text(called, ...args);
    return text === undefined ? undefined : JSON.parse(text);
  }

  /** Two arrays are read in half of the time that an array of pairs takes. */
  function columnsOf(found: unknown): unknown[][] {
    const object = (found ?? {}) as object;
    return [Object.keys(object), Object.values(object)];
  }

  return {
    input,
    yields,
    ...(limits === undefined ? {} : { limits }),
    ...(exports["init"] === undefined
      ? {}
      : { init: (args) => void module.call("init", JSON.stringify(args)) as undefined }),
    map(record, { emit }) {
      const isPlain = typeof record === "string" || record instanceof Uint8Array;
      const found = value("map", exports["map"]!.results, [isPlain ? record : JSON.stringify(record)]);
      if (yields !== "groups") return found;
      const [keys, list] = Array.isArray(found) ? (found as unknown[][]) : columnsOf(found);
      if (keys?.length !== list?.length)
        throw new TypeError(`${name}: map gave keys and values that are not as many`);
      for (let index = 0; index < keys!.length; index++) emit(keys![index] as string, list![index]);
      return undefined;
    },
    ...(exports["combine"] === undefined ? {} : { combine: (a, b) => apply("combine", [a, b]) }),
    ...(exports["reduce"] === undefined ? {} : { reduce: (last) => apply("reduce", [last]) }),
  };
}
