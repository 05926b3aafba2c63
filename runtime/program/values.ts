/**
 * What a program may yield, and how it crosses borders: between packets, processes and machines, and to whoever asked.
 * A value arrives exactly as it was, or is refused by a TypeError that names where it cannot be carried.
 *
 * Carried: null, undefined, booleans, strings, numbers, bigints, Date, ArrayBuffer, DataView, typed arrays, Map, Set,
 * arrays by their elements and plain objects by their own enumerable string keys, all in copies. Refused: functions,
 * symbols, promises, other class instances, arrays with holes, cycles, and what a copy would be without: symbols as keys,
 * properties of plain objects that are not enumerable, properties of arrays that are no elements (those that are not
 * enumerable in arrays of up to 16 elements; longer ones are carried without).
 *
 * The text of a value is JSON where JSON can say it. Everything else is an object whose "$" names what it is and whose "v"
 * says the value:
 *
 *   {"$":"undefined"}                                {"$":"number","v":"NaN" | "Infinity" | "-Infinity" | "-0"}
 *   {"$":"bigint","v":"-ff"}            hexadecimal  {"$":"Date","v":"2000-01-01T00:00:00.000Z"}   null: no date
 *   {"$":"Map","v":[[key,value],…]}                  {"$":"Set","v":[value,…]}
 *   {"$":"Uint8Array","v":"00ff"}       hexadecimal, as ArrayBuffer and DataView
 *   {"$":"Float64Array","v":[1,"NaN"]}  elements, as every other typed array: those that JSON lacks, and bigints, as text
 *   {"$":"Object","v":[[key,value],…]}  a plain object with a key "$"
 *   {"$":"null-prototype","v":[…]}      Object.create(null) and what was put in it
 *
 * `makeValueCodec` is carried into isolates as text, so it uses nothing but its parameters and the language's own
 * built-ins, which it takes when it is called.
 */
export interface ValueCodec {
  /** A copy that nothing else refers to: what decoding the value's text would give. `what` says what yielded it. */
  copy(value: unknown, what: string): unknown;
  /** How large the last copy was: its values at any depth, and eight bytes as one. */
  nodes(): number;
  encode(value: unknown, what: string): string;
  /** What the text of a value is the JSON of, but that bigints are decimal: for people and for other programs. */
  json(value: unknown, what: string): unknown;
  /** The text of a value with its bigints in decimal, as whoever opens a file of it reads them. */
  decimal(text: string): string;
  /** Throws SyntaxError or TypeError when the text is not a value's. `isDecimal` says what its bigints are in. */
  decode(text: string, isDecimal?: boolean): unknown;
}

