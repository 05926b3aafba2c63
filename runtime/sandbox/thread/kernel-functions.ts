/**
 * Kernels in JavaScript as CPUs compute them where their program has no function of its own: GPU.js makes WebAssembly of them, in
 * the isolate of the program, but in a context that nothing of it reaches. What GPU.js gets was validated and printed by the node
 * (gpujs.ts), and is what it makes WGSL of.
 */
import type IsolatedVm from "isolated-vm";
import type { GpuJsSource } from "../../program/kernel/gpujs.ts";
import type { ComputeKernel } from "../guest/compute.ts";
import { makeCompute } from "../guest/source.ts";
import { GPU_JS_FILE, gpuJsScript } from "./gpu-js.ts";

/** `sources`: by the kernels' order; null for those that are computed otherwise. Throws what evaluating GPU.js throws. */
export function openKernelFunctions(
  isolate: IsolatedVm.Isolate,
  sources: readonly (GpuJsSource | null)[],
): IsolatedVm.Reference<ComputeKernel> {
  const context = isolate.createContextSync();
  const script = isolate.compileScriptSync(gpuJsScript(String(makeCompute)), { filename: GPU_JS_FILE });
  const make = script.runSync(context, { reference: true }) as IsolatedVm.Reference<
    (sources: string) => ComputeKernel
  >;
  return make.applySync(undefined, [JSON.stringify(sources)], { result: { reference: true } }) as never;
}
