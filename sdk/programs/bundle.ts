/**
 * Makes a program one text without imports: its own code and that of what it imports. The same sources give the same
 * bytes on every machine, because a program is named by its hash.
 *
 * The text is the body of a function, which a sandbox calls once per packet, so that nothing in a module outlives a packet:
 * `$exports.default` is where it leaves the program, `$packetfs` has what it makes tables of data with, once for all
 * packets (runtime/sandbox/guest/module.ts). JSON that it imports is such a table, and a WebAssembly module that it imports is
 * made by it too.
 */
import { access, constants, readFile, stat } from "node:fs/promises";
import { builtinModules } from "node:module";
import { basename, dirname, resolve } from "node:path";
import type {
  BuildFailure,
  BuildOptions,
  BuildResult,
  Loader,
  Message,
  Metafile,
  OutputFile,
  Plugin,
} from "esbuild";
import packageJson from "../../package.json" with { type: "json" };
import { messageOf } from "../../packets/errors.ts";
import { builtText } from "../../runtime/built.ts";
import { formatBytes } from "../../runtime/format.ts";
import {
  PROGRAM_ARGS_BYTES_MAX,
  PROGRAM_ARGS_DEPTH_MAX,
  PROGRAM_CODE_BYTES_MAX,
  PROGRAM_LIMITS_MAX,
  PROGRAM_SOURCE_BYTES_MAX,
  WASM_MEMORY_SHARE,
  WASM_TABLE_ELEMENTS_MAX,
} from "../../runtime/limits.ts";
import { jsonDepth } from "../../runtime/program/manifest.ts";
import { rewriteWasm } from "../../runtime/program/wasm/rewriter.ts";
import { fileError, SdkError, SdkErrorCode, UsageError } from "../errors.ts";
import type { ProgramBundle, ModuleSource } from "../packetfs.ts";
import { hashOf, readResult, rememberResult } from "./result-cache.ts";

const SOURCE_NAME = "program.ts";
const OUTPUT_NAME = "program.js";
/** How esbuild names the authoring API among what it has read. */
const OWN_INPUT = `packetfs:${SOURCE_NAME}`;
/** Bundles that a process remembers, and the code of one. */
const BUNDLES_KEPT_MAX = 64;
const BUNDLE_KEPT_BYTES_MAX: number = 256 * 1024;
/** Where a program given as text lies: nowhere, so that it finds no neighbours on this machine. */
const NOWHERE = resolve("/nowhere");
const WASM_PAGE_BYTES = 65536;
/** Properties of a JSON file that can be imported by their names. */
const JSON_NAMES_MAX = 256;
const BUILTINS = new Set(builtinModules);

/** What a program may not import, and what to tell its author. */
const ABSENT: readonly (readonly [RegExp, string])[] = [
  [/^(fs|path|os)(\/|$)/, "programs have no file system"],
  [/^(net|tls|http|https|http2|dgram|dns)(\/|$)/, "programs have no network"],
  [/^(child_process|cluster|worker_threads)$/, "programs start no processes or threads"],
];

export interface BundleOptions {
  /** A directory in which bundles are remembered; in memory only unless given. */
  readonly cache?: string;
}

/**
 * Bundles a program; a bundle is returned as it is. One that imports nothing but "packetfs" follows from its own text, by which
 * it is remembered. Rejects with PFS_PROGRAM_INVALID {file, line?, column?} when the
 * source is wrong, and with PFS_FILE_NOT_FOUND {path} when it is not there.
 */
