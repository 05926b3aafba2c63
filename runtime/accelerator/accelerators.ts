/** Finds the GPUs of a machine: those that compute right, and why others are not used. */
import { createHash } from "node:crypto";
import type { ChunkPlaces, ChunkSource } from "../contracts/chunks.ts";
import type { FoundAccelerators, UnusedAccelerator } from "../contracts/kernels.ts";
import { messageOf } from "../../packets/errors.ts";
import { formatDuration } from "../format.ts";
import { ENGINE_CLASS_CHARACTERS_MAX, GPU_FIND_MS_MAX } from "../limits.ts";
import { IMITATED, chooseAdapters } from "./adapter-names.ts";
import type { ChosenAdapters } from "./adapter-names.ts";
import { CallInputs } from "./call-inputs.ts";
import { memoryOf } from "./gpu-memory-size.ts";
import { GpuAccelerator } from "./gpu-accelerator.ts";
import { GpuProcess, standingGpuWalls } from "./gpu-process.ts";
import type { StartedGpuProcess } from "./gpu-process.ts";
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
  /** How long a driver may take to open a GPU, and to measure it, in milliseconds; GPU_FIND_MS_MAX by default. */
  readonly findMsMax?: number | undefined;
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
const absences = new Map<"any" | "real", readonly UnusedAccelerator[]>();

/**
 * Never rejects, but with the signal's reason. Takes about a second, and one with a driver that hangs as long as is waited for it. Those
 * that are used are in the order of their drivers, those that compute most before others.
 */
export async function findAccelerators(options: FindOptions): Promise<FoundAccelerators> {
  const { isSoftwareUsed = process.env["PACKETFS_GPU_SOFTWARE"] === "1" } = options;
  const lacking = driverAbsence();
  if (lacking !== undefined) return { accelerators: [], unused: [{ label: "GPU", reason: lacking }] };
  const kind = isSoftwareUsed ? "any" : "real";
  const before = absences.get(kind);
  if (before !== undefined) return { accelerators: [], unused: before };
  const search = new Search(options, isSoftwareUsed);
  const found = await search.run();
  if (search.isKnownAbsent) absences.set(kind, found.unused);
  return found;
}

/** An adapter by its name, and what came of it. */
interface Candidate {
  readonly name: string;
  readonly started: StartedGpuProcess | AbsentMessage;
}

/**
 * One look at all adapters: the first process names them and opens the first of them, while others open the others. None is measured
 * before all have started, and one after the other then.
 */
class Search {
  readonly #options: FindOptions;
  readonly #process: GpuProcessOptions;
  #chosen: ChosenAdapters | undefined;
  /** Those that open others than the first. */
  #others: readonly Promise<Candidate>[] = [];
  #isKnownAbsent = false;

  constructor(options: FindOptions, isSoftwareUsed: boolean) {
    this.#options = options;
    this.#process = {
      backend: BACKEND,
      isSoftwareAllowed: isSoftwareUsed,
      computes: true,
      memoryBytes: 0,
    };
  }

  /** Whether there is none, and another look would find none either. */
  get isKnownAbsent(): boolean {
    return this.#isKnownAbsent;
  }

  async run(): Promise<FoundAccelerators> {
    const first = await this.#start({ ...this.#process, lists: true }, (names) => this.#choose(names));
    const { names = [], unused = [] } = this.#chosen ?? {};
    if (names.length === 0) {
      this.#options.signal?.throwIfAborted();
      // What crashed may do better another time.
      this.#isKnownAbsent = "kind" in first && first.why !== "device";
      return {
        accelerators: [],
        unused: unused.length > 0 || !("kind" in first) ? unused : [absence(first)],
      };
    }
    const others = await Promise.all(this.#others);
    const found: FoundAccelerators[] = [];
    for (const candidate of [{ name: names[0]!, started: first }, ...others])
      found.push(await this.#measure(candidate));
    const accelerators = found.flatMap((each) => each.accelerators);
    if (this.#options.signal?.aborted === true) {
      await Promise.all(accelerators.map((each) => each.close()));
      this.#options.signal.throwIfAborted();
    }
    return { accelerators, unused: [...found.flatMap((each) => each.unused), ...unused] };
  }

  /** The first, while others start for the others. */
  #choose(all: readonly string[]): string | undefined {
    if (this.#chosen === undefined) {
      this.#chosen = chooseAdapters(all, this.#process.isSoftwareAllowed);
      this.#others = this.#chosen.names.slice(1).map(async (name) => ({
        name,
        started: await this.#start({ ...this.#process, adapter: name }),
      }));
    }
    return this.#chosen.names[0];
  }

  /** A driver that hangs takes nothing but its GPU away. Never rejects. */
  async #start(
    process: GpuProcessOptions,
    choose?: (names: readonly string[]) => string | undefined,
  ): Promise<StartedGpuProcess | AbsentMessage> {
    const { reads } = this.#options;
    const patience = this.#patience();
    try {
      return await GpuProcess.start(process, { reads, choose, signal: patience });
    } catch (error) {
      return { kind: "absent", why: "device", reason: this.#late(patience) ?? messageOf(error) };
    }
  }

  async #measure({ name, started }: Candidate): Promise<FoundAccelerators> {
    const label = name.slice(0, LABEL_CHARACTERS);
    if ("kind" in started) return { accelerators: [], unused: [absence(started, label)] };
    const { process, ready } = started;
    const patience = this.#patience();
    const kill = (): void => process.kill();
    patience.addEventListener("abort", kill, { once: true });
    if (patience.aborted) kill();
    const [calibrated, bytes] = await Promise.all([process.calibrate(), memoryOf(ready.adapter, name)]);
    patience.removeEventListener("abort", kill);
    if (calibrated === undefined || calibrated.wrong !== "") {
      process.kill();
      return { accelerators: [], unused: [{ label, reason: this.#late(patience) ?? wrong(calibrated) }] };
    }
    const { source, places, reads, memoryBytesMax = Infinity } = this.#options;
    const memoryBytes = Math.min(memoryBytesMax, bytes);
    process.tell({ kind: "budget", bytes: memoryBytes });
    const { uploadGBps, downloadGBps, launchMs, gops } = calibrated;
    const accelerator = new GpuAccelerator({
      info: {
        label,
        engineClass: engineClassOf(ready),
        isSoftware: ready.adapter.isSoftware,
        memoryBytes,
        calibration: { uploadGBps, downloadGBps, launchMs, gops },
      },
      process: { ...this.#process, adapter: name, memoryBytes },
      first: started,
      inputs: new CallInputs(source, places),
      reads,
    });
    return { accelerators: [accelerator], unused: [] };
  }

  #patience(): AbortSignal {
    const { findMsMax = GPU_FIND_MS_MAX, signal } = this.#options;
    const patience = AbortSignal.timeout(findMsMax);
    return signal === undefined ? patience : AbortSignal.any([signal, patience]);
  }

  /** What is said of a driver that was waited for so long. */
  #late(patience: AbortSignal): string | undefined {
    if (!patience.aborted) return undefined;
    return `its driver did not answer within ${formatDuration(this.#options.findMsMax ?? GPU_FIND_MS_MAX)}`;
  }
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

function absence({ why, reason }: AbsentMessage, label = "GPU"): UnusedAccelerator {
  if (why === "package")
    return { label, reason: `the package webgpu is not installed, or does not load here: ${reason}` };
  if (why === "software") return { label: reason, reason: IMITATED };
  if (why === "device" || label !== "GPU") return { label, reason: `it does not start: ${reason}` };
  return { label, reason: `none was found: the drivers that are installed have none (${reason})` };
}
