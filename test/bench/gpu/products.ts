/**
 * One kernel, a product of matrices, by who makes WGSL of it and who runs that: GPU.js does both, GPU.js's WGSL is run by the accelerator, and
 * so is what was written by hand. Each call brings its product back.
 */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { refFromHex } from "../../../packets/digest.ts";
import type { Accelerator, KernelAnswer, KernelInput } from "../../../runtime/contracts/kernels.ts";
import type { Machine } from "../../../runtime/machine.ts";
import { spreadOf } from "../harness.ts";
import type { Findings, Goal, Table } from "./report.ts";
import type { StoredFiles } from "./stored-files.ts";
import type { File } from "./workloads.ts";
import { floatsApart, randomFloats } from "./workloads.ts";

const TILES: string = fileURLToPath(new URL("../../../examples/kernels/matmul.wgsl", import.meta.url));
const GPU_JS: string = fileURLToPath(new URL("gpu-js-main.ts", import.meta.url));
const SIZE_MAX = 1024;
const APART_MAX = 1e-5;

export interface ProductsOptions {
  readonly machine: Machine;
  readonly accelerator: Accelerator | undefined;
  readonly stored: StoredFiles;
  readonly directory: string;
  readonly rounds: number;
  /** Of the size that the goals are about. */
  readonly part: number;
}

/** A program of kernels that each multiply, in another way. Nothing runs but calls of them. */
const PROGRAM = `import { block, defineKernel, defineProgram, f32 } from "packetfs";

const common = {
  inputs: { a: f32(["m", "k"]), b: f32(["k", "n"]) },
  output: f32(["m", "n"]),
  maxTrip: { k: 4096 },
  operations: "2 * m * n * k",
  result: { relL2: 1e-5, abs: 1e-3 },
};
const wgsl = { ...common, kind: "wgsl", cpu: () => new Float32Array() };

defineKernel({
  ...common,
  name: "in JavaScript",
  kind: "js",
  source(a, b) {
    let sum = 0;
    for (let i = 0; i < this.constants.k; i++) sum += a[this.thread.y][i] * b[i][this.thread.x];
    return sum;
  },
});

defineKernel({
  ...wgsl,
  name: "the same in WGSL",
  workgroup: { size: [16, 16], count: ["n / 16", "m / 16"] },
  source: \`fn main(@builtin(global_invocation_id) at: vec3u) {
    if (at.x >= dims.n || at.y >= dims.m) { return; }
    var sum = 0.0;
    for (var i = 0u; i < dims.k; i++) { sum += a[at.y * dims.k + i] * b[i * dims.n + at.x]; }
    output[at.y * dims.n + at.x] = sum;
  }\`,
});

defineKernel({
  ...wgsl,
  name: "in WGSL, by tiles",
  workgroup: { size: [16, 16], count: ["n / 64", "m / 64"] },
  source: ${JSON.stringify(readFileSync(TILES, "utf8"))},
});

export default defineProgram({ input: block(), map: () => undefined });
`;

interface Factors {
  readonly size: number;
  readonly a: File;
  readonly b: File;
}

function factors(part: number): Factors {
  const size = Math.max(64, Math.round(SIZE_MAX * Math.cbrt(part)));
  const [a, b] = [randomFloats("left.f32", size * size, 7), randomFloats("right.f32", size * size, 8)];
  return { size, a, b };
}

/** Stores what `runProducts` asks for. */
export async function storeProducts(stored: StoredFiles, part: number): Promise<void> {
  const { a, b } = factors(part);
  for (const file of [a, b]) await stored.rootOf(file);
  await stored.codeOf({ source: PROGRAM });
}

export async function runProducts(options: ProductsOptions): Promise<Findings> {
  const { machine, accelerator, stored, directory, rounds, part } = options;
  const { size, a, b } = factors(part);
  const operations = 2 * size ** 3;
  const rows: Table["rows"][number][] = [];
  const wrong: string[] = [];
  /** Milliseconds of each, by its name. */
  const kernelMs = new Map<string, number>();
  const residentMs = new Map<string, number>();
  let gpuJsMs: number | undefined;
  if (accelerator !== undefined) {
    const paths = [a, b].map((file) => {
      const path = join(directory, file.name);
      file.write(path);
      return path;
    });
    const product = join(directory, "product.f32");
    const words = [GPU_JS, String(size), String(rounds), ...paths, product];
    const { stdout } = await promisify(execFile)(process.execPath, words);
    gpuJsMs = spreadOf(JSON.parse(stdout) as number[]).median;
    rows.push(["GPU.js alone", gpuJsMs, undefined, undefined, operations / gpuJsMs / 1e6]);
    const expected = Uint8Array.from(readFileSync(product));
    const { kernels = [] } = await machine.inspect(refFromHex(await stored.codeOf({ source: PROGRAM }))!);
    const sent = paths.map((path) => ({ bytes: Uint8Array.from(readFileSync(path)) }));
    const ranges: KernelInput[] = [];
    for (const file of [a, b])
      ranges.push({ root: refFromHex(await stored.rootOf(file))!, from: 0, length: file.bytes });
    const dimensions = { m: size, k: size, n: size };
    for (const kernel of kernels) {
      const call = async (inputs: readonly KernelInput[]): Promise<KernelAnswer> =>
        await accelerator.run({ kernel, dimensions, inputs }, new AbortController().signal);
      const { outputs } = await call(ranges);
      const apart = floatsApart(expected, Uint8Array.from(outputs!));
      if (!(apart <= APART_MAX))
        wrong.push(`${kernel.name}: its product is ${apart} apart from that of GPU.js`);
      const fresh: KernelAnswer[] = [];
      const resident: KernelAnswer[] = [];
      for (let round = 0; round < rounds; round++) {
        fresh.push(await call(sent));
        resident.push(await call(ranges));
      }
      const total = spreadOf(resident.map(({ times }) => times.totalMs)).median;
      const alone = spreadOf(resident.map(({ times }) => times.kernelMs)).median;
      residentMs.set(kernel.name, total);
      kernelMs.set(kernel.name, alone);
      rows.push([
        kernel.name,
        spreadOf(fresh.map(({ times }) => times.totalMs)).median,
        total,
        alone,
        operations / total / 1e6,
        operations / alone / 1e6,
      ]);
    }
  }
  const ratio = (over: number | undefined, under: number | undefined): number | undefined =>
    over === undefined || under === undefined ? undefined : over / under;
  const goals: readonly Goal[] = [
    {
      goal: "a kernel in JavaScript, against the same one written in WGSL",
      unit: "×",
      least: 0.5,
      figure: ratio(kernelMs.get("the same in WGSL"), kernelMs.get("in JavaScript")),
    },
    {
      goal: "a kernel in JavaScript, its inputs resident, against GPU.js's own runner",
      unit: "×",
      least: 5,
      figure: ratio(gpuJsMs, residentMs.get("in JavaScript")),
    },
  ];
  const columns = [
    "kernel",
    "inputs sent, ms",
    "resident, ms",
    "kernel alone, ms",
    "call, Gop/s",
    "kernel, Gop/s",
  ];
  return {
    tables: [{ title: `A product of two matrices of ${size} × ${size}`, columns, rows }],
    goals,
    wrong,
  };
}
