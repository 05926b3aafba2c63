/** The project's own source, read as text: what tidy.test.ts holds to the rules. */
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT: string = join(dirname(fileURLToPath(import.meta.url)), "..");

/** In the order of imports: a folder may import itself and those before it. */
export const LAYERS: readonly string[] = ["packets", "runtime", "nodes", "sdk"];

export interface SourceFile {
  /** Relative to the project's root, with forward slashes. */
  readonly path: string;
  readonly text: string;
  /** The text without its comments. */
  readonly code: string;
  /** That without the texts in backquotes, which may hold source of their own: programs, templates, guests. */
  readonly statements: string;
}

/** Every TypeScript and JavaScript file below the folder. */
export function sourcesIn(folder: string): SourceFile[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .map((path) => posix.join(folder, path.replaceAll("\\", "/")))
    .filter((path) => /\.(ts|mts|js|mjs)$/.test(path) && !path.includes("node_modules/"))
    .toSorted()
    .map((path) => sourceFile(path, readFileSync(join(ROOT, path), "utf8")));
}

export function sourceFile(path: string, text: string): SourceFile {
  const code = text.replaceAll(/^\s*\/\*[\s\S]*?\*\//gm, "").replaceAll(/(^|\s)\/\/.*$/gm, "$1");
  return { path, text, code, statements: code.replaceAll(/`[^`]*`/g, "``") };
}

/** What a file imports or exports from, as written: "./x.ts", "node:fs", "valibot". Types too. */
export function importsOf({ statements }: SourceFile): string[] {
  const fixed = statements.matchAll(/^(?:import|export)\b(?:[^;"'`]*?\bfrom)?\s*"([^"]+)"/gm);
  const late = statements.matchAll(/\bimport\(\s*"([^"]+)"\s*\)/g);
  return [...fixed, ...late].map((match) => match[1]!);
}

/** Files that are named by URL, to be run in a thread, a process or a sandbox of their own. */
export function entriesNamedBy({ path, code }: SourceFile): string[] {
  const urls = code.matchAll(/new URL\(\s*["'`](\.{1,2}\/[^"'`$]*)(\$\{)?/g);
  return [...urls].map((match) => resolve(path, match[2] === undefined ? match[1]! : `${match[1]!}.ts`));
}

/** The path, from the root, of what `specifier` names in the file at `from`. */
export function resolve(from: string, specifier: string): string {
  return posix.join(posix.dirname(from), specifier);
}

/** Whether it names a file of the project and not a package. */
export function isRelative(specifier: string): boolean {
  return specifier.startsWith(".");
}

/** The folder of LAYERS that a path stands in, by its number; -1 for another. */
export function layerOf(path: string): number {
  return LAYERS.indexOf(path.slice(0, Math.max(0, path.indexOf("/"))));
}