export async function bundleProgram(
  source: ModuleSource,
  options: BundleOptions = {},
): Promise<ProgramBundle> {
  if ("code" in source) return source;
  const path = "path" in source ? resolve(source.path) : undefined;
  const name = path === undefined ? SOURCE_NAME : basename(path);
  if (path !== undefined) await checkReadable(path, "path" in source ? source.path : path);
  if ("source" in source && Buffer.byteLength(source.source) > PROGRAM_SOURCE_BYTES_MAX)
    throw invalid(`${name}: ${tooMuchSource()}`, name);
  const own = "source" in source ? Buffer.from(source.source) : await ownText(path!);
  const key = own && (await keyOf(name, own));
  const known = key === undefined ? undefined : await remembered(key, options.cache);
  if (known !== undefined) return known;
  const result = await bundle(source, path, name, own);
  const { exports, imports } = result.metafile.outputs[OUTPUT_NAME]!;
  checkImports(imports, name);
  if (!exports.includes("default")) {
    throw invalid(`${name} has no default export: end it with "export default defineProgram({ … })"`, name);
  }
  const code = asFunctionBody(outputOf(result.outputFiles, OUTPUT_NAME).text);
  if (code.byteLength > PROGRAM_CODE_BYTES_MAX) {
    throw invalid(
      `${name} is larger than ${formatBytes(PROGRAM_CODE_BYTES_MAX)} with its imports: ${STORE_DATA}`,
      name,
    );
  }
  const sourceMap = outputOf(result.outputFiles, `${OUTPUT_NAME}.map`).text;
  const made: ProgramBundle = { name, code, sourceMap };
  const isAlone = Object.keys(result.metafile.inputs).every((input) => input === name || input === OWN_INPUT);
  if (key !== undefined && isAlone) await remember(key, made, options.cache);
  return made;
}

/** What a module of one file is made of, read once, so that what is bundled is what it is remembered by. */
async function ownText(path: string): Promise<Buffer | undefined> {
  if (loaderOf(path) === undefined || (await stat(path)).size > PROGRAM_SOURCE_BYTES_MAX) return undefined;
  return await readFile(path);
}

function loaderOf(path: string): Loader | undefined {
  const [, kind, x = ""] = /\.[cm]?([jt])s(x?)$/.exec(path) ?? [];
  return kind === undefined ? undefined : (`${kind}s${x}` as Loader);
}

/** By the program's text and name, and by what bundles it: this build of PacketFS, and what programs import of it. */
async function keyOf(name: string, text: Uint8Array): Promise<string> {
  const api = authoringApi();
  const by = [packageJson.version, api.href, await readFile(api, "utf8"), name].join("\0");
  return hashOf(Buffer.concat([Buffer.from(`${by}\0`), text]));
}

/** Bundles of this process, the one used least recently first. */
const bundles = new Map<string, ProgramBundle>();

async function remembered(key: string, cache: string | undefined): Promise<ProgramBundle | undefined> {
  const known = bundles.get(key) ?? (cache === undefined ? undefined : await readBundle(cache, key));
  if (known !== undefined) keepInMemory(key, known);
  return known;
}

async function remember(key: string, made: ProgramBundle, cache: string | undefined): Promise<void> {
  keepInMemory(key, made);
  if (cache === undefined) return;
  await rememberResult(cache, key, { ...made, code: Buffer.from(made.code).toString() });
}

function keepInMemory(key: string, made: ProgramBundle): void {
  if (made.code.byteLength > BUNDLE_KEPT_BYTES_MAX) return;
  bundles.delete(key);
  bundles.set(key, made);
  const [oldest = ""] = bundles.keys();
  if (bundles.size > BUNDLES_KEPT_MAX) bundles.delete(oldest);
}

async function readBundle(cache: string, key: string): Promise<ProgramBundle | undefined> {
  const { name, code, sourceMap } = ((await readResult(cache, key)) ?? {}) as Readonly<
    Record<string, unknown>
  >;
  if (typeof name !== "string" || typeof code !== "string" || typeof sourceMap !== "string") return undefined;
  return { name, code: new TextEncoder().encode(code), sourceMap };
}

/** What programs import as "packetfs". */
function authoringApi(): URL {
  return builtText(new URL("../program.ts", import.meta.url));
}

/** Ends the build of one program as soon as it has asked for more source than a program may be made of. */
async function bundle(
  source: ModuleSource,
  path: string | undefined,
  name: string,
  own: Uint8Array | undefined,
): Promise<BuildResult<Options>> {
  let isTooMuch = false;
  const sources = boundedSources(path, own, () => {
    isTooMuch = true;
    // It would read on what it has begun to read.
    void building.cancel();
  });
  const { context } = await import("esbuild");
  const building = await context({ ...buildOptions(source, path), plugins: [sources, sandboxImports] });
  try {
    return await building.rebuild();
  } catch (error) {
    if (isTooMuch) throw invalid(`${name}: ${tooMuchSource()}`, name);
    throw isBuildFailure(error) ? bundleError(error.errors, name) : error;
  } finally {
    await building.dispose();
  }
}

