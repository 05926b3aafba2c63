/** What is around a program that runs, seen from outside: nothing that it started from, or started slowly, opens a wall. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync, readlinkSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, expect, it } from "vitest";
import { makePlace, PFS } from "../sdk/cli/run-pfs.ts";
import { HAS_PROC, descriptorsOf, executorsOf, signalAll } from "../suites/processes.ts";

/** Longer than a start takes on any machine that works, and short of what is given up. */
const STILL_MS = 20_000;
const LOOP = `export default { input: { kind: "lines" }, yields: "value", map: () => { for (;;); } }`;
/** Ticks of user mode that say that the program runs, and not its start. */
const RUNNING_TICKS = 120;

const children: ChildProcess[] = [];
afterAll(() => children.forEach((child) => child.kill("SIGKILL")));

function read(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "latin1");
  } catch {
    return "";
  }
}

/** Clock ticks of user mode. */
const ticksOf = (pid: number): number => Number(/\) (?:\S+ ){11}(\d+)/.exec(read(pid, "stat"))?.[1] ?? 0);

/** What a process has of its own, and may not have: namespaces, the user, privileges. Undefined when it is gone. */
function wallsOf(pid: number): Record<string, unknown> | undefined {
  const status = read(pid, "status");
  if (status === "") return undefined;
  const namespaces = ["net", "pid", "mnt", "ipc", "user"].map((kind) => {
    const own = readlinkSync(`/proc/self/ns/${kind}`);
    return [kind, readlinkSync(`/proc/${pid}/ns/${kind}`) !== own];
  });
  return {
    ...Object.fromEntries(namespaces),
    root: /^Uid:\s+0\s/m.test(status),
    noNewPrivileges: /^NoNewPrivs:\s+1/m.test(status),
    permission: read(pid, "cmdline").includes("--permission"),
  };
}

interface Start {
  /** For so long the start of the first executor stands still. */
  readonly stillMs?: number;
  /** A command that runs the command that follows it. */
  readonly wrapper?: readonly string[];
}

/** What `look` sees of an executor in which a program runs. */
async function whileRunning<T>(
  cwd: string,
  look: (executor: number) => T,
  { stillMs = 0, wrapper = [] }: Start = {},
): Promise<T> {
  const words = [process.execPath, PFS, "run", "loop.mjs", "text.txt", "--store", "store"];
  const [command, ...rest] = [...wrapper, ...words];
  const child = spawn(command!, rest, { cwd, stdio: "ignore" });
  children.push(child);
  if (stillMs > 0) {
    let starting: number[] = [];
    while (starting.length === 0) {
      await sleep(5);
      starting = executorsOf(child.pid!);
    }
    signalAll(starting, "SIGSTOP");
    await sleep(stillMs);
    signalAll(starting, "SIGCONT");
  }
  let running: number | undefined;
  while (running === undefined) {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
    await sleep(20);
    running = executorsOf(child.pid!).find((pid) => ticksOf(pid) > RUNNING_TICKS);
  }
  const seen = look(running);
  const closed = once(child, "close");
  child.kill("SIGKILL");
  await closed;
  return seen;
}

async function placeWithLoop(): Promise<string> {
  const { cwd, json } = await makePlace();
  await json(["put", "text.txt"]);
  await writeFile(join(cwd, "loop.mjs"), LOOP);
  return cwd;
}

it.runIf(HAS_PROC)(
  "the walls around a program are the same when its executor's start stands still",
  async () => {
    const cwd = await placeWithLoop();
    const usual = await whileRunning(cwd, wallsOf);
    expect(await whileRunning(cwd, wallsOf, { stillMs: STILL_MS })).toEqual(usual);
  },
);

it.runIf(HAS_PROC)("what the shell had open is not open in an executor", async () => {
  const cwd = await placeWithLoop();
  const file = join(cwd, "text.txt");
  // As a shell's descriptor it has a number that Node does not look at.
  const wrapper = ["bash", "-c", 'exec "${@:2}" 199< "$1"', "bash", file];
  const open = await whileRunning(cwd, descriptorsOf, { wrapper });
  expect(open.length).toBeGreaterThan(0);
  expect(open).not.toContain(file);
});
