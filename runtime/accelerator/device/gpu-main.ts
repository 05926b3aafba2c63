/**
 * A GPU process: it opens one adapter, and computes what the node asks for until its pipe ends. It may be killed at any time,
 * and ends itself so too: waiting for work on a GPU at the end of a process may take for ever.
 */
import { Socket } from "node:net";
import { GPU_CONTROL_DESCRIPTOR, GPU_PIPE_DESCRIPTOR, encodeFrame, readFrames } from "../protocol.ts";
import type { ControlMessage, GpuProcessOptions, NodeMessage, ProcessMessage } from "../protocol.ts";
import { Probe, calibrate, verify } from "./calibration.ts";
import { listAdapters, openGpu } from "./gpu.ts";
import type { AbsentGpu, Gpu } from "./gpu.ts";
import { GpuMemory } from "./gpu-memory.ts";
import { KernelRuns } from "./kernel-runs.ts";
import { Modules } from "./modules.ts";
import { WindowWriter } from "./window-writer.ts";

const options = JSON.parse(process.argv[2]!) as GpuProcessOptions;
const pipe = new Socket({ fd: GPU_PIPE_DESCRIPTOR });
const control = new Socket({ fd: GPU_CONTROL_DESCRIPTOR });
for (const each of [pipe, control]) each.on("error", end);
void main()
  .catch((error: unknown) => say({ kind: "lost", reason: String(error).slice(0, 1000) }))
  .finally(end);

async function main(): Promise<void> {
  const frames = readFrames(pipe);
  const adapter = options.lists === true ? await chosen(frames) : options.adapter;
  const gpu = typeof adapter === "object" ? adapter : await openGpu({ ...options, adapter });
  if ("why" in gpu) return await say({ kind: "absent", why: gpu.why, reason: gpu.reason.slice(0, 1000) });
  await compute(gpu, frames);
}

/** The adapter that the node wants of all that there are. */
async function chosen(frames: ReturnType<typeof readFrames>): Promise<string | AbsentGpu> {
  const names = await listAdapters(options);
  if ("why" in names) return names;
  await say({ kind: "adapters", names });
  const next = await frames.next();
  const message = next.done === true ? undefined : (next.value.message as NodeMessage);
  if (message?.kind !== "open") return { why: "adapter", reason: "none of them is wanted" };
  return message.adapter;
}

async function compute(gpu: Gpu, frames: ReturnType<typeof readFrames>): Promise<void> {
  const { device, adapter, limits } = gpu;
  void device.lost.then(async ({ message }) => {
    await say({ kind: "lost", reason: message.slice(0, 1000) });
    end();
  });
  const modules = new Modules(device);
  const dropped = (keys: readonly string[]): void => void say({ kind: "dropped", keys: [...keys] });
  const memory = new GpuMemory(device, options.memoryBytes, dropped);
  const window = options.hasWindow === true ? new WindowWriter() : undefined;
  const runs = new KernelRuns(gpu, memory, modules, window, say);
  const probe = options.computes ? new Probe(gpu) : undefined;
  await say({ kind: "ready", adapter, limits, probeMs: (await probe?.prepare()) ?? 0 });
  void obey(memory, runs, window).finally(end);

  const nextPiece = async (call: number): Promise<Uint8Array | undefined> => {
    const next = await frames.next();
    if (next.done === true) return undefined;
    const message = next.value.message as NodeMessage;
    return message.kind === "piece" && message.call === call ? next.value.body : undefined;
  };
  for (;;) {
    const next = await frames.next();
    if (next.done === true) return;
    const message = next.value.message as NodeMessage;
    if (message.kind === "run") await runs.begin(message, next.value.body, nextPiece);
    else if (message.kind === "check") {
      const result = await modules.compile(message);
      await say({ kind: "checked", call: message.call, notes: "pipeline" in result ? [] : [...result] });
    } else if (message.kind === "calibrate") {
      await say({ kind: "calibrated", ...(await calibrate(gpu)) });
    } else if (message.kind === "verify") {
      await say({ kind: "verified", wrong: await verify(gpu) });
    } else if (message.kind === "probe") {
      await say({ kind: "probed", call: message.call, probeMs: (await probe?.run()) ?? 0 });
    }
  }
}

/** Does what cannot wait behind bytes. */
async function obey(memory: GpuMemory, runs: KernelRuns, window: WindowWriter | undefined): Promise<void> {
  for await (const { message } of readFrames(control)) {
    const told = message as ControlMessage;
    if (told.kind === "cancel") runs.cancel(told.call);
    else if (told.kind === "budget") memory.resize(told.bytes);
    else window?.give(told.at);
  }
}

/** Resolves when the pipe takes more. The bytes may be changed then. */
async function say(message: ProcessMessage, body?: Uint8Array): Promise<void> {
  // What is mapped is gone once this resolves, whatever of it has left by then.
  const parts = encodeFrame(message, body === undefined ? undefined : body.slice());
  let flowing = true;
  for (const part of parts) flowing = pipe.write(part);
  if (!flowing) await new Promise((resolve) => pipe.once("drain", resolve));
}

function end(): void {
  process.kill(process.pid, "SIGKILL");
}
