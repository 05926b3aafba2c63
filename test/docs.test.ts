/** What the documents say of the source, compared with it: links, commands, files, error codes, promises about examples. */
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join, posix } from "node:path";
import { describe, expect, test } from "vitest";
import type { Command } from "commander";
import packageJson from "../package.json" with { type: "json" };
import { FaultCode, faultErrorCode } from "../packets/faults.ts";
import { createProgram } from "../sdk/cli/commands.ts";
import { EXIT_CODES } from "../sdk/cli/exit-codes.ts";
import { Output } from "../sdk/cli/output.ts";
import { LAYERS, ROOT, sourcesIn } from "./source-tree.ts";

const ROOT_FILES = readdirSync(ROOT, { withFileTypes: true })
  // In a worktree of its own, .git is a file, and not one of the project.
  .filter((entry) => entry.isFile() && entry.name !== ".git")
  .map(({ name }) => name)
  .toSorted();
const DOCUMENTS = [...ROOT_FILES.filter((name) => name.endsWith(".md")), "packets/SPEC.md"];

function read(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

/** Markdown without what stands in fences: code has brackets of its own. */
function proseOf(text: string): string {
  return text.replaceAll(/^```[\s\S]*?^```/gm, "");
}

/** How GitHub names a heading in a link. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\p{Letter}\p{Number}\s_-]/gu, "")
    .replaceAll(" ", "-");
}

function anchorsOf(path: string): string[] {
  return [...proseOf(read(path)).matchAll(/^#+ +(.+?) *$/gm)].map(([, heading]) => anchorOf(heading!));
}

describe("links", () => {
  test.each(DOCUMENTS)("of %s lead somewhere", (document) => {
    const targets = [...proseOf(read(document)).matchAll(/\]\(\s*([^)\s]+)\s*\)/g)].map(
      ([, target]) => target!,
    );
    const broken = targets
      .filter((target) => !/^[a-z]+:/.test(target))
      .filter((target) => {
        const [file = "", anchor] = target.split("#");
        const path = file === "" ? document : posix.join(posix.dirname(document), file);
        if (path.startsWith("..") || !existsSync(join(ROOT, path))) return true;
        return anchor !== undefined && !anchorsOf(path).includes(anchor);
      });
    expect(broken).toEqual([]);
  });
});

describe("README.md", () => {
  const readme = read("README.md");

  test("says, where it is installed, on which platforms that needs a compiler, and where one's own Node", () => {
    const [, installing = ""] = /npm install PATH\/TO\/packetfs([\s\S]*?)```sh/.exec(readme) ?? [];
    for (const word of ["glibc", "musl", "Windows arm64", "macOS x64", "compiler"])
      expect(installing).toContain(word);
  });
  const output = new Output({ json: false, quiet: true, verbose: false });
  const host = { output, signal: new AbortController().signal, finish: () => undefined };
  const program = createProgram(host);
  /** The words behind `pfs`, up to where the shell or a comment goes on. */
  const calls = [
    ...[...readme.matchAll(/^```sh\n([\s\S]*?)^```/gm)].flatMap(([, block]) => [
      ...block!.matchAll(/(?:^|[|&;] *|npx )pfs ([^#|&;\n]+)/gm),
    ]),
    ...proseOf(readme).matchAll(/`(?:npx )?pfs ([^`]+)`/g),
  ].map(([, words]) => words!.trim().split(/\s+/));

  function flagsOf(command: Command): string[] {
    return [...command.options, ...program.options].flatMap(({ short, long }) =>
      [short, long].filter((flag) => flag !== undefined && flag !== null),
    );
  }

  test("calls only commands that there are, with options that they have", () => {
    expect(calls.length).toBeGreaterThan(10);
    const unknown = calls.filter(([name, ...words]) => {
      const command = program.commands.find((each) => each.name() === name);
      if (command === undefined) return true;
      const flags = flagsOf(command);
      return words.some((word) => /^--?[a-z]/.test(word) && !flags.includes(word.split("=")[0]!));
    });
    expect(unknown.map((words) => words.join(" "))).toEqual([]);
  });

  test("names only variables that stand for options", () => {
    const known = [program, ...program.commands].flatMap(({ options }) =>
      options.map(({ envVar }) => envVar),
    );
    const named = readme.match(/\bPACKETFS_[A-Z_]+/g) ?? [];
    // The one that stands for an operand: a secret that need not be typed.
    known.push("PACKETFS_JOIN");
    expect(named.filter((name) => !known.includes(name))).toEqual([]);
  });

  test("names only scripts that there are, and so do its neighbours", () => {
    for (const document of DOCUMENTS) {
      const scripts = [...read(document).matchAll(/\bnpm run ([a-z-]+)/g)].map(([, name]) => name!);
      expect(scripts.filter((name) => !(name in packageJson.scripts))).toEqual([]);
    }
  });

  test("says truly how short the examples are", () => {
    const [, most] = /examples\/.*?all under (\d+) lines/s.exec(readme) ?? [];
    expect(Number(most)).toBeGreaterThan(0);
    const long = readdirSync(join(ROOT, "examples"))
      .filter((name) => name.endsWith(".ts"))
      .filter((name) => read(`examples/${name}`).split("\n").length - 1 >= Number(most));
    expect(long).toEqual([]);
  });

  test("and CONTRIBUTING.md has a reason for every dependency", () => {
    const contributing = read("CONTRIBUTING.md");
    expect(Object.keys(packageJson.dependencies).filter((name) => !contributing.includes(name))).toEqual([]);
  });
});

describe("ERRORS.md", () => {
  const sections = new Map(
    read("ERRORS.md")
      .split(/^### /m)
      .slice(1)
      .map((section) => {
        const [code = "", ...lines] = section.split(/^## /m)[0]!.split("\n");
        return [code, lines.join(" ")];
      }),
  );
  const faults = new Map(Object.values(FaultCode).map((fault) => [faultErrorCode(fault), fault]));

  test("gives every code the exit status that the command line gives it", () => {
    const said = [...sections].map(([code, text]) => [code, Number(/\bExit\s+(\d+)\./.exec(text)?.[1])]);
    expect(Object.fromEntries(said)).toEqual(EXIT_CODES);
  });

  test("gives the codes of faults, and no others, the number that packets carry", () => {
    const said = [...sections].flatMap(([code, text]) => {
      const number = /\bFAULT\s+(\d+)\./.exec(text)?.[1];
      return number === undefined ? [] : [[code, Number(number)] as const];
    });
    expect(Object.fromEntries(said)).toEqual(Object.fromEntries(faults));
  });

  test("says of every code what data it has", () => {
    const silent = [...sections].filter(([, text]) => !/\b(Data: |No data\.)/.test(text));
    expect(silent.map(([code]) => code)).toEqual([]);
  });
});

test("nothing names a path of somebody's machine", () => {
  const FOLDERS = ["work", "root", "home", "Users", "tmp", "mnt"];
  const path = new RegExp(String.raw`(?<![\w.~*-])(?:/(?:${FOLDERS.join("|")})|[A-Z]:\\Users)[/\\\s"'\`]`);
  const others = readdirSync(join(ROOT, "test/vectors")).map((name) => `test/vectors/${name}`);
  const files = [...ROOT_FILES, ...others, "packets/SPEC.md", "examples/tsconfig.json"]
    .filter((name) => name !== "package-lock.json")
    .map((name) => ({ path: name, text: read(name) }));
  const sources = [...LAYERS, "test", "examples"].flatMap(sourcesIn);
  const found = [...files, ...sources].flatMap(({ path: name, text }) =>
    text
      .split("\n")
      .filter((line) => path.test(line))
      .map((line) => `${name}: ${line.trim()}`),
  );
  expect(found).toEqual([]);
  for (const folder of FOLDERS) expect(path.test(`it is in /${folder}/somewhere`)).toBe(true);
});
