/** What a GPU's process says of its memory while there is less and less of it. */
import { expect, test } from "vitest";
import { GpuProcess } from "../../../runtime/accelerator/gpu-process.ts";
import { prepareCall } from "../../../runtime/accelerator/prepared-call.ts";
import type { ProcessMessage } from "../../../runtime/accelerator/protocol.ts";
import { noGpu } from "../../suites/gpu.ts";
import { kernelOf } from "./kernels.ts";

const COUNT = 64;
/** It takes so long that there is time to tell its process something. */
const slow = kernelOf({
  inputs: { v: ["u32", "n"] },
  outputs: { w: ["u32", "n"] },
  source: `fn main(@builtin(global_invocation_id) id: vec3u) {
    var word = v[id.x];
    for (var round = 0u; round < 20000000u; round++) { word = (word ^ (word >> 15u)) * 2654435761u; }
    w[id.x] = word;
  }`,
});

test.skipIf(noGpu !== undefined)(
  "an input that is given up as its call ends is said to be there first, and then to be there no longer",
  async () => {
    const started = await GpuProcess.start({
      backend: "vulkan",
      isSoftwareAllowed: true,
      computes: true,
      memoryBytes: 1e8,
    });
    if ("kind" in started) throw new Error(started.reason);
    const { process, ready } = started;
    const bytes = new Uint8Array(4 * COUNT);
    const call = { kernel: slow, dimensions: { n: COUNT }, inputs: [{ bytes }] };
    const { module, uniform, workgroups, buffers, outputs } = prepareCall(call, ready.limits);
    const { promise, resolve } = Promise.withResolvers<void>();
    const said: ProcessMessage[] = [];
    process.onMessage = (message) => {
      if (message.kind === "stage" && message.stage === "kernel") process.tell({ kind: "budget", bytes: 0 });
      if (message.kind !== "done" && message.kind !== "dropped") return;
      said.push(message);
      if (said.length === 2) resolve();
    };
    const run = { kind: "run", call: 0, uniform, workgroups, buffers, outputs } as const;
    const inputs = [{ length: bytes.byteLength, key: "an input" }];
    await process.send([
      { message: { ...run, ...module, inputs } },
      { message: { kind: "piece", call: 0 }, body: bytes },
    ]);
    await Promise.race([promise, process.ended]);
    process.kill();
    expect(said).toMatchObject([
      { kind: "done", kept: ["an input"] },
      { kind: "dropped", keys: ["an input"] },
    ]);
  },
);
