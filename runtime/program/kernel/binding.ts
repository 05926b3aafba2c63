/**
 * What a call of a kernel is made of once its inputs are known: dimensions, bytes of tensors, the uniform buffer, workgroups.
 * Pure, and asked on both sides: by whoever makes a call and by the accelerator, which does not believe it.
 */
import { KernelError, KernelErrorCode } from "../../errors.ts";
import { KERNEL_DIMENSION_MAX, KERNEL_TENSOR_BYTES_MAX, KERNEL_WHOLE_MAX } from "../../limits.ts";
import type { Kernel, KernelSpec, Tensor } from "./kernel.ts";
import { evaluateSize } from "./sizes.ts";
import type { Sizes } from "./sizes.ts";

/** What is known of an input before its dimensions are. */
export interface InputSize {
  /** Of its bytes. */
  readonly length: number;
  /** Of its dimensions, where whoever has it knows them, as a matrix does. */
  readonly shape?: readonly number[] | undefined;
}

/** Where an output stands among all of a call's, which are back to back, each at a multiple of four bytes. */
export interface OutputPlace {
  readonly offset: number;
  readonly length: number;
}

/**
 * The size of each named dimension: as `given`, or as the inputs' sizes have it. Throws PFS_KERNEL_CALL_INVALID {kernel, reason} when one
 * has two sizes or none, when an input is not as long as its shape says, or a dimension is more than its `maxTrip`.
 */
export function bindDimensions(kernel: KernelSpec, inputs: readonly InputSize[], given: Sizes = {}): Sizes {
  const { name } = kernel;
  if (inputs.length !== kernel.inputs.length)
    throw wrongCall(kernel, `it takes ${kernel.inputs.length} inputs, not ${inputs.length}`);
  const dimensions = new Dimensions(kernel);
  for (const [dimension, size] of Object.entries(given)) dimensions.bind(dimension, size, "it is given");
  for (const [index, { shape }] of inputs.entries()) {
    const tensor = kernel.inputs[index]!;
    if (shape === undefined) continue;
    if (shape.length !== tensor.shape.length)
      throw wrongCall(kernel, `${tensor.name} has ${tensor.shape.length} dimensions, not ${shape.length}`);
    for (const [axis, size] of shape.entries()) dimensions.bindAxis(tensor, axis, size);
  }
  // Each round binds a dimension, or all that lengths can say is said.
  for (let before = -1; before !== dimensions.bound;) {
    before = dimensions.bound;
    for (const [index, tensor] of kernel.inputs.entries())
      dimensions.bindLength(tensor, inputs[index]!.length);
  }
  const sizes = dimensions.sizes();
  for (const [index, tensor] of kernel.inputs.entries()) {
    const [length, expected] = [inputs[index]!.length, tensorBytes(tensor, sizes)];
    if (length !== expected)
      throw wrongCall(
        kernel,
        `${tensor.name} has ${length} bytes, and ${expected} are ${shapeText(tensor, sizes)} in ${name}`,
      );
  }
  return sizes;
}

/**
 * Throws PFS_KERNEL_CALL_INVALID {kernel, reason} unless `dimensions` are exactly the kernel's, each possible, none above its `maxTrip`,
 * and fit inputs of so many bytes.
 */
export function checkDimensions(kernel: KernelSpec, dimensions: Sizes, lengths: readonly number[]): void {
  const bound = bindDimensions(
    kernel,
    lengths.map((length) => ({ length })),
    dimensions,
  );
  const names = Object.keys(dimensions);
  if (names.length !== Object.keys(bound).length)
    throw wrongCall(kernel, "it names dimensions that it lacks");
}

/** Names of a kernel's dimensions, in the order in which they first stand in its inputs and outputs. */
export function dimensionNames(kernel: Pick<KernelSpec, "inputs" | "outputs">): string[] {
  const all = [...kernel.inputs, ...kernel.outputs].flatMap(({ shape }) => shape);
  return [...new Set(all.filter((each) => typeof each === "string"))];
}

/** Bytes of a tensor, padding left out. */
export function tensorBytes(tensor: Tensor, dimensions: Sizes): number {
  const elements = tensor.shape.reduce<number>((product, each) => product * sizeOf(each, dimensions), 1);
  return elements * elementBytes(tensor);
}

export function elementBytes({ type }: Tensor): number {
  return type === "bytes" ? 1 : 4;
}

/** The next multiple of four: what a tensor takes in a buffer. */
export function paddedBytes(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}

