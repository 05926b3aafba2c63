/** pfs doctor runs a kernel wherever it is asked, and says which GPUs there are for kernels, or why there are none. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { GPU_HISTORY_FILE, GpuHistory } from "../../../runtime/gpu-history.ts";
import { startedDriverDigest } from "../../../runtime/accelerator/vulkan-files.ts";
import type { Check } from "../../../sdk/cli/doctor/check.ts";
import { noGpu } from "../../suites/gpu.ts";
import { pfs, temporaryDirectory } from "./run-pfs.ts";

async function kernelChecks(environment: Readonly<Record<string, string>> = {}): Promise<Check[]> {
  const cwd = await temporaryDirectory();
  const { out, status } = await pfs(["doctor", "--json"], {
    environment: { PACKETFS_STORE: `${cwd}/store`, ...environment },
  });
  // No store that is made of one file is whole.
  if (environment["PACKETFS_STORE"] === undefined) expect(status).toBe(0);
  const { checks } = JSON.parse(out) as { checks: Check[] };
  return checks.filter(({ topic }) => topic === "kernels");
}

const RUNS = { name: "a kernel", state: "ok", found: "runs" };

describe("doctor", () => {
  it("runs a kernel, and says what there is for it, whatever that is", async () => {
    const [kernel, ...gpus] = await kernelChecks();
    expect(kernel).toMatchObject(RUNS);
    expect(gpus).not.toEqual([]);
    for (const gpu of gpus)
      expect(gpu).toMatchObject({
        name: "GPU",
        state: "ok",
        found: expect.stringMatching(/of memory|used: ./),
      });
  });

  it("looks for GPUs though a driver hung before, and forgets that it did where it does not now", async () => {
    const store = join(await temporaryDirectory(), "store");
    await mkdir(store);
    const file = join(store, GPU_HISTORY_FILE);
    const drivers = startedDriverDigest();
    const history = await GpuHistory.open(file);
    history.hung("", drivers);
    await history.keep();
    expect((await GpuHistory.open(file)).hungAgoMs("", drivers)).toBeGreaterThanOrEqual(0);
    await kernelChecks({ PACKETFS_STORE: store });
    expect((await GpuHistory.open(file)).hungAgoMs("", drivers)).toBeUndefined();
  });

  it.skipIf(noGpu !== undefined)("says what was measured of a GPU that is used", async () => {
    const [kernel, gpu, walls] = await kernelChecks({ PACKETFS_GPU_SOFTWARE: "1" });
    expect(walls).toMatchObject({
      name: "GPU process",
      found: expect.stringMatching(/^behind empty environment/),
    });
    expect(kernel).toMatchObject(RUNS);
    expect(gpu!.found).toMatch(/: .*B of memory, .*\/s there and .*\/s back, .*s for a call, [\d,]+ Gop\/s$/);
  });
});
