/**
 * The built-ins that the prelude uses, taken before a line of the program runs: what the program does to its prototypes
 * afterwards breaks the program and not the prelude.
 *
 * Functions in this folder are carried into the isolate as source text (source.ts), so each stands alone: whatever it
 * uses comes in through its parameters.
 */
type AnyFunction = (...args: never[]) => unknown;

export interface Primordials {
  readonly apply: (target: AnyFunction, self: unknown, args: readonly unknown[]) => unknown;
  readonly construct: typeof Reflect.construct;
  readonly defineProperty: typeof Object.defineProperty;
  readonly freeze: typeof Object.freeze;
  readonly keys: (value: object) => string[];
  readonly isArray: typeof Array.isArray;
  readonly isSafeInteger: (value: number) => boolean;
  readonly parseInt: (text: string, radix: number) => number;
  readonly min: typeof Math.min;
  readonly floor: typeof Math.floor;
  readonly BigInt: typeof BigInt;
  readonly Number: typeof Number;
  readonly parse: (
    text: string,
    reviver?: (key: string, value: unknown, context: { readonly source?: string }) => unknown,
  ) => unknown;
  /** Undefined for what JSON cannot say. */
  readonly stringify: (value: unknown) => string | undefined;
  readonly fromCharCode: typeof String.fromCharCode;
  readonly charCodeAt: (text: string, index: number) => number;
  readonly indexOf: (text: string, part: string, from?: number) => number;
  readonly slice: (text: string, start: number, end?: number) => string;
  readonly split: (text: string, separator: string) => string[];
  readonly Map: typeof Map;
  readonly mapGet: <Key, Value>(map: Map<Key, Value>, key: Key) => Value | undefined;
  readonly mapSet: <Key, Value>(map: Map<Key, Value>, key: Key, value: Value) => unknown;
  readonly mapSize: (map: Map<unknown, unknown>) => number;
  readonly mapForEach: <Key, Value>(map: Map<Key, Value>, visit: (value: Value, key: Key) => void) => void;
  /** In place, by UTF-16 units unless told how. */
  readonly sort: (list: string[], compare?: (a: string, b: string) => number) => string[];
  readonly ArrayBuffer: typeof ArrayBuffer;
  readonly DataView: typeof DataView;
  readonly Uint8Array: typeof Uint8Array;
  readonly Uint32Array: typeof Uint32Array;
  readonly Float64Array: typeof Float64Array;
  readonly Float32Array: typeof Float32Array;
  readonly Int32Array: typeof Int32Array;
  readonly bytesIndexOf: (bytes: Uint8Array, byte: number, from?: number) => number;
  readonly bytesLastIndexOf: (bytes: Uint8Array, byte: number, from: number) => number;
  readonly bytesSlice: (
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
  ) => Uint8Array<ArrayBuffer>;
  readonly bytesSet: (bytes: Uint8Array, source: Uint8Array, at?: number) => void;
  readonly numbersSet: <Numbers extends Uint32Array>(numbers: Numbers, source: Numbers) => void;
  readonly numbersFill: (numbers: Uint32Array, value: number) => void;
  /** In place, the least first. */
  readonly floatsSort: (numbers: Float64Array) => void;
  readonly bytesLength: (bytes: Uint8Array) => number;
  /** The bytes that a typed array of any class is a view of. */
  readonly bytesOf: (array: object) => Uint8Array<ArrayBuffer>;
  readonly bufferLength: (buffer: ArrayBuffer) => number;
  /** Takes a buffer's memory away at once. */
  readonly bufferDetach: (buffer: ArrayBuffer) => void;
  /** A full collection, where the process was started with --expose-gc. */
  readonly collectGarbage: () => void;
  /** The name of a typed array's class, undefined for anything else: cannot be faked. */
  readonly arrayKind: (value: unknown) => string | undefined;
  readonly isPromise: (value: unknown) => boolean;
  readonly Function: typeof Function;
  readonly Error: typeof Error;
  readonly TypeError: typeof TypeError;
  readonly RangeError: typeof RangeError;
  readonly imul: typeof Math.imul;
}

