/** What stays of jobs that have ended: plain data, whatever their end was. Measured, after the garbage is collected. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { FaultCode } from "../../../packets/faults.ts";
import { StreamWriter } from "../../../packets/stream-writer.ts";
import type { JobInput } from "../../../runtime/contracts/jobs.ts";
import type { Waiting } from "./scripted-executor.ts";
import { ScriptedWorld, settle } from "./scripted-world.ts";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** Tasks of each job, and what one of them takes at least while its job runs. */
const TASKS = 25_000;
const TASK_BYTES = 100;
const JOBS = 8;

/** Bytes in use on the heap and in buffers beside it. */
async function bytesInUse(): Promise<number> {
  for (let round = 0; round < 3; round++) {
    await settle();
    collectGarbage();
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** A file of one FILL packet: it costs nothing, and gives a job as many tasks as are asked for. */
function fillFile(world: ScriptedWorld): JobInput {
  const writer = new StreamWriter((_ref, bytes) => void world.chunks.put(bytes));
  writer.fill(new Uint8Array(1), TASKS);
  const { root, length } = writer.finish();
  return { name: "zeros", root, length };
}

const ENDS: Readonly<Record<string, (world: ScriptedWorld, waiting: Waiting) => void>> = {
  done: (_world, { lane, packet }) => lane.answer(packet, "1"),
  failed: (_world, { lane, packet }) => lane.fault(packet, FaultCode.threw, "no"),
  cancelled: (world) => void world.jobs.cancel("job"),
};

test.each(Object.keys(ENDS))("of jobs that were %s, nothing but a few numbers and words", async (end) => {
  const world = new ScriptedWorld();
  const input = fillFile(world);
  const taken = (waiting: Waiting): void => ENDS[end]!(world, waiting);
  // As a node does: it takes packets, and answers when it has had time to.
  const executor = world.add("a", {}, 4);
  const answering = setInterval(() => executor.waiting.splice(0).forEach(taken), 0);
  const run = async (): Promise<void> => {
    await world.run({ inputs: [input], splitBytes: 1 }).catch(() => undefined);
    world.events.length = 0;
    executor.lanes.length = 0;
    executor.waiting.length = 0;
    executor.chunks.clear();
  };
  try {
    await run();
    const before = await bytesInUse();
    for (let job = 1; job < JOBS; job++) await run();
    expect(world.jobs.jobs().map(({ state, tasks }) => ({ state, tasks }))).toEqual(
      Array.from({ length: JOBS }, () => ({ state: end, tasks: TASKS })),
    );
    expect((await bytesInUse()) - before).toBeLessThan((TASKS * TASK_BYTES) / 2);
  } finally {
    clearInterval(answering);
    await world.jobs.close();
  }
});
