#!/usr/bin/env node
// Plain JavaScript that any Node can parse: runs the CLI here if this Node is new enough, otherwise in the one that a
// checkout brings.
import { builtFile, requireFile, whyTooOld } from "./built.mjs";

const OFTEN = ["put", "get", "cat", "ls", "stat", "rm", "run", "up", "join"];

const tooOld = whyTooOld();
if (tooOld === undefined) runHere(entry());
else (await import("./pinned-node.mjs")).runInPinnedNode(tooOld);

/**
 * What V8 compiles is kept beside the code that it was made of, and nowhere else: who can write there could write the code.
 * Where that is not this user, who runs it compiles it. It is kept as the first process leaves it, and commands use little of
 * each other's code, so that those that people wait for most have what is theirs.
 */
function runHere(path) {
  const { enableCompileCache } = process.getBuiltinModule("node:module");
  const own = OFTEN.includes(process.argv[2]) ? process.argv[2] : "others";
  enableCompileCache(process.getBuiltinModule("node:path").join(path, "../compiled", own));
  requireFile(path);
}

function entry() {
  try {
    return builtFile("cli.cjs");
  } catch (error) {
    // The sources of this checkout are not right, or what builds them is not installed.
    console.error(`pfs: ${error.message}`);
    process.exit(1);
  }
}
