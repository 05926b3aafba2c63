/** How many operations a call of a kernel in JavaScript takes at most: each operator and function of Math for each element. */
import { KERNEL_SIZE_CHARACTERS_MAX } from "../../limits.ts";
import { MATH_FUNCTIONS } from "./js-tree.ts";
import type { Condition, Loop, Statement, Value } from "./js-tree.ts";
import type { SizeExpression, Tensor } from "./kernel.ts";

/** So many operations, and those of loops that depend on sizes. */
interface Cost {
  readonly fixed: number;
  readonly sized: readonly SizeExpression[];
}

const NONE: Cost = { fixed: 0, sized: [] };
/** What a kernel that computes nothing counts as: the element that it writes. */
const ELEMENT: Cost = { fixed: 1, sized: [] };

export function jsOperations(
  statements: readonly Statement[],
  inputs: readonly Tensor[],
  output: Tensor,
): SizeExpression {
  const elements = output.shape.join(" * ");
  const text = `${elements} * ${textOf(sum(ELEMENT, blockCost(statements, inputs)))}`;
  if (text.length <= KERNEL_SIZE_CHARACTERS_MAX) return text;
  return `${elements} * ${mostOf(statements)}`;
}

function blockCost(statements: readonly Statement[], inputs: readonly Tensor[]): Cost {
  return statements.map((each) => statementCost(each, inputs)).reduce(sum, NONE);
}

function statementCost(statement: Statement, inputs: readonly Tensor[]): Cost {
  switch (statement.kind) {
    case "declare":
    case "assign":
    case "return":
      return { fixed: valueCost(statement.value), sized: [] };
    case "if": {
      const test = { fixed: testCost(statement.test), sized: [] };
      return sum(test, either(blockCost(statement.yes, inputs), blockCost(statement.no, inputs)));
    }
    case "loop":
      return loopCost(statement, inputs);
    default:
      return NONE;
  }
}

function loopCost(loop: Loop, inputs: readonly Tensor[]): Cost {
  const { from, bound, isInclusive, step, trips, body } = loop;
  const inner = blockCost(body, inputs);
  if (inner.fixed === 0 && inner.sized.length === 0) return NONE;
  if (bound.base === undefined && inner.sized.length === 0) return { fixed: inner.fixed * trips, sized: [] };
  const name = typeof bound.base === "number" ? inputs[bound.base]!.name : bound.base;
  // What is subtracted from a small dimension would be less than nothing.
  const more = Math.max(0, bound.add - from + (isInclusive ? 1 : 0));
  const count = more === 0 ? name : `(${name} + ${more})`;
  const times = name === undefined ? String(trips) : step === 1 ? count : `(${count} / ${step})`;
  return { fixed: 0, sized: [`${times} * ${textOf(inner)}`] };
}

function sum(a: Cost, b: Cost): Cost {
  return { fixed: a.fixed + b.fixed, sized: [...a.sized, ...b.sized] };
}

/** At most what either of two takes. */
function either(a: Cost, b: Cost): Cost {
  return { fixed: Math.max(a.fixed, b.fixed), sized: [...a.sized, ...b.sized] };
}

function textOf({ fixed, sized }: Cost): string {
  const parts = fixed === 0 ? sized : [String(fixed), ...sized];
  return parts.length === 1 && sized.length === 0 ? parts[0]! : `(${parts.join(" + ")})`;
}

/** With all loops as long as they may be. */
function mostOf(statements: readonly Statement[]): number {
  return statements.reduce((most, each) => {
    if (each.kind === "loop") return most + each.trips * Math.max(1, mostOf(each.body));
    if (each.kind === "if") return most + testCost(each.test) + mostOf(each.yes) + mostOf(each.no);
    return most + ("value" in each ? valueCost(each.value) : 0);
  }, 1);
}

function valueCost(value: Value): number {
  switch (value.kind) {
    case "binary":
      return 1 + valueCost(value.left) + valueCost(value.right);
    case "negative":
    case "complement":
      return 1 + valueCost(value.value);
    case "call":
      return value.values.reduce(
        (most, each) => most + valueCost(each),
        MATH_FUNCTIONS[value.name].operations,
      );
    case "choice":
      return 1 + testCost(value.test) + valueCost(value.yes) + valueCost(value.no);
    default:
      // Finding an element is not what a kernel is for.
      return 0;
  }
}

function testCost(test: Condition): number {
  if (test.kind === "compare") return 1 + valueCost(test.left) + valueCost(test.right);
  return test.kind === "not" ? testCost(test.test) : testCost(test.left) + testCost(test.right);
}
