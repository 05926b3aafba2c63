import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FaultCode } from "../../../packets/faults.ts";
import type { ExecutorProcess } from "../../../runtime/sandbox/process/executor-process.ts";
import { loadProgram, runFrame, runOnce, startExecutor } from "./harness.ts";
import { decodeGroups } from "../../../runtime/job/results.ts";
import { FOLDED_KEYS_MAX } from "../../../runtime/limits.ts";
import { RUN_TRAILER_BYTES } from "../../../runtime/program/program.ts";
import { valueCodec } from "../../../runtime/program/values.ts";
import { CsvRows, decodeScan } from "../../../runtime/program/csv-rows.ts";
import type { CsvSpec } from "../../../runtime/program/csv-rows.ts";
import { programCode } from "../../program-code.ts";

let executor: ExecutorProcess;
beforeAll(async () => {
  executor = await startExecutor();
});
afterAll(async () => {
  await executor.close();
});

function program(body: string, input = "lines"): string {
  return `export default { input: { kind: "${input}" }, ${body} };`;
}

/** Maps each text, merges the first two partial results, and finishes all. */
async function job(source: string, texts: readonly string[], args: unknown = null): Promise<unknown> {
  const partials: string[] = [];
  const lane = await loadProgram(executor, source, { args });
  for (const { status, text } of await runFrame(
    executor,
    lane,
    texts.map((bytes) => ({ bytes })),
  )) {
    if (status !== 0) throw new Error(`fault ${status}: ${text}`);
    partials.push(text);
  }
  const merged = await runOnce(executor, source, partials.slice(0, 2).join(""), { entry: "merge", args });
  if (merged.status !== 0) throw new Error(`merge: ${merged.text}`);
  const rest = [merged.text, ...partials.slice(2)].join("");
  const finished = await runOnce(executor, source, rest, { entry: "finish", args });
  if (finished.status !== 0) throw new Error(`finish: ${finished.text}`);
  return source.includes('yields: "groups"') ? decodeGroups(finished.text) : valueCodec.decode(finished.text);
}

describe("value", () => {
  it("folds what map returns, left to right, and skips undefined", async () => {
    const source = program(`map: (line) => line === "-" ? undefined : line, combine: (a, b) => a + b`);
    expect(await job(source, ["a\nb\n-", "-", "", "c\n", "d"])).toBe("abcd");
  });

  it("is null when nothing was returned", async () => {
    const source = program(`map() {}, combine: (a, b) => a + b, reduce: (v) => v`);
    expect(await job(source, ["a", ""])).toBe(null);
  });

  it("is an empty list when nothing was returned and nothing is combined, and reduce is called for it", async () => {
    expect(await job(program(`map() {}`), [""])).toEqual([]);
    expect(await job(program(`map() {}, reduce: (all) => all.length`), ["a"])).toBe(0);
  });

  it("is the array of all values without combine", async () => {
    expect(await job(program(`map: (line) => ({ line })`), ["a\nb", "c", "d"])).toEqual([
      { line: "a" },
      { line: "b" },
      { line: "c" },
      { line: "d" },
    ]);
  });

  it("is what reduce makes of it", async () => {
    const folded = program(
      `map: (l) => l.length, combine: (a, b) => a + b, reduce: (n, args) => [n, args.unit]`,
    );
    expect(await job(folded, ["abc\nd", "ef"], { unit: "x" })).toEqual([6, "x"]);
    expect(await job(program(`map: (l) => l, reduce: (all) => all.join("+")`), ["a\nb", "c"])).toBe("a+b+c");
  });

  it("keeps null, false and empty text apart from nothing", async () => {
    expect(await job(program(`map: (line) => JSON.parse(line)`), ['null\nfalse\n""\n0', "[]"])).toEqual([
      null,
      false,
      "",
      0,
      [],
    ]);
  });
});

