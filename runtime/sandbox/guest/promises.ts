/**
 * Which packets may have made a promise: its jobs run when the call into the isolate ends, and must not find the state of
 * another packet then. There are three ways to a promise: syntax, which the text of a program shows (MAY_AWAIT), code
 * made from strings, and Promise itself. The last two are reached through few properties, whose getters tell that they were
 * read; what returns promises besides is taken away.
 */
import type { Primordials } from "./primordials.ts";

export interface Promises {
  /** A packet begins: it evaluates its module afresh, so that it has nothing that was read before. */
  begin(): void;
  /** Whether the packet may have made one. */
  mayBeMade(): boolean;
  /** The program's text has syntax that makes some: each packet may. */
  expectAlways(): void;
}

export function watchPromises(p: Primordials): Promises {
  let isAlways = false;
  let wasRead = false;

  /** What inherits the property may have one of its own, as if it had not become an accessor. */
  function watch(object: object, name: string): void {
    const value = (object as Record<string, unknown>)[name];
    const get = (): unknown => {
      wasRead = true;
      return value;
    };
    const set = function (this: object, own: unknown): void {
      if (this === object) throw new p.TypeError(`${name} is frozen`);
      p.defineProperty(this, name, { value: own, writable: true, enumerable: true, configurable: true });
    };
    p.defineProperty(object, name, { get, set, enumerable: false, configurable: false });
  }

  const functions = [function () {}, function* () {}, async function () {}, async function* () {}];
  for (let index = 0; index < functions.length; index++) {
    watch(Object.getPrototypeOf(functions[index]) as object, "constructor");
  }
  // A direct eval stays one: what the getter gives is eval itself.
  for (const name of ["Promise", "Function", "eval"]) watch(globalThis, name);
  delete (Array as { fromAsync?: unknown }).fromAsync;
  delete (globalThis as { AsyncDisposableStack?: unknown }).AsyncDisposableStack;

  return {
    begin() {
      wasRead = false;
    },
    mayBeMade: () => isAlways || wasRead,
    expectAlways() {
      isAlways = true;
    },
  };
}

/** What a text must have in it for its syntax to make a promise; these words cannot be written in another way. */
export const MAY_AWAIT: RegExp = /\b(?:async|await|import)\b/;
