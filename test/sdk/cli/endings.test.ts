/** How commands end early: when nobody reads any more, when a signal says so, and when who started them is gone. */
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { catches, descendantsOf, goneAll, HAS_PROC } from "../../suites/processes.ts";
import { threadTimes } from "../../suites/cpu-time.ts";
import { makePlace, PFS, serve } from "./run-pfs.ts";
import type { Place } from "./run-pfs.ts";
import { runSync } from "../../suites/run-sync.ts";

/** Makes the launcher think that it is no Node 24, so that it starts the pinned one. */
const OLD_NODE = `data:text/javascript,${encodeURIComponent(
  'Object.defineProperty(process, "versions", { value: { ...process.versions, node: "20.11.0" } });',
)}`;
const LAUNCHERS = [
  ["in the process that was started", []],
  ["in the pinned Node", ["--import", OLD_NODE]],
] as const;

async function makeFifo({ cwd }: Place): Promise<string> {
  const path = join(cwd, "fifo");
  expect(runSync("mkfifo", [path]).status).toBe(0);
  return path;
}

describe.concurrent("ends", () => {
  it("quietly when nobody reads what it writes", async () => {
    const { run } = await makePlace();
    await run(["put", "-", "--name", "big"], { input: Buffer.alloc(8 << 20, "x\n") });
    for (const words of [
      ["cat", "big"],
      ["get", "big", "-o", "-"],
    ]) {
      const { status, err } = await run(words, {
        whileRunning: (child) => child.stdout?.once("data", () => child.stdout?.destroy()),
      });
      expect({ words, status, err }).toEqual({ words, status: 0, err: "" });
    }
  });

  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("with its own status on %s, and leaves nothing half done", async (signal, status) => {
    const { cwd, run } = await makePlace();
    const store = join(cwd, "store");
    // Input that never ends: the signal is sent when the command has opened the store to put it there.
    const interrupted = await run(["put", "-", "--name", "endless"], {
      whileRunning: (child) => {
        child.stdin?.write("some bytes\n");
        const poll = setInterval(() => {
          if (!existsSync(store)) return;
          clearInterval(poll);
          child.kill(signal);
        }, 20);
      },
      keepsInputOpen: true,
    });
    expect(interrupted).toMatchObject({ status, out: "", err: "pfs: cancelled\n" });
    expect((await run(["ls"])).out).not.toContain("endless");
    expect((await run(["verify"])).status).toBe(0);
  });
});

describe.runIf(HAS_PROC).each(LAUNCHERS)("a command %s", (_, execArgv) => {
  it.each([
    ["put", "SIGINT", 130],
    ["put", "SIGTERM", 143],
    ["get", "SIGTERM", 143],
  ] as const)("that %ss a pipe which nobody else opens ends on %s", async (word, signal, status) => {
    const place = await makePlace();
    await place.json(["put", "text.txt"]);
    const fifo = await makeFifo(place);
    const words = word === "put" ? ["put", fifo] : ["get", "text.txt", "-o", fifo];
    const finished = await place.run(words, {
      execArgv,
      whileRunning: (child) => {
        void (async () => {
          while (child.exitCode === null && !(await isIdle(child.pid!))) await sleep(100);
          child.kill(signal);
        })();
      },
    });
    expect(finished).toMatchObject({ status, out: "", err: "pfs: cancelled\n" });
  });

  it("works without stdin, stdout or stderr, and ends with the right status", async () => {
    const { cwd, json } = await makePlace();
    await json(["put", "text.txt"]);
    const env = { PATH: process.env["PATH"], HOME: cwd, PACKETFS_STORE: join(cwd, "store") };
    for (const closed of ["<&-", ">&-", "2>&-"]) {
      for (const [words, status] of [
        ["put text.txt", 0],
        ["stat nope", 3],
      ] as const) {
        const script = `exec "$@" ${words} ${closed}`;
        const shell = runSync("/bin/sh", ["-c", script, "sh", process.execPath, ...execArgv, PFS], {
          cwd,
          env,
        });
        expect([closed, words, shell.status]).toEqual([closed, words, status]);
      }
    }
  });
});

/** Whether the process listens for signals, and seems to wait for something together with those below it. */
async function isIdle(pid: number): Promise<boolean> {
  if (!catches(pid, constants.signals.SIGTERM)) return false;
  // Of all threads: what opens a pipe is none that runs JavaScript.
  const processorTimes = (): string =>
    JSON.stringify([pid, ...descendantsOf(pid)].map((each) => [...threadTimes(each)]));
  const before = processorTimes();
  await sleep(400);
  return before === processorTimes();
}

it.runIf(HAS_PROC)("a hub does not outlive a launcher that is killed", async () => {
  const { cwd } = await makePlace();
  const words = ["up", "--listen", "127.0.0.1:0", "--workers", "0", "--store", "hub", "--json"];
  const launcher = await serve(words, cwd, ["--import", OLD_NODE]);
  const hub = descendantsOf(launcher.pid);
  expect(hub.length).toBeGreaterThan(0);
  await launcher.stop("SIGKILL");
  await goneAll(hub);
});
