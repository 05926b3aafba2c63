/** WebAssembly in a sandbox: what crosses between a program and a module, and that a packet finds each module as it was compiled. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FaultCode } from "../../../packets/faults.ts";
import type { ExecutorProcess } from "../../../runtime/sandbox/process/executor-process.ts";
import { allocator, imported } from "../../wasm-module.ts";
import type { ValueType, WasmParts } from "../../wasm-module.ts";
import { loadProgram, logged, runFrame, runOnce, startExecutor } from "./harness.ts";
import type { PacketResult } from "./harness.ts";

let executor: ExecutorProcess;
beforeAll(async () => {
  executor = await startExecutor();
});
afterAll(async () => {
  await executor.close();
});

const { globals, alloc } = allocator(1024);
const SLICE = ["i64"] as const;

/** A program whose map is `body`, in which k is the module and line the record. */
function program(parts: WasmParts, body: string, rest = ""): string {
  return `const k = ${imported(parts)};
    export default { input: { kind: "lines" }, ${rest} map(line, c) { ${body} } };`;
}

function once(parts: WasmParts, body: string, line = "a"): Promise<PacketResult> {
  return runOnce(executor, program(parts, body), line);
}

/** What an expression gives. */
async function valueOf(parts: WasmParts, expression: string, line = "a"): Promise<unknown> {
  return logged(await once(parts, `console.log(JSON.stringify(${expression}))`, line))[0];
}

function echo(params: readonly ValueType[], results: readonly ValueType[], code: string): WasmParts {
  return { memory: [1], globals, functions: [alloc, { name: "f", params, results, code }] };
}

/** Gives back the bytes that it takes. */
const ECHO = echo(
  ["i32", "i32"],
  SLICE,
  "local.get 0 i64.extend_i32_u i64.const 32 i64.shl local.get 1 i64.extend_i32_u i64.or",
);

