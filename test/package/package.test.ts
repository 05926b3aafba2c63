/** What a stranger gets: the package is made, installed in an empty project and used there, as npm and Node do it. */
import { execFile } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { builtText } from "../../runtime/built.ts";
import { ROOT } from "../source-tree.ts";

/** It computes for half a minute on two idle cores; nothing is decided by this, but that it hangs. */
const DEMO_HANGING_MS = 1_200_000;
const PACKED_BYTES_MAX = 1_750_000;
/** What may run a script when it is installed: two have a binary for most systems, and build one for the others; webgpu need not. */
const INSTALL_SCRIPTS = ["isolated-vm", "webgpu", "zeromq"];
const directory = mkdtempSync(join(tmpdir(), "pfs-package-"));
const project = join(directory, "project");
const store = join(directory, "store");

interface Packed {
  readonly filename: string;
  readonly size: number;
  readonly files: readonly { readonly path: string }[];
}
interface LockedPackage {
  readonly name?: string;
  readonly hasInstallScript?: boolean;
}
let packed: Packed;
let tarball: string;

/** This Node comes first, as in a checkout; of npm's settings only those of the user stay, not those of this project. */
function environment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) =>
      !name.startsWith("npm_") || /^npm_config_(cache|registry|userconfig|globalconfig)$/.test(name),
  );
  const path = [dirname(process.execPath), process.env["PATH"]].join(delimiter);
  return {
    ...Object.fromEntries(kept),
    PATH: path,
    PACKETFS_STORE: store,
    XDG_CACHE_HOME: directory,
    CI: "1",
  };
}

