#!/usr/bin/env node
// Plain JavaScript that any Node can parse: runs the CLI here if this is a Node 24, otherwise in the one npm installed.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { constants } from "node:os";
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

/**
 * The command runs as a child that ends when this process ends, however that is: it sees the channel close. Signals go
 * through the channel, for a terminal sends its Ctrl-C to both, and the child must not take it for two.
 */
function runWith(node) {
  const child = spawn(node, [fileURLToPath(cli), ...process.argv.slice(2)], {
    stdio: ["inherit", "inherit", "inherit", "ipc"],
    env: { ...process.env, PACKETFS_LAUNCHED: "1" },
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    // The child may be about to end by itself: then there is nobody to tell.
    process.on(signal, () => child.connected && child.send({ signal }, () => undefined));
  }
  child.on("error", (error) => {
    console.error(`pfs cannot start ${node}: ${error.message}`);
    process.exit(1);
  });
  child.on("exit", (code, signal) => {
    process.exitCode = code ?? 128 + constants.signals[signal];
  });
}
