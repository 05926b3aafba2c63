/**
 * What becomes of a WebAssembly module before it runs: it computes what it did, its NaNs are canonical, a packet leaves nothing
 * for the next, and what could break that is refused.
 *
 *   PACKETFS_TEST_MODULES=20000 PACKETFS_TEST_SEED=7 npx vitest run test/runtime/program/wasm.test.ts
 */
import { describe, expect, it } from "vitest";
import { rewriteWasm } from "../../../runtime/program/wasm/rewriter.ts";
import type { RewrittenModule, WasmLimits } from "../../../runtime/program/wasm/rewriter.ts";
import { Random } from "../../sim/random.ts";
import { codeOf, wasmModule } from "../../wasm-module.ts";
import type { ValueType, WasmParts } from "../../wasm-module.ts";

/** PACKETFS_TEST_SEED repeats a run that failed, PACKETFS_TEST_MODULES says how many there are. */
const SEED = Number(process.env["PACKETFS_TEST_SEED"] ?? 20_261_127);
const MODULES = Number(process.env["PACKETFS_TEST_MODULES"] ?? 50);
const PAGE_BYTES = 65536;
const LIMITS: WasmLimits = { memoryPagesMax: 64, tableElementsMax: 1000 };

interface Memory {
  readonly buffer: ArrayBuffer;
}
interface Instance {
  readonly exports: Record<string, (...args: unknown[]) => unknown>;
}
/** The types of Node do not say what it has of WebAssembly. */
const { Module, Instance, Memory, validate } = (
  globalThis as unknown as {
    readonly WebAssembly: {
      readonly Module: new (bytes: Uint8Array) => object;
      readonly Instance: new (module: object, imports?: object) => Instance;
      readonly Memory: new (size: object) => Memory;
      readonly validate: (bytes: Uint8Array) => boolean;
    };
  }
).WebAssembly;

interface Running {
  readonly module: RewrittenModule;
  readonly exports: Instance["exports"];
  readonly memory: Memory;
  readonly logged: [number, number][];
  readonly restore: () => void;
}

/** Instantiates what a module has become, as a guest does. */
function run(parts: WasmParts | Uint8Array, limits: WasmLimits = LIMITS): Running {
  const module = rewriteWasm(parts instanceof Uint8Array ? parts : wasmModule(parts), limits);
  const memoryOf = (pages: number): Memory => new Memory({ initial: pages, maximum: pages });
  const memory = memoryOf(module.memoryPages);
  const marks = memoryOf(module.marksPages);
  const logged: [number, number][] = [];
  const log = (place: number, length: number): unknown => logged.push([place, length]);
  const instance = new Instance(new Module(module.bytes), {
    "packetfs:host": { memory, marks },
    packetfs: { log },
  });
  new Uint8Array(marks.buffer).set(new Uint8Array(memory.buffer, 0, module.imageBytes));
  return {
    module,
    exports: instance.exports,
    memory,
    logged,
    restore: () => instance.exports["packetfs:restore"]!(),
  };
}

function outcome(call: () => unknown): unknown {
  try {
    return call();
  } catch (error) {
    return String(error);
  }
}

const refusal = (parts: WasmParts | Uint8Array, limits: WasmLimits = LIMITS): unknown =>
  outcome(() => rewriteWasm(parts instanceof Uint8Array ? parts : wasmModule(parts), limits));

/** A module of one function, which is called f. */
function single(
  code: string,
  results: readonly ValueType[] = [],
  params: readonly ValueType[] = [],
  rest: WasmParts = {},
): WasmParts {
  return { memory: [1], functions: [{ name: "f", code, results, params }], ...rest };
}

