/** How commands end early: when nobody reads any more, and when a signal says so. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { makePlace } from "./run-pfs.ts";

describe.concurrent("ends", () => {
  it("quietly when nobody reads what it writes", async () => {
    const { run } = await makePlace();
    await run(["put", "-", "--name", "big"], { input: Buffer.alloc(8 << 20, "x\n") });
    const { status, err } = await run(["cat", "big"], {
      whileRunning: (child) => child.stdout?.once("data", () => child.stdout?.destroy()),
    });
    expect({ status, err }).toEqual({ status: 0, err: "" });
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
