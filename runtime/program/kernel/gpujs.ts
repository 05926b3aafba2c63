/**
 * Kernels in JavaScript as GPU.js gets them, and what it makes of them as WebGPU gets it.
 *
 * GPU.js guesses types, and guesses wrong in places: a literal within what becomes an index is rounded, a choice has the type
 * of its first half, a loop that it does not take for safe skips its end on `continue`. So what it gets leaves it nothing to
 * guess: integers become floats by Math.fround and nothing else, loops count from 0 by 1 to a number, whatever is cut off to an
 * integer is an operation of its own, indices are moved inside where they need not be inside already.
 *
 * WebGPU lets a GPU join a product and a sum into one operation that rounds once, add and multiply in another order, and take
 * numbers below 2^-126 for 0; no word of WGSL forbids it, and Tint tells Vulkan nothing either (SPIR-V's NoContraction). Where a
 * result is "exact", each float that is computed goes through fround of the module, which joins its bits with those of a word that
 * is 0, which no compiler knows: bits are had of what was rounded, and nothing that is known of floats reaches across.
 */
import { KernelError, KernelErrorCode } from "../../errors.ts";
import { KERNEL_MODULE_BYTES_MAX, KERNEL_WORKGROUPS_MAX } from "../../limits.ts";
import { dimensionNames } from "./binding.ts";
import type { Dimension, KernelLayout, KernelSpec, SizeExpression, UniformWord } from "./kernel.ts";
import { wholeValues } from "./js-exact.ts";
import { StatementPrinter, numberText } from "./js-print.ts";
import { parseJsSource } from "./js-source.ts";
import { isOdd, isWhole, typeOf } from "./js-tree.ts";
import type { Condition, Loop, LoopBound, Value } from "./js-tree.ts";
import { tensorBindings } from "./wgsl.ts";

type JsSpec = Pick<KernelSpec, "name" | "inputs" | "outputs" | "source" | "maxTrip" | "result">;

/** What GPU.js compiles. Its arguments are the inputs, then the sizes of `dimensions`. */
export interface GpuJsSource {
  readonly source: string;
  /** "Input" is a tensor: `value` and `size` [x, y, z] as GPU.js has them. */
  readonly argumentTypes: readonly ("Input" | "Float" | "Integer")[];
  /** Names of the dimensions that it gets the sizes of. */
  readonly dimensions: readonly string[];
  /** Dimensions of its output. */
  readonly rank: number;
}

/** What GPU.js made of a source, in an executor process: nobody believes it. */
export interface GpuJsModule {
  readonly wgsl: string;
  /** `computeParamsLayout` of its kernel for WebGPU. */
  readonly params: {
    readonly arrayArgs: readonly {
      readonly name: string;
      readonly index: number;
      readonly dimsOffset: number;
    }[];
    readonly scalarArgs: readonly {
      readonly name: string;
      readonly index: number;
      readonly offset: number;
    }[];
    readonly byteLength: number;
  };
  readonly workgroupSize: readonly number[];
}

const AXES = ["x", "y", "z"] as const;
const PARAMS_END = "}\n@group(0) @binding(0) var<uniform> params : Params;";
/** Threads of a workgroup, as GPU.js has them for outputs of one dimension and of more. */
const LINE_THREADS = 64;
const SQUARE_THREADS = 8;
/** The smallest float above 0 that GPUs tell from 0: 2^-126. */
const FLOAT_MIN = 2 ** -126;
/** What GPU.js makes of Math.fround, and what becomes of that where a result is exact. */
const FROUND = "fn fround(x : f32) -> f32 {\n  return x;\n}";
const FROUND_EXACT = "fn fround(x : f32) -> f32 {\n  return bitcast<f32>(bitcast<u32>(x) ^ params.zero);\n}";
/** The bits of KERNEL_WHOLE_MAX as a float, and of 2^-126: floats without a sign are in the order of their bits. */
const WHOLE_MAX_BITS = "0x4b800000u";
const FLOAT_MIN_BITS = "0x00800000u";
/**
 * What an output of integers has where a result is none that floats have: no whole number to KERNEL_WHOLE_MAX. Looked for by whoever
 * takes outputs (sandbox/guest/kernel-inputs.ts).
 */
