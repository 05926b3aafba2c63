/** Ctrl-C and SIGTERM end everything that was begun: with their own status, stores that are sound, and no process left. */
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { connect } from "../../sdk/index.ts";
import { makePlace, temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import type { Place } from "../sdk/cli/run-pfs.ts";
import { joinNode, startHub } from "./daemon.ts";
import { noise } from "./inputs.ts";
import { burning, descendantsOf, goneAll, HAS_PROC } from "../suites/processes.ts";

/** Logs that it has begun, and does not end by itself for a long time. */
const ENDLESS = `import { defineProgram, lines } from "packetfs";
  export default defineProgram({
    input: lines(),
    limits: { timeMs: 120_000 },
    map: (line) => { console.log("begun"); for (;;); },
    combine: (a: number, b: number) => a + b,
  });`;
/** Of a processor, by which one sees that the endless program runs: what starts it uses far less. */
const BEGUN_MS = 1000;

async function soundness(place: Place): Promise<unknown> {
  return (await place.json(["verify"]))[0]!["sound"];
}

/** Runs the endless program and sends a signal once its packets are in the sandbox, below the process `worker`. */
async function interruptRun(
  place: Place,
  at: readonly string[],
  signal: NodeJS.Signals,
  worker?: number,
): Promise<{ status: number | null; out: string; err: string }> {
  await writeFile(join(place.cwd, "endless.ts"), ENDLESS);
  let below: number[] = [];
  const finished = await place.run(["run", "endless.ts", "text.txt", "--no-check", "--quiet", ...at], {
    whileRunning: (child) => {
      void (async () => {
        if (HAS_PROC) await burning(worker ?? child.pid!, BEGUN_MS);
        else await sleep(5000);
        if (HAS_PROC) below = descendantsOf(child.pid!);
        child.kill(signal);
      })();
    },
  });
  if (HAS_PROC) await goneAll(below);
  return finished;
}

describe.concurrent("a command", () => {
  it.each([
    ["SIGINT", 130],
    ["SIGKILL", null],
  ] as const)("that runs a program takes its executors with it on %s", async (signal, status) => {
    const place = await makePlace();
    await place.json(["put", "text.txt"]);
    const finished = await interruptRun(place, [], signal);
    expect(finished).toMatchObject({ status, out: "", err: "" });
    expect(await soundness(place)).toBe(true);
  });

  it("that puts a file ends with 130 on SIGINT, and the file is not there", async () => {
    const place = await makePlace();
    await place.json(["put", "text.txt"]);
    const store = join(place.cwd, "store");
    const { status, out, err } = await place.run(["put", "-", "--name", "endless.bin"], {
      keepsInputOpen: true,
      whileRunning: (child) => {
        child.stdin!.write(noise(8 * 1024 * 1024, 31), () => child.kill("SIGINT"));
      },
    });
    expect({ status, out, err }).toEqual({ status: 130, out: "", err: "pfs: cancelled\n" });
    expect(existsSync(store)).toBe(true);
    expect((await place.json(["ls"])).map(({ name }) => name)).toEqual(["text.txt"]);
    expect(await soundness(place)).toBe(true);
    expect((await place.run(["put", "text.txt", "--name", "again.txt"])).status).toBe(0);
  });
});

describe("a hub and its node", () => {
  it("end jobs that are interrupted, and themselves on SIGTERM, and leave nothing running", async () => {
    const place = await makePlace();
    const store = join(await temporaryDirectory(), "hub");
    const hub = await startHub({ store });
    const node = await joinNode(hub.joinToken, "node-1");
    const at = ["--at", hub.clientToken];
    await place.json(["put", "text.txt", ...at]);

    const { status, err } = await interruptRun(place, at, "SIGINT", node.pid);
    expect({ status, err }).toEqual({ status: 130, err: "" });
    await using pfs = await connect(hub.clientToken);
    expect((await pfs.jobs()).filter(({ state }) => state === "running")).toEqual([]);
    // The node is free for others again.
    const count = `import { defineProgram, lines } from "packetfs";
      export default defineProgram({ input: lines(), map: () => 1, combine: (a: number, b: number) => a + b });`;
    const { value } = await pfs.run({ source: count }, ["text.txt"]);
    expect(value).toBe(20_000);

    // Both are ended in the middle of another.
    const lost = pfs.run({ source: ENDLESS }, ["text.txt"]).catch((error: unknown) => error);
    if (HAS_PROC) await burning(node.pid, BEGUN_MS);
    else await sleep(5000);
    const processes = HAS_PROC
      ? [node.pid, ...descendantsOf(node.pid), hub.pid, ...descendantsOf(hub.pid)]
      : [];
    expect([await node.end("SIGTERM"), await hub.end("SIGTERM")]).toEqual([
      { status: 0, signal: null },
      { status: 0, signal: null },
    ]);
    if (HAS_PROC) await goneAll(processes);
    expect(await lost).toMatchObject({ code: expect.stringMatching(/^PFS_/) });
    const verified = await place.run(["verify", "--store", store]);
    expect(verified).toMatchObject({ status: 0 });
  });
});
