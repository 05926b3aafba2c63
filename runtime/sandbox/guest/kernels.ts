/**
 * Kernels, as a program calls them. A call binds the names of dimensions, and is computed by whoever runs the program, or else
 * in here: by the program's own function for CPUs, or by GPU.js.
 *
 * Who computes must not show. So that function runs in an evaluation of the module that nothing else uses, and gets copies:
 * what it changes is seen by nobody, and its console says nothing.
 */
import type { Blocks, BlockSource } from "./blocks.ts";
import type { ComputeKernel, TensorArgument } from "./compute.ts";
import type { Freeze } from "./freeze.ts";
import type { Primordials } from "./primordials.ts";
import type { Questions } from "./questions.ts";
import type { KernelEstimate } from "../../contracts/kernels.ts";
import type { ElementType, KernelDeclaration, Tensor } from "../../program/kernel/kernel.ts";

export interface Kernels {
  /** Says what a kernel is; the n-th call of an evaluation is for the n-th kernel. */
  readonly define: (declaration: KernelDeclaration, settings: KernelSettings) => unknown;
  /** The module is evaluated from its beginning, for a program whose kernels are called once that is over. */
  begin(): void;
  end(): void;
  /** The node knows the program's kernels. */
  askNode(): void;
  /** What computes those of them that have no cpu, each with the dimensions that it wants the sizes of; null for the others. */
  compute(compute: ComputeKernel, dimensions: readonly (readonly string[] | null)[]): void;
  /**
   * Runs what may call kernels, up to the first call, which is noted instead of being computed. `estimates` are those that were
   * noted since it was asked last.
   */
  estimate(run: () => unknown): void;
  estimates(): readonly KernelEstimate[];
  /** What the evaluation that was last has defined. */
  declared(): readonly KernelDeclaration[];
}

/** What of a kernel stays in the isolate. */
export interface KernelSettings {
  readonly cpu: unknown;
  /** Whether a call gives its one output as it is, and not by its name. */
  readonly isSingle: boolean;
}

/** An input as a call was given it. */
export interface KernelInputValue {
  readonly tensor: Tensor;
  /** Elements. */
  readonly count: number;
  /** What stands for its bytes, */
  readonly source: BlockSource | undefined;
  /** or they themselves, as elements. */
  readonly values: Uint8Array<ArrayBuffer> | undefined;
  /** Rows and columns, where it says. */
  readonly sides: readonly [number, number] | undefined;
}

export interface KernelTools {
  readonly freeze: Freeze;
  readonly blocks: Blocks;
  readonly questions: Questions;
  readonly kernelsMax: number;
  /** Bytes of a call's inputs that are no blocks. */
  readonly valuesBytesMax: number;
  /** Evaluates the module, and then `run`, beside the packet: nothing of it may be seen there. */
  readonly apart: (run: () => unknown) => unknown;
  /** Fails the packet. */
  readonly outOfMemory: (reason: string) => never;
  /** A call is over. WebAssembly modules are new then, whether the program's cpu has used them or not. */
  readonly over: () => void;
}

interface Defined {
  readonly name: string;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly maxTrip: readonly (readonly [name: string, most: number])[];
  readonly cpu: unknown;
  readonly isSingle: boolean;
}

