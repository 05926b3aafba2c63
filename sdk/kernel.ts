/**
 * Kernels: functions over whole tensors that a GPU runs where there is one and it is faster, and a CPU everywhere else. A
 * program defines them in the scope of its module and calls them in `map`, as it calls any function:
 *
 *   const search = defineKernel({
 *     kind: "js",
 *     inputs: { vectors: f32(["n", 256]), queries: f32(["q", 256]) },
 *     output: f32(["q", "n"]),
 *     result: { relL2: 1e-5, abs: 1e-3 },
 *     source(vectors, queries) {
 *       let sum = 0;
 *       for (let i = 0; i < 256; i++) sum += vectors[this.thread.x]![i]! * queries[this.thread.y]![i]!;
 *       return sum;
 *     },
 *   });
 *   …
 *   input: matrix({ type: "f32", columns: 256 }),
 *   map: (rows, { state }) => best(search({ vectors: rows, queries: state })),
 *
 * A call binds the names of dimensions to how large its inputs are; what these do not say is given behind them:
 * `mandelbrot({}, { width: 800, height: 600 })`. A block of records, a stored file and a part of either is handed to a GPU as what it
 * is, bytes of a stream, and is never in the program's memory unless the program computes over it.
 *
 * Whoever runs the program chooses the engine. "exact" says that all of them give the same bits, which holds for integers in "wgsl",
 * and in "js" for what is computed of whole numbers, and for one + - or * of floats: examples/kernels/README.md says what else such
 * kernels keep to. Every other kernel says how far apart two engines may be, and a job with such a kernel stays on one. A `cpu` is
 * believed: nobody compares what it gives with what the source does.
 *
 * Who computes does not show: a `cpu` runs in an evaluation of the module of its own, over copies; what it logs, draws from Math.random
 * or leaves in variables is gone, and WebAssembly modules are new after each call of a kernel.
 */
import type {
  Agreement,
  Dimension,
  ElementType,
  KernelDeclaration,
  KernelLimits,
  SizeExpression,
} from "../runtime/program/kernel/kernel.ts";
import type { Block, ElementArrays, Matrix } from "./blocks.ts";

/** What a tensor is made of and how large it is. */
export interface TensorType<
  Type extends ElementType = ElementType,
  Shape extends readonly Dimension[] = readonly Dimension[],
> {
  readonly type: Type;
  readonly shape: Shape;
  readonly atomic?: boolean;
}

export interface TensorOptions {
  /** Of an output in WGSL: its elements are atomic, and 0 at first. */
  readonly atomic?: boolean;
}

/** 32-bit floats; a number where it has no dimensions. The last dimension changes fastest. */
export function f32(): TensorType<"f32", readonly []>;
export function f32<const Shape extends readonly Dimension[]>(
  shape: Shape,
  options?: TensorOptions,
): TensorType<"f32", Shape>;
export function f32(shape: readonly Dimension[] = [], options: TensorOptions = {}): TensorType {
  return { type: "f32", shape, ...options };
}

/** Signed integers of 32 bits, of 24 in kernels of kind "js". */
export function i32(): TensorType<"i32", readonly []>;
export function i32<const Shape extends readonly Dimension[]>(
  shape: Shape,
  options?: TensorOptions,
): TensorType<"i32", Shape>;
export function i32(shape: readonly Dimension[] = [], options: TensorOptions = {}): TensorType {
  return { type: "i32", shape, ...options };
}

/** Integers of 32 bits that are not negative, of 24 bits in kernels of kind "js". */
export function u32(): TensorType<"u32", readonly []>;
export function u32<const Shape extends readonly Dimension[]>(
  shape: Shape,
  options?: TensorOptions,
): TensorType<"u32", Shape>;
export function u32(shape: readonly Dimension[] = [], options: TensorOptions = {}): TensorType {
  return { type: "u32", shape, ...options };
}

type Tensors = Readonly<Record<string, TensorType>>;

/** What a call gives for an input. */
export type KernelArgument<Input extends TensorType> = Input["shape"] extends readonly []
  ? number
  : Input["type"] extends "bytes"
    ? Uint8Array | Block
    :
        | (Input["type"] extends "f32"
            ? Float32Array
            : Input["type"] extends "i32"
              ? Int32Array
              : Uint32Array)
        | readonly number[]
        | Matrix<Extract<Input["type"], "f32" | "i32" | "u32">>
        | Block;

/** What a call returns, or what of it is one output. */
export type KernelResult<Output extends TensorType> = ElementArrays[Output["type"]];

export type KernelArguments<Inputs extends Tensors> = {
  readonly [Name in keyof Inputs]: KernelArgument<Inputs[Name]>;
};

