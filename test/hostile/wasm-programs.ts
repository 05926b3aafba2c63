/** WebAssembly modules that mean harm, in programs that use them, and how these may end: see programs.ts. */
import { FaultCode } from "../../packets/faults.ts";
import { allocator, imported, u32 } from "../wasm-module.ts";
import type { WasmParts } from "../wasm-module.ts";
import type { HostileEnd, HostileProgram } from "./programs.ts";

const LATE = ["PFS_EXECUTOR_DEADLINE"] as const;
const INVALID = ["PFS_PROGRAM_INVALID"] as const;
const THREW = [FaultCode.threw] as const;
const LIMITS = "limits: { timeMs: 300, memoryBytes: 67108864, outputBytes: 1048576, logBytes: 4096 }";

/** A program whose map is `body`, in which k is the module. */
function wasm(
  name: string,
  parts: WasmParts,
  ends: readonly HostileEnd[],
  body = 'return k.call("f");',
  yields?: string,
): HostileProgram {
  const source = `const k = ${imported(parts)};
    export default { input: { kind: "lines" }, ${LIMITS}, map(line) { ${body} } };`;
  return { name: `WebAssembly: ${name}`, source, ends, ...(yields === undefined ? {} : { yields }) };
}

function run(code: string, rest: WasmParts = {}): WasmParts {
  return { memory: [1], functions: [{ name: "f", code }], ...rest };
}

/** What f yields, where it is asked for bytes. */
function gives(place: number, length: number): WasmParts {
  const code = `i64.const ${BigInt(place) * 2n ** 32n + BigInt(length)}`;
  return { memory: [1], functions: [{ name: "f", results: ["i64"], code }] };
}

/** What alloc gives, whatever it is asked for. */
function allocates(place: number): WasmParts {
  return {
    memory: [1],
    functions: [
      { name: "alloc", params: ["i32"], results: ["i32"], code: `i32.const ${place}` },
      { name: "f", params: ["i32", "i32"], code: "local.get 0 i32.const 1 i32.store8 0" },
    ],
  };
}

const WITH_LINE = 'return k.call("f", line);';
const AS_BYTES = 'return k.bytes("f");';
const LOG = [{ module: "packetfs", name: "log", kind: [0] }];
const { globals, alloc } = allocator(1024);

