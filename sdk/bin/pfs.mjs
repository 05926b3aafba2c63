#!/usr/bin/env node
// Plain JavaScript that any Node can parse: runs the CLI here if this is a Node 24, otherwise in the one npm installed.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const MAJOR = 24;
const MINOR_LEAST = 15;

const cli = new URL("../cli/main.ts", import.meta.url);
const [major, minor] = process.versions.node.split(".").map(Number);

await rememberCompiledCode();
if (major === MAJOR && minor >= MINOR_LEAST) await import(cli.href);
else runWith(pinnedNode());

/**
 * Makes starts after the first three times as fast, and those of worker threads: they go by the variable. The cache is
 * the user's own, for nobody else may write code into it.
 */
async function rememberCompiledCode() {
  try {
    const { default: envPaths } = await import("env-paths");
    process.env.NODE_COMPILE_CACHE ??= join(envPaths("packetfs", { suffix: "" }).cache, "code");
    const { enableCompileCache } = await import("node:module");
    enableCompileCache?.();
  } catch {
    // Without it everything works, only later.
  }
}

function pinnedNode() {
  const system = process.platform === "win32" ? "win" : process.platform;
  const file = process.platform === "win32" ? "bin/node.exe" : "bin/node";
  try {
    return createRequire(import.meta.url).resolve(`node-${system}-${process.arch}/${file}`);
  } catch {
    console.error(
      `pfs needs Node ${MAJOR}.${MINOR_LEAST} or a later ${MAJOR}; this is ${process.version} and none is installed with it.`,
    );
    process.exit(1);
  }
}

function runWith(node) {
  const child = spawn(node, [fileURLToPath(cli), ...process.argv.slice(2)], { stdio: "inherit" });
  // The terminal sends Ctrl-C to both; the CLI takes the two that it then gets for one.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.on("error", (error) => {
    console.error(`pfs cannot start ${node}: ${error.message}`);
    process.exit(1);
  });
  child.on("exit", (code, signal) => {
    process.exitCode = code ?? (signal === "SIGINT" ? 130 : signal === "SIGTERM" ? 143 : 1);
  });
}
