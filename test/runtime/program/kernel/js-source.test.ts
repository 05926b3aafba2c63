import { describe, expect, test } from "vitest";
import { PacketfsError } from "../../../../packets/errors.ts";
import { kernelSpec } from "../../../../runtime/program/kernel/declaration.ts";
import { gpuJsSource } from "../../../../runtime/program/kernel/gpujs.ts";
import type { KernelSpec } from "../../../../runtime/program/kernel/kernel.ts";

const DECLARATION = {
  name: "k",
  kind: "js",
  inputs: [
    { name: "a", type: "f32", shape: ["m", "k"] },
    { name: "b", type: "i32", shape: ["k"] },
    { name: "s", type: "f32", shape: [] },
    { name: "t", type: "i32", shape: [] },
  ],
  outputs: [{ name: "output", type: "f32", shape: ["m", 8] }],
  constants: { half: 0.5, mode: 2 },
  maxTrip: { k: 100, t: 10 },
  result: { relL2: 1e-6, abs: 1e-6 },
  hasCpu: false,
} as const;

function specOf(body: string, changes: object = {}): KernelSpec {
  return kernelSpec({ ...DECLARATION, source: `function (a, b, s, t) {\n${body}\n}`, ...changes });
}

/** The statements that a body is printed as. */
function printed(body: string): string {
  return specOf(body)
    .source.replace(/^function \(a0, a1, a2, a3\) \{\n/, "")
    .replace(/\}\n$/, "")
    .trim();
}

/** "line:column reason" of why a source is refused. */
function refusal(source: string, changes: object = {}): string {
  try {
    kernelSpec({ ...DECLARATION, source, ...changes });
  } catch (error) {
    if (!(error instanceof PacketfsError) || error.code !== "PFS_KERNEL_INVALID") throw error;
    const { line, column, reason } = error.data;
    return `${line ?? "-"}:${column ?? "-"} ${reason}`;
  }
  return "accepted";
}

/** The same of a body, whose first line is line 2. */
function refused(body: string, changes: object = {}): string {
  return refusal(`function (a, b, s, t) {\n${body}\n}`, changes);
}