export function outputPlaces(kernel: KernelSpec, dimensions: Sizes): readonly OutputPlace[] {
  let offset = 0;
  return kernel.outputs.map((tensor) => {
    const place = { offset, length: tensorBytes(tensor, dimensions) };
    offset += paddedBytes(place.length);
    return place;
  });
}

/** What a call takes of a GPU's memory: its tensors. Throws PFS_KERNEL_OVER_LIMIT when the kernel may not have that much. */
export function callBytes(kernel: KernelSpec, dimensions: Sizes): number {
  const tensors = [...kernel.inputs, ...kernel.outputs];
  const bytes = tensors.reduce((sum, tensor) => sum + paddedBytes(tensorBytes(tensor, dimensions)), 0);
  if (bytes > kernel.limits.gpuBytes) {
    throw new KernelError(
      KernelErrorCode.overLimit,
      `a call of ${kernel.name} takes ${bytes} bytes of a GPU's memory, and its limits.gpuBytes is ${kernel.limits.gpuBytes}`,
      { kernel: kernel.name, bytes, max: kernel.limits.gpuBytes },
    );
  }
  return bytes;
}

/**
 * What names in the kernel's size expressions stand for: its dimensions, and whole scalars among its inputs. `scalars` has the 4 bytes of
 * each scalar input at its index. Throws PFS_KERNEL_CALL_INVALID when a scalar is more than its `maxTrip`, or not whole where it must be.
 */
export function boundSizes(
  kernel: KernelSpec,
  dimensions: Sizes,
  scalars: readonly (Uint8Array | undefined)[],
): Sizes {
  const sizes: Record<string, number> = { ...dimensions };
  for (const [index, { name, type, shape }] of kernel.inputs.entries()) {
    if (shape.length > 0 || type === "f32") continue;
    const bytes = scalars[index];
    if (bytes?.byteLength !== 4) throw wrongCall(kernel, `${name} is a number, of four bytes`);
    const view = new DataView(bytes.buffer, bytes.byteOffset, 4);
    const value = type === "i32" ? view.getInt32(0, true) : view.getUint32(0, true);
    if (kernel.kind === "js" && Math.abs(value) > KERNEL_WHOLE_MAX)
      throw wrongCall(kernel, `${name} is ${value}, and whole numbers go to ${KERNEL_WHOLE_MAX}`);
    const most = maxTripOf(kernel, name);
    if (most !== undefined && value > most)
      throw wrongCall(kernel, `${name} is ${value}, and its maxTrip is ${most}`);
    sizes[name] = Math.max(0, value);
  }
  return sizes;
}

/** Operations of one call, as the kernel counts them. */
export function callOperations(kernel: KernelSpec, sizes: Sizes): number {
  return evaluateSize(kernel.operations, sizes);
}

/** The uniform buffer of a call. `scalars` as `boundSizes` has them, whose answer `sizes` is. */
export function uniformBytes(
  kernel: Kernel,
  sizes: Sizes,
  scalars: readonly (Uint8Array | undefined)[],
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(kernel.layout.uniform.length * 4);
  const view = new DataView(bytes.buffer);
  for (const [index, word] of kernel.layout.uniform.entries()) {
    if ("input" in word) {
      const scalar = scalars[word.input];
      if (scalar?.byteLength !== 4)
        throw wrongCall(kernel, `${kernel.inputs[word.input]?.name} is a number, of four bytes`);
      bytes.set(scalar, index * 4);
      continue;
    }
    const value = evaluateSize(word.u32, sizes);
    if (value > 0xffff_ffff) throw wrongCall(kernel, `${word.u32} is ${value}, which is no u32`);
    view.setUint32(index * 4, value, true);
  }
  return bytes;
}

/** How many workgroups a call has along x, y and z. */
export function workgroupsOf(kernel: Kernel, sizes: Sizes): readonly [number, number, number] {
  const [x, y, z] = kernel.layout.workgroups;
  return [evaluateSize(x, sizes), evaluateSize(y, sizes), evaluateSize(z, sizes)];
}

/** What a scalar input or a dimension may be at most, if a loop depends on it. */
export function maxTripOf({ maxTrip }: Pick<KernelSpec, "maxTrip">, name: string): number | undefined {
  return Object.hasOwn(maxTrip, name) ? maxTrip[name] : undefined;
}

/** The named dimensions of a kernel while they are being bound: each once, and always to the same size. */
class Dimensions {
  readonly #kernel: KernelSpec;
  readonly #names: ReadonlySet<string>;
  readonly #sizes = new Map<string, number>();

