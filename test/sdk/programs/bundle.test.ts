import { execFile } from "node:child_process";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { compileFunction } from "node:vm";
import { describe, expect, it } from "vitest";
import { checkArgs } from "../../../sdk/programs/args.ts";
import { bundleProgram } from "../../../sdk/programs/bundle.ts";
import { PacketfsError } from "../../../packets/errors.ts";
import {
  PROGRAM_ARGS_DEPTH_MAX,
  PROGRAM_CODE_BYTES_MAX,
  PROGRAM_SOURCE_BYTES_MAX,
} from "../../../runtime/limits.ts";
import type { ProgramBundle, ModuleSource } from "../../../sdk/packetfs.ts";
import { withSourcePlaces } from "../../../sdk/programs/source-places.ts";
import { programFolder } from "./program-folder.ts";

const COUNT = `import { defineProgram, lines } from "packetfs";
import { weigh } from "./weigh.ts";
export default defineProgram({ input: lines(), map: (line) => weigh(line), combine: (a, b) => a + b });
`;
const WEIGH = `export function weigh(line: string): number { return line.length; }
export function unused(): string { return "this is not needed"; }
`;

const { directory, write } = programFolder();

async function failure(source: ModuleSource): Promise<PacketfsError> {
  const error = await bundleProgram(source).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof PacketfsError)) throw new Error(`no error of ours: ${String(error)}`);
  return error;
}

/** Calls the bundle as a sandbox does. */
function load({ code }: ProgramBundle): Record<string, unknown> {
  const $exports: { default?: Record<string, unknown> } = {};
  const $packetfs = {
    json: (text: string): unknown => JSON.parse(text),
    shared: (make: () => unknown) => make(),
  };
  const text = `"use strict";\n${Buffer.from(code).toString()}`;
  compileFunction(text, ["$exports", "$packetfs"])($exports, $packetfs);
  return $exports.default!;
}

describe("a program's bundle", () => {
  it("is one module with what the program imports, and nothing else", async () => {
    await write("one/weigh.ts", WEIGH);
    const bundle = await bundleProgram({ path: await write("one/count.ts", COUNT) });
    const text = Buffer.from(bundle.code).toString();
    expect(bundle.name).toBe("count.ts");
    expect(text).not.toMatch(/^\s*import\b/m);
    expect(text).not.toContain("this is not needed");
    const program = load(bundle);
    expect(program["input"]).toEqual({ kind: "lines" });
    expect((program["map"] as (line: string) => number)("four")).toBe(4);
  });

  it("has the same bytes wherever the sources lie", async () => {
    await write("here/weigh.ts", WEIGH);
    await write("far/away/from/it/weigh.ts", WEIGH);
    // A tsconfig.json that happens to be there must not change what the program means.
    await write("far/away/tsconfig.json", '{"compilerOptions":{"target":"es5","jsx":"react"}}');
    const here = await bundleProgram({ path: await write("here/count.ts", COUNT) });
    const away = await bundleProgram({ path: await write("far/away/from/it/count.ts", COUNT) });
    expect(Buffer.from(away.code).toString()).toBe(Buffer.from(here.code).toString());
    expect(Buffer.from(here.code).toString()).not.toContain(directory);
  });

  it("is made of text, too, and a bundle is returned as it is", async () => {
    const source = COUNT.replace(/import .*weigh.*\n/, "").replace("weigh(line)", "line.length");
    const bundle = await bundleProgram({ source });
    expect(load(bundle)["input"]).toEqual({ kind: "lines" });
    expect(await bundleProgram(bundle)).toBe(bundle);
  });

  it("takes packages that are installed beside the program, and JSON", async () => {
    await write("pack/node_modules/tiny/package.json", '{"name":"tiny","main":"tiny.js"}');
    await write("pack/node_modules/tiny/tiny.js", "module.exports.triple = (x) => 3 * x;");
    await write("pack/words.json", '["a","b"]');
    const path = await write(
      "pack/program.ts",
      'import { triple } from "tiny"; import words from "./words.json"; export default { n: triple(words.length) };',
    );
    const bundle = await bundleProgram({ path });
    expect(load(bundle)).toEqual({ n: 6 });
    // Data is no code: it is made once, by whoever runs the program.
    expect(Buffer.from(bundle.code).toString()).toContain(`$packetfs.json('["a","b"]')`);
  });

  it("takes WGSL as text", async () => {
    await write("kernel/sum.wgsl", 'fn main() { let x = 1u; } // "`\n');
    const path = await write(
      "kernel/program.ts",
      'import source from "./sum.wgsl"; export default { source };',
    );
    expect(load(await bundleProgram({ path }))).toEqual({ source: 'fn main() { let x = 1u; } // "`\n' });
  });

  it("takes JSON by its names, from packages too, and says where it is wrong", async () => {
    await write("json/data.json", '\uFEFF{ "class": [1], "not a name": 2, "default": 3, "__proto__": 4 }');
    await write("json/node_modules/uses/package.json", '{"name":"uses","main":"uses.js","version":"1.2.3"}');
    await write("json/node_modules/uses/uses.js", "exports.version = require('./package.json').version;");
    const path = await write(
      "json/program.ts",
      `import data, { class as kind } from "./data.json"; import { version } from "uses";
export default { kind, both: data.class === kind, version, own: Object.keys(data) };`,
    );
    expect(load(await bundleProgram({ path }))).toEqual({
      kind: [1],
      both: true,
      version: "1.2.3",
      own: ["class", "not a name", "default", "__proto__"],
    });
    await write("json/wrong.json", '{\n  "a": 1,\n  b\n}');
    const error = await failure({
      path: await write("json/wrong.ts", 'import x from "./wrong.json"; export default x;'),
    });
    expect(error.message).toMatch(/^wrong\.json:3:3: /);
  });

  it("may not wait", async () => {
    const error = await failure({ source: "await 0; export default {};" });
    expect(error.message).toMatch(/^program\.ts:1:1: Top-level await/);
  });
});