describe("a module that was written again", () => {
  it("puts back what a packet stored, filled, copied and initialised, to the byte, and its globals", () => {
    const bytes = Array.from({ length: 9000 }, (_, index) => index % 251);
    const { exports, memory, module, restore } = run({
      memory: [3, 8],
      globals: [
        { type: "i32", code: "i32.const -7" },
        { type: "i64", code: "i64.const 1234567890123" },
        { type: "f32", code: "f32.const 1.5" },
        { type: "f64", code: "f64.const nan:7ff8000000000001" },
      ],
      data: [{ at: 5000, bytes }, { at: 131_000, bytes: "the last" }, { bytes: "passive" }],
      functions: [
        {
          name: "spoil",
          code: `i32.const 4095 i64.const -1 i64.store 0 i32.const 0 i32.const 1 i32.store8 65535
            i32.const 1 i32.const 2 i32.store 131000 i32.const 8191 f64.const 3 f64.store 1
            i32.const 196600 f32.const 2 f32.store 0 i32.const 20000 i32.const 255 i32.const 30000 memory.fill
            i32.const 100000 i32.const 131000 i32.const 8 memory.copy i32.const 60000 i32.const 0 i32.const 7 memory.init 2 0
            i32.const 40959 i32.const 7 f32x4.splat v128.store 0
            i32.const 81919 i32.const 7 f32x4.splat v128.store8_lane 0 3
            i32.const 196608 i32.const 0 i32.const 0 memory.fill
            i32.const 4 memory.grow drop i32.const 400000 i32.const 9 i32.store16 0
            i32.const 1 global.set 0 i64.const 2 global.set 1 f32.const 3 global.set 2 f64.const 4 global.set 3`.replaceAll(
            "i32.const 7 f32x4.splat",
            "f32.const 7 f32x4.splat",
          ),
        },
        {
          name: "globals",
          results: ["i64"],
          code: `global.get 0 i64.extend_i32_s global.get 1 i64.add global.get 2 f64.promote_f32 i64.reinterpret_f64 i64.add
            global.get 3 i64.reinterpret_f64 i64.add`,
        },
        { name: "pages", results: ["i32"], code: "memory.size" },
      ],
    });
    const image = Buffer.from(memory.buffer.slice(0));
    const globals = exports["globals"]!();
    for (let packet = 0; packet < 3; packet++) {
      exports["spoil"]!();
      expect(Buffer.from(memory.buffer).equals(image)).toBe(false);
      expect(exports["pages"]!()).toBe(7);
      restore();
      expect(Buffer.from(memory.buffer).equals(image)).toBe(true);
      expect([exports["globals"]!(), exports["pages"]!()]).toEqual([globals, 3]);
    }
    expect(module.wearsOut).toBe(false);
  });

  it("puts back granules at every border, whatever their neighbours are", () => {
    const { exports, memory, restore } = run(
      single("local.get 0 i64.const -1 i64.store 0", [], ["i32"], {
        memory: [2, 2],
        data: [{ at: 4090, bytes: "across a border" }],
      }),
    );
    const image = Buffer.from(memory.buffer.slice(0));
    for (let place = 0; place < 2 * PAGE_BYTES - 8; place += 4091) {
      for (const near of [place, place ^ 4096, 2 * PAGE_BYTES - 8]) exports["f"]!(near);
      restore();
      expect(Buffer.from(memory.buffer).equals(image), `at ${place}`).toBe(true);
    }
  });

  it("is not spoiled by a store that fails, wherever", () => {
    const { exports, memory, restore } = run(
      single("local.get 0 i32.const -1 i32.store 2147483640", [], ["i32"], {
        data: [{ at: 0, bytes: "image" }],
      }),
    );
    const image = Buffer.from(memory.buffer.slice(0));
    for (const place of [0, 1, 65_533, 4_194_300, 2 ** 31, 2 ** 31 + 6, -1, -2, 2 ** 31 + 7]) {
      expect(outcome(() => exports["f"]!(place))).toContain("memory access out of bounds");
      restore();
      expect(Buffer.from(memory.buffer).equals(image)).toBe(true);
    }
  });

  it("is not spoiled by a lack of stack, wherever it is felt", () => {
    for (let locals = 0; locals < 24; locals++) {
      const { exports, memory, restore } = run({
        memory: [2, 2],
        functions: [
          {
            name: "f",
            params: ["i32"],
            locals: Array.from({ length: locals }, () => "i64"),
            // Each level writes to a granule of its own, and leaves something behind the call, which no tail call would.
            code: `local.get 0 i32.const 131071 i32.and i32.const 1 i32.const 0 i32.const 1 i32.add memory.fill
              local.get 0 i32.const 4096 i32.add call 0 ${locals > 0 ? "local.get 1 drop" : ""} global.get 0 drop`,
          },
        ],
        globals: [{ type: "i32", code: "i32.const 0" }],
      });
      expect(outcome(() => exports["f"]!(0))).toMatch(/Maximum call stack size exceeded/);
      restore();
      expect(new Uint8Array(memory.buffer).every((byte) => byte === 0)).toBe(true);
    }
  });

  it("grows up to its maximum and no further, and never for lack of memory", () => {
    const grow = single("local.get 0 memory.grow", ["i32"], ["i32"], { memory: [1, 5] });
    const { exports, module, restore } = run(grow);
    expect(module.memoryPages).toBe(5);
    const asked = [0, 1, -1, 2, 2, 1, 1, 0, 65536, -2147483648];
    expect(asked.map((pages) => exports["f"]!(pages))).toEqual([1, 1, -1, 2, -1, 4, -1, 5, -1, -1]);
    restore();
    expect(exports["f"]!(4)).toBe(1);
    // A limit of the program's is one of its memory's.
    expect(run(single("", [], [], { memory: [1] })).module.memoryPages).toBe(64);
    expect(run(single("", [], [], { memory: [1, 65536] })).module.memoryPages).toBe(64);
    expect(refusal(single("", [], [], { memory: [65] }))).toMatch(
      /65 pages .* more than its program may have: 64/,
    );
  });

  it.each([
    ["f64.div", "local.get 0 local.get 1 f64.div i64.reinterpret_f64"],
    ["f64.sub", "f64.const Infinity f64.const Infinity f64.sub i64.reinterpret_f64"],
    ["f64.add", "local.get 0 f64.const nan:fff8000000000007 f64.add i64.reinterpret_f64"],
    ["f64.mul", "f64.const nan:7ff0000000000001 f64.const 1 f64.mul i64.reinterpret_f64"],
    ["f64.sqrt", "f64.const -1 f64.sqrt i64.reinterpret_f64"],
    ["f64.min", "f64.const nan:fff4000000000000 f64.const 1 f64.min i64.reinterpret_f64"],
    ["f64.max", "f64.const 1 f64.const nan:7ff7ffffffffffff f64.max i64.reinterpret_f64"],
    ["f64.ceil", "f64.const nan:7ff0000000000001 f64.ceil i64.reinterpret_f64"],
    ["f64.nearest", "f64.const nan:fff0000000000001 f64.nearest i64.reinterpret_f64"],
    ["f64.promote_f32", "f32.const nan:7fa00001 f64.promote_f32 i64.reinterpret_f64"],
    ["f64x2.sqrt", "f64.const -2 f64x2.splat f64x2.sqrt i64x2.extract_lane 1"],
    [
      "f64x2.sub",
      "f64.const Infinity f64x2.splat f64.const Infinity f64x2.splat f64x2.sub i64x2.extract_lane 1",
    ],
    [
      "f64x2.promote_low_f32x4",
      "f32.const nan:ffa00001 f32x4.splat f64x2.promote_low_f32x4 i64x2.extract_lane 0",
    ],
  ])("has one NaN: %s", (_name, code) => {
    const { exports } = run(single(code, ["i64"], ["f64", "f64"]));
    expect(BigInt.asUintN(64, exports["f"]!(0, 0) as bigint).toString(16)).toBe("7ff8000000000000");
  });

  it.each([
    ["f32.div", "f32.const 0 f32.const 0 f32.div i32.reinterpret_f32"],
    ["f32.trunc", "f32.const nan:ff800001 f32.trunc i32.reinterpret_f32"],
    ["f32.demote_f64", "f64.const nan:fff8000000000007 f32.demote_f64 i32.reinterpret_f32"],
    [
      "f32x4.add",
      "f32.const nan:7fc00009 f32x4.splat f32.const 1 f32x4.splat f32x4.add i32x4.extract_lane 3",
    ],
    ["f32x4.div", "f32.const 0 f32x4.splat f32.const 0 f32x4.splat f32x4.div i32x4.extract_lane 2"],
    [
      "f32x4.demote_f64x2_zero",
      "f64.const nan:fff8000000000007 f64x2.splat f32x4.demote_f64x2_zero i32x4.extract_lane 1",
    ],
  ])("has one NaN of 32 bits: %s", (_name, code) => {
    const { exports } = run(single(code, ["i32"]));
    expect(((exports["f"]!() as number) >>> 0).toString(16)).toBe("7fc00000");
  });

  it("leaves numbers, and the bits that it was told to have, alone", () => {
    const { exports } = run(
      single(
        "f64.const -0 f64.const 1 f64.mul i64.reinterpret_f64 f64.const nan:fff8000000000007 f64.neg i64.reinterpret_f64 i64.xor",
        ["i64"],
      ),
    );
    expect(BigInt.asUintN(64, exports["f"]!() as bigint).toString(16)).toBe("fff8000000000007");
  });

  it("is called by way of what it exports, and its start function only when it is told to start", () => {
    const { module, exports } = run({
      memory: [1],
      globals: [{ type: "i32", code: "i32.const 1" }],
      start: 1,
      functions: [
        { name: "get", results: ["i32"], code: "global.get 0" },
        { code: "i32.const 5 global.set 0" },
        { name: "größe", code: "" },
      ],
    });
    expect([...module.exports]).toEqual([["get", { parameters: [], results: ["i32"] }]]);
    expect([module.hasStart, exports["get"]!()]).toEqual([true, 1]);
    exports["packetfs:start"]!();
    expect(exports["get"]!()).toBe(5);
  });

  it("is known to wear out where it writes to tables or drops segments", () => {
    const table = { table: [2] as const, elements: [0] };
    for (const code of [
      "i32.const 1 ref.null table.set 0",
      "ref.null i32.const 1 table.grow 0 drop",
      "i32.const 0 ref.null i32.const 1 table.fill 0",
      "data.drop 0",
    ])
      expect(run(single(code, [], [], { ...table, data: [{ bytes: "x" }] })).module.wearsOut).toBe(true);
    const indirect = single("i32.const 0 call_indirect 0 0", [], [], table);
    expect(run(indirect).module.wearsOut).toBe(false);
  });
});

