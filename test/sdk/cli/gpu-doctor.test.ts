/** pfs doctor runs a kernel wherever it is asked, and says which GPUs there are for kernels, or why there are none. */
import { describe, expect, it } from "vitest";
import type { Check } from "../../../sdk/cli/doctor/check.ts";
import { noGpu } from "../../suites/gpu.ts";
import { pfs, temporaryDirectory } from "./run-pfs.ts";

async function kernelChecks(environment: Readonly<Record<string, string>> = {}): Promise<Check[]> {
  const cwd = await temporaryDirectory();
  const { out, status } = await pfs(["doctor", "--json"], {
    environment: { PACKETFS_STORE: `${cwd}/store`, ...environment },
  });
  expect(status).toBe(0);
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
