/**
 * A kernel in JavaScript as the validator leaves it: everything has its type, every name is resolved, and nothing is left that
 * could mean two things. It is what is printed for people and manifests, what GPU.js gets, and what tests compute themselves.
 *
 * Values are 32-bit floats ("float"), or 32-bit integers that wrap ("int"): the thread's place, dimensions, whole scalars,
 * counters of loops, and what + - * and bit operators make of these. Where both meet, the integer becomes a float; where an
 * integer must stand (an index, a bit operator), a float is cut off towards zero.
 */

/** `at`: where it stands in the source, in UTF-16 units, for faults. */
interface Placed {
  readonly at: number;
}

export type ValueType = "int" | "float";

export type ArithmeticOperator = "+" | "-" | "*" | "/" | "%";
export type BitOperator = "&" | "|" | "^" | "<<" | ">>" | ">>>";
export type CompareOperator = "<" | "<=" | ">" | ">=" | "===" | "!==";

/** A 32-bit float; where it is whole and at most 2^24, an integer too, as the place where it stands wants it. */
export interface NumberValue extends Placed {
  readonly kind: "number";
  readonly value: number;
}

export type Value =
  | NumberValue
  | (Placed & { readonly kind: "thread"; readonly axis: "x" | "y" | "z" })
  | (Placed & { readonly kind: "dimension"; readonly name: string })
  /** An input without dimensions, by its index. */
  | (Placed & { readonly kind: "scalar"; readonly input: number; readonly type: ValueType })
  /** A variable, always a float. */
  | (Placed & { readonly kind: "local"; readonly id: number })
  /** A loop's counter. */
  | (Placed & { readonly kind: "counter"; readonly id: number })
  /** An element of an input; an index outside is moved to the nearest inside. */
  | (Placed & { readonly kind: "element"; readonly input: number; readonly indices: readonly Value[] })
  | (Placed & {
      readonly kind: "binary";
      readonly operator: ArithmeticOperator | BitOperator;
      readonly left: Value;
      readonly right: Value;
      readonly type: ValueType;
    })
  | (Placed & { readonly kind: "negative" | "complement"; readonly value: Value; readonly type: ValueType })
  /** A function of Math. */
  | (Placed & { readonly kind: "call"; readonly name: MathName; readonly values: readonly Value[] })
  | (Placed & { readonly kind: "choice"; readonly test: Condition; readonly yes: Value; readonly no: Value });

export type Condition =
  | (Placed & {
      readonly kind: "compare";
      readonly operator: CompareOperator;
      readonly left: Value;
      readonly right: Value;
    })
  | (Placed & { readonly kind: "and" | "or"; readonly left: Condition; readonly right: Condition })
  | (Placed & { readonly kind: "not"; readonly test: Condition });

/** Where a loop ends: `base` is a dimension's name, or a scalar's index. */
export interface LoopBound {
  readonly base?: string | number;
  /** What is added to it; the bound itself where there is none. */
  readonly add: number;
}

export interface Loop extends Placed {
  readonly kind: "loop";
  readonly id: number;
  readonly from: number;
  readonly bound: LoopBound;
  /** Whether the bound itself is one of its values. */
  readonly isInclusive: boolean;
  readonly step: number;
  /** How often its body runs at most. */
  readonly trips: number;
  readonly body: readonly Statement[];
}

export type Statement =
  | (Placed & { readonly kind: "declare" | "assign"; readonly id: number; readonly value: Value })
  | (Placed & {
      readonly kind: "if";
      readonly test: Condition;
      readonly yes: readonly Statement[];
      readonly no: readonly Statement[];
    })
  | Loop
  | (Placed & { readonly kind: "break" | "continue" })
  | (Placed & { readonly kind: "return"; readonly value: Value });

export type MathName =
  | "abs"
  | "acos"
  | "acosh"
  | "asin"
  | "asinh"
  | "atan"
  | "atan2"
  | "atanh"
  | "cbrt"
  | "ceil"
  | "cos"
  | "cosh"
  | "exp"
  | "expm1"
  | "floor"
  | "fround"
  | "log"
  | "log10"
  | "log1p"
  | "log2"
  | "max"
  | "min"
  | "pow"
  | "round"
  | "sign"
  | "sin"
  | "sinh"
  | "sqrt"
  | "tan"
  | "tanh"
  | "trunc";

interface MathFunction {
  readonly arity: number;
  /** What it counts as, in operations. */
  readonly operations: number;
  /** Whether all engines give the same bits. */
  readonly isExact: boolean;
  /** Whether it gives whole numbers. */
  readonly isWhole: boolean;
}

const EXACT: MathFunction = { arity: 1, operations: 1, isExact: true, isWhole: false };
const WHOLE: MathFunction = { ...EXACT, isWhole: true };
const CLOSE: MathFunction = { arity: 1, operations: 8, isExact: false, isWhole: false };

/** Functions of Math that kernels have. */
export const MATH_FUNCTIONS: Readonly<Record<MathName, MathFunction>> = {
  abs: EXACT,
  acos: CLOSE,
  acosh: CLOSE,
  asin: CLOSE,
  asinh: CLOSE,
  atan: CLOSE,
  atan2: { ...CLOSE, arity: 2 },
  atanh: CLOSE,
  cbrt: CLOSE,
  ceil: WHOLE,
  cos: CLOSE,
  cosh: CLOSE,
  exp: CLOSE,
  expm1: CLOSE,
  floor: WHOLE,
  fround: EXACT,
  log: CLOSE,
  log10: CLOSE,
  log1p: CLOSE,
  log2: CLOSE,
  max: { ...EXACT, arity: 2 },
  min: { ...EXACT, arity: 2 },
  pow: { ...CLOSE, arity: 2 },
  round: WHOLE,
  sign: WHOLE,
  sin: CLOSE,
  sinh: CLOSE,
  sqrt: { ...CLOSE, operations: 4 },
  tan: CLOSE,
  tanh: CLOSE,
  trunc: WHOLE,
};

/** Of a number that may be either, "int": who has another of the two at hand asks for that one's. */
export function typeOf(value: Value): ValueType {
  switch (value.kind) {
    case "number":
      return isWhole(value.value) ? "int" : "float";
    case "thread":
    case "dimension":
    case "counter":
      return "int";
    case "local":
    case "element":
    case "call":
    case "choice":
      return "float";
    default:
      return value.type;
  }
}

/** Whether a 32-bit float has it and all whole numbers below it exactly. */
export function isWhole(value: number): boolean {
  return Number.isInteger(value) && Math.abs(value) <= 2 ** 24;
}

/** Whether it is an odd number, by which a power has the sign of its base. */
export function isOdd(value: Value): boolean {
  return value.kind === "number" && Number.isInteger(value.value) && Math.abs(value.value % 2) === 1;
}

/** What a number, or what was computed of some, is as a 32-bit float. */
export function mathOf(name: MathName, values: readonly number[]): number {
  // Half of a whole number is rounded up, which Math.round does too but for what it makes of -0.5.
  if (name === "round") return Math.fround(Math.floor(Math.fround(values[0]! + 0.5)));
  const compute = Math[name] as (...given: readonly number[]) => number;
  return Math.fround(compute(...values));
}