describe("a module is refused", () => {
  const ENV = { module: "env", name: "abort" };
  it.each<readonly [string, WasmParts, RegExp]>([
    ["no memory", { functions: [{ code: "" }] }, /has no memory of its own/],
    ["threads: a shared memory", { memory: [1, 2], memoryFlags: 3 }, /shared memory \(threads\)/],
    ["a 64-bit memory", { memory: [1, 2], memoryFlags: 5 }, /64-bit memory/],
    ["threads: an atomic", single("i32.const 0 i32.atomic.load 0 drop"), /threads.*at byte \d+/],
    [
      "relaxed SIMD",
      single("f32.const 0 f32x4.splat f32.const 0 f32x4.splat i8x16.relaxed_swizzle drop"),
      /relaxed SIMD/,
    ],
    ["exceptions", { memory: [1], functions: [{ code: [0x06, 0x40, 0x0b, 0x0b] }] }, /uses exceptions/],
    [
      "exceptions: try_table",
      { memory: [1], functions: [{ code: [0x1f, 0x40, 0, 0x0b, 0x0b] }] },
      /uses exceptions/,
    ],
    [
      "garbage collection",
      { memory: [1], functions: [{ code: [0xfb, 0x00, 0x00, 0x0b] }] },
      /garbage collection/,
    ],
    [
      "an import",
      single("", [], [], { imports: [{ ...ENV, kind: [0] }] }),
      /imports "env.abort": there is nothing to import/,
    ],
    [
      "a memory from outside",
      { imports: [{ ...ENV, kind: [2, 0, 1] }] },
      /imports "env.abort", which is no function/,
    ],
    [
      "a global from outside",
      { imports: [{ ...ENV, kind: [3, 0x7f, 0] }] },
      /imports "env.abort", which is no function/,
    ],
    [
      "log that is another function",
      single("", ["i32"], [], { imports: [{ module: "packetfs", name: "log", kind: [0, 0] }] }),
      /log takes \(i32, i32\)/,
    ],
    [
      "a name of the sandbox's own",
      { memory: [1], functions: [{ name: "packetfs:restore", code: "" }] },
      /the sandbox's own/,
    ],
    ["a large table", single("", [], [], { table: [1001] }), /table of 1001 elements, more than 1000/],
    [
      "data outside of its memory",
      single("", [], [], { data: [{ at: 65_530, bytes: "too long" }] }),
      /outside of its memory/,
    ],
    [
      "data far outside of it",
      single("", [], [], { data: [{ at: -1, bytes: "" }] }),
      /outside of its memory/,
    ],
    // What stands behind a module's own is the sandbox's: its marks, its way to grow, its mark of pages.
    ["a function that was added", single("call 1 drop", [], []), /function that is not there/],
    ["a function that was added, by tail", single("return_call 3"), /function that is not there/],
    ["a function that was added, by reference", single("ref.func 2 drop"), /function that is not there/],
    ["a global that was added", single("i32.const 9 global.set 0"), /global that is not there/],
    [
      "a variable that was added",
      single("i32.const 0 local.tee 0 i32.const 1 i32.store 0"),
      /variable that is not there/,
    ],
    [
      "the marks, by an instruction",
      { memory: [1], functions: [{ code: [0x41, 0, 0x28, 0x40, 1, 0, 0x1a, 0x0b] }] },
      /memory that is not there/,
    ],
    [
      "the marks, by their size",
      { memory: [1], functions: [{ code: [0x3f, 1, 0x1a, 0x0b] }] },
      /memory that is not there/,
    ],
    [
      "the marks, by a copy",
      { memory: [1], functions: [{ code: [0x41, 0, 0x41, 0, 0x41, 1, 0xfc, 10, 1, 0, 0x0b] }] },
      /memory that is not there/,
    ],
    [
      "an element that was added",
      single("", [], [], { table: [1], elements: [1] }),
      /function that is not there/,
    ],
    ["a start that was added", single("", [], [], { start: 1 }), /function that is not there/],
    [
      "a second section of one kind",
      single("", [], [], {
        sections: [
          { id: 11, bytes: [0] },
          { id: 11, bytes: [0] },
        ],
      }),
      /sections in no order/,
    ],
    ["a section that is not known", single("", [], [], { sections: [{ id: 14, bytes: [0] }] }), /not known/],
    ["exceptions: tags", single("", [], [], { sections: [{ id: 13, bytes: [0] }] }), /uses exceptions/],
    [
      "an instruction that is not known",
      { memory: [1], functions: [{ code: [0xff, 0x0b] }] },
      /0xff, which is not known/,
    ],
  ])("for %s", (_name, parts, reason) => {
    expect(refusal(parts)).toMatch(reason);
    expect(refusal(parts)).toMatch(/^TypeError: the WebAssembly module /);
  });

  it("when it is none", () => {
    for (const bytes of ["", "\0asm", "\0asm\x02\0\0\0", "export default 1", "\0asm\x0d\0\x01\0"])
      expect(refusal(Buffer.from(bytes))).toMatch(/is not a WebAssembly module/);
  });

  it("wherever it is cut off, and V8 gets no other module than was read where a bit is flipped", () => {
    const whole = wasmModule({ ...randomParts(new Random(SEED), 3), data: [{ at: 5, bytes: "data" }] });
    for (let length = 0; length < whole.length; length++) {
      const cut = whole.slice(0, length);
      const verdict = refusal(cut);
      if (typeof verdict === "string") expect(verdict).toMatch(/^TypeError: /);
      else expect(validate(cut)).toBe(validate((verdict as RewrittenModule).bytes));
    }
    for (let bit = 64; bit < whole.length * 8; bit++) {
      const flipped = whole.slice();
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      const verdict = refusal(flipped);
      if (typeof verdict === "string") expect(verdict).toMatch(/^TypeError: /);
      else if (validate((verdict as RewrittenModule).bytes))
        expect(validate(flipped), `bit ${bit}`).toBe(true);
    }
  });
});