describe("groups", () => {
  const words = `yields: "groups", map(line, c) { for (const w of line.split(" ")) c.emit(w, 1); }`;

  it("counts words", async () => {
    const source = program(`${words}, combine: (a, b) => a + b`);
    expect(await job(source, ["b a b", "c\na", "a"])).toEqual([
      ["a", 3],
      ["b", 2],
      ["c", 1],
    ]);
  });

  it("sorts keys by code units and takes any key", async () => {
    const keys = ["__proto__", "constructor", "", "é", "\ud800", "😀", "\uffff", "Z", "a", '"\n'];
    const source = `export default { input: { kind: "json-lines" }, yields: "groups",
      map(key, c) { c.emit(key, [key.length]); }, combine: (a, b) => [...a, ...b] };`;
    const text = keys.map((key) => JSON.stringify(key)).join("\n");
    const sorted = [...keys].sort();
    expect(await job(source, [text, text])).toEqual(sorted.map((key) => [key, [key.length, key.length]]));
  });

  it("collects values in order where it does not combine, as they were when emitted", async () => {
    const source = program(`yields: "groups",
      map(line, c) { const o = { n: line }; c.emit("k", o); o.n = "changed"; c.emit("k", [[]]); }`);
    expect(await job(source, ["1\n2", "3"])).toEqual([
      ["k", [{ n: "1" }, [[]], { n: "2" }, [[]], { n: "3" }, [[]]]],
    ]);
  });

  it("reduces with the key, all values and the arguments", async () => {
    const listed = program(`${words}, reduce: (key, values, args) => args.p + key + values.length`);
    expect(await job(listed, ["a b a", "b"], { p: "#" })).toEqual([
      ["a", "#a2"],
      ["b", "#b2"],
    ]);
    const folded = program(`${words}, combine: (a, b) => a + b, reduce: (key, values) => values`);
    expect(await job(folded, ["a b a", "b"])).toEqual([
      ["a", [2]],
      ["b", [2]],
    ]);
  });

  it("takes the empty key for a key", async () => {
    expect(await job(program(`yields: "groups", map: (line, c) => c.emit("", line)`), ["v"])).toEqual([
      ["", ["v"]],
    ]);
  });

  it("keeps the largest where the program wants the top of them", async () => {
    const counted = `${words}, combine: (a, b) => a + b`;
    const texts = ["b a b c c", "d a", "e"];
    expect(await job(program(`${counted}, result: { top: 3 }`), texts)).toEqual([
      ["a", 2],
      ["b", 2],
      ["c", 2],
    ]);
    expect(await job(program(`${counted}, result: { top: 9 }`), ["x"])).toEqual([["x", 1]]);
    const by = program(`${words}, reduce: (key, all) => ({ n: all.length }),
      result: { top: 2, by: (value, key) => BigInt(key.charCodeAt(0)) - BigInt(value.n) * 100n }`);
    expect(await job(by, texts)).toEqual([
      ["e", { n: 1 }],
      ["d", { n: 1 }],
    ]);
    await expect(job(program(`${words}, combine: () => NaN, result: { top: 1 }`), texts)).rejects.toThrow(
      'top cannot compare the group "a": its value is NaN, not a number',
    );
    for (const top of [0, 1.5, "1", -1]) {
      const wrong = program(`${counted}, result: { top: ${JSON.stringify(top)} }`);
      await expect(job(wrong, texts)).rejects.toThrow("result is top(n)");
    }
  });

  it("writes many keys as several lines that merge reads back", async () => {
    const source = program(`yields: "groups",
      map(line, c) { for (let i = 0; i < 20000; i++) c.emit("key" + i, i); }, combine: (a, b) => a + b`);
    const { text } = await runOnce(executor, source, "x");
    expect(text.split("\n").length).toBeGreaterThan(3);
    const result = (await job(source, ["x", "x", "x"])) as [string, number][];
    expect(result).toHaveLength(20_000);
    expect(result.every(([key, value]) => value === 3 * Number(key.slice(3)))).toBe(true);
  });

  it("writes down what it has folded when keys are too many, and folds on in the order of the input", async () => {
    const source = program(`yields: "groups", map(line, c) {
      for (let i = 0; i < ${FOLDED_KEYS_MAX + 1000}; i++) c.emit("k" + i, line);
      for (let i = 0; i < 2000; i++) c.emit("k" + i, "again");
    }, combine: (a, b) => a + "," + b`);
    const { text } = await runOnce(executor, source, "x");
    // Buckets: as many as a power of two, each ended by an empty line.
    const buckets = text.split(/(?<=^|\n)\n/).length - 1;
    expect([2, 4, 8, 16, 32, 64, 128, 256]).toContain(buckets);
    expect(text.match(/"k7"/g)).toHaveLength(2);
    const result = new Map((await job(source, ["x", "y"])) as [string, string][]);
    expect(result.size).toBe(FOLDED_KEYS_MAX + 1000);
    expect(result.get("k7")).toBe("x,again,y,again");
    expect(result.get("k5000")).toBe("x,y");
  });

  it("finishes each partition by itself, and orders their runs", async () => {
    const source = program(`${words}, combine: (a, b) => a + b`);
    const odd = ["", "\uffff", "\ud800", "😀", '"', "\\", '\\"', "é"];
    const keys = Array.from({ length: 3000 }, (_, index) => `${odd[index % odd.length]}${index % 1700}`);
    const { text: partial } = await runOnce(executor, source, keys.join("\n"));
    const whole = await runOnce(executor, source, partial, { entry: "finish" });
    const runs: string[] = [];
    for (let partition = 0; partition < 4; partition++) {
      const input = `run\npartition ${partition} 4\n${partial}whole\n`;
      const { text } = await runOnce(executor, source, input, { entry: "finish" });
      const bytes = Buffer.from(text);
      const index = Number(bytes.subarray(-RUN_TRAILER_BYTES).toString());
      const lines = bytes.subarray(0, -RUN_TRAILER_BYTES - index).toString();
      const blocks = JSON.parse(
        bytes.subarray(-RUN_TRAILER_BYTES - index, -RUN_TRAILER_BYTES).toString(),
      ) as [string, number][];
      for (const [key, at] of blocks)
        expect(
          Buffer.from(lines)
            .subarray(at)
            .toString()
            .startsWith(`[${JSON.stringify(key)},`),
        ).toBe(true);
      runs.push(lines);
    }
    const order = async (from: string | null, to: string | null): Promise<string> => {
      const input = `${JSON.stringify({ from, to })}\n${runs.map((run) => `run\n${run}`).join("")}`;
      return (await runOnce(executor, source, input, { entry: "order" })).text;
    };
    expect(await order(null, null)).toBe(whole.text);
    expect((await order(null, "b")) + (await order("b", "é5")) + (await order("é5", null))).toBe(whole.text);
    expect(await order("b", "b")).toBe("");
    expect(decodeGroups(whole.text).map(([key]) => key)).toEqual(
      [...new Set(keys.map((key) => key.toWellFormed()))].sort(),
    );
  });

  it("notes few of the keys of a run, however long they are", async () => {
    const source = program(`yields: "groups",
      map(line, c) { for (let i = 0; i < 200; i++) c.emit(String(i).padEnd(12000, 'é"'), i); }, combine: (a, b) => a + b`);
    const { text: partial } = await runOnce(executor, source, "x");
    const { text: run } = await runOnce(executor, source, `run\n${partial}`, { entry: "finish" });
    const bytes = Buffer.from(run);
    const index = Number(bytes.subarray(-RUN_TRAILER_BYTES).toString());
    expect(index).toBeGreaterThan(12_000);
    expect(index).toBeLessThan(bytes.byteLength / 8);
    const lines = bytes.subarray(0, -RUN_TRAILER_BYTES - index).toString();
    const input = `{"from":null,"to":null}\nrun\n${lines}`;
    expect((await runOnce(executor, source, input, { entry: "order" })).text).toBe(lines);
  });

  it("writes what people open in decimal, in lines and in CSV, with runs between or without", async () => {
    const given = `const values = { big: -(2n ** 70n), none: undefined, nan: NaN, zero: -0, text: '1,"', nil: null,
      day: new Date(0), never: new Date(NaN), flag: true, of: { n: 255n }, odd: { $: "bigint", v: "ff" } };`;
    const expected: [string, unknown][] = [
      ["big", -(2n ** 70n)],
      ["day", new Date(0)],
      ["flag", true],
      ["nan", NaN],
      ["never", new Date(NaN)],
      ["nil", null],
      ["odd", { $: "bigint", v: "ff" }],
      ["of", { n: 255n }],
      ["text", '1,"'],
      ["zero", -0],
    ];
    const rows = [
      "key,value",
      "big,-1180591620717411303424",
      "day,1970-01-01T00:00:00.000Z",
      "flag,true",
      "nan,NaN",
      "never,",
      "nil,",
      'odd,"{""$"":""Object"",""v"":[[""$"",""bigint""],[""v"",""ff""]]}"',
      'of,"{""n"":{""$"":""bigint"",""v"":""255""}}"',
      'text,"1,"""',
      "zero,-0",
    ];
    const emits = `yields: "groups", map(line, { emit }) { ${given} for (const key in values)
      if (key !== "none") emit(key, values[key]); }`;
    const list = `${emits}, reduce: (key, [value]) => value`;
    for (const source of [program(`${emits}, combine: (a) => a`), program(list)]) {
      const { text: partial } = await runOnce(executor, source, "x");
      const finish = async (head: string): Promise<string> =>
        (await runOnce(executor, source, head + partial, { entry: "finish" })).text;
      const run = await finish("run\n");
      const lines = run.slice(0, run.lastIndexOf("\n[[") + 1);
      const order = async (head: string): Promise<string> =>
        (await runOnce(executor, source, `${head}{"from":null,"to":null}\nrun\n${lines}`, { entry: "order" }))
          .text;
      for (const made of [await finish(""), await order("")]) {
        expect(decodeGroups(made)).toEqual(expected);
        expect(made).toContain('"v":"-1180591620717411303424"');
      }
      for (const made of [await finish("csv\n"), await order("csv\n")])
        expect(made.trimEnd().split("\n")).toEqual(rows);
    }
    const lists = (await runOnce(executor, program(emits), "x")).text;
    const finished = await runOnce(executor, program(emits), lists, { entry: "finish" });
    expect(decodeGroups(finished.text)).toEqual(expected.map(([key, value]) => [key, [value]]));
    const largest = program(`${emits.replace("big:", "big: 3n, more:")}, combine: (a) => a,
      result: { top: 1, by: (value) => (typeof value === "bigint" ? value : 0) }`);
    const { text: sizes } = await runOnce(executor, largest, "x");
    const top = await runOnce(executor, largest, sizes, { entry: "finish" });
    expect(decodeGroups(top.text)).toEqual([["big", 3n]]);
  });

  it("refuses an order of what are no runs", async () => {
    const source = program(`${words}, combine: (a, b) => a + b`);
    for (const input of ['{"from":null,"to":null}\nrun\n["a"', 'run\n["a,1]\n', "nothing"]) {
      const { status } = await runOnce(executor, source, input, { entry: "order" });
      expect(status, input).toBe(FaultCode.badRecord);
    }
  });
});