describe("a call of a module", () => {
  it("carries numbers of each type, both ways", async () => {
    const same = (type: "i32" | "i64" | "f32" | "f64"): WasmParts => echo([type], [type], "local.get 0");
    expect(await valueOf(same("i32"), "[-1, 2147483648, 1.9, NaN].map((x) => k.call('f', x))")).toEqual([
      -1, -2147483648, 1, 0,
    ]);
    expect(await valueOf(same("i64"), "[-1n, 2n ** 63n].map((x) => String(k.call('f', x)))")).toEqual([
      "-1",
      "-9223372036854775808",
    ]);
    expect(await valueOf(same("f32"), "[0.1, Infinity].map((x) => String(k.call('f', x)))")).toEqual([
      "0.10000000149011612",
      "Infinity",
    ]);
    expect(
      await valueOf(same("f64"), "[0.1, -0, NaN].map((x) => [Object.is(k.call('f', x), x)][0])"),
    ).toEqual([true, true, true]);
    expect(await valueOf(echo([], [], ""), "String(k.call('f'))")).toBe("undefined");
  });

  it("carries bytes and text, whatever they are", async () => {
    const expression = `["", "a", "größe 名前 😀", "\\ud800", "x".repeat(3e6)].map((text) => {
      const bytes = new TextEncoder().encode(text);
      const [echoed, alike] = [k.text("f", text), k.bytes("f", bytes)];
      return [echoed === new TextDecoder().decode(bytes), alike.length === bytes.length, alike.every((byte, at) => byte === bytes[at])];
    }).flat()`;
    expect(await valueOf(ECHO, expression)).toEqual(Array(15).fill(true));
    // Bytes that are given are a copy, and a part of a buffer is no more than that.
    expect(
      await valueOf(
        ECHO,
        `(() => {
        const whole = new Uint8Array([1, 2, 3, 4, 5]);
        const found = k.bytes("f", whole.subarray(1, 3));
        const before = [...found];
        k.bytes("f", new Uint8Array([9, 9]));
        found[0] = 7;
        return [before, [...found], [...whole]];
      })()`,
      ),
    ).toEqual([
      [2, 3],
      [7, 3],
      [1, 2, 3, 4, 5],
    ]);
  });

  it("carries the bytes of every typed array, and of no more of its buffer than it is a view of", async () => {
    const expression = `["Int8", "Uint8", "Uint8Clamped", "Int16", "Uint16", "Int32", "Uint32", "Float32", "Float64", "BigInt64", "BigUint64"].map((kind) => {
      const Numbers = globalThis[kind + "Array"];
      const bytes = Uint8Array.from({ length: 4 * Numbers.BYTES_PER_ELEMENT }, (_, at) => at);
      const part = new Numbers(bytes.buffer, Numbers.BYTES_PER_ELEMENT, 2);
      return k.bytes("f", part).join() === bytes.subarray(Numbers.BYTES_PER_ELEMENT, 3 * Numbers.BYTES_PER_ELEMENT).join();
    })`;
    expect(await valueOf(ECHO, expression)).toEqual(Array(11).fill(true));
    // A getter of its own changes nothing.
    const posing = `(() => {
      const array = new Float32Array([1]);
      for (const name of ["byteLength", "byteOffset", "length", "buffer"]) Object.defineProperty(array, name, { get: () => 1e9 });
      return k.bytes("f", array).join();
    })()`;
    expect(await valueOf(ECHO, posing)).toBe("0,0,128,63");
  });

  it("asks for room once, and again only where it is given more", async () => {
    const counting = {
      ...ECHO,
      globals: [...globals, { type: "i32" as const, code: "i32.const 0" }],
      functions: [
        { ...alloc, code: `global.get 1 i32.const 1 i32.add global.set 1 ${String(alloc.code)}` },
        {
          name: "two",
          params: ["i32", "i32", "i32", "i32"] as const,
          results: ["i32"] as const,
          code: "local.get 2 local.get 0 i32.sub",
        },
        { name: "asked", results: ["i32"] as const, code: "global.get 1" },
      ],
    };
    const expression = `[k.call("two", "abc", "def"), k.call("asked"), k.call("two", "x", "y"), k.call("asked"),
      k.call("two", new Uint8Array(100), "z"), k.call("asked"), k.call("two", "a", ""), k.call("asked")]`;
    // Each has a place of its own, at a multiple of 16 behind the one before.
    expect(await valueOf(counting, expression)).toEqual([16, 1, 16, 1, 112, 2, 16, 2]);
  });

  it("says what was wrong with it", async () => {
    const parts: WasmParts = {
      memory: [1],
      functions: [
        { name: "f", params: ["i32", "i32"], code: "" },
        { name: "v", params: ["v128"], code: "" },
        { name: "trap", code: "i32.const 1 i32.const 0 i32.div_s drop" },
      ],
    };
    const said = async (expression: string): Promise<string> =>
      (await once(parts, expression)).text.split("\n")[0]!;
    expect(await said('k.call("g")')).toBe('TypeError: k.wasm exports no function "g"');
    expect(await said('k.call("v", 1)')).toBe(
      "TypeError: k.wasm: v takes or gives what JavaScript has no number for",
    );
    expect(await said('k.call("f", 1)')).toBe(
      "TypeError: k.wasm: f takes (i32, i32), and was given 1 of them",
    );
    expect(await said('k.call("f", 1, 2n)')).toContain(
      "f takes (i32, i32), a typed array or a string in place of two",
    );
    expect(await said('k.call("f", "x")')).toBe('TypeError: k.wasm exports no function "alloc"');
    expect(await said('k.bytes("f", 1, 2)')).toContain("f gives no bytes: those are an i64");
    expect(await said('k.call("trap")')).toBe("Error: k.wasm: trap: divide by zero");
  });

  it("logs what the module logs, within the program's budget", async () => {
    const parts: WasmParts = {
      memory: [1],
      imports: [{ module: "packetfs", name: "log", kind: [0] }],
      data: [{ at: 100, bytes: "größe" }],
      functions: [{ name: "f", params: ["i32", "i32"], code: "local.get 0 local.get 1 call 0" }],
    };
    const { log } = await once(parts, `k.call("f", 100, 7); k.call("f", 100, 1); k.call("f", 0, 65536);`);
    expect(log).toMatch(/^größe\ng\n\0+.*größe\0+… \(log limit reached\)$/s);
    expect(Buffer.byteLength(log!)).toBeLessThan(17_000);
  });
});