  constructor(kernel: KernelSpec) {
    this.#kernel = kernel;
    this.#names = new Set(dimensionNames(kernel));
  }

  get bound(): number {
    return this.#sizes.size;
  }

  bind(name: string, size: number, because: string): void {
    if (!this.#names.has(name))
      throw wrongCall(this.#kernel, `it has no dimension ${JSON.stringify(name.slice(0, 64))}`);
    const most = this.#kernel.kind === "js" ? KERNEL_WHOLE_MAX : KERNEL_DIMENSION_MAX;
    if (!Number.isSafeInteger(size) || size < 1 || size > most)
      throw wrongCall(
        this.#kernel,
        `${name} would be ${size}, and a dimension is a whole number from 1 to ${most}`,
      );
    const trip = maxTripOf(this.#kernel, name);
    if (trip !== undefined && size > trip)
      throw wrongCall(this.#kernel, `${name} is ${size}, and its maxTrip is ${trip}`);
    const known = this.#sizes.get(name);
    if (known !== undefined && known !== size)
      throw wrongCall(this.#kernel, `${name} is ${known} and ${size} at once: ${because}`);
    this.#sizes.set(name, size);
  }

  bindAxis(tensor: Tensor, axis: number, size: number): void {
    const dimension = tensor.shape[axis]!;
    if (typeof dimension === "string") this.bind(dimension, size, `so it is in ${tensor.name}`);
    else if (dimension !== size)
      throw wrongCall(this.#kernel, `dimension ${axis} of ${tensor.name} is ${dimension}, not ${size}`);
  }

  /** Binds the only dimension of the tensor that has no size yet, which may stand in it more than once. */
  bindLength(tensor: Tensor, length: number): void {
    const open = tensor.shape.filter((each) => typeof each === "string" && !this.#sizes.has(each));
    const [name] = open;
    if (typeof name !== "string" || open.some((each) => each !== name)) return;
    const known = tensor.shape.reduce<number>(
      (product, each) => product * (open.includes(each) ? 1 : sizeOf(each, this.#record())),
      elementBytes(tensor),
    );
    const size = Math.round((length / known) ** (1 / open.length));
    if (known * size ** open.length !== length)
      throw wrongCall(
        this.#kernel,
        `${tensor.name} has ${length} bytes, which are no ${shapeText(tensor, this.#record())}`,
      );
    this.bind(name, size, `so it is in ${tensor.name}`);
  }

  sizes(): Sizes {
    const open = [...this.#names].filter((name) => !this.#sizes.has(name));
    if (open.length > 0)
      throw wrongCall(
        this.#kernel,
        `nothing says what ${open.join(", ")} ${open.length === 1 ? "is" : "are"}: give it with the call`,
      );
    const sizes = this.#record();
    for (const tensor of [...this.#kernel.inputs, ...this.#kernel.outputs]) {
      if (!(tensorBytes(tensor, sizes) <= KERNEL_TENSOR_BYTES_MAX))
        throw wrongCall(this.#kernel, `${tensor.name} has more than ${KERNEL_TENSOR_BYTES_MAX} bytes`);
    }
    return sizes;
  }

  /** In the order of the kernel's names, whoever bound them. */
  #record(): Record<string, number> {
    const sizes: Record<string, number> = {};
    for (const name of this.#names) {
      const size = this.#sizes.get(name);
      if (size !== undefined) sizes[name] = size;
    }
    return sizes;
  }
}

function sizeOf(dimension: number | string, sizes: Sizes): number {
  if (typeof dimension === "number") return dimension;
  return Object.hasOwn(sizes, dimension) ? sizes[dimension]! : NaN;
}

/** "f32 n × 256 (n is 10)" */
function shapeText({ type, shape }: Tensor, sizes: Sizes): string {
  const named = shape.filter((each) => typeof each === "string" && Object.hasOwn(sizes, each));
  const known = [...new Set(named)].map((each) => `${each} is ${sizeOf(each, sizes)}`).join(", ");
  const text = shape.length === 0 ? type : `${type} ${shape.join(" × ")}`;
  return known === "" ? text : `${text} (${known})`;
}

function wrongCall(kernel: Pick<KernelSpec, "name">, reason: string): KernelError {
  return new KernelError(KernelErrorCode.invalidCall, `${kernel.name} cannot be called so: ${reason}`, {
    kernel: kernel.name,
    reason,
  });
}
