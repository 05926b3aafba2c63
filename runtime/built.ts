/** Where the JavaScript is that processes and threads start from. */
import { createRequire } from "node:module";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";

/** What build/current.mjs exports. It stays in the checkout: what is published is built already. */
interface Build {
  readonly builtFolder: () => string;
}

/** What build/compiled.cjs exports, which lies beside what is built. It has one state for each thread. */
export interface CompiledCode {
  readonly load: (name: string, variant?: string) => unknown;
  readonly keep: (more?: boolean) => void;
  readonly read: (variant: string) => Buffer<ArrayBuffer> | undefined;
  readonly write: (variant: string, bytes: Uint8Array) => void;
  readonly isMissing: (variant: string) => boolean;
}

const HERE = import.meta.url;
let folder: string | undefined;

/**
 * The file that was built of an entry's source. In a checkout the first call builds what has not been built since the
 * sources changed, and throws an Error when they are not right. build/build.mjs reads which entries there are from calls
 * of this function, so that they must be as plain as `builtUrl(new URL("./entry.ts", import.meta.url))`.
 */
export function builtUrl(source: URL): URL {
  return new URL(`${basename(source.pathname, ".ts")}.cjs`, builtFolder());
}

/** The same of an entry that is read as text. */
export function builtText(source: URL): URL {
  return new URL(`${basename(source.pathname, ".ts")}.js`, builtFolder());
}

/** GPU.js, one file that asks for nothing, as isolates get it. */
export function builtGpuJs(): URL {
  return new URL("gpu-browser.min.js", builtFolder());
}

/** What V8 has compiled of what is built. */
export function compiledCode(): CompiledCode {
  return createRequire(HERE)(fileURLToPath(new URL("compiled.cjs", builtFolder()))) as CompiledCode;
}

function builtFolder(): string {
  folder ??= HERE.endsWith(".ts")
    ? (createRequire(HERE)("./build/current.mjs") as Build).builtFolder()
    : new URL("./", HERE).href;
  return folder;
}
