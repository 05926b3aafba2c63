/** GPU.js in this process, for tests: of sources that were validated, which is what is tested. */
import { readFileSync } from "node:fs";
import { runInThisContext } from "node:vm";
import { dimensionNames } from "../../../../runtime/program/kernel/binding.ts";
import { jsKernel } from "../../../../runtime/program/kernel/declaration.ts";
import { gpuJsSource } from "../../../../runtime/program/kernel/gpujs.ts";
import type { GpuJsSource } from "../../../../runtime/program/kernel/gpujs.ts";
import type { Kernel, KernelSpec } from "../../../../runtime/program/kernel/kernel.ts";
import { compileKernel } from "../../../../runtime/sandbox/thread/kernel-compiler.ts";
import type { JsInput } from "./js-interpreter.ts";

interface GpuJs {
  new (settings: { readonly mode: string }): {
    createKernel(source: string, settings: object): (...inputs: readonly unknown[]) => unknown;
    destroy(): Promise<void>;
  };
  readonly input: (value: Float32Array, size: readonly number[]) => unknown;
}

const text = readFileSync(
  new URL("../../../../node_modules/gpu.js/dist/gpu-browser.min.js", import.meta.url),
  "utf8",
);
const gpuJs = runInThisContext(
  `(() => { const module = { exports: {} }; (function (module, exports, define) { ${text}\n })(module, module.exports); return module.exports; })()`,
) as GpuJs;

/** The kernel with what GPU.js makes of it for WebGPU. */
export function compiledJs(spec: KernelSpec): Kernel {
  const made = compileKernel(gpuJs as never, gpuJsSource(spec));
  return jsKernel(spec, JSON.parse(JSON.stringify(made)));
}

/** What GPU.js computes on a CPU, in WebAssembly. */
export function runWebAssembly(
  spec: KernelSpec,
  dimensions: Readonly<Record<string, number>>,
  inputs: readonly JsInput[],
): Float32Array {
  const made: GpuJsSource = gpuJsSource(spec);
  const sizeOf = (each: string | number): number => (typeof each === "number" ? each : dimensions[each]!);
  const output = spec.outputs[0]!.shape.map(sizeOf).toReversed();
  const gpu = new gpuJs({ mode: "webasm" });
  const kernel = gpu.createKernel(made.source, { output, argumentTypes: made.argumentTypes });
  const given = inputs.map((value, index) => {
    if (typeof value === "number") return value;
    const [x, y = 1, z = 1] = spec.inputs[index]!.shape.map(sizeOf).toReversed();
    return gpuJs.input(value, [x!, y, z]);
  });
  const sizes = made.dimensions.map((name) => dimensions[name]!);
  return flat(kernel(...given, ...sizes));
}

function flat(result: unknown): Float32Array {
  if (result instanceof Float32Array) return result;
  return Float32Array.from((result as readonly unknown[]).flatMap((each) => [...flat(each)]));
}

export function sizesOf(spec: KernelSpec, dimensions: Readonly<Record<string, number>>): number[] {
  return dimensionNames(spec).map((name) => dimensions[name]!);
}
