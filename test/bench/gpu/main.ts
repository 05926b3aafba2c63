/**
 * What GPUs do for programs: run.sh calls it, README.md says what it measures.
 *
 *   node test/bench/gpu/main.ts [--part 0.25] [--rounds 3] [--only matmul,search] [--out DIR]
 *
 * Ends with 1 where an answer was wrong, or none came. Goals that were not reached are said, and no failure.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { messageOf } from "../../../packets/errors.ts";
import { findAccelerators } from "../../../runtime/accelerator/accelerators.ts";
import { Machine } from "../../../runtime/machine.ts";
import { openLocal } from "../../../sdk/local.ts";
import type { PacketFS } from "../../../sdk/packetfs.ts";
import { benchDirectory } from "../corpus.ts";
import { runCalls } from "./calls.ts";
import { runNetwork } from "./network.ts";
import { runPacketCode } from "./packet-code.ts";
import { runProducts, storeProducts } from "./products.ts";
import { runExamples } from "./examples.ts";
import { markdownOf } from "./report.ts";
import type { Findings, Report, Table } from "./report.ts";
import { StoredFiles } from "./stored-files.ts";
import { workloads } from "./workloads.ts";

const { values } = parseArgs({
  options: {
    part: { type: "string", default: "1" },
    rounds: { type: "string", default: "3" },
    only: { type: "string" },
    out: { type: "string" },
  },
});
const part = Number(values.part);
const rounds = Number(values.rounds);
if (!(part > 0 && part <= 1) || !Number.isSafeInteger(rounds) || rounds < 1)
  throw new Error("--part is a number above 0 and at most 1, --rounds a whole one from 1 on");

const works = workloads(part);
const names = values.only?.split(",") ?? works.map(({ name }) => name);
const unknown = names.find((name) => works.every((work) => work.name !== name));
if (unknown !== undefined) throw new Error(`there is no example "${unknown}"`);
const chosen = works.filter(({ name }) => names.includes(name));
const directory = mkdtempSync(join(benchDirectory(6 * 1024 ** 3 * part), "pfs-gpu-bench-"));
const found: Findings[] = [];
/** One part of the bench. Where it fails, others go on. */
async function section<Found extends Findings>(
  name: string,
  run: () => Promise<Found>,
): Promise<Found | undefined> {
  try {
    const findings = await run();
    found.push(findings);
    return findings;
  } catch (error) {
    found.push({ tables: [], goals: [], wrong: [`${name}: ${messageOf(error)}`] });
    return undefined;
  }
}

try {
  const store = join(directory, "store");
  const pfs = await openLocal(store);
  const stored = new StoredFiles(pfs, directory);
  const { table: gpus, hasGpu, isReal } = await gpuTable(pfs);
  const common = { stored, directory, workloads: chosen, rounds, hasGpu };
  const examples = await section("jobs", async () => await runExamples({ ...common, pfs }));
  const { input } = works.find(({ name }) => name === "histogram")!.large;
  await section("packet code", async () => await runPacketCode({ ...common, pfs, file: input }));
  for (const { program, small, large } of chosen) {
    await stored.codeOf({ path: program });
    for (const { input, files } of [small, large])
      for (const file of [input, ...Object.values(files)]) await stored.rootOf(file);
  }
  await storeProducts(stored, part);
  // A process has a store open once, and calls read what jobs have read.
  await pfs.close();
  const cpuSeconds = examples?.cpuSeconds ?? new Map<string, number>();
  await using machine = await Machine.open({ directory: store, id: "bench", label: "bench", workers: 0 });
  const { accelerators } = await findAccelerators({ source: machine.source, places: machine.store });
  const calling = { ...common, machine, accelerator: accelerators[0] };
  await section("calls", async () => await runCalls({ ...calling, cpuSeconds, cores: cpus().length }));
  await section("products", async () => await runProducts({ ...calling, part }));
  await Promise.all(accelerators.map((accelerator) => accelerator.close()));
  await section("network", async () => await runNetwork(common));
  // Goals are about a GPU, and about the sizes of a whole run.
  const counts = isReal && part === 1;
  const report: Report = {
    machine: {
      node: process.version,
      cpu: cpus()[0]?.model ?? "unknown",
      cores: cpus().length,
      memoryGiB: Math.round(totalmem() / 1024 ** 3),
      loadBefore: loadavg()[0],
      part,
      rounds,
    },
    tables: [gpus, ...found.flatMap(({ tables }) => tables)],
    goals: found
      .flatMap(({ goals }) => goals)
      .map((goal) => (counts ? goal : { ...goal, figure: undefined })),
    wrong: found.flatMap(({ wrong }) => wrong),
  };
  const markdown = markdownOf(report);
  console.log(`${JSON.stringify(report.machine)}\n\n${markdown}`);
  if (values.out !== undefined) {
    mkdirSync(values.out, { recursive: true });
    writeFileSync(join(values.out, "gpu.md"), `${markdown}\n`);
    writeFileSync(
      join(values.out, "gpu.json"),
      `${JSON.stringify({ schema: 1, ...report }, undefined, 2)}\n`,
    );
  }
  for (const sentence of report.wrong) console.error(`wrong: ${sentence}`);
  if (report.wrong.length > 0) process.exitCode = 1;
} finally {
  rmSync(directory, { recursive: true, force: true });
}

interface Gpus {
  readonly table: Table;
  /** Whether programs may use one, */
  readonly hasGpu: boolean;
  /** that no CPU imitates. */
  readonly isReal: boolean;
}

/** What GPUs there are, what was measured when each began, and why others are not used. They are looked for when a program has kernels. */
async function gpuTable(pfs: PacketFS): Promise<Gpus> {
  const { root } = await pfs.put(Buffer.alloc(1));
  await pfs.run({ path: works.find(({ name }) => name === "histogram")!.program }, [root]);
  const [node] = await pfs.nodes();
  const { accelerators = [], unusedAccelerators = [] } = node ?? {};
  const table: Table = {
    title: "GPUs",
    columns: ["GPU", "class", "memory, GiB", "to it, GB/s", "back, GB/s", "launch, ms", "Gop/s"],
    rows: [
      ...accelerators.map(({ label, engineClass, memoryBytes, calibration }) => [
        label,
        engineClass,
        memoryBytes / 1024 ** 3,
        calibration.uploadGBps,
        calibration.downloadGBps,
        calibration.launchMs,
        calibration.gops,
      ]),
      ...unusedAccelerators.map(({ label, reason }) => [`${label}: ${reason}`]),
    ],
  };
  const isReal = accelerators.some(({ isSoftware }) => !isSoftware);
  return { table, hasGpu: accelerators.length > 0, isReal };
}