describe("bytes", () => {
  it("joins what is written, text as UTF-8", async () => {
    const source = program(`yields: "bytes", map(line, c) {
      c.write(line); c.write(new Uint8Array([0x2d, 0x2d]).subarray(1)); c.write("é😀\\ud800"); return "|"; }`);
    expect((await runOnce(executor, source, "a\nb")).text).toBe("a-é😀\ufffd|b-é😀\ufffd|");
  });

  it("yields nothing of nothing", async () => {
    expect(await runOnce(executor, program(`yields: "bytes", map(l, c) { c.write(l); }`), "")).toMatchObject({
      status: 0,
      text: "",
    });
  });

  it("passes partial results on as they are", async () => {
    const source = program(`yields: "bytes", map(l, c) { c.write(l); }`);
    for (const entry of ["merge", "finish"] as const) {
      expect((await runOnce(executor, source, "ab\nc", { entry })).text).toBe("ab\nc");
    }
  });
});

describe("scan", () => {
  it("finds rows without running the program", async () => {
    const source = `export default { input: { kind: "csv", separator: ",", header: true }, map() { for (;;); } };`;
    const reader = (await executor.inspect(programCode(source))).reader as CsvSpec;
    const lane = await loadProgram(executor, source, { entry: "scan" });
    const splits = ['a"b""c"', "", '"\n"', 'x,y\n1,"2\n3"\n'];
    const results = await runFrame(
      executor,
      lane,
      splits.map((bytes) => ({ bytes })),
    );
    for (const [index, split] of splits.entries()) {
      const scanner = new CsvRows(reader, undefined).scan(0);
      scanner.push(Buffer.from(split));
      expect(results[index]!.status).toBe(0);
      expect(decodeScan(results[index]!.bytes, split.length)).toEqual(scanner.result());
    }
  });
});