export function capturePrimordials(): Primordials {
  const { call, bind } = Function.prototype as unknown as Readonly<Record<"call" | "bind", object>>;
  /** Binds `call` to a method: a function that takes the method's `this` first. */
  const uncurry = Reflect.apply(bind as typeof Function.prototype.bind, bind, [call]) as (
    method: unknown,
  ) => AnyFunction;
  const method = <Taken>(prototype: object, name: PropertyKey): Taken =>
    uncurry((prototype as Record<PropertyKey, unknown>)[name]) as Taken;
  const getter = (prototype: object, name: PropertyKey): ((self: unknown) => never) => {
    const { get } = Object.getOwnPropertyDescriptor(prototype, name) as { get?: unknown };
    return uncurry(get) as (self: unknown) => never;
  };
  const isPrototypeOf: (self: object, value: unknown) => boolean = method(Object.prototype, "isPrototypeOf");
  const transfer: (self: ArrayBuffer, bytes: number) => ArrayBuffer = method(
    ArrayBuffer.prototype,
    "transfer",
  );
  const typedArray = Object.getPrototypeOf(Uint8Array.prototype) as object;
  const Bytes = Uint8Array;
  const bufferOf = getter(typedArray, "buffer");
  const placeOf = getter(typedArray, "byteOffset");
  const sizeOf = getter(typedArray, "byteLength");
  const promise = Promise.prototype;
  const { gc } = globalThis as { gc?: () => void };
  const { parse, stringify } = JSON;
  return {
    apply: Reflect.apply as Primordials["apply"],
    construct: Reflect.construct,
    defineProperty: Object.defineProperty,
    freeze: Object.freeze,
    keys: Object.keys,
    isArray: Array.isArray,
    isSafeInteger: Number.isSafeInteger,
    parseInt: Number.parseInt,
    min: Math.min,
    floor: Math.floor,
    BigInt,
    Number,
    parse: (text, reviver) => parse(text, reviver as never) as unknown,
    stringify: (value) => stringify(value) as string | undefined,
    fromCharCode: String.fromCharCode,
    charCodeAt: method(String.prototype, "charCodeAt"),
    indexOf: method(String.prototype, "indexOf"),
    slice: method(String.prototype, "slice"),
    split: method(String.prototype, "split"),
    Map,
    mapGet: method(Map.prototype, "get"),
    mapSet: method(Map.prototype, "set"),
    mapSize: getter(Map.prototype, "size"),
    mapForEach: method(Map.prototype, "forEach"),
    sort: method(Array.prototype, "sort"),
    ArrayBuffer,
    DataView,
    Uint8Array,
    Uint32Array,
    Float64Array,
    Float32Array,
    Int32Array,
    bytesIndexOf: method(Uint8Array.prototype, "indexOf"),
    bytesLastIndexOf: method(Uint8Array.prototype, "lastIndexOf"),
    bytesSlice: method(Uint8Array.prototype, "slice"),
    bytesSet: method(Uint8Array.prototype, "set"),
    numbersSet: method(Uint32Array.prototype, "set"),
    numbersFill: method(Uint32Array.prototype, "fill"),
    floatsSort: method(Float64Array.prototype, "sort"),
    bytesLength: getter(typedArray, "length"),
    bytesOf: (array) => new Bytes(bufferOf(array), placeOf(array), sizeOf(array)),
    bufferLength: getter(ArrayBuffer.prototype, "byteLength"),
    bufferDetach: (buffer) => void transfer(buffer, 0),
    collectGarbage: () => gc?.(),
    arrayKind: getter(typedArray, Symbol.toStringTag),
    isPromise: (value) => isPrototypeOf(promise, value),
    Function,
    Error,
    TypeError,
    RangeError,
    imul: Math.imul,
  };
}
