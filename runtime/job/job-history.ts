/** Finished jobs, kept beside the store so that people can ask for them later: a JSON line each, the last ones only. */
import { appendFile, readFile } from "node:fs/promises";
import * as v from "valibot";
import { PRIVATE_FILE_MODE, replaceFile } from "../durable-file.ts";
import { JOBS_REMEMBERED } from "../limits.ts";
import { kernelReportsSchema } from "../program/kernel/reports.ts";
import type { JobInfo } from "../contracts/jobs.ts";

/** Its name in a store's directory. */
export const JOB_HISTORY_FILE = "jobs.jsonl";

const line = v.object({
  job: v.string(),
  program: v.string(),
  state: v.picklist(["done", "failed", "cancelled"]),
  startedAt: v.number(),
  milliseconds: v.number(),
  done: v.number(),
  tasks: v.number(),
  error: v.exactOptional(
    v.object({ code: v.string(), message: v.string(), data: v.record(v.string(), v.any()) }),
  ),
  kernels: v.exactOptional(kernelReportsSchema),
});

export class JobHistory {
  readonly #file: string;
  #last: Promise<void> = Promise.resolve();
  #lines: number | undefined;

  constructor(file: string) {
    this.#file = file;
  }

  /** Remembers a job that has ended. A file that cannot be written costs the memory of the job, not the job. */
  add(info: JobInfo): Promise<void> {
    this.#last = this.#last
      .then(() => this.#add(info))
      .catch(() => {
        // A part of its line may be there, which the next one must not stand behind.
        this.#lines = undefined;
      });
    return this.#last;
  }

  /** The jobs that `jobs` knows and that are not in the file yet, then those in it, the newest first. Damaged lines are left out. */
  async list(jobs?: { jobs(): JobInfo[] }): Promise<JobInfo[]> {
    // Asked before the file is read, so that a job which ends meanwhile is in one of them at least.
    const known = jobs?.jobs() ?? [];
    await this.#last;
    const kept = jobsIn(await this.#text()).toReversed();
    const inFile = new Set(kept.map(({ job }) => job));
    return [...known.filter(({ job }) => !inFile.has(job)), ...kept.slice(0, JOBS_REMEMBERED)];
  }

  async #add(info: JobInfo): Promise<void> {
    let begin = "";
    if (this.#lines === undefined) {
      const text = await this.#text();
      this.#lines = jobsIn(text).length;
      // Behind a line that was being written when its process was killed, this one would be lost with it.
      if (text !== "" && !text.endsWith("\n")) begin = "\n";
    }
    await appendFile(this.#file, `${begin}${JSON.stringify(info)}\n`, { mode: PRIVATE_FILE_MODE });
    if (++this.#lines <= 2 * JOBS_REMEMBERED) return;
    const kept = jobsIn(await this.#text()).slice(-JOBS_REMEMBERED);
    await replaceFile(this.#file, kept.map((job) => `${JSON.stringify(job)}\n`).join(""));
    this.#lines = kept.length;
  }

  #text(): Promise<string> {
    return readFile(this.#file, "utf8").catch(() => "");
  }
}

function jobsIn(text: string): JobInfo[] {
  return text.split("\n").flatMap((json) => {
    try {
      return [v.parse(line, JSON.parse(json)) as JobInfo];
    } catch {
      return [];
    }
  });
}
