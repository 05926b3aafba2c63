/** GPU.js in this process, for tests: of sources that were validated, which is what is tested. */
import { readFileSync } from "node:fs";
import { runInThisContext } from "node:vm";
import { jsKernel } from "../../../../runtime/program/kernel/declaration.ts";
import { gpuJsSource } from "../../../../runtime/program/kernel/gpujs.ts";
import type { Kernel, KernelSpec } from "../../../../runtime/program/kernel/kernel.ts";
import { makeCompute } from "../../../../runtime/sandbox/guest/compute.ts";
import { compileKernel } from "../../../../runtime/sandbox/thread/kernel-compiler.ts";
import type { JsInput } from "./js-interpreter.ts";

const text = readFileSync(
  new URL("../../../../node_modules/gpu.js/dist/gpu-browser.min.js", import.meta.url),
  "utf8",
);
const gpuJs = runInThisContext(
  `(() => { const module = { exports: {} }; (function (module, exports, define) { ${text}\n })(module, module.exports); return module.exports; })()`,
) as Parameters<typeof makeCompute>[0];

/** The kernel with what GPU.js makes of it for WebGPU. */
export function compiledJs(spec: KernelSpec): Kernel {
  const made = compileKernel(gpuJs as never, gpuJsSource(spec));
  return jsKernel(spec, JSON.parse(JSON.stringify(made)));
}

/** What GPU.js computes on a CPU, in WebAssembly, as in isolates of programs. */
export function runWebAssembly(
  spec: KernelSpec,
  dimensions: Readonly<Record<string, number>>,
  inputs: readonly JsInput[],
): Float32Array {
  const made = gpuJsSource(spec);
  const sizesOf = (shape: readonly (string | number)[]): number[] =>
    shape.map((each) => (typeof each === "number" ? each : dimensions[each]!)).toReversed();
  const given = inputs.map((value, index) => {
    if (typeof value === "number") return value;
    const [x, y = 1, z = 1] = sizesOf(spec.inputs[index]!.shape);
    return [value.slice().buffer, x!, y, z] as const;
  });
  const compute = makeCompute(gpuJs, JSON.stringify([made]));
  const sizes = made.dimensions.map((name) => dimensions[name]!);
  return new Float32Array(compute(0, sizesOf(spec.outputs[0]!.shape), [...given, ...sizes]));
}