describe("a package called like one of Node's modules", () => {
  it("is bundled where it is installed, from the program and from other packages", async () => {
    await write("named/node_modules/events/package.json", '{"name":"events","main":"events.js"}');
    await write(
      "named/node_modules/events/events.js",
      "exports.EventEmitter = class { kind() { return 'ours'; } };",
    );
    await write("named/node_modules/uses/package.json", '{"name":"uses","main":"uses.js"}');
    await write(
      "named/node_modules/uses/uses.js",
      "module.exports = new (require('events').EventEmitter)().kind();",
    );
    const path = await write(
      "named/program.ts",
      'import { EventEmitter } from "events"; import used from "uses"; export default { own: new EventEmitter().kind(), used };',
    );
    expect(load(await bundleProgram({ path }))).toEqual({ own: "ours", used: "ours" });
    const node = await write(
      "named/node.ts",
      'import { EventEmitter } from "node:events"; export default EventEmitter;',
    );
    expect((await failure({ path: node })).message).toContain('"node:events" cannot be imported');
  });

  it("throws when it is reached, where it is only required and not there", async () => {
    await write("guarded/node_modules/parse/package.json", '{"name":"parse","main":"parse.js"}');
    await write(
      "guarded/node_modules/parse/parse.js",
      `exports.mode = process.env.NODE_ENV;
exports.parse = (text) => text.split(",");
exports.stream = () => new (require("stream").Duplex)();
try { exports.fast = require("fs"); } catch (error) { exports.reason = error.message; }`,
    );
    const path = await write(
      "guarded/program.ts",
      'import parse from "parse"; let late = ""; try { parse.stream(); } catch (error) { late = error.message; }\nexport default { ...parse, late, parts: parse.parse("a,b") };',
    );
    expect(load(await bundleProgram({ path }))).toMatchObject({
      mode: "production",
      parts: ["a", "b"],
      late: 'programs have no Node.js: "stream" cannot be imported',
      reason: 'programs have no file system: "fs" cannot be imported',
    });
  });
});

describe("a place in a bundle", () => {
  it("is told as the place in the author's file that it comes from", async () => {
    await write(
      "places/weigh.ts",
      `// A comment.\n\nexport function weigh(line: string): number {\n  return line.length;\n}\n`,
    );
    const bundle = await bundleProgram({ path: await write("places/count.ts", COUNT) });
    const lines = Buffer.from(bundle.code).toString().split("\n");
    const line = lines.findIndex((each) => each.includes("return line.length")) + 1;
    const told = withSourcePlaces(`Error: no\n    at weigh (program.js:${line}:3)`, bundle);
    expect(told).toBe("Error: no\n    at weigh (weigh.ts:4:3)");
    expect(withSourcePlaces("at program.js:9999:1, or not", bundle)).toContain("or not");
    const { sourceMap: _, ...mapless } = bundle;
    expect(withSourcePlaces("at program.js:1:1", mapless)).toBe("at program.js:1:1");
  });
});

