/** A job on the GPU of another machine: a hub and a node, each a process that a command starts, and this one as their client. */
import { availableParallelism } from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import { startNetwork } from "../../../sdk/cli/demo/network.ts";
import type { NodeInfo, PacketFS } from "../../../sdk/packetfs.ts";
import { connect } from "../../../sdk/remote.ts";
import { Jobs } from "./jobs.ts";
import type { Findings, Table } from "./report.ts";
import { StoredFiles } from "./stored-files.ts";
import { inTurn } from "./workloads.ts";
import type { Workload } from "./workloads.ts";

const LOOK_AGAIN_MS = 50;

export interface NetworkOptions {
  /** A folder for files. */
  readonly directory: string;
  readonly workloads: readonly Workload[];
  readonly rounds: number;
  readonly hasGpu: boolean;
}

/** The node, once it has looked for GPUs. */
async function looked(pfs: PacketFS): Promise<NodeInfo | undefined> {
  for (;;) {
    const node = (await pfs.nodes()).find(({ label }) => label === "node-1");
    const { accelerators = [], unusedAccelerators = [] } = node ?? {};
    if (accelerators.length + unusedAccelerators.length > 0) return node;
    await pause(LOOK_AGAIN_MS);
  }
}

export async function runNetwork({
  directory,
  workloads,
  rounds,
  hasGpu,
}: NetworkOptions): Promise<Findings> {
  const rows: Table["rows"][number][] = [];
  const wrong: string[] = [];
  const network = await startNetwork({ nodes: 1, workers: availableParallelism() });
  try {
    await using pfs = await connect(network.clientToken);
    const jobs = new Jobs(pfs, new StoredFiles(pfs, directory));
    const node = await looked(pfs);
    const gpus = node?.accelerators.map(({ label }) => label).join(", ") ?? "";
    if (hasGpu && gpus === "") wrong.push("the node tells the hub of no GPU");
    await inTurn("network", workloads, wrong, async (workload) => {
      const { name, program, small, difference, differenceMax } = workload;
      const expected = await jobs.answerOf(await jobs.run(program, small, "cpu"));
      const cpu = await jobs.time(program, small, "cpu", rounds);
      if (gpus === "") {
        rows.push([name, small.label, cpu.seconds]);
        return;
      }
      const result = await jobs.run(program, small, "gpu");
      const apart = difference(expected, await jobs.answerOf(result));
      if (!(apart <= differenceMax)) wrong.push(`${name}: the node's GPU is ${apart} apart from its CPU`);
      const gpu = await jobs.time(program, small, "gpu", rounds);
      const [kernel] = result.statistics.kernels ?? [];
      rows.push([name, small.label, cpu.seconds, gpu.seconds, kernel?.engineClass, kernel?.reason]);
    });
  } finally {
    await network.stop();
  }
  const columns = ["example", "how much", "the node's CPU, s", "its GPU, s", "class", "why"];
  return { tables: [{ title: "Jobs through a hub and a node", columns, rows }], goals: [], wrong };
}
