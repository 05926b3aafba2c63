/**
 * Packs this checkout, with Node and what it needs at run time, into one archive that a machine without a registry unpacks and runs:
 *
 *   node test/bench/gpu/pack.mjs FILE.tar.xz
 *
 * Everything is for Linux x64 with glibc. What only checks the sources stays here.
 */
import { execFileSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const NAME = "packetfs-gpu-bench";
const ARCHIVE_BYTES_MAX = 60e6;
/** Dependencies that nothing at run time asks for. */
const CHECKS = new Set([
  "@arethetypeswrong/core",
  "@types/node",
  "csv-parse",
  "fast-check",
  "oxfmt",
  "oxlint",
  "oxlint-tsgolint",
  "publint",
  "typescript",
  "vitest",
]);
/** What is within packages and for other systems, for compilers, or written down twice. */
const LEFT_OUT = [
  /^isolated-vm\/prebuilds\/(?!linux-x64)/,
  /^isolated-vm\/.*(\.tgz|musl\.node)$/,
  /^isolated-vm\/(src|vendor|native-example)(\/|$)/,
  /^zeromq\/build\/linux\/(?!x64)/,
  /^zeromq\/build\/.*\/musl/,
  /^zeromq\/build\/darwin|^zeromq\/build\/win32/,
  /^webgpu\/dist\/(?!linux-x64)/,
  /^gpu\.js\/dist\/(?!.*\.min\.js$)./,
  /\.(map|md|d\.ts|d\.cts|d\.mts)$/,
];

const [file] = process.argv.slice(2);
if (file === undefined || process.platform !== "linux" || process.arch !== "x64") {
  console.error("usage, on Linux x64: node test/bench/gpu/pack.mjs FILE.tar.xz");
  process.exit(2);
}
const folder = mkdtempSync(join(tmpdir(), `${NAME}-`));
try {
  const tree = join(folder, NAME);
  mkdirSync(tree);
  const tracked = execFileSync(
    "git",
    [
      "ls-files",
      "-z",
      "packets",
      "runtime",
      "nodes",
      "sdk",
      "examples",
      "test/bench",
      "package.json",
      "LICENSE",
    ],
    { cwd: ROOT, encoding: "utf8" },
  );
  for (const path of tracked.split("\0").filter((each) => each !== ""))
    copy(join(ROOT, path), join(tree, path));
  for (const name of packages()) copyPackage(name, tree);
  copy(realpathSync(process.execPath), join(tree, "node_modules/.bin/node"));
  const loader = vulkanLoader();
  if (loader !== undefined) copy(loader, join(tree, "lib/libvulkan.so.1"));
  // What is built is found by the sources that it was built of, so that there is nothing to build there.
  const build = 'import("./runtime/build/build.mjs").then(({ findOrBuild }) => findOrBuild())';
  execFileSync(process.execPath, ["-e", build], { cwd: tree, stdio: "inherit" });
  execFileSync("tar", ["-cJf", resolve(file), "-C", folder, NAME], {
    env: { ...process.env, XZ_OPT: "-2 -T0" },
  });
} finally {
  rmSync(folder, { recursive: true, force: true });
}
const { size } = statSync(file);
console.error(`${file}: ${(size / 1e6).toFixed(1)} MB`);
if (size > ARCHIVE_BYTES_MAX) {
  console.error(`that is more than ${ARCHIVE_BYTES_MAX / 1e6} MB`);
  process.exitCode = 1;
}

/** The names of packages that are needed at run time, as they lie in node_modules. */
function packages() {
  const names = new Set();
  const { dependencies = {}, devDependencies = {}, optionalDependencies = {} } = manifest(ROOT);
  const open = Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies }).filter(
    (name) => !CHECKS.has(name),
  );
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    if (names.has(name) || !existsSync(join(ROOT, "node_modules", name))) continue;
    names.add(name);
    const own = manifest(join(ROOT, "node_modules", name));
    open.push(...Object.keys({ ...own.dependencies, ...own.optionalDependencies }));
  }
  return names;
}

function manifest(directory) {
  return JSON.parse(readFileSync(join(directory, "package.json"), "utf8"));
}

function copyPackage(name, tree) {
  const from = realpathSync(join(ROOT, "node_modules", name));
  cpSync(from, join(tree, "node_modules", name), {
    recursive: true,
    filter: (path) =>
      !LEFT_OUT.some((pattern) =>
        pattern.test([name, relative(from, path)].filter((part) => part !== "").join(sep)),
      ),
  });
}

function copy(from, to) {
  mkdirSync(dirname(to), { recursive: true });
  cpSync(from, to, { dereference: true });
}

/** Of this machine: a driver brings its own part of Vulkan, and this one is there only where it was installed. */
function vulkanLoader() {
  const found = ["/usr/lib/x86_64-linux-gnu/libvulkan.so.1", "/usr/lib64/libvulkan.so.1"].find((path) =>
    existsSync(path),
  );
  return found === undefined ? undefined : realpathSync(found);
}
