/** Rules about the source itself: what may import what, and what must not lie around. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  LAYERS,
  ROOT,
  entriesNamedBy,
  importsOf,
  isRelative,
  layerOf,
  resolve,
  sourceFile,
  sourcesIn,
} from "./source-tree.ts";
import type { SourceFile } from "./source-tree.ts";

/** Longer files are worth a look: a warning, since only a reader can say whether one is about one thing. */
const LINES_WORTH_A_LOOK = 400;

/** The rooms of runtime/, and which of them each may know. They are joined in machine.ts alone. */
const ROOMS = new Map<string, readonly string[]>([
  ["contracts", ["program"]],
  ["program", ["contracts"]],
  ["schedule", []],
  ["stream", ["contracts", "program"]],
  ["store", ["contracts", "stream"]],
  ["tree", ["contracts", "stream"]],
  ["sandbox", ["contracts", "program"]],
  ["accelerator", ["contracts", "program", "stream"]],
  ["engine", ["contracts", "program"]],
  ["executor", ["contracts", "program", "stream", "sandbox"]],
  ["code", ["contracts", "program", "stream"]],
  ["job", ["contracts", "program", "stream", "schedule"]],
]);

/** Node's modules that compute and do nothing else. */
const PURE_MODULES = ["node:crypto", "node:zlib", "node:buffer", "node:assert"];
/** Pure cores: no I/O, no timers, no clock, no chance. */
const PURE_FOLDERS = ["packets/", "runtime/schedule/"];
const IMPURE =
  /\b(Math\.random|Date\.now|new Date\(\)|performance\.now|process\.|set(Timeout|Interval|Immediate)|random(Bytes|FillSync|Fill|UUID|Int)\b)/;

/** Files that something outside the source names, and what that is. */
const ENTRIES = new Map([
  ["sdk/index.ts", "runtime/build/build.mjs"],
  ["sdk/cli/main.ts", "runtime/build/build.mjs"],
  ["runtime/build/build.mjs", "runtime/build/current.mjs"],
  ["sdk/bin/index.mjs", "package.json, exports"],
  ["sdk/bin/pfs.mjs", "package.json, bin"],
  ["runtime/build/absent/gl/index.js", "package.json, workspaces"],
  ["sdk/bin/ensure-installed.mjs", "package.json, scripts"],
  // What an update will cost: nobody asks yet.
  ["runtime/stream/patch/estimate.ts", "test/runtime/stream/patch"],
]);

const sources = LAYERS.flatMap(sourcesIn);
const tests = sourcesIn("test");
const examples = sourcesIn("examples");
const everything = [...sources, ...tests, ...examples];
const paths = new Set(sources.map(({ path }) => path));
const namedByUrl = new Set(sources.flatMap(entriesNamedBy));
const namedByTests = new Set(tests.flatMap(entriesNamedBy));

/** Those of the files that `broken` finds something in, with what it found. */
function findings(files: readonly SourceFile[], broken: (file: SourceFile) => string[]): string[] {
  return files.flatMap((file) => broken(file).map((finding) => `${file.path}: ${finding}`));
}

test(`imports go ${LAYERS.toReversed().join(" → ")} only, never back`, () => {
  const back = findings(sources, (file) =>
    importsOf(file)
      .filter(isRelative)
      .filter((specifier) => {
        const layer = layerOf(resolve(file.path, specifier));
        if (layer === -1) return !specifier.endsWith(".json");
        return layer > layerOf(file.path);
      }),
  );
  expect(back).toEqual([]);
});

test("the rooms of runtime/ know each other through contracts only, and no arrow is excused", () => {
  const roomOf = (path: string): string => /^runtime\/([a-z-]+)\//.exec(path)?.[1] ?? "";
  const wrong = findings(sources, (file) => {
    const known = ROOMS.get(roomOf(file.path));
    if (known === undefined) return [];
    const rooms = importsOf(file)
      .filter(isRelative)
      .map((specifier) => roomOf(resolve(file.path, specifier)));
    return rooms.filter((room) => room !== "" && room !== roomOf(file.path) && !known.includes(room));
  });
  expect(wrong).toEqual([]);
});

test("long files are told", () => {
  const lines = ({ text }: SourceFile): number => text.split("\n").length - 1;
  const long = findings(everything, (file) => (lines(file) > LINES_WORTH_A_LOOK ? [`${lines(file)}`] : []));
  if (long.length > 0) console.warn(`over ${LINES_WORTH_A_LOOK} lines: ${long.join(", ")}`);
});

test("no source file lies unused", () => {
  const used = new Set([...ENTRIES.keys(), ...namedByUrl]);
  for (const file of sources) {
    for (const specifier of importsOf(file).filter(isRelative)) {
      const target = resolve(file.path, specifier);
      if (target !== file.path) used.add(target);
    }
  }
  expect(sources.map(({ path }) => path).filter((path) => !used.has(path))).toEqual([]);
  expect(
    [...ENTRIES.keys()].filter((path) => !paths.has(path)),
    "entries that are not there",
  ).toEqual([]);
});

test("names are exported one by one", () => {
  const files = [...sources, ...tests];
  const stars = findings(files, ({ statements }) => statements.match(/^export \*.*$/gm) ?? []);
  expect(stars).toEqual([]);
  const unnamed = /^export default\b.*$|^export \{[^}]*\bas default\b/gm;
  const entries = findings(
    files.filter(({ path }) => !namedByUrl.has(path) && !namedByTests.has(path)),
    ({ statements }) => statements.match(unnamed) ?? [],
  );
  expect(entries).toEqual([]);
});

