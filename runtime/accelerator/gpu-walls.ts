/**
 * What a GPU process gives up before it becomes Node. It keeps files and devices, for drivers need many of either, and outputs are
 * written to where only processes of the same user and rights may write; it has no network where that can be taken from it.
 *
 *   unshare: no network ──▶ setpriv: no new privileges, ends with its parent ──▶ prlimit ──▶ node
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { findProgram } from "../find-program.ts";

/** Found out once, by what runs there. */
let standing: Promise<readonly string[]> | undefined;

/** The words before a command that runs behind what this machine has. Never rejects. */
export function wallsHere(): Promise<readonly string[]> {
  standing ??= strongest();
  return standing;
}

async function strongest(): Promise<readonly string[]> {
  const [setpriv, prlimit, unshare] = ["setpriv", "prlimit", "unshare"].map(findProgram);
  if (process.platform !== "linux" || setpriv === undefined || prlimit === undefined) return [];
  // A core file would have what the GPU's driver holds of everybody's inputs.
  const bounded = [setpriv, "--no-new-privs", "--pdeathsig", "SIGKILL", prlimit, "--core=0"];
  const isRoot = process.getuid?.() === 0;
  const alone = isRoot && unshare !== undefined ? [[unshare, "--net", "--ipc", ...bounded]] : [];
  for (const walls of [...alone, bounded]) if (await runs([...walls, prlimit, "--version"])) return walls;
  return [];
}

async function runs([command, ...args]: readonly string[]): Promise<boolean> {
  const child = spawn(command!, args, { cwd: "/", env: {}, stdio: "ignore" });
  try {
    const [code] = (await once(child, "close")) as [number | null];
    return code === 0;
  } catch {
    return false;
  }
}
