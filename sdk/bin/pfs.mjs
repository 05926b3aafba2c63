#!/usr/bin/env node
// Plain JavaScript that any Node can parse: runs the CLI here if this Node is new enough, otherwise in the one that a
// checkout brings.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";
import { builtFile, whyTooOld } from "./built.mjs";

const tooOld = whyTooOld();
if (tooOld === undefined) await import(entry().href);
else runWith(pinnedNode());

function entry() {
  try {
    return builtFile("cli.js");
  } catch (error) {
    // The sources of this checkout are not right, or what builds them is not installed.
    console.error(`pfs: ${error.message}`);
    process.exit(1);
  }
}

function pinnedNode() {
  const system = process.platform === "win32" ? "win" : process.platform;
  const file = process.platform === "win32" ? "bin/node.exe" : "bin/node";
  try {
    return createRequire(import.meta.url).resolve(`node-${system}-${process.arch}/${file}`);
  } catch {
    console.error(`pfs: ${tooOld}`);
    process.exit(1);
  }
}

/**
 * The command runs as a child that ends when this process ends, however that is: it sees the channel close. Signals go
 * through the channel, for a terminal sends its Ctrl-C to both, and the child must not take it for two.
 */
function runWith(node) {
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
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
