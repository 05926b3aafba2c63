/** Random kernels in JavaScript, from a grammar: most are what the validator accepts, written in all ways that mean the same. */
import type { ElementType } from "../../../../runtime/program/kernel/kernel.ts";
import { MATH_FUNCTIONS } from "../../../../runtime/program/kernel/js-tree.ts";
import type { JsInput } from "./js-interpreter.ts";

/** A generator of numbers below a bound, which a seed decides. */
export type Random = (below: number) => number;

export function seeded(seed: number): Random {
  let state = (seed ^ 0x9e3779b9) >>> 0;
  return (below) => {
    // SplitMix32.
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) % below;
  };
}

export interface RandomKernel {
  readonly declaration: {
    readonly kind: "js";
    readonly name: string;
    readonly inputs: readonly {
      readonly name: string;
      readonly type: ElementType;
      readonly shape: readonly (string | number)[];
    }[];
    readonly outputs: readonly {
      readonly name: string;
      readonly type: ElementType;
      readonly shape: readonly (string | number)[];
    }[];
    readonly constants: Readonly<Record<string, number>>;
    readonly maxTrip: Readonly<Record<string, number>>;
    readonly source: string;
    readonly hasCpu: false;
  };
  readonly dimensions: Readonly<Record<string, number>>;
  readonly inputs: readonly JsInput[];
}

const CONSTANTS = { half: 0.5, three: 3, many: 1000 };
const NAMES = ["n", "m", "k"] as const;
const MOST = 9;

export function randomKernel(random: Random): RandomKernel {
  const dimensions = Object.fromEntries(NAMES.map((name) => [name, 1 + random(MOST)]));
  const shape = (rank: number): (string | number)[] =>
    Array.from({ length: rank }, () => (random(3) === 0 ? 1 + random(5) : NAMES[random(NAMES.length)]!));
  const types: readonly ElementType[] = ["f32", "f32", "i32", "u32"];
  const inputs = Array.from({ length: random(4) }, (_, index) => ({
    name: `in${index}`,
    type: types[random(types.length)]!,
    shape: shape(random(4)),
  }));
  const outputs = [{ name: "out", type: types[random(types.length)]!, shape: shape(1 + random(3)) }];
  const source = new SourceMaker(random, inputs, outputs[0]!.shape.length).source();
  const used = new Set([...inputs, ...outputs].flatMap((each) => each.shape));
  const scalars = inputs.filter(({ type, shape: { length } }) => length === 0 && type !== "f32");
  const bounds = [...NAMES.filter((name) => used.has(name)), ...scalars.map(({ name }) => name)];
  return {
    declaration: {
      kind: "js",
      name: "random",
      inputs,
      outputs,
      constants: CONSTANTS,
      maxTrip: Object.fromEntries(bounds.map((name) => [name, MOST])),
      source,
      hasCpu: false,
    },
    dimensions: Object.fromEntries(Object.entries(dimensions).filter(([name]) => used.has(name))),
    inputs: inputs.map((input) => valuesOf(random, input, dimensions)),
  };
}

/** Of sums and products of whole numbers that are large, with variables and loops: an exact one. */
export function randomWholeKernel(random: Random): RandomKernel {
  const names = ["a[this.thread.x]", "b[this.thread.x]", "a[0]", "s", "x", "y", "3", "this.thread.x"];
  const value = (depth: number): string => {
    if (depth === 0) return names[random(names.length)]!;
    const [left, right] = [value(depth - 1), value(random(depth))];
    const operator = ["+", "-", "*"][random(3)]!;
    if (random(12) === 0) return `(${left} > ${right} ? ${right} : ${left})`;
    if (random(12) === 0) return `Math.max(${left}, -${right})`;
    if (random(20) === 0) return `(${left} & ${right})`;
    return `(${left} ${operator} ${right})`;
  };
  const numbers = (): Float32Array<ArrayBuffer> =>
    Float32Array.from({ length: MOST }, () => random(2 ** (1 + random(24))) - random(999));
  const tensor = { type: "i32", shape: ["n"] } as const;
  return {
    declaration: {
      kind: "js",
      name: "whole",
      inputs: [
        { name: "a", ...tensor },
        { name: "b", ...tensor },
        { name: "s", type: "i32", shape: [] },
      ],
      outputs: [{ name: "out", type: random(2) === 0 ? "f32" : "i32", shape: ["n"] }],
      constants: {},
      maxTrip: {},
      source: `function (a, b, s) {
        let x = b[1]; let y = s;
        for (let i = 0; i < 3; i++) { x = ${value(1 + random(2))}; if (x < y) y += ${value(1)}; }
        return ${value(1 + random(3))};
      }`,
      hasCpu: false,
    },
    dimensions: { n: MOST },
    inputs: [numbers(), numbers(), random(9999)],
  };
}

