/**
 * What a kernel in JavaScript means, computed plainly, one element after the other: what every engine is compared with. It rounds
 * to a 32-bit float after each operation, and joins none. Of exact kernels, what is not further from 0 than 2^-126 is 0, unless it
 * is what an input has.
 */
import { dimensionNames, tensorBytes } from "../../../../runtime/program/kernel/binding.ts";
import { wholeValues } from "../../../../runtime/program/kernel/js-exact.ts";
import { parseJsSource } from "../../../../runtime/program/kernel/js-source.ts";
import { isOdd, mathOf, typeOf } from "../../../../runtime/program/kernel/js-tree.ts";
import type { Condition, Statement, Value } from "../../../../runtime/program/kernel/js-tree.ts";
import type { KernelSpec } from "../../../../runtime/program/kernel/kernel.ts";

export type JsInput = Float32Array<ArrayBuffer> | number;

const { fround, trunc } = Math;
/** The last float that is one. */
const INT_MAX = 2 ** 31 - 128;
const FLOAT_MIN = 2 ** -126;
const INT_MIN = -(2 ** 31);

type Outcome = "next" | "break" | "continue" | { readonly value: number };

/**
 * `inputs` are floats, whatever the kernel's are of: whole numbers up to 2^24 are. Gives floats too. Throws RangeError where one that
 * an exact kernel computes is beyond all floats, which is no answer.
 */
export function interpretJs(
  spec: KernelSpec,
  dimensions: Readonly<Record<string, number>>,
  inputs: readonly JsInput[],
): Float32Array<ArrayBuffer> {
  const [output] = spec.outputs as [KernelSpec["outputs"][number]];
  const { statements } = parseJsSource(spec.source, {
    inputs: spec.inputs,
    output,
    dimensions: dimensionNames(spec),
    constants: {},
    maxTrip: spec.maxTrip,
  });
  const isWhole = spec.result === "exact" ? wholeValues(statements, spec.inputs) : undefined;
  const result = new Float32Array(tensorBytes(output, dimensions) / 4);
  const [width = 1, height = 1] = output.shape.map((each) => sizeOf(each, dimensions)).toReversed();
  for (let at = 0; at < result.length; at++) {
    const thread = { x: at % width, y: trunc(at / width) % height, z: trunc(at / (width * height)) };
    const end = new Run(spec, dimensions, inputs, thread, isWhole).block(statements);
    if (typeof end !== "object") throw new Error("it returned nothing");
    result[at] = end.value;
  }
  return result;
}

class Run {
  readonly #spec: KernelSpec;
  readonly #dimensions: Readonly<Record<string, number>>;
  readonly #inputs: readonly JsInput[];
  readonly #thread: Readonly<Record<"x" | "y" | "z", number>>;
  readonly #isWhole: ((value: Value) => boolean) | undefined;
  readonly #variables = new Map<number, number>();

  constructor(
    spec: KernelSpec,
    dimensions: Readonly<Record<string, number>>,
    inputs: readonly JsInput[],
    thread: Readonly<Record<"x" | "y" | "z", number>>,
    isWhole: ((value: Value) => boolean) | undefined,
  ) {
    this.#isWhole = isWhole;
    this.#spec = spec;
    this.#dimensions = dimensions;
    this.#inputs = inputs;
    this.#thread = thread;
  }

  block(statements: readonly Statement[]): Outcome {
    for (const statement of statements) {
      const outcome = this.#statement(statement);
      if (outcome !== "next") return outcome;
    }
    return "next";
  }

