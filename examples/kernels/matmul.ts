/**
 * The product of two stored matrices, as a file: a of any number of rows and 4,096 columns, b of 4,096 rows and any number of
 * columns, both of floats, row by row.
 *
 *   pfs put a.f32 b.f32      # float32, little-endian, nothing between
 *   pfs run examples/kernels/matmul.ts a.f32 --with b=b.f32 --out product.f32
 *
 * Rows of the product follow from as many rows of a, and all of b, which is sent to a GPU once for all of them.
 */
import { defineKernel, defineProgram, f32, matrix } from "packetfs";
import wasm from "./matmul.wasm";
import source from "./matmul.wgsl";

const COLUMNS = 4096;
/** Of a, at a time: for more of them b is read less often, for fewer there is sooner something for everybody to do. */
const ROWS = 256;

const multiply = defineKernel({
  name: "multiply",
  kind: "wgsl",
  inputs: { a: f32(["m", "k"]), b: f32(["k", "n"]) },
  output: f32(["m", "n"]),
  operations: "2 * m * n * k",
  result: { relL2: 1e-5, abs: 1e-3 },
  workgroup: { size: [16, 16], count: ["n / 64", "m / 64"] },
  source,
  cpu: ({ a, b }, { k }) => new Float32Array(wasm.bytes("multiply", a, b, k)!.buffer),
});

export default defineProgram({
  input: matrix({ type: "f32", columns: COLUMNS, rows: ROWS }),
  yields: "bytes",
  limits: { timeMs: 120_000, memoryBytes: 512 * 1024 ** 2 },
  map: (a, { files: { b } }) => new Uint8Array(multiply({ a, b: b! }).buffer),
});
