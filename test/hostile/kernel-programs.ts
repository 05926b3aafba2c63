/** Programs that mean harm by the kernels that they define and call, and by blocks: how these may end, see programs.ts. */
import { FaultCode } from "../../packets/faults.ts";
import type { HostileEnd, HostileProgram } from "./programs.ts";

const LATE = ["PFS_EXECUTOR_DEADLINE"] as const;
const INVALID = ["PFS_PROGRAM_INVALID"] as const;
const THREW = [FaultCode.threw] as const;
const FULL = [FaultCode.memoryLimit, "PFS_EXECUTOR_ENDED", "PFS_EXECUTOR_DEADLINE", FaultCode.threw] as const;
const LIMITS = "limits: { timeMs: 300, memoryBytes: 67108864, outputBytes: 1048576, logBytes: 4096 }";
const INPUTS = '[{ name: "v", type: "f32", shape: ["n"] }]';
const OUTPUTS = '[{ name: "output", type: "f32", shape: ["n"] }]';

interface Parts {
  readonly cpu?: string;
  readonly inputs?: string;
  readonly outputs?: string;
  /** Properties of the declaration besides. */
  readonly rest?: string;
  readonly before?: string;
  readonly map?: string;
  readonly reader?: string;
}

function kernel(name: string, parts: Parts, ends: readonly HostileEnd[], yields?: string): HostileProgram {
  const { cpu = "({ v }) => v", inputs = INPUTS, outputs = OUTPUTS, rest = "", before = "" } = parts;
  const { map = "return k({ v: [1, 2] })[1];", reader = '{ kind: "lines" }' } = parts;
  const source = `${before}
    const k = $packetfs.kernel({ name: "k", kind: "wgsl", result: "exact", source: "", hasCpu: true, inputs: ${inputs}, outputs: ${outputs}, ${rest} },
      { isSingle: true, cpu: ${cpu} });
    export default { input: ${reader}, ${LIMITS}, map(record, c) { ${map} } };`;
  return { name: `kernels: ${name}`, source, ends, ...(yields === undefined ? {} : { yields }) };
}

/** One that must yield this, as a partial result of a list has it. */
function probe(name: string, parts: Parts, yields: unknown): HostileProgram {
  return kernel(name, parts, [], `[${JSON.stringify(yields)}]\n`);
}

/** What it finds, or how that is refused. */
function tried(expression: string): string {
  return `try { return String(${expression}); } catch (error) { return error.name; }`;
}

const BLOCK: Parts = { reader: '{ kind: "block" }' };

export const KERNEL_PROGRAMS: readonly HostileProgram[] = [
  kernel("a cpu without end", { cpu: "() => { for (;;); }" }, LATE),
  kernel(
    "a cpu that takes all memory",
    { cpu: "() => { const all = []; for (;;) all.push(new Array(1e6).fill(all)); }" },
    FULL,
  ),
  kernel("a declaration without end", { rest: "get maxTrip() { for (;;); }" }, INVALID),
  kernel("a declaration that is too long", { rest: 'workgroup: "x".repeat(5e6)' }, [
    ...INVALID,
    "PFS_EXECUTOR_ENDED",
  ]),
  kernel(
    "shapes without end",
    { inputs: '[{ name: "v", type: "f32", get shape() { for (;;); } }]' },
    INVALID,
  ),
  kernel(
    "more of them than a program has",
    { before: `for (let at = 0; at < 100; at++) $packetfs.kernel({ inputs: [], outputs: [] }, {});` },
    INVALID,
  ),
  kernel("a result that pretends", { cpu: "({ v }) => new Proxy(v, {})" }, THREW),
  kernel(
    "a result that says that it is longer",
    { cpu: '({ v }) => Object.defineProperty(new Float32Array(1), "length", { value: 2 })' },
    THREW,
  ),
  kernel(
    "a cpu that throws what throws",
    { cpu: "() => { throw { get message() { throw this; } }; }" },
    THREW,
  ),
  kernel(
    "outputs of more than there is",
    { outputs: '[{ name: "output", type: "f32", shape: ["n", 9007199254740991] }]' },
    THREW,
  ),
  kernel(
    "a dimension of more than there is",
    { map: "return k({ v: new Float32Array(2) }, { n: 9007199254740991 })" },
    THREW,
  ),
  kernel("a call from within a call", { cpu: "({ v }) => k({ v })" }, THREW),
  kernel("a call of every call", { map: "for (;;) k({ v: [1] });" }, LATE),
  probe(
    "inputs that pretend",
    {
      map: "const v = Object.defineProperties(new Float32Array([1, 2]), { length: { value: 1e9 }, buffer: { value: null }, constructor: { get() { throw 1; } } }); return [...k({ v })];",
    },
    [1, 2],
  ),
  probe(
    "names of what every object has",
    {
      inputs: '[{ name: "__proto__", type: "f32", shape: ["constructor"] }]',
      outputs: '[{ name: "output", type: "f32", shape: ["constructor"] }]',
      cpu: "(given, sizes) => { const v = Object.getOwnPropertyDescriptor(given, '__proto__').value; return v.map(() => sizes.constructor); }",
      map: "return [...k(JSON.parse('{\"__proto__\": [5, 6]}'))];",
    },
    [2, 2],
  ),
  probe(
    "what a cpu has of the packet",
    { cpu: "function () { return new Float32Array([arguments.length, this === undefined ? 7 : 8]); }" },
    7,
  ),
  probe(
    "what a kernel is made of",
    { map: tried("k.constructor('return typeof $packetfs + typeof ask + typeof questions')()") },
    "undefinedundefinedundefined",
  ),
  probe("a kernel that is written to", { map: tried("k.seen = 1") }, "TypeError"),
  probe(
    "a block of one's own",
    { ...BLOCK, map: tried("new record.constructor({}, { origin: 0, from: 0, length: 9 }).length") },
    "TypeError",
  ),
  probe(
    "a block of a block's class",
    { ...BLOCK, map: tried("Reflect.construct(Object, [], record.constructor).length") },
    "TypeError",
  ),
  probe(
    "a block's methods on what is none",
    { ...BLOCK, map: tried("record.slice.call({ length: 9 })") },
    "TypeError",
  ),
  probe(
    "a class that inherits from a block's",
    {
      ...BLOCK,
      map: tried("new (class extends record.constructor { constructor() { super({}, record); } })().bytes"),
    },
    "TypeError",
  ),
  probe(
    "the prototype of blocks",
    { ...BLOCK, map: tried("Object.getPrototypeOf(record).slice = 1") },
    "TypeError",
  ),
  probe(
    "a part of a block beyond it",
    {
      ...BLOCK,
      map: "return [record.slice(-5, 99).length, record.slice(5).length, record.slice(NaN, Infinity).length, record.slice(1, 0).length];",
    },
    [1, 0, 1, 0],
  ),
];