  #statement(statement: Statement): Outcome {
    switch (statement.kind) {
      case "declare":
      case "assign":
        this.#variables.set(statement.id, fround(this.#value(statement.value)));
        return "next";
      case "if":
        return this.block(this.#test(statement.test) ? statement.yes : statement.no);
      case "loop": {
        const { id, from, bound, isInclusive, step, trips, body } = statement;
        const base =
          typeof bound.base === "string"
            ? this.#dimensions[bound.base]!
            : Number(this.#inputs[bound.base ?? -1] ?? 0);
        const end = base + bound.add + (isInclusive ? 1 : 0);
        let ran = 0;
        for (let counter = from; counter < end; counter += step) {
          if (ran++ === trips) throw new Error(`a loop ran more often than ${trips} times`);
          this.#variables.set(id, counter);
          const outcome = this.block(body);
          if (outcome === "break") break;
          if (typeof outcome === "object") return outcome;
        }
        return "next";
      }
      case "return":
        return { value: fround(this.#value(statement.value)) };
      default:
        return statement.kind;
    }
  }

  #value(value: Value): number {
    switch (value.kind) {
      case "number":
        return value.value;
      case "thread":
        return this.#thread[value.axis];
      case "dimension":
        return this.#dimensions[value.name]!;
      case "scalar":
        return this.#inputs[value.input] as number;
      case "local":
      case "counter":
        return this.#variables.get(value.id)!;
      case "element":
        return this.#element(value.input, value.indices);
      case "binary":
        return this.#binary(value);
      case "negative":
        return value.type === "int" ? -this.#value(value.value) | 0 : -this.#value(value.value);
      case "complement":
        return ~cut(this.#value(value.value));
      case "call":
        return this.#call(value);
      case "choice":
        return fround(this.#value(this.#test(value.test) ? value.yes : value.no));
    }
  }

  #element(input: number, indices: readonly Value[]): number {
    const shape = this.#spec.inputs[input]!.shape.map((each) => sizeOf(each, this.#dimensions));
    let at = 0;
    for (const [axis, index] of indices.entries()) {
      const inside = Math.min(Math.max(fround(this.#value(index)), 0), shape[axis]! - 1);
      at = at * shape[axis]! + cut(inside);
    }
    return (this.#inputs[input] as Float32Array)[at]!;
  }

  #binary(value: Extract<Value, { readonly kind: "binary" }>): number {
    const { operator, left, right, type } = value;
    const [a, b] = [this.#value(left), this.#value(right)];
    if (type === "int") return whole(operator, a, b);
    const made = this.#floats(operator, a, b);
    if (this.#isWhole === undefined) return made;
    if (!Number.isFinite(made)) throw new RangeError("it is beyond all floats");
    return !this.#isWhole(value) && Math.abs(made) <= FLOAT_MIN ? 0 : made;
  }

  #floats(operator: string, a: number, b: number): number {
    const [x, y] = [fround(a), fround(b)];
    switch (operator) {
      case "+":
        return fround(x + y);
      case "-":
        return fround(x - y);
      case "*":
        return fround(x * y);
      case "/":
        return fround(x / y);
      default:
        return fround(x - fround(trunc(fround(x / y)) * y));
    }
  }

  #call({ name, values }: Extract<Value, { readonly kind: "call" }>): number {
    const given = values.map((each) => fround(this.#value(each)));
    if (name !== "pow") return mathOf(name, given);
    const [base, power] = given as [number, number];
    const result = mathOf("pow", [Math.abs(base), power]);
    return isOdd(values[1]!) ? fround(Math.sign(base) * result) : result;
  }

  #test(test: Condition): boolean {
    switch (test.kind) {
      case "not":
        return !this.#test(test.test);
      case "and":
        return this.#test(test.left) && this.#test(test.right);
      case "or":
        return this.#test(test.left) || this.#test(test.right);
      default:
    }
    const areInts = typeOf(test.left) === "int" && typeOf(test.right) === "int";
    const [a, b] = [test.left, test.right].map((each) =>
      areInts ? this.#value(each) : fround(this.#value(each)),
    ) as [number, number];
    switch (test.operator) {
      case "<":
        return a < b;
      case "<=":
        return a <= b;
      case ">":
        return a > b;
      case ">=":
        return a >= b;
      case "===":
        return a === b;
      case "!==":
        return a !== b;
    }
  }
}

/** A float as an integer: towards zero, and not beyond the largest. */
function cut(value: number): number {
  if (Number.isNaN(value)) return 0;
  return Math.min(Math.max(trunc(value), INT_MIN), INT_MAX) | 0;
}

function whole(operator: string, a: number, b: number): number {
  switch (operator) {
    case "+":
      return (a + b) | 0;
    case "-":
      return (a - b) | 0;
    case "*":
      return Math.imul(a, b);
    default:
  }
  const [x, y] = [cut(a), cut(b)];
  switch (operator) {
    case "&":
      return x & y;
    case "|":
      return x | y;
    case "^":
      return x ^ y;
    case "<<":
      return x << y;
    case ">>":
      return x >> y;
    default:
      return (x >>> y) | 0;
  }
}

function sizeOf(dimension: string | number, dimensions: Readonly<Record<string, number>>): number {
  return typeof dimension === "number" ? dimension : dimensions[dimension]!;
}
