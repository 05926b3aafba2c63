/** Where the JavaScript is that processes and threads start from. */
import { createRequire } from "node:module";
import { basename } from "node:path";

/** What build/current.mjs exports. It stays in the checkout: what is published is built already. */
interface Build {
  readonly builtFolder: () => string;
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

function builtFolder(): string {
  folder ??= HERE.endsWith(".ts")
    ? (createRequire(HERE)("./build/current.mjs") as Build).builtFolder()
    : new URL("./", HERE).href;
  return folder;
}
