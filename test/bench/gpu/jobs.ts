/** Jobs of workloads, and how long they take. */
import type { Engine, JobResult, PacketFS } from "../../../sdk/packetfs.ts";
import { spreadOf } from "../harness.ts";
import type { StoredFiles } from "./stored-files.ts";
import type { Answer, Work } from "./workloads.ts";

/** What the runs of one workload on one engine took. */
export interface Timed {
  /** From the call of `run` to its answer: the median. */
  readonly seconds: number;
  /** Of the calls of kernels of the last one, all together. */
  readonly callSeconds: number;
  /** What computed those. */
  readonly engine: string;
}

export class Jobs {
  readonly #pfs: PacketFS;
  readonly #stored: StoredFiles;

  constructor(pfs: PacketFS, stored: StoredFiles) {
    this.#pfs = pfs;
    this.#stored = stored;
  }

  /** `engine`: as it is chosen, where it is undefined. */
  async run(program: string, work: Work, engine: Engine | undefined): Promise<JobResult> {
    const input = await this.#stored.rootOf(work.input);
    const files: Record<string, string> = {};
    for (const [name, file] of Object.entries(work.files)) files[name] = await this.#stored.rootOf(file);
    return await this.#pfs.run({ path: program }, [input], {
      files,
      ...(engine === undefined ? {} : { engine }),
    });
  }

  async answerOf({ value, file }: JobResult): Promise<Answer> {
    const pieces: Uint8Array[] = [];
    if (file !== undefined) for await (const piece of this.#pfs.get(file.root)) pieces.push(piece);
    return { value, bytes: Uint8Array.from(Buffer.concat(pieces)) };
  }

  /**
   * Runs it `rounds` times, behind `before`, which is not counted: a program is loaded then, and a GPU has what it keeps
   * where that is the same work.
   */
  async time(
    program: string,
    work: Work,
    engine: Engine | undefined,
    rounds: number,
    before: Work = work,
  ): Promise<Timed> {
    await this.run(program, before, engine);
    const runs: Timed[] = [];
    for (let round = 0; round < rounds; round++) {
      const start = performance.now();
      const { statistics } = await this.run(program, work, engine);
      const seconds = (performance.now() - start) / 1000;
      const kernels = statistics.kernels ?? [];
      const callSeconds = kernels.reduce((sum, { measuredMs }) => sum + measuredMs / 1000, 0);
      const engines = [...new Set(kernels.map((kernel) => kernel.engine))];
      runs.push({ seconds, callSeconds, engine: engines.join(" and ") });
    }
    const { median } = spreadOf(runs.map(({ seconds }) => seconds));
    return { ...runs.at(-1)!, seconds: median };
  }
}
