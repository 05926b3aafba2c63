/**
 * What the imports of a program become in its bundle: the authoring API for "packetfs", a table of data for JSON, a module that the
 * sandbox makes for WebAssembly, and a sentence for what a sandbox has not.
 */
import { readFile } from "node:fs/promises";
import { builtinModules } from "node:module";
import { basename } from "node:path";
import type { Plugin } from "esbuild";
import { messageOf } from "../../packets/errors.ts";
import { builtText } from "../../runtime/built.ts";
import { PROGRAM_LIMITS_MAX, WASM_MEMORY_SHARE, WASM_TABLE_ELEMENTS_MAX } from "../../runtime/limits.ts";
import { rewriteWasm } from "../../runtime/program/wasm/rewriter.ts";

const API = "program.ts";
/** How esbuild names the authoring API among what it has read. */
export const API_INPUT: string = `packetfs:${API}`;
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

/** What programs import as "packetfs". */
export function authoringApi(): URL {
  return builtText(new URL("../program.ts", import.meta.url));
}

/** Marks a resolution that this plugin asked for itself. */
const ASKED = Symbol("asked by the sandbox's own resolution");

/**
 * "packetfs" is the authoring API and nothing else. A package that is called like one of Node's own modules is taken where
 * it is installed; what is not there and is imported is an error that says so, and what is only required is a module that
 * throws it when it is reached: packages guard such a call, or make it in functions that nobody calls here.
 */
export const sandboxImports: Plugin = {
  name: "packetfs-sandbox",
  setup(plugin) {
    plugin.onResolve({ filter: /^packetfs$/ }, () => ({ path: API, namespace: "packetfs" }));
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