describe("a source", () => {
  test.each([
    ["return 1.50", "return 1.5;"],
    ["return 0.1", "return 0.1;"],
    ["return 1e10 * 1e-3", "return 10000000;"],
    ["return -3 - -s", "return ((-3) - (-a2));"],
    ["return Math.PI", "return 3.1415927;"],
    ["return this.constants.half * s", "return (0.5 * a2);"],
    ["return this.constants.k + t", "return (this.constants.k + a3);"],
    ["return a[this.thread.y][this.thread.x]", "return a0[this.thread.y][this.thread.x];"],
    ["return b[1.9]", "return a1[1];"],
    ["return b[s] /* why */ // not", "return a1[a2];"],
    ["return s ** 2 + Math.pow(s, 3)", "return (Math.pow(a2, 2) + Math.pow(a2, 3));"],
    ["return Math.max(s, t, 1)", "return Math.max(Math.max(a2, a3), 1);"],
    ["return s < t ? 1 : 0", "return ((a2 < a3) ? 1 : 0);"],
    [
      "return s == t && !(s != 1) || t <= 2 ? s : t",
      "return ((((a2 === a3) && (!(a2 !== 1))) || (a3 <= 2)) ? a2 : a3);",
    ],
    [
      "return (t & 3) | ~t ^ (t << 2) ^ (t >> t) ^ (s >>> 1)",
      "return ((a3 & 3) | ((((~a3) ^ (a3 << 2)) ^ (a3 >> a3)) ^ (a2 >>> 1)));",
    ],
    [
      "const x = s, y = x; let z = x; z += y; z++; --z; return z",
      "let v0 = a2;\nlet v1 = v0;\nlet v2 = v0;\nv2 = (v2 + v1);\nv2 = (v2 + 1);\nv2 = (v2 - 1);\nreturn v2;",
    ],
    ["let x = 0; { let x = s; x *= 2; } return x", "let v0 = 0;\nlet v1 = a2;\nv1 = (v1 * 2);\nreturn v0;"],
    ["if (s > 1) return 1; else return 2", "if ((a2 > 1)) {\nreturn 1;\n} else {\nreturn 2;\n}"],
    ["if (this.constants.mode === 2) return 1; return 2", "return 1;"],
    ["if (this.constants.mode > 2) { return 1 } return 2", "return 2;"],
    ["return this.constants.mode > 2 || s > 1 ? 1 : 0", "return ((a2 > 1) ? 1 : 0);"],
    [
      "let x = 0; for (let i = 0; i < 10; ++i) x += i; return x",
      "let v0 = 0;\nfor (let v1 = 0; v1 < 10; v1++) {\nv0 = (v0 + v1);\n}\nreturn v0;",
    ],
    [
      "let x = 0; for (let i = -2; i <= t - 1; i += 3) { if (i > s) continue; if (i === 4) break; x += i; } return x",
      "let v0 = 0;\nfor (let v1 = -2; v1 <= a3 - 1; v1 += 3) {\nif ((v1 > a2)) {\ncontinue;\n}\nif ((v1 === 4)) {\nbreak;\n}\nv0 = (v0 + v1);\n}\nreturn v0;",
    ],
    [
      "for (let i = 0; i < this.constants.k; i++) { if (b[i] > s) { return i } } return -1",
      "for (let v0 = 0; v0 < this.constants.k; v0++) {\nif ((a1[v0] > a2)) {\nreturn v0;\n}\n}\nreturn (-1);",
    ],
    ["let x = s; for (let i = 5; i < 5; i++) x += i; ;; return x", "let v0 = a2;\nreturn v0;"],
    ["return \\u0073 + 0x10 + 1_000", "return ((a2 + 16) + 1000);"],
    ["return Math.sqrt(16) + s", "return (4 + a2);"],
  ])("%s", (body, expected) => {
    expect(printed(body)).toBe(expected);
    const spec = specOf(body);
    expect(kernelSpec(spec), "in its one spelling it is the same").toEqual(spec);
    expect(() => gpuJsSource(spec)).not.toThrow();
  });

  test.each([
    ["function (a, b, s, t) { return 1 }"],
    ["function named(a, b, s, t) { return 1 }"],
    ["source(a, b, s, t) { return 1 }"],
    ["/* one */ function (x, y, z, w) { return 1 } // two"],
    ["\n\n  source(p, q, r, s) {\n return 1;\n}\n"],
  ])("is a function, however it is written: %j", (source) => {
    expect(refusal(source)).toBe("accepted");
  });

  test("of kernels of another rank and type", () => {
    const line = { ...DECLARATION, outputs: [{ name: "o", type: "u32", shape: ["m"] }] };
    const source = "function (a, b, s, t) { return a[this.thread.x][0] }";
    expect(kernelSpec({ ...line, source }).operations).toBe("m * 1");
    expect(refusal(source.replace(".x", ".y"), line)).toContain("so there is no this.thread.y");
  });

  test("counts what it computes", () => {
    expect(
      specOf("let x = 0; for (let i = 0; i < this.constants.k; i++) x += a[0][i] * b[i]; return x")
        .operations,
    ).toBe("m * 8 * (1 + k * 2)");
    expect(specOf("let x = 0; for (let i = 1; i <= t; i += 2) x += Math.sin(s); return x").operations).toBe(
      "m * 8 * (1 + (t / 2) * 9)",
    );
  });
});