const WHOLE_NUMBER = {
  i32: `fn whole_number(x : f32) -> i32 {
  let size : u32 = bitcast<u32>(x) & 0x7fffffffu;
  if (size < ${FLOAT_MIN_BITS}) { return 0; }
  if (size > ${WHOLE_MAX_BITS}) { return ${-(2 ** 31)}; }
  let cut : i32 = i32(x);
  return select(${-(2 ** 31)}, cut, f32(cut) == x);
}
`,
  u32: `fn whole_number(x : f32) -> u32 {
  let bits : u32 = bitcast<u32>(x);
  if ((bits & 0x7fffffffu) < ${FLOAT_MIN_BITS}) { return 0u; }
  if (bits > ${WHOLE_MAX_BITS}) { return ${2 ** 32 - 1}u; }
  let cut : u32 = u32(x);
  return select(${2 ** 32 - 1}u, cut, f32(cut) == x);
}
`,
} as const;

/** By kernel: what it is asked for is asked several times, of which each would be reading its source again. */
const made = new WeakMap<JsSpec, GpuJsSource>();

export function gpuJsSource(spec: JsSpec): GpuJsSource {
  const known = made.get(spec) ?? makeSource(spec);
  made.set(spec, known);
  return known;
}

function makeSource(spec: JsSpec): GpuJsSource {
  const dimensions = dimensionNames(spec);
  const [output] = spec.outputs;
  const { statements } = parseJsSource(spec.source, {
    inputs: spec.inputs,
    output: output!,
    dimensions,
    constants: {},
    maxTrip: spec.maxTrip,
  });
  const isWholeValue = spec.result === "exact" ? wholeValues(statements, spec.inputs) : undefined;
  const printer = new GpuJsPrinter(spec, isWholeValue);
  const body = printer.block(statements);
  const used = dimensions.filter((name) => printer.used.has(name));
  const parameters = [
    ...spec.inputs.map((_, index) => `a${index}`),
    ...used.map((name) => printer.dimension(name)),
  ];
  return {
    source: `function kernel(${parameters.join(", ")}) {\n${body}}`,
    argumentTypes: [
      ...spec.inputs.map(({ shape, type }) =>
        shape.length > 0 ? "Input" : type === "f32" ? "Float" : "Integer",
      ),
      ...used.map(() => "Integer" as const),
    ],
    dimensions: used,
    rank: output!.shape.length,
  };
}

/** What GPU.js's WGSL takes, which follows from what it was given. */
export function gpuJsLayout(spec: JsSpec): KernelLayout {
  const { dimensions } = gpuJsSource(spec);
  const [x, y, z] = axesOf(spec.outputs[0]!.shape);
  const isLine = spec.outputs[0]!.shape.length === 1;
  const groups = isLine
    ? lineGroups(x)
    : ([`${x} / ${SQUARE_THREADS}`, `${y} / ${SQUARE_THREADS}`, z] as const);
  const words: UniformWord[] = [x, y, z, isLine ? `${LINE_THREADS} * (${groups[0]})` : "0"].map(u32);
  for (const { shape } of spec.inputs.filter((each) => each.shape.length > 0))
    words.push(...[...axesOf(shape), shape.join(" * ")].map(u32));
  for (const [input, { shape }] of spec.inputs.entries()) if (shape.length === 0) words.push({ input });
  words.push(...dimensions.map(u32));
  if (spec.result === "exact") words.push(u32("0"));
  while (words.length % 4 !== 0) words.push(u32("0"));
  return { uniform: words, bindings: tensorBindings(spec), entryPoint: "main", workgroups: groups };
}

/**
 * The module that a GPU gets of what GPU.js made. Throws PFS_KERNEL_INVALID where its buffers do not lie as `gpuJsLayout` says, or
 * where it is not what GPU.js makes of such a source.
 */
