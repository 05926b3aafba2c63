/** The examples with kernels as jobs: the same answers first, on each engine, then how long each takes. */
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Engine, PacketFS } from "../../../sdk/packetfs.ts";
import { Jobs } from "./jobs.ts";
import type { Timed } from "./jobs.ts";
import type { Findings, Goal, Table } from "./report.ts";
import type { StoredFiles } from "./stored-files.ts";
import { inTurn } from "./workloads.ts";
import type { Answer, Work, Workload } from "./workloads.ts";

const EXAMPLES: string = fileURLToPath(new URL("../../../examples/", import.meta.url));
/** How many of them a GPU shall be chosen for, and how much faster than their CPU function. */
const CHOSEN_LEAST = 3;
const FASTER_LEAST = 5;

export interface ExamplesOptions {
  readonly pfs: PacketFS;
  readonly stored: StoredFiles;
  /** A folder for programs that are made of others. */
  readonly directory: string;
  readonly workloads: readonly Workload[];
  readonly rounds: number;
  /** Whether there is a GPU that programs may use. */
  readonly hasGpu: boolean;
}

export interface ExampleFindings extends Findings {
  /** CPU seconds that the functions for CPUs took, by the name of the workload. */
  readonly cpuSeconds: ReadonlyMap<string, number>;
}

export async function runExamples(options: ExamplesOptions): Promise<ExampleFindings> {
  const { directory, workloads, rounds, hasGpu } = options;
  const jobs = new Jobs(options.pfs, options.stored);
  const answer = async (program: string, work: Work, engine: Engine): Promise<Answer> =>
    await jobs.answerOf(await jobs.run(program, work, engine));
  const bare = (name: string): string => withoutCpu(name, join(directory, "without-cpu"));
  const wrong: string[] = [];
  await inTurn("answers", workloads, wrong, async (workload) => {
    const { name, small, difference, differenceMax } = workload;
    const expected = await answer(workload.program, small, "cpu");
    const others: [string, Answer][] = [];
    if (hasGpu) others.push(["GPU", await answer(workload.program, small, "gpu")]);
    if (workload.isJavaScript) others.push(["GPU.js on the CPU", await answer(bare(name), small, "cpu")]);
    for (const [engine, other] of others) {
      const apart = difference(expected, other);
      if (!(apart <= differenceMax))
        wrong.push(`${name}: the ${engine} is ${apart} apart from its CPU function`);
    }
  });
  const rows: Table["rows"][number][] = [];
  const cpuSeconds = new Map<string, number>();
  let chosen = 0;
  await inTurn("jobs", workloads, wrong, async (workload) => {
    const { name, program, small, large } = workload;
    const timed = new Map<string, Timed>();
    // A CPU takes long, and the same each time.
    timed.set("cpu", await jobs.time(program, large, "cpu", 1, small));
    if (workload.isJavaScript) timed.set("webasm", await jobs.time(bare(name), large, "cpu", 1, small));
    if (hasGpu) timed.set("gpu", await jobs.time(program, large, "gpu", rounds));
    if (hasGpu) timed.set("auto", await jobs.time(program, large, undefined, rounds));
    const [cpu, gpu, auto] = [timed.get("cpu")!, timed.get("gpu"), timed.get("auto")];
    cpuSeconds.set(name, cpu.callSeconds);
    const faster = gpu === undefined ? undefined : cpu.seconds / gpu.seconds;
    if (auto?.engine === "gpu" && faster! >= FASTER_LEAST) chosen++;
    rows.push([
      name,
      large.label,
      cpu.seconds,
      timed.get("webasm")?.seconds,
      gpu?.seconds,
      faster,
      gpu && large.operations / gpu.seconds / 1e9,
      gpu && large.bytes / gpu.seconds / 1e9,
      hasGpu ? await breakEven(jobs, workload, { cpu, gpu: gpu! }, rounds) : undefined,
      auto?.engine,
    ]);
  });
  const table: Table = {
    title: "Examples, as jobs",
    columns: [
      "example",
      "how much",
      "CPU function, s",
      "GPU.js on the CPU, s",
      "GPU, s",
      "× CPU function",
      "Gop/s",
      "GB/s",
      "GPU pays from",
      "auto chose",
    ],
    rows,
  };
  const goal: Goal = {
    goal: `examples that auto runs on the GPU, ${FASTER_LEAST} times as fast as their CPU function, end to end`,
    unit: "of 5",
    least: CHOSEN_LEAST,
    figure: hasGpu ? chosen : undefined,
  };
  return { tables: [table], goals: [goal], wrong, cpuSeconds };
}

/** From how much on the GPU is the faster one, by what a small and a large run take on each: a line through both. */
async function breakEven(
  jobs: Jobs,
  { program, small, large }: Workload,
  { cpu, gpu }: { readonly cpu: Timed; readonly gpu: Timed },
  rounds: number,
): Promise<string | undefined> {
  if (small.operations === large.operations) return undefined;
  const slope = (from: Timed, to: Timed): number =>
    (to.seconds - from.seconds) / (large.operations - small.operations);
  const onCpu = await jobs.time(program, small, "cpu", rounds);
  const onGpu = await jobs.time(program, small, "gpu", rounds);
  const lead = onGpu.seconds - onCpu.seconds;
  if (lead <= 0) return `less than ${small.label}`;
  const gain = slope(onCpu, cpu) - slope(onGpu, gpu);
  if (gain <= 0) return "never";
  const part = (small.operations + lead / gain) / large.operations;
  return `${Number((100 * part).toPrecision(2))} % of it`;
}

/** A copy of an example without its function for CPUs, in a folder. */
function withoutCpu(name: string, folder: string): string {
  cpSync(EXAMPLES, folder, { recursive: true });
  const path = join(folder, "kernels", `${name}.ts`);
  const text = readFileSync(path, "utf8");
  const without = text.replace(/\n  cpu(\(|:)[\s\S]*?\n(?=\}\);)/, "\n");
  if (without === text) throw new Error(`${name}.ts has no function for CPUs where it was looked for`);
  writeFileSync(path, without);
  return path;
}
