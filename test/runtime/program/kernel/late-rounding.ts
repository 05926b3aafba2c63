/**
 * A GPU that rounds as late as WebGPU lets it: floats that are computed stay what they are exactly, however many digits that takes,
 * through sums, products and variables, until something needs their bits. So each joining of operations and each other order of
 * them that rounds less is among what it does. It computes what GPU.js gets (gpujs.ts), one element at a time.
 */
import { parse } from "acorn";
import type * as acorn from "acorn";
import { dimensionNames } from "../../../../runtime/program/kernel/binding.ts";
import { gpuJsSource } from "../../../../runtime/program/kernel/gpujs.ts";
import type { KernelSpec } from "../../../../runtime/program/kernel/kernel.ts";
import type { JsInput } from "./js-interpreter.ts";

/** digits · 2^exponent. */
interface Exact {
  readonly digits: bigint;
  readonly exponent: number;
}

/** Integers of 32 bits are numbers, and so are literals, which are what they stand beside. */
type Value = Exact | number;
type Outcome = "next" | "break" | "continue" | { readonly value: Value };

const DIGITS = 24;
const EXPONENT_MIN = -149;
const FLOAT_MAX = 3.4028234663852886e38;

export interface LateOptions {
  /** Whether what must be rounded is: what this is without shows what it is for. */
  readonly isKept: boolean;
  /** Whether an operation, one after the other, is rounded though it need not be. */
  readonly isEarly: () => boolean;
}

/** Elements of its output as floats. Throws RangeError where one is beyond all floats. */
export function computeLate(
  spec: KernelSpec,
  dimensions: Readonly<Record<string, number>>,
  inputs: readonly JsInput[],
  options: LateOptions,
): Float32Array {
  const { source, dimensions: named } = gpuJsSource(spec);
  const program = parse(`(${source})`, { ecmaVersion: 2022 });
  const { expression } = program.body[0] as acorn.ExpressionStatement;
  const { params, body } = expression as acorn.FunctionExpression;
  const names = params.map((each) => (each as acorn.Identifier).name);
  const sizesOf = (shape: readonly (string | number)[]): number[] =>
    shape.map((each) => (typeof each === "number" ? each : dimensions[each]!));
  const sides = sizesOf(spec.outputs[0]!.shape).toReversed();
  const [width = 1, height = 1] = sides;
  const result = new Float32Array(sides.reduce((all, each) => all * each, 1));
  const all = dimensionNames(spec);
  for (let at = 0; at < result.length; at++) {
    const variables = new Map<string, Value>();
    for (const [index, { type, shape }] of spec.inputs.entries())
      if (shape.length === 0) {
        const given = inputs[index] as number;
        variables.set(names[index]!, type === "f32" ? exact(given) : given);
      }
    for (const name of named) variables.set(`d${all.indexOf(name)}`, dimensions[name]!);
    const tensors = new Map(
      spec.inputs.map(({ shape }, index) => [
        names[index]!,
        { values: inputs[index] as Float32Array, sizes: sizesOf(shape) },
      ]),
    );
    const thread = {
      x: at % width,
      y: Math.trunc(at / width) % height,
      z: Math.trunc(at / (width * height)),
    };
    const end = new Thread(tensors, thread, variables, options).block(body.body);
    if (typeof end !== "object") throw new Error("it returned nothing");
    result[at] = rounded(floatOf(end.value));
  }
  return result;
}

class Thread {
  readonly #tensors: ReadonlyMap<
    string,
    { readonly values: Float32Array; readonly sizes: readonly number[] }
  >;
  readonly #thread: Readonly<Record<string, number>>;
  readonly #variables: Map<string, Value>;
  readonly #options: LateOptions;

  constructor(
    tensors: ReadonlyMap<string, { readonly values: Float32Array; readonly sizes: readonly number[] }>,
    thread: Readonly<Record<string, number>>,
    variables: Map<string, Value>,
    options: LateOptions,
  ) {
    this.#tensors = tensors;
    this.#thread = thread;
    this.#variables = variables;
    this.#options = options;
  }

