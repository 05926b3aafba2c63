/** Counting words in a stored text with sandboxed programs, against bare worker threads with the same kernel. */
import { once } from "node:events";
import { statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { openLocal } from "../../../sdk/index.ts";
import type { Row } from "../harness.ts";
import { seconds } from "../harness.ts";

const WORKERS = 2;
const RANGE_BYTES: number = 16 * 1024 * 1024;
/** The same answer, of two kinds of program. */
const PROGRAMS = { TypeScript: "word-count.ts", WebAssembly: "wasm/word-count.wasm" } as const;

/** `kind` is what the sandboxed kernel is written in; the bare one is in TypeScript. */
export async function wordCountRow(
  store: string,
  text: string,
  rounds: number,
  kind: keyof typeof PROGRAMS = "TypeScript",
): Promise<Row> {
  const program = { path: fileURLToPath(new URL(`../../../examples/${PROGRAMS[kind]}`, import.meta.url)) };
  const length = statSync(text).size;
  const megabytes = length / 1e6;
  const pfs = await openLocal(store, { workers: WORKERS });
  await pfs.put({ path: text }, { name: "text" });
  await pfs.close();
  const expected = await countBare(text, length);
  return {
    question: `word count in ${kind}, ${Math.round(length / 2 ** 20)} MiB, 2 workers`,
    unit: "MB/s",
    ours: {
      name: "sandboxed, from the store",
      measure: async () => {
        await using opened = await openLocal(store, { workers: WORKERS });
        let counted: unknown;
        const time = await seconds(async () => {
          counted = (await opened.run(program, ["text"])).value;
        });
        assertSame(counted as [string, number][], expected);
        return megabytes / time;
      },
    },
    rivals: [
      {
        name: "bare worker_threads",
        measure: async () => megabytes / (await seconds(() => countBare(text, length))),
      },
    ],
    rounds,
    goal: { ratio: 0.7 },
  };
}

async function countBare(path: string, length: number): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  let next = 0;
  await Promise.all(
    Array.from({ length: WORKERS }, async () => {
      const worker = new Worker(new URL("../bare-worker.ts", import.meta.url), {
        workerData: { path, length },
      });
      while (next < length) {
        const range = [next, Math.min(length, (next += RANGE_BYTES))];
        worker.postMessage(range);
        const [entries] = (await once(worker, "message")) as [[string, number][]];
        for (const [word, count] of entries) counts.set(word, (counts.get(word) ?? 0) + count);
      }
      await worker.terminate();
    }),
  );
  return counts;
}

function assertSame(counted: readonly [string, number][], expected: ReadonlyMap<string, number>): void {
  const same =
    counted.length === expected.size && counted.every(([word, count]) => expected.get(word) === count);
  if (!same) throw new Error("the sandboxed word count differs from the bare one");
}