function valuesOf(
  random: Random,
  { type, shape }: RandomKernel["declaration"]["inputs"][number],
  dimensions: Readonly<Record<string, number>>,
): JsInput {
  const one = (): number => {
    // Some are as large as they may be: what is computed of those is rounded.
    const isLarge = shape.length > 0 && random(4) === 0;
    if (type === "u32") return isLarge ? random(2 ** 24 + 1) : random(MOST + 1);
    if (type === "i32") return isLarge ? random(2 ** 25 + 1) - 2 ** 24 : random(2 * MOST + 1) - MOST;
    return Math.fround(random(4) === 0 ? (random(2001) - 1000) / 7 : (random(33) - 16) / 4);
  };
  if (shape.length === 0) return one();
  const elements = shape.reduce<number>(
    (all, each) => all * (typeof each === "number" ? each : dimensions[each]!),
    1,
  );
  return Float32Array.from({ length: elements }, one);
}

class SourceMaker {
  readonly #random: Random;
  readonly #inputs: RandomKernel["declaration"]["inputs"];
  readonly #rank: number;
  #names = 0;
  #left = 60;

  constructor(random: Random, inputs: RandomKernel["declaration"]["inputs"], rank: number) {
    this.#random = random;
    this.#inputs = inputs;
    this.#rank = rank;
  }

  source(): string {
    const parameters = this.#inputs.map(({ name }) => name).join(", ");
    const head = this.#pick(["function ", "function kernel", "source"]);
    const body = this.#block([], [], false, 2 + this.#random(5));
    return `${head}(${parameters}) {\n${body}return ${this.#value([], [], 3)}${this.#pick([";", ""])}\n}`;
  }

  #pick<T>(all: readonly T[]): T {
    return all[this.#random(all.length)]!;
  }

  #block(outer: readonly string[], counters: readonly string[], isLoop: boolean, statements: number): string {
    const variables = [...outer];
    let text = "";
    for (let at = 0; at < statements && this.#left > 0; at++)
      text += `${this.#statement(variables, counters, isLoop)}\n`;
    return text;
  }