export type KernelResults<Outputs extends Tensors> = {
  readonly [Name in keyof Outputs]: KernelResult<Outputs[Name]>;
};

/** What a function for CPUs gets: typed arrays, and numbers for inputs without dimensions. */
export type CpuArguments<Inputs extends Tensors> = {
  readonly [Name in keyof Inputs]: Inputs[Name]["shape"] extends readonly []
    ? number
    : ElementArrays[Inputs[Name]["type"]];
};

type NamesIn<Tensor extends TensorType> = Extract<Tensor["shape"][number], string>;
type DimensionsOf<Inputs extends Tensors> = { [Name in keyof Inputs]: NamesIn<Inputs[Name]> }[keyof Inputs];

/** The dimensions of a call, by name. */
export type Dimensions<Names extends string> = Readonly<Record<Names, number>>;

/** An input as the source of a kernel of kind "js" sees it. That nothing is assigned to it, who validates the source looks after. */
export type KernelValue<Shape extends readonly Dimension[]> = Shape extends readonly []
  ? number
  : Shape extends readonly [Dimension]
    ? number[]
    : Shape extends readonly [Dimension, Dimension]
      ? number[][]
      : number[][][];

/** What `this` is in a source: which element of the output it computes, and what stays the same for all of them. */
export interface KernelScope<Constants> {
  /** The element's place: x along the output's last dimension, y along the one before it, z along the one before that. */
  readonly thread: { readonly x: number; readonly y: number; readonly z: number };
  readonly constants: Constants;
}

/**
 * All that one of the inputs is: which parameter is which input is told by their order alone, which types do not know of names. So a
 * parameter may be used as any of them is, and be annotated as the one that it is.
 */
type AnyValue<Inputs extends Tensors> = {
  [Name in keyof Inputs]: (value: KernelValue<Inputs[Name]["shape"]>) => void;
}[keyof Inputs] extends (value: infer Value) => void
  ? Value
  : never;

type Source<Inputs extends Tensors, Constants> = {
  source(this: KernelScope<Constants>, ...inputs: AnyValue<Inputs>[]): number;
}["source"];

interface KernelParts<Inputs extends Tensors, Names extends string, Result> {
  /** For people, and in faults; no two of a program's. By default what its source is called. */
  readonly name?: string;
  readonly inputs: Inputs;
  /**
   * The most that a loop may run, where what bounds it is no constant: by the input without dimensions, or the dimension, that
   * bounds it. A call beyond it fails.
   */
  readonly maxTrip?: Readonly<Record<string, number>>;
  /** How close the results of two engines are: all bits, or no further apart than this. */
  readonly result: Agreement;
  /** Computes it on a CPU, where the program knows a faster way than its source. A kernel in WGSL has no other way there. */
  readonly cpu?: (inputs: CpuArguments<Inputs>, dimensions: Dimensions<Names>) => Result;
  /** Operations of a call, over names of dimensions: which engine is chosen follows from it, where nothing was measured yet. */
  readonly operations?: SizeExpression | number;
  /** By default 2 s of a GPU's own time, and 4 GiB of its memory. */
  readonly limits?: Partial<KernelLimits>;
  /** The share of a GPU that a call takes. Default 0.5: of two at a time, one has its bytes moved while the other computes. */
  readonly gpu?: number;
}

/** A kernel in GPU.js's subset of JavaScript: a function that is called for each element of its output. */
export interface JsKernel<
  Inputs extends Tensors,
  Output extends TensorType,
  Constants extends string,
> extends KernelParts<Inputs, DimensionsOf<Inputs> | NamesIn<Output>, KernelResult<Output>> {
  readonly kind: "js";
  readonly output: Output;
  /** Numbers that the source has as `this.constants`. */
  readonly constants?: Readonly<Record<Constants, number>>;
  /**
   * Its parameters are the inputs, in their order. It knows nothing else but `this` and Math, and is
   * never called as JavaScript: its text is what counts. In `this.constants` it finds dimensions too.
   */
  readonly source: string | Source<Inputs, Dimensions<Constants | DimensionsOf<Inputs> | NamesIn<Output>>>;
}

interface WgslParts<Inputs extends Tensors, Names extends string, Result> extends KernelParts<
  Inputs,
  Names,
  Result
