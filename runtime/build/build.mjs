/**
 * Makes JavaScript of the sources, as Node runs it: one file for each entry of a process or thread, with all that it
 * imports, packages too, unless they are binaries or have files beside them. Starting from TypeScript costs each process a
 * third of a second for taking its types away; finding, reading and linking modules one by one costs several times what
 * they do. The files are CommonJS: what imports a built-in module pays for all that it exports, what requires it does not.
 *
 * In a checkout they lie in a cache, in a folder that is named by the hash of all that they are made of: whoever starts a
 * process asks for the folder of the sources as they are now (current.mjs), and the first makes it. `npm pack` puts the
 * same files and declarations into dist/.
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
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, posix, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { linesOf, remember } from "./current.mjs";

const SELF = fileURLToPath(import.meta.url);
const ROOT = join(dirname(SELF), "../..");
const OWN = relative(ROOT, SELF).replaceAll("\\", "/");
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
/** The one that carries what runs in isolates. */
const GUEST_ENTRY = "executor-thread";
/** What is published is packed without white space, in lines about as long. */
const LINE_CHARACTERS = 120;
/** Loads what is built, and is part of it as it is. */
const COMPILED = "runtime/build/compiled.cjs";
/** Knows what is built by where it lies itself. */
const LOCATOR = "runtime/built.ts";
/** Packages with binaries, those that look for files of their own beside them, and what Piscina asks for to be nice. */
const EXTERNAL = ["zeromq", "isolated-vm", "esbuild", "webgpu", "@napi-rs/nice"];
/** GPU.js, as isolates get it: by its package, and the file of it, which asks for no others and has a parser with it. */
const GPU_JS = ["gpu.js", "dist/gpu-browser.min.js"];
/** What each thread of Piscina's starts from, which looks for it beside itself by the first name. */
const PISCINA_THREAD = ["worker.js", "piscina-thread"];
/**
 * Node's own modules that cost more to load than most commands do with them, and that few processes use all of: loaded when
 * something of them is first used. What hot loops call is one property away, as it is of a module that is required.
 */
const LATE =
  "assert child_process crypto dgram dns dns/promises fs/promises http https net perf_hooks readline readline/promises sqlite stream stream/promises timers/promises tls tty worker_threads zlib".split(
    " ",
  );
const NAMED_ENTRY = /\bbuiltUrl\(\s*new URL\(\s*"([^"]+\.ts)"/g;
const OWN_URL = 'process.getBuiltinModule("node:url").pathToFileURL(__filename).href';
const MODULE_URL = /\bimport\.meta\.url\b/g;
const PACKAGE = /(?:^|\/)node_modules\/((?:@[^/]+\/)?[^/]+)\//;
/** In declarations, what follows `from` or stands in `import()`. */
const RELATIVE_TYPES = /(?:\bfrom |\bimport\()"(\.{1,2}\/[^"]+\.ts)"/g;
/** Builds that a process was started from lately (current.mjs) stay: it may run on, and start others. */
const BUILDS_MAX = 32;
const UNUSED_MS_MAX = 7 * 24 * 3600 * 1000;

/** The folder of JavaScript that was made of the sources as they are. */
export function findOrBuild() {
  const lines = linesOf(["package.json", OWN, COMPILED, ...sources()]);
  let folder = join(CACHE, sourceHash());
  if (!existsSync(folder)) {
    // In a process of its own, for esbuild's plugins are asynchronous and callers are not.
    const { status, stdout, stderr } = spawnSync(process.execPath, [SELF], { encoding: "utf8" });
    if (status !== 0) throw new Error(`the sources could not be built: ${stderr.trim()}`);
    folder = stdout.trim();
  }
  remember(folder, lines);
  return folder;
}

