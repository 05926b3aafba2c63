/**
 * Reads packet code as text: calls of the builders, as in `lines().filter(contains("ERROR")).count()`. Nothing is evaluated
 * but those calls, so text from anywhere may be read.
 */
import { PacketError, PacketErrorCode, hasCode } from "../../packets/errors.ts";
import { PacketCode } from "./builders.ts";
import { code } from "./code.ts";

/** What a name stands for. */
const CALLS: ReadonlyMap<string, unknown> = new Map(Object.entries(code));
const METHODS: ReadonlySet<string> = new Set([
  "count",
  "crc32",
  "filter",
  "histogram",
  "max",
  "mean",
  "min",
  "sum",
  "xor",
]);
/** Characters of a text, and calls within calls. */
const TEXT_MAX = 4096;
const DEPTH_MAX = 16;

/** Throws PFS_CODE_INVALID {reason, at}: `at` is where in the text, in characters from 0. */
export function parseCode(text: string): PacketCode {
  const parser = new Parser(text);
  const value = parser.whole();
  if (value instanceof PacketCode) return value;
  throw wrong("this is no program, but a part of one", 0);
}

class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    if (text.length > TEXT_MAX) throw wrong(`packet code has at most ${TEXT_MAX} characters`, TEXT_MAX);
    this.#text = text;
  }

  whole(): unknown {
    const value = this.#value(0);
    this.#take(/;?/y);
    if (this.#at < this.#text.length) throw this.#unexpected();
    return value;
  }

  #value(depth: number): unknown {
    if (depth > DEPTH_MAX) throw wrong(`calls stand more than ${DEPTH_MAX} deep within each other`, this.#at);
    const at = this.#at;
    const string = this.#string();
    if (string !== undefined) return string;
    const number = this.#take(
      /[+-]?(?:Infinity|(?:0x[0-9a-fA-F]+|\d+n)|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)/y,
    );
    if (number !== undefined) return numberOf(number);
    if (this.#take(/\{/y) !== undefined) return this.#object(depth);
    const name = this.#take(/[A-Za-z_]\w*/y);
    if (name === undefined) throw this.#unexpected();
    const call = CALLS.get(name);
    if (typeof call !== "function") {
      const isCalled = this.#take(/\(/y) !== undefined;
      const reason = isCalled ? `there are ${[...CALLS.keys()].join(", ")}` : "strings stand in quotes";
      throw wrong(`there is no ${name}: ${reason}`, at);
    }
    let value = this.#call(at, name, call, undefined, depth);
    while (this.#take(/\./y) !== undefined) value = this.#method(value, depth);
    return value;
  }

  #method(on: unknown, depth: number): unknown {
    const at = this.#at;
    const name = this.#take(/[A-Za-z_]\w*/y);
    if (name === undefined) throw this.#unexpected();
    const method = METHODS.has(name) ? (on as Record<string, unknown>)[name] : undefined;
    if (typeof method !== "function") throw wrong(`this has no ${name}`, at);
    return this.#call(at, name, method, on, depth);
  }

  /** What the function gives for the arguments that stand next, called on `on`. */
  #call(at: number, name: string, called: Function, on: unknown, depth: number): unknown {
    if (this.#take(/\(/y) === undefined) throw wrong(`${name} stands without its parentheses`, at);
    const args: unknown[] = [];
    while (this.#take(/\)/y) === undefined) {
      if (args.length > 0 && this.#take(/,/y) === undefined) throw this.#unexpected();
      args.push(this.#value(depth + 1));
    }
    // What is left unsaid is known, and nothing is passed over that somebody says.
    const most = called === code.anyOf ? Infinity : called.length;
    if (args.length > most) {
      const values = most === 0 ? "nothing" : most === 1 ? "one value at most" : `${most} values at most`;
      throw wrong(`${name} takes ${values}`, at);
    }
    try {
      return Reflect.apply(called, on, args) as unknown;
    } catch (error) {
      if (hasCode(error, PacketErrorCode.invalidCode)) throw wrong(String(error.data["reason"]), at);
      throw wrong(`${name} does not take this`, at);
    }
  }

  #object(depth: number): Readonly<Record<string, unknown>> {
    const entries: [string, unknown][] = [];
    while (this.#take(/\}/y) === undefined) {
      if (entries.length > 0 && this.#take(/,/y) === undefined) throw this.#unexpected();
      const name = this.#take(/[A-Za-z_]\w*/y) ?? this.#string();
      if (name === undefined || this.#take(/:/y) === undefined) throw this.#unexpected();
      entries.push([name, this.#value(depth + 1)]);
    }
    return Object.fromEntries(entries);
  }

  /** What a string says, if one stands next. */
  #string(): string | undefined {
    const at = this.#at;
    const quoted = this.#take(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/y);
    if (quoted !== undefined) return unquoted(quoted, at);
    if (this.#take(/["']/y) !== undefined) throw wrong("the string that begins here has no end", at);
    return undefined;
  }

  /** What stands next, if it is this, and the space behind it is gone through. */
  #take(pattern: RegExp): string | undefined {
    const space = /\s*/y;
    space.lastIndex = this.#at;
    const begin = this.#at + space.exec(this.#text)![0].length;
    pattern.lastIndex = begin;
    const found = pattern.exec(this.#text)?.[0];
    if (found === undefined) return undefined;
    space.lastIndex = begin + found.length;
    this.#at = space.lastIndex + space.exec(this.#text)![0].length;
    return found;
  }

  #unexpected(): PacketError {
    const rest = this.#text.slice(this.#at).trimStart();
    const what = rest === "" ? "it ends too early" : `${JSON.stringify(rest.slice(0, 12))} was not expected`;
    return wrong(what, this.#at);
  }
}

function numberOf(text: string): number | bigint {
  if (text.endsWith("n")) return BigInt(text.slice(0, -1));
  const number = Number(text);
  // A large integer is meant as it stands.
  return /^[+-]?\d+$/.test(text) && !Number.isSafeInteger(number) ? BigInt(text) : number;
}

const ESCAPES: Readonly<Record<string, string>> = {
  n: "\n",
  r: "\r",
  t: "\t",
  b: "\b",
  f: "\f",
  v: "\v",
  0: "\0",
};

function unquoted(text: string, at: number): string {
  return text
    .slice(1, -1)
    .replace(/\\(u\{[0-9a-fA-F]+\}|u[0-9a-fA-F]{4}|x[0-7][0-9a-fA-F]|.)/gs, (_, escape: string) => {
      const digits = /^(?:u\{?|x)([0-9a-fA-F]+)\}?$/.exec(escape)?.[1];
      if (digits !== undefined) return fromCodePoint(parseInt(digits, 16), at);
      if (/^[ux]/.test(escape))
        throw wrong(`\\${escape} is no escape; bytes above 7f are written hex("…")`, at);
      return ESCAPES[escape] ?? escape;
    });
}

function fromCodePoint(code: number, at: number): string {
  if (code > 0x10ffff) throw wrong("there is no such character", at);
  return String.fromCodePoint(code);
}

function wrong(reason: string, at: number): PacketError {
  return new PacketError(PacketErrorCode.invalidCode, `packet code, at character ${at}: ${reason}`, {
    reason,
    at,
  });
}
