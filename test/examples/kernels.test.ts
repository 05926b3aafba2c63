/** Each example with a kernel, on each engine that there is, over inputs small enough to be checked against a plain computation. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { inflateSync, crc32 } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { openLocal } from "../../sdk/local.ts";
import type { Engine, JobResult, PacketFS } from "../../sdk/packetfs.ts";
import { bundleProgram } from "../../sdk/programs/bundle.ts";
import { checkTypes } from "../../sdk/programs/type-check.ts";
import { noGpu } from "../suites/gpu.ts";

const EXAMPLES = fileURLToPath(new URL("../../examples/kernels/", import.meta.url));
const ENGINES: readonly Engine[] = ["cpu", "gpu"];

let directory: string;
let pfs: PacketFS;
beforeAll(async () => {
  vi.stubEnv("PACKETFS_GPU_SOFTWARE", "1");
  directory = await mkdtemp(join(tmpdir(), "pfs-kernels-"));
  pfs = await openLocal(join(directory, "store"));
});
afterAll(async () => {
  await pfs.close();
  await rm(directory, { recursive: true, force: true });
});

interface Inputs {
  readonly input: ArrayBufferView | string;
  readonly files?: Readonly<Record<string, ArrayBufferView>>;
}

async function run(example: string, { input, files = {} }: Inputs, engine: Engine): Promise<JobResult> {
  await pfs.put(bytesOf(input), { name: example });
  for (const [name, bytes] of Object.entries(files)) await pfs.put(bytesOf(bytes), { name });
  const named = Object.fromEntries(Object.keys(files).map((name) => [name, name]));
  const result = await pfs.run({ path: join(EXAMPLES, example) }, [example], { engine, files: named });
  const { kernels = [] } = result.statistics;
  expect(new Set(kernels.map((kernel) => kernel.engine))).toEqual(new Set([engine]));
  return result;
}

function bytesOf(value: ArrayBufferView | string): Uint8Array {
  if (typeof value === "string") return Buffer.from(value);
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}

async function outputOf({ file }: JobResult): Promise<Uint8Array<ArrayBuffer>> {
  const pieces: Uint8Array[] = [];
  for await (const piece of pfs.get(file!.root)) pieces.push(piece);
  return Uint8Array.from(Buffer.concat(pieces));
}

/** Between -0.5 and 0.5, the same in every run (Lehmer). */
function floats(length: number, seed: number): Float32Array {
  let state = seed;
  return Float32Array.from({ length }, () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647 - 0.5;
  });
}

describe("examples with kernels", () => {
  it("are short, and say how to run them", () => {
    for (const name of readdirSync(EXAMPLES).filter((file) => /(?<!\.d)\.(ts|wgsl|c)$/.test(file))) {
      const text = readFileSync(join(EXAMPLES, name), "utf8");
      expect({ name, short: text.split("\n").length <= 100 }).toEqual({ name, short: true });
      if (!text.includes("defineProgram({")) continue;
      expect(text).toContain('from "packetfs"');
      expect(text.slice(0, 1000)).toContain(`pfs run examples/kernels/${name}`);
    }
  });
});

describe("the README's example", () => {
  it("is right in its types, and gives the best score", async () => {
    const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
    const [, source = ""] = /```ts\n(\/\/ best-score\.ts\n.*?)```/s.exec(readme) ?? [];
    const path = join(directory, "best-score.ts");
    writeFileSync(path, source);
    const bundle = await bundleProgram({ path });
    expect(await checkTypes(path, bundle, { cache: join(directory, "types") })).toBe(undefined);
    const [vectors, queries] = [floats(9000 * 256, 7), floats(3 * 256, 8)];
    await pfs.put(bytesOf(vectors), { name: "vectors" });
    await pfs.put(bytesOf(queries), { name: "queries" });
    const options = { engine: "cpu", files: { queries: "queries" } } as const;
    const { value } = await pfs.run(bundle, ["vectors"], options);
    let best = -Infinity;
    for (let query = 0; query < 3; query++) {
      for (let row = 0; row < 9000; row++) {
        let sum = 0;
        for (let at = 0; at < 256; at++) sum += vectors[row * 256 + at]! * queries[query * 256 + at]!;
        best = Math.max(best, sum);
      }
    }
    expect(value).toBeCloseTo(best, 4);
  });
});

