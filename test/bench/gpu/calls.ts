/**
 * The examples' kernels as calls of an accelerator, without jobs and sandboxes: with inputs that it has to read and send first, and
 * with those that are in the GPU's memory already. What comes back is brought back each time.
 */
import { refFromHex } from "../../../packets/digest.ts";
import type {
  Accelerator,
  KernelCall,
  KernelInput,
  KernelTimes,
} from "../../../runtime/contracts/kernels.ts";
import type { Kernel } from "../../../runtime/program/kernel/kernel.ts";
import type { Machine } from "../../../runtime/machine.ts";
import { spreadOf } from "../harness.ts";
import type { Findings, Table } from "./report.ts";
import type { StoredFiles } from "./stored-files.ts";
import { inTurn } from "./workloads.ts";
import type { Work, Workload } from "./workloads.ts";

export interface CallsOptions {
  /** Of the store that the files are in. */
  readonly machine: Machine;
  readonly accelerator: Accelerator | undefined;
  readonly stored: StoredFiles;
  readonly workloads: readonly Workload[];
  readonly rounds: number;
  /** CPU seconds that the functions for CPUs took of each workload, by its name. */
  readonly cpuSeconds: ReadonlyMap<string, number>;
  readonly cores: number;
}

export async function runCalls(options: CallsOptions): Promise<Findings> {
  const { machine, accelerator, stored, workloads, rounds, cpuSeconds, cores } = options;
  const rows: Table["rows"][number][] = [];
  let [staging, endToEnd, faster]: (number | undefined)[] = [];
  const callOf = async (kernel: Kernel, { call }: Work): Promise<KernelCall> => {
    const inputs: KernelInput[] = [];
    for (const input of call.inputs)
      inputs.push(
        "file" in input
          ? { root: refFromHex(await stored.rootOf(input.file))!, from: 0, length: input.length }
          : { bytes: new Uint8Array(input.buffer) },
      );
    return { kernel, dimensions: call.dimensions, inputs };
  };
  const wrong: string[] = [];
  await inTurn("calls", accelerator === undefined ? [] : workloads, wrong, async (workload) => {
    const { name, program, small, large } = workload;
    const { kernels = [] } = await machine.inspect(refFromHex(await stored.codeOf({ path: program }))!);
    // It is compiled before its first call is timed.
    await run(accelerator!, await callOf(kernels[0]!, small));
    const call = await callOf(kernels[0]!, large);
    const first = await run(accelerator!, call);
    const others: KernelTimes[] = [];
    for (let round = 0; round < rounds; round++) others.push(await run(accelerator!, call));
    const median = (of: (times: KernelTimes) => number): number => spreadOf(others.map(of)).median;
    const resident = median(({ totalMs }) => totalMs);
    const kernel = median(({ kernelMs }) => kernelMs);
    const { operations } = large.call;
    const upload = first.uploadedBytes / first.uploadMs / 1e6;
    rows.push([
      name,
      first.uploadedBytes / 1e6,
      first.uploadedBytes > 1e6 ? upload : undefined,
      first.totalMs,
      resident,
      kernel,
      operations / first.totalMs / 1e6,
      operations / resident / 1e6,
      operations / kernel / 1e6,
    ]);
    if (name === "matmul") endToEnd = operations / first.totalMs / 1e9;
    if (name === "search") {
      staging = upload;
      const seconds = cpuSeconds.get(name);
      faster = seconds && (1000 * seconds) / cores / resident;
    }
  });
  return {
    tables: [
      {
        title: "Kernels of the examples, as calls",
        columns: [
          "kernel",
          "sent, MB",
          "at GB/s",
          "first call, ms",
          "inputs resident, ms",
          "kernel alone, ms",
          "first call, Gop/s",
          "resident, Gop/s",
          "kernel, Gop/s",
        ],
        rows,
      },
    ],
    goals: [
      {
        goal: "a product of matrices, stored and not sent before, to its answer",
        unit: "TFLOP/s",
        least: 3,
        figure: endToEnd,
      },
      { goal: "bytes of stored files to the GPU, sustained", unit: "GB/s", least: 7, figure: staging },
      {
        goal: `search over resident vectors, against its WebAssembly SIMD function on ${cores} cores`,
        unit: "×",
        least: 50,
        figure: faster,
      },
    ],
    wrong,
  };
}

async function run(accelerator: Accelerator, call: KernelCall): Promise<KernelTimes> {
  const { times } = await accelerator.run(call, new AbortController().signal);
  return times;
}