describe("a module", () => {
  /** What it finds in its memory, its globals and behind its start, all of which it changes. */
  const REMEMBERS: WasmParts = {
    memory: [1, 4],
    globals: [...globals, { type: "f64", code: "f64.const 0.5" }],
    data: [{ at: 70, bytes: "ab" }],
    start: 1,
    functions: [
      alloc,
      { code: "i32.const 80 i32.const 80 i32.load8_u 0 i32.const 1 i32.add i32.store8 0" },
      {
        name: "f",
        params: ["i32", "i32"],
        results: ["f64"],
        code: `global.get 1 f64.const 1 f64.add global.set 1
          i32.const 70 i32.const 70 i32.load8_u 0 i32.const 1 i32.add i32.store8 0
          local.get 0 local.get 1 i32.add i32.load8_u 0
          i32.const 70 i32.load8_u 0 i32.add i32.const 80 i32.load8_u 0 i32.add i32.const 1 memory.grow i32.add
          f64.convert_i32_s global.get 1 f64.add`,
      },
    ],
  };

  it("is new for each packet, in whatever frame, and the same for all records of one", async () => {
    const source = program(REMEMBERS, `return k.call("f", line);`);
    const lane = await loadProgram(executor, source);
    const [first, ...others] = (
      await Promise.all(
        [1, 7, 100].map((count) =>
          runFrame(
            executor,
            lane,
            Array.from({ length: count }, () => ({ bytes: "longer\nb\na line" })),
          ),
        ),
      )
    ).flat();
    // Behind the b stands what is left of the record before it.
    expect(first!.text).toBe("[101.5,215.5,107.5]\n");
    expect(others).toHaveLength(107);
    for (const other of others) expect(other.text).toBe(first!.text);
    executor.unload(lane);
  });

  it("is new again behind a trap, a lack of stack and a lie", async () => {
    const parts: WasmParts = {
      memory: [1, 1],
      globals,
      functions: [
        alloc,
        {
          name: "f",
          results: ["i32"],
          code: "i32.const 9 i32.const 9 i32.load 0 i32.const 1 i32.add i32.store 0 i32.const 9 i32.load 0",
        },
        { name: "trap", code: "i32.const 9 i32.const 77 i32.store 0 unreachable" },
        { name: "deep", code: "i32.const 9 i32.const 77 i32.store 0 call 3" },
      ],
    };
    const source = program(
      parts,
      `if (line === "trap") try { k.call("trap"); } catch { return k.call("f"); }
       if (line === "deep") k.call("deep");
       if (line === "recursion") (function again() { try { again(); } catch { k.call("f"); } })();
       if (line === "lie") k.call("f", "too many");
       return k.call("f");`,
    );
    const lane = await loadProgram(executor, source);
    const words = ["a", "trap", "a", "deep", "a", "recursion", "a", "lie", "a"];
    const results = await runFrame(
      executor,
      lane,
      words.map((bytes) => ({ bytes })),
    );
    expect(results.map(({ status, text }) => (status === 0 ? text : text.split("\n")[0]))).toEqual(
      words.map((word) => {
        if (word === "trap") return "[78]\n";
        if (word === "deep") return "RangeError: k.wasm: deep: Maximum call stack size exceeded";
        if (word === "lie")
          return "TypeError: k.wasm: f takes (), a typed array or a string in place of two i32";
        return word === "a" ? "[1]\n" : (expect.anything() as unknown);
      }),
    );
    executor.unload(lane);
  });

  it("has half of its program's memory at most, which counts to that", async () => {
    const parts: WasmParts = {
      memory: [1],
      functions: [
        {
          name: "f",
          results: ["i32"],
          code: "i32.const 65535 memory.grow drop loop i32.const 1 memory.grow i32.const -1 i32.ne br_if 0 end memory.size",
        },
      ],
    };
    const limits = "limits: { memoryBytes: 32 * 1024 * 1024 },";
    const { text } = await runOnce(executor, program(parts, `return k.call("f");`, limits), "a");
    expect(text).toBe("[256]\n");
    const buffer = "new Uint8Array(20 * 1024 * 1024).length";
    const plain = await runOnce(executor, program(parts, `return ${buffer};`, limits), "a");
    expect(plain.text).toBe("[20971520]\n");
    const both = await runOnce(executor, program(parts, `k.call("f"); return ${buffer};`, limits), "a");
    expect(both.status).toBe(FaultCode.memoryLimit);
  });

  it("that is none keeps its program from loading, and says why", async () => {
    const source = `const k = $packetfs.wasm("k.wasm", "AGFzbQ=="); export default {};`;
    await expect(loadProgram(executor, source)).rejects.toThrow(
      /the program does not load: TypeError: k\.wasm: the file is not a WebAssembly module/,
    );
    // What V8 finds, too: this function leaves a number behind.
    const invalid = program({ memory: [1], functions: [{ name: "f", code: "i32.const 1" }] }, "");
    await expect(loadProgram(executor, invalid)).rejects.toThrow(
      /does not load: TypeError: k\.wasm: .*Compiling function/,
    );
  });
});
