/**
 * A node with a GPU, as a CPU imitates it: jobs whose results are a GPU's run there, and end right when its process is killed, hangs,
 * runs a kernel that never ends, or goes with its machine. The program's own function gives the same integers, so that what came of
 * it is known; what it says of its results makes it a program of one engine all the same.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connect } from "../../sdk/index.ts";
import type { JobEvent, JobResult } from "../../sdk/index.ts";
import { pfs, temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { copyDrivers, noGpu } from "../suites/gpu.ts";
import { descendantsOf, goneAll, processesOf, runningOf, signalAll } from "../suites/processes.ts";
import { until } from "../suites/until.ts";
import { joinNode, startHub } from "./daemon.ts";
import type { Daemon, HubDaemon } from "./daemon.ts";
import { program, rememberSlowCpus, ROWS, SOFTWARE, SPLITS, sumOf, untilGpu, words } from "./mix-kernel.ts";

const GPU_MAIN = "gpu-main";

describe.skipIf(noGpu !== undefined)("a node with a GPU", () => {
  let hub: HubDaemon;
  let node: Daemon;

  beforeAll(async () => {
    const store = join(await temporaryDirectory(), "hub");
    await rememberSlowCpus(store);
    hub = await startHub({ store });
    await using network = await connect(hub.clientToken);
    await network.put(new Uint8Array(words.buffer), { name: "words" });
    node = await joinNode(hub.joinToken, "gpu", { workers: 2, environment: SOFTWARE });
    await joinNode(hub.joinToken, "cpu");
    await untilGpu(hub.clientToken, "gpu");
    await until(async () => {
      const [cpu] = (await network.nodes()).filter(({ label }) => label === "cpu");
      return cpu?.unusedAccelerators !== undefined;
    });
  });
  afterAll(async () => {
    await node?.end("SIGTERM");
    await hub?.end("SIGTERM");
  });

  /** `during` is called once, when the first packets are done and others are not. */
  async function run(source: string, during?: () => void, engine?: "gpu"): Promise<JobResult> {
    await using network = await connect(hub.clientToken);
    let told = false;
    return await network.run({ source }, ["words"], {
      splitBytes: ROWS * 4,
      ...(engine === undefined ? {} : { engine }),
      onEvent: (event: JobEvent) => {
        if (told || event.kind !== "progress" || event.done === 0 || event.done === event.tasks) return;
        told = true;
        during?.();
      },
    });
  }

  /** Of the node: the one that computes, and one that stands by. */
  function gpuProcesses(): number[] {
    const below = new Set(descendantsOf(node.pid));
    return [...processesOf(GPU_MAIN).keys()].filter((pid) => below.has(pid));
  }

  it("says which it has, what was measured of it, and why others have none", async () => {
    await using network = await connect(hub.clientToken);
    const nodes = await network.nodes();
    const gpu = nodes.find(({ label }) => label === "gpu")!;
    expect(gpu.accelerators).toMatchObject([{ isSoftware: true, calibration: { gops: expect.any(Number) } }]);
    const { engineClass } = gpu.accelerators[0]!;
    expect(gpu.editions.kernel).toContainEqual(expect.stringContaining(engineClass));
    const cpu = nodes.find(({ label }) => label === "cpu")!;
    expect(cpu.accelerators).toEqual([]);
    expect(cpu.unusedAccelerators).toMatchObject([{ reason: expect.stringMatching(/imitates/) }]);
    const told = await pfs(["nodes"], { environment: { PACKETFS_AT: hub.clientToken } });
    expect(told.err).toMatch(/^gpu runs kernels on .*: .*B of memory, .* Gop\/s$/m);
    expect(told.err).toMatch(/^cpu: .* is not used: .*imitates/m);
  });

  it("computes what is to be computed by a GPU", async () => {
    const { value, statistics } = await run(program(1000));
    expect(value).toBe(sumOf(words, 1000));
    expect(statistics.byNode).toEqual({ gpu: SPLITS });
    await using network = await connect(hub.clientToken);
    const label = (await network.nodes()).flatMap(({ accelerators }) => accelerators)[0]!.label;
    expect(statistics.kernels).toMatchObject([{ kernel: "mix", engine: "gpu", label, calls: SPLITS }]);
  });

  it("is the only one that computes a kernel which a GPU is asked to, though its results are a CPU's too", async () => {
    const { value, statistics } = await run(program(1001, 0, '"exact"'), undefined, "gpu");
    expect(value).toBe(sumOf(words, 1001));
    expect(statistics.byNode).toEqual({ gpu: SPLITS });
    expect(statistics.kernels).toMatchObject([{ kernel: "mix", engine: "gpu", calls: SPLITS }]);
    // Nothing was sent to those that have none.
    expect([statistics.retries, statistics.notes]).toEqual([0, []]);
    await using network = await connect(hub.clientToken);
    // Who has none is not to blame.
    expect((await network.nodes()).flatMap(({ barred }) => barred)).toEqual([]);
  });

  it("goes on when its GPU's process is killed in the middle", async () => {
    let killed: number[] = [];
    const { value, statistics } = await run(program(20_000), () => {
      killed = gpuProcesses();
      signalAll(killed, "SIGKILL");
    });
    expect(killed).not.toEqual([]);
    expect(value).toBe(sumOf(words, 20_000));
    expect(statistics.byNode).toEqual({ gpu: SPLITS });
    await goneAll(killed);
  });

  it("goes on when its GPU's processes hang", async () => {
    let stopped: number[] = [];
    // Of one that nobody knows, a GPU is expected to be fast, whatever became of others.
    const { value } = await run(program(20_002), () => {
      stopped = gpuProcesses();
      signalAll(stopped, "SIGSTOP");
    });
    expect(stopped).not.toEqual([]);
    expect(value).toBe(sumOf(words, 20_002));
    // The one that computed. The other hangs for nobody until it is to compute.
    await until(() => runningOf(stopped).length < stopped.length);
    signalAll(stopped, "SIGCONT");
  });

  it("has a kernel that never ends there computed elsewhere", async () => {
    const { value, statistics } = await run(program(500, words[ROWS * 7]!));
    expect(value).toBe(sumOf(words, 500));
    expect(statistics.notes.join("\n")).toMatch(/\bmix\b.* its limit of 500 ms/);
    expect(statistics.kernels).toContainEqual(expect.objectContaining({ engine: "cpu" }));
  });

  it("leaves nothing behind, and its job ends where no GPU is", async () => {
    let below: number[] = [];
    const { value, statistics } = await run(program(20_003), () => {
      below = gpuProcesses();
      node.process.kill("SIGKILL");
    });
    expect(value).toBe(sumOf(words, 20_003));
    expect(statistics.byNode).toEqual({ cpu: SPLITS });
    expect(below).not.toEqual([]);
    await goneAll(below);
    await until(() => ![...processesOf(GPU_MAIN).values()].includes(node.pid));
  });

  it("ends a job elsewhere when its GPU never starts again, and says why it is not used", async () => {
    // Another GPU of the class would do.
    await node.end("SIGTERM");
    const drivers = join(await temporaryDirectory(), "drivers");
    const environment = { ...SOFTWARE, ...(await copyDrivers(drivers)) };
    node = await joinNode(hub.joinToken, "once", { workers: 2, environment });
    await untilGpu(hub.clientToken, "once");
    let lost: number[] = [];
    // Of one that nobody knows, a GPU is expected to be fast.
    const { value, statistics } = await run(program(20_001), () => {
      rmSync(drivers, { recursive: true });
      lost = gpuProcesses();
      signalAll(lost, "SIGKILL");
    });
    expect(lost).not.toEqual([]);
    expect(value).toBe(sumOf(words, 20_001));
    expect(statistics.kernels).toContainEqual(expect.objectContaining({ engine: "cpu" }));
    expect(statistics.notes.join("\n")).toMatch(/is given up, and all packets run again: /);
    await goneAll(lost);
    await using network = await connect(hub.clientToken);
    const once = (await network.nodes()).find(({ label }) => label === "once")!;
    expect(once).toMatchObject({ accelerators: [], barred: [] });
    expect(once.unusedAccelerators).toMatchObject([{ reason: expect.stringMatching(/starts any more: ./) }]);
    const told = await pfs(["nodes"], { environment: { PACKETFS_AT: hub.clientToken } });
    expect(told.err).toMatch(/^once: .* is not used: no process of it starts any more: ./m);
    // Nothing that a GPU was started for is left at work or tried again, and it still computes.
    expect(gpuProcesses()).toEqual([]);
    expect((await run(program(1000))).value).toBe(sumOf(words, 1000));
    expect((await node.end("SIGTERM")).status).toBe(0);
  });
});
