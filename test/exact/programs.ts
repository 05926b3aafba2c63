/**
 * Random programs whose answers would differ if a packet could see what another left: each does honest work, and tries to
 * remember. What protects itself by throwing counts as an answer, too.
 */
import type { Random } from "../sim/random.ts";
import { imported } from "../wasm-module.ts";
import type { WasmParts } from "../wasm-module.ts";

/** A way to leave something for the next packet: what `recall` gives would count up, or change, if it worked. */
export interface Memory {
  readonly name: string;
  /** Statements of the module's scope. */
  readonly scope?: string;
  /** An expression of `line`, the record, and `c`, map's context. */
  readonly recall: string;
  /** It needs something of V8 that cannot be had at all; with every protection gone it still remembers nothing. */
  readonly isInert?: true;
}

/** Counts on any object that can be written to. */
const COUNT = `const count = (object, name = "seen") => { object[name] = (object[name] ?? 0) + 1; return object[name]; };`;

function counts(name: string, object: string): Memory {
  return { name, scope: COUNT, recall: `count(${object})` };
}

/** A module that remembers in its memory, a global and what it asked for; each function counts one of these up. */
const REMEMBERING: WasmParts = {
  memory: [1, 9],
  globals: [{ type: "i32", code: "i32.const 0" }],
  data: [{ at: 5000, bytes: [7, 0, 0, 0] }],
  functions: [
    {
      name: "stored",
      results: ["i32"],
      code: "i32.const 5000 i32.const 5000 i32.load 0 i32.const 1 i32.add i32.store 0 i32.const 5000 i32.load 0",
    },
    {
      name: "filled",
      results: ["i32"],
      code: "i32.const 70000 i32.load8_u 0 i32.const 70000 i32.const 1 i32.const 9 memory.fill",
    },
    { name: "counted", results: ["i32"], code: "global.get 0 i32.const 1 i32.add global.set 0 global.get 0" },
    { name: "grown", results: ["i32"], code: "i32.const 1 memory.grow" },
  ],
};

/** A module that writes to its table, and one that drops what it is to be filled with. */
const WEARING: WasmParts = {
  memory: [1],
  table: [2],
  elements: [0],
  data: [{ bytes: "gone" }],
  functions: [
    { code: "" },
    { name: "set", results: ["i32"], code: "table.size 0 ref.null i32.const 1 table.grow 0 drop" },
    {
      name: "dropped",
      results: ["i32"],
      code: "i32.const 0 i32.const 0 i32.const 4 memory.init 0 0 data.drop 0 i32.const 0 i32.load 0",
    },
  ],
};

