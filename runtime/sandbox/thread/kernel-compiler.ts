/**
 * GPU.js in an isolate of its own: it makes WGSL of kernels in JavaScript. What it gets was validated and printed again by the
 * node (gpujs.ts); it is in an isolate all the same, for it was written to run functions, not to be given strangers' ones.
 */
import type IsolatedVm from "isolated-vm";
import { messageOf } from "../../../packets/errors.ts";
import { KERNEL_COMPILER_BYTES } from "../../limits.ts";
import type { GpuJsModule, GpuJsSource } from "../../program/kernel/gpujs.ts";
import { GPU_JS_FILE, gpuJsScript } from "./gpu-js.ts";
import { LoadFailure } from "./guest-isolate.ts";
import { ivm } from "./isolated-vm.ts";

const MIB = 1024 * 1024;

/** JSON text of an array of GpuJsModule for that of one of GpuJsSource. Throws LoadFailure. */
export function compileKernels(sources: string): string {
  const isolate = new ivm.Isolate({ memoryLimit: KERNEL_COMPILER_BYTES / MIB });
  try {
    const context = isolate.createContextSync();
    const script = isolate.compileScriptSync(gpuJsScript(COMPILE), { filename: GPU_JS_FILE });
    const compile: IsolatedVm.Reference<(sources: string) => string> = script.runSync(context, {
      reference: true,
    });
    return compile.applySync(undefined, [sources]);
  } catch (error) {
    if (isolate.isDisposed)
      throw new LoadFailure("its kernels need more memory to compile than there is for it");
    throw new LoadFailure(`GPU.js does not compile its kernels: ${messageOf(error).slice(0, 1024)}`);
  } finally {
    if (!isolate.isDisposed) isolate.dispose();
  }
}

/** What of GPU.js is used. */
interface GpuJs {
  readonly input: (value: Float32Array, size: readonly number[]) => unknown;
  readonly WebGPUKernel: new (source: string, settings: object) => WebGpuKernel;
}

interface WebGpuKernel {
  threadDim: readonly number[];
  paramsLayout: GpuJsModule["params"];
  readonly workgroupSize: readonly number[];
  setupConstants(): void;
  setupArguments(values: readonly unknown[]): void;
  validateSettings(values: readonly unknown[]): void;
  translateSource(): void;
  computeParamsLayout(): GpuJsModule["params"];
  assembleWGSL(): string;
}

/** The part of GPU.js's build that needs no device. Its text is carried into the isolate. */
export function compileKernel(gpuJs: GpuJs, { source, argumentTypes, rank }: GpuJsSource): GpuJsModule {
  const settings = { output: Array.from({ length: rank }, () => 1), argumentTypes, dynamicOutput: true };
  const kernel = new gpuJs.WebGPUKernel(source, settings);
  // Of any size: sizes come with each call.
  const values = argumentTypes.map((type) =>
    type === "Input" ? gpuJs.input(new Float32Array(1), [1, 1, 1]) : 1,
  );
  kernel.setupConstants();
  kernel.setupArguments(values);
  kernel.validateSettings(values);
  kernel.threadDim = [1, 1, 1];
  kernel.translateSource();
  kernel.paramsLayout = kernel.computeParamsLayout();
  const wgsl = kernel.assembleWGSL();
  return { wgsl, params: kernel.paramsLayout, workgroupSize: kernel.workgroupSize };
}

const COMPILE = `(gpuJs, sources) => {
  const compile = ${String(compileKernel)};
  return JSON.stringify(JSON.parse(sources).map((source) => compile(gpuJs, source)));
}`;
