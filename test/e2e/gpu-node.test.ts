/**
 * A node with a GPU, as a CPU imitates it: jobs whose results are a GPU's run there, and end right when its process is killed, hangs,
 * runs a kernel that never ends, or goes with its machine. The program's own function gives the same integers, so that what came of
 * it is known; what it says of its results makes it a program of one engine all the same.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KERNEL_HISTORY_FILE } from "../../runtime/kernel-history.ts";
import { connect } from "../../sdk/index.ts";
import type { JobEvent, JobResult } from "../../sdk/index.ts";
import { pfs, temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { noGpu } from "../suites/gpu.ts";
import {
  descendantsOf,
  goneAll,
  processesOf,
  processorMillisecondsOf,
  signalAll,
} from "../suites/processes.ts";
import { until } from "../suites/until.ts";
import { joinNode, startHub } from "./daemon.ts";
import type { Daemon, HubDaemon } from "./daemon.ts";

const GPU_MAIN = "gpu-main";
const SOFTWARE = { PACKETFS_GPU_SOFTWARE: "1", LP_NUM_THREADS: "1" };
const ROWS = 1024;
const SPLITS = 24;
/** Of a GPU's own time for one call. */
const GPU_MS = 500;
/** What a hub remembers of CPUs here: that they take a second for a thousand operations. So its jobs go to a GPU as long as there is one. */
const SLOW_CPUS = { averages: [{ kernel: "", engineClass: "cpu", bucket: 0, value: 1, calls: 16 }] };

/** Words mixed `rounds` times and added up. Where the first word of a block is `never`, a GPU never ends with it. */
function program(rounds: number, never = 0, result = "{ relL2: 0, abs: 0 }"): string {
  return `import { defineKernel, defineProgram, matrix, u32 } from "packetfs";
const mix = defineKernel({
  name: "mix",
  kind: "wgsl",
  inputs: { words: u32(["n", 1]) },
  output: u32(["n"]),
  result: ${result},
  operations: "n * ${rounds}",
  workgroup: { size: [64], count: ["n / 64"] },
  limits: { gpuMs: ${GPU_MS} },
  source: \`fn main(@builtin(global_invocation_id) id: vec3u) {
    if (id.x >= dims.n) { return; }
    var word = words[id.x];
    for (var round = 0u; round < ${rounds}u || (words[0] == ${never}u && words[0] != 0u); round++) {
      word = (word ^ (word >> 15u)) * 2654435761u;
    }
    output[id.x] = word;
  }\`,
  cpu: ({ words }) => words.map((word) => {
    for (let round = 0; round < ${rounds}; round++) word = Math.imul(word ^ (word >>> 15), 2654435761) >>> 0;
    return word;
  }),
});
export default defineProgram({
  input: matrix({ type: "u32", columns: 1, rows: ${ROWS} }),
  map: (rows) => mix({ words: rows }).reduce((sum, word) => sum + word, 0),
  combine: (a: number, b: number) => a + b,
});`;
}

function sumOf(words: Uint32Array, rounds: number): number {
  return words.reduce((sum, first) => {
    let word = first;
    for (let round = 0; round < rounds; round++) word = Math.imul(word ^ (word >>> 15), 2654435761) >>> 0;
    return sum + word;
  }, 0);
}

const words = Uint32Array.from({ length: ROWS * SPLITS }, (_, index) => index * 40_503 + 1);

describe.skipIf(noGpu !== undefined)("a node with a GPU", () => {
  let hub: HubDaemon;
  let node: Daemon;

  beforeAll(async () => {
    const store = join(await temporaryDirectory(), "hub");
    await (await startHub({ store })).end("SIGTERM");
    await writeFile(join(store, KERNEL_HISTORY_FILE), JSON.stringify(SLOW_CPUS));
    hub = await startHub({ store });
    await using network = await connect(hub.clientToken);
    await network.put(new Uint8Array(words.buffer), { name: "words" });
    node = await joinNode(hub.joinToken, "gpu", { workers: 2, environment: SOFTWARE });
    await joinNode(hub.joinToken, "cpu");
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

  /** Of the node: the one that has computed most first. */
  function gpuProcesses(): number[] {
    const below = new Set(descendantsOf(node.pid));
    const all = [...processesOf(GPU_MAIN).keys()].filter((pid) => below.has(pid));
    return all.toSorted((a, b) => processorMillisecondsOf(b) - processorMillisecondsOf(a));
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
    expect(statistics.kernels).toMatchObject([{ kernel: "mix", engine: "gpu", calls: SPLITS }]);
  });

  it("is the only one that computes a kernel which a GPU is asked to, though its results are a CPU's too", async () => {
    const { value, statistics } = await run(program(1001, 0, '"exact"'), undefined, "gpu");
    expect(value).toBe(sumOf(words, 1001));
    expect(statistics.byNode).toEqual({ gpu: SPLITS });
    expect(statistics.kernels).toMatchObject([{ kernel: "mix", engine: "gpu", calls: SPLITS }]);
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

  it("goes on when its GPU's process hangs", async () => {
    let stopped = 0;
    const { value } = await run(program(20_000), () => {
      [stopped = 0] = gpuProcesses();
      process.kill(stopped, "SIGSTOP");
    });
    expect(stopped).not.toBe(0);
    expect(value).toBe(sumOf(words, 20_000));
    await goneAll([stopped]);
  });

  it("has a kernel that never ends there computed elsewhere", async () => {
    const { value, statistics } = await run(program(500, words[ROWS * 7]!));
    expect(value).toBe(sumOf(words, 500));
    expect(statistics.notes.join("\n")).toMatch(/\bmix\b.* its limit of 500 ms/);
    expect(statistics.kernels).toContainEqual(expect.objectContaining({ engine: "cpu", calls: SPLITS }));
  });

  it("leaves nothing behind, and its job ends where no GPU is", async () => {
    let below: number[] = [];
    const { value, statistics } = await run(program(20_000), () => {
      below = gpuProcesses();
      node.process.kill("SIGKILL");
    });
    expect(value).toBe(sumOf(words, 20_000));
    expect(statistics.byNode).toEqual({ cpu: SPLITS });
    expect(below).not.toEqual([]);
    await goneAll(below);
    await until(() => ![...processesOf(GPU_MAIN).values()].includes(node.pid));
  });
});
