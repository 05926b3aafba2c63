/**
 * Kernels that mean harm. GPU.js writes functions of sources and of settings and runs them, and reads more than it says; WGSL is
 * compiled by a driver. Each is refused, in little time, or comes out as what it looks like in words that do nothing else.
 */
import { describe, expect, test } from "vitest";
import { KernelError } from "../../runtime/errors.ts";
import { jsKernel, kernelSpec, parseKernel, wgslKernel } from "../../runtime/program/kernel/declaration.ts";
import { gpuJsSource } from "../../runtime/program/kernel/gpujs.ts";
import type { KernelSpec } from "../../runtime/program/kernel/kernel.ts";
import { compiledJs } from "../runtime/program/kernel/gpujs.ts";

const TENSORS = {
  inputs: [
    { name: "a", type: "f32", shape: ["n"] },
    { name: "t", type: "i32", shape: [] },
  ],
  outputs: [{ name: "output", type: "f32", shape: ["n"] }],
} as const;
const JS = {
  ...TENSORS,
  kind: "js",
  maxTrip: { n: 1000, t: 10 },
  result: { relL2: 1, abs: 1 },
  hasCpu: false,
  source: "function (a, t) { return a[this.thread.x] }",
} as const;
const WGSL = {
  ...TENSORS,
  kind: "wgsl",
  result: "exact",
  hasCpu: true,
  workgroup: { size: [64], count: ["n / 64"] },
  source: "fn main() {}",
} as const;
/** CPU time of one, whatever it is: far from what doubling at each step would take. */
const CPU_MS_MAX = 2_000;

/** All that a source can say once it was printed. */
const WORDS =
  /^(?:function|let|for|if|else|return|break|continue|this\.thread\.[xyz]|this\.constants\.[A-Za-z]\w*|Math\.[a-z]\w*|[av][0-9]+|[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?|[-+*/%<>=!&|^~?:;,(){}[\]\s])*$/;

/** What it comes out as; undefined where it is refused. */
function accepted(declaration: unknown): KernelSpec | undefined {
  const before = process.cpuUsage();
  try {
    return kernelSpec(declaration);
  } catch (error) {
    if (error instanceof KernelError) return undefined;
    throw error;
  } finally {
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1000).toBeLessThan(CPU_MS_MAX);
  }
}

const deep = (open: string, close: string, times = 5_000): string =>
  open.repeat(times) + "1" + close.repeat(times);

