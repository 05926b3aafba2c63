/** A GPU process lasts no longer than the node that started it, whatever its GPU is doing. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { ProcessClock } from "../../../runtime/process-clock.ts";
import { noGpu } from "../../suites/gpu.ts";
import { HAS_PROC, gpuProcessesOf, runningOf } from "../../suites/processes.ts";
import { until } from "../../suites/until.ts";

const MAIN = fileURLToPath(new URL("./orphan-main.ts", import.meta.url));

test.skipIf(noGpu !== undefined || !HAS_PROC)(
  "ends when its node is killed in the middle of a kernel",
  async () => {
    const node = spawn(process.execPath, ["--no-warnings", MAIN], { stdio: ["ignore", "pipe", "inherit"] });
    await once(node.stdout, "data");
    // Both are there, and one computes.
    await until(() => gpuProcessesOf(node.pid!).length === 2);
    const pids = gpuProcessesOf(node.pid!);
    const clocks = pids.map((pid) => new ProcessClock(pid));
    const before = clocks.map((clock) => clock.read());
    await until(() => clocks.some((clock, index) => clock.read() > before[index]! + 500));
    for (const clock of clocks) clock.close();
    node.kill("SIGKILL");
    await until(() => runningOf(pids).length === 0);
    expect(runningOf(pids)).toEqual([]);
  },
);
