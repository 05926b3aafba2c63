/**
 * The one spelling of a kernel in JavaScript: names of its own for inputs (a0, a1, …), variables and counters (v0, v1, …), all
 * parentheses, numbers as 32-bit floats in their fewest digits. Reading it gives the same tree, so printing that gives the same text.
 */
import type { Condition, Loop, LoopBound, Statement, Value } from "./js-tree.ts";

export function printJs(statements: readonly Statement[], inputs: number): string {
  const parameters = Array.from({ length: inputs }, (_, index) => inputName(index)).join(", ");
  return `function (${parameters}) {\n${new JsPrinter().block(statements)}}\n`;
}

export function numberText(value: number): string {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return String(short);
  }
  return String(Number(value.toPrecision(9)));
}

/** Numbers variables and counters in the order in which they are declared. */
class JsNames {
  readonly #names = new Map<number, string>();

  declare(id: number): string {
    const name = `v${this.#names.size}`;
    this.#names.set(id, name);
    return name;
  }

  of(id: number): string {
    const name = this.#names.get(id);
    if (name === undefined) throw new Error(`variable ${id} is used before it is declared`);
    return name;
  }
}

/** Prints statements and conditions. How values and loops are written is for whoever extends it. */
export abstract class StatementPrinter {
  protected readonly names: JsNames = new JsNames();
  /** Statements that must stand before the one that is being printed. */
  protected before: string[] = [];

  protected abstract value(value: Value): string;
  protected abstract loop(loop: Loop): string;
  protected abstract comparison(test: Extract<Condition, { readonly kind: "compare" }>): string;

  block(statements: readonly Statement[]): string {
    const around = this.before;
    const lines = statements.map((each) => {
      this.before = [];
      const text = this.#statement(each);
      return [...this.before, text].map((line) => `${line}\n`).join("");
    });
    this.before = around;
    return lines.join("");
  }

  #statement(statement: Statement): string {
    switch (statement.kind) {
      case "declare": {
        const value = this.value(statement.value);
        return `let ${this.names.declare(statement.id)} = ${value};`;
      }
      case "assign":
        return `${this.names.of(statement.id)} = ${this.value(statement.value)};`;
      case "if": {
        const { test, yes, no } = statement;
        const head = `if (${this.condition(test)}) {\n${this.block(yes)}}`;
        return no.length === 0 ? head : `${head} else {\n${this.block(no)}}`;
      }
      case "loop":
        return this.loop(statement);
      case "return":
        return `return ${this.value(statement.value)};`;
      default:
        return `${statement.kind};`;
    }
  }

  protected condition(test: Condition): string {
    switch (test.kind) {
      case "compare":
        return this.comparison(test);
      case "not":
        return `(!${this.condition(test.test)})`;
      default:
        return `(${this.condition(test.left)} ${test.kind === "and" ? "&&" : "||"} ${this.condition(test.right)})`;
    }
  }
}

class JsPrinter extends StatementPrinter {
  protected loop({ id, from, bound, isInclusive, step, body }: Loop): string {
    const name = this.names.declare(id);
    const test = `${name} ${isInclusive ? "<=" : "<"} ${boundText(bound)}`;
    const update = step === 1 ? `${name}++` : `${name} += ${step}`;
    return `for (let ${name} = ${from}; ${test}; ${update}) {\n${this.block(body)}}`;
  }

  protected value(value: Value): string {
    switch (value.kind) {
      case "number":
        return value.value < 0 ? `(${numberText(value.value)})` : numberText(value.value);
      case "thread":
        return `this.thread.${value.axis}`;
      case "dimension":
        return `this.constants.${value.name}`;
      case "scalar":
        return inputName(value.input);
      case "local":
      case "counter":
        return this.names.of(value.id);
      case "element":
        return inputName(value.input) + value.indices.map((each) => `[${this.value(each)}]`).join("");
      case "binary":
        return `(${this.value(value.left)} ${value.operator} ${this.value(value.right)})`;
      case "negative":
        return `(-${this.value(value.value)})`;
      case "complement":
        return `(~${this.value(value.value)})`;
      case "call":
        return `Math.${value.name}(${value.values.map((each) => this.value(each)).join(", ")})`;
      case "choice":
        return `(${this.condition(value.test)} ? ${this.value(value.yes)} : ${this.value(value.no)})`;
    }
  }

  protected comparison({ left, right, operator }: Extract<Condition, { readonly kind: "compare" }>): string {
    return `(${this.value(left)} ${operator} ${this.value(right)})`;
  }
}

function boundText({ base, add }: LoopBound): string {
  if (base === undefined) return String(add);
  const text = typeof base === "string" ? `this.constants.${base}` : inputName(base);
  if (add === 0) return text;
  return add < 0 ? `${text} - ${-add}` : `${text} + ${add}`;
}

function inputName(index: number): string {
  return `a${index}`;
}
