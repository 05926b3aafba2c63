/** An executor whose kernels run on a GPU is an executor like the others, of programs that depend on it. */
import { expect, it } from "vitest";
import type { Lane } from "../../../runtime/contracts/executor.ts";
import { findAccelerators } from "../../../runtime/accelerator/accelerators.ts";
import type { Accelerator } from "../../../runtime/contracts/kernels.ts";
import { guestEdition } from "../../../runtime/sandbox/edition.ts";
import type { Store } from "../../../runtime/store/store.ts";
import { Collector } from "../../suites/collector.ts";
import { describeExecutor, ECHO } from "../../suites/executor.ts";
import { noGpu } from "../../suites/gpu.ts";
import { programCode } from "../../program-code.ts";
import { HeldAccelerator, INFO } from "../engine/kernels.ts";
import { LocalHarness } from "./local-harness.ts";

function open(): Promise<LocalHarness> {
  return LocalHarness.open({ openGpu: async () => new HeldAccelerator() });
}

describeExecutor("an executor with a GPU", () =>
  noGpu === undefined ? LocalHarness.open({ openGpu: findGpu }) : open(),
);

async function findGpu(store: Store): Promise<Accelerator> {
  const { accelerators } = await findAccelerators({ source: store, places: store, isSoftwareUsed: true });
  return accelerators[0]!;
}

it("is of an edition of its own, for programs that depend on the GPU alone", async () => {
  const gpu = await open();
  const { capacity, edition, accelerator } = gpu.executor;
  expect({ capacity, edition, accelerator }).toEqual({
    capacity: { kernel: 2 },
    edition: `${guestEdition()}-${INFO.engineClass}`,
    accelerator: INFO,
  });
  await gpu.close();
});

it("loads no program of another kind, and executors on CPUs load both", async () => {
  const [gpu, cpu] = [await open(), await LocalHarness.open()];
  const { signal } = new AbortController();
  const load = (from: LocalHarness, at: LocalHarness): Promise<Lane> => loadOf(from, at, signal);
  await expect(load(cpu, gpu)).rejects.toMatchObject({ code: "PFS_PROGRAM_INVALID" });
  for (const from of [gpu, cpu]) await (await load(from, cpu)).close();
  expect(gpu.lanes.info(1).open + cpu.lanes.info(1).open).toBe(0);
  await gpu.close();
  await cpu.close();
});

/** A lane at one of them of a program as the other has it. */
async function loadOf(from: LocalHarness, at: LocalHarness, signal: AbortSignal): Promise<Lane> {
  const manifest = await from.readChunk(await from.putProgram(ECHO));
  await at.putFile(programCode(ECHO));
  return await at.executor.load(await at.putChunk(manifest), new Collector(), signal);
}
