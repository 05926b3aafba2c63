/** Packet code over bytes that were read before: by threads, by a GPU that is sent them, by one that has them, and where it is chosen. */
import type { Engine, JobResult, PacketFS } from "../../../sdk/packetfs.ts";
import { parseCode } from "../../../sdk/code/parse.ts";
import { spreadOf } from "../harness.ts";
import type { Findings, Table } from "./report.ts";
import type { StoredFiles } from "./stored-files.ts";
import type { File } from "./workloads.ts";

const PROGRAMS = [
  "histogram()",
  'match("ab")',
  "bytes().mean()",
  'rows(8).filter("u16@6", ">", 999).sum("i64@0")',
];

export interface PacketCodeOptions {
  readonly pfs: PacketFS;
  readonly stored: StoredFiles;
  readonly file: File;
  readonly rounds: number;
  /** Whether there is a GPU that may be used. */
  readonly hasGpu: boolean;
}

export async function runPacketCode(options: PacketCodeOptions): Promise<Findings> {
  const { pfs, stored, file, rounds, hasGpu } = options;
  const root = await stored.rootOf(file);
  const rows: Table["rows"][number][] = [];
  const wrong: string[] = [];
  for (const source of PROGRAMS) {
    const run = async (engine?: Engine): Promise<JobResult> =>
      await pfs.run(parseCode(source), [root], engine === undefined ? {} : { engine });
    /** Of a run that is not counted, and of those behind it: GB/s. */
    const rates = async (engine: Engine): Promise<{ readonly first: number; readonly others: number }> => {
      const all: number[] = [];
      for (let round = 0; round <= rounds; round++) {
        const start = performance.now();
        await run(engine);
        all.push(file.bytes / (performance.now() - start) / 1e6);
      }
      return { first: all[0]!, others: spreadOf(all.slice(1)).median };
    };
    const expected = await run("cpu");
    const byThreads = await rates("cpu");
    if (!hasGpu) {
      rows.push([source, byThreads.others]);
      continue;
    }
    const byGpu = await rates("gpu");
    const { value } = await run("gpu");
    if (JSON.stringify(value, textOf) !== JSON.stringify(expected.value, textOf))
      wrong.push(`${source}: a GPU gives another value than threads`);
    // Once for what a thread takes, where that was not measured yet.
    await run();
    const { kernels = [] } = (await run()).statistics;
    const engines = new Set(kernels.map(({ engine }) => (engine === "gpu" ? "GPU" : "threads")));
    // Small ranges are nothing that anybody chooses for.
    const chosen = engines.size === 0 ? "threads" : [...engines].join(" and ");
    rows.push([source, byThreads.others, byGpu.first, byGpu.others, chosen]);
  }
  const columns = [
    "packet code",
    "threads, GB/s",
    "GPU, first run, GB/s",
    "GPU, bytes resident, GB/s",
    "chosen",
  ];
  return { tables: [{ title: "Packet code, as jobs", columns, rows }], goals: [], wrong };
}

/** JSON has no large integers. */
function textOf(_name: string, value: unknown): unknown {
  return typeof value === "bigint" ? `${value}n` : value;
}
