/**
 * Every hostile program must end as a typed fault or with a correct result, within its CPU time, and do no harm to a
 * neighbour: an honest program in another executor process, which is watched all the while.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PacketfsError } from "../../packets/errors.ts";
import type { ExecutorProcess } from "../../runtime/sandbox/process/executor-process.ts";
import { SpareExecutors } from "../../runtime/sandbox/process/spare-executors.ts";
import { BusiestThread } from "../suites/cpu-time.ts";
import { loadProgram, runFrame, startExecutor } from "../runtime/sandbox/harness.ts";
import { HOSTILE_PROGRAMS } from "./programs.ts";
import type { HostileEnd, HostileProgram } from "./programs.ts";

const LIMIT_MS = 300;
/** CPU time that one call may take beyond its limit, the process's end included. */
const BEYOND_MS = 750;
/** A core whose other half works too is slower for a while: what a program really takes too much of, it takes each time. */
const TRIES = 3;
const MIB = 1024 * 1024;
const HONEST = `export default { input: { kind: "lines" }, map: (line) => line.length, combine: (a, b) => a + b };`;

/** However few a busy machine had time for beside the hostile ones. */
const HONEST_PACKETS_LEAST = 100;

let neighbour: ExecutorProcess;
let spares: SpareExecutors;
let watching = true;
let watched: Promise<number>;

/** Runs honest packets, one after the other, until it is told to stop and has run enough; how many there were. */
async function watchNeighbour(): Promise<number> {
  const lane = await loadProgram(neighbour, HONEST);
  let count = 0;
  while (watching || count < HONEST_PACKETS_LEAST) {
    const text = `${"x".repeat(count % 50)}\nabc`;
    const [result] = await runFrame(neighbour, lane, [{ bytes: text }]);
    const expected = `${(count % 50) + 3}\n`;
    if (result!.status !== 0 || result!.text !== expected)
      throw new Error(`the neighbour was harmed: ${result!.text}`);
    count++;
    await sleep(5);
  }
  return count;
}

beforeAll(async () => {
  neighbour = await startExecutor();
  spares = new SpareExecutors({
    threads: 1,
    rssBytesMax: 350 * MIB,
    sharedMemoryBytes: MIB,
    loadTimeMs: LIMIT_MS,
  });
  watched = watchNeighbour();
  watched.catch(() => undefined);
});
afterAll(async () => {
  await Promise.all([neighbour.close(), spares.close()]);
});

interface Ending {
  readonly end: HostileEnd | "ok";
  readonly text: string;
  /** The most CPU time that one thread used, for inspecting, loading and running together. */
  readonly cpuMs: number;
  /** Other programs had run in the process before. */
  readonly shared: boolean;
}

/** The process that the last program left usable. */
let kept: ExecutorProcess | undefined;

async function ending({ source, entry = "map", input = "a" }: HostileProgram): Promise<Ending> {
  const shared = kept !== undefined && !kept.closed;
  const executor = shared ? kept! : await spares.take();
  kept = executor;
  const busiest = new BusiestThread(executor.pid);
  let lane: number | undefined;
  try {
    lane = await loadProgram(executor, source, { entry });
    const [result] = await runFrame(executor, lane, [{ bytes: input }]);
    const { status, text } = result!;
    const end = status === 0 ? "ok" : (status as HostileEnd);
    return { end, text, cpuMs: busiest.milliseconds, shared };
  } catch (error) {
    if (!(error instanceof PacketfsError)) throw error;
    if (executor.closed) await executor.ended;
    const end = error.code as HostileEnd;
    return { end, text: error.message, cpuMs: busiest.milliseconds, shared };
  } finally {
    busiest.close();
    if (lane !== undefined) executor.unload(lane);
  }
}

/**
 * How it ends in a process of its own. Processes are shared here to save time, and a program may die of what the one
 * before it left behind.
 */
async function fairEnding(program: HostileProgram): Promise<Ending> {
  const first = await ending(program);
  if (!(first.shared && first.end === "PFS_EXECUTOR_ENDED")) return first;
  await kept?.close();
  return ending(program);
}

describe("hostile programs", () => {
  it.each(HOSTILE_PROGRAMS.map((program) => [program.name, program] as const))(
    "%s",
    async (_name, program) => {
      let least = Infinity;
      for (let tries = 0; tries < TRIES && least >= LIMIT_MS + BEYOND_MS; tries++) {
        const { end, text, cpuMs } = await fairEnding(program);
        if (end === "ok") {
          expect(program.yields).toBeDefined();
          expect(text).toBe(program.yields);
        } else {
          expect(program.ends, text).toContain(end);
          expect(Buffer.byteLength(text)).toBeLessThan(5_000);
        }
        least = Math.min(least, cpuMs);
      }
      expect(least).toBeLessThan(LIMIT_MS + BEYOND_MS);
    },
  );

  it("harmed no neighbour", async () => {
    watching = false;
    expect(await watched).toBeGreaterThanOrEqual(HONEST_PACKETS_LEAST);
    expect(neighbour.closed).toBe(false);
    await kept?.close();
  });
});
