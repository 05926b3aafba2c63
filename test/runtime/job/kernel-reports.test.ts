/** What people are told of what computed a job's kernels. */
import { expect, test } from "vitest";
import type { KernelUse } from "../../../runtime/contracts/kernels.ts";
import type { EnginePlan } from "../../../runtime/job/engine-choice.ts";
import { KernelReports } from "../../../runtime/job/kernel-reports.ts";
import { KERNEL_REPORTS_MAX } from "../../../runtime/limits.ts";

const kernels = [{ name: "scores" }, { name: "counts" }];
const option = { edition: "v8", engine: "cpu", engineClass: "cpu", label: "CPUs", lanes: 4 } as const;
const plan: EnginePlan = { option, reason: "there is no GPU that is faster", callMs: new Map([[0, 2]]) };

function use(fields: Partial<KernelUse>): KernelUse {
  const of = { kernel: 0, engine: "cpu", engineClass: "cpu" } as const;
  return { ...of, bucket: 1024, calls: 2, milliseconds: 5, reason: "its own", ...fields };
}

test("what the job was planned on has the plan's reason, and what runs elsewhere all the same its own", () => {
  const reports = new KernelReports(kernels);
  reports.add(use({}), plan);
  reports.add(use({ milliseconds: 2.25 }), plan);
  const exact = { kernel: 1, engine: "gpu", engineClass: "nvidia-00", predictedMs: 7 } as const;
  reports.add(use({ ...exact, reason: "a CPU would take 2s" }), plan, (name) =>
    name === "nvidia-00" ? "NVIDIA H200" : undefined,
  );
  expect(reports.all().kernels).toEqual([
    {
      kernel: "scores",
      engine: "cpu",
      engineClass: "cpu",
      calls: 4,
      measuredMs: 7.25,
      predictedMs: 8,
      reason: "there is no GPU that is faster",
    },
    {
      kernel: "counts",
      engine: "gpu",
      engineClass: "nvidia-00",
      label: "NVIDIA H200",
      calls: 2,
      measuredMs: 5,
      predictedMs: 7,
      reason: "a CPU would take 2s",
    },
  ]);
});

test("of kernels that the program lacks, of no calls and of very many classes nothing is told", () => {
  const reports = new KernelReports(kernels);
  reports.add(use({ kernel: 2 }), undefined);
  reports.add(use({ calls: 0 }), undefined);
  expect(reports.all()).toEqual({});
  for (let index = 0; index < KERNEL_REPORTS_MAX + 1; index++)
    reports.add(use({ engineClass: `class-${index}` }), undefined);
  expect(reports.all().kernels).toHaveLength(KERNEL_REPORTS_MAX);
});