test("what an old Node can parse exports what sdk/index.ts does", () => {
  const namesIn = (lists: IterableIterator<RegExpExecArray>): string[] =>
    [...lists].flatMap(([, names]) => names!.match(/\w+/g) ?? []).toSorted();
  const { statements } = sources.find(({ path }) => path === "sdk/index.ts")!;
  const published = sources.find(({ path }) => path === "sdk/bin/index.mjs")!;
  const written = namesIn(statements.matchAll(/^export \{([^}]*)\}/gm));
  expect(written).toContain("openLocal");
  expect(namesIn(published.code.matchAll(/^export const \{([^}]*)\}/gm))).toEqual(written);
});

test("a file is called what it is about", () => {
  const vague = /(^|\/)(utils?|helpers?|misc|common|shared)(\.|\/)/;
  expect(everything.map(({ path }) => path).filter((path) => vague.test(path))).toEqual([]);
  const kebab = /^[a-z0-9./-]+$/;
  expect(everything.map(({ path }) => path).filter((path) => !kebab.test(path))).toEqual([]);
});

test("nothing is left to do", () => {
  // Spelled so that this line does not find itself.
  const left = /\b(T[O]DO|FIXM[E]|XX[X])\b/;
  expect(findings(everything, ({ text }) => text.split("\n").filter((line) => left.test(line)))).toEqual([]);
});

test("a test that stands still while a command runs gives that command a limit", () => {
  const still = /^import \{[^}]*\b(spawn|exec|execFile)Sync\b[^}]*\} from "node:child_process";$/m;
  const others = tests.filter(
    ({ path }) => path !== "test/suites/run-sync.ts" && !path.startsWith("test/bench/"),
  );
  expect(findings(others, ({ text }) => still.exec(text)?.slice(0, 1) ?? [])).toEqual([]);
});

test("no type is any", () => {
  const unwanted = /: any[;,)\]|&[]|: any =|<any>|\bas any\b/;
  const files = [...sources, ...examples];
  expect(findings(files, ({ statements }) => statements.match(unwanted) ?? [])).toEqual([]);
});

describe("pure cores", () => {
  const pure = sources.filter(({ path }) => PURE_FOLDERS.some((folder) => path.startsWith(folder)));

  test("import no module that does more than compute", () => {
    const impure = findings(pure, (file) =>
      importsOf(file).filter((specifier) => {
        if (isRelative(specifier)) return false;
        return !file.path.startsWith("packets/") || !PURE_MODULES.includes(specifier);
      }),
    );
    expect(impure).toEqual([]);
  });

  test("know no clock, no timer and no chance", () => {
    expect(findings(pure, ({ code }) => code.match(IMPURE)?.slice(0, 1) ?? [])).toEqual([]);
  });
});

describe("errors", () => {
  const document = ["ERRORS.md", "docs/ERRORS.md"]
    .map((path) => join(ROOT, path))
    .find((path) => existsSync(path));
  const codesIn = (text: string): string[] => text.match(/\bPFS_[A-Z][A-Z_]*[A-Z]\b/g) ?? [];
  const thrown = new Set(sources.flatMap(({ code }) => codesIn(code)));

  test.runIf(document !== undefined)("each code is explained in a heading or a table, and no other", () => {
    const lines = readFileSync(document!, "utf8").split("\n");
    const explained = new Set(lines.filter((line) => /^(#|\|)/.test(line)).flatMap(codesIn));
    expect([...thrown].filter((code) => !explained.has(code)).toSorted()).toEqual([]);
    expect([...explained].filter((code) => !thrown.has(code)).toSorted(), "not in the source").toEqual([]);
  });
});

describe("this test", () => {
  test("reads imports however they are written, and not in comments or strings", () => {
    const file = sourceFile(
      "runtime/job/x.ts",
      [
        'import "./side.ts";',
        'import fs from "node:fs";',
        "import {",
        "  a,",
        "  b,",
        '} from "../b.ts";',
        'import type { T } from "./t.ts";',
        'export { c } from "./c.ts";',
        'export type { D } from "../../packets/d.ts";',
        'const late = await import("./late.ts");',
        '/** import { no } from "./no.ts"; */',
        '// import { no } from "./no.ts";',
        'export const text = "from";',
        "const guest = `",
        'import { no } from "./no.ts";`;',
        'const worker = new URL("./worker.ts", import.meta.url);',
        "const child = new URL(`./child${extname(import.meta.url)}`, import.meta.url);",
      ].join("\n"),
    );
    expect(importsOf(file)).toEqual([
      "./side.ts",
      "node:fs",
      "../b.ts",
      "./t.ts",
      "./c.ts",
      "../../packets/d.ts",
      "./late.ts",
    ]);
    expect(entriesNamedBy(file)).toEqual(["runtime/job/worker.ts", "runtime/job/child.ts"]);
    expect(resolve(file.path, "../../packets/d.ts")).toBe("packets/d.ts");
    expect([layerOf("packets/d.ts"), layerOf("sdk/cli/main.ts"), layerOf("test/x.ts")]).toEqual([0, 3, -1]);
  });

  test("sees the whole project", () => {
    expect(sources.length).toBeGreaterThan(50);
    for (const layer of LAYERS) expect(sources.some(({ path }) => path.startsWith(`${layer}/`))).toBe(true);
    expect(tests.some(({ path }) => path === "test/tidy.test.ts")).toBe(true);
  });
});