export const WASM_PROGRAMS: readonly HostileProgram[] = [
  wasm("endless loop", run("loop br 0 end"), LATE),
  wasm(
    "endless loop when it starts",
    { ...run(""), start: 0, functions: [{ name: "f", code: "loop br 0 end" }] },
    LATE,
  ),
  wasm("endless tail calls", run("return_call 0"), LATE),
  wasm("endless recursion", run("call 0"), THREW),
  wasm(
    "endless recursion, which the program catches",
    run("call 0"),
    THREW,
    'try { k.call("f"); } catch {} return "caught";',
  ),
  wasm(
    "recursion of large frames",
    {
      memory: [1],
      functions: [
        {
          name: "f",
          locals: Array.from({ length: 20_000 }, () => "i64" as const),
          code: "call 0 local.get 0 drop",
        },
      ],
    },
    THREW,
  ),
  {
    name: "WebAssembly: endless loop at load",
    source: `${imported(run("loop br 0 end"))}.call("f");\nexport default {};`,
    ends: [...INVALID, ...LATE],
  },
  wasm(
    "grows without end",
    {
      memory: [1],
      functions: [
        { name: "f", results: ["i32"], code: "loop i32.const 1 memory.grow drop br 0 end i32.const 0" },
      ],
    },
    LATE,
  ),
  wasm(
    "grows as far as it goes",
    {
      memory: [1],
      functions: [
        {
          name: "f",
          results: ["i32"],
          code: "loop i32.const 1 memory.grow i32.const -1 i32.ne br_if 0 end memory.size",
        },
      ],
    },
    [],
    undefined,
    // Half of its program's.
    "[512]\n",
  ),
  wasm(
    "fills all of its memory, again and again",
    run(
      "i32.const 511 memory.grow drop loop i32.const 0 i32.const 1 i32.const 33554432 memory.fill br 0 end",
    ),
    [...LATE, FaultCode.memoryLimit, "PFS_EXECUTOR_ENDED"],
  ),
  wasm(
    "memory beside a buffer that takes the other half",
    run("i32.const 511 memory.grow drop i32.const 0 i32.const 1 i32.const 33554432 memory.fill"),
    [FaultCode.memoryLimit, "PFS_EXECUTOR_ENDED"],
    'k.call("f"); const all = []; for (;;) all.push(new Uint8Array(4e6).fill(1));',
  ),
  wasm("a memory that is too large from the start", run("", { memory: [32_769] }), INVALID),
  wasm("more memory from the start than its program's", run("", { memory: [513] }), INVALID),
  wasm("a table of a billion elements", run("", { table: [1_000_000_000] }), INVALID),
  wasm(
    "tables that grow without end",
    {
      memory: [1],
      table: [1],
      functions: [{ name: "f", code: "loop ref.null i32.const 1000 table.grow 0 drop br 0 end" }],
    },
    LATE,
  ),
  wasm("trap", run("unreachable"), THREW),
  wasm("division by zero", run("i32.const 1 i32.const 0 i32.div_u drop"), THREW),
  wasm("reads outside of its memory", run("i32.const -1 i32.load 0 drop"), THREW),
  wasm("writes outside of its memory", run("i32.const -1 i64.const 1 i64.store 4294967295"), THREW),
  wasm("fills outside of its memory", run("i32.const 1 i32.const 1 i32.const -1 memory.fill"), THREW),
  wasm("calls what is no function of that type", run("i32.const 0 call_indirect 0 0", { table: [1] }), THREW),
  wasm("alloc gives a place outside of its memory", allocates(-1), THREW, WITH_LINE),
  wasm("alloc gives a place at whose end too little is left", allocates(65_535), THREW, WITH_LINE),
  wasm("alloc gives none", allocates(0), THREW, WITH_LINE),
  wasm(
    "is given more than fits",
    { memory: [1], globals, functions: [alloc, { name: "f", params: ["i32", "i32"], code: "" }] },
    THREW,
    'return k.call("f", "x".repeat(12e6));',
  ),
  wasm("gives bytes outside of its memory", gives(65_536, 1), THREW, AS_BYTES),
  wasm("gives more bytes than there are", gives(1, 0xffffffff), THREW, AS_BYTES),
  wasm("gives bytes from the end of the address space", gives(0xffffffff, 0xffffffff), THREW, AS_BYTES),
  wasm(
    "gives all of its memory",
    gives(0, 65_536),
    [FaultCode.outputLimit],
    'return Array(64).fill(k.text("f"));',
  ),
  wasm("logs without end", run("loop i32.const 0 i32.const 65536 call 0 br 0 end", { imports: LOG }), LATE),
  wasm(
    "logs what is outside of its memory",
    run("i32.const -1 i32.const -1 call 0", { imports: LOG }),
    THREW,
  ),
  wasm(
    "is called in every wrong way",
    {
      memory: [1],
      functions: [{ name: "f", params: ["i64", "f64"], results: ["i64"], code: "local.get 0" }],
    },
    [],
    `const wrong = [[], [1, 2], [1n], [1n, 2n], [1n, 2, 3], ["x"], [{}, 2], [new DataView(new ArrayBuffer(8)), 1], [null, undefined]];
     let refused = 0; for (const args of wrong) try { k.call("f", ...args); } catch (error) { if (error.constructor === TypeError) refused++; }
     for (const name of ["g", "__proto__", "constructor", "packetfs:restore", "packetfs:pages", undefined, Symbol.iterator])
       try { k.call(name); } catch (error) { if (error.constructor === TypeError) refused++; }
     return [refused, String(k.call("f", -1n, NaN))];`,
    '[[16,"-1"]]\n',
  ),
  wasm(
    "what V8 throws, and what it has of a module, are not to be had",
    run("unreachable"),
    [],
    `const seen = []; const look = (error) => seen.push(error.constructor === Error || error.constructor === TypeError);
     try { k.call("f"); } catch (error) { look(error); }
     try { $packetfs.wasm("x", "AGFzbQEAAAAA"); } catch (error) { look(error); }
     try { $packetfs.wasm("x", { length: 8, endsWith: () => true }); } catch (error) { look(error); }
     for (const each of [k, k.call, k.bytes, k.text, k.exports, k.exports.f, k.exports.f.results]) seen.push(Object.isFrozen(each));
     return seen.join() + Object.keys(k);`,
    `["${Array(10).fill("true").join()}name,exports,call,bytes,text"]\n`,
  ),
  wasm(
    "a function of a million blocks",
    run("block ".repeat(500_000) + "end ".repeat(500_000)),
    [...INVALID, ...LATE, ...THREW, "PFS_EXECUTOR_ENDED"],
    undefined,
    "",
  ),
  wasm(
    "a count of functions that are not there",
    { memory: [1], sections: [{ id: 10, bytes: u32(4_294_967_295) }] },
    INVALID,
  ),
];
