/**
 * The source of a kernel in JavaScript, from text to a tree (js-tree.ts). What is not listed here is refused: a source has
 * no names but its parameters and variables, `this.thread`, `this.constants` and Math, no strings, no properties besides, no
 * functions, and no loop whose end is not known.
 */
import { parse } from "acorn";
import type * as acorn from "acorn";
import { KernelError, KernelErrorCode } from "../../errors.ts";
import { KERNEL_DEPTH_MAX, KERNEL_NODES_MAX, KERNEL_TRIPS_MAX, KERNEL_WHOLE_MAX } from "../../limits.ts";
import type { Tensor } from "./kernel.ts";
import { MATH_FUNCTIONS, isOdd, isWhole, mathOf, typeOf } from "./js-tree.ts";
import type {
  ArithmeticOperator,
  BitOperator,
  CompareOperator,
  Condition,
  LoopBound,
  MathName,
  Statement,
  Value,
} from "./js-tree.ts";

/** What a source is about. */
export interface JsContext {
  readonly inputs: readonly Tensor[];
  readonly output: Tensor;
  /** Names of all dimensions. */
  readonly dimensions: readonly string[];
  readonly constants: Readonly<Record<string, number>>;
  readonly maxTrip: Readonly<Record<string, number>>;
}

/** Names in reach of a place, each within those around it. */
type Scope = ReadonlyMap<string, Binding>;
type Binding =
  | { readonly kind: "input"; readonly input: number }
  /** Of a block that declares it further down, where it hides what has its name around the block already. */
  | { readonly kind: "undeclared" }
  | { readonly kind: "local" | "constant" | "counter"; readonly id: number };

const UNDECLARED: Binding = { kind: "undeclared" };

/** What is known of a condition before anything runs. */
type Test = Condition | boolean;

const FLOAT_MAX = 3.4028234663852886e38;
const FLOAT_MIN = 1.1754943508222875e-38;
const AXES = ["x", "y", "z"] as const;
const ARITHMETIC: ReadonlySet<string> = new Set<ArithmeticOperator>(["+", "-", "*", "/", "%"]);
const BITS: ReadonlySet<string> = new Set<BitOperator>(["&", "|", "^", "<<", ">>", ">>>"]);
const COMPARES: Readonly<Record<string, CompareOperator>> = {
  "<": "<",
  "<=": "<=",
  ">": ">",
  ">=": ">=",
  "==": "===",
  "===": "===",
  "!=": "!==",
  "!==": "!==",
};
const MATH_CONSTANTS = ["E", "LN10", "LN2", "LOG10E", "LOG2E", "PI", "SQRT1_2", "SQRT2"] as const;
/** What a function is written as in an object, and as an expression. */
const WRAPS = [
  { before: "(", after: "\n)", isMethod: false },
  { before: "({", after: "\n})", isMethod: true },
] as const;

/** A source that was read. */
export interface JsSource {
  readonly statements: readonly Statement[];
  /** The error for what is wrong at a place in the tree. */
  readonly wrong: (at: number, reason: string) => KernelError;
}

/** Throws PFS_KERNEL_INVALID {reason, line, column}. */
export function parseJsSource(source: string, context: JsContext): JsSource {
  const { reader, parameters, body } = readFunction(source, context);
  const scope = new Map<string, Binding>();
  if (parameters.length !== context.inputs.length) {
    const inputs = context.inputs.length === 1 ? "one input" : `${context.inputs.length} inputs`;
    throw reader.wrong(body, `it has ${parameters.length} parameters, and the kernel has ${inputs}`);
  }
  for (const [input, parameter] of parameters.entries()) {
    if (parameter.type !== "Identifier") throw reader.wrong(parameter, "a parameter is a name");
    if (scope.has(parameter.name)) throw reader.wrong(parameter, `${parameter.name} is there twice`);
    reader.checkName(parameter);
    scope.set(parameter.name, { kind: "input", input });
  }
  const statements = reader.block(body.body, scope);
  if (!endsAlways(statements)) throw reader.wrong(body, "it does not always return a number");
  return { statements, wrong: (at, reason) => reader.wrong({ start: at }, reason) };
}