describe("a program that cannot be bundled", () => {
  it("is told where its syntax is wrong", async () => {
    const path = await write("wordcount.ts", 'import { lines } from "packetfs";\n\nconst x = lines( let;\n');
    const error = await failure({ path });
    expect(error.code).toBe("PFS_PROGRAM_INVALID");
    expect(error.message).toMatch(/^wordcount\.ts:3:21: Expected "\)" but found ";"/);
    expect(error.data).toMatchObject({ file: "wordcount.ts", line: 3, column: 21 });
  });

  it("is told where, in a file that it imports", async () => {
    await write("broken/part.ts", "export const = 1;");
    const error = await failure({ path: await write("broken/main.ts", 'import "./part.ts";') });
    expect(error.message).toMatch(/^part\.ts:1:14: /);
  });

  it.each([
    ["node:fs", "programs have no file system"],
    ["fs/promises", "programs have no file system"],
    ["node:net", "programs have no network"],
    ["child_process", "programs start no processes"],
    ["node:crypto", "programs have no Node.js"],
    ["node:sqlite", "programs have no Node.js"],
  ])("is told that %s is not there", async (name, reason) => {
    const error = await failure({ source: `import * as x from "${name}"; export default x;` });
    expect(error.code).toBe("PFS_PROGRAM_INVALID");
    expect(error.message).toContain(reason);
    expect(error.message).toContain(`"${name}"`);
  });

  it.each([
    [
      "what is not part of the authoring API",
      'import { openLocal } from "packetfs"; export default openLocal;',
      "openLocal",
    ],
    ["a file that is not there", 'import x from "./nowhere.ts"; export default x;', "./nowhere.ts"],
    [
      "a package that is not installed",
      'import x from "no-such-package"; export default x;',
      "no-such-package",
    ],
    ["a URL", 'import x from "https://example.org/x.js"; export default x;', "https://example.org/x.js"],
    ["whatever matches a pattern", "export default import(`./${globalThis.x}.ts`);", "import("],
  ])("is told when it imports %s", async (_what, source, mentions) => {
    const error = await failure({ source });
    expect(error.code).toBe("PFS_PROGRAM_INVALID");
    expect(error.message).toContain(mentions);
  });

  it("is told when it exports nothing by default", async () => {
    const error = await failure({ source: "export const map = 1;" });
    expect(error.message).toContain("no default export");
  });

  it("is told when it is too big", async () => {
    const source = `export default ${JSON.stringify("x".repeat(PROGRAM_CODE_BYTES_MAX))};`;
    expect((await failure({ source })).message).toContain("is larger than 8.39 MB with its imports");
  });

  it("is told before it is bundled when it, or what it imports, is far too big", async () => {
    const large = `export const text = ${JSON.stringify("x".repeat(PROGRAM_SOURCE_BYTES_MAX / 4))};\n`;
    const names = Array.from({ length: 8 }, (_, index) => `part${index}`);
    for (const name of names) await write(`large/${name}.ts`, large);
    const imports = names.map((name) => `import { text as ${name} } from "./${name}.ts";`);
    const path = await write("large/main.ts", `${imports.join("\n")}\nexport default [${names.join()}];\n`);
    for (const source of [{ path }, { source: `${large.repeat(5)}export default 1;` }]) {
      const error = await failure(source);
      expect(error.code).toBe("PFS_PROGRAM_INVALID");
      expect(error.message).toContain("at most 16.8 MB of source with its imports: store data as a file");
    }
  });

  it("may not be there at all, or be no file", async () => {
    const missing = await failure({ path: join(directory, "missing.ts") });
    expect(missing.code).toBe("PFS_FILE_NOT_FOUND");
    expect(missing.message).toBe(`no such file: ${join(directory, "missing.ts")}`);
    expect((await failure({ path: directory })).code).toBe("PFS_FILE_FAILED");
  });
});