describe("what is refused, and where", () => {
  test.each([
    ["return", "2:1 return what"],
    ["s + 1; return 1", "2:1 this statement does nothing"],
    ["console.log(s); return 1", "2:1 it calls nothing but functions of Math"],
    ["if (s > 1) return 1", "1:23 it does not always return"],
    ["let x; return x", "2:5 x has no value"],
    ["let x = 1; let x = 2; return x", "2:16 it is no JavaScript"],
    ["var x = 1; return x", "2:1 var is not for kernels"],
    ["let x = x; return x", "2:9 x is used before its declaration is over"],
    ["const x = s + x; return x", "2:15 x is used before"],
    ["let x = 1; { let x = x + 1; } return x", "2:22 x is used before"],
    ["let x = 1; { let y = x; let x = 2; } return x", "2:22 x is used before"],
    ["let x = 1; { x = 2; let x = 3; } return x", "2:14 x is used before"],
    ["{ let y = b[0], b = 1; } return 1", "2:11 b is used before"],
    ["let x = y, y = 1; return x", "2:9 y is used before"],
    ["let i = 0; for (let i = i; i < 2; i++) { } return i", "2:25 i is used before"],
    ["for (let t = 0; t < t; t++) { } return 1", "2:21 a loop ends at"],
    ["for (let t = 0; t < 9; t += t) { } return 1", "2:29 a loop's counter grows by"],
    ["const x = 1; x = 2; return x", "2:14 x is a constant"],
    ["s = 2; return s", "2:1 s is an input"],
    ["a[0][0] = 2; return s", "2:1 only variables are assigned to"],
    ["return y", "2:8 it knows no y"],
    ["return a", "2:8 a has 2 dimensions"],
    ["return a[0]", "2:8 a has 2 dimensions, not 1"],
    ["return b[0][0]", "2:8 b has 1 dimensions, not 2"],
    ["return s[0]", "2:8 s has 0 dimensions, not 1"],
    ["let x = 1; return x[0]", "2:19 only inputs have elements"],
    ["return b[-1]", "2:10 an index is a whole number from 0"],
    ["return s < 1", "2:8 what compares is no number"],
    ["return s && 1", "2:8 what && and || give"],
    ["return s ? 1 : 2", "2:8 a condition compares"],
    ["if (s) return 1; return 2", "2:5 a condition compares"],
    ["return !s", "2:8 ! is not for kernels"],
    ["return (s, 1)", "2:9 a sequence expression is not for kernels"],
    ["return s++", "2:8 an assignment is a statement"],
    ["let x = 0; return x = 1", "2:19 an assignment is a statement"],
    ["return this.thread.z", "2:8 the output has 2 dimensions"],
    ["return this.thread.w", "2:8 this.thread has x, y and z"],
    ["return this.constants.nothing", "2:8 it has no constant or dimension nothing"],
    ["return this.output.x", "2:8 it knows no properties but"],
    ["return Math.random()", "2:8 it has no Math.random"],
    ["return Math.sin()", "2:8 Math.sin takes one number"],
    ["return Math.max(s)", "2:8 Math.max takes two or more"],
    ["return Math.sqrt(-1)", "2:8 this is no finite 32-bit float"],
    ["return 1e39", "2:8 this is no finite"],
    ["return 1e-40", "2:8 this is too small"],
    ["return s / 0", "2:8 it divides by zero"],
    ["return t >>> 0", "2:8 >>> shifts by"],
    ["return t << 32", "2:8 a shift is from 0 to 31"],
    ["return t & 0x7fffffff", "2:8 bit operators are for"],
    ["while (s > 1) { } return 1", "2:1 how often this loop runs"],
    ["do { } while (s > 1); return 1", "2:1 how often this loop runs"],
    ["for (;;) { } return 1", "2:1 this loop has not one counter"],
    ["for (let i = 0; ; i++) { } return 1", "2:1 a loop ends when"],
    ["for (let i = 0; i < s; i++) { } return 1", "2:21 a loop ends at"],
    ["for (let i = 0; i < this.constants.m; i++) { } return 1", "2:21 how large m may be is not known"],
    ["for (let i = 0; i < b[0]; i++) { } return 1", "2:21 a loop ends at"],
    ["for (let i = 0.5; i < 9; i++) { } return 1", "2:14 a loop's counter begins with"],
    ["for (let i = 0; i < 9; i--) { } return 1", "2:24 a loop's counter grows"],
    ["for (let i = 0; i < 9; i += 0) { } return 1", "2:24 a loop's counter grows"],
    ["for (let i = 0; i < 9; i *= 2) { } return 1", "2:24 a loop's counter grows"],
    ["for (let i = 0; i !== 9; i++) { } return 1", "2:17 a loop ends when"],
    ["for (let i = 0; i < 9; i++) { i = 0 } return 1", "2:31 i is a loop's counter"],
    ["for (let i = 0; i < 9; i++) { i++ } return 1", "2:31 i is a loop's counter"],
    ["for (let i = 0; i < 2e8; i++) { } return 1", "2:21 a loop ends at"],
    [
      "for (let i = 0; i < 1e7; i++) for (let j = 0; j < 1e7; j++) { } return 1",
      "2:31 with the loops around it",
    ],
    ["for (const i of b) { } return 1", "2:1 a for of statement"],
    ["for (const i in b) { } return 1", "2:1 a for in statement"],
    ["break; return 1", "2:1 it is no JavaScript"],
    ["x: for (let i = 0; i < 2; i++) { continue x } return 1", "2:1 a labeled statement"],
    ["switch (s) { } return 1", "2:1 a switch statement"],
    ["try { } catch { } return 1", "2:1 a try statement"],
    ["throw s", "2:1 a throw statement"],
    ["debugger; return 1", "2:1 a debugger statement"],
    ["return 1n", "2:8 a kernel has no values but numbers"],
    ["return '1'", "2:8 a kernel has no values but numbers"],
    ["return null", "2:8 a kernel has no values but numbers"],
    ["return /x/", "2:8 a kernel has no values but numbers"],
    ["return true", "2:8 a kernel has no values but numbers"],
    ["return `1`", "2:8 a template literal"],
    ["return [1]", "2:8 an array expression"],
    ["return {}", "2:8 an object expression"],
    ["return undefined", "2:8 it knows no undefined"],
    ["return NaN", "2:8 it knows no NaN"],
    ["return Infinity", "2:8 it knows no Infinity"],
    ["let Math = 1; return Math", "2:5 Math cannot be the name"],
    ["let [x] = b; return x", "2:5 a variable is a name"],
    [`return ${"(".repeat(60)}s${" + 1)".repeat(60)}`, "deep in each other"],
    [`return ${"(".repeat(9000)}s${")".repeat(9000)}`, "deep in each other"],
    [`return s${" + s".repeat(3000)}`, "deep in each other"],
    [`return s${"; s > 1 ? 1 : 2".repeat(3)}`, "2:11 this statement does nothing"],
    [`let x = 0; ${"x += 1; ".repeat(2500)} return x`, "parts"],
    [`${" ".repeat(40_000)} return 1`, "longer than 32768 bytes"],
    ["return 08", "it is no JavaScript"],
    ["return s +", "it is no JavaScript"],
  ])("%.60s", (body, reason) => {
    expect(refused(body)).toContain(reason);
  });

  test.each([
    ["", "it is no"],
    ["1", "it is no function"],
    ["() => 1", "it is no function"],
    ["(a, b, s, t) => { return 1 }", "it is no function"],
    ["class { }", "it is no function"],
    ["async function (a, b, s, t) { return 1 }", "neither async nor"],
    ["function* (a, b, s, t) { return 1 }", "neither async nor"],
    ["async source(a, b, s, t) { return 1 }", "neither async nor"],
    ["get source() { return 1 }", "it is no function"],
    ["['x'](a, b, s, t) { return 1 }", "it is no function"],
    ["function (a, b, s) { return 1 }", "3 parameters, and the kernel has 4 inputs"],
    ["function (a, b, s, t = 1) { return 1 }", "a parameter is a name"],
    ["function (a, b, s, ...t) { return 1 }", "a parameter is a name"],
    ["function (a, b, s, {t}) { return 1 }", "a parameter is a name"],
    ["function (a, b, s, s) { return 1 }", "it is no JavaScript"],
    ["function (a, b, s, Math) { return 1 }", "Math cannot be"],
    ["function (a, b, s, arguments) { return 1 }", "it is no JavaScript"],
  ])("is no source of a kernel: %j", (source, reason) => {
    expect(refusal(source)).toContain(reason);
  });
});