interface ReadFunction {
  readonly reader: SourceReader;
  readonly parameters: readonly acorn.Pattern[];
  readonly body: acorn.BlockStatement;
}

function readFunction(source: string, context: JsContext): ReadFunction {
  let failure: KernelError | undefined;
  for (const { before, after, isMethod } of WRAPS) {
    const reader = new SourceReader(source, before.length, context);
    let program: acorn.Program;
    try {
      program = parse(before + source + after, { ecmaVersion: 2022, sourceType: "module" });
    } catch (error) {
      const told = reader.told(error);
      // Of two ways to read it, the one that got further is the one that was meant.
      if (failure === undefined || placeOf(told) > placeOf(failure)) failure = told;
      continue;
    }
    const [statement] = program.body;
    const expression = statement?.type === "ExpressionStatement" ? statement.expression : undefined;
    const found = isMethod ? methodOf(expression) : expression;
    if (program.body.length !== 1 || found?.type !== "FunctionExpression")
      throw reader.wrongAt(
        0,
        "it is no function with a this: write source(a, b) { … }, which arrow functions are not",
      );
    if (found.async || found.generator)
      throw reader.wrong(found, "it is a plain function, neither async nor a generator");
    return { reader, parameters: found.params, body: found.body };
  }
  throw failure!;
}

function methodOf(expression: acorn.Expression | undefined): acorn.Expression | undefined {
  if (expression?.type !== "ObjectExpression" || expression.properties.length !== 1) return undefined;
  const [property] = expression.properties;
  const isPlain = property?.type === "Property" && property.method && !property.computed;
  return isPlain ? property.value : undefined;
}

function placeOf({ data }: KernelError): number {
  return Number(data["line"] ?? 0) * 1e6 + Number(data["column"] ?? 0);
}

/** Whether nothing can run behind it. */
function endsAlways(statements: readonly Statement[]): boolean {
  const last = statements.at(-1);
  if (last?.kind === "return") return true;
  return last?.kind === "if" && endsAlways(last.yes) && endsAlways(last.no);
}

/** Whether what stands behind it in its block is never reached. */
function leaves(statement: Statement): boolean {
  if (statement.kind === "if")
    return [statement.yes, statement.no].every((block) => block.length > 0 && leaves(block.at(-1)!));
  return statement.kind === "return" || statement.kind === "break" || statement.kind === "continue";
}

class SourceReader {
  readonly #source: string;
  readonly #shift: number;
  readonly #context: JsContext;
  #nodes = 0;
  #depth = 0;
  #loops = 0;
  #trips = 1;
  #ids = 0;

  /** `shift`: characters that stand before the source in what is parsed. */
  constructor(source: string, shift: number, context: JsContext) {
    this.#source = source;
    this.#shift = shift;
    this.#context = context;
  }

