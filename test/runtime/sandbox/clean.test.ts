/** A packet starts clean: what one finds does not depend on what ran before it, and tables of data cannot be written to. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FaultCode } from "../../../packets/faults.ts";
import type { ExecutorProcess } from "../../../runtime/sandbox/process/executor-process.ts";
import { loadProgram, logged, runFrame, runOnce, startExecutor } from "./harness.ts";

let executor: ExecutorProcess;
beforeAll(async () => {
  executor = await startExecutor();
});
afterAll(async () => {
  await executor.close();
});

/** A program over lines, with statements in its module's scope. */
function program(scope: string, map: string): string {
  return `${scope}; export default { input: { kind: "lines" }, map(line, c) { ${map} } };`;
}

async function valueOf(expression: string, scope = ""): Promise<unknown> {
  return logged(
    await runOnce(executor, program(scope, `console.log(JSON.stringify(${expression}))`), "a"),
  )[0];
}

/** Walks everything that is reachable from syntax and from the global object, inside. */
const WRITABLE = `(() => {
  const seen = new Set(), writable = [];
  const queue = [[globalThis, "globalThis"], [c, "context"], [function* () {}.constructor, "generator"]];
  for (const [name, made] of Object.entries({ async: async function () {}, asyncGenerator: async function* () {},
    array: [].values(), map: new Map().keys(), set: new Set().keys(), string: ""[Symbol.iterator](), match: "".matchAll(/x/g),
    helper: [].values().map((x) => x), wrap: Iterator.from({ next() {} }), typed: Uint8Array }))
    queue.push([Object.getPrototypeOf(made), name]);
  for (const [object, path] of queue) {
    if (Object(object) !== object || seen.has(object)) continue;
    seen.add(object);
    if (!Object.isFrozen(object)) writable.push(path);
    queue.push([Object.getPrototypeOf(object), path + ".__proto__"]);
    for (const name of Reflect.ownKeys(object)) {
      const property = Object.getOwnPropertyDescriptor(object, name);
      for (const part of ["value", "get", "set"]) queue.push([property[part], path + "." + String(name)]);
    }
  }
  return [writable, seen.size > 500];
})()`;

describe("what outlives a packet", () => {
  it("is frozen, all of it", async () => {
    expect(await valueOf(WRITABLE)).toEqual([[], true]);
  });

  it("is not what a program sees as this, where nothing can be put in place of what was checked", async () => {
    expect(await valueOf("[Object.isFrozen(this), typeof this.map]")).toEqual([true, "function"]);
  });

  it("lets what inherits from it have properties of its own", async () => {
    const expression = `(() => {
      const error = new RangeError("x"); error.name = "Mine"; error.message = "y";
      function Old() {} Old.prototype.toString = () => "old"; Old.prototype.constructor = Old; Old.prototype.valueOf = () => 7;
      function Custom() {} Custom.prototype = Object.create(Error.prototype); Custom.prototype.constructor = Custom;
      Custom.prototype.name = "Custom";
      const counts = {}; for (const word of ["constructor", "toString", "hasOwnProperty"]) counts[word] = 1;
      class Words extends Array { toString() { return "words"; } }
      const f = () => 1; f.call = 2;
      function Bytes() {} Object.setPrototypeOf(Bytes.prototype, Uint8Array.prototype);
      for (const name of ["toString", "toLocaleString", "includes", "indexOf", "lastIndexOf", "slice", "fill"])
        Bytes.prototype[name] = () => name;
      return [String(error), String(new Old()), new Old() + 1, new Custom().name, new Custom().constructor === Custom, counts,
        String(new Words()), f.call, Object.keys(error), new Bytes().slice(), new Uint8Array([1, 2]).slice(1)[0]];
    })()`;
    expect(await valueOf(expression)).toEqual([
      "Mine: y",
      "old",
      8,
      "Custom",
      true,
      { constructor: 1, toString: 1, hasOwnProperty: 1 },
      "words",
      2,
      ["name"],
      "slice",
      2,
    ]);
  });

  it("says of a built-in that it is frozen, to who wants to patch it", async () => {
    for (const patch of [
      "Array.prototype.last = 1",
      "globalThis.cache = 1",
      "Object.prototype.toString = 1",
      "Error.prototype.name = 1",
      "c.emit.calls = 1",
      "console.log = 1",
      "Math.random = () => 4",
      "Object.setPrototypeOf(Array.prototype, {})",
    ]) {
      const { status, text } = await runOnce(executor, program("", patch), "a");
      expect([patch, status]).toEqual([patch, FaultCode.threw]);
      expect(text).toMatch(/^TypeError: /);
    }
  });

  it("tells nothing of matches that somebody made", async () => {
    const { text } = await runOnce(executor, program("", `/(.)/.test("a"); return RegExp.$1`), "a");
    expect(text).toContain('RegExp["$1"] is not there for programs');
  });

  it("has one language, whatever the machine's is", async () => {
    expect(
      await valueOf(`["a".localeCompare("B"), ["ä", "z", "a"].sort((x, y) => x.localeCompare(y)), (1234.5).toLocaleString(),
        new Date(0).toLocaleDateString(), "I".toLocaleLowerCase(), "a".localeCompare("A", "de", { sensitivity: "base" })]`),
    ).toEqual([-1, ["a", "ä", "z"], "1,234.5", "1/1/1970", "i", 0]);
  });
});

