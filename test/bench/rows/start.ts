/** How long a new tenant waits for its first result when a spare executor process is warm, and when none is. */
import { execFile } from "node:child_process";
import { setTimeout } from "node:timers/promises";
import { promisify } from "node:util";
import { encodeFrame } from "../../../packets/packet.ts";
import { Op } from "../../../packets/layout.ts";
import { PROGRAM_LIMITS_DEFAULT, LANE_INPUT_BYTES } from "../../../runtime/limits.ts";
import { processOptions, sharedOptions } from "../../../runtime/executor/shared-processes.ts";
import { ExecutorProcess } from "../../../runtime/sandbox/process/executor-process.ts";
import type { ProgramDescription } from "../../../runtime/program/program.ts";
import { SpareExecutors } from "../../../runtime/sandbox/process/spare-executors.ts";
import { programCode } from "../../program-code.ts";
import { seconds } from "../harness.ts";
import type { Bench, Row, Side } from "../harness.ts";

const OPTIONS = sharedOptions(processOptions(PROGRAM_LIMITS_DEFAULT, 2, LANE_INPUT_BYTES));
const CODE = programCode(`export default { input: { kind: "bytes" }, yields: "bytes", map() {} };`);
const DESCRIPTION: ProgramDescription = {
  reader: { kind: "bytes" },
  yields: "bytes",
  hasCombine: false,
  hasReduce: false,
  hasTop: false,
  limits: PROGRAM_LIMITS_DEFAULT,
};
const FRAME = encodeFrame([{ op: Op.EXEC, lane: 1 }]);
/** Long enough for the next spare to be warm. */
const PAUSE_MS = 1000;

export async function* startRows({ sizes }: Bench): AsyncGenerator<Row> {
  const rounds = Math.max(sizes.rounds, sizes.startRoundsLeast);
  const spares = new SpareExecutors(OPTIONS);
  const cold: Side = {
    name: "from a process that has to start",
    measure: () => firstResultMs(() => ExecutorProcess.start(OPTIONS)),
  };
  try {
    yield {
      question: "an executor's first result, warm",
      unit: "ms",
      ours: {
        name: "from a spare process",
        measure: async () => {
          await setTimeout(PAUSE_MS);
          return await firstResultMs(() => spares.take());
        },
      },
      rivals: [cold],
      rounds,
      goal: { figureMax: 5 },
    };
    yield {
      question: "an executor's first result, cold",
      unit: "ms",
      ours: cold,
      rivals: [{ name: "Node, started and ended", measure: async () => 1000 * (await seconds(startNode)) }],
      rounds,
      goal: { figureMax: 150 },
    };
  } finally {
    await spares.close();
  }
}

async function startNode(): Promise<void> {
  await promisify(execFile)(process.execPath, ["-e", "0"]);
}

async function firstResultMs(start: () => Promise<ExecutorProcess>): Promise<number> {
  const began = performance.now();
  await using process = await start();
  const program = { name: "noop", code: CODE, entry: "map", description: DESCRIPTION, args: "null" } as const;
  await process.load(1, program);
  await process.run(1, FRAME, new Float64Array(5));
  return performance.now() - began;
}