  wrong(node: { readonly start: number }, reason: string): KernelError {
    return this.wrongAt(node.start - this.#shift, reason);
  }

  wrongAt(at: number, reason: string): KernelError {
    const lines = this.#source.slice(0, Math.max(0, at)).split(/\r\n?|[\n\u2028\u2029]/);
    const [line, column] = [lines.length, lines.at(-1)!.length + 1];
    return new KernelError(KernelErrorCode.invalid, `${reason} (line ${line}, column ${column})`, {
      reason,
      line,
      column,
    });
  }

  /** What the parser threw, as ours. */
  told(error: unknown): KernelError {
    if (error instanceof SyntaxError && "pos" in error && typeof error.pos === "number") {
      const reason = error.message.replace(/ \(\d+:\d+\)$/, "");
      return this.wrongAt(error.pos - this.#shift, `it is no JavaScript: ${reason}`);
    }
    // The parser calls itself for what stands within something, and has no limit of its own.
    if (error instanceof RangeError) return this.wrongAt(0, TOO_DEEP);
    throw error;
  }

  checkName({ name, ...node }: acorn.Identifier): void {
    if (name === "Math" || name === "arguments" || name === "undefined")
      throw this.wrong(node, `${name} cannot be the name of a variable`);
  }

  /** Statements of a block, in which names may hide others. */
  block(nodes: readonly acorn.Node[], around: Scope): Statement[] {
    const scope = new Map(around);
    for (const name of namesDeclaredIn(nodes)) scope.set(name, UNDECLARED);
    const own = new Set<string>();
    const statements: Statement[] = [];
    for (const node of nodes as readonly (acorn.Statement | acorn.ModuleDeclaration)[]) {
      const read = this.#within(node, () => this.#statement(node, scope, own));
      const last = statements.at(-1);
      // What is never reached must be right all the same, and is left out.
      if (last === undefined || !leaves(last)) statements.push(...read);
    }
    const end = statements.findIndex(leaves);
    return end === -1 ? statements : statements.slice(0, end + 1);
  }

  #statement(
    node: acorn.Statement | acorn.ModuleDeclaration,
    scope: Map<string, Binding>,
    own: Set<string>,
  ): Statement[] {
    const at = node.start;
    switch (node.type) {
      case "EmptyStatement":
        return [];
      case "BlockStatement":
        return this.block(node.body, scope);
      case "VariableDeclaration":
        return this.#declarations(node, scope, own);
      case "ExpressionStatement":
        return [this.#effect(node.expression, scope)];
      case "ReturnStatement":
        if (node.argument === null || node.argument === undefined)
          throw this.wrong(node, "return what? A kernel gives a number");
        return [{ kind: "return", at, value: this.#value(node.argument, scope) }];
      case "IfStatement": {
        const test = this.#test(node.test, scope);
        const yes = this.block([node.consequent], scope);
        const no = node.alternate ? this.block([node.alternate], scope) : [];
        if (typeof test === "boolean") return test ? yes : no;
        return yes.length + no.length === 0 ? [] : [{ kind: "if", at, test, yes, no }];
      }
      case "ForStatement":
        return this.#loop(node, scope);
      case "BreakStatement":
      case "ContinueStatement": {
        const kind = node.type === "BreakStatement" ? "break" : "continue";
        if (node.label) throw this.wrong(node, "labels are not for kernels");
        if (this.#loops === 0) throw this.wrong(node, `${kind} stands in no loop`);
        return [{ kind, at }];
      }
      case "WhileStatement":
      case "DoWhileStatement":
        throw this.wrong(
          node,
          "how often this loop runs is not known: write for (let i = 0; i < …; i++), and break",
        );
      default:
        throw this.wrong(node, `${wordsOf(node.type)} is not for kernels`);
    }
  }

  #declarations(node: acorn.VariableDeclaration, scope: Map<string, Binding>, own: Set<string>): Statement[] {
    if (node.kind === "var") throw this.wrong(node, "var is not for kernels: write let or const");
    return node.declarations.map(({ id, init, start }) => {
      if (id.type !== "Identifier") throw this.wrong(id, "a variable is a name");
      if (init === null || init === undefined) throw this.wrong(id, `${id.name} has no value`);
      this.checkName(id);
      const value = this.#value(init, scope);
      if (own.has(id.name)) throw this.wrong(id, `${id.name} is there twice`);
      own.add(id.name);
      const binding = { kind: node.kind === "const" ? "constant" : "local", id: this.#ids++ } as const;
      scope.set(id.name, binding);
      return { kind: "declare", at: start, id: binding.id, value } as const;
    });
  }

  /** An expression as a statement. */
  #effect(node: acorn.Expression, scope: Scope): Statement {
    const at = node.start;
    if (node.type === "UpdateExpression") {
      const id = this.#target(node.argument, scope);
      const one = { kind: "number", at, value: 1 } as const;
      const operator = node.operator === "++" ? "+" : "-";
      return { kind: "assign", at, id, value: this.#joined(at, operator, { kind: "local", at, id }, one) };
    }
    if (node.type === "CallExpression")
      throw this.wrong(node, "it calls nothing but functions of Math, for what they return");
    if (node.type !== "AssignmentExpression") throw this.wrong(node, "this statement does nothing");
    const id = this.#target(node.left, scope);
    const value = this.#value(node.right, scope);
    if (node.operator === "=") return { kind: "assign", at, id, value };
    const operator = node.operator.slice(0, -1);
    return {
      kind: "assign",
      at,
      id,
      value: this.#operation(node, operator, { kind: "local", at, id }, value),
    };
  }

  /** The variable that something is assigned to. */
  #target(node: acorn.Expression | acorn.Pattern, scope: Scope): number {
    const binding = node.type === "Identifier" ? scope.get(node.name) : undefined;
    if (node.type !== "Identifier" || binding === undefined)
      throw this.wrong(node, "only variables are assigned to");
    if (binding.kind === "undeclared") throw this.#early(node);
    if (binding.kind === "local") return binding.id;
    const why = {
      constant: "is a constant",
      counter: "is a loop's counter, which changes in the loop's head alone",
      input: "is an input",
    }[binding.kind];
    throw this.wrong(node, `${node.name} ${why}`);
  }

  #loop(node: acorn.ForStatement, scope: Scope): Statement[] {
    const { init, test, update } = node;
    const shape = "write for (let i = 0; i < …; i++)";
    const [counter] = init?.type === "VariableDeclaration" ? init.declarations : [];
    if (init?.type !== "VariableDeclaration" || init.kind !== "let" || init.declarations.length !== 1)
      throw this.wrong(node, `this loop has not one counter: ${shape}`);
    if (counter?.id.type !== "Identifier" || !counter.init)
      throw this.wrong(init, `this loop has no counter: ${shape}`);
    const { name } = counter.id;
    this.checkName(counter.id);
    const from = this.#whole(
      counter.init,
      new Map(scope).set(name, UNDECLARED),
      "a loop's counter begins with a whole number",
    );
    const id = this.#ids++;
    const inner = new Map(scope).set(name, { kind: "counter", id } as const);
    const isCounter = (each: acorn.Node | null | undefined): boolean =>
      each?.type === "Identifier" && (each as acorn.Identifier).name === name;
    const compare = test?.type === "BinaryExpression" ? test : undefined;
    if (!test || compare === undefined || !isCounter(compare.left) || !["<", "<="].includes(compare.operator))
      throw this.wrong(
        test ?? node,
        `a loop ends when its counter reaches something: ${name} < …, or ${name} <= …`,
      );
    const bound = this.#bound(compare.right, inner);
    const step = this.#step(update, isCounter, inner, node);
    const most = this.#mostOf(bound, compare.right) + bound.add;
    const isInclusive = compare.operator === "<=";
    const trips = Math.max(0, Math.ceil((most + (isInclusive ? 1 : 0) - from) / step));
    if (from + trips * step > KERNEL_WHOLE_MAX)
      throw this.wrong(test, `a loop's counter goes to ${KERNEL_WHOLE_MAX}`);
    const before = this.#trips;
    this.#trips *= Math.max(1, trips);
    if (this.#trips > KERNEL_TRIPS_MAX)
      throw this.wrong(node, `with the loops around it, it runs more than ${KERNEL_TRIPS_MAX} times`);
    this.#loops++;
    const body = this.block([node.body], inner);
    this.#loops--;
    this.#trips = before;
    return trips === 0
      ? []
      : [{ kind: "loop", at: node.start, id, from, bound, isInclusive, step, trips, body }];
  }

  #step(
    update: acorn.Expression | null | undefined,
    isCounter: (node: acorn.Node) => boolean,
    scope: Scope,
    loop: acorn.Node,
  ): number {
    if (update?.type === "UpdateExpression" && update.operator === "++" && isCounter(update.argument))
      return 1;
    if (update?.type === "AssignmentExpression" && update.operator === "+=" && isCounter(update.left)) {
      const step = this.#whole(update.right, scope, "a loop's counter grows by a whole number");
      if (step >= 1) return step;
    }
    throw this.wrong(update ?? loop, "a loop's counter grows: write i++, or i += 2");
  }

  #whole(node: acorn.Expression, scope: Scope, reason: string): number {
    const value = this.#value(node, scope);
    if (value.kind !== "number" || !isWhole(value.value)) throw this.wrong(node, reason);
    return value.value;
  }

  /** A number, a dimension or a whole scalar, with a number added. */
  #bound(node: acorn.Expression | acorn.PrivateIdentifier, scope: Scope): LoopBound {
    const value = this.#value(node, scope);
    if (value.kind === "number" && isWhole(value.value)) return { add: value.value };
    const base = baseOf(value);
    if (base !== undefined) return { base, add: 0 };
    if (value.kind === "binary" && (value.operator === "+" || value.operator === "-")) {
      const { left, right } = value;
      const [first, second] = [baseOf(left), baseOf(right)];
      if (first !== undefined && right.kind === "number")
        return { base: first, add: value.operator === "+" ? right.value : -right.value };
      if (second !== undefined && left.kind === "number" && value.operator === "+")
        return { base: second, add: left.value };
    }
    throw this.wrong(
      node,
      "a loop ends at a whole number, a dimension, an input that is i32() or u32(), or one of these and a number: put an if with break into it for what it ends at besides",
    );
  }

