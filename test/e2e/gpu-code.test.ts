/** Packet code at a node with a GPU, as a CPU imitates it: asked of it, and while its process is killed again and again. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connect } from "../../sdk/index.ts";
import type { JobResult } from "../../sdk/index.ts";
import { parseCode } from "../../sdk/code/parse.ts";
import { noGpu } from "../suites/gpu.ts";
import { gpuProcessesOf, signalAll } from "../suites/processes.ts";
import { randomBytes } from "../runtime/store/store-fixture.ts";
import { joinNode, startHub } from "./daemon.ts";
import type { Daemon, HubDaemon } from "./daemon.ts";
import { untilGpu } from "./mix-kernel.ts";

const MEBIBYTE: number = 1024 * 1024;
const SPLITS = 12;
/** More than a call is tried again after. */
const KILLS = 4;
const file = randomBytes("code", SPLITS * MEBIBYTE);
const bins = Array.from({ length: 256 }, () => 0);
for (const byte of file) bins[byte]!++;

describe.skipIf(noGpu !== undefined)("packet code at a node with a GPU", () => {
  let hub: HubDaemon;
  let node: Daemon;

  beforeAll(async () => {
    hub = await startHub();
    node = await joinNode(hub.joinToken, "gpu", {
      workers: 2,
      environment: { PACKETFS_GPU_SOFTWARE: "1", LP_NUM_THREADS: "1" },
    });
    await untilGpu(hub.clientToken, "gpu");
    await using network = await connect(hub.clientToken);
    await network.put(file, { name: "file" });
  });
  afterAll(async () => {
    await node?.end("SIGTERM");
    await hub?.end("SIGTERM");
  });

  async function run(engine: "gpu" | "cpu", progress: () => void = () => {}): Promise<JobResult> {
    await using network = await connect(hub.clientToken);
    return await network.run(parseCode("histogram()"), ["file"], {
      splitBytes: MEBIBYTE,
      engine,
      onEvent: ({ kind }) => kind === "progress" && progress(),
    });
  }

  const calls = ({ statistics: { kernels = [] } }: JobResult, engine: "gpu" | "cpu"): number =>
    kernels.filter((each) => each.engine === engine).reduce((sum, each) => sum + each.calls, 0);

  it("runs on it where that is asked for, and says so", async () => {
    const byGpu = await run("gpu");
    expect(byGpu.value).toEqual(bins);
    expect(calls(byGpu, "gpu")).toBe(byGpu.statistics.tasks);
    const byCpu = await run("cpu");
    expect(byCpu.value).toEqual(bins);
    expect(calls(byCpu, "cpu")).toBe(byCpu.statistics.tasks);
  });

  it("gives the same whatever becomes of its process", async () => {
    let kills = 0;
    const result = await run("gpu", () => {
      if (kills < KILLS) kills += signalAll(gpuProcessesOf(node.pid), "SIGKILL");
    });
    expect(kills).toBeGreaterThanOrEqual(KILLS);
    expect(result.value).toEqual(bins);
    // Threads did what the GPU did not.
    expect(calls(result, "gpu") + calls(result, "cpu")).toBe(result.statistics.tasks);
  });
});