  #statement(variables: string[], counters: readonly string[], isLoop: boolean): string {
    this.#left--;
    const value = (): string => this.#value(variables, counters, 3);
    switch (this.#random(isLoop ? 10 : 8)) {
      case 0:
      case 1: {
        const name = `v${this.#names++}`;
        const text = `let ${name} = ${value()};`;
        variables.push(name);
        return text;
      }
      case 2:
      case 3: {
        if (variables.length === 0) return ";";
        const name = this.#pick(variables);
        return `${name} ${this.#pick(["=", "=", "+=", "-=", "*="])} ${value()};`;
      }
      case 4: {
        if (variables.length === 0) return "{ }";
        return this.#pick(["NAME++", "NAME--;", "++NAME;"]).replace("NAME", this.#pick(variables));
      }
      case 5: {
        const test = this.#test(variables, counters, 2);
        const yes = this.#block(variables, counters, isLoop, 1 + this.#random(2));
        const no = this.#random(2) === 0 ? "" : ` else {\n${this.#block(variables, counters, isLoop, 1)}}`;
        return `if (${test}) {\n${yes}}${no}`;
      }
      case 6: {
        if (counters.length >= 3) return `/* ${counters.length} */`;
        return this.#loop(variables, counters);
      }
      case 7:
        return this.#random(4) === 0
          ? `if (${this.#test(variables, counters, 1)}) return ${value()};`
          : "// nothing";
      default:
        return `if (${this.#test(variables, counters, 1)}) ${this.#pick(["break", "continue"])};`;
    }
  }

  #loop(variables: readonly string[], counters: readonly string[]): string {
    const name = `i${this.#names++}`;
    const bounds = this.#inputs
      .filter(({ type, shape }) => shape.length === 0 && type !== "f32")
      .map((each) => each.name);
    const dimensions = this.#inputs.flatMap(({ shape }) => shape.filter((each) => typeof each === "string"));
    const bound = this.#pick([
      String(1 + this.#random(6)),
      ...bounds,
      ...dimensions.map((each) => `this.constants.${each}`),
      ...dimensions.map((each) => `this.constants.${each} - ${this.#random(3)}`),
    ]);
    const from = this.#pick(["0", "0", "0", "-2", "1"]);
    const update = this.#pick([`${name}++`, `++${name}`, `${name} += ${1 + this.#random(3)}`]);
    const body = this.#block(variables, [...counters, name], true, 1 + this.#random(3));
    return `for (let ${name} = ${from}; ${name} ${this.#pick(["<", "<", "<="])} ${bound}; ${update}) {\n${body}}`;
  }

  #value(variables: readonly string[], counters: readonly string[], depth: number): string {
    const again = (): string => this.#value(variables, counters, depth - 1);
    if (depth <= 0 || this.#random(5) === 0) return this.#leaf(variables, counters);
    switch (this.#random(9)) {
      case 0:
      case 1:
      case 2:
        return `(${again()} ${this.#pick(["+", "-", "*", "+", "-", "*", "/", "%"])} ${again()})`;
      case 3:
        return `${again()} ${this.#pick(["+", "*"])} ${again()}`;
      case 4:
        return `(${again()} ${this.#pick(["&", "|", "^", ">>", "<<"])} ${this.#pick([again(), String(this.#random(16))])})`;
      case 5:
        return this.#pick([
          `(-${again()})`,
          `(~${again()})`,
          `+${again()}`,
          `(${again()} >>> ${1 + this.#random(9)})`,
        ]);
      case 6: {
        const names = Object.keys(MATH_FUNCTIONS);
        const name = this.#pick(["min", "max", "floor", "abs", "round", ...names]);
        const { arity } = MATH_FUNCTIONS[name as keyof typeof MATH_FUNCTIONS];
        return `Math.${name}(${Array.from({ length: arity }, again).join(", ")})`;
      }
      case 7:
        return `(${this.#test(variables, counters, depth - 1)} ? ${again()} : ${again()})`;
      default:
        return this.#element(variables, counters, depth);
    }
  }

  #leaf(variables: readonly string[], counters: readonly string[]): string {
    const scalars = this.#inputs.filter(({ shape }) => shape.length === 0).map(({ name }) => name);
    return this.#pick([
      String(this.#random(9)),
      this.#pick(["0.5", "1.25", "0.1", "1e3", "0x1f", "2", "3.75", "16777216", "1e9"]),
      "this.constants.half",
      "this.constants.three",
      `this.thread.${(["x", "y", "z"] as const)[this.#random(this.#rank)]}`,
      ...variables,
      ...variables,
      ...counters,
      ...scalars,
      "Math.PI",
    ]);
  }

  #element(variables: readonly string[], counters: readonly string[], depth: number): string {
    const arrays = this.#inputs.filter(({ shape }) => shape.length > 0);
    if (arrays.length === 0) return this.#leaf(variables, counters);
    const { name, shape } = this.#pick(arrays);
    return name + shape.map(() => `[${this.#index(variables, counters, depth)}]`).join("");
  }

  #index(variables: readonly string[], counters: readonly string[], depth: number): string {
    return this.#pick([
      this.#leaf(variables, counters),
      `this.thread.${(["x", "y", "z"] as const)[this.#random(this.#rank)]}`,
      ...counters,
      ...counters.map((each) => `${each} + ${this.#random(3)}`),
      this.#value(variables, counters, depth - 1),
    ]);
  }

  #test(variables: readonly string[], counters: readonly string[], depth: number): string {
    const value = (): string => this.#value(variables, counters, depth);
    const again = (): string => this.#test(variables, counters, depth - 1);
    if (depth > 0 && this.#random(4) === 0)
      return this.#pick([`!(${again()})`, `(${again()} && ${again()})`, `(${again()} || ${again()})`]);
    return `${value()} ${this.#pick(["<", "<=", ">", ">=", "===", "!==", "==", "!="])} ${value()}`;
  }
}

/** The text with something of it changed, as nobody would write it. */
export function mutated(random: Random, text: string): string {
  const at = random(text.length + 1);
  const piece = text.slice(random(text.length), random(text.length + 1));
  const tokens = [
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    ";",
    "++",
    "this",
    "Math",
    "=>",
    "...",
    "`",
    "'",
    "0",
    "return ",
    "let ",
    "for ",
    ".x",
    ",",
    "\\u0061",
    "/*",
    "*/",
    "//",
    "constructor",
    "eval",
    "1e",
    "?.",
    "=",
    "\u2028",
  ];
  switch (random(4)) {
    case 0:
      return text.slice(0, at) + tokens[random(tokens.length)]! + text.slice(at);
    case 1:
      return text.slice(0, at) + text.slice(at + 1 + random(4));
    case 2:
      return text.slice(0, at) + piece.slice(0, 20) + text.slice(at);
    default:
      return text.slice(0, at) + tokens[random(tokens.length)]! + text.slice(at + 1);
  }
}