describe("context", () => {
  it("has a fresh state for each packet, also for one without records", async () => {
    const source = program(`init: (args) => { console.log("init"); return { n: args.start }; },
      map: (line, c) => { c.state.n++; return c.state.n; }, combine: (a, b) => b`);
    const lane = await loadProgram(executor, source, { args: { start: 10 } });
    const results = await runFrame(executor, lane, [{ bytes: "a\nb" }, { bytes: "" }, { bytes: "c" }]);
    expect(results.map(({ text, log }) => [text, log])).toEqual([
      ["12\n", "init"],
      ["", "init"],
      ["11\n", "init"],
    ]);
  });

  it("has frozen arguments", async () => {
    const source = program(`map(line, c) { c.args.list.push(1); }`);
    const { status, text } = await runOnce(executor, source, "a", { args: { list: [] } });
    expect(status).toBe(FaultCode.threw);
    expect(text).toContain("TypeError: Cannot add property 0");
  });

  it("calls functions with the program as this", async () => {
    const source = program(`map(line) { return typeof this.combine; }, combine: (a) => a`);
    expect((await runOnce(executor, source, "a")).text).toContain('"function"');
  });
});

describe("values", () => {
  /** What arrives of an expression's value when it is combined in one packet, and when it crosses between packets. */
  async function carried(expression: string): Promise<unknown> {
    const source = program(`map: (line) => [line, ${expression}], combine: (a, b) => [...a, ...b]`);
    const [one, many] = [await job(source, ["1\n2\n3"]), await job(source, ["1", "2", "3"])];
    expect(one).toStrictEqual(many);
    return (one as unknown[])[1];
  }

  it.each([
    ["undefined", undefined],
    ["[NaN, Infinity, -Infinity, -0, 1e-320]", [NaN, Infinity, -Infinity, -0, 1e-320]],
    ["2n ** 200n - 1n", 2n ** 200n - 1n],
    ["-5n", -5n],
    ['"\\ud800 😀 \\udc00"', "\ud800 😀 \udc00"],
    ["new Date(-62198755200000.5)", new Date(-62198755200000)],
    ["new Date(NaN)", new Date(NaN)],
    ["new Uint32Array([0, 1, 4294967295])", new Uint32Array([0, 1, 4294967295])],
    ["new Float64Array([0.1, NaN, -0, Infinity])", new Float64Array([0.1, NaN, -0, Infinity])],
    ["new BigInt64Array([-1n])", new BigInt64Array([-1n])],
    ["new Uint8Array([1, 255]).subarray(1)", new Uint8Array([255])],
    ["new Uint8Array([1, 255]).buffer", new Uint8Array([1, 255]).buffer],
    ["new DataView(new Uint8Array([1, 2]).buffer, 1)", new DataView(new Uint8Array([2]).buffer)],
    ["new Map([[{ a: 1n }, new Set([undefined])]])", new Map([[{ a: 1n }, new Set([undefined])]])],
    [
      'JSON.parse(\'{"__proto__":{"x":-1},"$":{"$":"Map"}}\')',
      JSON.parse('{"__proto__":{"x":-1},"$":{"$":"Map"}}'),
    ],
    [
      "Object.assign(Object.create(null), { constructor: 1 })",
      Object.assign(Object.create(null), { constructor: 1 }),
    ],
  ])("carries %s", async (expression, value) => {
    expect(await carried(expression)).toStrictEqual(value);
  });

  it("carries what a getter says once", async () => {
    expect(
      await carried("(() => { let n = 0; return { get n() { return n++ === 0 ? 7 : () => 1; } }; })()"),
    ).toEqual({
      n: 7,
    });
  });

  it("gives combine the same kinds of values in one packet and over many", async () => {
    const kinds = `map: () => ({ d: new Date(1), h: new Uint32Array(2), s: new Set([1]), kinds: "" }),
      combine: (a, b) => ({ ...a, kinds: a.kinds + [b.d instanceof Date, b.h.constructor.name, b.s.has(1), b.kinds] })`;
    expect(await job(program(kinds), ["1\n2\n3"])).toMatchObject({
      kinds: "true,Uint32Array,true,".repeat(2),
    });
    expect(await job(program(kinds), ["1", "2"])).toMatchObject({ kinds: "true,Uint32Array,true," });
  });

  it("keeps two keys apart that were given one object, however they are folded", async () => {
    const source =
      program(`yields: "groups", map(line, c) { const o = { n: 1 }; c.emit("a", o); c.emit("b", o); },
      combine: (a, b) => { a.n += b.n; return a; }`);
    const expected = [
      ["a", { n: 3 }],
      ["b", { n: 3 }],
    ];
    expect(await job(source, ["1\n2\n3"])).toEqual(expected);
    expect(await job(source, ["1", "2", "3"])).toEqual(expected);
  });
});

