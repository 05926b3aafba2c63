/** Ways by which one packet was seen by another: each answer is the one that the packet gives alone, in any company. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FaultCode } from "../../packets/faults.ts";
import { loadProgram, runFrame, startExecutor } from "../runtime/sandbox/harness.ts";
import { Inputs, openProgram } from "./machine.ts";
import type { Answer, Packet } from "./machine.ts";

let inputs: Inputs;
beforeAll(() => {
  inputs = new Inputs();
});
afterAll(() => {
  inputs.close();
});

function program(scope: string, map: string, rest = ""): string {
  return `${scope}; export default { input: { kind: "lines" }, ${rest} map(line, c) { ${map} } };`;
}

/** The answers that packets give alone, which are those that they give in frames, in one isolate, in either order. */
function answersOf(source: string, texts: readonly string[]): Answer[] {
  const packets = texts.map((input, ref): Packet => ({ entry: "map", input, ref }));
  const guests = Array.from({ length: packets.length + 1 }, () => openProgram(source, "map", null));
  try {
    const alone = packets.map((packet, index) => inputs.run(guests[index]!, [packet])[0]!);
    const shared = guests.at(-1)!;
    expect(inputs.run(shared, packets)).toEqual(alone);
    expect(inputs.run(shared, packets.toReversed()).toReversed()).toEqual(alone);
    for (const [index, packet] of packets.entries())
      expect(inputs.run(shared, [packet])).toEqual([alone[index]]);
    return alone;
  } finally {
    for (const guest of guests) guest.dispose();
  }
}

describe("tables", () => {
  const NOT_MADE = "shared was called for a table that was not made when the program was loaded";

  it("are made by no packet's evaluation, so none sees what making them did", () => {
    const source = program("let n = 0; $packetfs.shared(() => { n = 42; return 0; })", "return n");
    expect(answersOf(source, ["a", "b"])).toEqual(Array(2).fill("0:[0]\n"));
  });

  it("that loading did not make are missing for every packet, though it catches that", () => {
    const ask = "if (side === 0) $packetfs.shared(() => { n = 42; return 0; });";
    const scope = "let side = 0; let n = 0; $packetfs.shared(() => { side = 1; return 0; });";
    for (const asked of [ask, `try { ${ask} } catch {}`]) {
      for (const answer of answersOf(program(scope + asked, "return n"), ["a", "b"]))
        expect(answer).toMatch(`${FaultCode.threw}:\nTypeError: ${NOT_MADE}`);
    }
  });

  it("that cannot be made keep the program from loading, though it catches that", () => {
    const source = program(
      `try { $packetfs.shared(() => { throw new Error("no table"); }); } catch {}`,
      "return 1",
    );
    expect(() => openProgram(source, "map", null)).toThrow("no table");
  });

  it("that are imported while packets run are theirs alone", () => {
    const source = program(
      "",
      `const make = () => $packetfs.json('{"a":[1]}'); return [make(), make() === make()]`,
    );
    expect(answersOf(source, ["a", "b"])).toEqual(Array(2).fill('0:[[{"a":[1]},false]]\n'));
  });
});

it("what ends a packet carries nothing to the next that it ends", async () => {
  await using executor = await startExecutor();
  const source = program(
    "",
    `try { c.write("x".repeat(2000)); } catch (stop) { console.log(stop.stack === "mine"); stop.stack = "mine"; }`,
    `yields: "bytes", limits: { outputBytes: 1000 },`,
  );
  const lane = await loadProgram(executor, source);
  for (const frame of [[{ bytes: "a" }], [{ bytes: "a" }, { bytes: "b" }]]) {
    const logs = (await runFrame(executor, lane, frame)).map(({ log }) => log);
    expect(logs).toEqual(frame.map(() => "false"));
  }
});