describe("sources in JavaScript", () => {
  test.each([
    ["a constructor chain", "return this.constructor.constructor('return process')().exit(42)"],
    ["the same by index", "return this['constructor']['constructor']('return process')()"],
    ["the same of a number", "return (0).constructor.constructor('return 1')()"],
    ["the same of an input", "return a.constructor('return 1')"],
    ["an input's method", "return a.map(process.exit)[0]"],
    ["a name of the process", "return process.exit(42)"],
    ["the global object", "return globalThis.process"],
    ["eval", "return eval('1')"],
    ["eval of character codes", "return eval(String.fromCharCode(49))"],
    ["Function", "return Function('return 1')()"],
    ["new", "return new Date()"],
    ["import", "return import('node:fs')"],
    ["import.meta", "return import.meta.url"],
    ["require", "return require('fs')"],
    ["an arrow in it", "return (() => process.exit(42))()"],
    ["a function in it", "function f() { return 1 } return f()"],
    ["a function as a value", "let f = function () { }; return 1"],
    ["a class", "class A { static { process.exit(42) } } return 1"],
    ["a getter", "return ({ get x() { return process.exit(42) } }).x"],
    ["a template", "return `${process.exit(42)}`"],
    ["a tagged template", "return a`x`"],
    ["a spread", "return Math.max(...a)"],
    ["a destructured prototype", "let { __proto__: p } = a; return 1"],
    ["a computed name", "return Math['sin'](1)"],
    ["a computed name of Math", "return Math[`constructor`]"],
    ["Math's constructor", "return Math.constructor('return 1')()"],
    ["Math's prototype", "return Math.__proto__"],
    ["Math assigned to", "Math.sin = eval; return 1"],
    ["a constant assigned to", "this.constants.n = 1; return 1"],
    ["a prototype's name as a constant", "return this.constants.__proto__"],
    ["toString of constants", "return this.constants.toString"],
    ["this itself", "return this"],
    ["this.thread itself", "return this.thread"],
    ["this.color of GPU.js", "this.color(1, 1, 1); return 1"],
    ["this.output of GPU.js", "return this.output.x"],
    ["a function of GPU.js's settings", "return this.injected(1)"],
    ["a name that GPU.js has", "return kernel(1)"],
    ["a name of its modules", "return params.outputX + data_index"],
    [
      "a name of its modules as a variable",
      "let LOOP_MAX = 1; let result = 2; let params = 3; let data_index = 4; return LOOP_MAX + result + params + data_index",
    ],
    [
      "reserved words of WGSL as variables",
      "let fn = 1; let loop = 2; let array = 3; let main = 4; return fn + loop + array + main",
    ],
    [
      "a prototype's name as a variable",
      "let constructor = 1; let __proto__ = 2; let toString = 3; return constructor + __proto__ + toString",
    ],
    ["an escaped name", "let \\u{65}val = 1; return \\u0065val"],
    ["an escaped word", "r\\u0065turn 1"],
    ["letters that look like others", "let аrgs = 1; return аrgs"],
    ["invisible letters", "let a\u200d = 1; return a\u200d"],
    ["text that runs backwards", "return 1 /* \u202e } ;'42'(tixe.ssecorp */"],
    ["a line separator", "return 1 // \u2028 + process.exit(42)"],
    ["a directive", "'use strict'; return 1"],
    ["a comment that ends early", "return 1 /* */ ; process.exit(42) /* */"],
    ["an HTML comment", "<!-- \n return 1"],
    ["a comment with WGSL", "return 1 /* ; } @compute fn main() {} */"],
    ["the end of its function", "return 1 } , process.exit(42), function () { return 1"],
    ["the end of its method", "return 1 }, get x() { return process.exit(42)"],
    ["a loop without an end", "for (;;) {} return 1"],
    ["a loop that ends at NaN", "for (let i = 0; i < 0 / 0; i++) {} return 1"],
    ["a loop that never gets there", "for (let i = 0; i < 10; i += 0) {} return 1"],
    ["a loop that goes back", "for (let i = 0; i < 10; i++) { i -= 1 } return 1"],
    ["a loop whose counter is hidden", "for (let i = 0; i < 10; i++) { let i = 5; i = 0 } return 1"],
    ["a loop over most numbers", "for (let i = 0; i < 9007199254740991; i++) {} return 1"],
    ["loops in loops", `${"for (let i = 0; i < 16000000; i++) ".repeat(9)} { let x = 1 } return 1`],
    ["a bound above maxTrip's", "for (let i = 0; i < this.constants.n * 1000; i++) { } return 1"],
    ["while", "while (true) {} return 1"],
    ["a label", "x: for (;;) { continue x } return 1"],
    ["a huge number", `return ${"9".repeat(400)}`],
    ["a number of many digits", `return 0.${"1".repeat(20_000)}`],
    ["a huge bigint", `return ${"9".repeat(20_000)}n`],
    ["infinity by folding", "return 1e38 * 1e38"],
    ["a shift of everything", "return t << 1e9"],
    ["a regular expression", "return /(a+)+$/.test('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!')"],
    ["many parentheses", `return ${deep("(", ")")}`],
    ["many signs", `return ${"- ".repeat(10_000)}1`],
    ["many nots", `return ${"!".repeat(10_000)}1`],
    ["many choices", `return ${"t > 1 ? 1 : ".repeat(2_000)}1`],
    ["many blocks", `${"{".repeat(9_000)}${"}".repeat(9_000)} return 1`],
    ["many ifs", `${"if (t > 1) ".repeat(2_500)} return 1; return 1`],
    ["many elses", `${"if (t > 1) { } else ".repeat(1_500)} { } return 1`],
    ["many indices", `return ${"a[".repeat(5_000)}0${"]".repeat(5_000)}`],
    ["many powers, which are printed twice", `return ${"(".repeat(30)}t${" ** 3)".repeat(30)}`],
    ["many variables", `${Array.from({ length: 2_000 }, (_, i) => `let x${i} = 1;`).join("")} return 1`],
    ["many of nothing", `${";".repeat(30_000)} return 1`],
    ["megabytes", `return 1 /* ${"x".repeat(4 * 1024 * 1024)} */`],
    ["zeros between", "return 1\u0000"],
    ["half a character", "return 1 // \ud800"],
  ])("%s", (_, body) => {
    const spec = accepted({ ...JS, source: `function (a, t) { ${body} }` });
    if (spec === undefined) return;
    expect(spec.source).toMatch(WORDS);
    expect(gpuJsSource(spec).source).toMatch(
      new RegExp(WORDS.source.replace("[av][0-9]+", "[avd][0-9]+|kernel")),
    );
    expect(compiledJs(spec).wgsl).not.toMatch(/LOOP_MAX|process|eval/);
  });

  test.each([
    "function (a, t = process.exit(42)) { return 1 }",
    "function (a, [t]) { return 1 }",
    "function (a, t) { return 1 }; process.exit(42)",
    "function (a, t) { return 1 }(process.exit(42))",
    "function (a, t) { return 1 }.call(this)",
    "function (a, t) { return 1 }\n})(process.exit(42)); (function () {",
    "1) ; process.exit(42) ; (function (a, t) { return 1 }",
    "function constructor(a, t) { return 1 }",
    "__proto__(a, t) { return 1 }",
    "source(a, t) { return 1 }, x: process.exit(42)",
    "[process.exit(42)](a, t) { return 1 }",
    "set source(a) { }",
    "static source(a, t) { return 1 }",
    "async function (a, t) { return await 1 }",
    "function* (a, t) { yield 1 }",
    "class { constructor(a, t) { return 1 } }",
    "new Function('return 1')",
    "function (a, t) { [native code] }",
    "function\u00a0(a, t) { return 1 }",
    "",
    "\u0000",
    "{",
  ])("written as %j", (source) => {
    const spec = accepted({ ...JS, source });
    if (spec !== undefined) expect(spec.source).toMatch(WORDS);
  });
});