  /** What a bound is at most, without what is added. */
  #mostOf({ base }: LoopBound, node: acorn.Node): number {
    if (base === undefined) return 0;
    const name = typeof base === "string" ? base : this.#context.inputs[base]!.name;
    const most = Object.hasOwn(this.#context.maxTrip, name) ? this.#context.maxTrip[name] : undefined;
    if (most === undefined)
      throw this.wrong(
        node,
        `how large ${name} may be is not known: say it in the declaration, as maxTrip: { ${name}: … }`,
      );
    return most;
  }

  #test(node: acorn.Expression, scope: Scope): Test {
    return this.#within(node, () => this.#condition(node, scope));
  }

  #condition(node: acorn.Expression, scope: Scope): Test {
    const at = node.start;
    if (node.type === "ParenthesizedExpression") return this.#test(node.expression, scope);
    if (node.type === "UnaryExpression" && node.operator === "!") {
      const test = this.#test(node.argument, scope);
      return typeof test === "boolean" ? !test : { kind: "not", at, test };
    }
    if (node.type === "LogicalExpression" && node.operator !== "??") {
      const [left, right] = [this.#test(node.left, scope), this.#test(node.right, scope)];
      const isOr = node.operator === "||";
      if (typeof left === "boolean") return left === isOr ? isOr : right;
      if (typeof right === "boolean") return right === isOr ? isOr : left;
      return { kind: isOr ? "or" : "and", at, left, right };
    }
    const operator = node.type === "BinaryExpression" ? COMPARES[node.operator] : undefined;
    if (node.type !== "BinaryExpression" || operator === undefined)
      throw this.wrong(node, "a condition compares: write … < …, … === …, and join those with && and ||");
    const [left, right] = [this.#value(node.left, scope), this.#value(node.right, scope)];
    if (left.kind === "number" && right.kind === "number") return compared(operator, left.value, right.value);
    return { kind: "compare", at, operator, left, right };
  }

  #value(node: acorn.Expression | acorn.PrivateIdentifier | acorn.SpreadElement, scope: Scope): Value {
    return this.#within(node, () => this.#expression(node, scope));
  }

  #expression(node: acorn.Expression | acorn.PrivateIdentifier | acorn.SpreadElement, scope: Scope): Value {
    const at = node.start;
    switch (node.type) {
      case "ParenthesizedExpression":
        return this.#value(node.expression, scope);
      case "Literal":
        if (typeof node.value !== "number") throw this.wrong(node, "a kernel has no values but numbers");
        return this.#number(node, node.value);
      case "Identifier":
        return this.#named(node, scope);
      case "MemberExpression":
        return this.#member(node, scope);
      case "UnaryExpression":
        return this.#unary(node, scope);
      case "BinaryExpression":
        if (COMPARES[node.operator] !== undefined)
          throw this.wrong(node, "what compares is no number: write … ? 1 : 0");
        return this.#operation(
          node,
          node.operator,
          this.#value(node.left, scope),
          this.#value(node.right, scope),
        );
      case "ConditionalExpression": {
        const test = this.#test(node.test, scope);
        const [yes, no] = [this.#value(node.consequent, scope), this.#value(node.alternate, scope)];
        if (typeof test === "boolean") return test ? yes : no;
        return { kind: "choice", at, test, yes, no };
      }
      case "CallExpression":
        return this.#call(node, scope);
      case "AssignmentExpression":
      case "UpdateExpression":
        throw this.wrong(node, "an assignment is a statement of its own");
      case "LogicalExpression":
        throw this.wrong(node, "what && and || give is no number: write … ? 1 : 0");
      default:
        throw this.wrong(node, `${wordsOf(node.type)} is not for kernels`);
    }
  }

  #named(node: acorn.Identifier, scope: Scope): Value {
    const at = node.start;
    const binding = scope.get(node.name);
    if (binding === undefined) throw this.wrong(node, `it knows no ${node.name}`);
    if (binding.kind === "undeclared") throw this.#early(node);
    if (binding.kind === "counter") return { kind: "counter", at, id: binding.id };
    if (binding.kind !== "input") return { kind: "local", at, id: binding.id };
    const { shape, type } = this.#context.inputs[binding.input]!;
    if (shape.length > 0)
      throw this.wrong(
        node,
        `${node.name} has ${shape.length} dimensions: ${node.name}${"[…]".repeat(shape.length)} is a number`,
      );
    return { kind: "scalar", at, input: binding.input, type: type === "f32" ? "float" : "int" };
  }

  #early(node: acorn.Identifier): KernelError {
    return this.wrong(node, `${node.name} is used before its declaration is over`);
  }

  #member(node: acorn.MemberExpression, scope: Scope): Value {
    const at = node.start;
    if (node.computed) return this.#element(node, scope);
    const { object, property } = node;
    if (node.optional || property.type !== "Identifier")
      throw this.wrong(node, "properties are not for kernels");
    const constant = MATH_CONSTANTS.find((each) => each === property.name);
    if (object.type === "Identifier" && object.name === "Math" && constant !== undefined)
      return this.#number(node, Math[constant]);
    const isOfThis =
      object.type === "MemberExpression" &&
      object.object.type === "ThisExpression" &&
      !object.computed &&
      !object.optional &&
      object.property.type === "Identifier";
    const group = isOfThis && object.property.type === "Identifier" ? object.property.name : "";
    if (group === "thread") return this.#thread(node, property.name);
    if (group === "constants") {
      const { constants, dimensions } = this.#context;
      if (Object.hasOwn(constants, property.name)) return this.#number(node, constants[property.name]!);
      if (dimensions.includes(property.name)) return { kind: "dimension", at, name: property.name };
      throw this.wrong(node, `it has no constant or dimension ${property.name}`);
    }
    throw this.wrong(node, "it knows no properties but those of this.thread and this.constants");
  }

  #thread(node: acorn.Node, name: string): Value {
    const axis = AXES.find((each) => each === name);
    const rank = this.#context.output.shape.length;
    if (axis === undefined) throw this.wrong(node, "this.thread has x, y and z");
    if (AXES.indexOf(axis) >= rank)
      throw this.wrong(node, `the output has ${rank} dimensions, so there is no this.thread.${name}`);
    return { kind: "thread", at: node.start, axis };
  }

  #element(node: acorn.MemberExpression, scope: Scope): Value {
    const indices: Value[] = [];
    let at: acorn.Expression | acorn.Super = node;
    while (at.type === "MemberExpression" && at.computed && !at.optional) {
      indices.unshift(this.#index(at.property, scope));
      at = at.object;
    }
    const binding = at.type === "Identifier" ? scope.get(at.name) : undefined;
    if (at.type === "Identifier" && binding?.kind === "undeclared") throw this.#early(at);
    if (at.type !== "Identifier" || binding?.kind !== "input")
      throw this.wrong(at, "only inputs have elements");
    const { shape } = this.#context.inputs[binding.input]!;
    if (shape.length !== indices.length)
      throw this.wrong(node, `${at.name} has ${shape.length} dimensions, not ${indices.length}`);
    return { kind: "element", at: node.start, input: binding.input, indices };
  }

  #index(node: acorn.Expression | acorn.PrivateIdentifier, scope: Scope): Value {
    const value = this.#value(node, scope);
    if (value.kind !== "number") return value;
    const whole = Math.trunc(value.value);
    if (whole < 0 || !isWhole(whole)) throw this.wrong(node, "an index is a whole number from 0");
    return { ...value, value: whole };
  }

  #unary(node: acorn.UnaryExpression, scope: Scope): Value {
    const at = node.start;
    const value = this.#value(node.argument, scope);
    if (node.operator === "+") return value;
    if (node.operator === "~") {
      if (value.kind === "number") return this.#number(node, ~this.#bits(node.argument, value.value));
      return { kind: "complement", at, value, type: "int" };
    }
    if (node.operator !== "-") throw this.wrong(node, `${node.operator} is not for kernels`);
    if (value.kind === "number") return this.#number(node, -value.value);
    return { kind: "negative", at, value, type: typeOf(value) };
  }

  #operation(node: acorn.Node, operator: string, left: Value, right: Value): Value {
    if (operator === "**") return this.#math(node, "pow", [left, right]);
    if (BITS.has(operator)) return this.#bitwise(node, operator as BitOperator, left, right);
    if (!ARITHMETIC.has(operator)) throw this.wrong(node, `${operator} is not for kernels`);
    const isDivision = operator === "/" || operator === "%";
    if (isDivision && right.kind === "number" && right.value === 0)
      throw this.wrong(node, "it divides by zero");
    if (left.kind === "number" && right.kind === "number")
      return this.#number(node, folded(operator as ArithmeticOperator, left.value, right.value));
    return this.#joined(node.start, operator as ArithmeticOperator, left, right);
  }

  #joined(at: number, operator: ArithmeticOperator, left: Value, right: Value): Value {
    const isFloat =
      operator === "/" || operator === "%" || typeOf(left) === "float" || typeOf(right) === "float";
    return { kind: "binary", at, operator, left, right, type: isFloat ? "float" : "int" };
  }

  #bitwise(node: acorn.Node, operator: BitOperator, left: Value, right: Value): Value {
    const isShift = operator.length > 1;
    const shift = right.kind === "number" ? this.#bits(node, right.value) : undefined;
    // Engines differ in what they make of an unsigned result, which a shift by more than 0 never is.
    if (operator === ">>>" && (shift === undefined || shift < 1))
      throw this.wrong(node, ">>> shifts by a number from 1 to 31");
    if (isShift && shift !== undefined && (shift < 0 || shift > 31))
      throw this.wrong(node, "a shift is from 0 to 31");
    const [a, b] = [left, right].map((each) =>
      each.kind === "number" ? { ...each, value: this.#bits(node, each.value) } : each,
    ) as [Value, Value];
    if (a.kind === "number" && b.kind === "number")
      return this.#number(node, foldedBits(operator, a.value, b.value));
    return { kind: "binary", at: node.start, operator, left: a, right: b, type: "int" };
  }

  /** A number as an operand of a bit operator. */
  #bits(node: acorn.Node, value: number): number {
    const whole = Math.trunc(value);
    if (!isWhole(whole)) throw this.wrong(node, `bit operators are for whole numbers to ${KERNEL_WHOLE_MAX}`);
    return whole === 0 ? 0 : whole;
  }

  #call(node: acorn.CallExpression, scope: Scope): Value {
    const { callee } = node;
    const isMath =
      callee.type === "MemberExpression" &&
      !callee.computed &&
      !callee.optional &&
      callee.object.type === "Identifier" &&
      callee.object.name === "Math" &&
      callee.property.type === "Identifier";
    if (!isMath || node.optional) throw this.wrong(node, "it calls nothing but functions of Math");
    const name = callee.property.type === "Identifier" ? callee.property.name : "";
    if (!Object.hasOwn(MATH_FUNCTIONS, name)) throw this.wrong(node, `it has no Math.${name}`);
    const values = node.arguments.map((each) => this.#value(each, scope));
    const known = name as MathName;
    const { arity } = MATH_FUNCTIONS[known];
    const isOfMany = known === "min" || known === "max";
    if (isOfMany ? values.length < 2 : values.length !== arity)
      throw this.wrong(
        node,
        `Math.${name} takes ${isOfMany ? "two or more numbers" : arity === 1 ? "one number" : "two numbers"}`,
      );
    const [first, ...rest] = values;
    if (!isOfMany) return this.#math(node, known, values);
    return rest.reduce((joined, each) => this.#math(node, known, [joined, each]), first!);
  }

  #math(node: acorn.Node, name: MathName, values: readonly Value[]): Value {
    const numbers = values.flatMap((each) => (each.kind === "number" ? [each.value] : []));
    if (numbers.length === values.length) return this.#number(node, mathOf(name, numbers));
    this.#count(node);
    // It stands twice in what a GPU gets.
    const [base, power] = values;
    if (name === "pow" && isOdd(power!) && !isPlain(base!))
      throw this.wrong(node, "what is raised to an odd power has a name: write let x = …; … x ** 3");
    return { kind: "call", at: node.start, name, values };
  }

  #number(node: acorn.Node, given: number): Value {
    const value = Math.fround(given);
    if (!(Math.abs(value) <= FLOAT_MAX)) throw this.wrong(node, "this is no finite 32-bit float");
    if (given !== 0 && Math.abs(value) < FLOAT_MIN)
      throw this.wrong(node, "this is too small for a 32-bit float");
    // Nothing tells 0 from -0 on all engines.
    return { kind: "number", at: node.start, value: value === 0 ? 0 : value };
  }

  #within<T>(node: acorn.Node, read: () => T): T {
    this.#count(node);
    if (this.#depth >= KERNEL_DEPTH_MAX) throw this.wrong(node, TOO_DEEP);
    this.#depth++;
    const value = read();
    this.#depth--;
    return value;
  }

  #count(node: acorn.Node): void {
    if (++this.#nodes > KERNEL_NODES_MAX)
      throw this.wrong(node, `it has more than ${KERNEL_NODES_MAX} parts`);
  }
}

