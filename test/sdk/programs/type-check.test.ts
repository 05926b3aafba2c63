import { existsSync } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { bundleProgram } from "../../../sdk/programs/bundle.ts";
import { checkTypes } from "../../../sdk/programs/type-check.ts";
import { pfs } from "../cli/run-pfs.ts";
import { programFolder } from "./program-folder.ts";

const { directory, write } = programFolder();

const cacheOf = (name: string): string => join(directory, "caches", name);

async function check(path: string, cache: string): Promise<string | undefined> {
  return await checkTypes(path, await bundleProgram({ path }), { cache: cacheOf(cache) });
}

const COUNT = `import { defineProgram, lines } from "packetfs";
import type { Weight } from "./weight.ts";
const weigh = (line: string): Weight => ({ grams: line.length });
export default defineProgram({
  input: lines(),
  map: (line) => weigh(line).grams,
  combine: (a: number, b: number) => a + b,
});
`;

describe("a program's types", () => {
  it("are told where they are wrong, all of them, and first what its author can mend", async () => {
    const path = await write(
      "wrong/count.ts",
      `import { defineProgram, lines } from "packetfs";
export default defineProgram({
  input: lines(),
  map: (line) => line.lenght,
  combine: (a: number, b: number) => a + b,
});
setTimeout(() => {}, 1);
`,
    );
    const error = await check(path, "wrong").catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: "PFS_PROGRAM_INVALID",
      data: { file: "count.ts", line: 4, column: 23 },
    });
    const [first, second, ...more] = (error as Error).message.split("\n");
    expect(first).toBe(
      "count.ts:4:23: Property 'lenght' does not exist on type 'string'. Did you mean 'length'?",
    );
    expect(second).toMatch(/^count\.ts:7:1: .*setTimeout/);
    expect(more).toEqual([]);
  });

  it("are told with the reason below, where the compiler has one", async () => {
    const path = await write(
      "reason/count.ts",
      `import { defineProgram, lines } from "packetfs";
const measure: (text: string) => number = (width: number) => width;
export default defineProgram({ input: lines(), map: (line) => measure(line) });
`,
    );
    const error = await check(path, "reason").catch((thrown: unknown) => thrown);
    const lines = (error as Error).message.split("\n");
    expect(lines[0]).toMatch(/^count\.ts:2:7: Type '\(width: number\) => number' is not assignable to/);
    expect(lines.slice(1)).toEqual([
      "  Types of parameters 'width' and 'text' are incompatible.",
      "    Type 'string' is not assignable to type 'number'.",
    ]);
  });

  it("are told by the mistake that was made, not by the last of the things that a program can be", async () => {
    const head = 'import { csv, defineProgram, lines, top } from "packetfs";\n';
    const sum = "combine: (a: number, b: number) => a + b";
    const mistakes: readonly (readonly [program: string, told: string])[] = [
      [
        `input: lines(), map: async (line) => line.length, ${sum}`,
        "programs are synchronous: map returns a promise",
      ],
      [
        `input: lines(), yields: "groups", map: async (line, { emit }) => emit(line, 1), ${sum}`,
        "programs are synchronous: map returns a promise",
      ],
      [
        `input: lines(), yields: "groups", map: (line, { emit }) => (emit(line, 1), line), ${sum}`,
        "map returns a value beside what it emits, which would be lost",
      ],
      ['input: csv(), yields: "bytes", map: (row) => row', "map returns neither a Uint8Array nor a string"],
      [`input: lines(), map: (line) => line, ${sum}`, "combine does not take what map returns"],
      [
        "input: lines(), map: (line) => line.length, combine: (a: number, b: number) => `${a} ${b}`",
        "combine returns another type than it takes",
      ],
      [
        `input: lines(), map: (line) => line.length, ${sum}, reduce: async (n) => n`,
        "programs are synchronous: reduce returns a promise",
      ],
      [
        `input: lines(), map: (line) => line.length, ${sum}, result: top(3)`,
        "result is for programs that yield groups",
      ],
      [
        "input: lines(), map: (line) => line.length, combin: Math.max",
        "Object literal may only specify known properties, but 'combin' does not exist in a program. Did you mean to write 'combine'?",
      ],
      [
        'input: lines(), yields: "group", map: () => {}',
        `Type '"group"' is not assignable to type '"bytes" | "groups" | "value" | undefined'.`,
      ],
      [
        "map: (line: string) => line.length",
        "Property 'input' is missing in type '{ map: (line: string) => number; }' but required in a program.",
      ],
      [
        `input: lines(), map: (line, { emit }) => emit(line, 1), ${sum}`,
        "Property 'emit' does not exist on type 'ProgramContext",
      ],
      [
        "input: lines(), map: (line) => line.length, limits: { timeMS: 3 }",
        "Object literal may only specify known properties, but 'timeMS' does not exist in type 'Partial<ProgramLimits>'",
      ],
    ];
    // Ten problems are shown of a program.
    for (const some of [mistakes.slice(0, 7), mistakes.slice(7)]) {
      const programs = some.map(
        ([program], index) => `export const p${index} = defineProgram({ ${program} });`,
      );
      const path = await write("mistakes/p.ts", `${head}${programs.join("\n")}\nexport default {};\n`);
      const { message } = (await check(path, "mistakes").catch((thrown: unknown) => thrown)) as Error;
      for (const [index, [program, text]] of some.entries()) {
        const line = message.split("\n").find((each) => each.startsWith(`p.ts:${index + 2}:`));
        expect(line?.replace(/^p\.ts:\d+:\d+: /, "").slice(0, text.length), program).toBe(text);
      }
    }
  });

  it("are right when they are, with what the sandbox has and packages without types", async () => {
    await write("right/node_modules/plain/package.json", '{"name":"plain","main":"plain.js"}');
    await write("right/node_modules/plain/plain.js", "module.exports = (x) => x;");
    await write("right/sum.wgsl", "fn main() {}");
    const path = await write(
      "right/program.ts",
      `import { columns, defineProgram } from "packetfs";
import plain from "plain";
import source from "./sum.wgsl";
console.log(source.length, process.env.NODE_ENV, new TextEncoder().encode("x").length, new TextDecoder().decode());
export default defineProgram({
  input: columns({ id: "u64", x: "f64" }),
  yields: "groups",
  map: (row, { emit }) => emit(String(row.id), plain(row.x)),
  combine: (a: number, b: number) => a + b,
});
`,
    );
    expect(await check(path, "right")).toBe(undefined);
  });

  it("are not looked at in JavaScript", async () => {
    const path = await write("script/p.js", "export default { map: (line) => line.lenght };");
    expect(await check(path, "script")).toBe(undefined);
    expect(existsSync(cacheOf("script"))).toBe(false);
  });

  it("are checked once, and again when anything that was read has changed, a type too", async () => {
    await write("once/weight.ts", "export interface Weight { readonly grams: number }\n");
    const path = await write("once/count.ts", COUNT);
    expect(await check(path, "once")).toBe(undefined);
    const [name = "", ...others] = await readdir(cacheOf("once"));
    expect(others).toEqual([]);
    // Another result is planted, so that it shows that it is read.
    const file = join(cacheOf("once"), name);
    const result = JSON.parse(await readFile(file, "utf8")) as object;
    const planted = { file: "planted.ts", line: 1, column: 1, text: "remembered" };
    await writeFile(file, JSON.stringify({ ...result, problems: [planted] }));
    await expect(check(path, "once")).rejects.toThrow("planted.ts:1:1: remembered");
    // The bundle stays the same: types leave nothing in it.
    await write("once/weight.ts", "export interface Weight { readonly ounces: number }\n");
    await expect(check(path, "once")).rejects.toThrow("count.ts:3:44: ");
    await write("once/weight.ts", "export interface Weight { readonly grams: number }\n");
    expect(await check(path, "once")).toBe(undefined);
  });

  it("are never checked by a compiler that lies beside the program", async () => {
    const trace = join(directory, "it-ran");
    const evil = `require("node:fs").writeFileSync(${JSON.stringify(trace)}, "");`;
    const manifest = '{"name":"typescript","version":"9.9.9","bin":{"tsc":"tsc.js"}}';
    await write("evil/node_modules/typescript/package.json", manifest);
    await write("evil/node_modules/typescript/tsc.js", evil);
    await write("evil/weight.ts", "export interface Weight { readonly grams: number }\n");
    expect(await check(await write("evil/count.ts", COUNT), "evil")).toBe(undefined);
    expect(existsSync(trace)).toBe(false);
  });
});

describe("pfs run", () => {
  it("refuses a program whose types are wrong, and runs it when told not to look, and says so", async () => {
    const store = join(directory, "store");
    const input = await write("input.txt", "ab\ncde\n");
    expect((await pfs(["--store", store, "put", input])).status).toBe(0);
    const path = await write(
      "longest.ts",
      `import { defineProgram, lines } from "packetfs";
export default defineProgram({
  input: lines(),
  map: (line) => (line as { lenght: number } & string).length + Number(line.lenght === undefined),
  combine: (a: number, b: number) => Math.max(a, b),
});
`,
    );
    const refused = await pfs(["--store", store, "run", path, "input.txt"]);
    expect(refused.err).toContain("longest.ts:4:");
    expect(refused.err).toContain("lenght");
    expect(refused.out).toBe("");
    expect(refused.status).not.toBe(0);
    const ran = await pfs(["--store", store, "run", "--no-check", path, "input.txt"]);
    expect(ran.out).toBe("4\n");
    expect(ran.err).toContain("types were not checked: --no-check");
  });
});
