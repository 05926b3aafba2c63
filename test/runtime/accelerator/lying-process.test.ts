/** A GPU process that was taken over harms no more than the call that it was given. */
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { CallInputs } from "../../../runtime/accelerator/call-inputs.ts";
import { GpuAccelerator } from "../../../runtime/accelerator/gpu-accelerator.ts";
import { GpuProcess } from "../../../runtime/accelerator/gpu-process.ts";
import type { Accelerator } from "../../../runtime/contracts/kernels.ts";
import { failure } from "../store/store-fixture.ts";
import { mix } from "./kernels.ts";

const MAIN = fileURLToPath(new URL("./lying-process.mjs", import.meta.url));
const source = { read: (): Promise<never> => Promise.reject(new Error("no chunks here")) };
const call = { kernel: mix, dimensions: { n: 10 }, inputs: [{ bytes: new Uint8Array(40) }] };

async function open(manner: string): Promise<Accelerator> {
  const options = {
    backend: manner,
    isSoftwareAllowed: true,
    computes: true,
    memoryBytes: 1e6,
  };
  const first = await GpuProcess.start(options, { main: MAIN });
  if ("kind" in first) throw new Error(first.reason);
  return new GpuAccelerator({
    info: {
      label: manner,
      engineClass: "v-0",
      isSoftware: true,
      memoryBytes: 1e6,
      calibration: { uploadGBps: 1, downloadGBps: 1, launchMs: 1, gops: 1 },
    },
    // No other starts: there is no such backend.
    process: options,
    first,
    inputs: new CallInputs(source, undefined),
  });
}

test.each(["more", "less", "noise", "strange", "silence"])(
  "that answers with %s is ended, and its call with it",
  async (manner) => {
    await using gpu = await open(manner);
    const error = await failure(gpu.run(call, new AbortController().signal));
    expect(error).toMatchObject({ code: "PFS_ACCELERATOR_LOST" });
  },
);

test("that no other follows has its GPU run no calls any more, which says why", async () => {
  await using gpu = await open("silence");
  const { signal } = new AbortController();
  // Two of them: the second waits for a process that never comes.
  const errors = await Promise.all([failure(gpu.run(call, signal)), failure(gpu.run(call, signal))]);
  for (const error of errors) expect(error).toMatchObject({ code: "PFS_ACCELERATOR_LOST" });
  const reason = await gpu.gone;
  expect(reason).toMatch(/^no process of it starts any more: ./);
  expect(await failure(gpu.run(call, signal))).toMatchObject({ data: { reason } });
});

test("that answers calls that it was not given answers its own", async () => {
  await using gpu = await open("others");
  const { outputs } = await gpu.run(call, new AbortController().signal);
  expect(outputs).toEqual(new Uint8Array(40));
  expect(gpu.resident({ root: new Uint8Array(32), from: 0, length: 10 })).toBe(0);
});
