/**
 * Programs that mean harm, or look as if they did. Each is a module's text and how it may end: a number is a FaultCode,
 * text a SandboxError's code, and "ok" with the output that it must then have.
 */
import { FaultCode } from "../../packets/faults.ts";
import { KERNEL_PROGRAMS } from "./kernel-programs.ts";
import { WASM_PROGRAMS } from "./wasm-programs.ts";

export type HostileEnd = FaultCode | "PFS_PROGRAM_INVALID" | "PFS_EXECUTOR_ENDED" | "PFS_EXECUTOR_DEADLINE";

export interface HostileProgram {
  readonly name: string;
  readonly source: string;
  readonly entry?: "map" | "merge" | "finish";
  /** The packet's input. */
  readonly input?: string;
  /** The ways it may end with a fault; none where it must end well. */
  readonly ends: readonly HostileEnd[];
  /** What it must yield when it ends well, by itself or in spite of `ends`. */
  readonly yields?: string;
}

const LATE = ["PFS_EXECUTOR_DEADLINE"] as const;
const FULL = [FaultCode.memoryLimit, "PFS_EXECUTOR_ENDED"] as const;
/** Memory that is asked for faster than it can be given takes time instead. */
const FULL_OR_LATE = [...FULL, ...LATE, FaultCode.threw] as const;
const INVALID = ["PFS_PROGRAM_INVALID"] as const;
const LIMITS = "limits: { timeMs: 300, memoryBytes: 67108864, outputBytes: 1048576, logBytes: 4096 }";

function program(body: string, before = ""): string {
  return `${before}\nexport default { input: { kind: "lines" }, ${LIMITS}, ${body} };`;
}

function map(name: string, body: string, ends: readonly HostileEnd[]): HostileProgram {
  return { name, source: program(`map(line, c) { ${body} }`), ends };
}

/** A program that tries to get hold of something: it must yield exactly this text. */
function probe(name: string, expression: string, yields: string): HostileProgram {
  const source = program(`yields: "bytes", map(line, c) {
    let found; try { found = ${expression}; } catch (error) { found = error.name; } c.write(String(found)); }`);
  return { name, source, ends: [], yields };
}

