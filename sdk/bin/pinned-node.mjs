// Plain JavaScript that any Node from 14 on can run: the way from a Node that is too old to the one that a checkout brings.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";

const PFS = fileURLToPath(new URL("pfs.mjs", import.meta.url));

/** Runs the CLI with the words that this process was given. `tooOld` is what to say where there is no pinned Node. */
export function runInPinnedNode(tooOld) {
  const system = process.platform === "win32" ? "win" : process.platform;
  const file = process.platform === "win32" ? "bin/node.exe" : "bin/node";
  let node;
  try {
    node = createRequire(import.meta.url).resolve(`node-${system}-${process.arch}/${file}`);
  } catch {
    console.error(`pfs: ${tooOld}`);
    process.exit(1);
  }
  runWith(node);
}

/**
 * The command runs as a child that ends when this process ends, however that is: it sees the channel close. Signals go
 * through the channel, for a terminal sends its Ctrl-C to both, and the child must not take it for two.
 */
function runWith(node) {
  const child = spawn(node, [PFS, ...process.argv.slice(2)], {
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
