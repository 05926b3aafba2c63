/** What the operating system tells of processes, where it has /proc. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "./until.ts";

export const HAS_PROC: boolean = existsSync("/proc/self/status");

/** Processes below this one, the grandchildren included. */
export function descendantsOf(pid: number): number[] {
  const parents = new Map<number, number>();
  for (const each of allProcesses()) {
    const parent = field(each, "PPid");
    if (parent !== undefined) parents.set(each, parent);
  }
  // Each once: they were not all looked at in the same moment, and a number may be another process's by then.
  const found = new Set([pid]);
  for (const ancestor of found) {
    for (const [child, parent] of parents) if (parent === ancestor) found.add(child);
  }
  found.delete(pid);
  return [...found];
}

/** Processes whose command line has all of these texts, each with its parent. */
export function processesOf(...texts: readonly string[]): Map<number, number> {
  const found = new Map<number, number>();
  for (const pid of allProcesses()) {
    const line = commandLineOf(pid);
    if (!texts.every((text) => line.includes(text))) continue;
    const parent = field(pid, "PPid");
    if (parent !== undefined) found.set(pid, parent);
  }
  return found;
}

/** Executor processes below this one, and what encloses them. */
export function executorsOf(pid: number): number[] {
  return descendantsOf(pid).filter((each) => commandLineOf(each).includes("executor-main"));
}

/** GPU processes below this one, those that only compile left out. */
export function gpuProcessesOf(pid: number): number[] {
  return descendantsOf(pid).filter((each) => /gpu-main.*"computes":true/.test(commandLineOf(each)));
}

function allProcesses(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function commandLineOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1");
  } catch {
    return "";
  }
}

/** Those of the processes that still run; a zombie runs no more. */
export function runningOf(pids: readonly number[]): number[] {
  return pids.filter((pid) => {
    const text = statusOf(pid);
    return text !== undefined && !/^State:\s+Z/m.test(text);
  });
}

/** Whether the process has said what it does on the signal, a number. */
export function catches(pid: number, signal: number): boolean {
  const caught = /^SigCgt:\s+([0-9a-f]+)/m.exec(statusOf(pid) ?? "")?.[1] ?? "0";
  return (BigInt(`0x${caught}`) & (1n << BigInt(signal - 1))) !== 0n;
}

/** Sends a signal to those of the processes that are there still; one may end with another. Returns how many got it. */
export function signalAll(pids: readonly number[], signal: NodeJS.Signals): number {
  let sent = 0;
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
      sent++;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
  return sent;
}

/** Resolves when none of the processes runs any more. */
export async function goneAll(pids: readonly number[]): Promise<void> {
  await until(() => runningOf(pids).length === 0);
}

/** Resolves when a process below this one has used so much more of a processor than it had when it was first seen. */
export async function burning(pid: number, milliseconds: number): Promise<void> {
  const first = new Map<number, number>();
  while (runningOf([pid]).length > 0) {
    for (const child of descendantsOf(pid)) {
      const used = processorMillisecondsOf(child);
      if (!first.has(child)) first.set(child, used);
      if (used - first.get(child)! >= milliseconds) return;
    }
    await sleep(50);
  }
}

/** Of a child that ends, or has ended: others may hear of it earlier than this process does. */
export async function signalThatEnded(child: ChildProcess): Promise<NodeJS.Signals | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  return child.signalCode;
}

/** What the process has had of processors; 0 when it is gone. */
export function processorMillisecondsOf(pid: number): number {
  try {
    const MILLISECONDS_PER_TICK = 10;
    // Behind the name, which may have spaces, utime and stime are the 12th and the 13th.
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ");
    return (Number(fields[11]) + Number(fields[12])) * MILLISECONDS_PER_TICK;
  } catch {
    return 0;
  }
}

/** The most memory that a running process has had as the program that it is, in bytes; 0 when it is gone. getrusage() would count what it was forked from. */
export function peakBytesOf(pid: number): number {
  return (field(pid, "VmHWM") ?? 0) * 1024;
}

/** The memory of a running process that is not elsewhere, in bytes; 0 when it is gone. */
export function residentBytesOf(pid: number): number {
  return (field(pid, "VmRSS") ?? 0) * 1024;
}

/** What each open descriptor of a running process leads to. */
export function descriptorsOf(pid: number): string[] {
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).flatMap((descriptor) => {
    try {
      return [readlinkSync(`${folder}/${descriptor}`)];
    } catch {
      // It was closed meanwhile.
      return [];
    }
  });
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
