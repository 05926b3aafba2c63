/** What a daemon holds of its machine: memory, descriptors, processes and files. */
import { readdirSync, statSync } from "node:fs";
import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { JOB_HISTORY_FILE } from "../../runtime/job/job-history.ts";
import type { Daemon } from "./daemon.ts";
import { Inspector } from "./inspector.ts";
import { descendantsOf, descriptorsOf, residentBytesOf } from "./processes.ts";

export interface Holdings {
  /** Resident, of the daemon's own process. */
  readonly memoryBytes: number;
  /** Kinds of things that it has open, each as often as it has one. Which of its segments it read last says nothing. */
  readonly descriptors: readonly string[];
  /** Below it: executors that wait for work. */
  readonly processes: number;
  /** Of its store. */
  readonly files: number;
  readonly fileBytes: number;
}

/** The history of jobs and the reserve: their sizes have bounds of their own, and follow what was, not what is. */
const BOUNDED: readonly string[] = [JOB_HISTORY_FILE, "reserve"];
/** What a store may hold more than before, and a process of memory. */
const MORE = 1.05;
const SETTLE_MS = 500;
/** Looks in a row that find the same: then it is at rest. */
const SAME_LOOKS = 6;

/** What it holds once it is at rest, with its garbage collected. */
export async function holdingsOf(daemon: Daemon, store: string): Promise<Holdings> {
  using inspector = await Inspector.of(daemon);
  let last = "";
  let memoryBytes = Infinity;
  for (let same = 0; same < SAME_LOOKS;) {
    await sleep(SETTLE_MS);
    await inspector.collectGarbage();
    memoryBytes = Math.min(memoryBytes, residentBytesOf(daemon.pid));
    const now = JSON.stringify(counted(daemon, store));
    same = now === last ? same + 1 : 0;
    last = now;
  }
  return { memoryBytes, ...counted(daemon, store) };
}

function counted(daemon: Daemon, store: string): Omit<Holdings, "memoryBytes"> {
  const files = readdirSync(store, { recursive: true, withFileTypes: true }).filter(
    (one) => one.isFile() && !BOUNDED.includes(one.name),
  );
  const sizes = files.map(({ parentPath, name }) => statSync(`${parentPath}/${name}`).size);
  return {
    descriptors: descriptorKinds(daemon.pid),
    processes: descendantsOf(daemon.pid).length,
    files: files.length,
    fileBytes: sizes.reduce((sum, size) => sum + size, 0),
  };
}

/** What a process has open but the segments of a store, the numbers and random names taken out. */
export function descriptorKinds(pid: number): string[] {
  return descriptorsOf(pid)
    .filter((target) => !target.endsWith(".seg"))
    .map((target) => target.replace(/(packetfs-input-)\S+/, "$1…").replace(/\d+/g, "…"))
    .map((target) => (target.startsWith("/proc/") ? target : basename(target)))
    .toSorted();
}

/** It is as it was: what is counted at most as much, and what is measured at most a twentieth more. */
export function expectBack(who: string, after: Holdings, base: Holdings): void {
  expectNoneMore(who, after.descriptors, base.descriptors);
  const limits = {
    memoryBytes: base.memoryBytes * MORE,
    processes: base.processes,
    files: base.files,
    fileBytes: base.fileBytes * MORE,
  };
  for (const key of Object.keys(limits) as (keyof typeof limits)[]) {
    expect.soft(after[key], `${key} of ${who}, before ${base[key]}`).toBeLessThanOrEqual(limits[key]);
  }
}

export function expectNoneMore(who: string, after: readonly string[], base: readonly string[]): void {
  const more = [...after];
  for (const kind of base) {
    const index = more.indexOf(kind);
    if (index !== -1) more.splice(index, 1);
  }
  expect.soft(more, `more descriptors of ${who}`).toEqual([]);
}