const LOOPS: readonly HostileProgram[] = [
  map("loop in map", "for (;;);", LATE),
  { name: "loop in init", source: program("init() { for (;;); }, map() {}"), ends: LATE },
  {
    name: "loop in combine",
    source: program("map: () => 1, combine() { for (;;); }"),
    input: "a\nb",
    ends: LATE,
  },
  {
    name: "loop in merge",
    source: program("map: () => 1, combine() { for (;;); }"),
    entry: "merge",
    input: "1\n2\n",
    ends: LATE,
  },
  {
    name: "loop in reduce",
    source: program("map: () => 1, reduce() { for (;;); }"),
    entry: "finish",
    input: "[1]\n",
    ends: LATE,
  },
  { name: "loop at load", source: "for (;;);\nexport default {};", ends: [...INVALID, ...LATE] },
  {
    name: "loop in a getter of the declaration",
    source: 'export default { input: { kind: "lines" }, get map() { for (;;); } };',
    ends: [...INVALID, ...LATE],
  },
  {
    name: "loop in the declaration's toJSON",
    source: "export default { input: { toJSON() { for (;;); } }, map() {} };",
    ends: [...INVALID, ...LATE],
  },
  {
    name: "declaration that is a proxy",
    source: "export default new Proxy({}, { get() { for (;;); } });",
    ends: [...INVALID, ...LATE],
  },
  {
    name: "error at load whose stack loops",
    source: "throw { get stack() { for (;;); }, get message() { for (;;); } };",
    ends: [...INVALID, ...LATE],
  },
  map("toJSON loops", "return { toJSON() { for (;;); } };", [FaultCode.threw]),
  map("getter of a value loops", "return { get a() { for (;;); } };", LATE),
  map(
    "toString of a logged value loops",
    "console.log({ toString() { for (;;); }, toJSON() { for (;;); } });",
    LATE,
  ),
  map("stack getter loops", "throw { message: 'x', get stack() { for (;;); } };", LATE),
  map("message getter loops", "throw { get message() { for (;;); } };", LATE),
  map(
    "name getter loops",
    "const e = new Error('x'); Object.defineProperty(e, 'name', { get() { for (;;); } }); throw e;",
    LATE,
  ),
  map("prepareStackTrace loops", "Error.prepareStackTrace = () => { for (;;); }; throw new Error('x');", [
    FaultCode.threw,
  ]),
  map("proxy traps loop", "return new Proxy({}, { ownKeys() { for (;;); }, get() { for (;;); } });", LATE),
  map(
    "thrown proxy loops",
    "throw new Proxy({}, { get() { for (;;); }, getPrototypeOf() { for (;;); } });",
    LATE,
  ),
  map(
    "Symbol.species loops",
    "class A extends Array { static get [Symbol.species]() { for (;;); } } return new A(3).map((x) => x);",
    LATE,
  ),
  map("iterator loops", "return [...{ *[Symbol.iterator]() { for (;;) yield 1; } }];", [
    ...LATE,
    ...FULL,
    FaultCode.threw,
  ]),
  map("comparator loops", "[3, 2, 1].sort(() => { for (;;); });", LATE),
  map("eval loops", "return eval('for (;;);');", LATE),
  map("function of text loops", "return new Function('for (;;);')();", LATE),
  map("waits for the clock", "const t = Date.now(); while (Date.now() === t);", LATE),
  map("regular expression backtracks", "return /^(a+)+$/.test('a'.repeat(40) + 'b');", LATE),
  {
    name: "microtasks without end",
    source: program("map() { (function f() { Promise.resolve().then(f); })(); return 1; }"),
    ends: LATE,
    yields: "[1]\n",
  },
  map(
    "rejected promise whose stack loops",
    "Promise.reject({ get stack() { for (;;); }, get message() { for (;;); } }); return 1;",
    [...LATE, FaultCode.internal],
  ),
  map("indexOf over 2^53", "[].indexOf.call({ length: 2 ** 53 - 1 }, 1);", LATE),
  map("fill over 2^53", "Array.prototype.fill.call({ length: 2 ** 53 - 1 }, 1);", [...LATE, ...FULL]),
  map("BigInt power", "return String(3n ** (2n ** 27n) % 7n);", [...LATE, ...FULL, FaultCode.threw]),
  map("BigInt to text", "return ((1n << 29n) ** 4n << 50000000n).toString().length;", [
    ...LATE,
    ...FULL,
    FaultCode.threw,
  ]),
  map(
    "normalize",
    "let s = '\\u1E9B\\u0323'.repeat(1 << 22); for (let i = 0; i < 50; i++) s.normalize('NFKD').length;",
    [...LATE, ...FULL, FaultCode.threw],
  ),
];