describe("declarations", () => {
  const proto = JSON.parse('{"__proto__": 1}') as object;
  test.each([
    ["code of GPU.js's settings", { injectedNative: "process.exit(42)" }],
    ["functions of them", { functions: ["function f() {}"], nativeFunctions: [{ name: "f", source: "x" }] }],
    ["a constant that is code", { constants: { x: "process.exit(42)" } }],
    ["a constant whose name is", { constants: { "x = process.exit(42)": 1 } }],
    ["a constant called as prototypes are", { constants: proto }],
    ["a constant called constructor", { constants: { constructor: 1 } }],
    ["a constant that is no number", { constants: { x: NaN } }],
    ["a maxTrip called as prototypes are", { maxTrip: proto }],
    ["a maxTrip without an end", { maxTrip: { n: Infinity } }],
    [
      "an input whose name is code",
      { inputs: [{ name: "a) { process.exit(42) } //", type: "f32", shape: ["n"] }] },
    ],
    ["an input called as prototypes are", { inputs: [{ name: "__proto__", type: "f32", shape: ["n"] }] }],
    ["a dimension called as prototypes are", { outputs: [{ name: "o", type: "f32", shape: ["__proto__"] }] }],
    ["a dimension called toString", { outputs: [{ name: "o", type: "f32", shape: ["toString"] }] }],
    ["a dimension that is WGSL", { outputs: [{ name: "o", type: "f32", shape: ["n: u32 } fn f() {"] }] }],
    ["a type that is WGSL", { outputs: [{ name: "o", type: "f32>; fn f() {}", shape: ["n"] }] }],
    [
      "a shape without an end",
      { outputs: [{ name: "o", type: "f32", shape: Array.from({ length: 1000 }, () => "n") }] },
    ],
    ["more of it than there is", { outputs: [{ name: "o", type: "f32", shape: [2 ** 53] }] }],
    [
      "thousands of inputs",
      { inputs: Array.from({ length: 5_000 }, (_, i) => ({ name: `a${i}`, type: "f32", shape: [] })) },
    ],
    ["operations that are code", { operations: "process.exit(42)" }],
    ["operations of a prototype", { operations: "constructor" }],
    ["a name of many lines", { name: "a\n\u001b[2J" }],
    ["a name of megabytes", { name: "a".repeat(2 ** 21) }],
    ["a share of nothing", { gpu: Number.MIN_VALUE }],
    ["all of the time", { limits: { gpuMs: Number.MAX_SAFE_INTEGER } }],
    ["a prototype", proto],
    ["a source that is none", { source: { toString: "x" } }],
  ])("%s", (_, changes) => {
    expect(accepted({ ...JS, ...changes })).toBeUndefined();
    const { maxTrip: _maxTrip, ...wgsl } = { ...WGSL, maxTrip: 0 };
    expect(accepted({ ...wgsl, ...changes })).toBeUndefined();
  });
});

