/** The race of the demo: a hub and two nodes, each with one worker, against one plain thread with the same kernel. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startNetwork } from "../../../sdk/cli/demo/network.ts";
import { runPlainly } from "../../../sdk/cli/demo/plain-run.ts";
import type { PlainRun } from "../../../sdk/cli/demo/plain-thread.ts";
import { bundleProgram, connect } from "packetfs";
import type { PacketFS } from "packetfs";
import { writeText } from "../corpus.ts";
import { seconds } from "../harness.ts";
import type { Bench, Row } from "../harness.ts";
import { assertSame, countBare } from "./word-count.ts";

const WORD_COUNT = fileURLToPath(new URL("../../../examples/word-count.ts", import.meta.url));
const MANDELBROT = fileURLToPath(new URL("../../../examples/mandelbrot.ts", import.meta.url));
/** Ten rows of the picture. */
const SPLIT_BYTES = 40;

export async function* raceRows({ directory, sizes }: Bench): AsyncGenerator<Row> {
  const network = await startNetwork({ nodes: 2, workers: 1 });
  try {
    await using pfs = await connect(network.clientToken, { node: "node-1" });
    yield await wordCountRow(pfs, join(directory, "race-text"), sizes.raceBytes, sizes.rounds);
    yield await pictureRow(pfs, sizes.raceRows, sizes.rounds);
  } finally {
    await network.stop();
    rmSync(join(directory, "race-text"), { force: true });
  }
}

async function wordCountRow(pfs: PacketFS, text: string, length: number, rounds: number): Promise<Row> {
  writeText(text, length);
  await pfs.put({ path: text }, { name: "text" });
  const expected = await countBare(text, length, 1);
  const megabytes = length / 1e6;
  return {
    question: `word count of ${Math.round(megabytes)} MB by two nodes`,
    unit: "MB/s",
    ours: {
      name: "a hub and two nodes",
      measure: async () => {
        let counted: unknown;
        const took = await seconds(async () => {
          counted = (await pfs.run({ path: WORD_COUNT }, ["text"])).value;
        });
        assertSame(counted as [string, number][], expected);
        return megabytes / took;
      },
    },
    rivals: [
      {
        name: "one plain thread, from a file",
        measure: async () => megabytes / (await seconds(() => countBare(text, length, 1))),
      },
    ],
    rounds,
    goal: { ratio: 1.3 },
  };
}

async function pictureRow(pfs: PacketFS, rows: number, rounds: number): Promise<Row> {
  const records = Array.from({ length: rows }, (_, row) => `${row}`);
  await pfs.put(Buffer.from(`${records.join("\n")}\n`), { name: "rows" });
  const bundle = await bundleProgram({ path: MANDELBROT });
  const task: PlainRun = { code: Buffer.from(bundle.code).toString(), records };
  const expected = await runPlainly(task);
  return {
    question: `${rows} rows of a picture by two nodes`,
    unit: "rows/s",
    ours: {
      name: "a hub and two nodes",
      measure: async () => {
        let root = "";
        const took = await seconds(async () => {
          root = (await pfs.run(bundle, ["rows"], { splitBytes: SPLIT_BYTES })).file!.root;
        });
        const parts: Uint8Array[] = [];
        for await (const part of pfs.get(root)) parts.push(part);
        if (Buffer.compare(Buffer.concat(parts), expected) !== 0)
          throw new Error("the nodes' picture differs from the plain one");
        return rows / took;
      },
    },
    rivals: [
      {
        name: "one plain thread",
        measure: async () => rows / (await seconds(() => runPlainly(task))),
      },
    ],
    rounds,
    goal: { ratio: 1.3 },
  };
}