const BOMBS: readonly HostileProgram[] = [
  map("array of arrays", "const all = []; for (;;) all.push(new Array(1000).fill(1));", FULL_OR_LATE),
  map("one array", "return new Array(2 ** 27).fill(1).length;", FULL_OR_LATE),
  map("array that doubles", "let a = [1]; for (;;) a = [...a, ...a];", FULL_OR_LATE),
  map("Array.from", "return Array.from({ length: 2 ** 31 }, () => ({})).length;", FULL_OR_LATE),
  map("Map", "const m = new Map(); for (let i = 0; ; i++) m.set(i, i);", FULL_OR_LATE),
  map("Set of texts", "const s = new Set(); for (let i = 0; ; i++) s.add('key' + i);", FULL_OR_LATE),
  map("object keys", "const o = {}; for (let i = 0; ; i++) o['k' + i] = i;", FULL_OR_LATE),
  map("linked list", "let head = null; for (;;) head = { head };", FULL_OR_LATE),
  map("text that doubles", "let s = 'x'; for (;;) s += s;", FULL_OR_LATE),
  map(
    "texts that are flat",
    "const all = []; for (let s = 'x'.repeat(1e6); ; ) { all.push((s + all.length).split('').reverse().join('')); }",
    FULL_OR_LATE,
  ),
  map(
    "repeat and pad",
    "const all = []; for (;;) { const s = 'ab'.padEnd(2 ** 28, 'xyz'); all.push(s, s.charCodeAt(2 ** 27)); }",
    FULL_OR_LATE,
  ),
  map("buffers", "const all = []; for (;;) all.push(new ArrayBuffer(1e7));", FULL_OR_LATE),
  map("small buffers", "const all = []; for (;;) all.push(new Uint8Array(64));", FULL_OR_LATE),
  map("a huge buffer", "return new Uint8Array(2 ** 33).length;", FULL_OR_LATE),
  map(
    "a growing buffer",
    "return new ArrayBuffer(8, { maxByteLength: 2 ** 40 }).resize(2 ** 33);",
    FULL_OR_LATE,
  ),
  map("values emitted", "for (let i = 0; ; i++) c.emit('', { i, text: 'x'.repeat(1000) });", [
    FaultCode.threw,
    FaultCode.outputLimit,
    ...FULL_OR_LATE,
  ]),
  {
    name: "keys emitted",
    source: program(
      `yields: "groups", map(line, c) { for (let i = 0; ; i++) c.emit("key" + i, i); }, combine: (a) => a`,
    ),
    ends: [FaultCode.outputLimit, ...FULL_OR_LATE],
  },
  {
    name: "bytes written",
    source: program(`yields: "bytes", map(line, c) { for (;;) c.write("x".repeat(1000)); }`),
    ends: [FaultCode.outputLimit],
  },
  {
    name: "bytes written on and on though it is told to stop",
    source: program(`yields: "bytes", map(line, c) { for (;;) try { c.write("x".repeat(1000)); } catch {} }`),
    ends: LATE,
  },
  map("a huge value", "return 'x'.repeat(2 ** 28);", [FaultCode.outputLimit, ...FULL_OR_LATE]),
  map("a nested value", "let v = 1; for (let i = 0; i < 1e6; i++) v = [v]; return v;", [
    FaultCode.threw,
    FaultCode.outputLimit,
    ...LATE,
  ]),
  map("a value in a circle", "const v = {}; v.v = v; return v;", [FaultCode.threw]),
  {
    name: "log flood",
    source: program("map(line, c) { for (;;) console.log('x'.repeat(1000)); }"),
    ends: LATE,
  },
  {
    name: "one huge log",
    source: program("map() { console.log('x'.repeat(2 ** 28)); }"),
    ends: FULL_OR_LATE,
    yields: "",
  },
  map("a huge error message", "throw new Error('x'.repeat(2 ** 28));", FULL_OR_LATE),
  map(
    "a huge error stack",
    "const e = new Error('x'); e.stack = ('\\n    at program.js' + 'y'.repeat(1000)).repeat(1e5); throw e;",
    [FaultCode.threw, ...FULL_OR_LATE],
  ),
  map("recursion", "(function f() { f(); })();", [FaultCode.threw]),
  map(
    "recursion into the prelude",
    "(function f() { try { console.log('x'); Math.random(); new TextEncoder().encode('x'); f(); } finally { c.emit('', 1); } })();",
    [FaultCode.threw],
  ),
  map("recursion in toJSON", "const v = { toJSON() { return { v }; } }; return v;", [FaultCode.threw]),
  map("function of much text", "return new Function('return 1;' + ' '.repeat(2 ** 28));", FULL_OR_LATE),
  map("JSON of much text", "return JSON.parse('['.repeat(1e7));", [FaultCode.threw, ...FULL_OR_LATE]),
];

const POISONS: readonly HostileProgram[] = [
  {
    name: "prototypes are emptied",
    source: program(
      `yields: "groups", map(line, c) { for (const w of words(line)) c.emit(w, w.length); }, combine: (a, b) => a + b`,
      `const split = String.prototype.split, call = Function.prototype.call.bind(Function.prototype.call);
       const words = (line) => call(split, line, " ");
       for (const proto of [Map.prototype, String.prototype, Function.prototype, Uint8Array.prototype, DataView.prototype,
         ArrayBuffer.prototype, Object.getPrototypeOf(Uint8Array.prototype), JSON, Reflect, Number, Promise.prototype]) {
         for (const name of Object.getOwnPropertyNames(proto)) {
           if (name === "constructor" || name === "prototype") continue;
           try { delete proto[name]; } catch {}
         }
       }`,
    ),
    input: "b a b\nc",
    ends: [],
    yields: '{"k":["b","a","c"],"v":[2,1,1]}\n',
  },
  {
    name: "prototypes lie",
    source: program(
      `map: (line) => line.length, combine: (a, b) => a + b`,
      `const evil = () => { throw new Error("evil"); };
       const lie = (object, ...names) =>
         names.forEach((name) => { try { Reflect.set(object, name, evil); } catch {} });
       lie(Map.prototype, "set", "get", "forEach"); lie(JSON, "stringify", "parse");
       lie(String.prototype, "slice", "indexOf", "charCodeAt"); lie(Function.prototype, "call", "apply", "bind");
       lie(Uint8Array.prototype, "set"); lie(Object, "freeze", "keys", "defineProperty");
       lie(globalThis, "Uint8Array", "Map", "Error"); lie(Reflect, "apply");`,
    ),
    input: "ab\nc",
    ends: [],
    yields: "3\n",
  },
  {
    name: "Object.prototype has setters and a toJSON",
    source: program(
      `map: (line) => ({ line })`,
      `for (const name of ["k", "v", "index", "text", "value", "get", "set", "writable"]) {
         const accessor = Object.create(null);
         Object.assign(accessor, { get() { return "evil"; }, set() {}, configurable: true });
         Reflect.defineProperty(Object.prototype, name, accessor);
       }
       Reflect.set(Array.prototype, "toJSON", () => "evil");`,
    ),
    ends: [],
    yields: '[{"line":"a"}]\n',
  },
  {
    name: "array elements have setters",
    source: program(
      `yields: "groups", map(line, c) { c.emit(line, 1); }`,
      `for (let i = 0; i < 10; i++) Reflect.defineProperty(Array.prototype, i, { set() { throw 1; }, configurable: true });`,
    ),
    ends: [FaultCode.threw],
    yields: '{"k":["a"],"v":[[1]]}\n',
  },
];