describe("a module", () => {
  it("is evaluated for each packet, and draws the same numbers each time", async () => {
    const source = program(
      `let n = 0; const words = /x/g; const drawn = Math.random()`,
      `words.test("xx"); return [++n, words.lastIndex, drawn, Math.random()]`,
    );
    const lane = await loadProgram(executor, source);
    const texts = async (count: number): Promise<unknown[]> => {
      const packets = Array.from({ length: count }, (_, index) => ({ bytes: "a\nb", ref: index % 3 }));
      return (await runFrame(executor, lane, packets)).map(({ text }) => JSON.parse(text) as unknown);
    };
    const first = (await texts(6)) as [number, number, number, number][][];
    expect(first.map((values) => values.map(([n, at]) => [n, at]))).toEqual(
      Array.from({ length: 6 }, () => [
        [1, 1],
        [2, 2],
      ]),
    );
    expect(new Set(first.map((values) => values[0]![2])).size).toBe(1);
    expect(new Set(first.map((values) => values[0]![3])).size).toBe(3);
    expect(await texts(6)).toEqual(first);
  });

  it("says in no packet's log what it logs while it is evaluated", async () => {
    expect((await runOnce(executor, program(`console.log("module")`, `console.log("map")`), "a")).log).toBe(
      "map",
    );
  });
});

