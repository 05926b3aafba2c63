/**
 * What a call of a kernel is made of once its dimensions are bound: bytes of tensors, the uniform buffer, workgroups. Whoever makes
 * a call binds them (sandbox/guest/kernel-inputs.ts), and is not believed: they are checked here. Pure.
 */
import { KernelError, KernelErrorCode } from "../../errors.ts";
import { KERNEL_DIMENSION_MAX, KERNEL_TENSOR_BYTES_MAX, KERNEL_WHOLE_MAX } from "../../limits.ts";
import type { Kernel, KernelSpec, Tensor } from "./kernel.ts";
import { evaluateSize } from "./sizes.ts";
import type { Sizes } from "./sizes.ts";

/** Where an output stands among all of a call's, which are back to back, each at a multiple of four bytes. */
export interface OutputPlace {
  readonly offset: number;
  readonly length: number;
}

/**
 * Throws PFS_KERNEL_CALL_INVALID {kernel, reason} unless `dimensions` are the kernel's and no others, each possible and at most its
 * `maxTrip`, and inputs of so many bytes are of those sizes.
 */
export function checkDimensions(kernel: KernelSpec, dimensions: Sizes, lengths: readonly number[]): void {
  const { name, inputs, outputs } = kernel;
  if (lengths.length !== inputs.length)
    throw wrongCall(kernel, `it takes ${inputs.length} inputs, not ${lengths.length}`);
  const names = dimensionNames(kernel);
  const unknown = Object.keys(dimensions).find((each) => !names.includes(each));
  if (unknown !== undefined)
    throw wrongCall(kernel, `it has no dimension ${JSON.stringify(unknown.slice(0, 64))}`);
  const most = kernel.kind === "js" ? KERNEL_WHOLE_MAX : KERNEL_DIMENSION_MAX;
  for (const dimension of names) {
    if (!Object.hasOwn(dimensions, dimension))
      throw wrongCall(kernel, `nothing says what ${dimension} is: give it with the call`);
    const size = dimensions[dimension]!;
    if (!Number.isSafeInteger(size) || size < 1 || size > most)
      throw wrongCall(kernel, `${dimension} is ${size}, and a dimension is a whole number from 1 to ${most}`);
    const trips = maxTripOf(kernel, dimension);
    if (trips !== undefined && size > trips)
      throw wrongCall(kernel, `${dimension} is ${size}, and its maxTrip is ${trips}`);
  }
  for (const [index, tensor] of inputs.entries()) {
    const [length, expected] = [lengths[index]!, tensorBytes(tensor, dimensions)];
    if (length !== expected)
      throw wrongCall(
        kernel,
        `${tensor.name} has ${length} bytes, and ${expected} are ${shapeText(tensor, dimensions)} in ${name}`,
      );
  }
  for (const tensor of [...inputs, ...outputs]) {
    if (!(tensorBytes(tensor, dimensions) <= KERNEL_TENSOR_BYTES_MAX))
      throw wrongCall(kernel, `${tensor.name} has more than ${KERNEL_TENSOR_BYTES_MAX} bytes`);
  }
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
function maxTripOf({ maxTrip }: Pick<KernelSpec, "maxTrip">, name: string): number | undefined {
  return Object.hasOwn(maxTrip, name) ? maxTrip[name] : undefined;
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

/** A call that does not fit its kernel. */
export function wrongCall(kernel: Pick<KernelSpec, "name">, reason: string): KernelError {
  return new KernelError(KernelErrorCode.invalidCall, `${kernel.name} cannot be called so: ${reason}`, {
    kernel: kernel.name,
    reason,
  });
}
