/**
 * Starts a worker thread from TypeScript source. Left to itself such a thread instantiates Node's type stripper, which is
 * WebAssembly: that costs 60 ms, and V8 aborts the process once in some thousand threads when one that has it ends while
 * others run (nodejs/node#64500). So this thread strips the types, and the new one is handed JavaScript.
 */
import { readFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { Worker } from "node:worker_threads";
import type { WorkerOptions } from "node:worker_threads";

/** By URL, what the modules that a thread consists of are without their types. */
const stripped: Map<string, string> = new Map();

const RELATIVE_IMPORT = /\b(?:from|import)\s*"(\.[^"]+\.ts)"/g;

/** CommonJS, evaluated in the new thread: it loads the entry as if that had been named to Node itself. */
const START = `
const { registerHooks, syncBuiltinESMExports } = require("node:module");
const threads = require("node:worker_threads");
const { sources, entry, data } = threads.workerData;
registerHooks({
  load: (url, context, next) =>
    sources.has(url) ? { format: "module", source: sources.get(url), shortCircuit: true } : next(url, context),
});
threads.workerData = data;
syncBuiltinESMExports();
import(entry);
`;

/** As `new Worker(url, options)`. */
export function startThread(url: URL, options: WorkerOptions): Worker {
  if (!url.pathname.endsWith(".ts")) return new Worker(url, options);
  const sources = modulesOf(url.href);
  return new Worker(START, {
    ...options,
    eval: true,
    workerData: { sources, entry: url.href, data: options.workerData as unknown },
  });
}

/** The module and all of ours that it imports. One that is missed is stripped by the thread itself. */
function modulesOf(entry: string): Map<string, string> {
  const modules: Map<string, string> = new Map();
  const waiting = [entry];
  for (let url = waiting.pop(); url !== undefined; url = waiting.pop()) {
    if (modules.has(url)) continue;
    const source = stripped.get(url) ?? strip(url);
    stripped.set(url, source);
    modules.set(url, source);
    for (const [, specifier] of source.matchAll(RELATIVE_IMPORT)) waiting.push(new URL(specifier!, url).href);
  }
  return modules;
}

function strip(url: string): string {
  const emitWarning: unknown = Reflect.get(process, "emitWarning");
  try {
    // Node says of this function that it is experimental, though it does the same for every module of ours without a word.
    process.emitWarning = () => {};
    return stripTypeScriptTypes(readFileSync(new URL(url), "utf8"));
  } finally {
    Reflect.set(process, "emitWarning", emitWarning);
  }
}
