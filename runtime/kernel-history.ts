/** What calls of kernels took on this machine, kept beside its store: later ones are computed where they were fastest. */
import { readFile } from "node:fs/promises";
import * as v from "valibot";
import { replaceFile } from "./durable-file.ts";
import { KERNEL_AVERAGES_MAX } from "./limits.ts";
import { KernelAverages } from "./program/kernel/averages.ts";
import type { KeptAverage } from "./program/kernel/averages.ts";

/** Its name in a store's directory. Without it nothing was measured yet. */
export const KERNEL_HISTORY_FILE = "kernels.json";

const measured = v.pipe(v.number(), v.finite(), v.minValue(0));
const text = v.pipe(v.string(), v.maxLength(64));
const history = v.object({
  averages: v.pipe(
    v.array(
      v.object({ kernel: text, engineClass: text, bucket: measured, value: measured, calls: measured }),
    ),
    v.maxLength(KERNEL_AVERAGES_MAX),
  ),
});

export class KernelHistory {
  readonly #file: string;
  /** What it knows, and is told: `keep` has it remembered. */
  readonly averages: KernelAverages;
  #last: Promise<void> = Promise.resolve();
  /** `additions` of what is written, or about to be. */
  #kept = 0;
  /** Whether a write is to come that will have all that is known by then. */
  #isQueued = false;

  private constructor(file: string, averages: KernelAverages) {
    this.#file = file;
    this.averages = averages;
  }

  /** Never rejects: without a file, or with a damaged one, nothing is known. */
  static async open(file: string): Promise<KernelHistory> {
    return new KernelHistory(file, new KernelAverages(await averagesIn(file)));
  }

  /** Resolves when what is known now is on the disk, at once where nothing was added. A file that cannot be written costs the memory, and nothing else. */
  async keep(): Promise<void> {
    if (!this.#isQueued && this.averages.additions > this.#kept) {
      this.#isQueued = true;
      this.#last = this.#last
        .then(() => this.#write())
        .catch(() => {
          // It is written again when it is asked for the next time: there may be room by then.
          this.#kept = 0;
        });
    }
    await this.#last;
  }

  async #write(): Promise<void> {
    this.#isQueued = false;
    this.#kept = this.averages.additions;
    await replaceFile(this.#file, `${JSON.stringify({ averages: this.averages.kept() })}\n`);
  }
}

async function averagesIn(file: string): Promise<readonly KeptAverage[]> {
  try {
    return v.parse(history, JSON.parse(await readFile(file, "utf8"))).averages;
  } catch {
    return [];
  }
}