describe("promises", () => {
  /** Statements that make one whose job sees, and says by failing, how many records the packet has had. */
  const job = "{ if (c.index === 1) throw new Error('alone'); }";
  const WAYS: readonly (readonly [name: string, map: string, scope?: string])[] = [
    ["then", `Promise.resolve().then(() => ${job})`],
    ["an async function", `(async () => { await 0; ${job} })()`],
    ["an async generator", `(async function* () { await 0; ${job} })().next()`],
    ["a subclass", `new Later((done) => done()).then(() => ${job})`, "class Later extends Promise {}"],
    ["what hides its name", `globalThis["Pro" + "mise"].resolve().then(() => ${job})`],
    [
      "its descriptor",
      `Object.getOwnPropertyDescriptors(globalThis)["Pro" + "mise"].get().resolve().then(() => ${job})`,
    ],
    ["eval", "globalThis['ev' + 'al']('(as' + 'ync (c) => { aw' + `ait 0; ${JOB} })`)(c)"],
    ["a direct eval", "eval('(as' + 'ync () => { aw' + `ait 0; ${JOB} })`)()"],
    ["Function", "new Function('c', '(as' + 'ync () => { aw' + `ait 0; ${JOB} })()`)(c)"],
    [
      "a function's constructor",
      "(() => 1).constructor('c', '(as' + 'ync () => { aw' + `ait 0; ${JOB} })()`)(c)",
    ],
    [
      "a generator's constructor",
      "Object.getPrototypeOf(function* () {}).constructor('c', '(as' + 'ync () => { aw' + `ait 0; ${JOB} })()`)(c).next()",
    ],
    ["a rejection", "Promise.reject(new Error('alone'))"],
    ["import", "import('x').then(() => 1)"],
  ];

  it.each(WAYS)("made by %s are their packet's, whoever comes next", (_name, statement, scope = "") => {
    const source = program(
      `const JOB = ${JSON.stringify(job)}; ${scope}`,
      `if (line[0] === "L") { ${statement}; } return line;`,
    );
    const answers = answersOf(source, ["L", "a", "b\nb", "L", "L\nc"]);
    expect(answers[0]).toMatch(new RegExp(`^${FaultCode.threw}:\n.*nobody handled it: .*`));
    expect(answers[1]).toBe('0:["a"]\n');
    expect(answers[3]).toBe(answers[0]);
  });

  it("find what their packet logged and drew, and their packet waits for what they log", async () => {
    await using executor = await startExecutor();
    const source = program(
      "",
      `Promise.resolve().then(() => console.log(line, Math.random(), c.index)); return 1`,
    );
    const lane = await loadProgram(executor, source);
    const packets = ["a", "b", "c"].map((bytes, ref) => ({ bytes, ref }));
    const alone: unknown[] = [];
    for (const packet of packets) alone.push(...(await runFrame(executor, lane, [packet])));
    expect((alone as { log: string }[]).map(({ log }) => log.split(" ")[0])).toEqual(["a", "b", "c"]);
    expect(await runFrame(executor, lane, packets)).toEqual(alone);
  });

  it("are reached by no way but those that are watched", () => {
    const walk = `
      const hidden = new Set([Promise, Promise.prototype, globalThis.eval, Function]);
      for (const make of [function* () {}, async () => 1, async function* () {}]) hidden.add(make.constructor);
      const queue = [globalThis, c, $packetfs, (() => 1), function* () {}, [].values(), new Map().keys(), new Set().keys(),
        ""[Symbol.iterator](), "".matchAll(/x/g), [].values().map((x) => x), Iterator.from({ next() {} }), /x/, 1n, new Date()];
      const seen = new Set();
      for (const object of queue) {
        if (Object(object) !== object || seen.has(object)) continue;
        seen.add(object);
        queue.push(Object.getPrototypeOf(object));
        for (const name of Reflect.ownKeys(object)) {
          const { value, get, set } = Object.getOwnPropertyDescriptor(object, name);
          queue.push(value, get, set);
        }
      }
      const names = [...seen].filter((object) => typeof object === "function").map(({ name }) => name);
      return [[...seen].filter((object) => hidden.has(object)).length, names.filter((name) => /async/i.test(name)), seen.size > 500]`;
    expect(answersOf(program("", walk), ["a"])).toEqual(["0:[[0,[],true]]\n"]);
  });
});

