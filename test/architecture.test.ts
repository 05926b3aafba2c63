/**
 * ARCHITECTURE.md against the source: each arrow of its chains is an import or a message, each folder has its line and keeps
 * to the face that the line names, and every path is there.
 */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { LAYERS, ROOT, entriesNamedBy, importsOf, isRelative, resolve, sourcesIn } from "./source-tree.ts";

const text = readFileSync(join(ROOT, "ARCHITECTURE.md"), "utf8");
const sources = LAYERS.flatMap(sourcesIn).filter(({ path }) => path.endsWith(".ts"));
const imports = new Map(
  sources.map((file) => [
    file.path,
    new Set(
      importsOf(file)
        .filter(isRelative)
        .map((specifier) => resolve(file.path, specifier)),
    ),
  ]),
);
const named = new Map(sources.map((file) => [file.path, new Set(entriesNamedBy(file))]));
const folders = [...new Set(sources.map(({ path }) => dirname(path)))].toSorted((a, b) => (a < b ? -1 : 1));

/** Where two files say what crosses between them as messages. */
const PROTOCOLS = [
  "nodes/messages.ts",
  "nodes/transfer/replication/messages.ts",
  "nodes/wire/bulk/protocol.ts",
  "nodes/wire/session/message.ts",
  "nodes/wire/handshake/messages.ts",
  "packets/envelope.ts",
  "runtime/sandbox/process/protocol.ts",
  "runtime/store/writer/protocol.ts",
];
/** Where one file says what it wants to be handed, and another is that. */
const CONTRACTS = /^(runtime\/contracts\/|nodes\/wire\/link\.ts$|sdk\/packetfs\.ts$)/;

function section(heading: string): string {
  const [, rest = ""] = text.split(`\n## ${heading}\n`);
  return rest.split("\n## ")[0]!;
}

/** The only source file of that name, whose path may be shortened from the left. */
function fileOf(name: string): string | undefined {
  if (imports.has(name)) return name;
  const found = [...imports.keys()].filter((path) => path.endsWith(`/${name}`));
  return found.length === 1 ? found[0] : undefined;
}

/** Why the arrow is not true; undefined when it is. */
function untrue(from: string, arrow: string, to: string): string | undefined {
  const [a, b] = [imports.get(from)!, imports.get(to)!];
  const common = (wanted: (path: string) => boolean): boolean =>
    [...a, from].some((path) => wanted(path) && (b.has(path) || path === to));
  switch (arrow) {
    case "▶":
      return a.has(to) ? undefined : "is no import";
    case "◀":
      return b.has(from) ? undefined : "is no import from the right";
    case "▷":
      return common((path) => CONTRACTS.test(path)) ? undefined : "share no contract";
    default:
      if (named.get(from)!.has(to) || common((path) => PROTOCOLS.includes(path))) return undefined;
      return "share no messages";
  }
}

describe("ARCHITECTURE.md", () => {
  test("has chains whose arrows are imports, contracts or messages", () => {
    const blocks = section("The flow of data").match(/^```[\s\S]*?^```/gm) ?? [];
    const wrong: string[] = [];
    let arrows = 0;
    for (const block of blocks) {
      let from: string | undefined;
      let arrow: string | undefined;
      for (const [token] of block.matchAll(/[\w./-]+\.ts\b|═▶|▶|◀|▷/g)) {
        if (!token.endsWith(".ts")) {
          arrow = token;
          continue;
        }
        const to = fileOf(token);
        if (to === undefined) wrong.push(`${token} is not one file`);
        else if (from !== undefined && arrow !== undefined) {
          arrows++;
          const why = untrue(from, arrow, to);
          if (why !== undefined) wrong.push(`${from} ${arrow} ${to}: ${why}`);
        }
        from = to;
        arrow = undefined;
      }
    }
    expect(wrong).toEqual([]);
    expect(arrows).toBeGreaterThan(80);
  });

  test("has a line for every folder, and outsiders import only the face that it names", () => {
    const lines = [
      ...section("The folders").matchAll(/^- \*\*`([a-z/-]+)\/`\*\* \((face:\s+([^)]+)|open)\)/gm),
    ];
    expect(lines.map(([, folder = ""]) => folder).toSorted((a, b) => (a < b ? -1 : 1))).toEqual(folders);
    const wrong: string[] = [];
    for (const [, folder = "", , face] of lines) {
      if (face === undefined) continue;
      const faces = [...face.matchAll(/`([\w./-]+)`/g)].map(([, name]) => `${folder}/${name}`);
      const inside = [...imports.keys()].filter((path) => path.startsWith(`${folder}/`));
      const used = new Set(
        [...imports]
          .filter(([path]) => !path.startsWith(`${folder}/`))
          .flatMap(([, targets]) => [...targets].filter((path) => path.startsWith(`${folder}/`))),
      );
      wrong.push(...[...used].filter((path) => !faces.includes(path)).map((path) => `${path} is imported`));
      wrong.push(...faces.filter((path) => !used.has(path)).map((path) => `${path} is imported by nobody`));
      const most = Math.max(5, Math.ceil(inside.length / 3));
      if (faces.length > most) wrong.push(`${folder}: a face of ${faces.length}/${inside.length}`);
    }
    expect(wrong).toEqual([]);
  });

  test("says where to look in paths from the root, and names no file that is not there", () => {
    const rows = [...section("Where to look").split("\n"), ...section("Seams").split("\n")].filter((line) =>
      line.startsWith("| "),
    );
    expect(rows.length).toBeGreaterThanOrEqual(30);
    const paths = rows.flatMap((row) => [...row.matchAll(/`([\w./-]+\.[a-z]+)`/g)].map(([, path]) => path!));
    expect(paths.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
    const names = new Set(text.replace(section("The folders"), "").match(/(?<![\w/-])[\w./-]+\.ts\b/g));
    expect([...names].filter((name) => fileOf(name) === undefined && !existsSync(join(ROOT, name)))).toEqual(
      [],
    );
  });

  test("has few words of its own", () => {
    const words = section("Glossary")
      .split("\n")
      .filter((line) => line.startsWith("- **"));
    expect(words.length).toBeGreaterThan(5);
    expect(words.length).toBeLessThan(15);
  });
});