const TOO_DEEP = `its parts stand more than ${KERNEL_DEPTH_MAX} deep in each other: give some of them names`;

/** The dimension's name, or the whole scalar's index, that a value is. */
function baseOf(value: Value): string | number | undefined {
  if (value.kind === "dimension") return value.name;
  return value.kind === "scalar" && value.type === "int" ? value.input : undefined;
}

/** Names that a block declares, which are its own from its beginning on. */
function namesDeclaredIn(nodes: readonly acorn.Node[]): string[] {
  return (nodes as readonly acorn.Statement[]).flatMap((node) =>
    node.type === "VariableDeclaration"
      ? node.declarations.flatMap(({ id }) => (id.type === "Identifier" ? [id.name] : []))
      : [],
  );
}

/** Whether it is no more than a name. */
function isPlain({ kind }: Value): boolean {
  return (
    kind !== "binary" &&
    kind !== "negative" &&
    kind !== "complement" &&
    kind !== "call" &&
    kind !== "choice" &&
    kind !== "element"
  );
}

function compared(operator: CompareOperator, a: number, b: number): boolean {
  switch (operator) {
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

function folded(operator: ArithmeticOperator, a: number, b: number): number {
  switch (operator) {
    case "+":
      return a + b;
    case "-":
      return a - b;
    case "*":
      return a * b;
    case "/":
      return a / b;
    case "%":
      return a % b;
  }
}

function foldedBits(operator: BitOperator, a: number, b: number): number {
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
      return a >>> b;
  }
}

/** "TemplateLiteral" as "a template literal". */
function wordsOf(type: string): string {
  const words = type.replace(/(?<=[a-z])(?=[A-Z])/g, " ").toLowerCase();
  return `${/^[aeiou]/.test(words) ? "an" : "a"} ${words}`;
}
