/**
 * Makes a program one text without imports: its own code and that of what it imports. The same sources give the same
 * bytes on every machine, because a program is named by its hash.
 *
 * The text is the body of a function, which a sandbox calls once per packet, so that nothing in a module outlives a packet:
 * `$exports.default` is where it leaves the program, `$packetfs` has what it makes tables of data with, once for all
 * packets (runtime/sandbox/guest/module.ts). JSON that it imports is such a table, and a WebAssembly module that it imports is
 * made by it too. WGSL that it imports is text.
 */
import { access, constants, readFile, stat } from "node:fs/promises";
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
import { formatBytes } from "../../runtime/format.ts";
import { PROGRAM_CODE_BYTES_MAX, PROGRAM_SOURCE_BYTES_MAX } from "../../runtime/limits.ts";
import { fileError, SdkError, SdkErrorCode } from "../errors.ts";
import type { ProgramBundle, ModuleSource } from "../packetfs.ts";
import { hashOf, readResult, rememberResult } from "./result-cache.ts";
import { API_INPUT, authoringApi, sandboxImports } from "./sandbox-imports.ts";

const SOURCE_NAME = "program.ts";
const OUTPUT_NAME = "program.js";
/** Bundles that a process remembers, and the code of one. */
const BUNDLES_KEPT_MAX = 64;
const BUNDLE_KEPT_BYTES_MAX: number = 256 * 1024;
/** Where a program given as text lies: nowhere, so that it finds no neighbours on this machine. */
const NOWHERE = resolve("/nowhere");

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
  const isAlone = Object.keys(result.metafile.inputs).every((input) => input === name || input === API_INPUT);
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
    // Sources of kernels.
    loader: { ".wgsl": "text" },
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
    : `"${missing[1]}" is not part of what a program can import from "packetfs" (defineProgram, defineKernel and its f32, i32 and u32, the readers, shared, top and wasmProgram)`;
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