describe("shared", () => {
  const TABLE = `let made = 0; const table = $packetfs.shared(() => { made++; return {
    list: [1, { deep: [2] }], map: new Map([["k", { v: new Uint8Array([7]) }]]), set: new Set([1]), bytes: new Uint32Array([5, 6]) }; })`;

  it("makes a table once, and shows it read-only", async () => {
    const source = program(
      TABLE,
      `const attempts = [() => { table.list[0] = 9; }, () => { table.list[1].deep.push(1); }, () => { table.map.set("k", 1); },
        () => { table.set.add(2); }, () => { table.bytes[0] = 9; }, () => { table.bytes.at = 1; }, () => { delete table.list; },
        () => { Map.prototype.set.call(table.map, "k", 1); }, () => { table.map.get("k").v[0] = 1; },
        () => { Object.setPrototypeOf(table.bytes, null); }, () => { table.map.get.cache = 1; },
        () => { Object.defineProperty(Object.getPrototypeOf(table.bytes), "x", { value: 1 }); },
        () => { table.bytes.slice.cache = 1; }].filter((attempt) => { try { attempt(); return true; } catch { return false; } });
      table.map.forEach((value, key, map) => { if (map !== table.map) throw new Error("the map itself"); });
      return [made, attempts.length, table.list, table.map.get("k").v[0], table.map.size, [...table.map.keys()], [...table.set],
        table.bytes[1], table.bytes[2], table.bytes.at(-1), table.bytes.length, [...table.bytes], table.bytes.indexOf(6),
        1 in table.bytes, table.bytes.slice(1), table.bytes, table.map]`,
    );
    const lane = await loadProgram(executor, source);
    const results = await runFrame(executor, lane, [{ bytes: "a" }, { bytes: "b" }]);
    expect(results.map(({ status }) => status)).toEqual([0, 0]);
    const [one, two] = results.map(({ text }) => JSON.parse(text)[0] as unknown[]);
    expect(one).toEqual(two);
    // Made while the program was loaded; the packets found it.
    expect(one!.slice(0, 2)).toEqual([0, 0]);
    expect(one!.slice(2)).toEqual([
      [1, { deep: [2] }],
      7,
      1,
      ["k"],
      [1],
      6,
      { $: "undefined" },
      6,
      2,
      [5, 6],
      1,
      true,
      { $: "Uint32Array", v: [6] },
      { $: "Uint32Array", v: [5, 6] },
      { $: "Map", v: [["k", { v: { $: "Uint8Array", v: "07" } }]] },
    ]);
  });

  it.each([
    ["() => ({ a: [() => 1] })", "shared was given a value that cannot be carried: $.a[0] is a function"],
    ["() => new (class Memo {})()", "$ is an instance of the class Memo"],
    ["() => ({ at: new Date(1) })", "shared was given what could be written to: $.at is a Date"],
    ["() => [new ArrayBuffer(1)]", "$[0] is an ArrayBuffer"],
    ["() => $packetfs.shared(() => 1)", "while another table is made"],
    ["async () => 1", "$ is a promise"],
    ["1", "shared takes a function"],
  ])("refuses %s", async (make, reason) => {
    const source = program(`$packetfs.shared(${make})`, "return 1");
    await expect(loadProgram(executor, source)).rejects.toThrow(reason);
  });

  it("says in words that a table is read-only, to who writes to one", async () => {
    const scope = `const table = $packetfs.shared(() => ({ map: new Map(), set: new Set(), bytes: new Uint8Array(2) }));
      const told = (write) => { try { write(); return "written"; } catch (error) { return String(error); } };`;
    const words = await valueOf(
      `[() => table.map.set(1, 2), () => table.map.delete(1), () => table.set.add(1), () => table.bytes.fill(1),
        () => table.bytes.sort(), () => { table.bytes[1] = 1; }].map(told)`,
      scope,
    );
    const why = (what: string): string =>
      `TypeError: a shared table is read-only: its ${what}; change a copy of it`;
    expect(words).toEqual([
      why("Map has no set"),
      why("Map has no delete"),
      why("Set has no add"),
      why("typed array has no fill"),
      why("typed array has no sort"),
      why("typed array keeps what it has at 1"),
    ]);
  });

  it("is for the module's scope", async () => {
    const { text } = await runOnce(executor, program("", "return $packetfs.shared(() => 1)"), "a");
    expect(text).toContain("shared is for the scope of a module");
  });

  it("gives a proxy's or a getter's word once, not each time", async () => {
    const scope = `let n = 0; const table = $packetfs.shared(() => [new Proxy({}, { get: () => ++n, ownKeys: () => ["a"],
      getOwnPropertyDescriptor: () => ({ value: 1, enumerable: true, configurable: true }) }), { get b() { return ++n; } }])`;
    expect(await valueOf(`[table[0].a, table[0].a, table[1].b, table[1].b]`, scope)).toEqual([1, 1, 2, 2]);
  });

  it("is what imported JSON is: one object for all packets, unwritable", async () => {
    const source = program(
      `const data = $packetfs.json('{"a":[1],"__proto__":{"b":2}}')`,
      `try { data.a.push(2); } catch (e) { return [e.name, data, data === $packetfs.json('{"a":[1],"__proto__":{"b":2}}')]; }`,
    );
    const { text } = await runOnce(executor, source, "a");
    expect(text).toBe('[["TypeError",{"a":[1],"__proto__":{"b":2}},true]]\n');
  });
});

describe("arguments", () => {
  it("cannot be written to, nor what hangs on them", async () => {
    const source = program("", `c.args.list[0].seen = true`);
    const { status, text } = await runOnce(executor, source, "a", { args: { list: [{}] } });
    expect([status, text.split("\n")[0]]).toEqual([
      FaultCode.threw,
      "TypeError: Cannot add property seen, object is not extensible",
    ]);
  });
});