describe("what comes too late", () => {
  it.each([
    [`Promise.resolve().then(() => c.emit("k", 1))`, "emit was called after the call of map"],
    [
      `(async () => { await 0; try { c.emit("k", 1); } catch {} })()`,
      "emit was called after the call of map",
    ],
    [`(async () => { await 0; throw new RangeError("later"); })()`, "nobody handled it: RangeError: later"],
    [`Promise.reject(new Error("now"))`, "nobody handled it: Error: now"],
    [`Promise.reject("words")`, "nobody handled it: threw words"],
  ])("fails the packet of %s and no other", async (statement, reason) => {
    const source = program(
      `yields: "groups", map(line, c) { c.emit("line", line); if (line === "x") { ${statement}; } }`,
    );
    const lane = await loadProgram(executor, source);
    const [failed] = await runFrame(executor, lane, [{ bytes: "x" }]);
    expect(failed).toMatchObject({ status: FaultCode.threw });
    expect(failed!.text).toContain(reason);
    const fine = (line: string): object => ({ status: 0, text: `{"k":["line"],"v":[["${line}"]]}\n` });
    const together = await runFrame(executor, lane, [{ bytes: "a" }, { bytes: "x" }, { bytes: "b" }]);
    expect(together).toMatchObject([fine("a"), failed!, fine("b")]);
  });

  it("lets a promise be that was rejected and is handled", async () => {
    const source = program(`map(line) { Promise.reject(new Error("no")).catch(() => 0); return 1; }`);
    expect(await job(source, ["a\nb"])).toEqual([1, 1]);
  });

  it("is what combine emits, too", async () => {
    const source = program(`yields: "groups", map(line, c) { emit = c.emit; c.emit("k", 1); },
      combine: (a, b) => { emit("k", 1); return a + b; }`);
    const { text } = await runOnce(executor, `let emit; ${source}`, "a\nb");
    expect(text).toContain("emit was called after the call of map");
  });
});