describe("what combine changes in place", () => {
  const fold = (change: string): string =>
    program(
      "",
      "return Number(line)",
      `combine(a, b) { a = typeof a === "number" ? { n: a, f: 0 } : a; ${change} return a; },`,
    );

  it("is looked through each time where it is small, at any depth", () => {
    const source = fold("a.n += b; a.deep = { f: a.n % 8 === 0 ? 0 : () => 1 };");
    const [answer] = answersOf(source, ["1\n1\n1\n1\n1\n1\n1\n1", "1"]);
    expect(answer).toMatch("combine returned a value that cannot be carried: $.deep.f is a function");
  });

  it("is looked through now and then where it is large, which takes no longer than to fold it", () => {
    const append = fold("a.list ??= []; a.list.push(b);");
    const spoiled = fold(
      "a.list ??= []; a.list.push(a.list.length === 1000 ? () => 1 : b); if (a.list.length > 3000) a.list[1000] = 0;",
    );
    const lines = "1\n".repeat(4000);
    const [good, bad] = [append, spoiled].map((source) => answersOf(source, [lines])[0]);
    expect(good).toMatch(/^0:/);
    expect(bad).toMatch("$.list[1000] is a function");
    const cpuOf = (count: number): number => {
      const guest = openProgram(append, "map", null);
      const before = process.cpuUsage().user;
      inputs.run(guest, [{ entry: "map", input: "1\n".repeat(count), ref: 0 }]);
      guest.dispose();
      return process.cpuUsage().user - before;
    };
    cpuOf(10_000);
    // Sixteen times as many would take 256 times as long.
    expect(cpuOf(320_000) / cpuOf(20_000)).toBeLessThan(64);
  });
});

describe("what a copy would be without", () => {
  it.each([
    ["{ a: [{ [Symbol('s')]: 1 }] }", "$.a[0] has a symbol as a key"],
    [
      "{ a: Object.defineProperty({ b: 1 }, 'c', { value: 1 }) }",
      '$.a has a property "c" that is not enumerable',
    ],
    ["[Object.assign([1, 2], { total: 3 })]", '$[0] is an array with a property "total" beside its elements'],
    ["{ m: /(?<x>l)(.)?/.exec('line') }", "copy it with [...match]"],
    ["{ a: Object.assign([1], { [Symbol('s')]: 1 }) }", "$.a has a symbol as a key"],
    ["Object.assign(Array(1000).fill(1), { [Symbol('s')]: 1 })", "$ has a symbol as a key"],
    ["Object.assign(Array(1000).fill(1), { total: 3 })", '$ is an array with a property "total"'],
    ["((texts) => [texts])`a${1}b`", '$[0] is an array with a property "raw" beside its elements'],
    ["Object.assign([undefined, , 3], { total: 3 })", "$ is an array without an element 1"],
    ["(function () { return [arguments]; })(1)", "$[0] is an arguments object: copy it with [...arguments]"],
  ])("is refused: %s", (expression, reason) => {
    for (const rest of ["", "combine: (a) => a,"]) {
      const [answer] = answersOf(program("", `return ${expression}`, rest), ["a"]);
      expect(answer).toMatch(reason);
    }
  });
});

it("a program that catches that there is no memory does not go on from it", () => {
  for (const make of [
    "new ArrayBuffer(3e8)",
    "new Uint8Array(3e8)",
    "new Float64Array(4e7)",
    "Uint8Array.from({ length: 3e8 })",
    "new (class Mine extends Uint32Array {})(1e8)",
    "new DataView(new ArrayBuffer(3e8))",
    "new Uint8Array(1).constructor.from(new Uint8Array(3e8))",
    "(() => { const one = new Uint8Array(9e7); return [one, one.slice(), one.map((x) => x), one.toReversed()]; })()",
  ]) {
    const source = program("", `try { return ${make}.length; } catch (error) { return "caught"; }`);
    const guest = openProgram(source, "map", null);
    const [first, second] = inputs.run(guest, [
      { entry: "map", input: "a", ref: 1 },
      { entry: "map", input: "", ref: 2 },
    ]);
    guest.dispose();
    expect([make, first?.split(":")[0], second]).toEqual([make, `${FaultCode.memoryLimit}`, "0:"]);
  }
});
