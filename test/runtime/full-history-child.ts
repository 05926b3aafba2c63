/**
 * Runs a job of kernels where nothing of what it took can be remembered, since the disk is full; and another once there is room. Says as
 * JSON what came of it, and what stands on the disk each time.
 */
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { KERNEL_HISTORY_FILE, KernelHistory } from "../../runtime/kernel-history.ts";
import { JOB_HISTORY_FILE, JobHistory } from "../../runtime/job/job-history.ts";
import { FLOAT_KERNEL, INFO } from "./engine/kernels.ts";
import type { Waiting } from "./job/scripted-executor.ts";
import { ScriptedWorld } from "./job/scripted-world.ts";
import { fillDisk } from "./store/store-fixture.ts";

const [directory = ""] = process.argv.slice(2);
const ballast = join(directory, "ballast");
const kernelsFile = join(directory, KERNEL_HISTORY_FILE);
const jobsFile = join(directory, JOB_HISTORY_FILE);

fillDisk(ballast);
const kernels = await KernelHistory.open(kernelsFile);
const world = new ScriptedWorld({ kernels, history: new JobHistory(jobsFile) });
const taken = ({ lane, packet, entry }: Waiting): void => {
  const bucket = 1024;
  const use = { kernel: 0, engine: "gpu", engineClass: INFO.engineClass, bucket } as const;
  if (entry === "map") lane.listener.measured?.([{ ...use, calls: 1, milliseconds: 3, reason: "a test" }]);
  lane.answer(packet, entry === "finish" ? '"gpu"' : "gpu");
};
world.add("gpu", { taken }, 2, `test-${INFO.engineClass}`, INFO);
const input = await world.putFile("x", 1_000);
const run = (id: string): ReturnType<ScriptedWorld["run"]> =>
  world.run({ id, inputs: [input], splitBytes: 100 }, { kernels: [FLOAT_KERNEL] });
const { value, statistics } = await run("full");
await kernels.keep();
const full = await kept();
const files = readdirSync(directory).filter((name) => name !== JOB_HISTORY_FILE);
rmSync(ballast);
await run("later");
await world.jobs.close();
process.stdout.write(JSON.stringify({ value, kernels: statistics.kernels, files, full, room: await kept() }));

/** As another process finds it. */
async function kept(): Promise<{ averages: number; jobs: string[] }> {
  const { averages } = await KernelHistory.open(kernelsFile);
  const jobs = await new JobHistory(jobsFile).list();
  return { averages: averages.kept().length, jobs: jobs.map(({ job }) => job) };
}