describe("faults", () => {
  it.each([
    ["map: () => () => 1", "$ is a function"],
    [
      "map: () => ({ sum: [1, () => 1] })",
      "map returned a value that cannot be carried: $.sum[1] is a function",
    ],
    ["map: () => Symbol()", "$ is a symbol"],
    ["map: () => [1, , 2]", "$ is an array without an element 1"],
    ["map: () => new (class Point {})()", "$ is an instance of the class Point"],
    ["map: () => ({ at: new (class extends Map {})() })", "$.at is an instance of"],
    ["map: () => { const a = { b: [] }; a.b.push(a); return a; }", "$.b[0] is a cycle"],
    ["map: async () => 1", "$ is a promise, but programs are synchronous"],
    [
      "map: async () => 1, combine: (a, b) => 1",
      "map returned a value that cannot be carried: $ is a promise",
    ],
    [
      "map: () => 1, combine: async (a, b) => 1",
      "combine returned a value that cannot be carried: $ is a promise",
    ],
    [
      "map: () => 1, combine: (a, b) => ({ n: { f() {} } })",
      "combine returned a value that cannot be carried: $.n.f is",
    ],
    ["map: () => ({}), combine: (a, b) => { a.f = () => 1; return a; }", "$.f is a function"],
    ["init: async () => 1, map: () => 1", "init returned a promise"],
    ['yields: "groups", map: async (l, c) => {}', "map returned a promise"],
    ['yields: "bytes", map: async (l, c) => {}', "map returned a promise"],
    ['yields: "groups", map: (l, c) => { c.emit("k", 1); return 1; }', "a value beside what it emits"],
    [
      'yields: "groups", map: (l, c) => { c.emit("k", { get x() { c.emit("k", 1); } }); }',
      "after the call of map",
    ],
    ["map: () => 1, combine: () => undefined", "combine returned undefined"],
    ['map: (l, c) => c.emit("k", 1)', 'yield "groups"'],
    ['yields: "groups", map: (l, c) => c.emit(1, 1)', "string as its key"],
    ['yields: "groups", map: (l, c) => c.emit("k")', "without a value"],
    ['yields: "bytes", map: (l, c) => c.emit("", 1)', "use write"],
    ['yields: "bytes", map: (l, c) => c.write({})', "Uint8Array or a string"],
    ['yields: "bytes", map: (l, c) => c.write(new Uint16Array(1))', "Uint8Array or a string"],
    ['map: (l, c) => c.write("x")', 'yield "bytes"'],
  ])("says what is wrong with %s", async (body, reason) => {
    const { status, text } = await runOnce(executor, program(body), "a\nb\nc");
    expect(status).toBe(FaultCode.threw);
    expect(text).toContain("TypeError: ");
    expect(text).toContain(reason);
  });

  it("says where the program threw, and nothing of the prelude", async () => {
    const source = program(
      `\nmap(line) { helper(line); } };\nfunction helper(line) { throw new RangeError("bad " + line); `,
    );
    const { status, text } = await runOnce(executor, source, "a");
    expect(status).toBe(FaultCode.threw);
    expect(text).toBe(
      ["RangeError: bad a", "    at helper (program.js:3:31)", "    at Object.map (program.js:2:13)"].join(
        "\n",
      ),
    );
  });

  it("fails one packet of a frame and no other", async () => {
    const source = program(`map(line) { if (line === "x") throw new Error("no"); return line; }`);
    const lane = await loadProgram(executor, source);
    const results = await runFrame(executor, lane, [{ bytes: "a" }, { bytes: "b\nx" }, { bytes: "c" }]);
    expect(results.map(({ status, text }) => [status, text.split("\n")[0]])).toEqual([
      [0, '["a"]'],
      [FaultCode.threw, "Error: no"],
      [0, '["c"]'],
    ]);
  });

  it.each(["x", "{", "null", "[]", '{"k":[1],"v":[[1]]}', '{"k":["a"],"v":[]}', '{"k":["a"],"v":[1]}'])(
    "refuses %j as a partial result",
    async (text) => {
      const source = program(`yields: "groups", map() {}`);
      for (const entry of ["merge", "finish"] as const) {
        expect(await runOnce(executor, source, text, { entry })).toMatchObject({
          status: FaultCode.badRecord,
        });
      }
    },
  );

  it("takes the number of a partial result as JSON does, whatever number it is, and nothing that is none", async () => {
    const source = program(`map() {}, combine: (a, b) => a + b`);
    const sum = (...numbers: string[]): Promise<{ status: number; text: string }> =>
      runOnce(executor, source, numbers.join("\n"), {
        entry: "finish",
      });
    for (const numbers of [
      ["0", "7"],
      ["999999999999999", "1"],
      ["12345678901234567890", "1"],
      ["-3", "1.5", "2e3"],
    ]) {
      const total = numbers.map(Number).reduce((a, b) => a + b);
      expect(await sum(...numbers)).toMatchObject({ status: 0, text: JSON.stringify(total) });
    }
    for (const text of ["07", "0x7", "1 2", "+1", "00", "1.", "7]"]) {
      expect(await sum(text), text).toMatchObject({ status: FaultCode.badRecord });
    }
  });
});