/** All that a build is made of: the sources, this file, the versions of what it uses, and where they lie. */
function sourceHash() {
  const hash = createHash("sha256");
  for (const path of ["package.json", OWN, COMPILED, ...sources()]) {
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

/** Stands in front of each file: what it requires by from there on, which is Node's own but for late modules. */
async function lateRequire() {
  const late = await Promise.all(LATE.map(async (path) => `"node:${path}": ${await lateModule(path)}`));
  return `require = ((require, late) => {
  const made = {};
  const lateOrNot = (name) => {
    const path = name.startsWith("node:") ? name : "node:" + name;
    return late[path] === undefined ? require(name) : (made[path] ??= late[path]());
  };
  return Object.assign(lateOrNot, require);
})(require, { __proto__: null,\n${late.join(",\n")} });`;
}

/** The text of a function that makes one. What is only called to say no is not loaded for it. */
async function lateModule(path) {
  const names = Object.keys((await import(`node:${path}`)).default);
  const getters = `{ ${names.map((name) => `get ${name}() { return load().${name}; }`).join(", ")} }`;
  const module =
    path === "assert"
      ? `Object.defineProperties((right, ...words) => right || load()(right, ...words), Object.getOwnPropertyDescriptors(${getters}))`
      : getters;
  return `() => { let loaded; const load = () => (loaded ??= process.getBuiltinModule("node:${path}")); return ${module}; }`;
}

/** Piscina's pool becomes part of whoever makes one, and has to find its threads' file by another name. */
const piscinaThread = {
  name: "piscina-thread",
  setup({ onLoad }) {
    const [own, built] = PISCINA_THREAD;
    onLoad({ filter: /[\\/]piscina[\\/]dist[\\/]index\.js$/ }, ({ path }) => {
      const parts = readFileSync(path, "utf8").split(`'${own}'`);
      if (parts.length !== 2) throw new Error(`Piscina no longer looks for ${own} in one place`);
      return { contents: parts.join(`'${built}.cjs'`), loader: "js" };
    });
  },
};

/** The parser of kernels is evaluated when there is one to be parsed: few commands have any. */
const lateParser = {
  name: "late-parser",
  setup({ onLoad }) {
    onLoad({ filter: /[\\/]acorn[\\/]dist[\\/]acorn\.mjs$/ }, () => ({
      contents: 'export const parse = (...given) => require("./acorn.js").parse(...given);',
      loader: "js",
    }));
  },
};

/**
 * Builds into `folder`, which is there. `urlOf` gives the expression that a module at a path of the sources knows itself
 * by: a module must find what lies beside its source, not beside the file that it has become a part of. Resolves with the
 * packages that have become part of it.
 */
async function build(folder, { urlOf, plugins = [], isPackage }) {
  const esbuild = await import("esbuild");
  const ownUrl = {
    name: "own-url",
    setup({ onLoad }) {
      onLoad({ filter: /\.ts$/ }, ({ path }) => {
        const source = readFileSync(path, "utf8");
        const name = relative(ROOT, path).replaceAll("\\", "/");
        const contents = source.replaceAll(MODULE_URL, name === LOCATOR ? OWN_URL : urlOf(name));
        return { contents, loader: "ts" };
      });
    },
  };
  const options = {
    absWorkingDir: ROOT,
    outdir: folder,
    bundle: true,
    platform: "node",
    // The text of functions is carried into isolates: nothing may be added to it, so nothing is rewritten for others.
    target: "esnext",
    minify: false,
    keepNames: false,
    // A text of one byte for each character is half as long to read.
    charset: "ascii",
    legalComments: "none",
    sourcemap: isPackage ? false : "linked",
    sourcesContent: false,
    logLevel: "error",
    plugins: [...plugins, ownUrl],
  };
  const scripts = {
    ...options,
    format: "cjs",
    // What a script of Node's "vm" would have to be told how to do.
    supported: { "dynamic-import": false },
    banner: { js: await lateRequire() },
    outExtension: { ".js": ".cjs" },
    external: EXTERNAL,
    plugins: [piscinaThread, lateParser, ...options.plugins],
    metafile: true,
  };
  const points = [...entries()].map(([out, path]) => ({ in: `./${path}`, out }));
  const [guest, others] = await Promise.all([
    // The text of what runs in isolates can be read there, so that it must be the same everywhere.
    esbuild.build({ ...scripts, entryPoints: points.filter(({ out }) => out === GUEST_ENTRY) }),
    esbuild.build({
      ...scripts,
      entryPoints: [
        ...points.filter(({ out }) => out !== GUEST_ENTRY),
        { in: join(ROOT, "node_modules/piscina/dist", PISCINA_THREAD[0]), out: PISCINA_THREAD[1] },
      ],
      minifyWhitespace: isPackage,
      // Places in it can still be told.
      ...(isPackage ? { lineLimit: LINE_CHARACTERS } : {}),
    }),
    esbuild.build({
      ...options,
      entryPoints: TEXTS.map((path) => ({ in: `./${path}`, out: basename(path, ".ts") })),
      format: "esm",
      charset: "utf8",
      sourcemap: false,
    }),
  ]);
  for (const name of entries().keys()) standBefore(folder, name);
  cpSync(join(ROOT, COMPILED), join(folder, basename(COMPILED)));
  cpSync(join(ROOT, "node_modules", ...GPU_JS), join(folder, basename(GPU_JS[1])));
  writeFileSync(join(folder, "package.json"), `${JSON.stringify({ type: "module" })}\n`);
  const inputs = [guest, others].flatMap(({ metafile }) => Object.keys(metafile.inputs));
  const names = inputs.map((path) => PACKAGE.exec(path)?.[1]);
  return [...new Set([...names, GPU_JS[0]])].filter((name) => name !== undefined).toSorted();
}

/** Whoever asks for what was built is given what V8 has compiled of it, if that was kept. */
function standBefore(folder, name) {
  renameSync(join(folder, `${name}.cjs`), join(folder, `${name}.body.cjs`));
  writeFileSync(join(folder, `${name}.cjs`), `module.exports = require("./compiled.cjs").load("${name}");\n`);
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
      isPackage: false,
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
  const packages = await build(DIST, {
    urlOf: (path) => `new URL(${JSON.stringify(`../${path}`)}, ${OWN_URL}).href`,
    plugins: [takeEsbuildAlong],
    isPackage: true,
  });
  copyEsbuild();
  writeFileSync(join(DIST, "third-party-licenses.txt"), licensesOf(packages));
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

/** What the packages say that have become part of the files. */
function licensesOf(packages) {
  return packages
    .map((name) => {
      const folder = join(ROOT, "node_modules", name);
      const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
      const file = readdirSync(folder).find((each) => /^licen[cs]e(\.|$)/i.test(each));
      if (file === undefined) throw new Error(`${name} has no license beside it`);
      return `${name} ${version}\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
    })
    .join(`\n${"-".repeat(80)}\n\n`);
}

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