/** What a module exports stands in one clause at its end. */
function asFunctionBody(module: string): Uint8Array {
  const end = module.lastIndexOf("\nexport {") + 1;
  const [, local] = /^\s*(\S+) as default,?$/m.exec(module.slice(end))!;
  return new TextEncoder().encode(`${module.slice(0, end)}$exports.default = ${local};\n`);
}

function outputOf(files: readonly OutputFile[], name: string): OutputFile {
  return files.find((file) => file.path.endsWith(name))!;
}

type Options = BuildOptions & { readonly write: false; readonly metafile: true };

function buildOptions(source: ModuleSource, path: string | undefined): Options {
  return {
    ...(path === undefined
      ? {
          stdin: {
            contents: "source" in source ? source.source : "",
            sourcefile: SOURCE_NAME,
            resolveDir: NOWHERE,
            loader: "ts",
          },
          absWorkingDir: NOWHERE,
        }
      : path.endsWith(".wasm")
        ? {
            stdin: {
              contents: moduleProgram(basename(path)),
              sourcefile: SOURCE_NAME,
              resolveDir: dirname(path),
              loader: "ts",
            },
            absWorkingDir: dirname(path),
          }
        : // Paths in comments and messages are relative to here, so they are the same wherever the program lies.
          { entryPoints: [path], absWorkingDir: dirname(path) }),
    bundle: true,
    write: false,
    metafile: true,
    outfile: OUTPUT_NAME,
    format: "esm",
    platform: "neutral",
    mainFields: ["module", "main"],
    target: "es2024",
    // A function that is called for each packet waits for nothing, and is no module that could have a URL.
    supported: { "top-level-await": false, "import-meta": false },
    charset: "utf8",
    treeShaking: true,
    legalComments: "none",
    sourcemap: "external",
    sourcesContent: false,
    // Many packages ask for it, and there is no process to ask.
    define: { "process.env.NODE_ENV": '"production"' },
    logLevel: "silent",
    // A tsconfig.json that happens to lie above the program must not change what it means.
    tsconfigRaw: {},
  };
}

/** The program that a WebAssembly module is by itself. */
function moduleProgram(file: string): string {
  return `import { wasmProgram } from "packetfs";
import module from ${JSON.stringify(`./${file}`)};
export default wasmProgram(module);`;
}

/** Gives a build the program's own text as it was read. Calls `onTooMuch` when it asks for more source than a program may be made of, and gives it no more. */
function boundedSources(
  own: string | undefined,
  text: Uint8Array | undefined,
  onTooMuch: () => void,
): Plugin {
  let bytes = 0;
  return {
    name: "packetfs-sources",
    setup(plugin) {
      plugin.onLoad({ filter: /.*/, namespace: "file" }, async ({ path }) => {
        // What is no file is esbuild's to complain about.
        const size = await stat(path).then(
          (status) => status.size,
          () => 0,
        );
        bytes += size;
        if (bytes <= PROGRAM_SOURCE_BYTES_MAX) {
          const loader = loaderOf(path);
          return path === own && text !== undefined && loader !== undefined
            ? { contents: text, loader }
            : undefined;
        }
        onTooMuch();
        return { contents: "" };
      });
    },
  };
}

function tooMuchSource(): string {
  return `a program is made of at most ${formatBytes(PROGRAM_SOURCE_BYTES_MAX)} of source with its imports: ${STORE_DATA}`;
}

const STORE_DATA = "store data as a file, and run the program over it";

/** Marks a resolution that this plugin asked for itself. */
const ASKED = Symbol("asked by the sandbox's own resolution");

/**
 * "packetfs" is the authoring API and nothing else. A package that is called like one of Node's own modules is taken where
 * it is installed; what is not there and is imported is an error that says so, and what is only required is a module that
 * throws it when it is reached: packages guard such a call, or make it in functions that nobody calls here.
 */
