/**
 * The program's module, which is a function here: it is called once per packet, so that module scope and everything that
 * is reachable from it is fresh, and no packet finds what another left there. What its evaluations share is tables of data,
 * which each isolate makes once and nobody can write to: plain objects and arrays are frozen; a Map, a Set or a typed array
 * is reached through a view that only reads. They are made while the program is loaded, by an evaluation that no packet
 * uses: a packet in whose evaluation a table was made would see what making it did to the module's scope.
 */
import type { PacketLog } from "./console.ts";
import type { Freeze } from "./freeze.ts";
import type { Kernels } from "./kernels.ts";
import type { Randomness } from "./random.ts";
import type { WasmModules } from "./wasm.ts";
import type { ValueCodec } from "../../program/values.ts";

/** A bundle: it leaves what the module exports by default in `exports.default`. */
export type ModuleFactory = (exports: { default?: unknown }, packetfs: ProgramApi) => void;

export interface ProgramModule {
  /** Evaluates it: what it exports by default. Throws what the module throws. Loading makes the tables. */
  evaluate(isLoading: boolean): unknown;
}

export interface ModuleTools {
  readonly tables: Tables;
  readonly random: Randomness;
  readonly log: PacketLog;
  readonly wasm: WasmModules;
  readonly kernels: Kernels;
}

export function makeModule(
  factory: ModuleFactory,
  { tables, random, log, wasm, kernels }: ModuleTools,
): ProgramModule {
  return {
    evaluate(isLoading) {
      const exports: { default?: unknown } = {};
      wasm.begin();
      // What a module draws while it is evaluated does not depend on the packet that it is evaluated for.
      random.fix(true);
      tables.begin(isLoading);
      kernels.begin();
      try {
        factory(exports, tables.api);
      } finally {
        random.fix(false);
        // Each packet would say it again.
        log.begin();
        kernels.end();
        tables.end();
      }
      return exports.default;
    },
  };
}

/** What a bundle knows as $packetfs. */
export interface ProgramApi {
  /** What `make` returned while the program was loaded. */
  shared(make: () => unknown): unknown;
  /** The value of JSON text. */
  json(text: string): unknown;
  /** A WebAssembly module, of what its file is called and its bytes in base64. */
  wasm(file: string, base64: string): unknown;
  /** A kernel, of what its author says of it. */
  readonly kernel: Kernels["define"];
}

export interface Tables {
  readonly api: ProgramApi;
  /** The module is evaluated from its beginning, and tables are made where that loads it. */
  begin(isLoading: boolean): void;
  /** That is over, however. Throws what a table's making threw, though the module has caught it. */
  end(): void;
  /** The same data, unwritable. Takes data that the codec copied, or that was parsed, and nobody else refers to. */
  readOnly(value: unknown): unknown;
  /** The Map, Set or typed array behind a view. */
  targetOf(view: object): object | undefined;
}

