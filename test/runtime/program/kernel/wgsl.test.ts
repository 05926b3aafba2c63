import { describe, expect, test } from "vitest";
import { PacketfsError } from "../../../../packets/errors.ts";
import { kernelSpec, parseKernel, wgslKernel } from "../../../../runtime/program/kernel/declaration.ts";
import { wgslSourcePlace } from "../../../../runtime/program/kernel/wgsl.ts";

const SOURCE = `// Counts.
fn add(byte: u32) { atomicAdd(&counts[byte & 255u], 1u); }

/* fn main( is not /* here */ either */
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < dims.n / 4) { add(data[id.x]); }
}
`;

const HISTOGRAM = {
  name: "histogram",
  kind: "wgsl",
  inputs: [
    { name: "data", type: "bytes", shape: ["n"] },
    { name: "threshold", type: "f32", shape: [] },
  ],
  outputs: [{ name: "counts", type: "u32", shape: [256], atomic: true }],
  source: SOURCE,
  result: "exact",
  hasCpu: true,
  workgroup: { size: [64], count: ["n / 256"] },
} as const;

function reasonOf(declaration: object): string {
  try {
    kernelSpec(declaration);
  } catch (error) {
    if (error instanceof PacketfsError && error.code === "PFS_KERNEL_INVALID") return error.message;
  }
  return "none";
}

describe("a kernel in WGSL", () => {
  const kernel = wgslKernel(kernelSpec(HISTOGRAM));

  test("gets its bindings, and its entry the attributes that it is declared with", () => {
    expect(kernel.wgsl.split("\n").slice(0, 5)).toEqual([
      "struct Dims { n: u32, threshold: f32 }",
      "@group(0) @binding(0) var<uniform> dims: Dims;",
      "@group(0) @binding(1) var<storage, read> data: array<u32>;",
      "@group(0) @binding(2) var<storage, read_write> counts: array<atomic<u32>>;",
      "// Counts.",
    ]);
    expect(kernel.wgsl).toContain("\n@compute @workgroup_size(64, 1, 1) fn main(@builtin");
    expect(kernel.layout).toEqual({
      uniform: [{ u32: "n" }, { input: 1 }, { u32: "0" }, { u32: "0" }],
      bindings: [{ input: 0 }, { output: 0 }],
      entryPoint: "main",
      workgroups: ["n / 256", "1", "1"],
    });
    expect(kernel.operations).toBe("n + 1 + 256");
  });

  test("may have these attributes itself", () => {
    const source = SOURCE.replace("fn main(@", "@workgroup_size(64, 1)\n@compute fn main(@");
    const own = wgslKernel(kernelSpec({ ...HISTOGRAM, source }));
    expect(own.wgsl.endsWith(source)).toBe(true);
    const spec = { ...own, workgroup: own.workgroup! };
    expect(wgslSourcePlace(spec, 10, 20)).toEqual({ line: 6, column: 20 });
  });

  test("is found again in its manifest, and nothing else is", () => {
    expect(parseKernel(JSON.parse(JSON.stringify(kernel)))).toEqual(kernel);
    const wrong: readonly object[] = [
      { ...kernel, wgsl: `${kernel.wgsl} ` },
      { ...kernel, layout: { ...kernel.layout, entryPoint: "add" } },
      { ...kernel, layout: { ...kernel.layout, workgroups: ["n", "1", "1"] } },
      { ...kernel, layout: { ...kernel.layout, bindings: [{ output: 0 }, { input: 0 }] } },
      { ...kernel, layout: { ...kernel.layout, uniform: [{ u32: "n" }] } },
      { ...kernel, more: 1 },
      { ...kernel, source: kernel.source.replaceAll("\n", "\r\n") },
      { ...kernel, operations: 7 },
      { ...kernel, name: undefined },
    ];
    for (const each of wrong) expect(() => parseKernel(JSON.parse(JSON.stringify(each)))).toThrow();
    for (const each of [null, 7, "kernel", [], {}]) expect(() => parseKernel(each)).toThrow("kernel");
  });

  test("tells places in what its author wrote", () => {
    const spec = { ...kernel, workgroup: kernel.workgroup! };
    expect(wgslSourcePlace(spec, 6, 5)).toEqual({ line: 2, column: 5 });
    const added = "@compute @workgroup_size(64, 1, 1) ".length;
    expect(wgslSourcePlace(spec, 9, 9 + added)).toEqual({ line: 5, column: 9 });
    expect(wgslSourcePlace(spec, 4, 1)).toBeUndefined();
  });

  test.each([
    ["@group(0) @binding(9) var<storage> more: array<u32>;\nfn main() {}", "line 1, column 1"],
    ["\n  @compute fn main() {}", "line 2, column 3"],
    ["@compute @workgroup_size(32) fn main() {}", "one of 64, 1, 1 threads (line 1, column 10)"],
    ["@compute @workgroup_size(64) fn other() {} fn main() {}", "only main has attributes"],
    ["@compute @workgroup_size(64) @compute fn main() {}", "only main has attributes"],
    ["@compute @workgroup_size(SIZE) fn main() {}", "one of 64, 1, 1 threads"],
    ["override n: u32 = 4; fn main() {}", "override"],
    ["enable f16; fn main() {}", "no extensions"],
    ["fn main2() {}", "it has no function main"],
    ["/* fn main() {} */", "it has no function main"],
    ["fn main() {}\nfn main() {}", "more than one function main (line 2"],
    ["fn main() { /* \u0000 */ }", "this character cannot stand"],
    ["fn main() { /* \u202e */ }", "none"],
    [`fn main() {}${" ".repeat(70_000)}`, "longer than 65536"],
  ])("is refused where it declares what is declared (%#)", (source, reason) => {
    expect(reasonOf({ ...HISTOGRAM, source })).toContain(reason);
  });
});