const sandboxImports: Plugin = {
  name: "packetfs-sandbox",
  setup(plugin) {
    plugin.onResolve({ filter: /^packetfs$/ }, () => ({ path: SOURCE_NAME, namespace: "packetfs" }));
    plugin.onLoad({ filter: /.*/, namespace: "packetfs" }, async () => ({
      contents: await readFile(authoringApi(), "utf8"),
      loader: "js",
    }));
    plugin.onResolve({ filter: /^(node:)?[a-z0-9_]+(\/[a-z0-9_]+)*$/ }, async (args) => {
      const { path, kind, importer, resolveDir, namespace } = args;
      if (args.pluginData === ASKED) return undefined;
      if (!path.startsWith("node:")) {
        if (!BUILTINS.has(path)) return undefined;
        const installed = await plugin.resolve(path, {
          kind,
          importer,
          namespace,
          resolveDir,
          pluginData: ASKED,
        });
        if (installed.errors.length === 0 && !installed.external) return { path: installed.path };
      }
      const text = absence(path);
      if (kind === "require-call" || kind === "require-resolve") return { path, namespace: "absent" };
      return { errors: [{ text }] };
    });
    plugin.onResolve({ filter: /\.json$/ }, async ({ pluginData, path, ...args }) => {
      if (pluginData === ASKED) return undefined;
      const { errors, warnings, ...found } = await plugin.resolve(path, { ...args, pluginData: ASKED });
      if (errors.length > 0) return { errors, warnings };
      return args.kind === "require-call" ? { ...found, suffix: "?required" } : found;
    });
    plugin.onLoad({ filter: /\.json$/, namespace: "file" }, async ({ path, suffix }) => {
      const text = (await readFile(path, "utf8")).replace(/^\uFEFF/, "");
      const contents = jsonModule(text, suffix === "?required");
      return contents === undefined ? { contents: text, loader: "json" } : { contents, loader: "js" };
    });
    plugin.onLoad({ filter: /\.wasm$/, namespace: "file" }, async ({ path }) => {
      const bytes = await readFile(path);
      try {
        readModule(bytes);
      } catch (error) {
        return { errors: [{ text: messageOf(error), detail: basename(path) }] };
      }
      const called = JSON.stringify(basename(path));
      const contents = `export default /* @__PURE__ */ $packetfs.wasm(${called}, "${bytes.toString("base64")}");`;
      return { contents, loader: "js" };
    });
    plugin.onLoad({ filter: /.*/, namespace: "absent" }, ({ path }) => ({
      contents: `throw new Error(${JSON.stringify(absence(path))});`,
      loader: "js",
    }));
  },
};

/** A module that is a table of data; undefined when the text is no JSON, so that esbuild says where. */
function jsonModule(text: string, isRequired: boolean): string | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const table = `/* @__PURE__ */ $packetfs.json(${JSON.stringify(JSON.stringify(value))})`;
  if (isRequired) return `module.exports = ${table};`;
  const names =
    typeof value === "object" && value !== null && !Array.isArray(value) ? Object.keys(value) : [];
  // A large table has no names that anybody would import one by one.
  const named = names.length > JSON_NAMES_MAX ? [] : names.filter((name) => /^[A-Za-z_$][\w$]*$/.test(name));
  return [
    `const data = ${table};`,
    "export default data;",
    ...named
      .filter((name) => name !== "default")
      .flatMap((name, index) => [
        `const name${index} = /* @__PURE__ */ (() => data[${JSON.stringify(name)}])();`,
        `export { name${index} as ${name} };`,
      ]),
  ].join("\n");
}

/** Throws what a sandbox would say of it, but for what follows from the program's own limits. */
function readModule(bytes: Uint8Array): void {
  rewriteWasm(bytes, {
    memoryPagesMax: PROGRAM_LIMITS_MAX.memoryBytes / WASM_MEMORY_SHARE / WASM_PAGE_BYTES,
    tableElementsMax: WASM_TABLE_ELEMENTS_MAX,
  });
}

function absence(path: string): string {
  const builtin = path.replace(/^node:/, "");
  const absent = ABSENT.find(([pattern]) => pattern.test(builtin))?.[1] ?? "programs have no Node.js";
  return `${absent}: "${path}" cannot be imported`;
}

