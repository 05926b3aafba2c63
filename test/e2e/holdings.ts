/** What a daemon holds of its machine: memory, descriptors, processes and files. */
import { readdirSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { JOB_HISTORY_FILE } from "../../runtime/job/job-history.ts";
import type { Daemon } from "./daemon.ts";
import { Inspector } from "./inspector.ts";
import { descendantsOf, descriptorsOf, residentBytesOf } from "../suites/processes.ts";

export interface Holdings {
  readonly pid: number;
  /** Objects and buffers of its threads. */
  readonly heapBytes: number;
  /** Resident, of the daemon's own process: what the allocator keeps of earlier peaks is in it. */
  readonly memoryBytes: number;
  readonly descriptors: Descriptors;
  /** Below it: executors that wait for work. */
  readonly processes: number;
  readonly files: number;
  /** NAME=BYTES of each, for people. */
  readonly names: readonly string[];
  /** Of its store; pages of the index that are free are used again. */
  readonly fileBytes: number;
}

/** Things that a process has open, of each kind so many. */
export type Descriptors = Readonly<Record<string, number>>;

/** The history of jobs and the reserve: their sizes have bounds of their own, and follow what was, not what is. */
const BOUNDED: readonly string[] = [JOB_HISTORY_FILE, "reserve"];
/** What a store may hold more than before, and a process of memory. */
const MORE = 1.05;
/** The heap of a process that still compiles what it runs. */
const MORE_WHILE_COMPILING = 1.2;
const SETTLE_MS = 500;
/** Looks in a row that find the same: then it is at rest. */
const SAME_LOOKS = 6;

/** What it holds once it is at rest, with its garbage collected. */
export async function holdingsOf(daemon: Daemon, store: string): Promise<Holdings> {
  using inspector = await Inspector.of(daemon);
  let last = "";
  let [heapBytes, memoryBytes] = [Infinity, Infinity];
  for (let same = 0; same < SAME_LOOKS;) {
    await sleep(SETTLE_MS);
    heapBytes = Math.min(heapBytes, await inspector.collectGarbage());
    memoryBytes = Math.min(memoryBytes, residentBytesOf(daemon.pid));
    const now = JSON.stringify(counted(daemon, store));
    same = now === last ? same + 1 : 0;
    last = now;
  }
  return { pid: daemon.pid, heapBytes, memoryBytes, ...counted(daemon, store) };
}

function counted(daemon: Daemon, store: string): Omit<Holdings, "pid" | "heapBytes" | "memoryBytes"> {
  const files = readdirSync(store, { recursive: true, withFileTypes: true }).filter(
    (one) => one.isFile() && !BOUNDED.includes(one.name),
  );
  const sizes = files.map(({ parentPath, name }) => statSync(`${parentPath}/${name}`).size);
  return {
    descriptors: descriptorKinds(daemon.pid),
    processes: descendantsOf(daemon.pid).length,
    files: files.length,
    names: files.map(({ name }, index) => `${name}=${sizes[index]}`),
    fileBytes: sizes.reduce((sum, size) => sum + size, 0) - freeBytes(join(store, "index.db")),
  };
}

function freeBytes(index: string): number {
  const database = new DatabaseSync(index, { readOnly: true });
  try {
    const [free, page] = ["freelist_count", "page_size"].map((name) =>
      Number(database.prepare(`pragma ${name}`).get()![name]),
    );
    return free! * page!;
  } finally {
    database.close();
  }
}

/** Numbers and random names say nothing of a kind. Which segments of a store were read last says nothing at all. */
export function descriptorKinds(pid: number): Descriptors {
  const kinds: Record<string, number> = {};
  for (const target of descriptorsOf(pid)) {
    if (target.endsWith(".seg")) continue;
    const kind = target.replace(/(packetfs-input-)\S+/, "$1…").replace(/\d+/g, "…");
    const name = kind.startsWith("/proc/") ? kind : basename(kind);
    kinds[name] = (kinds[name] ?? 0) + 1;
  }
  return kinds;
}

/**
 * It is as it was: what is counted at most as much, and what is measured at most a twentieth more; its resident memory only
 * where the same process has run for long, since what an allocator keeps grows with the peaks until it has seen the largest.
 * `more` is what it may have come to need since.
 */
export function expectBack(
  who: string,
  after: Holdings,
  base: Holdings,
  { hasRunForLong, more = {} }: { readonly hasRunForLong: boolean; readonly more?: Descriptors },
): void {
  const descriptors = { ...base.descriptors };
  for (const [kind, count] of Object.entries(more)) descriptors[kind] = (descriptors[kind] ?? 0) + count;
  expectNoneMore(who, after.descriptors, descriptors);
  const limits = {
    heapBytes: base.heapBytes * (hasRunForLong ? MORE : MORE_WHILE_COMPILING),
    memoryBytes: hasRunForLong && after.pid === base.pid ? base.memoryBytes * MORE : Infinity,
    processes: base.processes,
    files: base.files,
    fileBytes: base.fileBytes * MORE,
  };
  const names = `${base.names.join(", ")} → ${after.names.join(", ")}`;
  for (const key of Object.keys(limits) as (keyof typeof limits)[]) {
    expect
      .soft(after[key], `${key} of ${who}, before ${base[key]}; ${names}`)
      .toBeLessThanOrEqual(limits[key]);
  }
}

/** No more of any kind than before. */
export function expectNoneMore(who: string, after: Descriptors, base: Descriptors): void {
  const more = Object.entries(after).filter(([kind, count]) => count > (base[kind] ?? 0));
  expect.soft(more, `more descriptors of ${who}, before ${JSON.stringify(base)}`).toEqual([]);
}
