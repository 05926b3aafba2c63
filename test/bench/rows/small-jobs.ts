/** What a small job costs besides its work: CPU time of a command, and how many jobs follow each other in a second. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { once } from "node:events";
import { startNetwork } from "../../../sdk/cli/demo/network.ts";
import { connect, openLocal } from "packetfs";
import type { PacketFS } from "packetfs";
import { cpuSecondsOf } from "../cpu-time.ts";
import { seconds } from "../harness.ts";
import type { Bench, Row, Side } from "../harness.ts";
import { InstalledPackage } from "../installed.ts";

const PROGRAM = fileURLToPath(new URL("../../../examples/word-count.ts", import.meta.url));
const INPUT_BYTES = 100_000;

export async function* smallJobRows({ directory, sizes }: Bench): AsyncGenerator<Row> {
  const { commands, jobs, rounds } = sizes;
  const store = join(directory, "jobs-store");
  const text = join(directory, "jobs-text");
  writeFileSync(text, "the quick brown fox\n".repeat(INPUT_BYTES / 20));
  using installed = new InstalledPackage();
  const pfs = (...words: string[]): string[] => [installed.main, "--quiet", "--store", store, ...words];
  await cpuSecondsOf(process.execPath, pfs("put", text, "--name", "text"));
  // From now on its types are known to be right.
  await cpuSecondsOf(process.execPath, pfs("run", PROGRAM, "text"));
  const node = commandCpu("Node, started and ended", ["-e", "0"], commands);
  yield {
    question: "pfs run of 100 kB, types known",
    unit: "CPU s",
    ours: commandCpu(`mean of ${commands}`, pfs("run", PROGRAM, "text"), commands),
    rivals: [node],
    rounds,
    goal: { figureMax: 0.4 },
  };
  yield {
    question: "pfs ls",
    unit: "CPU s",
    ours: commandCpu(`mean of ${commands}`, pfs("ls"), commands),
    rivals: [node],
    rounds,
    goal: { figureMax: 0.1 },
  };
  {
    await using local = await openLocal(store);
    yield backToBack("small jobs one after the other, embedded", local, jobs, rounds);
  }
  const network = await startNetwork({ nodes: 1, workers: 2 });
  try {
    await using remote = await connect(network.clientToken);
    await remote.put({ path: text }, { name: "text" });
    yield backToBack("small jobs one after the other, hub and node", remote, jobs, rounds);
  } finally {
    await network.stop();
  }
}

/** The kernel counts it in hundredths of a second, so that one command would say little. */
function commandCpu(name: string, words: readonly string[], commands: number): Side {
  return {
    name,
    measure: async () => {
      let sum = 0;
      for (let done = 0; done < commands; done++) sum += await cpuSecondsOf(process.execPath, words);
      return sum / commands;
    },
  };
}

function backToBack(question: string, pfs: PacketFS, jobs: number, rounds: number): Row {
  const run = async (): Promise<void> => {
    await pfs.run({ path: PROGRAM }, ["text"]);
  };
  return {
    question,
    unit: "jobs/s",
    ours: {
      name: "the same program each time",
      measure: async () => {
        // What is kept from job to job is made by the first.
        await run();
        return await perSecond(jobs, run);
      },
    },
    rivals: [{ name: "a bare thread started for each", measure: () => perSecond(jobs, startThread) }],
    rounds,
    goal: { figureMin: 30 },
  };
}

async function perSecond(jobs: number, run: () => Promise<void>): Promise<number> {
  const took = await seconds(async () => {
    for (let done = 0; done < jobs; done++) await run();
  });
  return jobs / took;
}

async function startThread(): Promise<void> {
  const worker = new Worker(`require("node:worker_threads").parentPort.postMessage(1)`, { eval: true });
  await once(worker, "message");
  await worker.terminate();
}
