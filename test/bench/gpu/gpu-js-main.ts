/**
 * A product of matrices as GPU.js computes it with its own runner, in a process of its own, since a GPU's driver comes with it.
 *
 *   node gpu-js-main.ts SIZE ROUNDS A.f32 B.f32 PRODUCT.f32    # prints the milliseconds of each round, as JSON
 */
import { readFileSync, writeFileSync } from "node:fs";
import { create, globals } from "webgpu";

interface GpuJs {
  readonly input: (values: Float32Array, size: readonly number[]) => object;
  readonly GPU: new (options: { readonly mode: string }) => {
    createKernel(
      source: string,
      options: { readonly output: readonly number[]; readonly loopMaxIterations: number },
    ): (...inputs: readonly object[]) => Promise<readonly Float32Array[]>;
  };
}

const [size, rounds] = process.argv.slice(2, 4).map(Number) as [number, number];
const [a = "", b = "", product = ""] = process.argv.slice(4);
const floats = (path: string): Float32Array => new Float32Array(Uint8Array.from(readFileSync(path)).buffer);

Object.assign(globalThis, globals);
Object.defineProperty(globalThis, "navigator", { value: { gpu: create([]) }, configurable: true });
const { GPU, input } = (await import("gpu.js")) as unknown as GpuJs;
const kernel = new GPU({ mode: "webgpu" }).createKernel(
  `function multiply(a, b) {
    let sum = 0;
    for (let i = 0; i < ${size}; i++) sum += a[this.thread.y][i] * b[i][this.thread.x];
    return sum;
  }`,
  { output: [size, size], loopMaxIterations: size },
);
const [left, right] = [floats(a), floats(b)];
const milliseconds: number[] = [];
let rows: readonly Float32Array[] = [];
for (let round = 0; round <= rounds; round++) {
  const start = performance.now();
  rows = await kernel(input(left, [size, size]), input(right, [size, size]));
  // The first one compiles.
  if (round > 0) milliseconds.push(performance.now() - start);
}
writeFileSync(
  product,
  Buffer.concat(rows.map((row) => new Uint8Array(row.buffer, row.byteOffset, row.byteLength))),
);
console.log(JSON.stringify(milliseconds));
// A GPU's driver may keep the process.
process.exit(0);
