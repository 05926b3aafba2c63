/**
 * Checks the types of a program before it runs: a misspelt property would otherwise be `undefined`, and the answer null.
 * The compiler is the `typescript` that is installed beside PacketFS: the user's project's, or that of a checkout. Never
 * one that lies beside the program, which need not be trusted.
 */
import { spawn } from "node:child_process";
import { readFile, rm, stat, writeFile } from "node:fs/promises";
import { existsSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { makeTemporaryDirectory } from "../../runtime/temporary-directory.ts";
import { SdkError, SdkErrorCode } from "../errors.ts";
import type { ProgramBundle } from "../packetfs.ts";
import { cacheDirectory, hashOf, readResult, rememberResult } from "./result-cache.ts";

/** Why a program's types were not looked at, for people; undefined when they were, and are right. */
export type SkippedBecause = string | undefined;

export interface TypeCheckOptions {
  /** Where results are remembered; the user's cache by default. */
  readonly cache?: string;
  readonly signal?: AbortSignal;
}

/** A compiler that works longer than this on types, which may be as hostile as any code, is ended. */
const CHECK_MS_MAX = 120_000;
const OUTPUT_BYTES_MAX: number = 8 * 1024 * 1024;
const PROBLEMS_SHOWN_MAX = 10;
/** TypeScript 5.4 brought `module: "preserve"`. */
const OLDEST_COMPILER: readonly [major: number, minor: number] = [5, 4];

/** What an isolate has beside the language. */
const GLOBALS = `interface Console {
  log(...values: unknown[]): void; info(...values: unknown[]): void; debug(...values: unknown[]): void;
  warn(...values: unknown[]): void; error(...values: unknown[]): void;
}
declare var console: Console;
interface TextDecoder {
  readonly encoding: string; readonly fatal: boolean; readonly ignoreBOM: boolean;
  decode(source?: ArrayBuffer | ArrayBufferView, options?: { stream?: boolean }): string;
}
declare var TextDecoder: { new (label?: string, options?: { fatal?: boolean; ignoreBOM?: boolean }): TextDecoder };
interface TextEncoder {
  readonly encoding: string;
  encode(text?: string): Uint8Array<ArrayBuffer>;
  encodeInto(text: string, target: Uint8Array): { read: number; written: number };
}
declare var TextEncoder: { new (): TextEncoder };
declare var process: { readonly env: { readonly NODE_ENV: "production" } };
declare module "*.wasm" {
  const module: import("packetfs").WasmModule;
  export default module;
}
declare module "*.wgsl" {
  const source: string;
  export default source;
}
`;

const COMPILER_OPTIONS = {
  noEmit: true,
  strict: true,
  // What a package without types exports is any; a program may use it all the same.
  noImplicitAny: false,
  target: "es2024",
  lib: ["es2024", "esnext.disposable"],
  module: "preserve",
  moduleResolution: "bundler",
  moduleDetection: "force",
  allowImportingTsExtensions: true,
  resolveJsonModule: true,
  skipLibCheck: true,
  types: [],
};

/** What "packetfs" is made of: the authoring API leads the compiler through it. */
const OWN_FOLDERS: readonly string[] = ["packets", "runtime", "nodes", "sdk"].map((folder) =>
  fileURLToPath(new URL(`../../${folder}/`, import.meta.url)),
);

interface Compiler {
  /** The script that Node runs. */
  readonly path: string;
  readonly version: string;
}

interface Problem {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly text: string;
}

/** A file that the compiler read, as it was then. */
interface ReadFile {
  readonly path: string;
  readonly bytes: number;
  readonly changedMs: number;
  readonly hash: string;
}

interface CheckResult {
  readonly files: readonly ReadFile[];
  readonly problems: readonly Problem[];
}

/**
 * Checks the TypeScript program at `path`, of which `bundle` was made. Resolves with the reason when there is nothing to
 * check it with. Rejects with PFS_PROGRAM_INVALID {file, line, column} when its types are wrong. The result is
 * remembered by the program's hash, together with what else the compiler read.
 */
export async function checkTypes(
  path: string,
  bundle: ProgramBundle,
  options: TypeCheckOptions = {},
): Promise<SkippedBecause> {
  if (!/\.[cm]?tsx?$/.test(path)) return undefined;
  const compiler = await findCompiler();
  if (typeof compiler === "string") return compiler;
  const program = realpathSync(resolve(path));
  const cache = options.cache ?? cacheDirectory("type-checks");
  const made = [compiler.version, JSON.stringify(COMPILER_OPTIONS), GLOBALS, program, hashOf(bundle.code)];
  const key = hashOf(Buffer.from(made.join("\0")));
  let result = await remembered(cache, key);
  if (result === undefined) {
    const checked = await compile(compiler, program, options.signal);
    if (typeof checked === "string") return checked;
    result = checked;
    await rememberResult(cache, key, result);
  }
  if (result.problems.length > 0) throw wrongTypes(result.problems);
  return undefined;
}

async function findCompiler(): Promise<Compiler | string> {
  const missing = 'there is no TypeScript beside PacketFS ("npm install typescript" brings one)';
  try {
    // What the package exports is a long list, which nothing here is on.
    const places = createRequire(import.meta.url).resolve.paths("typescript") ?? [];
    const manifest = places.map((folder) => join(folder, "typescript/package.json")).find(existsSync);
    if (manifest === undefined) return missing;
    const { version, bin } = JSON.parse(await readFile(manifest, "utf8")) as {
      readonly version: string;
      readonly bin: { readonly tsc: string };
    };
    const [major = 0, minor = 0] = version.split(".").map(Number);
    const [oldestMajor, oldestMinor] = OLDEST_COMPILER;
    if (major < oldestMajor || (major === oldestMajor && minor < oldestMinor)) {
      return `TypeScript ${version} is older than ${OLDEST_COMPILER.join(".")}`;
    }
    return { path: join(dirname(manifest), bin.tsc), version };
  } catch {
    return missing;
  }
}

async function compile(
  compiler: Compiler,
  program: string,
  signal?: AbortSignal,
): Promise<CheckResult | string> {
  const directory = realpathSync(await makeTemporaryDirectory("types"));
  try {
    const globals = join(directory, "globals.d.ts");
    const config = join(directory, "tsconfig.json");
    const compilerOptions = { ...COMPILER_OPTIONS, paths: { packetfs: [authoringApi()] } };
    await writeFile(globals, GLOBALS);
    await writeFile(config, JSON.stringify({ compilerOptions, files: [program, globals] }));
    const output = await run(compiler, config, dirname(program), signal);
    if (typeof output === "string") return output;
    return await resultOf(output.lines, program, directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** What programs import as "packetfs": its source in a checkout, its declarations where it is installed. */
function authoringApi(): string {
  const source = fileURLToPath(new URL("../program.ts", import.meta.url));
  if (existsSync(source)) return source;
  return fileURLToPath(new URL("../dist/sdk/program.d.ts", import.meta.url));
}

/** The compiler's lines, or why there are none. */
async function run(
  compiler: Compiler,
  config: string,
  cwd: string,
  signal?: AbortSignal,
): Promise<{ readonly lines: readonly string[] } | string> {
  const words = [compiler.path, "--project", config, "--listFiles", "--pretty", "false"];
  const child = spawn(process.execPath, words, {
    cwd,
    stdio: ["ignore", "pipe", "ignore"],
    timeout: CHECK_MS_MAX,
    killSignal: "SIGKILL",
    ...(signal === undefined ? {} : { signal }),
  });
  const parts: Buffer[] = [];
  let bytes = 0;
  child.stdout.on("data", (part: Buffer) => {
    bytes += part.byteLength;
    if (bytes <= OUTPUT_BYTES_MAX) parts.push(part);
    else child.kill("SIGKILL");
  });
  const ended = await new Promise<NodeJS.Signals | Error | null>((done) => {
    child.on("error", done);
    child.on("close", (_code, killedBy) => done(killedBy));
  });
  signal?.throwIfAborted();
  if (ended instanceof Error) return `the compiler did not start: ${ended.message}`;
  if (ended !== null) return "the compiler did not come to an end";
  return { lines: Buffer.concat(parts).toString().split(/\r?\n/) };
}

async function resultOf(
  lines: readonly string[],
  program: string,
  directory: string,
): Promise<CheckResult | string> {
  const own = dirname(program);
  const problems: Problem[] = [];
  const paths: string[] = [];
  let isOurs = false;
  for (const line of lines) {
    const [, at, row, column, text] = /^(.+)\((\d+),(\d+)\): error TS\d+: (.*)$/.exec(line) ?? [];
    if (at !== undefined) {
      const path = resolve(own, at);
      // What others have written, its author cannot mend.
      isOurs = !isForeign(path, directory);
      if (!isOurs) continue;
      problems.push({ file: relative(own, path), line: Number(row), column: Number(column), text: text! });
    } else if (/^ +\S/.test(line)) {
      // Why it is one, said deeper and deeper below it.
      const problem = isOurs ? problems.pop() : undefined;
      if (problem !== undefined) problems.push({ ...problem, text: `${problem.text}\n${line}` });
    } else if (line.startsWith("error TS")) {
      return `the compiler says "${line}"`;
    } else if (line.startsWith(sep) || /^[A-Za-z]:[\\/]/.test(line)) {
      if (!line.startsWith(directory) && !isCompilersOwn(line)) paths.push(line);
    }
  }
  if (!paths.some((path) => resolve(path) === program)) return "the compiler did not read the program";
  const told = problems.map((problem) => ({ ...problem, text: sentenceOf(problem.text) }));
  return { files: await Promise.all(paths.map(describeFile)), problems: told };
}

/**
 * What is wrong, in front of how the compiler came to it: of overloads it tells the last, which defineProgram has for
 * that, and whose types are sentences.
 */
function sentenceOf(text: string): string {
  const [first, second, ...reasons] = text.split("\n");
  if (
    first !== "No overload matches this call." ||
    second !== "  The last overload gave the following error."
  )
    return text;
  // That the program is no program says nothing: what it lacks does.
  if (reasons.length > 1 && reasons[0]!.startsWith("    Argument of type ")) reasons.shift();
  const sentence = /is not assignable to type '"([^"]* [^"]*)" & /.exec(reasons[0] ?? "")?.[1];
  if (sentence !== undefined) return sentence;
  const indent = /^ */.exec(reasons[0] ?? "")![0].length;
  const rest = reasons.map((line) => line.slice(indent)).join("\n");
  return rest.replaceAll(/in type 'AnyProgram<[^']*'/g, "in a program");
}

function isForeign(path: string, directory: string): boolean {
  if (path.startsWith(directory) || path.includes(`${sep}node_modules${sep}`)) return true;
  return OWN_FOLDERS.some((folder) => path.startsWith(folder));
}

/** The declarations of the language itself change with the compiler's version only. */
function isCompilersOwn(path: string): boolean {
  return /[\\/]lib\.[a-z0-9.]+\.d\.ts$/.test(path);
}

async function describeFile(path: string): Promise<ReadFile> {
  const { size, mtimeMs } = await stat(path);
  return { path, bytes: size, changedMs: mtimeMs, hash: hashOf(await readFile(path)) };
}

async function isUnchanged(file: ReadFile): Promise<boolean> {
  const { size, mtimeMs } = await stat(file.path);
  if (size !== file.bytes) return false;
  return mtimeMs === file.changedMs || hashOf(await readFile(file.path)) === file.hash;
}

/** The result, if what it was made of is still the same. */
async function remembered(cache: string, key: string): Promise<CheckResult | undefined> {
  try {
    const result = (await readResult(cache, key)) as CheckResult;
    const unchanged = await Promise.all(result.files.map(isUnchanged));
    return unchanged.every(Boolean) ? result : undefined;
  } catch {
    // Not there, or a file of it is gone: it is checked again.
    return undefined;
  }
}

function wrongTypes(problems: readonly Problem[]): SdkError {
  const lines = problems.map(({ file, line, column, text }) => `${file}:${line}:${column}: ${text}`);
  const more = lines.length - PROBLEMS_SHOWN_MAX;
  const shown = [...lines.slice(0, PROBLEMS_SHOWN_MAX), ...(more > 0 ? [`and ${more} more`] : [])];
  const { file, line, column } = problems[0]!;
  return new SdkError(SdkErrorCode.programInvalid, shown.join("\n"), { file, line, column });
}