> {
  readonly kind: "wgsl";
  readonly cpu: NonNullable<KernelParts<Inputs, Names, Result>["cpu"]>;
  /**
   * WGSL with an entry `main` and without bindings: inputs and outputs are variables of their names, inputs without dimensions and
   * dimensions are fields of `dims`. Of bytes, four stand in each u32, the first lowest.
   */
  readonly source: string;
  readonly workgroup: {
    readonly size: readonly [x: number, y?: number, z?: number];
    /** How many of them there are along x, y and z. A division rounds up: "n / 64". */
    readonly count: readonly [
      x: SizeExpression | number,
      y?: SizeExpression | number,
      z?: SizeExpression | number,
    ];
  };
}

/** A kernel in WGSL, with one output. */
export interface WgslKernel<Inputs extends Tensors, Output extends TensorType> extends WgslParts<
  Inputs,
  DimensionsOf<Inputs> | NamesIn<Output>,
  KernelResult<Output>
> {
  readonly output: Output;
}

/** A kernel in WGSL, with outputs that have names. */
export interface WgslKernels<Inputs extends Tensors, Outputs extends Tensors> extends WgslParts<
  Inputs,
  DimensionsOf<Inputs> | DimensionsOf<Outputs>,
  KernelResults<Outputs>
> {
  readonly outputs: Outputs;
}

/** A kernel, to be called in `map`. Dimensions are given where no input says how large they are. */
export type KernelFunction<Inputs extends Tensors, Names extends string, Result> = [
  Exclude<Names, DimensionsOf<Inputs>>,
] extends [never]
  ? (inputs: KernelArguments<Inputs>, dimensions?: Partial<Dimensions<Names>>) => Result
  : (
      inputs: KernelArguments<Inputs>,
      dimensions: Dimensions<Exclude<Names, DimensionsOf<Inputs>>> & Partial<Dimensions<Names>>,
    ) => Result;

/** What a sandbox gives to modules: see bundle.ts. */
declare const $packetfs:
  | {
      readonly kernel: (
        declaration: KernelDeclaration,
        settings: { readonly cpu: unknown; readonly isSingle: boolean },
      ) => unknown;
    }
  | undefined;

/**
 * Says what a kernel is. For the scope of a module: kernels are known before anything of a program runs.
 *
 * Of several signatures, compilers tell what is wrong with the last: it is the one that nearly all kernels have.
 */
export function defineKernel<const Inputs extends Tensors, const Outputs extends Tensors>(
  kernel: WgslKernels<Inputs, Outputs>,
): KernelFunction<Inputs, DimensionsOf<Inputs> | DimensionsOf<Outputs>, KernelResults<Outputs>>;
export function defineKernel<
  const Inputs extends Tensors,
  const Output extends TensorType,
  const Constants extends string = never,
>(
  kernel: JsKernel<Inputs, Output, Constants> | WgslKernel<Inputs, Output>,
): KernelFunction<Inputs, DimensionsOf<Inputs> | NamesIn<Output>, KernelResult<Output>>;
export function defineKernel(kernel: object): unknown {
  if (typeof $packetfs === "undefined")
    return () => {
      throw new Error("a kernel is called by a program that PacketFS runs");
    };
  const { inputs, output, outputs, cpu, source, workgroup, operations, ...rest } = kernel as AnyKernel;
  const own = typeof source === "function" ? source.name : "";
  return $packetfs.kernel(
    {
      ...(own === "" || own === "source" ? {} : { name: own }),
      ...rest,
      inputs: named(inputs),
      outputs: named(outputs ?? (output === undefined ? {} : { output })),
      source: typeof source === "function" ? String(source) : source,
      hasCpu: cpu !== undefined,
      ...(workgroup === undefined ? {} : { workgroup: whole(workgroup) }),
      ...(operations === undefined ? {} : { operations: text(operations) }),
    },
    { cpu, isSingle: outputs === undefined },
  );
}

/** A kernel of any kind, as far as it is looked into here. */
interface AnyKernel {
  readonly inputs?: Tensors;
  readonly output?: TensorType;
  readonly outputs?: Tensors;
  readonly cpu?: unknown;
  readonly source?: string | ((...inputs: never[]) => number);
  readonly workgroup?: WgslKernel<Tensors, TensorType>["workgroup"];
  readonly operations?: SizeExpression | number;
}

function named(tensors: Tensors = {}): object[] {
  return Object.entries(tensors).map(([name, tensor]) => ({ name, ...tensor }));
}

function whole({ size, count }: WgslKernel<Tensors, TensorType>["workgroup"]): object {
  const [x, y = 1, z = 1] = size;
  const [ofX, ofY = 1, ofZ = 1] = count;
  return { size: [x, y, z], count: [text(ofX), text(ofY), text(ofZ)] };
}

/** What is no text or number is left for whoever checks it. */
function text(size: SizeExpression | number): SizeExpression {
  return typeof size === "number" ? String(size) : size;
}
