/** CPU time of this process and of those that it started, as far as the system tells. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";

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

/** Only Linux tells: elsewhere it is 0. */
function endedSeconds(): number {
  try {
    const fields = readFileSync("/proc/self/stat", "latin1").split(") ").at(-1)!.split(" ");
    return (Number(fields[13]) + Number(fields[14])) / TICKS_PER_SECOND;
  } catch {
    return 0;
  }
}

/** USER_HZ, the same on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;