describe("arguments", () => {
  it("are what JSON carries as it is, and no more than the limit", () => {
    for (const args of [
      undefined,
      null,
      0,
      "x",
      [1, { a: undefined }],
      { __proto__: null, deep: [[true]] },
    ]) {
      expect(() => checkArgs(args)).not.toThrow();
    }
    const loop: unknown[] = [];
    loop.push(loop);
    const nested = (depth: number): unknown => {
      let value: unknown = "]}\\";
      for (let level = 0; level < depth; level++) value = level % 2 === 0 ? [value] : { "[": value };
      return value;
    };
    expect(() => checkArgs(nested(PROGRAM_ARGS_DEPTH_MAX))).not.toThrow();
    const refused: readonly (readonly [unknown, RegExp])[] = [
      [1n, /a bigint/],
      [{ b: 1n }, /its "b" is a bigint/],
      [{ a: { when: new Date(0) } }, /its "when" is an instance of a class/],
      [[new Map()], /its "0" is an instance of a class/],
      [{ x: Number.NaN }, /its "x" is NaN/],
      [{ x: -0 }, /its "x" is -0/],
      [() => 1, /a function/],
      [loop, /circular/],
      [nested(PROGRAM_ARGS_DEPTH_MAX + 1), /nested more than 500 deep/],
      [nested(20_000), /nested more than 500 deep/],
      ["x".repeat(1024 * 1024), /more than 1 MB of JSON: store what is large as a file/],
    ];
    for (const [args, says] of refused) {
      const refusal: unknown = expect.objectContaining({
        code: "PFS_USAGE",
        message: expect.stringMatching(says),
      });
      expect(() => checkArgs(args)).toThrow(refusal as Error);
    }
  });
});

describe("a program that imports nothing but packetfs", () => {
  const alone = (answer: number): string =>
    `import { defineProgram, lines } from "packetfs";
    export default defineProgram({ input: lines(), map: () => ${answer} });\n`;
  const text = ({ code }: ProgramBundle): string => Buffer.from(code).toString();

  it("is bundled once for each text that it has", async () => {
    const path = await write("alone.ts", alone(1));
    const first = await bundleProgram({ path });
    expect(await bundleProgram({ path })).toBe(first);
    // Its name stands in its faults.
    const other = await bundleProgram({ path: await write("other-name.ts", alone(1)) });
    expect([other.name, other]).not.toEqual([first.name, first]);
    await write("alone.ts", alone(2));
    expect(text(await bundleProgram({ path }))).toContain("=> 2");
    await write("alone.ts", alone(1));
    expect(await bundleProgram({ path })).toBe(first);
  });

  it("is remembered for other processes where it is told to, and made again where what is there makes no sense", async () => {
    const path = await write("kept.ts", alone(3));
    const cache = join(directory, "cache");
    const made = await bundleProgram({ path }, { cache });
    const [name = ""] = readdirSync(cache);
    const file = join(cache, name);
    expect(statSync(file).mode & 0o077).toBe(0);
    const inAnotherProcess = async (): Promise<string> => {
      const module = JSON.stringify(new URL("../../../sdk/programs/bundle.ts", import.meta.url).href);
      const script = `const { bundleProgram } = await import(${module});
        const { code } = await bundleProgram({ path: ${JSON.stringify(path)} }, { cache: ${JSON.stringify(cache)} });
        process.stdout.write(code);`;
      return (await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script])).stdout;
    };
    expect(await inAnotherProcess()).toBe(text(made));
    writeFileSync(file, readFileSync(file, "utf8").replace("=> 3", "=> 4"));
    expect(await inAnotherProcess()).toBe(text(made).replace("=> 3", "=> 4"));
    for (const broken of ["", "{", '{"name":"kept.ts","code":1}', "null"]) {
      writeFileSync(file, broken);
      expect(await inAnotherProcess()).toBe(text(made));
    }
  });

  it("is not what imports a file of its own, which is read each time", async () => {
    const cache = join(directory, "cache-of-several");
    await write("weigh.ts", WEIGH);
    const path = await write("several.ts", COUNT);
    await bundleProgram({ path }, { cache });
    await write("weigh.ts", WEIGH.replace("line.length", "line.length * 2"));
    expect(text(await bundleProgram({ path }, { cache }))).toContain("line.length * 2");
    expect(() => readdirSync(cache)).toThrow("ENOENT");
  });
});