/** A random number of a kind, often one at which something happens. */
function constant(random: Random, type: ValueType): string {
  const wholes = [0, 1, -1, 2, 31, 4095, 4096, 65535, -2147483648, 2147483647];
  const whole = wholes[random.integer(0, wholes.length - 1)]!;
  const floats = ["0", "-0", "1.5", "-2", "Infinity", "-Infinity", "1e300", "1e-320", "NaN", "4294967296"];
  const float = floats[random.integer(0, floats.length - 1)]!;
  return type === "i32" || type === "i64" ? `${type}.const ${whole}` : `${type}.const ${float}`;
}

const NUMBERS = ["i32", "i64", "f32", "f64"] as const;
const WHOLE_BINARY = "add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr".split(" ");
// Not copysign, by which a number gets the sign of a NaN, which V8 may choose.
const FLOAT_BINARY = "add sub mul div min max".split(" ");
const FLOAT_UNARY = "abs neg ceil floor trunc nearest sqrt".split(" ");
/** How a value becomes one of another type, all of which may be trapped. */
const CONVERSIONS: Readonly<Record<string, readonly (readonly [ValueType, string])[]>> = {
  i32: [
    ["i64", "i32.wrap_i64"],
    ["f64", "i32.trunc_f64_s"],
    ["f32", "f32.const 0 f32.lt"],
    ["i32", "i32.eqz"],
  ],
  i64: [
    ["i32", "i64.extend_i32_u"],
    ["f64", "i64.trunc_f64_u"],
  ],
  f32: [
    ["f64", "f32.demote_f64"],
    ["i32", "f32.convert_i32_s"],
  ],
  f64: [
    ["f32", "f64.promote_f32"],
    ["i64", "f64.convert_i64_u"],
  ],
};