async function checkReadable(path: string, shown: string): Promise<void> {
  try {
    await access(path, constants.R_OK);
    if ((await stat(path)).isFile()) return;
  } catch (error) {
    throw fileError(error, "read", shown);
  }
  throw new SdkError(SdkErrorCode.fileFailed, `cannot read ${shown}: it is not a file`, { path: shown });
}

/** esbuild leaves URLs and a few others outside of the bundle; in the sandbox they lead nowhere. */
function checkImports(imports: Metafile["outputs"][string]["imports"], name: string): void {
  const outside = imports.find((entry) => entry.external === true);
  if (outside !== undefined)
    throw invalid(`${name} imports "${outside.path}", which cannot be bundled`, name);
}

/** Of an error with a detail, that is the file that it is about, which has no lines. */
function bundleError(messages: readonly Message[], name: string): SdkError {
  const [first] = messages;
  if (first === undefined) return invalid(`${name} cannot be bundled`, name);
  const more = messages.length === 1 ? "" : ` (and ${messages.length - 1} more)`;
  const text = explain(first.text);
  if (typeof first.detail === "string") return invalid(`${first.detail}: ${text}${more}`, first.detail);
  if (first.location === null) return invalid(`${name}: ${text}${more}`, name);
  const { file, line, column } = first.location;
  return invalid(`${file}:${line}:${column + 1}: ${text}${more}`, file, { line, column: column + 1 });
}

/** esbuild's sentence, in PacketFS's words where its own would puzzle the author. */
function explain(text: string): string {
  const missing = /^No matching export in "packetfs:[^"]*" for import "([^"]+)"$/.exec(text);
  return missing === null
    ? text
    : `"${missing[1]}" is not part of what a program can import from "packetfs" (defineProgram, the readers, shared, top and wasmProgram)`;
}

function invalid(
  message: string,
  file: string,
  place: { readonly line?: number; readonly column?: number } = {},
): SdkError {
  return new SdkError(SdkErrorCode.programInvalid, message, { file, ...place });
}

function isBuildFailure(error: unknown): error is BuildFailure {
  return error instanceof Error && "errors" in error && Array.isArray(error.errors);
}

/** Throws PFS_USAGE for arguments that JSON does not carry as they are, and for more of them than a program can be given. */
export function checkArgs(args: unknown): void {
  let text: string;
  try {
    text = JSON.stringify(
      args ?? null,
      function (this: Readonly<Record<string, unknown>>, key, value: unknown) {
        const reason = unlikeJson(this[key]);
        if (reason !== undefined)
          throw new TypeError(key === "" ? reason : `its ${JSON.stringify(key)} is ${reason}`);
        return value;
      },
    );
  } catch (error) {
    if (error instanceof RangeError) throw tooDeep();
    throw new UsageError(`args must be a JSON value: ${messageOf(error)}`);
  }
  if (jsonDepth(text) > PROGRAM_ARGS_DEPTH_MAX) throw tooDeep();
  const bytes = Buffer.byteLength(text);
  if (bytes <= PROGRAM_ARGS_BYTES_MAX) return;
  throw new UsageError(
    `args are more than ${formatBytes(PROGRAM_ARGS_BYTES_MAX)} of JSON: store what is large as a file`,
    { bytes, max: PROGRAM_ARGS_BYTES_MAX },
  );
}

function tooDeep(): UsageError {
  return new UsageError(
    `args are nested more than ${PROGRAM_ARGS_DEPTH_MAX} deep: give what has so many levels as a list`,
    { max: PROGRAM_ARGS_DEPTH_MAX },
  );
}

/** What a value is, where JSON would make another one of it. Properties that are undefined are left out, as everywhere. */
function unlikeJson(value: unknown): string | undefined {
  if (typeof value === "number")
    return Number.isFinite(value) && !Object.is(value, -0)
      ? undefined
      : `${Object.is(value, -0) ? "-0" : value}`;
  if (typeof value === "bigint" || typeof value === "function" || typeof value === "symbol")
    return `a ${typeof value}`;
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype ? undefined : "an instance of a class";
}
