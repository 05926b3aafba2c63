/** CPU time of this process and of those that it started, as far as the system tells. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";

/** Of this process and of what it started that has ended, with all that these started, in seconds. */
export function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6 + endedSeconds();
}

/** Of a process with all that it started, from its start to its end, in seconds. Rejects where it fails. */
export async function cpuSecondsOf(command: string, words: readonly string[]): Promise<number> {
  const before = endedSeconds();
  const child = spawn(command, words, { stdio: ["ignore", "ignore", "inherit"] });
  const [status] = (await once(child, "exit")) as [number | null];
  if (status !== 0) throw new Error(`"${words.join(" ")}" ended with status ${status}`);
  return endedSeconds() - before;
}

/** Of what this process started and that has ended, with all that these started, in seconds. Only Linux tells: elsewhere it is 0. */
export function endedSeconds(): number {
  try {
    const fields = readFileSync("/proc/self/stat", "latin1").split(") ").at(-1)!.split(" ");
    return (Number(fields[13]) + Number(fields[14])) / TICKS_PER_SECOND;
  } catch {
    return 0;
  }
}

/** USER_HZ, the same on every Linux that Node runs on. */
export const TICKS_PER_SECOND = 100;

/** CPU seconds of a process and of all that it started, and memory that they have resident, in bytes, now. Only Linux tells. */
export function treeUse(): { readonly cpuSeconds: number; readonly residentBytes: number } {
  const pids = new Set([process.pid]);
  const { user, system } = process.cpuUsage();
  let seconds = (user + system) / 1e6;
  let pages = 0;
  // Parents mostly have lower numbers than their children, and numbers begin again some time.
  for (let before = 0; before < pids.size;) {
    before = pids.size;
    for (const pid of readdirSync("/proc").map(Number)) {
      const parent = pid > 0 && !pids.has(pid) ? Number(statOf(pid)[1]) : 0;
      if (pids.has(parent)) pids.add(pid);
    }
  }
  for (const pid of pids) {
    const fields = statOf(pid);
    // What this process took itself, the system tells in smaller steps.
    const first = pid === process.pid ? 13 : 11;
    for (const ticks of fields.slice(first, 15)) seconds += Number(ticks) / TICKS_PER_SECOND;
    pages += Number(fields[21] ?? 0);
  }
  return { cpuSeconds: seconds, residentBytes: pages * PAGE_BYTES };
}

/** What the system says of a process, from its state on; nothing where it is gone. */
export function statOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/stat`, "latin1").split(") ").at(-1)!.split(" ");
  } catch {
    return [];
  }
}

const PAGE_BYTES = 4096;