describe.each(ENGINES.filter((engine) => engine === "cpu" || noGpu === undefined))("on the %s", (engine) => {
  it("search finds the vectors that are most like each query", async () => {
    // More than a record; a CPU that imitates a GPU takes its time.
    const [width, rows, asked] = [256, engine === "cpu" ? 20_000 : 2500, 5];
    const vectors = floats(rows * width, 1);
    const queries = floats(asked * width, 2);
    // Two rows that are the same, and the best of all for the first query: the first of them stands in front.
    const [first, second] = [rows - 900, rows - 1];
    for (const row of [second, first]) vectors.set(queries.subarray(0, width), row * width);
    const { value } = await run("search.ts", { input: vectors, files: { queries } }, engine);
    const found = value as { row: number; score: number }[][];
    expect(found).toHaveLength(asked);
    for (const [query, matches] of found.entries()) {
      const scores = Array.from({ length: rows }, (_, row) => {
        let sum = 0;
        for (let at = 0; at < width; at++) sum += vectors[row * width + at]! * queries[query * width + at]!;
        return { row, score: sum };
      }).toSorted((a, b) => b.score - a.score || a.row - b.row);
      expect(matches.map(({ row }) => row)).toEqual(scores.slice(0, 10).map(({ row }) => row));
      for (const [place, { score }] of matches.entries()) expect(score).toBeCloseTo(scores[place]!.score, 4);
    }
    expect(found[0]!.slice(0, 2).map(({ row }) => row)).toEqual([first, second]);
  });

  it("matmul multiplies matrices, also those that are no multiple of its tiles", async () => {
    const [m, k, n] = [engine === "cpu" ? 600 : 70, 4096, 83];
    const a = floats(m * k, 3);
    const b = floats(k * n, 4);
    const product = new Float32Array(
      (await outputOf(await run("matmul.ts", { input: a, files: { b } }, engine))).buffer,
    );
    expect(product).toHaveLength(m * n);
    for (let at = 0; at < m * n; at += 7) {
      const [row, column] = [Math.floor(at / n), at % n];
      let sum = 0;
      for (let i = 0; i < k; i++) sum += a[row * k + i]! * b[i * n + column]!;
      expect(Math.abs(product[at]! - sum)).toBeLessThan(1e-3);
    }
  });

  it("convolution blurs frames, up to their borders", async () => {
    // Of a file that ends within a frame, the last one is less high.
    const [width, around] = [1920, 7];
    const [height, frames] = engine === "cpu" ? [1080, 2] : [90, 1];
    const input = floats(width * height * frames, 5);
    const blurred = new Float32Array((await outputOf(await run("convolution.ts", { input }, engine))).buffer);
    expect(blurred).toHaveLength(input.length);
    const weight = (x: number, y: number): number => Math.exp(-(x * x + y * y) / 12.5);
    let whole = 0;
    for (let y = -around; y <= around; y++) for (let x = -around; x <= around; x++) whole += weight(x, y);
    const inside = (at: number, length: number): number => Math.min(Math.max(at, 0), length - 1);
    const corners = [0, width - 1, (height - 1) * width, width * height - 1, width * height * (frames - 1)];
    for (const at of [
      ...corners,
      ...Array.from({ length: 500 }, (_, index) => (index * 8_287) % input.length),
    ]) {
      const [frame, row, column] = [
        Math.floor(at / width / height),
        Math.floor(at / width) % height,
        at % width,
      ];
      let sum = 0;
      for (let y = -around; y <= around; y++)
        for (let x = -around; x <= around; x++)
          sum +=
            (weight(x, y) / whole) *
            input[(frame * height + inside(row + y, height)) * width + inside(column + x, width)]!;
      expect(Math.abs(blurred[at]! - sum)).toBeLessThan(1e-4);
    }
  });

  it("mandelbrot gives pictures", async () => {
    const views = [
      { x: -0.65, y: 0, scale: 2.4, steps: 200, width: 120, height: 90 },
      { x: 0, y: 0, scale: 8, steps: 10, width: 7, height: 5 },
    ];
    const input = views.map((view) => `${JSON.stringify(view)}\n`).join("");
    let left = await outputOf(await run("mandelbrot.ts", { input }, engine));
    for (const { x, y, scale, steps, width, height } of views) {
      const picture = readPng(left);
      expect([picture.width, picture.height]).toEqual([width, height]);
      left = picture.rest;
      let differing = 0;
      for (let at = 0; at < width * height; at++) {
        const real = x + ((at % width) - width / 2) * (scale / height);
        const imaginary = y - (Math.floor(at / width) - height / 2) * (scale / height);
        const taken = stepsToLeave(real, imaginary, steps);
        const grey = taken === steps ? 0 : Math.floor(1 + 254 * Math.sqrt(taken / steps));
        if (Math.abs(picture.points[at]! - grey) > 1) differing++;
      }
      // Floats of 32 bits leave a little sooner or later, at the border of the set.
      expect(differing).toBeLessThan(0.005 * width * height);
      expect(new Set(picture.points).size).toBeGreaterThan(2);
    }
    expect(left).toHaveLength(0);
  });

  it("histogram counts every byte", async () => {
    const input = new Uint8Array(17 * 1024 * 1024 + 3);
    let state = 6;
    for (let at = 0; at < input.length; at++) {
      state = (state * 48_271) % 2_147_483_647;
      input[at] = state & (state >> 8);
    }
    const counts = Array<number>(256).fill(0);
    for (const byte of input) counts[byte]!++;
    expect((await run("histogram.ts", { input }, engine)).value).toEqual(counts);
  });
});

function stepsToLeave(x: number, y: number, steps: number): number {
  let [real, imaginary] = [0, 0];
  for (let taken = 0; taken < steps; taken++) {
    if (real * real + imaginary * imaginary > 4) return taken;
    [real, imaginary] = [real * real - imaginary * imaginary + x, 2 * real * imaginary + y];
  }
  return steps;
}

/** The first picture of these bytes, of one byte for each point, and what stands behind it. */
function readPng(bytes: Uint8Array<ArrayBuffer>): {
  width: number;
  height: number;
  points: Uint8Array;
  rest: Uint8Array<ArrayBuffer>;
} {
  expect(Buffer.from(bytes.subarray(0, 8)).toString("latin1")).toBe("\x89PNG\r\n\x1a\n");
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const data: Uint8Array[] = [];
  let [width, height] = [0, 0];
  for (let at = 8; ;) {
    const length = view.getUint32(at);
    const body = bytes.subarray(at + 4, at + 8 + length);
    expect(view.getUint32(at + 8 + length)).toBe(crc32(body));
    const type = Buffer.from(body.subarray(0, 4)).toString();
    if (type === "IHDR") [width, height] = [view.getUint32(at + 8), view.getUint32(at + 12)];
    if (type === "IDAT") data.push(body.subarray(4));
    at += 12 + length;
    if (type !== "IEND") continue;
    // Inflating checks its Adler-32.
    const rows = inflateSync(Buffer.concat(data));
    expect(rows).toHaveLength((width + 1) * height);
    const points = rows.filter((_, index) => index % (width + 1) > 0);
    return { width, height, points, rest: bytes.subarray(at) };
  }
}
