/** What a call is for a GPU process: numbers, all of them checked against the kernel and against what the adapter can do. */
import { createHash } from "node:crypto";
import type { KernelCall, KernelInput } from "../contracts/kernels.ts";
import { KernelError, KernelErrorCode } from "../errors.ts";
import {
  boundSizes,
  callBytes,
  checkDimensions,
  outputPlaces,
  paddedBytes,
  uniformBytes,
  workgroupsOf,
} from "../program/kernel/binding.ts";
import type { Kernel } from "../program/kernel/kernel.ts";
import type { CheckedElements, GpuModule, ReadyMessage } from "./protocol.ts";

export interface PreparedCall {
  readonly module: GpuModule;
  readonly uniform: readonly number[];
  readonly workgroups: readonly [number, number, number];
  /** By binding, from 1 on: the tensors' indexes among inputs that are no scalars, or among outputs. */
  readonly buffers: readonly ({ readonly input: number } | { readonly output: number })[];
  /** Those that are no scalars, in the order of the bindings. */
  readonly inputs: readonly KernelInput[];
  /** Of each of them, what its elements are looked at for; undefined where they may be any. */
  readonly checks: readonly (CheckedElements | undefined)[];
  readonly outputs: readonly number[];
  /** Of all outputs, back to back. */
  readonly outputBytes: number;
  /** What it takes of the GPU's memory. */
  readonly bytes: number;
}

const modules = new WeakMap<Kernel, GpuModule>();

/** The kernel as a process compiles it: kernels that differ in what a call is made of have the same one. */
export function moduleOf(kernel: Kernel): GpuModule {
  const known = modules.get(kernel);
  if (known !== undefined) return known;
  const { wgsl, layout } = kernel;
  const made = {
    wgsl,
    entryPoint: layout.entryPoint,
    hasUniform: layout.uniform.length > 0,
    bindings: layout.bindings.map(({ input }) =>
      input === undefined ? ("write" as const) : ("read" as const),
    ),
  };
  const module = createHash("sha256").update(JSON.stringify(made)).digest("hex");
  modules.set(kernel, { module, ...made });
  return { module, ...made };
}

/** Throws PFS_KERNEL_OVER_LIMIT for what the adapter has too little for, and as binding.ts does. */
export function prepareCall(
  { kernel, dimensions, inputs, output }: KernelCall,
  limits: ReadyMessage["limits"],
): PreparedCall {
  const lengths = inputs.map((input) => ("bytes" in input ? input.bytes.byteLength : input.length));
  checkDimensions(kernel, dimensions, lengths);
  const scalars = kernel.inputs.map(({ shape }, index) => {
    const input = inputs[index];
    return shape.length === 0 && input !== undefined && "bytes" in input ? input.bytes : undefined;
  });
  const sizes = boundSizes(kernel, dimensions, scalars);
  const uniform = uniformBytes(kernel, sizes, scalars);
  const workgroups = workgroupsOf(kernel, sizes);
  const bytes = callBytes(kernel, dimensions);
  const outputs = outputPlaces(kernel, dimensions).map(({ length }) => length);
  const outputBytes = outputs.reduce((sum, length) => sum + paddedBytes(length), 0);
  if (output !== undefined && output.length !== outputBytes)
    throw new Error(`a place of ${output.length} bytes for outputs of ${outputBytes}`);
  const bound: KernelInput[] = [];
  const checks: (CheckedElements | undefined)[] = [];
  const buffers = kernel.layout.bindings.map(({ input, output: made }) => {
    if (input === undefined) return { output: made! };
    bound.push(inputs[input]!);
    const { name, type } = kernel.inputs[input]!;
    const isChecked = kernel.kind === "js" && (type !== "f32" || kernel.result === "exact");
    checks.push(isChecked && type !== "bytes" ? { name, type } : undefined);
    return { input: bound.length - 1 };
  });
  const over = (what: string, size: number, max: number): void => {
    if (size <= max) return;
    throw new KernelError(
      KernelErrorCode.overLimit,
      `a call of ${kernel.name} has ${what} of ${size}, and this GPU takes ${max}`,
      { kernel: kernel.name, bytes: size, max },
    );
  };
  for (const length of [...lengths, ...outputs])
    over("a tensor in bytes", paddedBytes(length), Math.min(limits.bindingBytes, limits.bufferBytes));
  over("tensors", buffers.length, limits.bindings);
  for (const count of workgroups) over("workgroups along an axis", count, limits.workgroups);
  return {
    module: moduleOf(kernel),
    uniform: [...new Uint32Array(uniform.buffer)],
    workgroups,
    buffers,
    inputs: bound,
    checks,
    outputs,
    outputBytes,
    bytes,
  };
}
