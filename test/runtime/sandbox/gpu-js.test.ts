/** Kernels in JavaScript without a function for CPUs: GPU.js computes them in the isolate, and no packet finds what another left. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openLocal } from "../../../sdk/local.ts";
import type { PacketFS } from "../../../sdk/packetfs.ts";

let directory: string;
let pfs: PacketFS;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "pfs-gpu-js-"));
  pfs = await openLocal(join(directory, "store"));
});
afterAll(async () => {
  await pfs.close();
  await rm(directory, { recursive: true, force: true });
});

let inputs = 0;
async function run(source: string, data: ArrayBufferView, options = {}): Promise<unknown> {
  const name = `input${++inputs}`;
  await pfs.put(Buffer.from(data.buffer, data.byteOffset, data.byteLength), { name });
  const program = `import { block, defineKernel, defineProgram, f32, i32, matrix, u32 } from "packetfs"; ${source}`;
  return (await pfs.run({ source: program }, [name], options)).value;
}

const PRODUCT = `const product = defineKernel({
  kind: "js",
  inputs: { a: f32(["m", "k"]), b: f32(["k", "n"]), scale: f32() },
  output: f32(["m", "n"]),
  maxTrip: { k: 8192 },
  result: { relL2: 1e-5, abs: 1e-5 },
  source: function product(a, b, scale) {
    let sum = 0;
    for (let i = 0; i < this.constants.k; i++) sum += a[this.thread.y][i] * b[i][this.thread.x];
    return sum * scale;
  },
});`;

function numbers(length: number, seed: number): Float32Array {
  return Float32Array.from({ length }, (_, at) => Math.sin(at * seed));
}

/** In 32-bit floats, in the order of the loop. */
function productOf(a: Float32Array, b: Float32Array, [m, k, n]: readonly [number, number, number]): number[] {
  const fround = Math.fround;
  return Array.from({ length: m * n }, (_, cell) => {
    const [row, column] = [Math.floor(cell / n), cell % n];
    let sum = 0;
    for (let i = 0; i < k; i++) sum = fround(sum + fround(a[row * k + i]! * b[i * n + column]!));
    return fround(sum * 3);
  });
}

describe("a kernel in JavaScript", () => {
  it("is computed over rows of a file, of sizes that change from call to call", async () => {
    const [a, b] = [numbers(500 * 12, 0.37), numbers(12 * 7, 0.11)];
    const source = `${PRODUCT}
      const b = Float32Array.from({ length: 84 }, (_, at) => Math.sin(at * 0.11));
      export default defineProgram({
        input: matrix({ type: "f32", columns: 12, rows: 60 }),
        map(rows) {
          const all = product({ a: rows, b, scale: 3 });
          const first = product({ a: rows.slice(0, 1), b, scale: 3 }, { k: 12 });
          const narrow = product({ a: rows.values.subarray(0, 24), b: b.subarray(0, 12), scale: 3 }, { k: 12 });
          return [[...all], first.join() === all.subarray(0, 7).join(), narrow.length];
        },
      });`;
    const values = (await run(source, a, { splitBytes: 60 * 12 * 4 })) as [number[], boolean, number][];
    expect(values.flatMap(([cells]) => cells)).toEqual(productOf(a, b, [500, 12, 7]));
    expect(values.map(([, isSame, narrow]) => [isSame, narrow])).toEqual(values.map(() => [true, 2]));
  });

  it("takes and gives integers, cut off as WGSL does, and planes of three dimensions", async () => {
    const source = `
      const cells = defineKernel({
        kind: "js",
        inputs: { grid: i32(["z", "y", "x"]), limit: u32() },
        output: i32(["z", "y", "x"]),
        result: "exact",
        source: function cells(grid, limit) {
          const own = grid[this.thread.z][this.thread.y][this.thread.x];
          return own > limit ? limit - own : own * 2;
        },
      });
      export default defineProgram({ input: block(), map: () => [
        [...cells({ grid: Int32Array.from({ length: 24 }, (_, at) => at - 5), limit: 11 }, { z: 2, y: 3 })],
      ] });`;
    expect(await run(source, Uint8Array.of(1))).toEqual([
      [Array.from({ length: 24 }, (_, at) => at - 5).map((own) => (own > 11 ? 11 - own : own * 2))],
    ]);
  });

  it("fails by name where its sizes need more memory than the program has", async () => {
    const source = `
      const fill = defineKernel({ kind: "js", inputs: { value: f32() }, output: f32(["n"]), result: "exact",
        source: function fill(value) { return value; } });
      export default defineProgram({ input: block(), limits: { memoryBytes: ${32 * 1024 * 1024} }, map: () => fill({ value: 1 }, { n: 16000000 }).length });`;
    await expect(run(source, Uint8Array.of(1))).rejects.toMatchObject({ code: "PFS_PROGRAM_MEMORY_LIMIT" });
  });

  it("shows nothing of what computes it to the program, nor of one packet to the next", async () => {
    const source = `${PRODUCT}
      export default defineProgram({ input: block(1), map(block, { index }) {
        const result = product({ a: [1, 2], b: [3, index], scale: 1 }, { m: 1, k: 2 });
        const own = result.constructor === Float32Array && result instanceof Float32Array && Object.getPrototypeOf(result) === Float32Array.prototype;
        result.fill(9);
        try { product({ a: new Float32Array(2), b: new Float32Array(2), scale: 1 }, { m: 1, k: 2, n: 5 }); } catch (error) {
          return [own, error instanceof TypeError, typeof WebAssembly, [...product({ a: [1, 2], b: [3, index], scale: 1 }, { m: 1, k: 2 })]];
        }
      } });`;
    expect(await run(source, Uint8Array.of(1, 2, 3))).toEqual(
      [0, 1, 2].map((index) => [true, true, "undefined", [3 + 2 * index]]),
    );
  });
});
