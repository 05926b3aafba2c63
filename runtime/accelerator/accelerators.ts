/** Finds the GPUs of a machine: those that compute right, and why others are not used. */
import { createHash } from "node:crypto";
import type { ChunkPlaces, ChunkSource } from "../contracts/chunks.ts";
import type { FoundAccelerators, UnusedAccelerator } from "../contracts/kernels.ts";
import { ENGINE_CLASS_CHARACTERS_MAX } from "../limits.ts";
import { CallInputs } from "./call-inputs.ts";
import { memoryOf } from "./gpu-memory-size.ts";
import { GpuAccelerator } from "./gpu-accelerator.ts";
import { GpuProcess, standingGpuWalls } from "./gpu-process.ts";
import { GpuWall } from "./gpu-walls.ts";
import { driverAbsence } from "./vulkan-files.ts";
import type { AbsentMessage, CalibratedMessage, GpuProcessOptions, ReadyMessage } from "./protocol.ts";

export interface FindOptions {
  /** Where chunks of inputs come from. */
  readonly source: ChunkSource;
  /** Where they stand on this machine, for the GPU's process to read them itself. */
  readonly places?: ChunkPlaces | undefined;
  /** Folders in which those are. */
  readonly reads?: readonly string[] | undefined;
  /** Whether adapters are used that a CPU imitates: for tests. By default what PACKETFS_GPU_SOFTWARE says. */
  readonly isSoftwareUsed?: boolean | undefined;
  /** What is used of a GPU's memory at most; by default most of what it has. */
  readonly memoryBytesMax?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

const BACKEND = process.platform === "win32" ? "d3d12" : process.platform === "darwin" ? "metal" : "vulkan";
/** Of what a driver calls a GPU: more is no name, and hubs take no more. */
const LABEL_CHARACTERS = 96;
/** Of a vendor's name, in the name of a class. */
const VENDOR_CHARACTERS = 10;

/** What of the walls around this machine's GPU processes stands, and what does not; undefined where none has started. */
export function gpuWalls():
  | { readonly standing: readonly string[]; readonly missing: readonly string[] }
  | undefined {
  const standing = standingGpuWalls();
  if (standing === undefined) return undefined;
  return { standing, missing: Object.values(GpuWall).filter((wall) => !standing.includes(wall)) };
}

/** Of this machine, as far as it was found out: drivers are not installed that often. */
const absences = new Map<"any" | "real", UnusedAccelerator>();

/** Never rejects, but with the signal's reason. Takes about a second. */
export async function findAccelerators({
  source,
  places,
  reads,
  isSoftwareUsed = process.env["PACKETFS_GPU_SOFTWARE"] === "1",
  memoryBytesMax = Infinity,
  signal,
}: FindOptions): Promise<FoundAccelerators> {
  const options: GpuProcessOptions = {
    backend: BACKEND,
    isSoftwareAllowed: isSoftwareUsed,
    computes: true,
    calibrates: true,
    memoryBytes: 0,
  };
  const lacking = driverAbsence();
  if (lacking !== undefined) return { accelerators: [], unused: [{ label: "GPU", reason: lacking }] };
  const kind = isSoftwareUsed ? "any" : "real";
  const before = absences.get(kind);
  if (before !== undefined) return { accelerators: [], unused: [before] };
  const started = await GpuProcess.start(options, { reads, signal });
  if ("kind" in started) {
    const absence = unused(started);
    // What crashed may do better another time.
    if (started.why !== "device") absences.set(kind, absence);
    return { accelerators: [], unused: [absence] };
  }
  const { ready, calibrated } = started;
  const label = labelOf(ready);
  if (calibrated === undefined || calibrated.wrong !== "") {
    started.process.kill();
    return { accelerators: [], unused: [{ label, reason: wrong(calibrated) }] };
  }
  const memoryBytes = Math.min(memoryBytesMax, await memoryOf(ready.adapter));
  if (signal?.aborted === true) {
    started.process.kill();
    signal.throwIfAborted();
  }
  started.process.tell({ kind: "budget", bytes: memoryBytes });
  const { uploadGBps, downloadGBps, launchMs, gops } = calibrated;
  const accelerator = new GpuAccelerator({
    info: {
      label,
      engineClass: engineClassOf(ready),
      isSoftware: ready.adapter.isSoftware,
      memoryBytes,
      calibration: { uploadGBps, downloadGBps, launchMs, gops },
    },
    process: { ...options, memoryBytes },
    first: started,
    inputs: new CallInputs(source, places),
    reads,
  });
  return { accelerators: [accelerator], unused: [] };
}

function labelOf({ adapter: { device, description, vendor } }: ReadyMessage): string {
  return (description || device || vendor || "GPU").slice(0, LABEL_CHARACTERS);
}

/** All that a float result depends on: the device, its driver, and what makes its code of WGSL. */
function engineClassOf({ adapter }: ReadyMessage): string {
  const { vendor, architecture, device, description, runtime } = adapter;
  const all = JSON.stringify([vendor, architecture, device, description, runtime]);
  const digest = createHash("sha256").update(all).digest("hex");
  const name =
    vendor
      .toLowerCase()
      .replaceAll(/[^a-z0-9]+/g, "")
      .slice(0, VENDOR_CHARACTERS) || "gpu";
  return `${name}-${digest}`.slice(0, ENGINE_CLASS_CHARACTERS_MAX);
}

function wrong(calibrated: CalibratedMessage | undefined): string {
  return calibrated === undefined
    ? "it ended while it was measured"
    : `it computes wrong results, so that nothing runs on it: ${calibrated.wrong}`;
}

function unused({ why, reason }: AbsentMessage): UnusedAccelerator {
  if (why === "package")
    return { label: "GPU", reason: `the package webgpu is not installed, or does not load here: ${reason}` };
  if (why === "software")
    return {
      label: reason,
      reason: "it is a CPU that imitates a GPU, which is slower than using the CPU itself",
    };
  if (why === "device") return { label: "GPU", reason: `it does not start: ${reason}` };
  return { label: "GPU", reason: `none was found: the drivers that are installed have none (${reason})` };
}