export const MEMORIES: readonly Memory[] = [
  ...(["stored", "filled", "counted", "grown"] as const).map((name) => ({
    name: `what a WebAssembly module ${name}`,
    scope: `const k = ${imported(REMEMBERING)};`,
    recall: `k.call("${name}")`,
  })),
  {
    name: "the table of a WebAssembly module",
    scope: `const wearing = ${imported(WEARING)};`,
    recall: 'wearing.call("set")',
  },
  {
    name: "data that a WebAssembly module drops",
    scope: `const wearing = ${imported(WEARING)};`,
    recall: 'wearing.call("dropped")',
  },
  counts("a WebAssembly module's handle", imported(REMEMBERING)),
  counts("what calls a WebAssembly module", `${imported(REMEMBERING)}.call`),
  { name: "a module's variable", scope: "let n = 0;", recall: "++n" },
  { name: "a closure", scope: "const next = (() => { let n = 0; return () => ++n; })();", recall: "next()" },
  { name: "a module's array", scope: "const kept = [];", recall: "kept.push(line)" },
  {
    name: "a module's cache",
    scope: "const cache = new Map();",
    recall: "(cache.set(line + cache.size, 1), cache.size)",
  },
  {
    name: "a static field",
    scope: "class Counter { static #n = 0; static next() { return ++Counter.#n; } }",
    recall: "Counter.next()",
  },
  { name: "a function's property", scope: "function own() {} " + COUNT, recall: "count(own)" },
  {
    name: "a generator",
    scope: "const numbers = (function* () { for (let n = 0; ; n++) yield n; })();",
    recall: "numbers.next().value",
  },
  {
    name: "a global expression's lastIndex",
    scope: "const x = /x/g;",
    recall: '[x.test("xxxxxxx"), x.lastIndex]',
  },
  {
    name: "a sticky expression's lastIndex",
    scope: "const y = /./y;",
    recall: '[y.test("yyyyyyy"), y.lastIndex]',
  },
  {
    name: "a decoder's rest",
    scope: "const decoder = new TextDecoder();",
    recall: 'decoder.decode(new TextEncoder().encode("é").subarray(0, 1), { stream: true })',
  },
  { name: "what a module draws", scope: "const drawn = Math.random();", recall: "drawn", isInert: true },
  { name: "what a packet draws", recall: "Math.random()", isInert: true },
  {
    name: "a promise",
    scope: "let done = 0;",
    recall: "(Promise.resolve().then(() => { done++; }), done)",
  },
  {
    name: "a promise that sees how far its packet is",
    recall:
      '(Promise.resolve().then(() => { if (c.index === 1 && line[0] === "é") throw new Error("alone"); }), 0)',
  },
  counts("the global object", "globalThis"),
  counts("Array.prototype", "Array.prototype"),
  counts("Object.prototype", "Object.prototype"),
  counts("String.prototype", "String.prototype"),
  counts("Function.prototype", "Function.prototype"),
  counts("Promise.prototype", "Promise.prototype"),
  counts("a built-in function", "Math.max"),
  counts("the prototype of iterators", "Object.getPrototypeOf([].values())"),
  counts("the prototype of generators", "(function* () {}).constructor.prototype"),
  counts("the prototype of async functions", "(async () => {}).constructor.prototype"),
  counts("the prototype of typed arrays", "Object.getPrototypeOf(Uint8Array.prototype)"),
  counts("an accessor of a prototype", 'Object.getOwnPropertyDescriptor(Map.prototype, "size").get'),
  counts("TextDecoder", "TextDecoder.prototype"),
  counts("the console", "console"),
  counts("console.log", "console.log"),
  counts("emit", "c.emit"),
  counts("the context", "c"),
  counts("the context's getter", 'Object.getOwnPropertyDescriptor(c, "offset").get'),
  counts("the arguments", "c.args"),
  counts("what hangs on the arguments", "c.args.deep.list[0]"),
  { name: "a list of the arguments", recall: "c.args.deep.list.push(1)" },
  {
    name: "a patched method",
    recall:
      "(() => { const before = Math.abs; Math.abs = (value) => before(value) + 1; return Math.abs(-1); })()",
  },
  {
    name: "a patched JSON",
    recall: `(() => { const { parse } = JSON; JSON.parse = (text) => [parse(text)]; return JSON.parse("1"); })()`,
  },
  {
    name: "a patched clock",
    recall: "(() => { const now = Date.now(); Date.now = () => now + 1; return now; })()",
  },
  {
    name: "a replaced global",
    recall: "(() => { const before = typeof isNaN; globalThis.isNaN = 1; return before; })()",
  },
  {
    name: "a variable of eval",
    recall: `(0, eval)("var left = typeof left === 'undefined' ? 0 : left + 1; left")`,
  },
  {
    name: "a variable of sloppy code",
    recall: `new Function("try { remembered++; } catch { remembered = 0; } return typeof remembered + remembered")()`,
  },
  {
    name: "the limit of stack traces",
    recall:
      "(() => { const before = Error.stackTraceLimit; Error.stackTraceLimit = before + 1; return before; })()",
  },
  {
    name: "how stacks are prepared",
    recall: `(() => { const { stack } = new Error("x"); Error.prepareStackTrace = () => "mine"; return stack === "mine"; })()`,
  },
  counts("what gives an error its stack", 'Object.getOwnPropertyDescriptor(new Error("x"), "stack").get'),
  {
    name: "a stack, by which way the prelude came",
    scope: "const later = async () => 1;",
    recall: '(later(), new Error("x").stack)',
  },
  { name: "what was matched last", recall: "[RegExp.$1, /(.+)/.test(line + Math.random())]" },
  { name: "the registry of symbols", recall: 'String(Symbol.for("left"))', isInert: true },
  {
    name: "a template's strings",
    scope: "const met = new WeakMap(); const tag = (strings) => strings;",
    recall: "((strings) => (met.set(strings, (met.get(strings) ?? 0) + 1), met.get(strings)))(tag`a`)",
  },
  {
    name: "a private name on a built-in",
    scope: `class Give { constructor(object) { return object; } }
      class Stamp extends Give { #n = 0; static count(object) { if (!(#n in object)) new Stamp(object); return ++object.#n; } }`,
    recall: "Stamp.count(Array.prototype)",
  },
  {
    name: "a shared list",
    scope: "const list = $packetfs.shared(() => [[0]]);",
    recall: "list[0].push(1)",
  },
  {
    name: "a shared object",
    scope: `${COUNT} const table = $packetfs.shared(() => ({ a: {} }));`,
    recall: "count(table.a)",
  },
  {
    name: "a shared map",
    scope: 'const map = $packetfs.shared(() => new Map([["n", 0]]));',
    recall: '(map.set("n", map.get("n") + 1), map.get("n"))',
  },
  {
    name: "a shared set",
    scope: "const set = $packetfs.shared(() => new Set());",
    recall: "(set.add(set.size), set.size)",
  },
  {
    name: "shared bytes",
    scope: "const bytes = $packetfs.shared(() => new Uint8Array(4));",
    recall: "(bytes[0] += 1, bytes[0])",
  },
  {
    name: "imported data",
    scope: `${COUNT} const data = $packetfs.json('{"a":{"b":1}}');`,
    recall: "count(data.a)",
  },
];