export function makeKernels(p: Primordials, tools: KernelTools): Kernels {
  const { freeze, blocks, questions, kernelsMax, valuesBytesMax, apart, outOfMemory, over } = tools;
  const KINDS: Readonly<Record<ElementType, string>> = {
    f32: "Float32Array",
    i32: "Int32Array",
    u32: "Uint32Array",
    bytes: "Uint8Array",
  };
  let declarations: KernelDeclaration[] = [];
  let defined: Defined[] = [];
  let isEvaluating = false;
  /** Whether a kernel is being computed in here: within it, none is called. */
  let isComputing = false;
  /** Whether the node knows the program's kernels, and is asked who computes a call. */
  let isAsking = false;
  /** Whether it has left the call to this isolate, and wants to hear when that is over. */
  let isLeft = false;
  let gpuJs:
    | { readonly compute: ComputeKernel; readonly dimensions: readonly (readonly string[] | null)[] }
    | undefined;
  let isEstimating = false;
  let noted: KernelEstimate[] = [];
  /** Thrown where a call would be computed: a program that catches it gets no further by that. */
  const STOP = freeze.deep({});

  function begin(): void {
    declarations = [];
    defined = [];
    isEvaluating = true;
  }

  function define(declaration: KernelDeclaration, { cpu, isSingle }: KernelSettings): unknown {
    if (!isEvaluating)
      throw new p.TypeError(
        "defineKernel is for the scope of a module: it was called after that was evaluated",
      );
    const index = defined.length;
    if (index === kernelsMax) throw new p.RangeError(`a program has at most ${kernelsMax} kernels`);
    if (cpu !== undefined && typeof cpu !== "function") throw new p.TypeError("a kernel's cpu is a function");
    const name = typeof declaration.name === "string" ? declaration.name : `kernel ${index + 1}`;
    const kernel: Defined = {
      name,
      inputs: tensorsOf(name, declaration.inputs),
      outputs: tensorsOf(name, declaration.outputs),
      maxTrip: tripsOf(name, declaration.maxTrip),
      cpu,
      isSingle: isSingle === true,
    };
    declarations[index] = declaration;
    defined[index] = kernel;
    return freeze.deep((inputs: unknown, dimensions?: unknown) => call(index, kernel, inputs, dimensions));
  }

  /** As far as calls go by them: what is wrong with a kernel besides is told when the program is looked into. */
  function tensorsOf(kernel: string, given: readonly unknown[]): Tensor[] {
    const tensors: Tensor[] = [];
    for (let index = 0; index < given.length; index++) {
      const { name, type, shape } = given[index] as Readonly<Record<keyof Tensor, unknown>>;
      const isType = type === "f32" || type === "i32" || type === "u32" || type === "bytes";
      if (typeof name !== "string" || !isType || !p.isArray(shape))
        throw new p.TypeError(`${kernel}: inputs and outputs are made by f32, i32, u32 and bytes`);
      const own: (string | number)[] = [];
      for (let at = 0; at < shape.length; at++) {
        const dimension: unknown = shape[at];
        if (
          typeof dimension !== "string" &&
          !(p.isSafeInteger(dimension as number) && (dimension as number) > 0)
        )
          throw new p.TypeError(
            `${kernel}: a dimension of ${name} is neither a name nor a whole number above 0`,
          );
        own[at] = dimension as string | number;
      }
      tensors[index] = { name, type, shape: own };
    }
    return tensors;
  }

  function tripsOf(kernel: string, given: unknown): (readonly [string, number])[] {
    const trips: (readonly [string, number])[] = [];
    if (given === undefined) return trips;
    if (typeof given !== "object" || given === null)
      throw new p.TypeError(`${kernel}: maxTrip is an object of numbers`);
    const names = p.keys(given);
    for (let index = 0; index < names.length; index++)
      trips[index] = [names[index]!, p.Number((given as Readonly<Record<string, unknown>>)[names[index]!])];
    return trips;
  }

  function call(index: number, kernel: Defined, given: unknown, dimensions: unknown): unknown {
    if (isEvaluating)
      throw new p.TypeError(`${kernel.name} was called while the module was evaluated: kernels are for map`);
    if (isComputing) throw new p.TypeError(`${kernel.name} was called by a kernel's cpu`);
    const inputs: KernelInputValue[] = [];
    for (let at = 0; at < kernel.inputs.length; at++) {
      const tensor = kernel.inputs[at]!;
      const values = (given ?? {}) as Readonly<Record<string, unknown>>;
      inputs[at] = inputOf(kernel, tensor, values[tensor.name]);
    }
    const bound = bind(kernel, inputs, dimensions);
    if (isEstimating) note(index, inputs, bound);
    const outputs = computed(index, kernel, inputs, bound);
    over();
    return result(kernel, outputs);
  }

  function note(index: number, inputs: readonly KernelInputValue[], bound: Map<string, number>): never {
    const places: ("call" | "range" | "file")[] = [];
    for (let at = 0; at < inputs.length; at++) {
      const { source } = inputs[at]!;
      places[at] = source === undefined ? "call" : source.origin < 0 ? "file" : "range";
    }
    if (noted.length < kernelsMax)
      noted[noted.length] = { kernel: index, dimensions: named(bound), inputs: places };
    throw STOP;
  }

  function named(bound: Map<string, number>): Readonly<Record<string, number>> {
    const dimensions: Record<string, number> = {};
    p.mapForEach(bound, (size, name) => {
      p.defineProperty(dimensions, name, { value: size, enumerable: true });
    });
    return dimensions;
  }

  function wrong(kernel: Defined, reason: string): never {
    throw new p.TypeError(`${kernel.name}: ${reason}`);
  }

  function inputOf(kernel: Defined, tensor: Tensor, value: unknown): KernelInputValue {
    const { name, type, shape } = tensor;
    const none = { tensor, source: undefined, values: undefined, sides: undefined };
    if (shape.length === 0) {
      if (typeof value !== "number") wrong(kernel, `the input ${name} is a number`);
      return { ...none, count: 1, values: numbers(kernel, tensor, [value]) };
    }
    const source = blocks.sourceOf(value);
    if (source !== undefined) {
      const matrix = blocks.shapeOf(value);
      if (matrix !== undefined && matrix.type !== type)
        wrong(kernel, `the input ${name} is of ${type}, and was given a matrix of ${matrix.type}`);
      const size = blocks.elementBytes(type);
      if (source.length % size > 0)
        wrong(kernel, `the input ${name} is of ${type}, and was given ${source.length} bytes`);
      const sides =
        matrix !== undefined && shape.length === 2 ? ([matrix.rows, matrix.columns] as const) : undefined;
      return { ...none, count: source.length / size, source, sides };
    }
    const kind = typeof value === "object" && value !== null ? p.arrayKind(value) : undefined;
    if (kind === KINDS[type])
      return {
        ...none,
        count: p.bytesLength(value as Uint8Array),
        values: value as Uint8Array<ArrayBuffer>,
      };
    if (type === "bytes" || !p.isArray(value))
      return wrong(
        kernel,
        `the input ${name} takes a ${KINDS[type]}, ${type === "bytes" ? "" : "numbers, a matrix "}or a block`,
      );
    return { ...none, count: value.length, values: numbers(kernel, tensor, value) };
  }

  /** Numbers as elements of a tensor. */
  function numbers(
    kernel: Defined,
    { name, type }: Tensor,
    list: readonly unknown[],
  ): Uint8Array<ArrayBuffer> {
    const array = blocks.elements(type, new p.Uint8Array(list.length * blocks.elementBytes(type)));
    for (let index = 0; index < list.length; index++) {
      const value = list[index];
      if (typeof value !== "number") return wrong(kernel, `the input ${name} has what is no number`);
      array[index] = value;
      if (type !== "f32" && array[index] !== value)
        wrong(kernel, `the input ${name} is of ${type}, and was given ${value}`);
    }
    return array;
  }

  /** Every dimension by its name. Throws where inputs do not agree, or one is not known. */
  function bind(kernel: Defined, inputs: readonly KernelInputValue[], given: unknown): Map<string, number> {
    const bound = new p.Map<string, number>();

    function set(name: string, size: number, by: string): void {
      const before = p.mapGet(bound, name);
      if (before === undefined) p.mapSet(bound, name, size);
      else if (before !== size) wrong(kernel, `${name} is ${before}, and ${size} by ${by}`);
    }

    if (typeof given === "object" && given !== null) {
      const names = p.keys(given);
      for (let index = 0; index < names.length; index++) {
        const size = (given as Readonly<Record<string, unknown>>)[names[index]!];
        if (size === undefined) continue;
        if (typeof size !== "number" || !p.isSafeInteger(size) || size < 0)
          wrong(kernel, `the dimension ${names[index]!} is a whole number`);
        set(names[index]!, size, "what was given");
      }
    }
    for (let index = 0; index < inputs.length; index++) {
      const { tensor, sides } = inputs[index]!;
      if (sides === undefined) continue;
      for (let side = 0; side < 2; side++) {
        const dimension = tensor.shape[side]!;
        if (typeof dimension === "string") set(dimension, sides[side]!, `the input ${tensor.name}`);
        else if (dimension !== sides[side])
          wrong(
            kernel,
            `the input ${tensor.name} has ${side === 0 ? "rows" : "columns"}, ${dimension} of them, and was given ${sides[side]!}`,
          );
      }
    }
    // An input tells one dimension that is not known of any other.
    for (let isMore = true; isMore;) {
      isMore = false;
      for (let index = 0; index < inputs.length; index++) {
        const { tensor, count } = inputs[index]!;
        let known = 1;
        let unknown: string | undefined;
        let times = 0;
        for (let at = 0; at < tensor.shape.length; at++) {
          const dimension = tensor.shape[at]!;
          const size = typeof dimension === "number" ? dimension : p.mapGet(bound, dimension);
          if (size !== undefined) known *= size;
          else if (unknown === undefined || unknown === dimension) {
            unknown = dimension as string;
            times++;
          } else times = 2;
        }
        if (times !== 1 || known === 0) continue;
        if (count % known > 0) mismatch(kernel, tensor, count, bound);
        p.mapSet(bound, unknown!, count / known);
        isMore = true;
      }
    }
    for (let index = 0; index < inputs.length; index++) {
      const { tensor, count } = inputs[index]!;
      if (countOf(kernel, tensor, bound) !== count) mismatch(kernel, tensor, count, bound);
    }
    for (let index = 0; index < kernel.maxTrip.length; index++) {
      const [name, most] = kernel.maxTrip[index]!;
      const value = p.mapGet(bound, name) ?? scalarOf(inputs, name);
      if (value !== undefined && value > most)
        wrong(kernel, `${name} is ${value}, and its maxTrip says ${most} at most`);
    }
    return bound;
  }

  function scalarOf(inputs: readonly KernelInputValue[], name: string): number | undefined {
    for (let index = 0; index < inputs.length; index++) {
      const { tensor, values } = inputs[index]!;
      if (tensor.name === name && tensor.shape.length === 0) return values![0];
    }
    return undefined;
  }

  function mismatch(kernel: Defined, tensor: Tensor, count: number, bound: Map<string, number>): never {
    let shape = "";
    for (let at = 0; at < tensor.shape.length; at++) {
      const dimension = tensor.shape[at]!;
      const size = typeof dimension === "string" ? p.mapGet(bound, dimension) : undefined;
      shape += `${at === 0 ? "" : " × "}${dimension}${size === undefined ? "" : ` = ${size}`}`;
    }
    return wrong(kernel, `the input ${tensor.name} has ${count} elements, which are not ${shape}`);
  }

  /** Elements of a tensor. */
  function countOf(kernel: Defined, { name, shape }: Tensor, bound: Map<string, number>): number {
    let count = 1;
    for (let at = 0; at < shape.length; at++) {
      const dimension = shape[at]!;
      const size = typeof dimension === "number" ? dimension : p.mapGet(bound, dimension);
      if (size === undefined)
        return wrong(
          kernel,
          `nothing says how large the dimension ${dimension} of ${name} is: give it behind the inputs`,
        );
      count *= size;
    }
    if (!p.isSafeInteger(count)) wrong(kernel, `${name} is too large`);
    return count;
  }

  /** Each output's elements. */
  function computed(
    index: number,
    kernel: Defined,
    inputs: readonly KernelInputValue[],
    bound: Map<string, number>,
  ): Uint8Array<ArrayBuffer>[] {
    const counts: number[] = [];
    for (let at = 0; at < kernel.outputs.length; at++)
      counts[at] = countOf(kernel, kernel.outputs[at]!, bound);
    const answered = asked(index, kernel, inputs, bound);
    if (answered !== undefined) return outputsOf(kernel, counts, answered);
    const made = byItself(index, kernel, inputs, bound, counts);
    if (isLeft) questions.computed();
    return made;
  }

  /** The outputs' bytes where somebody else computed them. */
  function asked(
    index: number,
    kernel: Defined,
    inputs: readonly KernelInputValue[],
    bound: Map<string, number>,
  ): Uint8Array<ArrayBuffer> | undefined {
    let isEmpty = false;
    p.mapForEach(bound, (size) => {
      if (size === 0) isEmpty = true;
    });
    const places: object[] = [];
    const values: Uint8Array<ArrayBuffer>[] = [];
    let valuesBytes = 0;
    for (let at = 0; at < inputs.length; at++) {
      const { tensor, count, source, values: given } = inputs[at]!;
      const length = count * blocks.elementBytes(tensor.type);
      if (source !== undefined && source.staged === undefined) {
        places[at] = { origin: source.origin, from: source.from, length };
        continue;
      }
      valuesBytes += length;
      if (valuesBytes > valuesBytesMax)
        wrong(kernel, `it was given more than ${valuesBytesMax} bytes that are no blocks`);
      places[at] = { length };
      if (!isAsking || isEmpty) continue;
      const padded = new p.Uint8Array(length + ((4 - (length % 4)) % 4));
      p.bytesSet(padded, source === undefined ? bytesOf(tensor.type, given!) : source.staged!);
      values[values.length] = padded;
    }
    isLeft = false;
    if (!isAsking || isEmpty) return undefined;
    const answered = questions.call(
      p.stringify({ kernel: index, dimensions: named(bound), inputs: places })!,
      values,
    );
    isLeft = answered === undefined;
    return answered;
  }

  function outputsOf(
    { outputs }: Defined,
    counts: readonly number[],
    bytes: Uint8Array<ArrayBuffer>,
  ): Uint8Array<ArrayBuffer>[] {
    const results: Uint8Array<ArrayBuffer>[] = [];
    let from = 0;
    for (let at = 0; at < outputs.length; at++) {
      const { type } = outputs[at]!;
      const length = counts[at]! * blocks.elementBytes(type);
      // One by itself stays where it is; several must not be found beside each other.
      const own = outputs.length === 1 && length === p.bytesLength(bytes) ? bytes : new p.Uint8Array(length);
      if (own !== bytes) p.bytesSet(own, new p.Uint8Array(bytes.buffer, from, length));
      results[at] = blocks.elements(type, own);
      from += length + ((4 - (length % 4)) % 4);
    }
    return results;
  }

  /** Elements as the bytes that they are. */
  function bytesOf(type: ElementType, values: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    return new p.Uint8Array(copied(type, values).buffer);
  }

  function byItself(
    index: number,
    kernel: Defined,
    inputs: readonly KernelInputValue[],
    bound: Map<string, number>,
    counts: readonly number[],
  ): Uint8Array<ArrayBuffer>[] {
    if (kernel.cpu === undefined) return byGpuJs(index, kernel, inputs, bound, counts);
    const dimensions = named(bound);
    const given = {};
    for (let at = 0; at < inputs.length; at++) {
      const { tensor, source, values } = inputs[at]!;
      const value =
        source === undefined
          ? tensor.shape.length === 0
            ? values![0]
            : copied(tensor.type, values!)
          : blocks.elements(tensor.type, blocks.bytesOf(source));
      p.defineProperty(given, tensor.name, { value, enumerable: true });
    }
    const made = apart(() => {
      isComputing = true;
      try {
        return p.apply(defined[index]!.cpu as never, undefined, [given, dimensions]);
      } finally {
        isComputing = false;
      }
    });
    const results: Uint8Array<ArrayBuffer>[] = [];
    for (let at = 0; at < kernel.outputs.length; at++) {
      const { name, type } = kernel.outputs[at]!;
      const part = kernel.isSingle ? made : ((made ?? {}) as Readonly<Record<string, unknown>>)[name];
      const kind = typeof part === "object" && part !== null ? p.arrayKind(part) : undefined;
      const count = kind === undefined ? 0 : p.bytesLength(part as Uint8Array);
      if (kind !== KINDS[type] || count !== counts[at])
        wrong(
          kernel,
          `cpu returned ${kind === undefined ? "no typed array" : `a ${kind} of ${count}`} as ${name}, which is a ${KINDS[type]} of ${counts[at]!} elements`,
        );
      results[at] = part as Uint8Array<ArrayBuffer>;
    }
    return results;
  }

  /** By GPU.js's WebAssembly. What it throws is of another context, which is not for programs. */
  function byGpuJs(
    index: number,
    kernel: Defined,
    inputs: readonly KernelInputValue[],
    bound: Map<string, number>,
    counts: readonly number[],
  ): Uint8Array<ArrayBuffer>[] {
    const names = gpuJs?.dimensions[index];
    if (gpuJs === undefined || names === undefined || names === null)
      return wrong(kernel, "no GPU computes it here, and it has no cpu");
    const { type, shape } = kernel.outputs[0]!;
    // What has no elements is not worth asking for.
    if (counts[0] === 0) return [blocks.elements(type, new p.Uint8Array(0))];
    const given: (number | TensorArgument)[] = [];
    for (let at = 0; at < inputs.length; at++) given[at] = argumentOf(inputs[at]!, bound);
    for (let at = 0; at < names.length; at++) given[given.length] = p.mapGet(bound, names[at]!)!;
    let buffer: ArrayBuffer;
    try {
      buffer = gpuJs.compute(index, sidesOf(shape, bound), given);
    } catch (error) {
      const { message } = error as Error;
      return p.indexOf(message, "alloc") >= 0
        ? outOfMemory(`${kernel.name}: ${message}`)
        : wrong(kernel, message);
    }
    return [fromFloats(type, new p.Float32Array(buffer))];
  }

  function argumentOf(
    { tensor, source, values }: KernelInputValue,
    bound: Map<string, number>,
  ): number | TensorArgument {
    if (tensor.shape.length === 0) return values![0]!;
    const own =
      source === undefined
        ? copied(tensor.type, values!)
        : blocks.elements(tensor.type, blocks.bytesOf(source));
    const [x = 1, y = 1, z = 1] = sidesOf(tensor.shape, bound);
    if (tensor.type === "f32") return [own.buffer, x, y, z];
    const floats = new p.Float32Array(p.bytesLength(own));
    p.bytesSet(floats as unknown as Uint8Array, own);
    return [floats.buffer, x, y, z];
  }

  /** Sizes along x, y and z: the last dimension is x. */
  function sidesOf(shape: Tensor["shape"], bound: Map<string, number>): number[] {
    const sides: number[] = [];
    for (let at = shape.length - 1; at >= 0; at--) {
      const dimension = shape[at]!;
      sides[sides.length] = typeof dimension === "number" ? dimension : p.mapGet(bound, dimension)!;
    }
    return sides;
  }

  /** As WGSL makes integers of floats: cut off, and the nearest that there is. */
  function fromFloats(type: ElementType, floats: Float32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    const count = p.bytesLength(floats as unknown as Uint8Array);
    const array = blocks.elements(type, new p.Uint8Array(count * 4));
    const [least, most] = type === "i32" ? [-2147483648, 2147483647] : [0, 4294967295];
    for (let at = 0; at < count; at++) {
      const value = floats[at]!;
      array[at] =
        type === "f32" || (value >= least && value <= most)
          ? value
          : value < least
            ? least
            : value > most
              ? most
              : 0;
    }
    return array;
  }

  function copied(type: ElementType, values: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    const copy = blocks.elements(type, new p.Uint8Array(p.bytesLength(values) * blocks.elementBytes(type)));
    p.bytesSet(copy, values);
    return copy;
  }

  function result(kernel: Defined, outputs: readonly Uint8Array<ArrayBuffer>[]): unknown {
    if (kernel.isSingle) return outputs[0];
    const named = {};
    for (let at = 0; at < outputs.length; at++) {
      const { name } = kernel.outputs[at]!;
      p.defineProperty(named, name, {
        value: outputs[at],
        writable: true,
        enumerable: true,
        configurable: true,
      });
    }
    return named;
  }

  return {
    define,
    begin,
    end() {
      isEvaluating = false;
    },
    askNode() {
      isAsking = true;
    },
    compute(compute, dimensions) {
      gpuJs = { compute, dimensions };
    },
    estimate(run) {
      isEstimating = true;
      try {
        run();
      } catch (error) {
        if (error !== STOP) throw error;
      } finally {
        isEstimating = false;
      }
    },
    estimates() {
      const estimates = noted;
      noted = [];
      return estimates;
    },
    declared: () => declarations,
  };
}