/**
 * A module of several functions that call those before them, load, store, fill, copy, loop and trap. Bits of floats are not looked at, since
 * those of a NaN are what is changed.
 */
function randomParts(random: Random, count: number): WasmParts {
  const pick = <Item>(items: readonly Item[]): Item => items[random.integer(0, items.length - 1)]!;
  const functions: {
    name: string;
    params: ValueType[];
    results: ValueType[];
    locals: ValueType[];
    code: string;
  }[] = [];
  const globals = NUMBERS.map((type) => ({ type, code: constant(random, type) }));
  // Places are within the module's memory, but for a few.
  const place = (depth: number): string =>
    random.chance(0.05) ? value("i32", depth) : `${value("i32", depth)} i32.const 65535 i32.and`;

  let locals: readonly ValueType[] = [];
  function value(type: ValueType, depth: number): string {
    const own = locals.flatMap((each, index) => (each === type ? [index] : []));
    if (depth <= 0)
      return own.length > 0 && random.chance(0.6) ? `local.get ${pick(own)}` : constant(random, type);
    const next = depth - 1;
    const callable = functions.flatMap((each, index) => (each.results[0] === type ? [index] : []));
    const isWhole = type === "i32" || type === "i64";
    switch (random.integer(0, 7)) {
      case 0:
        return `global.get ${NUMBERS.indexOf(type as "i32")}`;
      case 1:
        return isWhole ? `${place(next)} ${type}.load ${random.integer(0, 9)}` : constant(random, type);
      case 2: {
        if (callable.length === 0) return constant(random, type);
        const called = pick(callable);
        return `${functions[called]!.params.map((each) => value(each, 0)).join(" ")} call ${called}`;
      }
      case 3: {
        const [from, op] = pick(CONVERSIONS[type]!);
        return `${value(from, next)} ${op}`;
      }
      case 4:
        return `${value(type, next)} ${value(type, next)} ${value("i32", next)} select`;
      case 5:
        if (type === "i32") return "memory.size";
        return isWhole ? constant(random, type) : `${value(type, next)} ${type}.${pick(FLOAT_UNARY)}`;
      default:
        return `${value(type, next)} ${value(type, next)} ${type}.${pick(isWhole ? WHOLE_BINARY : FLOAT_BINARY)}`;
    }
  }

  function statement(depth: number): string {
    const type = pick(NUMBERS);
    const own = locals.flatMap((each, index) => (each === type && index > 0 ? [index] : []));
    switch (random.integer(0, 8)) {
      case 0:
        return `${value(type, depth)} global.set ${NUMBERS.indexOf(type)}`;
      case 1:
        return own.length > 0 ? `${value(type, depth)} local.set ${pick(own)}` : "nop";
      case 2:
        return `${place(1)} ${value("i32", depth)} i32.const 511 i32.and i32.const 300 i32.rem_u i32.const 70 memory.fill`;
      case 3:
        return `${place(1)} ${place(1)} i32.const ${random.integer(0, 9000)} memory.copy`;
      case 4:
        // Variable 0 is what loops count by.
        return `i32.const ${random.integer(0, 5)} local.set 0 loop ${statement(1)}
          local.get 0 i32.const 1 i32.sub local.tee 0 i32.const 0 i32.gt_s br_if 0 end`;
      case 5:
        return `${value("i32", depth)} if ${statement(1)} else ${statement(1)} end`;
      default: {
        const store = pick([
          "i32.store",
          "i64.store",
          "i32.store8",
          "i32.store16",
          "i64.store8",
          "i64.store16",
          "i64.store32",
        ]);
        const stored = store.startsWith("i32") ? "i32" : "i64";
        return `${place(depth)} ${value(stored, depth)} ${store} ${random.integer(0, 5000)}`;
      }
    }
  }

  for (let index = 0; index < count; index++) {
    const params = Array.from({ length: random.integer(0, 3) }, () => pick(NUMBERS));
    const own: ValueType[] = ["i32", ...NUMBERS, pick(NUMBERS)];
    // What loops count by comes first, so parameters stand behind it.
    locals = ["i32", ...params, ...own];
    const results = [pick(NUMBERS)];
    const body = Array.from({ length: random.integer(1, 6) }, () => statement(2)).join(" ");
    const code = `${body} ${value(results[0]!, 3)}`;
    functions.push({ name: `f${index}`, params: ["i32", ...params], results, locals: own, code });
  }
  const data = [{ at: random.integer(0, 9000), bytes: "some data ".repeat(random.integer(0, 900)) }];
  return { memory: [2, 2], globals, functions, data };
}