  block(statements: readonly acorn.Statement[]): Outcome {
    for (const statement of statements) {
      const outcome = this.#statement(statement);
      if (outcome !== "next") return outcome;
    }
    return "next";
  }

  #statement(node: acorn.Statement): Outcome {
    switch (node.type) {
      case "BlockStatement":
        return this.block(node.body);
      case "VariableDeclaration": {
        const [{ id, init }] = node.declarations as [acorn.VariableDeclarator];
        this.#variables.set((id as acorn.Identifier).name, floatOf(this.#value(init!)));
        return "next";
      }
      case "ExpressionStatement": {
        const { left, right } = node.expression as acorn.AssignmentExpression;
        this.#variables.set((left as acorn.Identifier).name, floatOf(this.#value(right)));
        return "next";
      }
      case "IfStatement":
        if (this.#test(node.test)) return this.#statement(node.consequent);
        return node.alternate ? this.#statement(node.alternate) : "next";
      case "ForStatement": {
        const [{ id }] = (node.init as acorn.VariableDeclaration).declarations as [acorn.VariableDeclarator];
        const { name } = id as acorn.Identifier;
        const most = this.#value((node.test as acorn.BinaryExpression).right) as number;
        for (let counter = 0; counter < most; counter++) {
          this.#variables.set(name, counter);
          const outcome = this.#statement(node.body);
          if (outcome === "break") break;
          if (typeof outcome === "object") return outcome;
        }
        return "next";
      }
      case "BreakStatement":
        return "break";
      case "ContinueStatement":
        return "continue";
      case "ReturnStatement":
        return { value: this.#value(node.argument!) };
      default:
        throw new Error(`GPU.js gets no ${node.type}`);
    }
  }

  #value(node: acorn.Expression | acorn.PrivateIdentifier | acorn.SpreadElement): Value {
    switch (node.type) {
      case "Literal":
        return Number.isInteger(node.value)
          ? (node.value as number)
          : exact(Math.fround(node.value as number));
      case "Identifier":
        return this.#variables.get(node.name)!;
      case "MemberExpression":
        return this.#member(node);
      case "UnaryExpression": {
        const value = this.#value(node.argument);
        return typeof value === "number" ? -value : { ...value, digits: -value.digits };
      }
      case "ConditionalExpression":
        return this.#value(this.#test(node.test) ? node.consequent : node.alternate);
      case "BinaryExpression":
        return this.#operation(
          node.operator,
          this.#value(node.left as acorn.Expression),
          this.#value(node.right),
        );
      case "CallExpression": {
        const { property } = node.callee as acorn.MemberExpression;
        return this.#call(
          (property as acorn.Identifier).name,
          node.arguments.map((each) => this.#value(each)),
        );
      }
      default:
        throw new Error(`GPU.js gets no ${node.type}`);
    }
  }

  #member(node: acorn.MemberExpression): Value {
    if (!node.computed) return this.#thread[(node.property as acorn.Identifier).name]!;
    const indices: number[] = [];
    let at: acorn.Expression | acorn.Super = node;
    for (; at.type === "MemberExpression"; at = at.object)
      indices.unshift(cut(this.#value(at.property as acorn.Expression)));
    const { values, sizes } = this.#tensors.get((at as acorn.Identifier).name)!;
    let place = 0;
    for (const [axis, index] of indices.entries()) place = place * sizes[axis]! + index;
    return exact(values[place]!);
  }

  #operation(operator: string, left: Value, right: Value): Value {
    if (!["+", "-", "*"].includes(operator)) return bits(operator, cut(left), cut(right));
    if (typeof left === "number" && typeof right === "number") {
      if (operator === "*") return Math.imul(left, right);
      return (operator === "+" ? left + right : left - right) | 0;
    }
    const [a, b] = [floatOf(left), floatOf(right)];
    const made =
      operator === "*" ? product(a, b) : sum(a, operator === "-" ? { ...b, digits: -b.digits } : b);
    return this.#options.isEarly() ? exact(rounded(made)) : made;
  }

  #call(name: string, given: readonly Value[]): Value {
    const [a, b] = given.map(floatOf) as [Exact, Exact];
    switch (name) {
      case "fround":
        return this.#options.isKept ? exact(rounded(a)) : a;
      case "abs":
        return a.digits < 0n ? { ...a, digits: -a.digits } : a;
      case "min":
        return compare(a, b) < 0 ? a : b;
      case "max":
        return compare(a, b) > 0 ? a : b;
      case "sign":
        return exact(Math.sign(Number(a.digits)));
      case "round":
        return floor(exact(rounded(sum(a, exact(0.5)))));
      case "floor":
        return floor(a);
      case "ceil":
        return negative(floor(negative(a)));
      case "trunc":
        return a.digits < 0n ? negative(floor(negative(a))) : floor(a);
      default:
        throw new Error(`exact kernels have no Math.${name}`);
    }
  }

  #test(node: acorn.Expression): boolean {
    if (node.type === "UnaryExpression") return !this.#test(node.argument);
    if (node.type === "LogicalExpression")
      return node.operator === "&&"
        ? this.#test(node.left) && this.#test(node.right)
        : this.#test(node.left) || this.#test(node.right);
    const { operator, left, right } = node as acorn.BinaryExpression;
    const order = compare(floatOf(this.#value(left as acorn.Expression)), floatOf(this.#value(right)));
    switch (operator) {
      case "<":
        return order < 0;
      case "<=":
        return order <= 0;
      case ">":
        return order > 0;
      case ">=":
        return order >= 0;
      case "===":
        return order === 0;
      default:
        return order !== 0;
    }
  }
}