interface Said {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function run(command: string, words: readonly string[], cwd: string = project): Promise<Said> {
  const options = { cwd, env: environment(), maxBuffer: 16 * 1024 * 1024 };
  try {
    return { status: 0, ...(await promisify(execFile)(command, words, options)) };
  } catch (error) {
    const { code, stdout, stderr } = error as { code?: unknown; stdout?: string; stderr?: string };
    if (typeof code !== "number") throw error;
    return { status: code, stdout: stdout ?? "", stderr: stderr ?? "" };
  }
}

/** What it prints; it must succeed. */
async function printed(command: string, words: readonly string[], cwd?: string): Promise<string> {
  const { status, stdout, stderr } = await run(command, words, cwd);
  if (status !== 0) throw new Error(`${words.join(" ")} ended with ${status}: ${stderr}`);
  return stdout;
}

beforeAll(async () => {
  mkdirSync(project);
  writeFileSync(join(project, "package.json"), '{ "name": "project", "version": "1.0.0" }\n');
  const said = await printed("npm", ["pack", "--json", "--pack-destination", directory], ROOT);
  // The script that builds may have written before it.
  const [first] = JSON.parse(said.slice(said.indexOf("[\n"))) as Packed[];
  packed = first!;
  tarball = join(directory, packed.filename);
  await printed("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund", tarball]);
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe("what is packed", () => {
  test("is what runs, its types, and examples: no sources, no tests", () => {
    const paths = packed.files.map(({ path }) => path);
    expect(paths.filter((path) => /^(test|runtime|node_modules|\.)/.test(path))).toEqual([]);
    expect(paths.filter((path) => /\.[cm]?ts$/.test(path) && !/\.d\.ts$|^examples\//.test(path))).toEqual([]);
    expect(packed.size).toBeLessThan(PACKED_BYTES_MAX);
  });

  test("has every file that its README.md leads to", () => {
    const readme = readFileSync(join(project, "node_modules/packetfs/README.md"), "utf8");
    const targets = [...readme.matchAll(/\]\((?![a-z]+:)([^)#]+)\)/g)].map(([, target]) => target!);
    expect(targets.length).toBeGreaterThan(5);
    const missing = targets.filter((target) => !packed.files.some(({ path }) => path.startsWith(target)));
    expect(missing).toEqual([]);
  });

  test("says nothing that holds for a checkout only", () => {
    const text = readFileSync(join(project, "node_modules/packetfs/package.json"), "utf8");
    const manifest = JSON.parse(text) as Record<string, Record<string, string>>;
    expect(manifest["private"]).toBeUndefined();
    expect(text).not.toMatch(/"(file|link|workspace):/);
    const installed = { ...manifest["dependencies"], ...manifest["optionalDependencies"] };
    expect(Object.keys(installed).filter((name) => /^(node-.*|gl|gpu\.js|esbuild)$/.test(name))).toEqual([]);
  });

  test("is in order for publint, and its types for attw, as a package of ES modules", async () => {
    const bytes = readFileSync(tarball);
    const { messages, pkg } = await publint({
      pack: { tarball: new Uint8Array(bytes).buffer },
      strict: true,
    });
    expect(messages.map((message) => formatMessage(message, pkg))).toEqual([]);
    const result = await checkPackage(createPackageFromTarballData(new Uint8Array(bytes)));
    // The profile "esm-only": Node 10 is nobody's Node here, and CommonJS requires the ES modules, see below.
    const others = (result.types === false ? [] : result.problems).filter(
      (problem) =>
        !("resolutionKind" in problem && ["node10", "node16-cjs"].includes(problem.resolutionKind)),
    );
    expect({ types: result.types, others }).toEqual({ types: { kind: "included" }, others: [] });
  });
});

test("answers of programs are of the same edition as a checkout's", async () => {
  writeFileSync(
    join(project, "edition.mjs"),
    "const { openLocal } = await import(process.argv[2]);\n" +
      "await using pfs = await openLocal(process.argv[3]);\n" +
      "console.log(JSON.stringify((await pfs.nodes())[0].editions));\n",
  );
  const editions = async (packetfs: string): Promise<string> =>
    printed(process.execPath, ["edition.mjs", packetfs, join(directory, "edition")]);
  expect(await editions("packetfs")).toBe(await editions(join(ROOT, "sdk/bin/index.mjs")));
  // What programs import is none of the machine's, but runs with them.
  const url = builtText(new URL("../../sdk/program.ts", import.meta.url));
  const installed = join(project, "node_modules/packetfs/dist", basename(url.pathname));
  expect(readFileSync(installed, "utf8")).toBe(readFileSync(url, "utf8"));
});

describe("what is installed with it", () => {
  let locked: [string, LockedPackage][];
  beforeAll(() => {
    const lock = JSON.parse(readFileSync(join(project, "package-lock.json"), "utf8")) as {
      packages: Record<string, LockedPackage>;
    };
    locked = Object.entries(lock.packages).map(([path, entry]) => [
      path.split("node_modules/").at(-1)!,
      entry,
    ]);
  });

  test("has one package for GPUs, which it can do without, and no Node", () => {
    const names = locked.map(([name]) => name);
    expect(names).toContain("isolated-vm");
    expect(names.filter((name) => /^(gl|gpu\.js|node-(linux|win|darwin).*)$/.test(name))).toEqual([]);
    const [, webgpu] = locked.find(([name]) => name === "webgpu")!;
    expect(webgpu).toMatchObject({ version: "0.6.2", optional: true });
  });

  test("runs scripts of three packages only", () => {
    const scripts = locked.filter(([, entry]) => entry.hasInstallScript === true).map(([name]) => name);
    expect(scripts.toSorted()).toEqual(INSTALL_SCRIPTS);
  });
});

describe("the command line", () => {
  test("stores, computes and fetches", async () => {
    writeFileSync(join(project, "text.txt"), "one\ntwo\nthree\n");
    cpSync(join(project, "node_modules/packetfs/examples/word-count.ts"), join(project, "word-count.ts"));
    await printed("npx", ["pfs", "put", "text.txt"]);
    expect(await printed("npx", ["pfs", "get", "text.txt", "-o", "-"])).toBe("one\ntwo\nthree\n");
    const counts = await printed("npx", ["pfs", "run", "word-count.ts", "text.txt", "--json"]);
    expect(counts).toContain('"three"');
    expect(await printed("npx", ["pfs", "doctor"])).toContain("esbuild ");
  });

  test("computes behind the same walls where its dependencies are links, as some package managers have them", async () => {
    const linked = join(directory, "linked");
    const own = join(linked, "node_modules/packetfs");
    cpSync(join(project, "node_modules/packetfs"), own, { recursive: true });
    for (const name of ["isolated-vm", "zeromq", "@esbuild"])
      symlinkSync(join(project, "node_modules", name), join(linked, "node_modules", name));
    const words = [join(own, "sdk/bin/pfs.mjs"), "--store", join(linked, "store")];
    const [text, program] = ["text.txt", "word-count.ts"].map((name) => join(project, name));
    await printed(process.execPath, [...words, "put", text!, "--name", "text"]);
    expect(await printed(process.execPath, [...words, "run", program!, "text", "--json"])).toContain(
      '"three"',
    );
    const standing = async (command: string, before: readonly string[]): Promise<string | undefined> =>
      /\d+ of \d+ stand.*/.exec(await printed(command, [...before, "doctor"]))?.[0];
    expect(await standing(process.execPath, words)).toBe(await standing("npx", ["pfs"]));
  });

  test("checks the types of a program with the project's compiler, against the declarations", async () => {
    const folder = join(project, "node_modules");
    cpSync(join(ROOT, "node_modules/typescript"), join(folder, "typescript"), { recursive: true });
    cpSync(join(ROOT, "node_modules/@typescript"), join(folder, "@typescript"), { recursive: true });
    const program = 'import { defineProgram, lines } from "packetfs";\n';
    writeFileSync(
      join(project, "wrong.ts"),
      `${program}export default defineProgram({ input: lines(), map: (line) => line.lenght });\n`,
    );
    const { status, stderr } = await run("npx", ["pfs", "run", "wrong.ts", "text.txt"]);
    expect({ status: status === 0, stderr }).toEqual({
      status: false,
      stderr: expect.stringContaining("wrong.ts:2:") as unknown,
    });
    expect(stderr).toContain("lenght");
  });

  test(
    "gives its demo",
    async () => {
      const said = await printed("npx", ["pfs", "demo"]);
      for (const line of said.split("\n")) expect(line.length, line).toBeLessThanOrEqual(80);
      expect(said).not.toContain("✗");
      expect(said.match(/✓/g)).toHaveLength(7);
    },
    DEMO_HANGING_MS,
  );
});

describe("the module", () => {
  test("works in a program of the project's own, TypeScript or JavaScript, ES module or not", async () => {
    cpSync(join(project, "node_modules/packetfs/examples"), join(project, "examples"), { recursive: true });
    const example = ["examples/use-from-typescript.ts", join(directory, "other")];
    expect(await printed(process.execPath, example)).toContain("[ 'dog', 200000 ]");
    writeFileSync(join(project, "use.cjs"), 'console.log(typeof require("packetfs").openLocal);\n');
    expect(await printed(process.execPath, ["use.cjs"])).toBe("function\n");
  });

  test("has types that lead to its own, to those of Node, and to no others", () => {
    const installed = join(project, "node_modules/packetfs");
    const foreign = packed.files
      .filter(({ path }) => path.endsWith(".d.ts"))
      .flatMap(({ path }) => [
        ...readFileSync(join(installed, path), "utf8").matchAll(/(?:^import .* from |import\()"([^"]+)"/gm),
      ])
      .map(([, specifier]) => specifier!)
      .filter((specifier) => specifier !== "packetfs" && !/^(\.|node:)/.test(specifier));
    expect(foreign).toEqual([]);
  });

  test("has types that a strict project takes, which looks into them too", async () => {
    writeFileSync(join(project, "typed.ts"), TYPED);
    writeFileSync(join(project, "typed.cts"), TYPED);
    const compilerOptions = {
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      target: "es2024",
      lib: ["es2024", "esnext.disposable"],
      types: [],
      noEmit: true,
      skipLibCheck: false,
    };
    const modules = [
      { module: "nodenext", files: ["typed.ts", "typed.cts"] },
      { module: "preserve", moduleResolution: "bundler", files: ["typed.ts"] },
    ];
    for (const { files, ...module } of modules) {
      const config = { compilerOptions: { ...compilerOptions, ...module }, files };
      writeFileSync(join(project, "tsconfig.json"), JSON.stringify(config));
      const compiler = join(ROOT, "node_modules/typescript/bin/tsc");
      expect(await run(process.execPath, [compiler, "-p", "."])).toEqual({
        status: 0,
        stdout: "",
        stderr: "",
      });
    }
  });
});

const TYPED = `
import { defineProgram, hasCode, lines, openLocal, type PacketFS } from "packetfs";
export const longest = defineProgram({
  input: lines(),
  map: (line) => line.length,
  combine: (a: number, b: number) => Math.max(a, b),
});
export async function use(): Promise<number> {
  await using pfs: PacketFS = await openLocal("./store");
  try {
    const { value } = await pfs.run<typeof longest>({ path: "longest.ts" }, ["text.txt"]);
    return value ?? 0;
  } catch (error) {
    if (hasCode(error, "PFS_NOT_FOUND")) return 0;
    throw error;
  }
}
`;

describe("a Node that is too old", () => {
  /** This Node, which says that it is another. */
  const pretence =
    'Object.defineProperty(process, "versions", { value: { ...process.versions, node: "22.1.0" } });' +
    'Object.defineProperty(process, "version", { value: "v22.1.0" });';
  const older = ["--import", `data:text/javascript,${encodeURIComponent(pretence)}`];
  const sentence = /PacketFS needs Node (\d+\.\d+) or later; this is v22\.1\.0/;

  test("is told so in one sentence, by the command line and by the module", async () => {
    const command = await run(process.execPath, [...older, "node_modules/packetfs/sdk/bin/pfs.mjs", "ls"]);
    expect(command.status).toBe(1);
    expect(command.stderr).toMatch(new RegExp(`^pfs: ${sentence.source}\n$`));
    const imports = 'import("packetfs").catch((error) => console.log(error.message))';
    const { stdout } = await run(process.execPath, [...older, "--input-type=module", "--eval", imports]);
    expect(stdout).toMatch(new RegExp(`^${sentence.source}\n$`));
  });

  test("is one that package.json refuses", async () => {
    const { stderr } = await run(process.execPath, [...older, "node_modules/packetfs/sdk/bin/pfs.mjs"]);
    const { engines } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
      engines: { node: string };
    };
    expect(engines.node).toBe(`>=${sentence.exec(stderr)![1]!}`);
  });
});
