/** How long a new tenant waits for its first result when a spare executor process is warm, and when none is. */
import { setTimeout } from "node:timers/promises";
import { encodeFrame } from "../../../packets/packet.ts";
import { Op } from "../../../packets/layout.ts";
import { PROGRAM_LIMITS_DEFAULT, LANE_INPUT_BYTES } from "../../../runtime/limits.ts";
import { processOptions, sharedOptions } from "../../../runtime/executor/shared-processes.ts";
import { ExecutorProcess } from "../../../runtime/sandbox/process/executor-process.ts";
import type { ProgramDescription } from "../../../runtime/program/program.ts";
import { SpareExecutors } from "../../../runtime/sandbox/process/spare-executors.ts";
import { programCode } from "../../program-code.ts";
import type { Row } from "../harness.ts";
import type { Sizes } from "../sizes.ts";

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

export function startRow({ rounds, startRoundsLeast }: Sizes): {
  readonly row: Row;
  readonly stop: () => Promise<void>;
} {
  const spares = new SpareExecutors(OPTIONS);
  const row: Row = {
    question: "an executor's first result",
    unit: "ms",
    ours: {
      name: "from a warm spare",
      measure: async () => {
        await setTimeout(PAUSE_MS);
        return await firstResultMs(() => spares.take());
      },
    },
    rivals: [
      {
        name: "from a process that has to start",
        measure: () => firstResultMs(() => ExecutorProcess.start(OPTIONS)),
      },
    ],
    rounds: Math.max(rounds, startRoundsLeast),
    goal: { figureMax: 20 },
  };
  return { row, stop: () => spares.close() };
}

async function firstResultMs(start: () => Promise<ExecutorProcess>): Promise<number> {
  const began = performance.now();
  await using process = await start();
  const program = { name: "noop", code: CODE, entry: "map", description: DESCRIPTION, args: "null" } as const;
  await process.load(1, program);
  await process.run(1, FRAME, new Float64Array(5));
  return performance.now() - began;
}