function exact(value: number): Exact {
  if (!Number.isFinite(value)) throw new RangeError("it is beyond all floats");
  let [digits, exponent] = [value, 0];
  while (!Number.isInteger(digits)) {
    digits *= 2;
    exponent--;
  }
  return { digits: BigInt(digits), exponent };
}

function floatOf(value: Value): Exact {
  return typeof value === "number" ? exact(value) : value;
}

/** The nearest float; of two, the even one. */
export function rounded({ digits, exponent }: Exact): number {
  const size = digits < 0n ? -digits : digits;
  const more = Math.max(size.toString(2).length - DIGITS, EXPONENT_MIN - exponent, 0);
  const unit = 1n << BigInt(more);
  const rest = size % unit;
  let kept = size / unit;
  if (rest * 2n > unit || (rest * 2n === unit && kept % 2n === 1n)) kept++;
  const value = Number(kept) * 2 ** (exponent + more);
  if (value > FLOAT_MAX) throw new RangeError("it is beyond all floats");
  return digits < 0n ? -value : value;
}

function aligned(a: Exact, b: Exact): readonly [bigint, bigint, number] {
  const exponent = Math.min(a.exponent, b.exponent);
  return [a.digits << BigInt(a.exponent - exponent), b.digits << BigInt(b.exponent - exponent), exponent];
}

function sum(a: Exact, b: Exact): Exact {
  const [x, y, exponent] = aligned(a, b);
  return { digits: x + y, exponent };
}

function product(a: Exact, b: Exact): Exact {
  return { digits: a.digits * b.digits, exponent: a.exponent + b.exponent };
}

function negative({ digits, exponent }: Exact): Exact {
  return { digits: -digits, exponent };
}

function compare(a: Exact, b: Exact): number {
  const [x, y] = aligned(a, b);
  return x < y ? -1 : x > y ? 1 : 0;
}

function floor(value: Exact): Exact {
  if (value.exponent >= 0) return value;
  return { digits: value.digits >> BigInt(-value.exponent), exponent: 0 };
}

/** A float as an integer, cut off. */
function cut(value: Value): number {
  if (typeof value === "number") return value | 0;
  return Math.trunc(Math.min(Math.max(rounded(value), -(2 ** 31)), 2 ** 31 - 128));
}

function bits(operator: string, a: number, b: number): number {
  switch (operator) {
    case "&":
      return a & b;
    case "|":
      return a | b;
    case "^":
      return a ^ b;
    case "<<":
      return a << b;
    case ">>":
      return a >> b;
    case ">>>":
      return (a >>> b) | 0;
    default:
      throw new Error(`exact kernels have no ${operator}`);
  }
}