/** `targetOf` gives the Map, Set or typed array behind a read-only view. */
export function makeValueCodec(targetOf: (view: object) => object | undefined): ValueCodec {
  const DEPTH_MAX = 256;
  const HEX_BLOCK = 4096;
  /** Longer arrays are not looked through for properties that are not enumerable: each element is made a name of for that. */
  const NAMED_ELEMENTS_MAX = 16;
  const { getPrototypeOf, getOwnPropertyDescriptor, keys, hasOwn, defineProperty } = Object;
  const { getOwnPropertyNames, getOwnPropertySymbols, values: valuesOf } = Object;
  const { isArray } = Array;
  const { parse, stringify } = JSON;
  const { apply, ownKeys } = Reflect;
  const { fromCharCode } = String;
  const RealMap = Map;
  const RealSet = Set;
  const RealDate = Date;
  const RealView = DataView;
  const RealBigInt = BigInt;
  const Bytes = Uint8Array;
  const Failure = TypeError;
  const objectPrototype = Object.prototype;
  const arrayPrototype = Array.prototype;
  const datePrototype = Date.prototype;
  const mapPrototype = Map.prototype;
  const setPrototype = Set.prototype;
  const bufferPrototype = ArrayBuffer.prototype;
  const viewPrototype = DataView.prototype;
  const promisePrototype = Promise.prototype;
  const typedPrototype = getPrototypeOf(Uint8Array.prototype) as object;
  type Method = (...args: never[]) => unknown;
  const methodOf = (prototype: object, name: string): Method => (prototype as Record<string, Method>)[name]!;
  const getterOf = (prototype: object, name: PropertyKey): Method =>
    (getOwnPropertyDescriptor(prototype, name) as { readonly get: Method }).get;
  const kindOf = getterOf(typedPrototype, Symbol.toStringTag);
  const typedLength = getterOf(typedPrototype, "length");
  const bufferLength = getterOf(bufferPrototype, "byteLength");
  const viewBuffer = getterOf(viewPrototype, "buffer");
  const viewOffset = getterOf(viewPrototype, "byteOffset");
  const viewLength = getterOf(viewPrototype, "byteLength");
  const mapSize = getterOf(mapPrototype, "size");
  const setSize = getterOf(setPrototype, "size");
  const getTime = methodOf(datePrototype, "getTime");
  const toISOString = methodOf(datePrototype, "toISOString");
  const isEnumerable = methodOf(objectPrototype, "propertyIsEnumerable");
  const mapForEach = methodOf(mapPrototype, "forEach");
  const setForEach = methodOf(setPrototype, "forEach");
  const bytesSet = methodOf(typedPrototype, "set");
  // Freezing a realm makes an accessor of it, so that whoever inherits it may have one of their own.
  const bigintText = Reflect.get(BigInt.prototype, "toString") as Method;

  interface Typed {
    readonly make: new (length: number) => Record<number, unknown> & { readonly length: number };
    readonly prototype: object;
    readonly isBig: boolean;
  }
  const typed = new RealMap<string, Typed>();
  for (const make of [
    Int8Array,
    Uint8Array,
    Uint8ClampedArray,
    Int16Array,
    Uint16Array,
    Int32Array,
    Uint32Array,
    Float32Array,
    Float64Array,
    BigInt64Array,
    BigUint64Array,
    (globalThis as { Float16Array?: unknown }).Float16Array as Float32ArrayConstructor | undefined,
  ]) {
    if (make === undefined) continue;
    const isBig = make === BigInt64Array || make === BigUint64Array;
    typed.set(make.name, { make: make as unknown as Typed["make"], prototype: make.prototype, isBig });
  }
  const typedGet = typed.get.bind(typed);

  const digits = new Bytes(512);
  for (let byte = 0; byte < 256; byte++) {
    for (let half = 0; half < 2; half++) {
      const nibble = half === 0 ? byte >> 4 : byte & 15;
      digits[byte * 2 + half] = nibble < 10 ? 48 + nibble : 87 + nibble;
    }
  }

  // One walk at a time, and none calls the program but through what the program itself put into a value.
  let textual = false;
  let nodes = 0;
  let source = "";
  const path: (string | number)[] = [];
  const ancestors: object[] = [];

  function refuse(depth: number, reason: string): never {
    let where = "$";
    for (let level = 0; level < depth; level++) {
      const step = path[level]!;
      if (typeof step === "number") where += "[" + step + "]";
      else if (/^[A-Za-z_$][\w$]*$/.test(step)) where += "." + step;
      else where += "[" + stringify(step.length > 64 ? step.slice(0, 64) + "…" : step) + "]";
    }
    throw new Failure(`${source} a value that cannot be carried: ${where} ${reason}`);
  }

  function tagged(tag: string, value?: unknown): object {
    return value === undefined ? { $: tag } : { $: tag, v: value };
  }

  function isOdd(value: number): boolean {
    return value - value !== 0 || (value === 0 && 1 / value < 0);
  }

  function numberText(value: number): string {
    return value === 0 ? "-0" : `${value}`;
  }

  /** Of bigints: hexadecimal takes no more time than it has digits, decimal is what people read. */
  let radix = 16;

  function bigText(value: bigint): string {
    return apply(bigintText, value, [radix]) as string;
  }

  function walk(value: unknown, depth: number): unknown {
    switch (typeof value) {
      case "string":
      case "boolean":
        return value;
      case "number":
        return textual && isOdd(value) ? tagged("number", numberText(value)) : value;
      case "undefined":
        return textual ? tagged("undefined") : value;
      case "bigint":
        return textual ? tagged("bigint", bigText(value)) : value;
      case "object":
        return value === null ? value : walkObject(value, depth);
      default:
        return refuse(depth, `is a ${typeof value}`);
    }
  }

  function walkObject(value: object, depth: number): unknown {
    if (depth >= DEPTH_MAX) refuse(0, `is more than ${DEPTH_MAX} levels deep`);
    for (let level = 0; level < depth; level++) {
      if (ancestors[level] === value) refuse(depth, "is a cycle: it stands within itself");
    }
    ancestors[depth] = value;
    const prototype = getPrototypeOf(value) as object | null;
    if (isArray(value)) {
      if (prototype !== arrayPrototype) refuseInstance(value, depth);
      return walkArray(value, depth);
    }
    const target = targetOf(value);
    if (target !== undefined) return walkBuiltIn(target, depth);
    if (prototype === objectPrototype || prototype === null) return walkPlain(value, prototype, depth);
    return walkBuiltIn(value, depth);
  }

  /** Whether its walk would give the value back: of most, and this is faster. */
  function isAsItIs(value: unknown): boolean {
    return (
      typeof value === "string" || (typeof value === "number" && !(textual && isOdd(value))) || value === true
    );
  }

  /** Each property is read once, so a getter cannot say one thing to the check and another to the copy. */
  function walkPlain(value: object, prototype: object | null, depth: number): object {
    const copy = (prototype === null ? { __proto__: null } : {}) as Record<string, unknown>;
    let isTag = prototype === null;
    let count = 0;
    // No prototype has names that can be enumerated: these are the object's own.
    for (const key in value) {
      count++;
      if (key === "$") isTag = true;
      let child = (value as Record<string, unknown>)[key];
      if (!isAsItIs(child)) {
        path[depth] = key;
        child = walk(child, depth + 1);
      }
      if (key === "__proto__") define(copy, key, child);
      else copy[key] = child;
    }
    nodes += count;
    // Both are much faster than to look at each property.
    if (getOwnPropertyNames(value).length !== count) refuseHidden(value, depth);
    if (getOwnPropertySymbols(value).length > 0) refuse(depth, "has a symbol as a key");
    if (!textual || !isTag) return copy;
    const names = keys(copy);
    const entries: unknown[] = [];
    for (let index = 0; index < names.length; index++) entries.push([names[index], copy[names[index]!]]);
    return tagged(prototype === null ? "null-prototype" : "Object", entries);
  }

  function define(object: object, key: string, value: unknown): void {
    defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });
  }

  function walkArray(value: readonly unknown[], depth: number): unknown[] {
    const { length } = value;
    nodes += length;
    const copy: unknown[] = [];
    for (let index = 0; index < length; index++) {
      let child = value[index];
      if (!isAsItIs(child)) {
        if (child === undefined && !hasOwn(value, index))
          refuse(depth, `is an array without an element ${index}`);
        path[depth] = index;
        child = walk(child, depth + 1);
      }
      // An element that is set where there was none takes thirty times as long, where prototypes are frozen.
      copy.push(child);
    }
    // There are no holes: more keys than elements and the length are of other properties.
    if (length <= NAMED_ELEMENTS_MAX) {
      if (ownKeys(value).length !== length + 1) refuseBeside(value, depth);
    } else if (valuesOf(value).length !== length || getOwnPropertySymbols(value).length > 0) {
      refuseBeside(value, depth);
    }
    return copy;
  }

  function refuseHidden(value: object, depth: number): never {
    if (hasOwn(value, "callee")) refuse(depth, "is an arguments object: copy it with [...arguments]");
    const hidden = getOwnPropertyNames(value).find((name) => !apply(isEnumerable, value, [name]));
    return refuse(depth, `has a property ${stringify(hidden ?? "")} that is not enumerable`);
  }

  function refuseBeside(value: readonly unknown[], depth: number): never {
    if (hasOwn(value, "index") && hasOwn(value, "input")) {
      refuse(
        depth,
        "is what a regular expression matched, which has more than elements: copy it with [...match]",
      );
    }
    const named = getOwnPropertyNames(value).find((name, at) => at >= value.length && name !== "length");
    if (named === undefined) refuse(depth, "has a symbol as a key");
    return refuse(depth, `is an array with a property ${stringify(named)} beside its elements`);
  }

  function walkBuiltIn(value: object, depth: number): unknown {
    const prototype: unknown = getPrototypeOf(value);
    const kind = apply(kindOf, value, []) as string | undefined;
    if (kind !== undefined) {
      if (typedGet(kind)?.prototype !== prototype) refuseInstance(value, depth);
      return walkTyped(value as Uint8Array, kind);
    }
    if (keys(value).length > 0) refuseInstance(value, depth);
    if (prototype === mapPrototype && answers(mapSize, value))
      return walkMap(value as Map<unknown, unknown>, depth);
    if (prototype === setPrototype && answers(setSize, value)) return walkSet(value as Set<unknown>, depth);
    if (prototype === datePrototype && answers(getTime, value)) return walkDate(value as Date);
    if (prototype === bufferPrototype && answers(bufferLength, value)) {
      return walkBytes("ArrayBuffer", new Bytes(value as ArrayBuffer));
    }
    if (prototype === viewPrototype && answers(viewLength, value))
      return walkView(value as DataView<ArrayBuffer>);
    return refuseInstance(value, depth);
  }

  /** Whether a value is what its prototype says: a built-in's method throws for what only looks like one. */
  function answers(method: Method, value: object): boolean {
    try {
      apply(method, value, []);
      return true;
    } catch {
      return false;
    }
  }

  function walkMap(map: Map<unknown, unknown>, depth: number): unknown {
    const pairs: [unknown, unknown][] = [];
    let index = 0;
    apply(mapForEach, map, [
      (value: unknown, key: unknown): void => {
        nodes += 2;
        path[depth] = index++;
        path[depth + 1] = 0;
        ancestors[depth + 1] = map;
        const ownKey = walk(key, depth + 2);
        path[depth + 1] = 1;
        pairs.push([ownKey, walk(value, depth + 2)]);
      },
    ]);
    return textual ? tagged("Map", pairs) : new RealMap(pairs);
  }

  function walkSet(set: Set<unknown>, depth: number): unknown {
    const values: unknown[] = [];
    let index = 0;
    apply(setForEach, set, [
      (value: unknown): void => {
        nodes++;
        path[depth] = index++;
        values.push(walk(value, depth + 1));
      },
    ]);
    return textual ? tagged("Set", values) : new RealSet(values);
  }

  function walkDate(date: Date): unknown {
    const time = apply(getTime, date, []) as number;
    if (!textual) return new RealDate(time);
    return tagged("Date", time - time === 0 ? apply(toISOString, date, []) : null);
  }

  function walkView(view: DataView<ArrayBuffer>): unknown {
    const buffer = apply(viewBuffer, view, []) as ArrayBuffer;
    const offset = apply(viewOffset, view, []) as number;
    return walkBytes("DataView", new Bytes(buffer, offset, apply(viewLength, view, []) as number));
  }

  function walkBytes(tag: string, bytes: Uint8Array): unknown {
    if (textual) return tagged(tag, hexOf(bytes));
    const length = apply(typedLength, bytes, []) as number;
    nodes += length >>> 3;
    const copy = new Bytes(length);
    apply(bytesSet, copy, [bytes]);
    return ofBytes(tag, copy);
  }

  function ofBytes(tag: string, bytes: Uint8Array<ArrayBuffer>): unknown {
    if (tag === "Uint8Array") return bytes;
    return tag === "DataView" ? new RealView(bytes.buffer) : bytes.buffer;
  }

  /** NaN has one form here, whatever bits the machine left: they follow from how code was compiled. */
  function walkTyped(array: Record<number, unknown>, kind: string): unknown {
    if (kind === "Uint8Array") return walkBytes(kind, array as Uint8Array);
    const { make, isBig } = typedGet(kind)!;
    const length = apply(typedLength, array, []) as number;
    nodes += length;
    if (!textual) {
      const copy = new make(length);
      for (let index = 0; index < length; index++) {
        const element = array[index];
        copy[index] = element === element ? element : NaN;
      }
      return copy;
    }
    const texts: unknown[] = [];
    for (let index = 0; index < length; index++) {
      const element = array[index] as number | bigint;
      texts.push(isBig ? `${element}` : isOdd(element as number) ? numberText(element as number) : element);
    }
    return tagged(kind, texts);
  }

  function hexOf(bytes: Uint8Array): string {
    const length = apply(typedLength, bytes, []) as number;
    let text = "";
    for (let start = 0; start < length; start += HEX_BLOCK) {
      const count = length - start < HEX_BLOCK ? length - start : HEX_BLOCK;
      const block = new Bytes(count * 2);
      for (let index = 0; index < count; index++) {
        const byte = bytes[start + index]!;
        block[index * 2] = digits[byte * 2]!;
        block[index * 2 + 1] = digits[byte * 2 + 1]!;
      }
      text += apply(fromCharCode, undefined, block) as string;
    }
    return text;
  }

  function refuseInstance(value: object, depth: number): never {
    if (isPromise(value)) refuse(depth, "is a promise, but programs are synchronous");
    let name = "";
    try {
      const { constructor } = value as { constructor?: { name?: unknown } };
      if (typeof constructor?.name === "string") name = constructor.name.slice(0, 64);
    } catch {
      // It says nothing of itself.
    }
    return refuse(depth, name === "" ? "is an instance of a class" : `is an instance of the class ${name}`);
  }

  function isPromise(value: object): boolean {
    let prototype = getPrototypeOf(value) as object | null;
    for (let level = 0; prototype !== null && level < DEPTH_MAX; level++) {
      if (prototype === promisePrototype) return true;
      prototype = getPrototypeOf(prototype) as object | null;
    }
    return false;
  }

  function malformed(): never {
    throw new Failure("the text is not a value's");
  }

  function listOf(value: unknown): unknown[] {
    return isArray(value) ? value : malformed();
  }

  function pairsOf(value: unknown): [unknown, unknown][] {
    const list = listOf(value);
    for (let index = 0; index < list.length; index++) {
      if (!isArray(list[index]) || (list[index] as unknown[]).length !== 2) malformed();
    }
    return list as [unknown, unknown][];
  }

  function reviveElements(list: unknown[], depth: number): unknown[] {
    for (let index = 0; index < list.length; index++) {
      const child = list[index];
      if (typeof child === "object" && child !== null) list[index] = revive(child, depth + 1);
    }
    return list;
  }

  /** In place, but for what has a tag. Tags nest a level deeper than what they stand for. */
  function revive(node: object, depth: number): unknown {
    if (depth > DEPTH_MAX * 3) malformed();
    if (isArray(node)) return reviveElements(node, depth);
    const object = node as Record<string, unknown>;
    if (hasOwn(object, "$")) return reviveTag(object["$"], object["v"], depth);
    for (const key in object) {
      const child = object[key];
      if (typeof child === "object" && child !== null) object[key] = revive(child, depth + 1);
    }
    return object;
  }

  function reviveTag(tag: unknown, value: unknown, depth: number): unknown {
    if (typeof tag !== "string") return malformed();
    switch (tag) {
      case "undefined":
        return undefined;
      case "number":
        return typeof value === "string" ? +value : malformed();
      case "bigint":
        if (typeof value !== "string") return malformed();
        if (radix === 10) return RealBigInt(value);
        return value[0] === "-" ? -RealBigInt("0x" + value.slice(1)) : RealBigInt("0x" + value);
      case "Date":
        return new RealDate(typeof value === "string" ? value : NaN);
      case "Map":
        return new RealMap(reviveElements(pairsOf(value), depth) as [unknown, unknown][]);
      case "Set":
        return new RealSet(reviveElements(listOf(value), depth));
      case "Object":
      case "null-prototype":
        return reviveEntries(reviveElements(pairsOf(value), depth) as [unknown, unknown][], tag === "Object");
      case "Uint8Array":
      case "ArrayBuffer":
      case "DataView":
        return ofBytes(tag, bytesOf(value));
    }
    const kind = typedGet(tag);
    if (kind === undefined) return malformed();
    const list = listOf(value);
    const array = new kind.make(list.length);
    for (let index = 0; index < list.length; index++) {
      const element = list[index];
      if (kind.isBig) array[index] = typeof element === "string" ? RealBigInt(element) : malformed();
      else array[index] = typeof element === "string" ? +element : element;
    }
    return array;
  }

  function reviveEntries(pairs: readonly [unknown, unknown][], ordinary: boolean): object {
    const object = (ordinary ? {} : { __proto__: null }) as object;
    for (let index = 0; index < pairs.length; index++) {
      const [key, value] = pairs[index]!;
      if (typeof key !== "string") malformed();
      define(object, key, value);
    }
    return object;
  }

  function bytesOf(hex: unknown): Uint8Array<ArrayBuffer> {
    if (typeof hex !== "string" || hex.length % 2 !== 0) return malformed();
    const bytes = new Bytes(hex.length / 2);
    for (let index = 0; index < bytes.length; index++) {
      const high = nibble(hex.charCodeAt(index * 2));
      bytes[index] = high * 16 + nibble(hex.charCodeAt(index * 2 + 1));
    }
    return bytes;
  }

  function nibble(unit: number): number {
    if (unit >= 48 && unit < 58) return unit - 48;
    return unit >= 97 && unit < 103 ? unit - 87 : malformed();
  }

  function begin(what: string, isText: boolean): void {
    source = what;
    textual = isText;
    nodes = 1;
  }

  function inDecimal<Result>(work: () => Result): Result {
    radix = 10;
    try {
      return work();
    } finally {
      radix = 16;
    }
  }

  function decode(text: string): unknown {
    const value: unknown = parse(text);
    const isPlain = typeof value !== "object" || value === null || text.indexOf('"$":') < 0;
    return isPlain ? value : revive(value, 0);
  }

  return {
    copy(value, what) {
      nodes = 1;
      if (typeof value === "number" || typeof value === "string") return value;
      begin(what, false);
      return walk(value, 0);
    },
    nodes: () => nodes,
    encode(value, what) {
      if (typeof value === "number" && !isOdd(value)) return `${value}`;
      begin(what, true);
      return stringify(walk(value, 0));
    },
    json(value, what) {
      begin(what, true);
      return inDecimal(() => walk(value, 0));
    },
    decimal(text) {
      if (text.indexOf('"$":"bigint"') < 0) return text;
      const value = decode(text);
      begin("", true);
      return inDecimal(() => stringify(walk(value, 0)));
    },
    decode: (text, isDecimal = false) => (isDecimal ? inDecimal(() => decode(text)) : decode(text)),
  };
}

/** The codec of this process, where nothing is shared. */
export const valueCodec: ValueCodec = makeValueCodec(() => undefined);
