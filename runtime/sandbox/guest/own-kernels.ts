/**
 * Kernels that nobody else computes: by the program's own function for CPUs, or by GPU.js. Who computes must not show, so that
 * function runs in an evaluation of the module that nothing else uses, and gets copies: what it changes is seen by nobody, and
 * its console says nothing.
 */
import type { BlockSource, Blocks } from "./blocks.ts";
import type { ComputeKernel, TensorArgument } from "./compute.ts";
import type { CalledKernel, KernelInput, KernelInputs } from "./kernel-inputs.ts";
import type { Primordials } from "./primordials.ts";
import type { ElementType, Tensor } from "../../program/kernel/kernel.ts";

/** A kernel as its module defines it. */
export interface DefinedKernel extends CalledKernel {
  readonly cpu: unknown;
  /** Whether a call gives its one output as it is, and not by its name. */
  readonly isSingle: boolean;
}

/** A call whose dimensions are bound. */
export interface BoundCall {
  /** Which of the program's kernels it is. */
  readonly index: number;
  readonly kernel: DefinedKernel;
  readonly inputs: readonly KernelInput[];
  readonly bound: Map<string, number>;
  /** Elements of each output. */
  readonly counts: readonly number[];
}

export interface OwnKernels {
  /** Each output's elements. */
  compute(call: BoundCall): Uint8Array<ArrayBuffer>[];
  /** What GPU.js computes by, and of each kernel that it does, the dimensions that it wants the sizes of; null for the others. */
  useGpuJs(compute: ComputeKernel, dimensions: readonly (readonly string[] | null)[]): void;
}

export interface OwnKernelTools {
  readonly blocks: Blocks;
  readonly inputs: KernelInputs;
  /** Calls the function for CPUs of the kernel of that index, beside the packet: nothing of it may be seen there. */
  readonly callApart: (index: number, given: readonly unknown[]) => unknown;
  /** Both fail the packet: there is not enough memory, or nobody here who computes the kernel. */
  readonly outOfMemory: (reason: string) => never;
  readonly noEngine: (reason: string) => never;
}

export function makeOwnKernels(p: Primordials, tools: OwnKernelTools): OwnKernels {
  const { blocks, callApart, outOfMemory, noEngine } = tools;
  const { kinds } = tools.inputs;
  let gpuJs:
    | { readonly compute: ComputeKernel; readonly dimensions: readonly (readonly string[] | null)[] }
    | undefined;

  function wrong(kernel: DefinedKernel, reason: string): never {
    throw new p.TypeError(`${kernel.name}: ${reason}`);
  }

  function byItself(call: BoundCall): Uint8Array<ArrayBuffer>[] {
    const { index, kernel, inputs, bound, counts } = call;
    if (kernel.cpu === undefined) return byGpuJs(call);
    const dimensions = tools.inputs.named(bound);
    const given = {};
    for (let at = 0; at < inputs.length; at++) {
      const { tensor, source, values } = inputs[at]!;
      const value =
        source === undefined
          ? tensor.shape.length === 0
            ? values![0]
            : tools.inputs.copy(tensor.type, values!)
          : read(kernel, tensor, source);
      p.defineProperty(given, tensor.name, { value, enumerable: true });
    }
    const made = callApart(index, [given, dimensions]);
    const results: Uint8Array<ArrayBuffer>[] = [];
    for (let at = 0; at < kernel.outputs.length; at++) {
      const { name, type } = kernel.outputs[at]!;
      const part = kernel.isSingle ? made : ((made ?? {}) as Readonly<Record<string, unknown>>)[name];
      const kind = typeof part === "object" && part !== null ? p.arrayKind(part) : undefined;
      const count = kind === undefined ? 0 : p.bytesLength(part as Uint8Array);
      if (kind !== kinds[type] || count !== counts[at])
        wrong(
          kernel,
          `cpu returned ${kind === undefined ? "no typed array" : `a ${kind} of ${count}`} as ${name}, which is a ${kinds[type]} of ${counts[at]!} elements`,
        );
      results[at] = part as Uint8Array<ArrayBuffer>;
    }
    return results;
  }

  /** By GPU.js's WebAssembly. What it throws is of another context, which is not for programs. */
  function byGpuJs({ index, kernel, inputs, bound, counts }: BoundCall): Uint8Array<ArrayBuffer>[] {
    const names = gpuJs?.dimensions[index];
    if (gpuJs === undefined || names === undefined || names === null)
      return noEngine(`no GPU computes ${kernel.name} here, and it has no cpu`);
    const { type, shape } = kernel.outputs[0]!;
    // What has no elements is not worth asking for.
    if (counts[0] === 0) return [blocks.elements(type, new p.Uint8Array(0))];
    const given: (number | TensorArgument)[] = [];
    for (let at = 0; at < inputs.length; at++) given[at] = argumentOf(kernel, inputs[at]!, bound);
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

  /** A block's elements. */
  function read(kernel: DefinedKernel, tensor: Tensor, source: BlockSource): Uint8Array<ArrayBuffer> {
    const values = blocks.elements(tensor.type, blocks.bytesOf(source));
    tools.inputs.checkElements(kernel, tensor, values);
    return values;
  }

  function argumentOf(
    kernel: DefinedKernel,
    { tensor, source, values }: KernelInput,
    bound: Map<string, number>,
  ): number | TensorArgument {
    if (tensor.shape.length === 0) return values![0]!;
    const own = source === undefined ? tools.inputs.copy(tensor.type, values!) : read(kernel, tensor, source);
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

  /** As the modules of GPUs make integers of floats: what is none becomes one that no output may have (program/kernel/gpujs.ts). */
  function fromFloats(type: ElementType, floats: Float32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    const count = p.bytesLength(floats as unknown as Uint8Array);
    const array = blocks.elements(type, new p.Uint8Array(count * 4));
    if (type === "f32") {
      p.bytesSet(array, floats as unknown as Uint8Array);
      return array;
    }
    const none = type === "i32" ? -2147483648 : 4294967295;
    const FLOAT_MIN = 2 ** -126;
    for (let at = 0; at < count; at++) {
      const value = floats[at]!;
      // An array of integers has of others what is left of them when they are cut off.
      array[at] = value;
      if (array[at] !== value && !(value < FLOAT_MIN && value > -FLOAT_MIN)) array[at] = none;
    }
    return array;
  }

  return {
    compute: byItself,
    useGpuJs(compute, dimensions) {
      gpuJs = { compute, dimensions };
    },
  };
}
