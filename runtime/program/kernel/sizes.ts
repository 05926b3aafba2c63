/** Size expressions (kernel.ts): integers made of whole numbers, names, + - * / and parentheses. Pure. */
import { KernelError, KernelErrorCode } from "../../errors.ts";
import { KERNEL_SIZE_CHARACTERS_MAX, KERNEL_SIZE_DEPTH_MAX, KERNEL_SIZES_KEPT_MAX } from "../../limits.ts";
import type { SizeExpression } from "./kernel.ts";

/** What names stand for. Looked up as own properties only. */
export type Sizes = Readonly<Record<string, number>>;

/** A parsed expression. */
export interface Size {
  /** In the order in which they first stand there. */
  readonly names: readonly string[];
  /**
   * Throws PFS_KERNEL_OVER_LIMIT when a value on the way is negative or more than 2^53 - 1, PFS_KERNEL_INVALID when a name
   * has no value or something is divided by zero.
   */
  evaluate(sizes: Sizes): number;
}

type Value = (sizes: Sizes) => number;

const TOKEN = /\s*(?:([0-9]{1,16})|([A-Za-z][A-Za-z0-9_]*)|([-+*/()]))/y;

/** Throws PFS_KERNEL_INVALID {reason}. */
export function parseSize(text: SizeExpression): Size {
  if (text.length > KERNEL_SIZE_CHARACTERS_MAX)
    throw invalid(text, `it is longer than ${KERNEL_SIZE_CHARACTERS_MAX} characters`);
  const parser = new SizeParser(text);
  const value = parser.sum(0);
  parser.end();
  return {
    names: [...parser.names],
    evaluate: (sizes) => checked(text, value(sizes)),
  };
}

/** Expressions that were evaluated, the one that came first the first: each call of a kernel has the same ones again. */
const parsed = new Map<SizeExpression, Size>();

/** The value of an expression. Throws as `parseSize` and `Size.evaluate` do. */
export function evaluateSize(text: SizeExpression, sizes: Sizes): number {
  let size = parsed.get(text);
  if (size === undefined) {
    size = parseSize(text);
    const [oldest = ""] = parsed.keys();
    if (parsed.size === KERNEL_SIZES_KEPT_MAX) parsed.delete(oldest);
    parsed.set(text, size);
  }
  return size.evaluate(sizes);
}

/** Recursive descent: a sum of products of numbers, names and sums in parentheses. */
class SizeParser {
  readonly names: Set<string> = new Set<string>();
  readonly #text: string;
  #at = 0;
  #token: string | undefined;

  constructor(text: string) {
    this.#text = text;
    this.#next();
  }

  sum(depth: number): Value {
    let left = this.#product(depth);
    while (this.#token === "+" || this.#token === "-") {
      const isSum = this.#token === "+";
      this.#next();
      left = this.#joined(left, this.#product(depth), isSum ? (a, b) => a + b : (a, b) => a - b);
    }
    return left;
  }

  end(): void {
    if (this.#token !== undefined) throw invalid(this.#text, `nothing can follow before ${this.#token}`);
  }

  #product(depth: number): Value {
    let left = this.#term(depth);
    while (this.#token === "*" || this.#token === "/") {
      const isProduct = this.#token === "*";
      this.#next();
      const right = this.#term(depth);
      left = this.#joined(left, right, isProduct ? (a, b) => a * b : (a, b) => this.#quotient(a, b));
    }
    return left;
  }

  #term(depth: number): Value {
    const token = this.#token;
    if (token === undefined) throw invalid(this.#text, "it ends where a number or a name must stand");
    this.#next();
    if (/^[0-9]/.test(token)) {
      const value = checked(this.#text, Number(token));
      return () => value;
    }
    if (/^[A-Za-z]/.test(token)) {
      this.names.add(token);
      return (sizes) => this.#named(token, sizes);
    }
    if (token !== "(") throw invalid(this.#text, `a number or a name must stand where ${token} is`);
    if (depth >= KERNEL_SIZE_DEPTH_MAX)
      throw invalid(this.#text, `parentheses stand more than ${KERNEL_SIZE_DEPTH_MAX} deep in each other`);
    const inner = this.sum(depth + 1);
    if (this.#token !== ")") throw invalid(this.#text, "a parenthesis is not closed");
    this.#next();
    return inner;
  }

  #joined(left: Value, right: Value, join: (a: number, b: number) => number): Value {
    return (sizes) => checked(this.#text, join(left(sizes), right(sizes)));
  }

  #quotient(a: number, b: number): number {
    if (b === 0) throw invalid(this.#text, "it divides by zero");
    // Exact, where Math.ceil(a / b) rounds twice.
    return (a - (a % b)) / b + (a % b === 0 ? 0 : 1);
  }

  #named(name: string, sizes: Sizes): number {
    const value = Object.hasOwn(sizes, name) ? sizes[name] : undefined;
    if (value === undefined) throw invalid(this.#text, `${name} has no size`);
    return checked(this.#text, value);
  }

  #next(): void {
    TOKEN.lastIndex = this.#at;
    const found = TOKEN.exec(this.#text);
    if (found === null && this.#text.slice(this.#at).trim() !== "")
      throw invalid(this.#text, "it is made of whole numbers, names, + - * / and parentheses");
    this.#token = found?.slice(1).find((each) => each !== undefined);
    this.#at = found === null ? this.#text.length : TOKEN.lastIndex;
  }
}

function checked(text: string, value: number): number {
  if (Number.isSafeInteger(value) && value >= 0) return value;
  const reason = value < 0 ? "it becomes negative" : "it becomes more than 2^53 - 1";
  throw new KernelError(KernelErrorCode.overLimit, `the size ${quoted(text)} cannot be: ${reason}`, {
    reason,
  });
}

function invalid(text: string, reason: string): KernelError {
  return new KernelError(KernelErrorCode.invalid, `the size ${quoted(text)} is wrong: ${reason}`, { reason });
}

function quoted(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
