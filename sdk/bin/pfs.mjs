#!/usr/bin/env node
// Plain JavaScript that any Node can parse: runs the CLI here if this Node is new enough, otherwise in the one that a
// checkout brings.
import { builtFile, requireFile, whyTooOld } from "./built.mjs";

/** Commands that people wait for most, and that end: what V8 compiles for each of them is kept for the next. */
const OFTEN = ["put", "get", "sync", "cat", "ls", "stat", "rm", "run"];
/** One in so many of them, by its number, adds what it compiled: the first did not call all that others do. */
const ADDS_EACH = 32;

const tooOld = whyTooOld();
if (tooOld === undefined) runHere(compiled());
else (await import("./pinned-node.mjs")).runInPinnedNode(tooOld);

/** Options may stand before the command; a value of theirs that is called like one costs nothing but time. */
function runHere({ load, keep }) {
  const often = process.argv.slice(2).find((word) => OFTEN.includes(word));
  // What failed is not what others do.
  if (often !== undefined) process.on("exit", (code) => code === 0 && keep(process.pid % ADDS_EACH === 0));
  load("cli", `cli-${often ?? "run"}`);
}

function compiled() {
  try {
    return requireFile(builtFile("compiled.cjs"));
  } catch (error) {
    // The sources of this checkout are not right, or what builds them is not installed.
    console.error(`pfs: ${error.message}`);
    process.exit(1);
  }
}
