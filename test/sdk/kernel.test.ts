/** Kernels of programs, from what an author writes to a job's value. What the compiler infers is half of the test. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, expectTypeOf, it } from "vitest";
import { openLocal } from "../../sdk/local.ts";
import type { PacketFS } from "../../sdk/packetfs.ts";
import { bundleProgram } from "../../sdk/programs/bundle.ts";
import { startExecutor } from "../runtime/sandbox/harness.ts";
import { block, bytes, columns, defineKernel, f32, i32, matrix, u32 } from "../../sdk/program.ts";
import type { Block, Matrix, RowBlock } from "../../sdk/program.ts";

let directory: string;
let pfs: PacketFS;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "pfs-kernel-"));
  pfs = await openLocal(join(directory, "store"));
});
afterAll(async () => {
  await pfs.close();
  await rm(directory, { recursive: true, force: true });
});

const ROWS = 5000;
const COLUMNS = 3;
const NUMBERS = Float32Array.from({ length: ROWS * COLUMNS }, (_, index) => (index * 7919) % 1000);
const SUMS = Array.from(
  { length: ROWS },
  (_, row) => NUMBERS[row * 3]! + NUMBERS[row * 3 + 1]! + NUMBERS[row * 3 + 2]!,
);

const SUM_ROWS = `
  const sumRows = defineKernel({
    kind: "js",
    inputs: { rows: f32(["n", ${COLUMNS}]), weight: f32() },
    output: f32(["n"]),
    result: { relL2: 1e-6, abs: 1e-3 },
    source(rows, weight) {
      return (rows[this.thread.x][0] + rows[this.thread.x][1] + rows[this.thread.x][2]) * weight;
    },
    cpu: ({ rows, weight }, { n }) =>
      Float32Array.from({ length: n }, (_, row) =>
        (rows[row * 3] + rows[row * 3 + 1] + rows[row * 3 + 2]) * weight),
  });`;

function program(kernel: string, rest: string): { readonly source: string } {
  return {
    source: `import { block, bytes, columns, defineKernel, defineProgram, f32, i32, matrix, u32 } from "packetfs";
      ${kernel}
      export default defineProgram({ ${rest} });`,
  };
}

let inputs = 0;
async function run(
  source: { readonly source: string },
  data: ArrayBufferView,
  options = {},
): Promise<unknown> {
  const name = `input${++inputs}`;
  await pfs.put(Buffer.from(data.buffer, data.byteOffset, data.byteLength), { name });
  return (await pfs.run(source, [name], options)).value;
}

describe("a kernel", () => {
  it("computes over a split's rows, whatever the splits are", async () => {
    const source = program(
      SUM_ROWS,
      `input: matrix({ type: "f32", columns: ${COLUMNS} }),
       map: (rows) => [rows.rows, ...sumRows({ rows, weight: 2 })],
       combine: (a, b) => [a[0] + b[0], ...a.slice(1), ...b.slice(1)]`,
    );
    for (const splitBytes of [undefined, 1000, 4096]) {
      const value = await run(source, NUMBERS, splitBytes === undefined ? {} : { splitBytes });
      expect(value).toEqual([ROWS, ...SUMS.map((sum) => sum * 2)]);
    }
  });

  it("takes rows of a fixed number, a part of them, typed arrays and numbers", async () => {
    const source = program(
      SUM_ROWS,
      `input: matrix({ type: "f32", columns: ${COLUMNS}, rows: 100 }),
       map(rows, { offset }) {
         const all = sumRows({ rows, weight: 1 });
         const own = sumRows({ rows: rows.values, weight: 1 });
         const list = sumRows({ rows: [...rows.values], weight: 1 });
         const end = sumRows({ rows: rows.slice(-10), weight: 1 });
         return [offset, rows.rows, all.join() === own.join() && all.join() === list.join() && all.slice(-10).join() === end.join()];
       }`,
    );
    const value = (await run(source, NUMBERS)) as unknown[];
    expect(value).toEqual(Array.from({ length: 50 }, (_, index) => [index * 1200, 100, true]));
  });

  it("of several outputs gives an object, and dimensions are given where no input says them", async () => {
    const kernel = `
      const spread = defineKernel({
        kind: "wgsl",
        inputs: { data: bytes(["n"]) },
        outputs: { counts: u32([256]), ramp: i32(["m"]) },
        result: "exact",
        workgroup: { size: [64], count: ["n / 64"] },
        source: "fn main() {}",
        cpu({ data }, { m }) {
          const counts = new Uint32Array(256);
          for (const byte of data) counts[byte]++;
          return { counts, ramp: Int32Array.from({ length: m }, (_, index) => -index) };
        },
      });`;
    const source = program(
      kernel,
      `input: block(),
       map(block) { const { counts, ramp } = spread({ data: block }, { m: 3 }); return [block.length, counts[7], [...ramp]]; }`,
    );
    const data = new Uint8Array(1000).fill(7, 10, 20);
    expect(await run(source, data)).toEqual([[1000, 10, [0, -1, -2]]]);
  });

  it("gives rows of binary fields by their columns", async () => {
    const source = program(
      "",
      `input: columns({ id: "u16", x: "f64" }, { rows: 2 }),
       map: (rows) => [rows.rows, [...rows.column("id")], [...rows.column("x")]]`,
    );
    const view = new DataView(new ArrayBuffer(30));
    for (let row = 0; row < 3; row++) {
      view.setUint16(row * 10, row + 1, true);
      view.setFloat64(row * 10 + 2, row / 4, true);
    }
    expect(await run(source, view)).toEqual([
      [2, [1, 2], [0, 0.25]],
      [1, [3], [0.5]],
    ]);
  });

  it("leaves nothing behind that tells who computed it", async () => {
    const kernel = `
      let calls = 0;
      const drawn = [];
      const touch = defineKernel({
        kind: "js",
        inputs: { numbers: f32(["n"]) },
        output: f32(["n"]),
        result: "exact",
        source(numbers) { return numbers[this.thread.x]; },
        cpu({ numbers }) {
          calls++;
          console.log("computed here");
          drawn.push(Math.random());
          const same = numbers.slice();
          numbers.fill(0);
          return same;
        },
      });`;
    const source = program(
      kernel,
      `input: block(),
       map(block) {
         const first = Math.random();
         const given = Float32Array.of(1, 2, 3);
         const results = [touch({ numbers: given }), touch({ numbers: given })].map((result) => [...result]);
         return [calls, drawn.length, [...given], results, first === Math.random()];
       }`,
    );
    const { value } = await pfs.run(source, [
      (await pfs.put(Buffer.from("x"), { name: "one" })).name ?? "one",
    ]);
    expect(value).toEqual([
      [
        0,
        0,
        [1, 2, 3],
        [
          [1, 2, 3],
          [1, 2, 3],
        ],
        false,
      ],
    ]);
  });

  it.each([
    [
      "rows: new Float64Array(3), weight: 1",
      /the input rows takes a Float32Array, numbers, a matrix or a block/,
    ],
    ["rows: new Float32Array(4), weight: 1", /the input rows has 4 elements, which are not n × 3/],
    ["rows: new Float32Array(3)", /the input weight is missing/],
    ['rows: new Float32Array(3), weight: "1"', /the input weight is a number/],
    ["rows: undefined, weight: 1", /the input rows is missing/],
    ["rows: new Float32Array(3), weight: 1 }, { n: 2", /n = 2/],
    ['rows: ["1", 2, 3], weight: 1', /the input rows has what is no number/],
  ])("refuses %s", async (given, message) => {
    const source = program(SUM_ROWS, `input: block(), map: () => sumRows({ ${given} })`);
    await expect(run(source, Uint8Array.of(1))).rejects.toThrow(message);
  });

  it.each([
    ["[1, 2 ** 24, 2 ** 24 + 1]", /the input v has 16777217 at 2, and whole numbers go to 16777216/],
    ["Int32Array.of(-(2 ** 24) - 1)", /the input v has -16777217 at 0/],
    ["rows", /the input v has 33554432 at 1/],
  ])("in JavaScript refuses integers that its floats do not have: %s", async (given, message) => {
    const kernel = `
      const same = defineKernel({
        kind: "js", inputs: { v: i32(["n"]) }, output: i32(["n"]), result: "exact",
        source: "function (v) { return v[this.thread.x] }",
        cpu: ({ v }) => v,
      });`;
    const source = program(
      kernel,
      `input: matrix({ type: "i32", columns: 1 }), map: (rows) => [...same({ v: ${given} })]`,
    );
    await expect(run(source, Int32Array.of(1, 2 ** 25))).rejects.toThrow(message);
  });

  it.each([
    [
      "i32",
      "v[this.thread.x] * 65536",
      "",
      /each: its output has what is no whole number from -16777216 to 16777216 at 1/,
    ],
    ["i32", "v[this.thread.x] * 0.5", "", /no whole number from -16777216 to 16777216 at 1/],
    [
      "i32",
      "-v[this.thread.x] * 65536 * 65536 * 65536 * 65536 * 65536 * 65536 * 65536 * 65536 * 65536",
      "",
      /no whole number/,
    ],
    [
      "u32",
      "3 - v[this.thread.x]",
      "",
      /each: its output has what is no whole number from 0 to 16777216 at 1/,
    ],
    ["i32", "v[this.thread.x]", ", cpu: () => Int32Array.of(0, 0, -16777217)", /no whole number .* at 2/],
    ["u32", "v[this.thread.x]", ", cpu: () => Uint32Array.of(0, 2 ** 31, 0)", /no whole number .* at 1/],
    [
      "f32",
      "v[this.thread.x]",
      ", cpu: () => Float32Array.of(0, Infinity, 0)",
      /its output has what is no finite number at 1/,
    ],
    ["f32", "v[this.thread.x]", ", cpu: () => Float32Array.of(NaN, 1, 0)", /what is no finite number at 0/],
  ])("in JavaScript refuses %s that are no result: %s%s", async (type, value, cpu, message) => {
    const kernel = `const each = defineKernel({ name: "each", kind: "js", inputs: { v: i32(["n"]) }, output: ${type}(["n"]),
      result: "exact", source: "function (v) { return ${value} }"${cpu} });`;
    const source = program(kernel, "input: block(), map: () => [...each({ v: [2, 257, 2] })]");
    await expect(run(source, Uint8Array.of(1))).rejects.toThrow(message);
  });

  it("in JavaScript gives whole numbers to 2^24, and no 0 with a sign where engines are to agree", async () => {
    const kernel = ["i32", "u32", "f32"]
      .map(
        (
          type,
        ) => `const ${type}s = defineKernel({ kind: "js", inputs: { v: f32(["n"]), s: f32() }, output: ${type}(["n"]),
          result: "exact", source: "function (v, s) { return v[this.thread.x] * s }" });`,
      )
      .join("\n");
    const source = program(
      `${kernel} const own = defineKernel({ kind: "js", inputs: { v: f32(["n"]) }, output: f32(["n"]), result: "exact",
         source: "function (v) { return -v[this.thread.x] }", cpu: ({ v }) => v.map((each) => -each) });`,
      `input: block(), map: () => [
        [...i32s({ v: [2 ** 24, -(2 ** 24), 0, -0, 2 ** -126], s: 1 })],
        [...u32s({ v: [2 ** 24, 0, -0], s: 1 })],
        [...f32s({ v: [0, 1, 2 ** -100, 2 ** -10], s: -(2 ** -60) })],
        [...own({ v: [0, -0, 2 ** -126, 5] })],
      ]`,
    );
    expect(await run(source, Uint8Array.of(1))).toEqual([
      [
        [2 ** 24, -(2 ** 24), 0, 0, 0],
        [2 ** 24, 0, 0],
        [0, -(2 ** -60), 0, -(2 ** -70)],
        [0, 0, 0, -5],
      ],
    ]);
  });

  it.each([
    ["[1, NaN]", /each: the input v has NaN at 1, which is not the same number on all engines/],
    ["[1, 2, -1e39]", /the input v has -Infinity at 2/],
    ["Float32Array.of(2 ** -127)", /the input v has 5.877471754111438e-39 at 0/],
    ["rows", /the input v has NaN at 1/],
  ])("in JavaScript refuses floats that engines take for others: %s", async (given, message) => {
    const kernel = `const each = defineKernel({ name: "each", kind: "js", inputs: { v: f32(["n"]) }, output: f32(["n"]),
      result: "exact", source: "function (v) { return v[this.thread.x] }" });`;
    const source = program(
      kernel,
      `input: matrix({ type: "f32", columns: 1 }), map: (rows) => [...each({ v: ${given} })]`,
    );
    await expect(run(source, Float32Array.of(1, NaN))).rejects.toThrow(message);
  });

  it.each([
    ["() => [1, 2]", /cpu returned no typed array as output, which is a Float32Array of 1 elements/],
    ["() => new Float32Array(2)", /cpu returned a Float32Array of 2 as output/],
    ["() => same({ numbers: [1] })", /same was called by a kernel's cpu/],
  ])("refuses a cpu that is %s", async (cpu, message) => {
    const kernel = `const same = defineKernel({ name: "same", kind: "js", inputs: { numbers: f32(["n"]) }, output: f32(["n"]),
      result: "exact", source(numbers) { return numbers[this.thread.x]; }, cpu: ${cpu} });`;
    const source = program(kernel, `input: block(), map: () => same({ numbers: [1] })`);
    await expect(run(source, Uint8Array.of(1))).rejects.toThrow(message);
  });

  it("is defined in the scope of a module, and called in map", async () => {
    const called = program(
      `${SUM_ROWS} sumRows({ rows: [1, 2, 3], weight: 1 });`,
      "input: block(), map: () => 1",
    );
    await expect(run(called, Uint8Array.of(1))).rejects.toThrow(/while the module was evaluated/);
    const defined = program("", `input: block(), map: () => { ${SUM_ROWS} return 1; }`);
    await expect(run(defined, Uint8Array.of(1))).rejects.toThrow(/after that was evaluated/);
  });

  it("gives a block's constructor to nobody", async () => {
    const source = program(
      "",
      `input: block(), map: (block) => new block.constructor({}, { origin: 0, from: 0, length: 5 }).length`,
    );
    await expect(run(source, Uint8Array.of(1))).rejects.toThrow(/a block is made by a reader/);
  });
});

describe("what is wrong with a kernel", () => {
  it("is told with its author's place", async () => {
    const source = program(
      SUM_ROWS.replace("return (rows", "return this.nothing + (rows"),
      "input: block(), map: () => 1",
    );
    await expect(run(source, Uint8Array.of(1))).rejects.toMatchObject({
      code: "PFS_PROGRAM_INVALID",
      message: expect.stringMatching(
        /kernel 1 is wrong: it knows no properties .* \(program\.ts:9:14\)$/,
      ) as string,
    });
  });
});

describe("what a program says of its kernels", () => {
  it("is what their author gave, in the order of the author's, and nothing where there are none", async () => {
    const kernel = `${SUM_ROWS}
      const fill = defineKernel({ kind: "wgsl", inputs: {}, outputs: { cells: u32(["n", 4], { atomic: true }) }, result: "exact",
        source: "fn main() {}", workgroup: { size: [64], count: [2, "n / 8"] }, operations: 4096, gpu: 0.25,
        cpu: (_, { n }) => ({ cells: new Uint32Array(4 * n) }) });`;
    const executor = await startExecutor();
    try {
      const bundle = await bundleProgram(program(kernel, "input: block(), map: () => 1"));
      const { declared } = await executor.inspect(bundle.code);
      expect(declared).toMatchObject([
        {
          kind: "js",
          inputs: [
            { name: "rows", type: "f32", shape: ["n", 3] },
            { name: "weight", type: "f32", shape: [] },
          ],
          outputs: [{ name: "output", type: "f32", shape: ["n"] }],
          source: expect.stringMatching(/^source\(rows, weight\) \{[^]*\}$/) as string,
          result: { relL2: 1e-6, abs: 1e-3 },
          hasCpu: true,
        },
        {
          kind: "wgsl",
          inputs: [],
          outputs: [{ name: "cells", type: "u32", shape: ["n", 4], atomic: true }],
          workgroup: { size: [64, 1, 1], count: ["2", "n / 8", "1"] },
          operations: "4096",
          hasCpu: true,
          gpu: 0.25,
        },
      ]);
      const plain = await bundleProgram(program("", "input: block(), map: () => 1"));
      expect(await executor.inspect(plain.code)).not.toHaveProperty("declared");
    } finally {
      await executor.close();
    }
  });
});

describe("the types of kernels", () => {
  const search = defineKernel({
    kind: "js",
    inputs: { vectors: f32(["n", 256]), queries: f32(["q", 256]) },
    output: f32(["q", "n"]),
    constants: { scale: 2 },
    maxTrip: {},
    result: { relL2: 1e-5, abs: 1e-3 },
    source(vectors, queries) {
      expectTypeOf(this.thread.x).toEqualTypeOf<number>();
      expectTypeOf(this.constants.scale).toEqualTypeOf<number>();
      expectTypeOf(this.constants.n).toEqualTypeOf<number>();
      return vectors[this.thread.x]![0]! * queries[this.thread.y]![0]!;
    },
    cpu({ vectors, queries }, { n, q }) {
      expectTypeOf(vectors).toEqualTypeOf<Float32Array<ArrayBuffer>>();
      expectTypeOf(n).toEqualTypeOf<number>();
      return new Float32Array(q * n + queries.length);
    },
  });
  const ramp = defineKernel({
    kind: "js",
    inputs: { step: f32() },
    output: i32(["height", "width"]),
    result: "exact",
    source: (step) => step,
  });
  const histogram = defineKernel({
    kind: "wgsl",
    inputs: { data: bytes(["n"]) },
    outputs: { counts: u32([256], { atomic: true }) },
    result: "exact",
    workgroup: { size: [64], count: ["n / 256"] },
    source: "",
    cpu: ({ data }) => ({ counts: new Uint32Array(256 + 0 * data.length) }),
  });

  const scale = defineKernel({
    kind: "js",
    inputs: { rows: f32(["n", 4]), factor: f32() },
    output: f32(["n"]),
    result: "exact",
    // Which parameter is which input is not known to types: as what it is used, that it may be.
    source(rows, factor) {
      return rows[this.thread.x]![0]! * factor;
    },
  });
  const annotated = defineKernel({
    kind: "js",
    inputs: { rows: f32(["n", 4]), factor: f32() },
    output: f32(["n"]),
    result: "exact",
    source(rows: readonly (readonly number[])[], factor: number) {
      return rows[this.thread.x]![0]! * factor;
    },
  });

  it("follow from inputs and outputs", () => {
    expectTypeOf<ReturnType<typeof scale>>().toEqualTypeOf<Float32Array<ArrayBuffer>>();
    expectTypeOf<Parameters<typeof annotated>>().toEqualTypeOf<Parameters<typeof scale>>();
    expectTypeOf<ReturnType<typeof search>>().toEqualTypeOf<Float32Array<ArrayBuffer>>();
    expectTypeOf<ReturnType<typeof histogram>>().toEqualTypeOf<{
      readonly counts: Uint32Array<ArrayBuffer>;
    }>();
    expectTypeOf<Parameters<typeof search>[0]["vectors"]>().toEqualTypeOf<
      Float32Array | readonly number[] | Matrix<"f32"> | Block
    >();
    expectTypeOf<Parameters<typeof histogram>[0]["data"]>().toEqualTypeOf<Uint8Array | Block>();
    expectTypeOf<Parameters<typeof ramp>[1]>().toExtend<{
      readonly height: number;
      readonly width: number;
    }>();
    // @ts-expect-error: nothing says how large the output is
    expect(() => ramp({ step: 1 })).toThrow(/by a program/);
    // @ts-expect-error: a matrix of another type
    expect(() => search({ vectors: {} as Matrix<"i32">, queries: [] })).toThrow(/by a program/);
  });

  it("are plain data beside that", () => {
    expect(f32(["n", 3])).toEqual({ type: "f32", shape: ["n", 3] });
    expect(u32()).toEqual({ type: "u32", shape: [] });
    expect(bytes(["n"])).toEqual({ type: "bytes", shape: ["n"] });
    expect(matrix({ type: "i32", columns: 4, rows: 2 })).toEqual({
      kind: "matrix",
      type: "i32",
      columns: 4,
      rows: 2,
    });
    expect(block(64)).toEqual({ kind: "block", size: 64 });
    expect(columns({ id: "u8" }, { rows: 8 })).toEqual({
      kind: "columns",
      fields: [{ name: "id", type: "u8" }],
      rows: 8,
    });
    expectTypeOf<RowBlock<{ readonly id: "u8" }>["rows"]>().toEqualTypeOf<number>();
  });
});
