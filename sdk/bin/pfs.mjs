#!/usr/bin/env node
// Plain JavaScript that any Node can parse: finds a Node 24 to run the CLI with, this one or the one npm installed.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const NODE_MAJOR = 24;
// isolated-vm needs this flag in the process that loads it; executors inherit the need, not the flag.
const FLAGS = ["--no-node-snapshot", "--disable-warning=ExperimentalWarning"];

function findNode() {
  if (Number(process.versions.node.split(".")[0]) === NODE_MAJOR) return process.execPath;
  const system = process.platform === "win32" ? "win" : process.platform;
  const file = process.platform === "win32" ? "bin/node.exe" : "bin/node";
  try {
    return createRequire(import.meta.url).resolve(`node-${system}-${process.arch}/${file}`);
  } catch {
    console.error(`pfs needs Node ${NODE_MAJOR}; this is ${process.version} and no pinned one is installed.`);
    process.exit(1);
  }
}

const cli = fileURLToPath(new URL("../cli/main.ts", import.meta.url));
const child = spawn(findNode(), [...FLAGS, cli, ...process.argv.slice(2)], { stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("exit", (code, signal) => {
  process.exitCode = code ?? (signal === "SIGINT" ? 130 : signal === "SIGTERM" ? 143 : 1);
});
