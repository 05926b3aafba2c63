/**
 * Makes JavaScript of the sources, as Node runs it: a file for each entry of a process or thread, and chunks that they
 * share. Starting from TypeScript costs each process a third of a second for taking its types away.
 *
 * In a checkout the files lie in a cache, in a folder that is named by the hash of all that they are made of: whoever
 * starts a process asks for the folder of the sources as they are now, and the first makes it. `npm pack` puts the same
 * files and declarations into dist/.
 *
 *   node runtime/build/build.mjs                     fills the cache, if it must be, and prints the folder
 *   node runtime/build/build.mjs --package           fills dist/
 *
 * Plain JavaScript, because what takes types away must not need it.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, posix, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const SELF = fileURLToPath(import.meta.url);
const ROOT = join(dirname(SELF), "../..");
const CACHE = join(ROOT, "node_modules/.cache/packetfs");
const DIST = join(ROOT, "dist");
const LAYERS = ["packets", "runtime", "nodes", "sdk"];
/** By the name of what is built, the source of entries that nothing in the sources names by URL. */
const ENTRIES = { cli: "sdk/cli/main.ts", index: "sdk/index.ts" };
const AUTHORING_API = "sdk/program.ts";
/**
 * Entries that are read as text, so that each is one file, and the same bytes in a checkout and where it is installed: what
 * becomes part of programs, and what runs around them, which names the edition of their answers.
 */
const TEXTS = [AUTHORING_API, "runtime/sandbox/guest/source.ts"];
/** Knows what is built by where it lies itself. */
const LOCATOR = "runtime/built.ts";
const NAMED_ENTRY = /\bbuiltUrl\(\s*new URL\(\s*"([^"]+\.ts)"/g;
const MODULE_URL = /\bimport\.meta\.url\b/g;
/** In declarations, what follows `from` or stands in `import()`. */
const RELATIVE_TYPES = /(?:\bfrom |\bimport\()"(\.{1,2}\/[^"]+\.ts)"/g;
/** Builds that a process was started from lately stay: it may run on, and start others. */
const BUILDS_MAX = 32;
const UNUSED_MS_MAX = 7 * 24 * 3600 * 1000;
const TOUCHED_EACH_MS = 3600 * 1000;

/** @type {string | undefined} */
let current;

/** The folder, as a URL, of JavaScript that was made of the sources as they are. */
export function builtFolder() {
  current ??= findOrBuild();
  return current;
}

function findOrBuild() {
  let folder = join(CACHE, sourceHash());
  if (!existsSync(folder)) {
    // In a process of its own, for esbuild's plugins are asynchronous and callers are not.
    const { status, stdout, stderr } = spawnSync(process.execPath, [SELF], { encoding: "utf8" });
    if (status !== 0) throw new Error(`the sources could not be built: ${stderr.trim()}`);
    folder = stdout.trim();
  }
  keep(folder);
  return pathToFileURL(`${folder}/`).href;
}

function keep(folder) {
  const now = Date.now();
  try {
    if (now - statSync(folder).mtimeMs > TOUCHED_EACH_MS) utimesSync(folder, now / 1000, now / 1000);
  } catch {
    // Somebody else's, who may write there: it is theirs to keep.
  }
}

/** All that a build is made of: the sources, this file, the versions of what it uses, and where they lie. */
function sourceHash() {
  const hash = createHash("sha256");
  for (const path of ["package.json", relative(ROOT, SELF), ...sources()]) {
    hash
      .update(`${path}\0`)
      .update(readFileSync(join(ROOT, path)))
      .update("\0");
  }
  return hash.update(ROOT).digest("hex").slice(0, 32);
}

/** Paths from the root, with forward slashes. */
function sources() {
  return LAYERS.flatMap((layer) => sourcesBelow(layer)).toSorted();
}

/** @returns {string[]} */
function sourcesBelow(folder) {
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) return sourcesBelow(path);
    return entry.name.endsWith(".ts") ? [path] : [];
  });
}

/** By the name of what is built, the source of every entry. */
function entries() {
  const found = new Map(Object.entries(ENTRIES));
  for (const path of sources().filter((each) => each !== LOCATOR)) {
    for (const [, url] of readFileSync(join(ROOT, path), "utf8").matchAll(NAMED_ENTRY)) {
      const source = posix.join(posix.dirname(path), url);
      const name = basename(source, ".ts");
      if (TEXTS.includes(source)) continue;
      if ((found.get(name) ?? source) !== source) throw new Error(`two entries are called ${name}`);
      found.set(name, source);
    }
  }
  return found;
}

/**
 * Builds into `folder`, which is there. `urlOf` gives the expression that a module at a path of the sources knows itself
 * by: a module must find what lies beside its source, not beside the file that it has become a part of.
 */
