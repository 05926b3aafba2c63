/** What memory a GPU is said to have, by the tool that tells it. */
import { chmod, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { memoryOf } from "../../../runtime/accelerator/gpu-memory-size.ts";
import { GPU_MEMORY_SHARE, GPU_MEMORY_UNKNOWN_BYTES } from "../../../runtime/limits.ts";
import { temporaryDirectory } from "../store/store-fixture.ts";

const path = process.env["PATH"];
afterEach(() => {
  process.env["PATH"] = path;
});

const adapter = {
  vendor: "nvidia",
  architecture: "",
  device: "",
  description: "",
  isSoftware: false,
  runtime: "",
};
const GIBIBYTE = 1024 ** 3;

async function saying(text: string): Promise<AsyncDisposable> {
  const directory = await temporaryDirectory();
  const tool = join(directory.path, "nvidia-smi");
  await writeFile(tool, `#!/bin/sh\nprintf '${text}'\n`);
  await chmod(tool, 0o755);
  process.env["PATH"] = `${directory.path}${delimiter}${path}`;
  return directory;
}

test.skipIf(process.platform === "win32")(
  "a card has what one of its name has, the least of them",
  async () => {
    await using _tool = await saying("16384, RTX A4000\\n98304, NVIDIA H100\\n81920, NVIDIA H100\\n");
    expect(await memoryOf(adapter, "NVIDIA H100")).toBe(80 * GIBIBYTE * GPU_MEMORY_SHARE);
    expect(await memoryOf(adapter, "RTX A4000")).toBe(16 * GIBIBYTE * GPU_MEMORY_SHARE);
    // A driver that calls it otherwise leaves the least of all.
    expect(await memoryOf(adapter, "GA104")).toBe(16 * GIBIBYTE * GPU_MEMORY_SHARE);
  },
);

test.skipIf(process.platform === "win32")("a tool that says nothing leaves what any has", async () => {
  await using _tool = await saying("no devices were found\\n");
  expect(await memoryOf(adapter, "NVIDIA H100")).toBe(GPU_MEMORY_UNKNOWN_BYTES);
});