describe("random modules", () => {
  it(`compute what they did, and the same in each packet (${MODULES}, seed ${SEED})`, () => {
    for (let number = 0; number < MODULES; number++) {
      const random = new Random(SEED + number);
      const parts = randomParts(random, random.integer(1, 5));
      const bytes = wasmModule(parts);
      expect(validate(bytes), `module ${number}`).toBe(true);
      const before = new Instance(
        new Module(wasmModule({ ...parts, functions: [...parts.functions!, { code: "" }] })),
      );
      const after = run(bytes);
      const image = Buffer.from(after.memory.buffer.slice(0));
      const calls = Array.from({ length: 4 }, () => {
        const called = parts.functions![random.integer(0, parts.functions!.length - 1)]!;
        const args = called.params!.map((type) => Number(constant(random, type).split(" ")[1]));
        const given = called.params!.map((type, index) =>
          type === "i64" ? BigInt.asIntN(64, BigInt(Math.trunc(args[index]!) || 0)) : args[index],
        );
        return [called.name!, given] as const;
      });
      const all = (exports: Instance["exports"]): unknown[] =>
        calls.map(([name, given]) => outcome(() => exports[name]!(...given)));
      const expected = all(before.exports);
      for (let packet = 0; packet < 3; packet++) {
        expect(all(after.exports), `module ${number}, packet ${packet}`).toEqual(expected);
        after.restore();
        const isRestored = Buffer.from(after.memory.buffer).equals(image);
        expect(isRestored, `module ${number}, packet ${packet}`).toBe(true);
      }
    }
  });
});

it("assembles what it is told", () => {
  expect(codeOf("i32.const -1 i32.const 64 i64.const -65 br_if 1")).toEqual([
    0x41, 0x7f, 0x41, 0xc0, 0x00, 0x42, 0xbf, 0x7f, 0x0d, 1,
  ]);
});
