/** Very many small packets: the splits of one job, and one stream of frames. How many a second, and in how much memory. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { PACKET_BYTES } from "../../../packets/layout.ts";
import type { Bench, Goal, Row, Side } from "../harness.ts";
import type { LongRun } from "../long-run.ts";
import { startPool } from "../task-rivals.ts";

const MAIN = fileURLToPath(new URL("../long-run.ts", import.meta.url));
const MEBIBYTE = 1024 * 1024;
/** Rivals that take one task at a time are sent no more. */
const RIVAL_TASKS_MAX = 50_000;
const TASKS_IN_FLIGHT = 64;
/** What the goals are about. */
const SPLITS_OF_GOAL = 1_000_000;

type Kind = "splits" | "stream";

export async function* longRunRows({ directory, sizes }: Bench): AsyncGenerator<Row> {
  const { splits, streamPackets, rounds } = sizes;
  const store = join(directory, "long-runs-store");
  const run = async (kind: Kind, count: number): Promise<LongRun> => {
    const words = ["--no-warnings", MAIN, kind, store, String(count)];
    const { stdout } = await promisify(execFile)(process.execPath, words);
    return JSON.parse(stdout) as LongRun;
  };
  const rate = (kind: Kind, count: number, question: string, goal?: Goal): Row => ({
    question,
    unit: "packets/s",
    ours: { name: "local, 2 workers", measure: async () => (await run(kind, count)).perSecond },
    rivals: [{ name: "piscina, a task each", measure: () => pooled(Math.min(count, RIVAL_TASKS_MAX)) }],
    rounds,
    ...(goal === undefined ? {} : { goal }),
  });
  const memory = (kind: Kind, count: number, question: string, goal: Goal): Row => ({
    question,
    unit: "MiB",
    ours: { name: "peak of the process", measure: async () => (await run(kind, count)).peakMebibytes },
    rivals: [ofBytes("64 bytes for each packet and answer", 2 * count * PACKET_BYTES)],
    rounds,
    goal,
  });
  for (const count of splits) {
    const isGoal = count === SPLITS_OF_GOAL;
    const goal = isGoal ? { figureMin: count / 5 } : undefined;
    yield rate("splits", count, `a job of ${count} splits of 64 bytes`, goal);
  }
  const most = Math.max(...splits);
  yield memory("splits", most, `memory of a job of ${most} splits`, { figureMax: 250 });
  yield rate("stream", streamPackets, `${streamPackets} packets in one stream`);
  yield memory("stream", streamPackets, `memory of ${streamPackets} packets in one stream`, {
    figureMax: 300,
  });
}

const ofBytes = (name: string, bytes: number): Side => ({ name, measure: async () => bytes / MEBIBYTE });

async function pooled(tasks: number): Promise<number> {
  await using pool = startPool(2);
  let next = 0;
  const caller = async (): Promise<void> => {
    while (next++ < tasks) await pool.run();
  };
  const start = performance.now();
  await Promise.all(Array.from({ length: TASKS_IN_FLIGHT }, caller));
  return tasks / ((performance.now() - start) / 1000);
}
