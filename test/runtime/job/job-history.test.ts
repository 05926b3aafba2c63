import { appendFile, mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { JobHistory } from "../../../runtime/job/job-history.ts";
import type { JobInfo } from "../../../runtime/contracts/jobs.ts";
import { JOBS_REMEMBERED } from "../../../runtime/limits.ts";

let directory: string;
let file: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "pfs-history-"));
  file = join(directory, "jobs.jsonl");
});
afterEach(async () => await rm(directory, { recursive: true }));

function ended(job: string, state: JobInfo["state"] = "done"): JobInfo {
  return { job, program: "p.ts", state, startedAt: 1, milliseconds: 2, done: 3, tasks: 3 };
}

describe("the history of jobs", () => {
  it("is empty before there is a file", async () => {
    expect(await new JobHistory(file).list()).toEqual([]);
  });

  it("tells another process what ended, the newest first, behind what runs", async () => {
    const history = new JobHistory(file);
    await history.add(ended("a"));
    await history.add({ ...ended("b", "failed"), error: { code: "PFS_X", message: "m", data: { task: 1 } } });
    const jobs = { jobs: () => [ended("c", "running"), ended("b", "failed")] };
    const listed = await new JobHistory(file).list(jobs);
    expect(listed.map(({ job }) => job)).toEqual(["c", "b", "a"]);
    expect(listed[1]!.error?.code).toBe("PFS_X");
  });

  it("tells of a job that has ended and whose line is not written yet, and tells of none twice", async () => {
    const history = new JobHistory(file);
    await history.add(ended("a"));
    const states: JobInfo["state"][] = ["cancelled", "running"];
    for (const state of states) {
      const jobs = { jobs: () => [ended("b", state), ended("a")] };
      const listed = await history.list(jobs);
      expect(listed.map(({ job, state }) => [job, state])).toEqual([
        ["b", state],
        ["a", "done"],
      ]);
    }
    const jobs = {
      jobs: () => {
        void history.add(ended("b", "cancelled"));
        return [ended("b", "running")];
      },
    };
    expect((await history.list(jobs)).map(({ job, state }) => [job, state])).toEqual([
      ["b", "cancelled"],
      ["a", "done"],
    ]);
  });

  it("tells what computed the kernels of jobs, and leaves out what says nonsense of them", async () => {
    const kernels = [
      {
        kernel: "k",
        engine: "gpu",
        engineClass: "nvidia-0123456789ab",
        calls: 2,
        measuredMs: 1.5,
        predictedMs: 1,
        reason: "r",
      },
    ] as const;
    const history = new JobHistory(file);
    await history.add({ ...ended("a"), kernels });
    await appendFile(file, `${JSON.stringify({ ...ended("b"), kernels: [{ ...kernels[0], calls: -1 }] })}\n`);
    expect(await new JobHistory(file).list()).toEqual([{ ...ended("a"), kernels }]);
  });

  it("keeps a line behind one that was being written when its process was killed", async () => {
    await new JobHistory(file).add(ended("a"));
    await appendFile(file, '{"job":"to');
    await new JobHistory(file).add(ended("b"));
    expect((await new JobHistory(file).list()).map(({ job }) => job)).toEqual(["b", "a"]);
  });

  it("leaves damaged lines out and goes on", async () => {
    const history = new JobHistory(file);
    await history.add(ended("a"));
    await appendFile(file, '{"job":"torn\n{"job":5}\n');
    await history.add(ended("b"));
    expect((await history.list()).map(({ job }) => job)).toEqual(["b", "a"]);
  });

  it("does not grow without end", async () => {
    const history = new JobHistory(file);
    for (let job = 0; job < 3 * JOBS_REMEMBERED; job++) await history.add(ended(`j${job}`));
    expect((await history.list())[0]!.job).toBe(`j${3 * JOBS_REMEMBERED - 1}`);
    const lines = (await readFile(file, "utf8")).trim().split("\n");
    expect(lines.length).toBeLessThanOrEqual(2 * JOBS_REMEMBERED);
  });

  it.skipIf(process.platform === "win32")("is its user's alone, as the results are", async () => {
    await new JobHistory(file).add(ended("a"));
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  it("does not fail a job when the file cannot be written", async () => {
    await new JobHistory(join(directory, "nowhere", "jobs.jsonl")).add(ended("a"));
  });
});
