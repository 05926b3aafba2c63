/** The one place that imports `webgpu`: opens an adapter, or says why there is none to open. */
import { createRequire } from "node:module";
import { messageOf } from "../../../packets/errors.ts";
import type { AbsentMessage, GpuProcessOptions, ReadyMessage } from "../protocol.ts";

export interface Gpu {
  /** What all else is of: it crashes what is still used of it when it is collected. */
  readonly instance: GPU;
  readonly device: GPUDevice;
  readonly adapter: ReadyMessage["adapter"];
  readonly limits: ReadyMessage["limits"];
  /** Whether it tells how long its passes took. */
  readonly hasTimestamps: boolean;
}

export type AbsentGpu = Pick<AbsentMessage, "why" | "reason">;

/** What CPUs imitate GPUs with, where they do not say so themselves. */
const SOFTWARE = /llvmpipe|lavapipe|softpipe|swiftshader|basic render|warp/i;
/** Times of passes are told to the nanosecond, not to a tenth of a millisecond: there is no web page here to hide them from. */
const FLAGS: readonly string[] = ["disable-dawn-features=timestamp_quantization"];

/** Rejects with defects only. */
export async function openGpu({
  backend,
  adapter: name,
  isSoftwareAllowed,
}: GpuProcessOptions): Promise<Gpu | AbsentGpu> {
  const require = createRequire(import.meta.url);
  let create: (typeof import("webgpu"))["create"];
  try {
    const webgpu = require("webgpu") as typeof import("webgpu");
    Object.assign(globalThis, webgpu.globals);
    create = webgpu.create;
  } catch (error) {
    // Who required it stands behind the first line.
    const [reason = ""] = messageOf(error).split("\n", 1);
    return { why: "package", reason };
  }
  let instance: GPU;
  let adapter: GPUAdapter | null;
  try {
    const chosen = name === undefined ? [] : [`adapter=${name}`];
    instance = create([`backend=${backend}`, ...FLAGS, ...chosen]);
    adapter = await instance.requestAdapter({ powerPreference: "high-performance" });
  } catch (error) {
    return { why: "adapter", reason: messageOf(error) };
  }
  if (adapter === null) return { why: "adapter", reason: "no adapter is offered" };
  const { vendor, architecture, device: model, description, isFallbackAdapter } = adapter.info;
  const isSoftware = isFallbackAdapter || SOFTWARE.test(`${model} ${description}`);
  if (isSoftware && !isSoftwareAllowed) return { why: "software", reason: description || model };
  const hasTimestamps = adapter.features.has("timestamp-query");
  const { limits } = adapter;
  let device: GPUDevice;
  try {
    device = await adapter.requestDevice({
      requiredFeatures: hasTimestamps ? ["timestamp-query"] : [],
      requiredLimits: {
        maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
        maxBufferSize: limits.maxBufferSize,
        maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
        maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
        maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
        maxComputeWorkgroupSizeX: limits.maxComputeWorkgroupSizeX,
        maxComputeWorkgroupSizeY: limits.maxComputeWorkgroupSizeY,
        maxComputeWorkgroupSizeZ: limits.maxComputeWorkgroupSizeZ,
        maxComputeWorkgroupsPerDimension: limits.maxComputeWorkgroupsPerDimension,
      },
    });
  } catch (error) {
    return { why: "device", reason: messageOf(error) };
  }
  return {
    instance,
    device,
    adapter: {
      vendor,
      architecture,
      device: model,
      description,
      isSoftware,
      runtime: `webgpu ${(require("webgpu/package.json") as { readonly version: string }).version}`,
    },
    limits: {
      bindingBytes: device.limits.maxStorageBufferBindingSize,
      bufferBytes: device.limits.maxBufferSize,
      bindings: device.limits.maxStorageBuffersPerShaderStage,
      workgroups: device.limits.maxComputeWorkgroupsPerDimension,
    },
    hasTimestamps,
  };
}
