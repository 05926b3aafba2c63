/** A machine whose driver hangs: a pipe that nobody writes to stands where the driver's manifest does. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connect } from "../../sdk/index.ts";
import { temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { noGpu } from "../suites/gpu.ts";
import { gpuProcessesOf } from "../suites/processes.ts";
import { outputSync } from "../suites/run-sync.ts";
import { until } from "../suites/until.ts";
import { joinNode, startHub } from "./daemon.ts";
import type { HubDaemon } from "./daemon.ts";

describe.skipIf(noGpu !== undefined)("a machine whose driver hangs", () => {
  let hub: HubDaemon;
  let environment: Record<string, string>;

  beforeAll(async () => {
    hub = await startHub();
    const driver = join(await temporaryDirectory(), "hanging.json");
    outputSync("mkfifo", [driver]);
    environment = { VK_DRIVER_FILES: driver };
  });
  afterAll(() => hub?.end("SIGTERM"));

  it("joins, computes and leaves while it looks for GPUs", async () => {
    const node = await joinNode(hub.joinToken, "patient", { environment });
    await until(() => gpuProcessesOf(node.pid).length > 0);
    const [looking] = gpuProcessesOf(node.pid);
    await using network = await connect(hub.clientToken);
    await network.put(Buffer.from("one\ntwo\n"), { name: "lines" });
    const source = `import { defineProgram, lines } from "packetfs";
      export default defineProgram({ input: lines(), map: () => 1, combine: (a, b) => a + b });`;
    expect((await network.run({ source }, ["lines"])).value).toBe(2);
    expect(await network.nodes()).toMatchObject([{ role: "hub" }, { label: "patient", accelerators: [] }]);
    // It is the first that looks still.
    expect(gpuProcessesOf(node.pid)).toEqual([looking]);
    expect((await node.end("SIGTERM")).status).toBe(0);
    expect(gpuProcessesOf(node.pid)).toEqual([]);
  });
});
