/**
 * Kernels in JavaScript that GPU.js computes: it makes WebAssembly of each, with SIMD, for the sizes of a call. In a context of its
 * isolate that nothing of the program's reaches.
 */
import type { GpuJsSource } from "../../program/kernel/gpujs.ts";

/** A tensor's elements as 32-bit floats, and its sizes along x, y and z. */
export type TensorArgument = readonly [buffer: ArrayBuffer, x: number, y: number, z: number];

/**
 * Computes the kernel of that index: its output's sizes along x, y and z, as many as it has dimensions; its inputs, and the sizes of
 * dimensions that its source names. Gives the output as 32-bit floats.
 */
export type ComputeKernel = (
  index: number,
  output: readonly number[],
  inputs: readonly (number | TensorArgument)[],
) => ArrayBuffer;

/** What of GPU.js is used. */
interface GpuJs {
  readonly input: (value: Float32Array, size: readonly number[]) => object;
  readonly WebAssemblyKernel: new (source: string, settings: object) => WebAssemblyKernel;
}

interface WebAssemblyKernel {
  /** Sizes of one signature that it keeps a module and its memory for. */
  moduleCacheLimit: number;
  /** Gives the result of a call a shape. */
  _shapeOutput: (data: Float32Array<ArrayBuffer>) => Float32Array<ArrayBuffer>;
  setOutput(sizes: readonly number[]): void;
  run(...values: readonly unknown[]): Float32Array<ArrayBuffer>;
}

export function makeCompute(gpuJs: GpuJs, sourcesText: string): ComputeKernel {
  const sources = JSON.parse(sourcesText) as readonly (GpuJsSource | null)[];
  const kernels: (WebAssemblyKernel | undefined)[] = [];
  /** V8 does not count the memory of WebAssembly as the isolate's: buffers of its size, which nothing touches, stand in for it. */
  const counted: (ArrayBuffer | undefined)[] = [];
  const OVERHEAD_BYTES = 1 << 20;

  function kernelOf(index: number, output: readonly number[]): WebAssemblyKernel {
    const known = kernels[index];
    if (known !== undefined) return known;
    const { source, argumentTypes } = sources[index]!;
    const kernel = new gpuJs.WebAssemblyKernel(source, {
      output,
      argumentTypes,
      dynamicOutput: true,
      dynamicArguments: true,
    });
    kernel.moduleCacheLimit = 1;
    kernel._shapeOutput = (data) => data;
    kernels[index] = kernel;
    return kernel;
  }

  function valueOf(argument: number | TensorArgument): unknown {
    if (typeof argument === "number") return argument;
    const [buffer, x, y, z] = argument;
    return gpuJs.input(new Float32Array(buffer), [x, y, z]);
  }

  return (index, outputSizes, given) => {
    const output: number[] = [];
    let cells = 1;
    for (let at = 0; at < outputSizes.length; at++) cells *= output[at] = outputSizes[at]!;
    let bytes = OVERHEAD_BYTES + cells * 4;
    const values: unknown[] = [];
    for (let at = 0; at < given.length; at++) {
      const argument = given[at]!;
      if (typeof argument !== "number") bytes += argument[0].byteLength;
      values[at] = valueOf(argument);
    }
    if (counted[index]?.byteLength !== bytes) {
      counted[index] = undefined;
      counted[index] = new ArrayBuffer(bytes);
    }
    const kernel = kernelOf(index, output);
    kernel.setOutput(output);
    return kernel.run(...values).buffer;
  };
}