export interface RandomProgram {
  readonly source: string;
  readonly memories: readonly string[];
  readonly args: unknown;
  /** Whether packets of partial results can be merged and finished. */
  readonly merges: boolean;
}

/** Honest work, as an expression of `line`. */
const WORK = [
  "line.length",
  "Number(line) / 3",
  'line.split(" ").map((word) => word.toUpperCase()).sort()',
  "new Uint32Array([line.length, line.charCodeAt(0)])",
  "new Map([[line, BigInt(line.length) ** 40n]])",
  "({ nan: NaN, none: undefined, at: new Date(line.length), minus: -0 })",
  "JSON.stringify({ line, bytes: [...new TextEncoder().encode(line)] })",
  "[...line].reduce((hash, unit) => Math.imul(hash ^ unit.codePointAt(0), 16777619) >>> 0, 2166136261)",
];

/** How what is yielded is put together. */
const SHAPES = [
  { yields: "value", merges: true, body: "return [VALUE];", rest: "" },
  {
    yields: "value",
    merges: true,
    body: "return [VALUE];",
    rest: "combine: (a, b) => { const line = `${a.length}`; const c = outer; return [...a, ...b, RECALL]; },",
  },
  {
    yields: "groups",
    merges: true,
    body: "c.emit(line.slice(0, 1), VALUE);",
    rest: "reduce: (key, values, args) => { const line = key; const c = { ...outer, args }; return [values, RECALL]; },",
  },
  { yields: "bytes", merges: false, body: "c.write(show(VALUE));", rest: "" },
] as const;

function pick<Item>(random: Random, items: readonly Item[]): Item {
  return items[random.integer(0, items.length - 1)]!;
}

/** A program that does some work and tries to remember in every way of `memories`. */
export function programOf(random: Random, memories: readonly Memory[]): RandomProgram {
  const shape = pick(random, SHAPES);
  const scopes = new Set(memories.map(({ scope = "" }) => scope.replace(COUNT, "")));
  const recalls = memories.map(({ recall }) => `attempt(() => ${recall})`);
  const value = `[${[pick(random, WORK), ...recalls].join(", ")}]`;
  const combined = recalls.length === 0 ? "0" : `[${recalls.join(", ")}]`;
  const source = `${COUNT} ${[...scopes].join("\n")}
    const outer = { args: {}, emit() {}, get offset() { return 0; } };
    const attempt = (work) => { try { return work(); } catch (error) { return error.name; } };
    const show = (value) => JSON.stringify(value, (_, each) => (typeof each === "bigint" ? String(each) : each)) + "\\n";
    export default {
      input: { kind: "lines" }, yields: "${shape.yields}", ${shape.rest.replace("RECALL", combined)}
      map(line, c) { ${shape.body.replace("VALUE", value)} },
    };`;
  const args = { deep: { list: [{}] } };
  return { source, memories: memories.map(({ name }) => name), args, merges: shape.merges };
}

export function randomProgram(random: Random): RandomProgram {
  const count = random.integer(0, 3);
  const memories = new Set(Array.from({ length: count }, () => pick(random, MEMORIES)));
  return programOf(random, [...memories]);
}
