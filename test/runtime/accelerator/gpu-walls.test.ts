/** What native code in a GPU process can do. */
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { GpuProcess, standingGpuWalls } from "../../../runtime/accelerator/gpu-process.ts";
import { noGpu } from "../../suites/gpu.ts";
import { temporaryDirectory } from "../store/store-fixture.ts";

const MAIN = fileURLToPath(new URL("./walls-probe.mjs", import.meta.url));
/** Its edition; none, or not a number, where there is no Landlock or no Perl. */
const { stdout } = await promisify(execFile)("perl", ["-e", "print syscall(444, 0, 0, 1)"]).catch(() => ({
  stdout: "",
}));
const landlock = Number(stdout);

test.skipIf(!(landlock >= 4))("is to read chunks, and no more of anybody's", async () => {
  await using directory = await temporaryDirectory();
  const [people, store] = ["people", "store"].map((name) => join(directory.path, name));
  for (const folder of [people!, store!]) mkdirSync(folder);
  const [secret, chunks] = [join(people!, "key"), join(store!, "chunks")];
  for (const file of [secret, chunks]) writeFileSync(file, "bytes");
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const options = {
    backend: JSON.stringify({ secret, chunks, port }),
    isSoftwareAllowed: true,
    computes: true,
    memoryBytes: 0,
  };
  const said = await GpuProcess.start(options, { main: MAIN, reads: [store!] });
  server.close();
  expect("kind" in said && (JSON.parse(said.reason) as unknown)).toEqual({
    "read a person's file": false,
    "read /etc/passwd": false,
    "load webgpu": true,
    "read chunks": true,
    "change chunks": false,
    "write a file": false,
    "write to its window": true,
    "read the node's environment": false,
    "open a disk, a terminal, or memory of others": false,
    "use /dev/null": true,
    "become another program": false,
    "reach another process by TCP": false,
  });
});

test.skipIf(!(landlock >= 4) || noGpu !== undefined)(
  "does not keep one from finding its driver",
  async () => {
    const started = await GpuProcess.start({
      backend: "vulkan",
      isSoftwareAllowed: true,
      computes: true,
      memoryBytes: 1e8,
    });
    if ("kind" in started) throw new Error(started.reason);
    started.process.kill();
    expect(standingGpuWalls()).toContain("Landlock");
  },
);