describe("an exact kernel", () => {
  const exact = (body: string, type: "f32" | "i32" = "f32"): string =>
    refused(body, {
      result: "exact",
      inputs: DECLARATION.inputs.map((each) => ({ ...each, type: each.name === "a" ? type : each.type })),
    });

  test.each([
    ["return s * 2 > 1 ? s - 0.5 : Math.floor(s + 0.5)"],
    ["return Math.max(s * 2, 7) "],
    ["let x = 0; for (let i = 0; i < this.constants.k; i++) x += b[i] * b[i] * 3; return x"],
    ["let x = 0; for (let i = 0; i < 9; i++) x = Math.max(x, a[0][i] * 3); return x"],
    ["return Math.floor(s * 3) * 2 + 1 + this.thread.x * t"],
    ["return (s & 255) * 0.5"],
  ])("is accepted: %s", (body) => {
    expect(exact(body)).toBe("accepted");
  });

  test.each([
    ["return s / 2", '2:8 its result is "exact", and / is not the same'],
    ["return t % 2", "% is not the same"],
    ["return Math.sin(s)", "Math.sin is not the same"],
    ["return Math.sqrt(t)", "Math.sqrt is not the same"],
    ["return t ** 2", "Math.pow is not the same"],
    ["return s * 2.5 + 1", "2:8 its result"],
    ["return 1 - s * s", "computes on with what was computed"],
    ["return s + s + s", "computes on with"],
    ["let x = s * 0.5; return x + 1", "2:25 its result"],
    ["let x = s; for (let i = 0; i < 2; i++) x += 0.5; return x", "computes on with"],
    ["return Math.abs(-(s * s)) - 1", "computes on with"],
    ["return (s > 1 ? s * s : s) + 1", "computes on with"],
    ["let x = 0; for (let i = 0; i < 9; i++) x += a[0][i]; return x", "computes on with"],
    ["return Math.round(s * s)", "computes on with"],
  ])("is refused: %s", (body, reason) => {
    expect(exact(body)).toContain(reason);
  });

  test("takes sums of whole numbers", () => {
    const body = "let x = 0; for (let i = 0; i < 9; i++) x += a[0][i] * 3; return x";
    expect([exact(body, "i32"), exact(body, "f32")]).toEqual(["accepted", expect.stringContaining("exact")]);
  });
});
