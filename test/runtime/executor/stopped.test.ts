/**
 * Jobs whose executor processes are stopped again and again, as a suspended laptop, a paused container or a debugger does, on
 * a machine that is busy with other work: none may fail. PACKETFS_STOPPED_JOBS says how many jobs there are, 200 for the
 * whole of it; a few by default.
 */
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { openLocal } from "../../../sdk/index.ts";
import { executorsOf, signalAll } from "../../suites/processes.ts";
import { BusyLoops } from "../../suites/busy-loops.ts";

const JOBS = Number(process.env["PACKETFS_STOPPED_JOBS"] ?? 6);
const AT_ONCE = 2;
const PULSE_MS = 150;
const LONG_STOP_MS = 12_000;
/** Less than a single stop, several times: a limit of wall-clock time would be over. */
const LIMIT_MS = 500;
const LINES = 2000;

/** Each packet works for some milliseconds. */
const SOURCE = `
  import { defineProgram, lines } from "packetfs";
  export default defineProgram({
    input: lines(),
    limits: { timeMs: ${LIMIT_MS} },
    map: (line) => {
      let sum = 0;
      for (let step = 0; step < 20_000; step++) sum = (sum + step) % 1000;
      return Number(line) + (sum - sum);
    },
    combine: (a, b) => a + b,
  });`;

/** Stops all executors for a while, again and again, once for long. How many times one was stopped. */
async function pulse(until: AbortSignal): Promise<number> {
  let stops = 0;
  for (let round = 0; !until.aborted; round++) {
    const pids = executorsOf(process.pid);
    stops += pids.length;
    signalAll(pids, "SIGSTOP");
    await sleep(round === 10 ? LONG_STOP_MS : PULSE_MS);
    signalAll(pids, "SIGCONT");
    await sleep(PULSE_MS);
  }
  return stops;
}

it.runIf(process.platform === "linux")(
  `${JOBS} jobs end well while their executors are stopped again and again`,
  { timeout: 120_000 + JOBS * 30_000 },
  async () => {
    const directory = mkdtempSync(join(tmpdir(), "packetfs-stopped-"));
    await using after = new AsyncDisposableStack();
    // A store that is deleted before it is closed says so.
    after.defer(() => rm(directory, { recursive: true }));
    await using _loops = new BusyLoops();
    await using pfs = await openLocal(join(directory, "store"), { workers: 2 });
    const text = Array.from({ length: LINES }, (_, index) => `${index}\n`).join("");
    await pfs.put(Buffer.from(text), { name: "numbers" });
    const over = new AbortController();
    const pulsing = pulse(over.signal);
    const values: unknown[] = [];
    let next = 0;
    async function work(): Promise<void> {
      while (next < JOBS) {
        // A program of its own, so that processes start while they are stopped, too.
        const source = `${SOURCE}\n// ${next++}`;
        values.push((await pfs.run({ source }, ["numbers"], { splitBytes: 1024 })).value);
      }
    }
    try {
      await Promise.all(Array.from({ length: AT_ONCE }, work));
    } finally {
      over.abort();
    }
    expect(await pulsing).toBeGreaterThan(0);
    expect(values).toEqual(Array.from({ length: JOBS }, () => (LINES * (LINES - 1)) / 2));
  },
);