const ESCAPES: readonly HostileProgram[] = [
  probe(
    "process by the constructor chain",
    "this.constructor.constructor('return process')()",
    "ReferenceError",
  ),
  probe("require by the constructor chain", "c.emit.constructor('return require')()", "ReferenceError"),
  probe("process by console", "console.log.constructor('return typeof process')()", "undefined"),
  probe(
    "process by an async generator",
    "(async function* () {}).constructor('return process')().next().catch(() => 0) && typeof process",
    "undefined",
  ),
  probe(
    "process by eval",
    "eval('typeof process + typeof require + typeof module')",
    "undefinedundefinedundefined",
  ),
  probe(
    "globals",
    "Object.getOwnPropertyNames(globalThis).filter((n) => /process|require|ivm|isolate|_|host/i.test(n)).join()",
    "",
  ),
  probe(
    "host objects by the stack",
    "(() => { Reflect.set(Error, 'prepareStackTrace', (e, s) => s.map((f) => typeof f.getThis() + typeof f.getFunction()).join()); return /at Object.map/.test(new Error('x').stack); })()",
    "true",
  ),
  probe("the caller", "(function f() { return f.caller; })()", "TypeError"),
  probe("import()", "typeof import('node:fs').then(() => 0, () => 0)", "object"),
  { ...probe("import.meta", "Object.keys(import.meta).join()", ""), ends: INVALID },
  probe(
    "WebAssembly",
    "typeof WebAssembly + typeof SharedArrayBuffer + typeof Atomics",
    "undefinedundefinedundefined",
  ),
  probe("SharedArrayBuffer by way of a view", "new Uint8Array(1).buffer.constructor.name", "ArrayBuffer"),
  probe("gc", "String(globalThis.gc)", "undefined"),
  probe("the arguments of another packet", "(() => { 'use strict'; c.args.x = 1; })()", "TypeError"),
  probe("the context", "(() => { 'use strict'; c.emit = 1; })()", "TypeError"),
  { name: "static import", source: `import fs from "node:fs";\n${program("map() {}")}`, ends: INVALID },
  {
    name: "import that hides",
    source: `export * from "data:text/javascript,1";\n${program("map() {}")}`,
    ends: INVALID,
  },
  map("async that never ends", "return new Promise(() => {});", [FaultCode.threw]),
  {
    name: "module that never ends",
    source: "await new Promise(() => {});\nexport default {};",
    ends: INVALID,
  },
  map("throws null", "throw null;", [FaultCode.threw]),
  map("throws a symbol", "throw Symbol('x');", [FaultCode.threw]),
  map("throws a function", "throw () => 1;", [FaultCode.threw]),
  map("throws nothing", "throw undefined;", [FaultCode.threw]),
  map("throws a revoked proxy", "const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); throw proxy;", [
    FaultCode.threw,
  ]),
];

export const HOSTILE_PROGRAMS: readonly HostileProgram[] = [
  ...LOOPS,
  ...BOMBS,
  ...POISONS,
  ...ESCAPES,
  ...WASM_PROGRAMS,
  ...KERNEL_PROGRAMS,
];
