/** Counting words in a stored text with sandboxed programs, against bare worker threads with the same kernel. */
import { once } from "node:events";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { openLocal } from "packetfs";
import { writeText } from "../corpus.ts";
import type { Bench, Row } from "../harness.ts";
import { wc } from "../wc.ts";
import { seconds } from "../harness.ts";

const WORKERS = 2;
const RANGE_BYTES: number = 16 * 1024 * 1024;
/** The same answer, of two kinds of program. */
const PROGRAMS = { TypeScript: "word-count.ts", WebAssembly: "wasm/word-count.wasm" } as const;

export async function* wordCountRows({ directory, sizes }: Bench): AsyncGenerator<Row> {
  using text = await StoredText.make(directory, sizes.textBytes);
  yield { ...text.row("TypeScript", WORKERS, sizes.rounds), goal: { ratio: 0.95 } };
  yield { ...text.row("WebAssembly", WORKERS, sizes.rounds), goal: { ratio: 1.3 } };
}

/** How the rate grows with the size of a file, and with the workers. */
export async function* growthRows({ directory, sizes }: Bench): AsyncGenerator<Row> {
  for (const megabytes of sizes.growthMegabytes) {
    using text = await StoredText.make(directory, megabytes * 1e6);
    for (const workers of sizes.growthWorkers) yield text.row("TypeScript", workers, sizes.rounds);
  }
}

/** A text in a file and in a store, and how often each of its words occurs. */
class StoredText implements Disposable {
  readonly #file: string;
  readonly #store: string;
  readonly #length: number;
  readonly #expected: ReadonlyMap<string, number>;

  private constructor(file: string, store: string, length: number, expected: ReadonlyMap<string, number>) {
    this.#file = file;
    this.#store = store;
    this.#length = length;
    this.#expected = expected;
  }

  static async make(directory: string, length: number): Promise<StoredText> {
    const file = join(directory, "text");
    const store = join(directory, "text-store");
    writeText(file, length);
    await using pfs = await openLocal(store);
    await pfs.put({ path: file }, { name: "text" });
    return new StoredText(file, store, length, await countBare(file, length, WORKERS));
  }

  /** `kind` is what the sandboxed kernel is written in; the bare one is in TypeScript. */
  row(kind: keyof typeof PROGRAMS, workers: number, rounds: number): Row {
    const program = { path: fileURLToPath(new URL(`../../../examples/${PROGRAMS[kind]}`, import.meta.url)) };
    const megabytes = this.#length / 1e6;
    return {
      question: `word count in ${kind}, ${Math.round(megabytes)} MB, ${workers} ${workers === 1 ? "worker" : "workers"}`,
      unit: "MB/s",
      ours: {
        name: "sandboxed, from the store",
        measure: async () => {
          await using opened = await openLocal(this.#store, { workers });
          let counted: unknown;
          const time = await seconds(async () => {
            counted = (await opened.run(program, ["text"])).value;
          });
          assertSame(counted as [string, number][], this.#expected);
          return megabytes / time;
        },
      },
      rivals: [
        {
          name: "bare worker_threads",
          measure: async () =>
            megabytes / (await seconds(() => countBare(this.#file, this.#length, workers))),
        },
        ...wc("-w", this.#file, megabytes),
      ],
      rounds,
    };
  }

  [Symbol.dispose](): void {
    rmSync(this.#file);
    rmSync(this.#store, { recursive: true });
  }
}

/** With the kernel of examples/word-count.ts, in threads that read ranges of the file themselves. */
export async function countBare(path: string, length: number, workers: number): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  let next = 0;
  await Promise.all(
    Array.from({ length: workers }, async () => {
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

export function assertSame(
  counted: readonly [string, number][],
  expected: ReadonlyMap<string, number>,
): void {
  const same =
    counted.length === expected.size && counted.every(([word, count]) => expected.get(word) === count);
  if (!same) throw new Error("the sandboxed word count differs from the bare one");
}
