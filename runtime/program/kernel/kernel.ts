/**
 * What a kernel is: a function over whole tensors that a GPU can run, and a CPU can run too. Plain data, as it crosses processes
 * and machines, in three states: as an author declares it (`defineKernel` in sdk/kernel.ts), as the validator leaves it
 * (KernelSpec: its source in the one spelling that means it), and with what a GPU takes (Kernel).
 */

/**
 * What the elements of a tensor are. Bytes are for kernels in WGSL, where four of them stand in each u32, the first lowest. Kernels in
 * JavaScript compute with 32-bit floats: integers become floats when they are read, up to 24 bits, beyond which they are refused; an
 * output of integers has whole numbers to 2^24, and a call whose source gives anything else fails.
 */
export type ElementType = "f32" | "i32" | "u32" | "bytes";

/** A number, or the name of a dimension that calls bind: by how large their inputs are, or by saying it. */
export type Dimension = string | number;

/** Elements in row-major order, little-endian; the last dimension changes fastest. One of no dimensions is a number. */
export interface Tensor {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly Dimension[];
  /** Of an output in WGSL: its elements are atomic, and 0 at first. */
  readonly atomic?: boolean;
}

/** "js" is GPU.js's subset of JavaScript, one call per element of its output. "wgsl" is WGSL without its declarations of bindings. */
export type KernelKind = "js" | "wgsl";

/**
 * How close results of different engines are: bit by bit, or to be told apart by no more than this. Exact kernels in JavaScript round to
 * a 32-bit float, to the nearest and of two to the even one, after each operation. Floats of theirs are finite: others, and those closer
 * to 0 than 2^-126, are refused among inputs. What comes of an operation on floats that need not be whole is 0 where it is not further
 * from 0 than 2^-126. Their outputs have no -0 either, and a call that gives NaN or an infinity fails.
 */
export type Agreement = "exact" | { readonly relL2: number; readonly abs: number };

/**
 * An integer expression over dimensions and maxTrip names: whole numbers, names, + - * / and parentheses. A division rounds
 * up. Its value is at most 2^53 - 1 at every step (sizes.ts).
 */
export type SizeExpression = string;

export interface KernelLimits {
  /** Of a GPU's own time for one call, in milliseconds. */
  readonly gpuMs: number;
  /** Of a GPU's memory for one call: inputs, outputs and what stands between. */
  readonly gpuBytes: number;
}

/**
 * A kernel as the guest hands it out: what its author gave `defineKernel`, so that each field may be anything. Tensors stand in
 * the order of their author's; a source that was a function is its text.
 */
export interface KernelDeclaration {
  /** What its author calls it; absent where it has no name. */
  readonly name?: unknown;
  readonly kind?: unknown;
  /** {name, type, shape}, each. */
  readonly inputs: readonly unknown[];
  /** {name, type, shape, atomic?}, each: one that is called "output", or those that were named. */
  readonly outputs: readonly unknown[];
  readonly source?: unknown;
  /** Numbers by the names that the source has for them. */
  readonly constants?: unknown;
  readonly maxTrip?: unknown;
  readonly result?: unknown;
  readonly hasCpu: boolean;
  readonly workgroup?: unknown;
  readonly operations?: unknown;
  readonly limits?: unknown;
  readonly gpu?: unknown;
}

/** A kernel after validation. */
export interface KernelSpec {
  /** Unique among its program's: for people, and in faults. */
  readonly name: string;
  readonly kind: KernelKind;
  readonly inputs: readonly Tensor[];
  /** One of kind "js"; one or more of kind "wgsl". */
  readonly outputs: readonly Tensor[];
  /** Canonical: of one spelling for one meaning. */
  readonly source: string;
  /** The most that each loop bound that is no constant may be, by the scalar input or the dimension that bounds it. */
  readonly maxTrip: Readonly<Record<string, number>>;
  readonly result: Agreement;
  /** Whether the program has a function of its own for CPUs. */
  readonly hasCpu: boolean;
  /** Of WGSL: threads of a workgroup, and how many workgroups there are along x, y and z. */
  readonly workgroup?: {
    readonly size: readonly [number, number, number];
    readonly count: readonly [SizeExpression, SizeExpression, SizeExpression];
  };
  /** Operations of one call: what the validator counted, or of WGSL what its author says. */
  readonly operations: SizeExpression;
  readonly limits: KernelLimits;
  /** The share of a GPU that a call takes, above 0 and at most 1: calls are let in as long as their shares are 1 at most. */
  readonly gpu: number;
}

/** A word of 32 bits in the uniform buffer. */
export type UniformWord =
  | { readonly u32: SizeExpression }
  /** The scalar input of this index, as its type. */
  | { readonly input: number };

/** What a GPU needs beside WGSL. Range-checked against the kernel before it is used, whoever made it. */
export interface KernelLayout {
  /** The buffer at binding 0 of group 0; a multiple of four words. */
  readonly uniform: readonly UniformWord[];
  /** Which tensor stands at binding 1 and those that follow. Scalars stand at none. */
  readonly bindings: readonly { readonly input?: number; readonly output?: number }[];
  readonly entryPoint: string;
  readonly workgroups: readonly [SizeExpression, SizeExpression, SizeExpression];
}

/** A kernel that can be called. */
export interface Kernel extends KernelSpec {
  /** The whole module. */
  readonly wgsl: string;
  readonly layout: KernelLayout;
}
