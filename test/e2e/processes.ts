/** What the operating system tells of processes, where it has /proc. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export const HAS_PROC: boolean = existsSync("/proc/self/status");

/** Processes below this one, the grandchildren included. */
export function descendantsOf(pid: number): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync("/proc").filter((each) => /^\d+$/.test(each))) {
    const parent = field(Number(name), "PPid");
    if (parent !== undefined) parents.set(Number(name), parent);
  }
  const found = [pid];
  for (const ancestor of found) {
    for (const [child, parent] of parents) if (parent === ancestor) found.push(child);
  }
  return found.slice(1);
}

/** Those of the processes that still run; a zombie runs no more. */
export function runningOf(pids: readonly number[]): number[] {
  return pids.filter((pid) => {
    const text = statusOf(pid);
    return text !== undefined && !/^State:\s+Z/m.test(text);
  });
}

/** Resolves with those that still run when some time has passed in which they should have ended. */
export async function leftOf(pids: readonly number[], milliseconds: number): Promise<number[]> {
  const deadline = Date.now() + milliseconds;
  let left = runningOf(pids);
  while (left.length > 0 && Date.now() < deadline) {
    await sleep(50);
    left = runningOf(left);
  }
  return left;
}

/** The most memory that a running process has had, in bytes; 0 when it is gone. */
export function peakBytesOf(pid: number): number {
  return (field(pid, "VmHWM") ?? 0) * 1024;
}

function field(pid: number, name: string): number | undefined {
  const found = new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(statusOf(pid) ?? "");
  return found === null ? undefined : Number(found[1]);
}

function statusOf(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    return undefined;
  }
}
