// Plain JavaScript that any Node can parse: says whether this one is new enough, and finds what is built of the sources.
// It imports nothing: a built-in module that is imported is loaded with all that it exports.

const MAJOR_LEAST = 24;
const MINOR_LEAST = 15;
const FINDER = new URL("../../runtime/build/current.mjs", import.meta.url);
const DIST = new URL("../../dist/", import.meta.url);

/** A sentence when this Node is too old for PacketFS, otherwise undefined. */
export function whyTooOld() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > MAJOR_LEAST || (major === MAJOR_LEAST && minor >= MINOR_LEAST)) return undefined;
  return `PacketFS needs Node ${MAJOR_LEAST}.${MINOR_LEAST} or later; this is ${process.version}`;
}

/** The path of a built file: published in dist/, in a checkout made when the sources have changed. */
export function builtFile(name) {
  const { existsSync } = process.getBuiltinModule("node:fs");
  const { fileURLToPath } = process.getBuiltinModule("node:url");
  const finder = fileURLToPath(FINDER);
  return fileURLToPath(new URL(name, existsSync(finder) ? requireFile(finder).builtFolder() : DIST));
}

/** What a module exports; unlike import(), this is not waited for. */
export function requireFile(path) {
  return process.getBuiltinModule("node:module").createRequire(import.meta.url)(path);
}
