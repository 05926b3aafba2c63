/**
 * Makes the globals deterministic and bounded; freeze.ts makes them unwritable afterwards. The clock stands still,
 * randomness follows from the packet, and what is gone is what can take memory that nobody counts (WebAssembly as it is, see
 * wasm.ts; shared and growing buffers), tell time or the garbage collector's doings (Atomics, WeakRef,
 * FinalizationRegistry), or differs between machines (Intl). `eval` stays: code made of strings can do no more than other
 * code in an isolate that holds nothing but the program.
 */
import type { Primordials } from "./primordials.ts";

/** One line of a stack, as V8 has it. */
export interface StackLine {
  getFileName(): string | null | undefined;
  toString(): string;
}

/**
 * `outOfMemory` fails the packet: how much is left for one is no part of what it reads, so no program may go on from that.
 * `preludeFile` is what the prelude is called in stacks.
 */
export function lockDown(p: Primordials, preludeFile: string, outOfMemory: (reason: string) => never): void {
  // 2000-01-01T00:00:00Z
  const NOW = 946684800000;
  const GONE = [
    "WebAssembly",
    "SharedArrayBuffer",
    "Atomics",
    "WeakRef",
    "FinalizationRegistry",
    "Intl",
  ] as const;
  for (let index = 0; index < GONE.length; index++)
    delete (globalThis as Record<string, unknown>)[GONE[index]!];

  // This one cannot be deleted.
  if ("gc" in globalThis) p.defineProperty(globalThis, "gc", { value: undefined, writable: false });

  const define = (target: object, name: PropertyKey, value: unknown): void => {
    p.defineProperty(target, name, { value, writable: true, configurable: true, enumerable: false });
  };

  const RealDate = Date;
  const FrozenDate = function Date(this: unknown, ...parts: unknown[]): unknown {
    const given = new.target === undefined || parts.length === 0 ? [NOW] : parts;
    const date = p.construct(RealDate, given, new.target ?? RealDate) as Date;
    return new.target === undefined ? date.toString() : date;
  };
  define(FrozenDate, "length", 7);
  p.defineProperty(FrozenDate, "name", { value: "Date" });
  FrozenDate.prototype = RealDate.prototype;
  define(FrozenDate, "now", () => NOW);
  define(FrozenDate, "parse", RealDate.parse);
  define(FrozenDate, "UTC", RealDate.UTC);
  define(RealDate.prototype, "constructor", FrozenDate);
  define(globalThis, "Date", FrozenDate);

  function allocated(make: object, parts: readonly unknown[], target: object): unknown {
    try {
      return p.construct(make as typeof Object, parts as unknown[], target as typeof Object);
    } catch (error) {
      return notAllocated(error);
    }
  }

  function notAllocated(error: unknown): never {
    const reason = error instanceof p.RangeError ? error.message : "";
    if (reason === "Array buffer allocation failed") outOfMemory(`RangeError: ${reason}`);
    throw error;
  }

  // Buffers that grow are memory that isolated-vm does not count; a buffer that is taken away could be a later packet's.
  const RealBuffer = ArrayBuffer;
  const buffers = RealBuffer.prototype as unknown as Record<string, unknown>;
  for (const name of ["resize", "transfer", "transferToFixedLength"]) delete buffers[name];
  const FixedBuffer = function ArrayBuffer(this: unknown, length?: unknown): unknown {
    if (new.target === undefined) throw new p.TypeError("ArrayBuffer is a constructor");
    return allocated(RealBuffer, [length], new.target);
  };
  FixedBuffer.prototype = RealBuffer.prototype;
  const { isView } = RealBuffer as { isView: unknown };
  p.defineProperty(FixedBuffer, "name", { value: "ArrayBuffer" });
  define(FixedBuffer, "isView", isView);
  p.defineProperty(FixedBuffer, Symbol.species, {
    get(this: unknown) {
      return this;
    },
    configurable: true,
  });
  define(RealBuffer.prototype, "constructor", FixedBuffer);
  define(globalThis, "ArrayBuffer", FixedBuffer);

  // Methods that make typed arrays ask for these constructors, but for three.
  const typed = Object.getPrototypeOf(Uint8Array) as typeof Uint8Array;
  for (const global of Object.getOwnPropertyNames(globalThis)) {
    const Real = (globalThis as unknown as Record<string, Uint8ArrayConstructor>)[global];
    // Whatever kinds of them there are inherit from the one that has no name.
    if (typeof Real !== "function" || Object.getPrototypeOf(Real) !== typed) continue;
    const { name, BYTES_PER_ELEMENT: bytes, prototype } = Real;
    const Guarded = function (this: unknown, from?: unknown, offset?: unknown, length?: unknown): unknown {
      if (new.target === undefined) throw new p.TypeError(`Constructor ${name} requires 'new'`);
      return allocated(Real, [from, offset, length], new.target);
    };
    Object.setPrototypeOf(Guarded, typed);
    Guarded.prototype = prototype;
    p.defineProperty(Guarded, "name", { value: name });
    p.defineProperty(Guarded, "BYTES_PER_ELEMENT", { value: bytes });
    define(prototype, "constructor", Guarded);
    define(globalThis, name, Guarded);
  }
  for (const name of ["toReversed", "toSorted", "with"]) {
    const method = (typed.prototype as unknown as Record<string, unknown>)[name];
    const guarded = {
      [name](this: unknown, ...parts: unknown[]): unknown {
        try {
          return p.apply(method as never, this, parts);
        } catch (error) {
          return notAllocated(error);
        }
      },
    };
    define(typed.prototype, name, guarded[name]);
  }

  // By which way the prelude came to a packet is not the same for each of a frame, and must not show.
  const describe = (Error.prototype as { toString: unknown }).toString as () => string;
  define(Error, "prepareStackTrace", (error: unknown, lines: readonly StackLine[]): string => {
    let text: string;
    try {
      text = p.apply(describe as never, error, []) as string;
    } catch {
      text = "Error";
    }
    for (let index = 0; index < lines.length; index++) {
      const line = lines[index]!;
      if (line.getFileName() !== preludeFile) text += `\n    at ${line.toString()}`;
    }
    return text;
  });

  // RegExp.$1 and its kin tell what somebody, somewhere, matched last.
  const STATICS = [
    "input",
    "$_",
    "lastMatch",
    "$&",
    "lastParen",
    "$+",
    "leftContext",
    "$`",
    "rightContext",
    "$'",
  ];
  for (let group = 1; group < 10; group++) STATICS[STATICS.length] = `$${group}`;
  for (let index = 0; index < STATICS.length; index++) {
    const name = STATICS[index]!;
    const absent = (): never => {
      throw new p.TypeError(`RegExp["${name}"] is not there for programs: take what the match returns`);
    };
    p.defineProperty(RegExp, name, { get: absent, set: absent, configurable: true, enumerable: false });
  }

  // What the machine's language is must not show.
  const LOCALE = "en-US";
  const localize = (target: object, name: string, at: number): void => {
    const method = (target as Record<string, unknown>)[name] as (...parts: unknown[]) => unknown;
    const localized = {
      [name](this: unknown, ...parts: unknown[]): unknown {
        while (parts.length < at) parts[parts.length] = undefined;
        if (parts[at] === undefined) parts[at] = LOCALE;
        return p.apply(method as never, this, parts);
      },
    };
    define(target, name, localized[name]);
  };
  localize(String.prototype, "localeCompare", 1);
  for (const name of ["toLocaleLowerCase", "toLocaleUpperCase"]) localize(String.prototype, name, 0);
  for (const target of [Number.prototype, BigInt.prototype]) localize(target, "toLocaleString", 0);
  for (const name of ["toLocaleString", "toLocaleDateString", "toLocaleTimeString"]) {
    localize(RealDate.prototype, name, 0);
  }
}
