/**
 * Whether all engines give the same bits for a kernel in JavaScript. They do for + - and * of whole numbers, and for one of these of
 * floats, which gpujs.ts keeps apart: GPUs may join a product and a sum into one operation that rounds once, and add in another
 * order. They divide, take roots and all that is made of series only about right.
 */
import { MATH_FUNCTIONS, isWhole, typeOf } from "./js-tree.ts";
import type { Condition, Statement, Value } from "./js-tree.ts";
import type { Tensor } from "./kernel.ts";

/** What a float can be. A result is what was computed of floats that need not be whole: nothing more can be, exactly. */
const Grade = { whole: 0, float: 1, result: 2 } as const;
type Grade = (typeof Grade)[keyof typeof Grade];

export interface Inexact {
  readonly at: number;
  readonly reason: string;
}

/** What is not exact about it, or undefined. */
export function inexactness(
  statements: readonly Statement[],
  inputs: readonly Tensor[],
): Inexact | undefined {
  return graded(statements, inputs).inexact;
}

/** Tells of values among the statements whether they are whole numbers, whatever the inputs are. */
export function wholeValues(
  statements: readonly Statement[],
  inputs: readonly Tensor[],
): (value: Value) => boolean {
  const grading = graded(statements, inputs);
  return (value) => grading.of(value) === Grade.whole;
}

function graded(statements: readonly Statement[], inputs: readonly Tensor[]): Grading {
  const grading = new Grading(inputs);
  // What a variable can be follows from all that is assigned to it, which may be other variables.
  for (let changes = -1; changes !== grading.changes;) {
    changes = grading.changes;
    grading.block(statements);
  }
  return grading;
}

class Grading {
  changes = 0;
  inexact: Inexact | undefined;
  readonly #inputs: readonly Tensor[];
  readonly #locals = new Map<number, Grade>();

  constructor(inputs: readonly Tensor[]) {
    this.#inputs = inputs;
  }

  block(statements: readonly Statement[]): void {
    for (const statement of statements) {
      switch (statement.kind) {
        case "declare":
        case "assign":
          this.#assign(statement.id, this.of(statement.value));
          break;
        case "if":
          this.#test(statement.test);
          this.block(statement.yes);
          this.block(statement.no);
          break;
        case "loop":
          this.block(statement.body);
          break;
        case "return":
          this.of(statement.value);
          break;
        default:
      }
    }
  }

  #assign(id: number, grade: Grade): void {
    const before = this.#locals.get(id);
    if (before !== undefined && before >= grade) return;
    this.#locals.set(id, grade);
    this.changes++;
  }

  of(value: Value): Grade {
    switch (value.kind) {
      case "number":
        return isWhole(value.value) ? Grade.whole : Grade.float;
      case "scalar":
        return value.type === "int" ? Grade.whole : Grade.float;
      case "local":
        return this.#locals.get(value.id) ?? Grade.whole;
      case "element":
        for (const index of value.indices) this.of(index);
        return this.#inputs[value.input]!.type === "f32" ? Grade.float : Grade.whole;
      case "binary":
        return this.#binary(value);
      case "negative":
      case "complement":
        return this.of(value.value);
      case "call":
        return this.#call(value);
      case "choice":
        this.#test(value.test);
        return higher(this.of(value.yes), this.of(value.no));
      default:
        return Grade.whole;
    }
  }

  #binary(value: Extract<Value, { readonly kind: "binary" }>): Grade {
    const { at, operator, left, right } = value;
    const grade = higher(this.of(left), this.of(right));
    if (typeOf(value) === "int") return Grade.whole;
    if (operator === "/" || operator === "%") this.#tell(at, `${operator} is not the same on all engines`);
    if (grade === Grade.result)
      this.#tell(
        at,
        `${operator} computes on with what was computed of floats, which engines round at different places`,
      );
    return grade === Grade.whole ? Grade.whole : Grade.result;
  }

  #call({ at, name, values }: Extract<Value, { readonly kind: "call" }>): Grade {
    const grade = values.map((each) => this.of(each)).reduce(higher, Grade.whole);
    const { isExact, isWhole: givesWhole } = MATH_FUNCTIONS[name];
    if (!isExact) this.#tell(at, `Math.${name} is not the same on all engines`);
    if (name === "round" && grade === Grade.result)
      this.#tell(at, "Math.round computes on with what was computed of floats");
    return givesWhole ? Grade.whole : grade;
  }

  #test(test: Condition): void {
    if (test.kind === "compare") {
      this.of(test.left);
      this.of(test.right);
    } else if (test.kind === "not") this.#test(test.test);
    else {
      this.#test(test.left);
      this.#test(test.right);
    }
  }

  #tell(at: number, reason: string): void {
    this.inexact ??= {
      at,
      reason: `its result is "exact", and ${reason}: say how close it is, as { relL2, abs }`,
    };
  }
}

function higher(a: Grade, b: Grade): Grade {
  return a > b ? a : b;
}