describe("a declaration", () => {
  test.each([
    [{ kind: "glsl" }, 'kind is "js" or "wgsl"'],
    [{ inputs: "x" }, "inputs are an object of tensors"],
    [{ hasCpu: false }, "it is in WGSL and has no cpu"],
    [{ inputs: [{ name: "a", type: "f64", shape: [] }] }, 'a type is "f32"'],
    [{ inputs: [{ name: "constructor", type: "f32", shape: [] }] }, "no object has it by itself"],
    [{ inputs: [{ name: "__proto__", type: "f32", shape: [] }] }, "begins with a letter"],
    [{ inputs: [{ name: "dims", type: "f32", shape: ["n"] }] }, "dims is what a module"],
    [{ inputs: [{ name: "a b", type: "f32", shape: [] }] }, "a name is made of"],
    [{ inputs: [{ name: "a", type: "f32", shape: ["toString"] }] }, "no object has it by itself"],
    [{ inputs: [{ name: "a", type: "f32", shape: [0] }] }, "a dimension is"],
    [{ inputs: [{ name: "a", type: "f32", shape: [1.5] }] }, "a dimension is"],
    [{ inputs: [{ name: "a", type: "f32", shape: [1, 1, 1, 1] }] }, "at most 3 dimensions"],
    [{ inputs: [{ name: "a", type: "f32", shape: ["a"] }] }, "are called a"],
    [{ inputs: [{ name: "a", type: "u32", shape: ["n"], atomic: true }] }, "as only outputs are"],
    [{ inputs: [{ name: "a", type: "bytes", shape: [] }] }, "bytes without a dimension"],
    [
      { inputs: Array.from({ length: 40 }, (_, i) => ({ name: `a${i}`, type: "f32", shape: [] })) },
      "at most 32 inputs",
    ],
    [
      { inputs: Array.from({ length: 8 }, (_, i) => ({ name: `a${i}`, type: "f32", shape: [1] })) },
      "and 8 are the most",
    ],
    [{ outputs: [] }, "a kernel has an output"],
    [{ outputs: [{ name: "o", type: "f32", shape: [] }] }, "an output of one number"],
    [{ outputs: [{ name: "o", type: "f32", shape: [4], atomic: true }] }, "as only i32 and u32 are"],
    [{ source: 7 }, "a function or a text"],
    [{ maxTrip: { n: 0 } }, "a maxTrip is"],
    [{ maxTrip: { threshold: 7 } }, "maxTrip has threshold"],
    [{ maxTrip: { toString: 7 } }, "no object has it by itself"],
    [{ constants: { a: 1 } }, "constants in its source"],
    [{ constants: { a: Infinity } }, "a constant is finite"],
    [{ result: "close" }, 'result is "exact" or'],
    [{ result: { relL2: -1, abs: 0 } }, 'result is "exact" or'],
    [{ workgroup: undefined }, "says what its workgroup is"],
    [{ workgroup: { size: [16, 16, 2], count: ["n"] } }, "at most 256 threads"],
    [{ workgroup: { size: [64], count: ["n * x"] } }, "x, which is no dimension"],
    [{ workgroup: { size: [64], count: ["n("] } }, "nothing can follow"],
    [{ workgroup: { size: [64], count: ["threshold"] } }, "threshold, which is no dimension"],
    [{ operations: -1 }, "a size is"],
    [{ operations: "constructor" }, "constructor, which is no dimension"],
    [{ limits: { gpuMs: 0 } }, "limits.gpuMs is"],
    [{ limits: { gpuBytes: 1e300 } }, "limits.gpuBytes is"],
    [{ limits: { time: 1 } }, "limits"],
    [{ gpu: 0 }, "gpu is at least"],
    [{ gpu: 2 }, "gpu is at most 1"],
    [{ injectedNative: "" }, "injectedNative"],
    [{ name: "a\nb" }, "a line of text"],
  ])("is refused: %j", (changes, reason) => {
    const { workgroup, ...rest } = HISTOGRAM;
    const changed = "workgroup" in changes && changes.workgroup === undefined ? rest : { ...rest, workgroup };
    expect(reasonOf({ ...changed, ...changes })).toContain(reason);
  });

  test.each([null, undefined, 7, "kernel", [], {}])("is no declaration at all: %j", (declaration) => {
    expect(() => kernelSpec(declaration)).toThrow("kernel 1");
  });

  test("says what is not said", () => {
    const { name: _, ...unnamed } = HISTOGRAM;
    const spec = kernelSpec(unnamed, 2);
    expect(spec).toMatchObject({
      name: "kernel 3",
      limits: { gpuMs: 2000, gpuBytes: 4 * 2 ** 30 },
      gpu: 0.5,
      workgroup: { size: [64, 1, 1], count: ["n / 256", "1", "1"] },
    });
    expect(kernelSpec(spec)).toEqual(spec);
  });
});