async function build(folder, { urlOf, plugins = [], sourcemap }) {
  const esbuild = await import("esbuild");
  const ownUrl = {
    name: "own-url",
    setup({ onLoad }) {
      onLoad({ filter: /\.ts$/ }, ({ path }) => {
        const source = readFileSync(path, "utf8");
        const name = relative(ROOT, path).replaceAll("\\", "/");
        const contents = name === LOCATOR ? source : source.replaceAll(MODULE_URL, urlOf(name));
        return { contents, loader: "ts" };
      });
    },
  };
  const options = {
    absWorkingDir: ROOT,
    outdir: folder,
    bundle: true,
    format: "esm",
    platform: "node",
    // The text of functions is carried into isolates: nothing may be added to it, so nothing is rewritten for others.
    target: "esnext",
    minify: false,
    keepNames: false,
    packages: "external",
    charset: "utf8",
    legalComments: "none",
    sourcemap,
    sourcesContent: false,
    logLevel: "error",
    plugins: [...plugins, ownUrl],
  };
  await Promise.all([
    esbuild.build({
      ...options,
      entryPoints: [...entries()].map(([out, path]) => ({ in: `./${path}`, out })),
      splitting: true,
    }),
    esbuild.build({
      ...options,
      entryPoints: TEXTS.map((path) => ({ in: `./${path}`, out: basename(path, ".ts") })),
      sourcemap: false,
    }),
  ]);
  writeFileSync(join(folder, "package.json"), `${JSON.stringify({ type: "module" })}\n`);
}

async function fillCache() {
  const hash = sourceHash();
  const folder = join(CACHE, hash);
  if (existsSync(folder)) return folder;
  mkdirSync(CACHE, { recursive: true });
  const part = mkdtempSync(join(CACHE, ".part-"));
  // Executors, which run as somebody else where they can, read it too.
  chmodSync(part, 0o755);
  try {
    await build(part, {
      urlOf: (path) => JSON.stringify(pathToFileURL(join(ROOT, path)).href),
      sourcemap: "linked",
    });
    // Somebody may have been writing the sources: what was built of them goes by no name.
    if (sourceHash() !== hash) return await fillCache();
    renameSync(part, folder);
  } catch (error) {
    // Unless another process has made it meanwhile.
    if (!existsSync(folder)) throw error;
  } finally {
    rmSync(part, { recursive: true, force: true });
  }
  removeUnused();
  return folder;
}

function removeUnused() {
  const used = readdirSync(CACHE).map((name) => {
    const path = join(CACHE, name);
    return { path, at: statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0 };
  });
  used.sort((a, b) => b.at - a.at);
  for (const [index, { path, at }] of used.entries()) {
    if (index >= BUILDS_MAX || Date.now() - at > UNUSED_MS_MAX)
      rmSync(path, { recursive: true, force: true });
  }
}

/** What is published, but for the few files that are published as they are: see "files" in package.json. */
async function fillDist() {
  rmSync(DIST, { recursive: true, force: true });
  mkdirSync(DIST);
  await build(DIST, {
    urlOf: (path) => `new URL(${JSON.stringify(`../${path}`)}, import.meta.url).href`,
    plugins: [takeEsbuildAlong],
    sourcemap: false,
  });
  copyEsbuild();
  declareTypes();
}

/**
 * The package esbuild has an install script, which those who install PacketFS would have to allow. What it brings is one
 * file, which is published along, and a binary, which is a package without scripts for each platform: they are
 * optional dependencies of PacketFS.
 */
const takeEsbuildAlong = {
  name: "esbuild-along",
  setup({ onResolve }) {
    onResolve({ filter: /^esbuild$/ }, () => ({ path: "./esbuild/lib/main.js", external: true }));
  },
};

function copyEsbuild() {
  const from = join(ROOT, "node_modules/esbuild");
  const { name, version, license } = JSON.parse(readFileSync(join(from, "package.json"), "utf8"));
  // It insists on lying in a folder of this name.
  mkdirSync(join(DIST, "esbuild/lib"), { recursive: true });
  cpSync(join(from, "lib/main.js"), join(DIST, "esbuild/lib/main.js"));
  cpSync(join(from, "LICENSE.md"), join(DIST, "esbuild/LICENSE.md"));
  const manifest = { name, version, license, type: "commonjs", main: "lib/main.js" };
  writeFileSync(join(DIST, "esbuild/package.json"), `${JSON.stringify(manifest, undefined, 2)}\n`);
}

/** Writes the declarations of what users and programs import, and of what those are made of. */
function declareTypes() {
  const all = mkdtempSync(join(DIST, ".types-"));
  try {
    const compiler = join(ROOT, "node_modules/typescript/bin/tsc");
    const words = [compiler, "-p", join(ROOT, "tsconfig.package.json"), "--outDir", all];
    const { status, stdout } = spawnSync(process.execPath, words, { encoding: "utf8" });
    if (status !== 0) throw new Error(`no declarations: ${stdout}`);
    const waiting = [ENTRIES.index, AUTHORING_API].map((path) => path.replace(/\.ts$/, ".d.ts"));
    const done = new Set();
    for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
      if (done.has(path)) continue;
      done.add(path);
      const text = readFileSync(join(all, path), "utf8").replaceAll(RELATIVE_TYPES, (found, specifier) => {
        const declared = posix.join(posix.dirname(path), specifier.replace(/\.ts$/, ".d.ts"));
        // A comment may show the import of a file of the reader's own.
        if (!existsSync(join(all, declared))) return found;
        waiting.push(declared);
        return found.replace(/\.ts"$/, '.js"');
      });
      mkdirSync(join(DIST, dirname(path)), { recursive: true });
      writeFileSync(join(DIST, path), text);
    }
  } finally {
    rmSync(all, { recursive: true, force: true });
  }
}

// Without await here, so that the module can be required.
if (basename(process.argv[1] ?? "") === basename(SELF) && realpathSync(process.argv[1]) === SELF) {
  const work = process.argv[2] === "--package" ? fillDist() : fillCache().then(console.log);
  work.catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
