/** The one place that imports `webgpu`: names adapters and opens one, or says why there is none to open. */
import { createRequire } from "node:module";
import { messageOf } from "../../../packets/errors.ts";
import { ADAPTERS_LISTED_MAX, ADAPTER_NAME_CHARACTERS_MAX } from "../../limits.ts";
import { isSoftwareName } from "../adapter-names.ts";
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

/** Times of passes are told to the nanosecond, not to a tenth of a millisecond: there is no web page here to hide them from. */
const FLAGS: readonly string[] = ["disable-dawn-features=timestamp_quantization"];

/** A name that no adapter has, so that those are named which there are. */
const NOBODY = "\u0001";
const NAMED = /^ \* backend: '[^']*', name: '(.*)'$/gm;
/** Those that compute most come first. */
const MOST: GPURequestAdapterOptions = { powerPreference: "high-performance" };
const NONE: AbsentGpu = { why: "adapter", reason: "no adapter is offered" };
const require: NodeJS.Require = createRequire(import.meta.url);

/** As AdaptersMessage has them: at least one. */
export async function listAdapters({ backend }: GpuProcessOptions): Promise<readonly string[] | AbsentGpu> {
  const create = load();
  if (typeof create !== "function") return create;
  try {
    await create([`backend=${backend}`, `adapter=${NOBODY}`]).requestAdapter(MOST);
    return NONE;
  } catch (error) {
    const text = messageOf(error);
    const names = Array.from(text.matchAll(NAMED), ([, name = ""]) =>
      name.slice(0, ADAPTER_NAME_CHARACTERS_MAX),
    );
    return names.length > 0 ? names.slice(0, ADAPTERS_LISTED_MAX) : { why: "adapter", reason: text };
  }
}

/** Rejects with defects only. */
export async function openGpu({
  backend,
  adapter: name,
  isSoftwareAllowed,
}: GpuProcessOptions): Promise<Gpu | AbsentGpu> {
  const create = load();
  if (typeof create !== "function") return create;
  let instance: GPU;
  let adapter: GPUAdapter | null;
  try {
    const chosen = name === undefined ? [] : [`adapter=${name}`];
    instance = create([`backend=${backend}`, ...FLAGS, ...chosen]);
    adapter = await instance.requestAdapter(MOST);
  } catch (error) {
    return { why: "adapter", reason: messageOf(error) };
  }
  if (adapter === null) return NONE;
  const { vendor, architecture, device: model, description, isFallbackAdapter } = adapter.info;
  const isSoftware = isFallbackAdapter || isSoftwareName(`${model} ${description}`);
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

function load(): (typeof import("webgpu"))["create"] | AbsentGpu {
  try {
    const webgpu = require("webgpu") as typeof import("webgpu");
    Object.assign(globalThis, webgpu.globals);
    return webgpu.create;
  } catch (error) {
    // Who required it stands behind the first line.
    const [reason = ""] = messageOf(error).split("\n", 1);
    return { why: "package", reason };
  }
}