describe("sources in WGSL", () => {
  test.each([
    ["bindings of its own", "@group(0) @binding(9) var<storage, read_write> x: array<u32>; fn main() {}"],
    [
      "bindings in disguise",
      "@/**/group(0) @ binding(9) var<storage, read_write> x: array<u32>; fn main() {}",
    ],
    ["another entry", "@compute @workgroup_size(1) fn other() {} fn main() {}"],
    ["a larger workgroup", "@compute @workgroup_size(1024) fn main() {}"],
    ["a workgroup of an expression", "@compute @workgroup_size(64 + 0) fn main() {}"],
    ["extensions", "enable subgroups; fn main() {}"],
    ["demands", "requires packed_4x8_integer_dot_product; fn main() {}"],
    ["numbers from outside", "@id(1) override x: u32; fn main() {}"],
    ["a comment without an end", "fn main() {} /* /* */"],
    ["comments in each other", `fn main() {} ${"/*".repeat(20_000)}`],
    ["an entry in a comment", "/* fn main( */ // fn main("],
    ["zeros", "fn main() {}\u0000"],
    ["half a character", "fn main() {} // \ud800"],
    ["megabytes", `fn main() {} // ${"x".repeat(2 ** 21)}`],
  ])("%s", (_, source) => {
    const spec = accepted({ ...WGSL, source });
    if (spec === undefined) return;
    const { wgsl } = wgslKernel(spec);
    expect(wgsl.endsWith(spec.source) || wgsl.includes("@compute @workgroup_size(64, 1, 1) fn main")).toBe(
      true,
    );
    expect(wgsl.match(/@binding/g)).toHaveLength(3);
  });
});

describe("what comes from elsewhere", () => {
  const spec = kernelSpec(JS);
  const made = { wgsl: compiledJs(spec).wgsl, params: paramsOf(spec), workgroupSize: [64, 1, 1] };

  test("as GPU.js makes it is taken", () => {
    expect(parseKernel(structuredClone(jsKernel(spec, made)))).toEqual(jsKernel(spec, made));
  });

  test.each([
    ["nothing", undefined],
    ["no object", 7],
    ["no module", { ...made, wgsl: undefined }],
    ["buffers that lie elsewhere", { ...made, params: { ...made.params, byteLength: 1 << 30 } }],
    ["an input less", { ...made, params: { ...made.params, arrayArgs: [] } }],
    [
      "an input twice",
      {
        ...made,
        params: { ...made.params, arrayArgs: [...made.params.arrayArgs, ...made.params.arrayArgs] },
      },
    ],
    [
      "places below none",
      { ...made, params: { ...made.params, scalarArgs: [{ name: "a1", index: 1, offset: -4 }] } },
    ],
    ["a larger workgroup", { ...made, workgroupSize: [1024, 1, 1] }],
    ["a module of megabytes", { ...made, wgsl: " ".repeat(2 ** 21) }],
    ["a loop that stops somewhere", { ...made, wgsl: "const LOOP_MAX : i32 = 1000;" }],
  ])("%s is not believed", (_, wrong) => {
    expect(() => jsKernel(spec, wrong)).toThrow(KernelError);
  });
});

interface Params {
  readonly arrayArgs: readonly object[];
  readonly scalarArgs: readonly object[];
  readonly byteLength: number;
}

function paramsOf(given: KernelSpec): Params {
  expect(gpuJsSource(given).dimensions).toEqual([]);
  return {
    arrayArgs: [{ name: "a0", index: 0, dimsOffset: 16 }],
    scalarArgs: [{ name: "a1", index: 1, offset: 32 }],
    byteLength: 48,
  };
}
