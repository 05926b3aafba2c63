/**
 * What was built of a checkout's sources, found without reading them: as long as the system says of every file what it said
 * when they were last read, they are the same; a new one is of no use before another imports it. Each process starts with
 * this, so it loads nothing else.
 */
const { existsSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } =
  process.getBuiltinModule("node:fs");
const { createRequire } = process.getBuiltinModule("node:module");
const { fileURLToPath, pathToFileURL } = process.getBuiltinModule("node:url");

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const STAMP = fileURLToPath(new URL("../../node_modules/.cache/packetfs.stamp", import.meta.url));
/** Whatever changed so lately may change again without the system's clock telling the two apart. */
const SETTLED_MS = 2000;
/** A folder's own time says when somebody has used it last, give or take this. */
const TOUCHED_EACH_MS = 3600 * 1000;

/** @type {string | undefined} */
let current;

/** The folder, as a URL, of JavaScript that was made of the sources as they are. Builds it, if it must be. */
export function builtFolder() {
  if (current === undefined) {
    const folder = remembered() ?? createRequire(import.meta.url)("./build.mjs").findOrBuild();
    keep(folder);
    current = pathToFileURL(`${folder}/`).href;
  }
  return current;
}

/** Builds remove what nobody has used for long. */
function keep(folder) {
  const now = Date.now();
  try {
    if (now - statSync(folder).mtimeMs > TOUCHED_EACH_MS) utimesSync(folder, now / 1000, now / 1000);
  } catch {
    // Somebody else's, who may write there: it is theirs to keep.
  }
}

function remembered() {
  try {
    const [root, folder, ...lines] = readFileSync(STAMP, "utf8").split("\n");
    const isSame = lines.every((line) => lineOf(line.slice(0, line.indexOf("\t"))) === line);
    return root === ROOT && isSame && existsSync(folder) ? folder : undefined;
  } catch {
    // There is none, or a source has gone since.
    return undefined;
  }
}

/** What the system says of each path, which are relative to the root; `remember` takes it. */
export function linesOf(paths) {
  return paths.map(lineOf);
}

function lineOf(path) {
  const { mtimeMs, ctimeMs, size } = statSync(ROOT + path);
  return `${path}\t${mtimeMs}\t${ctimeMs}\t${size}`;
}

/** Remembers that `folder` was built of what `linesOf` said before it was read. */
export function remember(folder, lines) {
  const part = `${STAMP}.${process.pid}`;
  try {
    const latest = Date.now() - SETTLED_MS;
    if (
      lines.some((line) =>
        line
          .split("\t", 3)
          .slice(1)
          .some((time) => Number(time) > latest),
      )
    )
      return;
    writeFileSync(part, [ROOT, folder, ...lines].join("\n"));
    renameSync(part, STAMP);
  } catch {
    // A checkout that may only be read: its sources are read each time.
    rmSync(part, { force: true });
  }
}
