import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FaultCode } from "../../../packets/faults.ts";
import type { ExecutorProcess } from "../../../runtime/sandbox/process/executor-process.ts";
import { loadProgram, runFrame, runOnce, startExecutor } from "./harness.ts";

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
  return JSON.parse(finished.text) as unknown;
}

describe("value", () => {
  it("folds what map returns, left to right, and skips undefined", async () => {
    const source = program(`map: (line) => line === "-" ? undefined : line, combine: (a, b) => a + b`);
    expect(await job(source, ["a\nb\n-", "-", "", "c\n", "d"])).toBe("abcd");
  });

  it("is null when nothing was returned", async () => {
    const source = program(`map() {}, combine: (a, b) => a + b, reduce: (v) => v`);
    expect(await job(source, ["a", ""])).toBe(null);
    expect(await job(program(`map() {}`), [""])).toBe(null);
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

  it("takes a value that map returns under the empty key", async () => {
    expect(
      await job(program(`yields: "groups", map: (line, c) => { c.emit("x", 1); return line; }`), ["v"]),
    ).toEqual([
      ["", ["v"]],
      ["x", [1]],
    ]);
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
  it("counts quotes without running the program", async () => {
    const source = `globalThis.never = 1; export default { input: { kind: "csv", separator: ",", header: true }, map() {} };`;
    const lane = await loadProgram(executor, source, { entry: "scan" });
    const results = await runFrame(executor, lane, [{ bytes: 'a"b""c"' }, { bytes: "" }, { bytes: '"\n"' }]);
    expect(results.map(({ status, text }) => [status, text])).toEqual([
      [0, "4"],
      [0, "0"],
      [0, "2"],
    ]);
  });
});

describe("context", () => {
  it("has a fresh state for each packet, also for one without records", async () => {
    const source = program(`init: (args) => { console.log("init"); return { n: args.start }; },
      map: (line, c) => { c.state.n++; return c.state.n; }, combine: (a, b) => b`);
    const lane = await loadProgram(executor, source, { args: { start: 10 } });
    const results = await runFrame(executor, lane, [{ bytes: "a\nb" }, { bytes: "" }, { bytes: "c" }]);
    expect(results.map(({ text, log }) => [text, log])).toEqual([
      ['{"k":[""],"v":[12]}\n', "init"],
      ["", "init"],
      ['{"k":[""],"v":[11]}\n', "init"],
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

describe("faults", () => {
  it.each([
    ["map: () => 1n", "bigint"],
    ["map: () => ({ a: 1n })", "BigInt"],
    ["map: () => () => 1", "function"],
    ["map: () => Symbol()", "symbol"],
    ["map: () => NaN", "NaN"],
    ["map: async () => 1", "promise"],
    ["map: () => 1, combine: () => undefined", "combine returned undefined"],
    ["map: () => 1, combine: () => Infinity", "Infinity"],
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
      [0, '{"k":[""],"v":[["a"]]}'],
      [FaultCode.threw, "Error: no"],
      [0, '{"k":[""],"v":[["c"]]}'],
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
});