export function gpuJsWgsl(spec: JsSpec, { wgsl, params, workgroupSize }: GpuJsModule): string {
  const expected = expectedParams(spec);
  const given = JSON.stringify([
    params.arrayArgs.map(({ name, index, dimsOffset }) => [name, index, dimsOffset]),
    params.scalarArgs.map(({ name, index, offset }) => [name, index, offset]),
    params.byteLength,
    workgroupSize,
  ]);
  if (given !== expected) throw unlike(spec, `its buffers lie as ${given}, not as ${expected}`);
  if (wgsl.length > KERNEL_MODULE_BYTES_MAX)
    throw unlike(spec, `the module is longer than ${KERNEL_MODULE_BYTES_MAX} characters: write it shorter`);
  if (/\bLOOP_MAX\b/.test(wgsl)) throw unlike(spec, "a loop of it has no end of its own");
  let module = wgsl;
  for (const [index, { type, shape }] of spec.inputs.entries()) {
    if (shape.length === 0 || type === "f32") continue;
    const name = `user_a${index}`;
    const read = `${name}[u32(x + i32(params.${name}_dims.x) * (y + i32(params.${name}_dims.y) * z))]`;
    module = replaced(spec, module, `> ${name} : array<f32>;`, `> ${name} : array<${type}>;`);
    module = replaced(spec, module, `return ${read};`, `return f32(${read});`);
  }
  if (spec.result === "exact") {
    module = replaced(spec, module, PARAMS_END, `  zero : u32,\n${PARAMS_END}`);
    if (/\bfround\(/.test(module)) module = replaced(spec, module, FROUND, FROUND_EXACT);
  }
  const [{ type }] = spec.outputs as [KernelSpec["outputs"][number]];
  if (type !== "i32" && type !== "u32") return module;
  module = replaced(spec, module, "> result : array<f32>;", `> result : array<${type}>;`);
  module = replaced(spec, module, "@compute ", `${WHOLE_NUMBER[type]}@compute `);
  return module.replace(
    /\bresult\[data_index\] = ([^;]*);(?=return;)/g,
    "result[data_index] = whole_number($1);",
  );
}

function expectedParams(spec: JsSpec): string {
  const { argumentTypes, dimensions } = gpuJsSource(spec);
  const names = [...spec.inputs.map((_, index) => `a${index}`), ...dimensionParameters(spec, dimensions)];
  let offset = 16;
  const place = (bytes: number): number => (offset += bytes) - bytes;
  const [arrays, scalars] = [true, false].map((isArray) =>
    argumentTypes.flatMap((type, index) => ((type === "Input") === isArray ? [index] : [])),
  ) as [number[], number[]];
  const arrayArgs = arrays.map((index) => [names[index], index, place(16)]);
  const scalarArgs = scalars.map((index) => [names[index], index, place(4)]);
  const isLine = spec.outputs[0]!.shape.length === 1;
  const threads = isLine ? [LINE_THREADS, 1, 1] : [SQUARE_THREADS, SQUARE_THREADS, 1];
  return JSON.stringify([arrayArgs, scalarArgs, Math.ceil(offset / 16) * 16, threads]);
}

function dimensionParameters(spec: JsSpec, dimensions: readonly string[]): string[] {
  const all = dimensionNames(spec);
  return dimensions.map((name) => `d${all.indexOf(name)}`);
}

function replaced(spec: JsSpec, module: string, before: string, after: string): string {
  const parts = module.split(before);
  if (parts.length !== 2) throw unlike(spec, `it has ${before} in ${parts.length - 1} places`);
  return parts.join(after);
}

function unlike({ name }: JsSpec, reason: string): KernelError {
  return new KernelError(
    KernelErrorCode.invalid,
    `the kernel ${name} was not compiled as it must be: ${reason}`,
    {
      kernel: name,
      reason,
    },
  );
}

function u32(size: Dimension): UniformWord {
  return { u32: String(size) };
}

/** Sizes along x, y and z: the last dimension is x. */
function axesOf(shape: readonly Dimension[]): [SizeExpression, SizeExpression, SizeExpression] {
  const [x = 1, y = 1, z = 1] = shape.toReversed();
  return [String(x), String(y), String(z)];
}

/** Workgroups of a line of threads, which is folded where it is longer than the most along x. */
function lineGroups(size: SizeExpression): [SizeExpression, SizeExpression, SizeExpression] {
  const groups = `${size} / ${LINE_THREADS}`;
  const rows = `${groups} / ${KERNEL_WORKGROUPS_MAX}`;
  return [`${groups} / (${rows})`, rows, "1"];
}

/** What is known of an integer: numbers that it lies between, or the size of a dimension that it is below. */
interface Range {
  readonly least: number;
  readonly most: number;
  readonly below?: Dimension | undefined;
}

class GpuJsPrinter extends StatementPrinter {
  readonly used: Set<string> = new Set<string>();
  readonly #spec: JsSpec;
  readonly #dimensions: readonly string[];
  readonly #loops = new Map<number, Loop>();
  /** Of an exact kernel. */
  readonly #isWhole: ((value: Value) => boolean) | undefined;
  #roundings = 0;

  constructor(spec: JsSpec, isWholeValue: ((value: Value) => boolean) | undefined) {
    super();
    this.#spec = spec;
    this.#isWhole = isWholeValue;
    this.#dimensions = dimensionNames(spec);
  }

  dimension(name: string): string {
    this.used.add(name);
    return `d${this.#dimensions.indexOf(name)}`;
  }

  protected value(value: Value): string {
    return this.#float(value);
  }

  protected loop(loop: Loop): string {
    const { id, bound, isInclusive, trips, body } = loop;
    const name = this.names.declare(id);
    this.#loops.set(id, loop);
    const counter = this.#int({ kind: "counter", at: loop.at, id });
    const end =
      bound.base === undefined
        ? ""
        : `if (${counter} ${isInclusive ? ">" : ">="} ${this.#bound(bound)}) {\nbreak;\n}\n`;
    return `for (let ${name} = 0; ${name} < ${trips}; ${name}++) {\n${end}${this.block(body)}}`;
  }

  #bound({ base, add }: LoopBound): string {
    const text = typeof base === "string" ? this.dimension(base) : `a${base}`;
    if (add === 0) return text;
    return add < 0 ? `(${text} - ${-add})` : `(${text} + ${add})`;
  }

  /** An expression that GPU.js takes for an integer. */
  #int(value: Value): string {
    switch (value.kind) {
      case "number":
        return value.value < 0 ? `(${value.value})` : String(value.value);
      case "thread":
        return `this.thread.${value.axis}`;
      case "dimension":
        return this.dimension(value.name);
      case "scalar":
        return `a${value.input}`;
      case "counter": {
        const { step, from } = this.#loops.get(value.id)!;
        const name = this.names.of(value.id);
        const steps = step === 1 ? name : `(${name} * ${step})`;
        if (from === 0) return steps;
        return from < 0 ? `(${steps} - ${-from})` : `(${steps} + ${from})`;
      }
      case "binary": {
        const { operator, left, right } = value;
        const isBits = !["+", "-", "*"].includes(operator);
        const [a, b] = [left, right].map((each) => (isBits ? this.#bits(each) : this.#int(each)));
        return `(${a} ${operator} ${b})`;
      }
      case "negative":
        return `(0 - ${this.#int(value.value)})`;
      case "complement":
        return `(${this.#bits(value.value)} ^ (-1))`;
      default:
        throw new Error(`a ${value.kind} is no integer`);
    }
  }

  /** A value where GPU.js makes an integer of it, by cutting it off. */
  #cut(value: Value): string {
    if (typeOf(value) === "int") return this.#int(value);
    // What stands within something else is not taken for an integer itself.
    return `(${this.#float(value)} * 1)`;
  }

  /** A value as 32 bits. What is beyond all integers is another one on each engine, unless it is moved to the last. */
  #bits(value: Value): string {
    if (typeOf(value) === "int" || this.#isInteger(value)) return this.#cut(value);
    return `(Math.min(Math.max(${this.#float(value)}, ${INT_MIN}), ${INT_MAX}) * 1)`;
  }

  /** Whether it is an element of an input of integers, which are looked at. */
  #isInteger(value: Value): boolean {
    return value.kind === "element" && this.#spec.inputs[value.input]!.type !== "f32";
  }

  /** An expression that GPU.js takes for a float, or a whole number that it takes for one where it stands. */
  #float(value: Value, isSure = false): string {
    if (value.kind === "number") {
      const text = value.value < 0 ? `(${numberText(value.value)})` : numberText(value.value);
      return isSure && Number.isInteger(value.value) ? `Math.fround(${text})` : text;
    }
    if (typeOf(value) === "int") return `Math.fround(${this.#int(value)})`;
    switch (value.kind) {
      case "scalar":
        return `a${value.input}`;
      case "local":
        return this.names.of(value.id);
      case "element":
        return this.#element(value.input, value.indices);
      case "binary":
        return this.#computed(value);
      case "negative":
        return `(-${this.#float(value.value)})`;
      case "call":
        return this.#call(value);
      case "choice":
        return `(${this.condition(value.test)} ? ${this.#float(value.yes, true)} : ${this.#float(value.no, true)})`;
      default:
        throw new Error(`a ${value.kind} is no float`);
    }
  }

  #computed(value: Extract<Value, { readonly kind: "binary" }>): string {
    const text = `(${this.#float(value.left)} ${value.operator} ${this.#float(value.right)})`;
    if (this.#isWhole === undefined) return text;
    const rounded = `Math.fround(${text})`;
    // No whole number is that small.
    if (this.#isWhole(value)) return rounded;
    // It stands in what follows twice, and what it is made of may hold others.
    const name = `t${this.#roundings++}`;
    this.before.push(`let ${name} = ${rounded};`);
    return `(Math.abs(${name}) <= ${numberText(FLOAT_MIN)} ? Math.fround(0) : ${name})`;
  }

  #call({ name, values }: Extract<Value, { readonly kind: "call" }>): string {
    const [base, power] = values;
    if (name !== "pow" || power === undefined)
      return `Math.${name}(${values.map((each) => this.#float(each)).join(", ")})`;
    // WGSL has no powers of negative numbers.
    const positive = `Math.abs(${this.#float(base!)})`;
    const text = `Math.pow(${positive}, ${this.#float(power)})`;
    return isOdd(power) ? `(Math.sign(${this.#float(base!)}) * ${text})` : text;
  }

  protected comparison({ left, right, operator }: Extract<Condition, { readonly kind: "compare" }>): string {
    const areInts = typeOf(left) === "int" && typeOf(right) === "int";
    const [a, b] = [left, right].map((each) => (areInts ? this.#int(each) : this.#float(each)));
    return `(${a} ${operator} ${b})`;
  }

  #element(input: number, indices: readonly Value[]): string {
    const { shape } = this.#spec.inputs[input]!;
    const texts = indices.map((index, axis) => `[${this.#index(index, shape[axis]!)}]`);
    return `a${input}${texts.join("")}`;
  }

  #index(index: Value, size: Dimension): string {
    if (typeOf(index) === "int" && this.#isInside(index, size)) return this.#int(index);
    const last = typeof size === "number" ? String(size - 1) : `Math.fround(${this.dimension(size)} - 1)`;
    return `Math.min(Math.max(${typeOf(index) === "int" ? this.#float(index, true) : this.#cut(index)}, 0), ${last})`;
  }

  #isInside(index: Value, size: Dimension): boolean {
    const { least, most, below } = this.#range(index);
    if (least < 0) return false;
    if (below !== undefined && below === size) return true;
    // No dimension is smaller than 1.
    return most < (typeof size === "number" ? size : 1);
  }

  #range(value: Value): Range {
    switch (value.kind) {
      case "number":
        return { least: value.value, most: value.value };
      case "thread": {
        const size = this.#spec.outputs[0]!.shape.toReversed()[AXES.indexOf(value.axis)]!;
        return { least: 0, most: typeof size === "number" ? size - 1 : Infinity, below: size };
      }
      case "counter": {
        const { from, step, trips, bound, isInclusive } = this.#loops.get(value.id)!;
        const isBelow = typeof bound.base === "string" && bound.add + (isInclusive ? 1 : 0) <= 0;
        const most = from + (trips - 1) * step;
        return { least: from, most, below: isBelow ? (bound.base as string) : undefined };
      }
      case "binary": {
        const [a, b] = [this.#range(value.left), this.#range(value.right)];
        if (value.operator === "+") return within(a.least + b.least, a.most + b.most);
        if (value.operator === "-") return within(a.least - b.most, a.most - b.least);
        if (value.operator === "*" && a.least >= 0 && b.least >= 0)
          return within(a.least * b.least, a.most * b.most);
        return ANYTHING;
      }
      default:
        return ANYTHING;
    }
  }
}

const INT_MIN = `(${-(2 ** 31)})`;
/** The last float that is a 32-bit integer. */
const INT_MAX: number = 2 ** 31 - 128;
const ANYTHING: Range = { least: -Infinity, most: Infinity };

/** What wraps around can be anything. */
function within(least: number, most: number): Range {
  return isWhole(least) && isWhole(most) ? { least, most } : ANYTHING;
}
