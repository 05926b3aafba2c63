/** What a call of a kernel is given: its inputs, as elements or as blocks, and how large each of its dimensions is by that. */
import type { Blocks, BlockSource } from "./blocks.ts";
import type { Primordials } from "./primordials.ts";
import type { ElementType, Tensor } from "../../program/kernel/kernel.ts";

/** A kernel as far as its calls go by it. */
export interface CalledKernel {
  readonly name: string;
  /** Whether its results are to be the same bits whoever computes them. */
  readonly isExact: boolean;
  /** Whether its integers are computed with as floats, which have them up to a number only. */
  readonly isJs: boolean;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly maxTrip: readonly (readonly [name: string, most: number])[];
}

/** An input as a call was given it. */
export interface KernelInput {
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

export interface KernelInputs {
  /** The inputs that a call was given, by their names. */
  take(kernel: CalledKernel, given: unknown): KernelInput[];
  /** Every dimension by its name. Throws where inputs do not agree, one is not known, or is beyond its maxTrip. */
  bind(kernel: CalledKernel, inputs: readonly KernelInput[], given: unknown): Map<string, number>;
  /**
   * Throws where elements of an input are integers that the kernel's floats do not have, or of an exact kernel are floats that GPUs
   * may take for others: NaN, infinities, and what is closer to 0 than 2^-126.
   */
  checkElements(kernel: CalledKernel, tensor: Tensor, values: Uint8Array<ArrayBuffer>): void;
  /**
   * Makes of an output's elements what they are whoever has computed them: of floats of an exact kernel, 0 of -0 and of what is not
   * further from 0 than 2^-126. Throws where they are no such results.
   */
  settle(kernel: CalledKernel, tensor: Tensor, values: Uint8Array<ArrayBuffer>): void;
  /** Elements of a tensor. */
  count(kernel: CalledKernel, tensor: Tensor, bound: Map<string, number>): number;
  /** A copy of elements. */
  copy(type: ElementType, values: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer>;
  /** Whole numbers among the inputs, by their names, as sizes are reckoned with them: those below 0 are 0. */
  wholes(inputs: readonly KernelInput[]): Readonly<Record<string, number>>;
  /** Dimensions as an object. */
  named(bound: Map<string, number>): Readonly<Record<string, number>>;
  /** The typed arrays of a type. */
  readonly kinds: Readonly<Record<ElementType, string>>;
}

/** `wholeMax`: floats have all integers up to it. */
export function makeKernelInputs(p: Primordials, blocks: Blocks, wholeMax: number): KernelInputs {
  const KINDS: Readonly<Record<ElementType, string>> = {
    f32: "Float32Array",
    i32: "Int32Array",
    u32: "Uint32Array",
    bytes: "Uint8Array",
  };

  function wrong(kernel: CalledKernel, reason: string): never {
    throw new p.TypeError(`${kernel.name}: ${reason}`);
  }

  const FLOAT_MIN = 2 ** -126;
  const FLOAT_MAX = 3.4028234663852886e38;

  function checkElements(kernel: CalledKernel, tensor: Tensor, values: Uint8Array): void {
    if (!kernel.isJs) return;
    if (tensor.type === "f32") checkFloats(kernel, tensor, values);
    else checkIntegers(kernel, tensor, values);
  }

  function checkFloats(kernel: CalledKernel, { name }: Tensor, values: Uint8Array): void {
    if (!kernel.isExact) return;
    const count = p.bytesLength(values);
    for (let index = 0; index < count; index++) {
      const value = values[index]!;
      const size = value < 0 ? -value : value;
      if (!(size <= FLOAT_MAX) || (size < FLOAT_MIN && size > 0))
        wrong(
          kernel,
          `the input ${name} has ${value} at ${index}, which is not the same number on all engines`,
        );
    }
  }

  function settle(kernel: CalledKernel, { name, type }: Tensor, values: Uint8Array<ArrayBuffer>): void {
    if (!kernel.isJs || (type === "f32" && !kernel.isExact)) return;
    const count = p.bytesLength(values);
    if (type === "f32") {
      for (let index = 0; index < count; index++) {
        const value = values[index]!;
        const size = value < 0 ? -value : value;
        if (!(size <= FLOAT_MAX)) wrong(kernel, `its ${name} has what is no finite number at ${index}`);
        if (size <= FLOAT_MIN) values[index] = 0;
      }
      return;
    }
    const least = type === "u32" ? 0 : -wholeMax;
    for (let index = 0; index < count; index++) {
      const value = values[index]!;
      if (value > wholeMax || value < least)
        wrong(kernel, `its ${name} has what is no whole number from ${least} to ${wholeMax} at ${index}`);
    }
  }

  function checkIntegers(kernel: CalledKernel, { name }: Tensor, values: Uint8Array): void {
    const count = p.bytesLength(values);
    for (let index = 0; index < count; index++) {
      const value = values[index]!;
      if (value > wholeMax || value < -wholeMax)
        wrong(kernel, `the input ${name} has ${value} at ${index}, and whole numbers go to ${wholeMax}`);
    }
  }

  function inputOf(kernel: CalledKernel, tensor: Tensor, value: unknown): KernelInput {
    const { name, type, shape } = tensor;
    const none = { tensor, source: undefined, values: undefined, sides: undefined };
    if (value === undefined)
      wrong(kernel, `the input ${name} is missing: what was given for it is undefined`);
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
    if (kind === KINDS[type]) {
      checkElements(kernel, tensor, value as Uint8Array);
      return {
        ...none,
        count: p.bytesLength(value as Uint8Array),
        values: value as Uint8Array<ArrayBuffer>,
      };
    }
    if (type === "bytes" || !p.isArray(value))
      return wrong(
        kernel,
        `the input ${name} takes a ${KINDS[type]}, ${type === "bytes" ? "" : "numbers, a matrix "}or a block`,
      );
    return { ...none, count: value.length, values: numbers(kernel, tensor, value) };
  }

  /** Numbers as elements of a tensor. */
  function numbers(kernel: CalledKernel, tensor: Tensor, list: readonly unknown[]): Uint8Array<ArrayBuffer> {
    const { name, type } = tensor;
    const array = blocks.elements(type, new p.Uint8Array(list.length * blocks.elementBytes(type)));
    for (let index = 0; index < list.length; index++) {
      const value = list[index];
      if (typeof value !== "number") return wrong(kernel, `the input ${name} has what is no number`);
      array[index] = value;
      if (type !== "f32" && array[index] !== value)
        wrong(kernel, `the input ${name} is of ${type}, and was given ${value}`);
    }
    checkElements(kernel, tensor, array);
    return array;
  }

  function bind(kernel: CalledKernel, inputs: readonly KernelInput[], given: unknown): Map<string, number> {
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

  function scalarOf(inputs: readonly KernelInput[], name: string): number | undefined {
    for (let index = 0; index < inputs.length; index++) {
      const { tensor, values } = inputs[index]!;
      if (tensor.name === name && tensor.shape.length === 0) return values![0];
    }
    return undefined;
  }

  function mismatch(kernel: CalledKernel, tensor: Tensor, count: number, bound: Map<string, number>): never {
    let shape = "";
    for (let at = 0; at < tensor.shape.length; at++) {
      const dimension = tensor.shape[at]!;
      const size = typeof dimension === "string" ? p.mapGet(bound, dimension) : undefined;
      shape += `${at === 0 ? "" : " × "}${dimension}${size === undefined ? "" : ` = ${size}`}`;
    }
    return wrong(kernel, `the input ${tensor.name} has ${count} elements, which are not ${shape}`);
  }

  function countOf(kernel: CalledKernel, { name, shape }: Tensor, bound: Map<string, number>): number {
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

  function named(bound: Map<string, number>): Readonly<Record<string, number>> {
    const dimensions: Record<string, number> = {};
    p.mapForEach(bound, (size, name) => {
      p.defineProperty(dimensions, name, { value: size, enumerable: true });
    });
    return dimensions;
  }

  function wholes(inputs: readonly KernelInput[]): Readonly<Record<string, number>> {
    const values: Record<string, number> = {};
    for (let index = 0; index < inputs.length; index++) {
      const { tensor, values: given } = inputs[index]!;
      if (tensor.shape.length > 0 || tensor.type === "f32") continue;
      p.defineProperty(values, tensor.name, { value: given![0]! < 0 ? 0 : given![0], enumerable: true });
    }
    return values;
  }

  function copied(type: ElementType, values: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    const copy = blocks.elements(type, new p.Uint8Array(p.bytesLength(values) * blocks.elementBytes(type)));
    p.bytesSet(copy, values);
    return copy;
  }

  return {
    take(kernel, given) {
      const values = (given ?? {}) as Readonly<Record<string, unknown>>;
      const inputs: KernelInput[] = [];
      for (let at = 0; at < kernel.inputs.length; at++) {
        const tensor = kernel.inputs[at]!;
        inputs[at] = inputOf(kernel, tensor, values[tensor.name]);
      }
      return inputs;
    },
    bind,
    checkElements,
    settle,
    count: countOf,
    copy: copied,
    wholes,
    named,
    kinds: KINDS,
  };
}