/** `fail` ends a packet, though the program catches what is thrown. */
export function makeTables(
  freeze: Freeze,
  codec: () => ValueCodec,
  { wasm, kernels }: Pick<ModuleTools, "wasm" | "kernels">,
  fail: (sentence: string) => never,
): Tables {
  const { create, defineProperty, getOwnPropertyDescriptors, keys } = Object;
  const { apply, get } = Reflect;
  const { isArray } = Array;
  const { isView } = ArrayBuffer as unknown as { readonly isView: (value: unknown) => boolean };
  const { parse } = JSON;
  const Failure = TypeError;
  const RealProxy = Proxy;
  const RealMap = Map;
  const RealSet = Set;
  const RealDate = Date;
  const RealBuffer = ArrayBuffer;
  const RealDataView = DataView;
  const objectPrototype = Object.prototype;
  const targets = new WeakMap<object, object>();
  const byText = new Map<string, unknown>();
  const made: unknown[] = [];
  /** How many tables this evaluation has asked for; -1 while no module is evaluated. */
  let asked = -1;
  let isLoading = false;
  let isMaking = false;
  let failure: { readonly thrown: unknown } | undefined;
  let hasViews = false;

  function readOnly(value: unknown, path = "$"): unknown {
    if (typeof value !== "object" || value === null) return value;
    if (value instanceof RealMap) return mapView(value, path);
    if (value instanceof RealSet) return setView(value, path);
    if (value instanceof RealDate) return refuse(path, "a Date");
    if (value instanceof RealBuffer) return refuse(path, "an ArrayBuffer");
    if (value instanceof RealDataView) return refuse(path, "a DataView");
    if (isView(value)) return arrayView(value as Uint8Array);
    const object = value as Record<string, unknown>;
    const names = keys(object);
    for (let index = 0; index < names.length; index++) {
      const name = names[index]!;
      const child = object[name];
      if (typeof child !== "object" || child === null) continue;
      const own = readOnly(child, isArray(value) ? `${path}[${name}]` : `${path}.${name}`);
      if (own !== child) defineProperty(object, name, { value: own });
    }
    return freeze.one(object);
  }

  function refuse(path: string, what: string): never {
    throw new Failure(`shared was given what could be written to: ${path} is ${what}`);
  }

  function unwritable(why: string): never {
    throw new Failure(`a shared table is read-only: ${why}; change a copy of it`);
  }

  /** What a view lacks of the methods of a Map, a Set or a typed array: they say why. */
  function writers(what: string, names: readonly string[]): object {
    const methods: Record<string, () => never> = {};
    for (let index = 0; index < names.length; index++) {
      const name = names[index]!;
      methods[name] = () => unwritable(`its ${what} has no ${name}`);
    }
    return methods;
  }

  /** An object with the methods of a view, and with no other way to what it shows. */
  function view(target: object, prototype: object, methods: object): object {
    const shown = create(prototype, getOwnPropertyDescriptors(methods)) as Record<PropertyKey, unknown>;
    const properties = getOwnPropertyDescriptors(shown) as Record<
      PropertyKey,
      { value?: unknown; get?: unknown }
    >;
    for (const name of Reflect.ownKeys(properties))
      freeze.deep([properties[name]!.value, properties[name]!.get]);
    targets.set(shown, target);
    hasViews = true;
    return freeze.one(shown);
  }

  function mapView(given: ReadonlyMap<unknown, unknown>, path: string): object {
    const map = new RealMap<unknown, unknown>();
    for (const [key, value] of given) {
      const at = `${path}[${map.size}]`;
      map.set(readOnly(key, `${at}[0]`), readOnly(value, `${at}[1]`));
    }
    const shown: object = view(map, objectPrototype, {
      get size() {
        return map.size;
      },
      get: (key: unknown) => map.get(key),
      has: (key: unknown) => map.has(key),
      keys: () => map.keys(),
      values: () => map.values(),
      entries: () => map.entries(),
      forEach: (visit: () => void, self?: unknown) => {
        for (const [key, value] of map) apply(visit, self, [value, key, shown]);
      },
      [Symbol.iterator]: () => map.entries(),
      ...writers("Map", ["set", "delete", "clear"]),
    });
    return shown;
  }

  function setView(given: ReadonlySet<unknown>, path: string): object {
    const set = new RealSet<unknown>();
    for (const value of given) set.add(readOnly(value, `${path}[${set.size}]`));
    const shown: object = view(set, objectPrototype, {
      get size() {
        return set.size;
      },
      has: (value: unknown) => set.has(value),
      keys: () => set.keys(),
      values: () => set.values(),
      entries: () => set.entries(),
      forEach: (visit: () => void, self?: unknown) => {
        for (const value of set) apply(visit, self, [value, value, shown]);
      },
      [Symbol.iterator]: () => set.values(),
      ...writers("Set", ["add", "delete", "clear"]),
    });
    return shown;
  }

  /** `at` is as fast as an array is; an index goes by way of the prototype, which is slower and right. */
  function arrayView(array: Uint8Array): object {
    const isIndex = (name: PropertyKey): name is string =>
      typeof name === "string" && `${+name >>> 0}` === name;
    const elements = new RealProxy(create(null) as object, {
      get: (_, name, self: unknown) => (isIndex(name) ? array[+name] : get(objectPrototype, name, self)),
      has: (_, name) => (isIndex(name) ? +name < array.length : name in objectPrototype),
      set: (_, name) => (isIndex(name) ? unwritable(`its typed array keeps what it has at ${name}`) : false),
      defineProperty: () => false,
      deleteProperty: () => false,
      setPrototypeOf: () => false,
      preventExtensions: () => false,
    });
    return view(array, elements, {
      length: array.length,
      at: (index: number) => array[index < 0 ? array.length + index : index],
      indexOf: (element: number, from?: number) => array.indexOf(element, from),
      /** A copy, which may be written to. */
      slice: (start?: number, end?: number) => array.slice(start, end),
      [Symbol.iterator]: () => array.values(),
      ...writers("typed array", ["set", "fill", "copyWithin", "sort", "reverse"]),
    });
  }

  /**
   * The n-th call of an evaluation is for the n-th table. Nothing that a packet reads is there while a module is evaluated,
   * and none of its evaluations makes tables, so each of them makes the same calls; they are those of loading, unless
   * making a table did more than that.
   */
  function shared(make: () => unknown): unknown {
    if (typeof make !== "function") throw new Failure("shared takes a function that makes a table");
    if (isMaking) throw new Failure("shared was called while another table is made");
    if (asked < 0)
      throw new Failure("shared is for the scope of a module: it was called after that was evaluated");
    const index = asked++;
    if (!isLoading) {
      return index < made.length
        ? made[index]
        : fail("TypeError: shared was called for a table that was not made when the program was loaded");
    }
    isMaking = true;
    try {
      made[index] = readOnly(codec().copy(make(), "shared was given"));
    } catch (thrown) {
      failure ??= { thrown };
      throw thrown;
    } finally {
      isMaking = false;
    }
    return made[index];
  }

  function json(text: string): unknown {
    const known = byText.get(text);
    if (known !== undefined) return known;
    const value = readOnly(parse(text));
    // What packets import later than their module (a require within a function) is theirs alone, and goes with them.
    if (isLoading) byText.set(text, value);
    return value;
  }

  return {
    api: freeze.deep({ shared, json, wasm: wasm.open, kernel: kernels.define }),
    begin(loading) {
      asked = 0;
      isLoading = loading;
      if (!loading) return;
      made.length = 0;
      byText.clear();
      failure = undefined;
    },
    end() {
      asked = -1;
      const wasLoading = isLoading;
      isLoading = false;
      if (wasLoading && failure !== undefined) throw failure.thrown;
    },
    readOnly,
    targetOf: (value) => (hasViews ? targets.get(value) : undefined),
  };
}
