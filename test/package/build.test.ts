/** What runtime/build/build.mjs makes of a checkout, in a copy of it. */
import { execFile } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import packageJson from "../../package.json" with { type: "json" };
import { LAYERS, ROOT } from "../source-tree.ts";

const run = promisify(execFile);
const checkout = realpathSync(mkdtempSync(join(tmpdir(), "pfs-checkout-")));
const cache = join(checkout, "node_modules/.cache/packetfs");
/** Longer than current.mjs waits until it trusts times. */
const SETTLED_MS = 2500;
const DAY_MS = 24 * 3600 * 1000;

beforeAll(() => {
  for (const name of [...LAYERS, "package.json"]) {
    cpSync(join(ROOT, name), join(checkout, name), { recursive: true });
  }
  mkdirSync(join(checkout, "node_modules"));
  for (const name of readdirSync(join(ROOT, "node_modules"))) {
    if (!name.startsWith("."))
      symlinkSync(join(ROOT, "node_modules", name), join(checkout, "node_modules", name));
  }
});
afterAll(() => rmSync(checkout, { recursive: true, force: true }));

async function build(): Promise<string> {
  const { stdout } = await run(process.execPath, [join(checkout, "runtime/build/build.mjs")]);
  return stdout.trim();
}

describe("a build", () => {
  test("is made once, by whichever of several processes is first, and is whole", async () => {
    const folders = await Promise.all([build(), build(), build(), build()]);
    expect(new Set(folders).size).toBe(1);
    expect(readdirSync(cache)).toHaveLength(1);
    const pfs = join(checkout, "sdk/bin/pfs.mjs");
    const { stdout } = await run(process.execPath, [pfs, "--version"]);
    expect(stdout.trim()).toBe(packageJson.version);
    expect(readdirSync(cache)).toHaveLength(1);
  });

  test("is another one when a source changes, and the same one when that is taken back", async () => {
    const before = await build();
    const path = join(checkout, "sdk/cli/main.ts");
    const source = readFileSync(path, "utf8");
    writeFileSync(path, `${source}\n`);
    expect(await build()).not.toBe(before);
    writeFileSync(path, source);
    expect(await build()).toBe(before);
  });

  test("is found again by what the system says of the sources, and not by their times alone", async () => {
    const stamp = join(checkout, "node_modules/.cache/packetfs.stamp");
    const finder = join(checkout, "runtime/build/current.mjs");
    const script = `console.log(require(${JSON.stringify(finder)}).builtFolder())`;
    const found = async (): Promise<string> =>
      fileURLToPath((await run(process.execPath, ["-e", script])).stdout.trim()).replace(/[\\/]$/, "");
    const before = await build();
    // What has just changed may change again at the same time.
    expect(await found()).toBe(before);
    await sleep(SETTLED_MS);
    expect(await found()).toBe(before);
    expect(existsSync(stamp)).toBe(true);
    expect(await found()).toBe(before);
    // Whichever way it was found, it was used.
    for (const way of ["remembered", "looked for"]) {
      if (way === "looked for") rmSync(stamp);
      const longAgo = new Date(Date.now() - DAY_MS);
      utimesSync(before, longAgo, longAgo);
      expect(await found()).toBe(before);
      expect([way, statSync(before).mtimeMs > longAgo.getTime()]).toEqual([way, true]);
    }
    const path = join(checkout, "sdk/cli/main.ts");
    const { atime, mtime } = statSync(path);
    const source = readFileSync(path, "utf8");
    writeFileSync(path, source.replace("Runs the", "Runs any"));
    utimesSync(path, atime, mtime);
    expect(await found()).not.toBe(before);
    writeFileSync(path, source);
    expect(await found()).toBe(before);
    writeFileSync(stamp, "nonsense");
    expect(await found()).toBe(before);
  });

  test("is run with what V8 compiled for the same command before, and without that if it is of no use", async () => {
    const folder = await build();
    const compiled = join(folder, "compiled");
    const file = join(checkout, "README.md");
    writeFileSync(file, "words");
    const put = async (): Promise<string> => {
      const words = [join(checkout, "sdk/bin/pfs.mjs"), "--store", join(checkout, "store"), "put", file];
      const { stdout, stderr } = await run(process.execPath, [...words, "--name", "words"]);
      expect(stderr).not.toContain("Warning");
      return stdout;
    };
    const said = await put();
    const [kept, ...others] = readdirSync(compiled);
    expect([kept, others]).toEqual([expect.stringMatching(/^cli-put-v[\d.]+-/), []]);
    const path = join(compiled, kept!);
    const bytes = readFileSync(path);
    // Rarely, by its number, a process adds to it.
    expect(await put()).toBe(said);
    expect(readFileSync(path).length).toBeGreaterThan(bytes.length / 2);
    for (const useless of [Buffer.alloc(0), Buffer.alloc(bytes.length), Buffer.from("nonsense")]) {
      writeFileSync(path, useless);
      expect(await put()).toBe(said);
      expect(readFileSync(path).length).toBeGreaterThan(bytes.length / 2);
    }
    rmSync(compiled, { recursive: true });
    writeFileSync(compiled, "no folder");
    expect(await put()).toBe(said);
    rmSync(compiled);
  });

  test("goes when nobody has used it for long", async () => {
    const old = join(cache, "0".repeat(32));
    const lately = join(cache, "1".repeat(32));
    for (const [folder, days] of [
      [old, 8],
      [lately, 6],
    ] as const) {
      mkdirSync(folder);
      const at = new Date(Date.now() - days * DAY_MS);
      utimesSync(folder, at, at);
    }
    const path = join(checkout, "sdk/index.ts");
    writeFileSync(path, `${readFileSync(path, "utf8")}\n`);
    await build();
    const left = readdirSync(cache).map((name) => join(cache, name));
    expect(left).not.toContain(old);
    expect(left).toContain(lately);
  });

  test("that fails says why, and leaves nothing", async () => {
    const path = join(checkout, "sdk/index.ts");
    const source = readFileSync(path, "utf8");
    const before = readdirSync(cache);
    writeFileSync(path, `${source}\nexport const = 1;\n`);
    const pfs = run(process.execPath, [join(checkout, "sdk/bin/pfs.mjs"), "--version"]);
    await expect(pfs).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^pfs: .*\bsdk\/index\.ts:\d+:\d+: ERROR: [^\n]*\n$/s) as unknown,
    });
    expect(readdirSync(cache)).toEqual(before);
    writeFileSync(path, source);
  });

  test("adds nothing to the text of functions, which is carried into isolates", async () => {
    const folder = await build();
    const scripts = readdirSync(folder).filter((name) => /\.c?js$/.test(name));
    const texts = scripts.map((name) => readFileSync(join(folder, name), "utf8"));
    expect(texts.join("\n")).toContain("function capturePrimordials(");
    // What esbuild would add for names, fields, disposal and generators of older languages.
    const added =
      /\b__(name|publicField|private\w+|using|callDispose|async|await\w*|spread\w+|decorate\w*)\b/g;
    expect(texts.flatMap((text) => text.match(added) ?? [])).toEqual([]);
  });
});
