/**
 * Nothing that one packet does may be seen by the next, so whatever outlives a packet is unwritable: the realm's
 * built-ins, the global object, and what the prelude hands to programs.
 */
export interface Freeze {
  /** The global object, and everything that is reachable from it or from syntax. Comes before anything else is frozen. */
  realm(): void;
  /** A value and everything that is reachable from it; returns the value. */
  deep<Value>(value: Value): Value;
  /** One object and no other. */
  one<Value>(value: Value): Value;
}

export function makeFreeze(): Freeze {
  const { freeze, defineProperty, getOwnPropertyDescriptor, getPrototypeOf } = Object;
  const { ownKeys } = Reflect;
  const Failure = TypeError;
  const seen = new Set<object>();

  function isObject(value: unknown): value is object {
    return (typeof value === "object" && value !== null) || typeof value === "function";
  }

  /** What is reachable from `roots` and was not seen before. */
  function reach(roots: readonly unknown[]): object[] {
    const found: object[] = [];
    const add = (value: unknown): void => {
      if (!isObject(value) || seen.has(value)) return;
      seen.add(value);
      found[found.length] = value;
    };
    for (let index = 0; index < roots.length; index++) add(roots[index]);
    for (let index = 0; index < found.length; index++) {
      const object = found[index]!;
      add(getPrototypeOf(object));
      // The elements of a typed array cannot be frozen, and are no objects.
      if (ArrayBuffer.isView(object)) continue;
      const names = ownKeys(object);
      // Most are functions with a length and a name, which refer to nothing: a realm opens twice as fast without these.
      if (typeof object === "function" && names.length === 2 && names[1] === "name") continue;
      for (let at = 0; at < names.length; at++) {
        const property = getOwnPropertyDescriptor(object, names[at]!)!;
        const { value, get, set } = property as Readonly<Record<"value" | "get" | "set", unknown>>;
        add(value);
        add(get);
        add(set);
      }
    }
    return found;
  }

  /**
   * A property that is frozen on a prototype could not be set on what inherits it: `error.name = "…"`, or the prototype
   * of an old-fashioned class that gets a toString of its own. A setter lets it.
   */
  function letInheritorsSet(object: object, name: PropertyKey): void {
    const property = getOwnPropertyDescriptor(object, name);
    if (property === undefined || !("value" in property) || property.configurable !== true) return;
    const value: unknown = property.value;
    // A method of a literal has no prototype of its own, which would have to be frozen too.
    const accessors: { readonly get: () => unknown; readonly set: (own: unknown) => void } = {
      get: () => value,
      set(this: object, own) {
        if (this === object) throw new Failure(`${String(name)} is frozen`);
        defineProperty(this, name, { value: own, writable: true, enumerable: true, configurable: true });
      },
    };
    seen.add(freeze(accessors.get)).add(freeze(accessors.set));
    defineProperty(object, name, {
      ...accessors,
      enumerable: property.enumerable === true,
      configurable: false,
    });
  }

  /** Built-ins that have no name, but syntax or a method that gives them. */
  function nameless(): unknown[] {
    const functions = [function* () {}, async function () {}, async function* () {}];
    // Behind getters: see promises.ts.
    const constructors = [function () {}, ...functions].map(({ constructor }) => constructor);
    const { Iterator: iterators } = globalThis as unknown as { Iterator: { from(iterator: object): object } };
    const stack: { readonly get?: unknown; readonly set?: unknown } | undefined = getOwnPropertyDescriptor(
      new Error("looked at"),
      "stack",
    );
    return [
      ...functions,
      ...constructors,
      Reflect.get(globalThis, "eval"),
      Promise,
      // Each error has these two, which are the realm's.
      stack?.get,
      stack?.set,
      [][Symbol.iterator](),
      new Map()[Symbol.iterator](),
      new Set()[Symbol.iterator](),
      ""[Symbol.iterator](),
      "".matchAll(/x/g),
      iterators.from({ next: () => ({ done: true, value: undefined }) }),
      ([].values() as unknown as { map(each: (value: unknown) => unknown): object }).map((value) => value),
    ];
  }

  return {
    realm() {
      const found = reach([globalThis, ...nameless()]);
      const typed: unknown = getPrototypeOf(Uint8Array.prototype);
      // What packages that bring bytes of their own set on a prototype that inherits this one: "buffer" does.
      const OF_BYTES = ["toLocaleString", "includes", "indexOf", "lastIndexOf", "slice", "fill"] as const;
      for (let index = 0; index < found.length; index++) {
        const object = found[index]!;
        const isPrototype = isObject((object as { constructor?: unknown }).constructor);
        if (!isPrototype || typeof object === "function" || object === globalThis) continue;
        const isCommon = object === Object.prototype || object instanceof Error || object === Error.prototype;
        const names = isCommon
          ? ownKeys(object)
          : ["constructor", "toString", "valueOf", ...(object === typed ? OF_BYTES : [])];
        // slice, map and their kin ask an array for its constructor, and are fifty times slower where that is an accessor:
        // an old-fashioned class that inherits from arrays has to define its own.
        if (object === Array.prototype) names.shift();
        for (let at = 0; at < names.length; at++) letInheritorsSet(object, names[at]!);
      }
      const names = ownKeys(Function.prototype);
      for (let at = 0; at < names.length; at++) letInheritorsSet(Function.prototype, names[at]!);
      for (let index = 0; index < found.length; index++) freeze(found[index]);
    },
    deep(value) {
      const found = reach([value]);
      for (let index = 0; index < found.length; index++) freeze(found[index]);
      return value;
    },
    one: (value) => freeze(value),
  };
}
