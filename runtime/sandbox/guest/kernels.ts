/**
 * Kernels, as a program calls them. A call binds the names of dimensions, and is computed by whoever runs the program, or else
 * in here.
 */
import type { Blocks } from "./blocks.ts";
import type { Freeze } from "./freeze.ts";
import type { KernelInput, KernelInputs } from "./kernel-inputs.ts";
import type { BoundCall, DefinedKernel, OwnKernels } from "./own-kernels.ts";
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
  /** The packet of that index in its frame runs from now on. */
  inPacket(index: number): void;
  /** Calls the cpu of the kernel of that index, as the evaluation that was last has defined it. No kernel is called within. */
  callCpu(index: number, given: readonly unknown[]): unknown;
  /**
   * Runs what may call kernels, up to the first call, which is noted instead of being computed.
   */
  estimate(run: () => unknown): void;
  /** What was noted; nothing of it is left. */
  takeEstimates(): readonly KernelEstimate[];
  /** What the evaluation that was last has defined. */
  declared(): readonly KernelDeclaration[];
}

/** What of a kernel stays in the isolate. */
export interface KernelSettings {
  readonly cpu: unknown;
  /** Whether a call gives its one output as it is, and not by its name. */
  readonly isSingle: boolean;
}

export interface KernelTools {
  readonly freeze: Freeze;
  readonly blocks: Blocks;
  readonly inputs: KernelInputs;
  readonly own: OwnKernels;
  readonly questions: Questions;
  readonly kernelsMax: number;
  /** Bytes of a call's inputs that are no blocks. */
  readonly valuesBytesMax: number;
  /** A call is over. WebAssembly modules are new then, whether the program's cpu has used them or not. */
  readonly over: () => void;
}

export function makeKernels(p: Primordials, tools: KernelTools): Kernels {
  const { freeze, blocks, own, questions, kernelsMax, valuesBytesMax, over } = tools;
  const kernelInputs = tools.inputs;
  let declarations: KernelDeclaration[] = [];
  let defined: DefinedKernel[] = [];
  let isEvaluating = false;
  /** Whether a kernel's cpu runs. */
  let isComputing = false;
  /** Whether the node knows the program's kernels, and is asked who computes a call. */
  let isAsking = false;
  /** Whether it has left the call to this isolate, and wants to hear when that is over. */
  let isLeft = false;
  let isEstimating = false;
  /** The index of the packet that runs. */
  let packet = 0;
  let noted: KernelEstimate[] = [];
  /** Thrown where a call would be computed: a program that catches it gets no further by that. */
  const STOP = freeze.deep({});

  function begin(): void {
    // It is done for each packet, of which most have none.
    if (defined.length > 0) {
      declarations = [];
      defined = [];
    }
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
    const kernel: DefinedKernel = {
      name,
      isExact: declaration.result === "exact",
      isJs: declaration.kind === "js",
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

  function call(index: number, kernel: DefinedKernel, given: unknown, dimensions: unknown): unknown {
    if (isEvaluating)
      throw new p.TypeError(`${kernel.name} was called while the module was evaluated: kernels are for map`);
    if (isComputing) throw new p.TypeError(`${kernel.name} was called by a kernel's cpu`);
    const inputs = kernelInputs.take(kernel, given);
    const bound = kernelInputs.bind(kernel, inputs, dimensions);
    if (isEstimating) note(index, inputs, bound);
    const counts: number[] = [];
    for (let at = 0; at < kernel.outputs.length; at++)
      counts[at] = kernelInputs.count(kernel, kernel.outputs[at]!, bound);
    const outputs = computed({ index, kernel, inputs, bound, counts });
    over();
    for (let at = 0; at < kernel.outputs.length; at++)
      kernelInputs.settle(kernel, kernel.outputs[at]!, outputs[at]!);
    return result(kernel, outputs);
  }

  function note(index: number, inputs: readonly KernelInput[], bound: Map<string, number>): never {
    const places: ("call" | "range" | "file")[] = [];
    for (let at = 0; at < inputs.length; at++) {
      const { source } = inputs[at]!;
      places[at] = source === undefined ? "call" : source.origin < 0 ? "file" : "range";
    }
    if (noted.length < kernelsMax)
      noted[noted.length] = {
        kernel: index,
        dimensions: kernelInputs.named(bound),
        scalars: kernelInputs.wholes(inputs),
        inputs: places,
      };
    throw STOP;
  }

  /** Each output's elements. */
  function computed(call: BoundCall): Uint8Array<ArrayBuffer>[] {
    const answered = asked(call);
    if (answered !== undefined) return outputsOf(call, answered);
    const made = own.compute(call);
    if (isLeft) questions.computed();
    return made;
  }

  /** The outputs' bytes where somebody else computed them. */
  function asked({ index, kernel, inputs, bound }: BoundCall): Uint8Array<ArrayBuffer> | undefined {
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
      if (source !== undefined) {
        places[at] = { origin: source.origin, from: source.from, length };
        continue;
      }
      valuesBytes += length;
      if (valuesBytes > valuesBytesMax)
        throw new p.TypeError(
          `${kernel.name}: it was given more than ${valuesBytesMax} bytes that are no blocks`,
        );
      places[at] = { length };
      if (!isAsking || isEmpty) continue;
      const padded = new p.Uint8Array(length + ((4 - (length % 4)) % 4));
      p.bytesSet(padded, bytesOf(tensor.type, given!));
      values[values.length] = padded;
    }
    isLeft = false;
    if (!isAsking || isEmpty) return undefined;
    const answered = questions.call(
      p.stringify({ packet, kernel: index, dimensions: kernelInputs.named(bound), inputs: places })!,
      values,
    );
    isLeft = answered === undefined;
    return answered;
  }

  function outputsOf(
    { kernel: { outputs }, counts }: BoundCall,
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
    return new p.Uint8Array(kernelInputs.copy(type, values).buffer);
  }

  function result(kernel: DefinedKernel, outputs: readonly Uint8Array<ArrayBuffer>[]): unknown {
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
    inPacket(at) {
      packet = at;
    },
    askNode() {
      isAsking = true;
    },
    callCpu(index, given) {
      isComputing = true;
      try {
        return p.apply(defined[index]!.cpu as never, undefined, given);
      } finally {
        isComputing = false;
      }
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
    takeEstimates() {
      const estimates = noted;
      noted = [];
      return estimates;
    },
    declared: () => declarations,
  };
}
