/** Finds the GPUs of a machine: those that compute right, and why others are not used. */
import { createHash } from "node:crypto";
import { availableParallelism, cpus } from "node:os";
import type { ChunkPlaces, ChunkSource } from "../contracts/chunks.ts";
import type { Calibration, FoundAccelerators, UnusedAccelerator } from "../contracts/kernels.ts";
import { messageOf } from "../../packets/errors.ts";
import { formatDuration } from "../format.ts";
import {
  ACCELERATOR_RATE_MAX,
  ACCELERATOR_RATE_MIN,
  ENGINE_CLASS_CHARACTERS_MAX,
  ENGINE_LABEL_CHARACTERS_MAX,
  GPU_FIND_MS_MAX,
  GPU_HANG_MS,
  KERNEL_CALL_MS_MAX,
} from "../limits.ts";
import { IMITATED, chooseAdapters } from "./adapter-names.ts";
import type { ChosenAdapters } from "./adapter-names.ts";
import { CallInputs } from "./call-inputs.ts";
import { memoryOf } from "./gpu-memory-size.ts";
import { GpuHistory } from "../gpu-history.ts";
import { GpuAccelerator } from "./gpu-accelerator.ts";
import { GpuProcess, standingGpuWalls } from "./gpu-process.ts";
import type { StartedGpuProcess } from "./gpu-process.ts";
import { GpuWall } from "./gpu-walls.ts";
import { driverAbsence, driverDigest, startedDriverDigest } from "./vulkan-files.ts";
import type {
  AbsentMessage,
  CalibratedMessage,
  GpuProcessOptions,
  ReadyMessage,
  VerifiedMessage,
} from "./protocol.ts";

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
  /** A file that remembers what was measured, and which drivers hang; nothing is remembered by default. */
  readonly history?: string | undefined;
  /** Whether that is not believed, but found out anew. */
  readonly looksAfresh?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

const BACKEND = process.platform === "win32" ? "d3d12" : process.platform === "darwin" ? "metal" : "vulkan";
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
  const history = options.history === undefined ? undefined : await GpuHistory.open(options.history);
  const search = new Search(options, isSoftwareUsed, history);
  const found = await search.run();
  await history?.keep();
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
  readonly #history: GpuHistory | undefined;
  /** Those that may hang. */
  readonly #drivers: string;
  #chosen: ChosenAdapters | undefined;
  /** Those that open others than the first. */
  #others: readonly Promise<Candidate>[] = [];
  /** Whether any was left out since it hung before. */
  #hasHung = false;
  #isKnownAbsent = false;

  constructor(options: FindOptions, isSoftwareUsed: boolean, history: GpuHistory | undefined) {
    this.#options = options;
    this.#history = history;
    this.#drivers = startedDriverDigest();
    this.#process = {
      backend: BACKEND,
      isSoftwareAllowed: isSoftwareUsed,
      computes: true,
      memoryBytes: 0,
    };
  }

  /** Whether there is none, and another look would find none either: what crashed, or hung, may do better another time. */
  get isKnownAbsent(): boolean {
    return this.#isKnownAbsent;
  }

  async run(): Promise<FoundAccelerators> {
    const hung = this.#hung("");
    if (hung !== undefined) return { accelerators: [], unused: [{ label: "GPU", reason: hung }] };
    const first = await this.#start({ ...this.#process, lists: true }, (names) => this.#choose(names));
    const { names = [], unused = [] } = this.#chosen ?? {};
    if (names.length === 0) {
      this.#options.signal?.throwIfAborted();
      this.#isKnownAbsent = "kind" in first && first.why !== "device" && !this.#hasHung;
      return {
        accelerators: [],
        unused: unused.length > 0 || !("kind" in first) ? unused : [absence(first)],
      };
    }
    const candidates = [{ name: names[0]!, started: first }, ...(await Promise.all(this.#others))];
    const found = await this.#measureAll(candidates);
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
      this.#history?.answered("");
      this.#chosen = this.#withoutHung(chooseAdapters(all, this.#process.isSoftwareAllowed));
      this.#others = this.#chosen.names.slice(1).map(async (name) => ({
        name,
        started: await this.#start({ ...this.#process, adapter: name }),
      }));
    }
    return this.#chosen.names[0];
  }

  #withoutHung({ names, unused }: ChosenAdapters): ChosenAdapters {
    const reasons = new Map(names.map((name) => [name, this.#hung(name)]));
    const hung = names.filter((name) => reasons.get(name) !== undefined);
    this.#hasHung = hung.length > 0;
    return {
      names: names.filter((name) => !hung.includes(name)),
      unused: [...unused, ...hung.map((name) => ({ label: labelOf(name), reason: reasons.get(name)! }))],
    };
  }

  /** Why an adapter is not waited for, where it hung before: "" is whatever names them. */
  #hung(adapter: string): string | undefined {
    if (this.#options.looksAfresh === true) return undefined;
    const agoMs = this.#history?.hungAgoMs(adapter, this.#drivers);
    if (agoMs === undefined) return undefined;
    const [ago, after] = [formatDuration(agoMs, 1), formatDuration(GPU_HANG_MS, 1)];
    return `its driver did not answer ${ago} ago, and is not waited for again before ${after} have passed, or pfs doctor has found that it does`;
  }

  /** Those that are measured one after the other, and others, of which that is known, side by side before. */
  async #measureAll(candidates: readonly Candidate[]): Promise<readonly FoundAccelerators[]> {
    const known = candidates.map((candidate) => this.#known(candidate));
    const found = await Promise.all(
      candidates.map(async (candidate, at) =>
        known[at] === undefined ? undefined : await this.#measure(candidate, known[at]),
      ),
    );
    const all: FoundAccelerators[] = [];
    for (const [at, candidate] of candidates.entries())
      all.push(found[at] ?? (await this.#measure(candidate, undefined)));
    return all;
  }

  /** What was measured of it before. */
  #known({ started }: Candidate): Calibration | undefined {
    if ("kind" in started || this.#options.looksAfresh === true) return undefined;
    return this.#history?.calibration(calibrationKey(started));
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
      const late = this.#late(patience);
      if (late !== undefined)
        this.#history?.hung(process.adapter ?? this.#chosen?.names[0] ?? "", this.#drivers);
      return { kind: "absent", why: "device", reason: late ?? messageOf(error) };
    }
  }

  async #measure({ name, started }: Candidate, known: Calibration | undefined): Promise<FoundAccelerators> {
    const label = labelOf(name);
    if ("kind" in started) return { accelerators: [], unused: [absence(started, label)] };
    const { process, ready } = started;
    const patience = this.#patience();
    const kill = (): void => process.kill();
    patience.addEventListener("abort", kill, { once: true });
    if (patience.aborted) kill();
    const [measured, bytes] = await Promise.all([
      known === undefined ? process.calibrate() : process.verify(),
      memoryOf(ready.adapter, name),
    ]);
    patience.removeEventListener("abort", kill);
    const late = measured === undefined ? this.#late(patience) : undefined;
    if (late === undefined) this.#history?.answered(name);
    else this.#history?.hung(name, this.#drivers);
    if (measured === undefined || measured.wrong !== "") {
      process.kill();
      return { accelerators: [], unused: [{ label, reason: late ?? wrong(measured) }] };
    }
    const calibration = measured.kind === "calibrated" ? calibrationOf(measured) : known!;
    if (measured.kind === "calibrated") this.#history?.measured(calibrationKey(started), calibration);
    const { source, places, reads, memoryBytesMax = Infinity } = this.#options;
    const memoryBytes = Math.min(memoryBytesMax, bytes);
    process.tell({ kind: "budget", bytes: memoryBytes });
    const accelerator = new GpuAccelerator({
      info: {
        label,
        engineClass: engineClassOf(ready),
        isSoftware: ready.adapter.isSoftware,
        memoryBytes,
        calibration,
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
    if (!patience.aborted || this.#options.signal?.aborted === true) return undefined;
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

/** All that how fast it is depends on: the same as its results do, the drivers' files, the walls around it, and the machine. */
function calibrationKey({ ready, walls }: StartedGpuProcess): string {
  const machine = [cpus()[0]?.model, availableParallelism(), process.env["LP_NUM_THREADS"]];
  const all = JSON.stringify([engineClassOf(ready), driverDigest(), walls, machine]);
  return createHash("sha256").update(all).digest("hex");
}

function labelOf(name: string): string {
  return name.slice(0, ENGINE_LABEL_CHARACTERS_MAX);
}

/** Within what others believe. */
function calibrationOf({ uploadGBps, downloadGBps, launchMs, gops }: CalibratedMessage): Calibration {
  const rate = (value: number): number =>
    Math.min(ACCELERATOR_RATE_MAX, Math.max(ACCELERATOR_RATE_MIN, value));
  return {
    uploadGBps: rate(uploadGBps),
    downloadGBps: rate(downloadGBps),
    launchMs: Math.min(launchMs, KERNEL_CALL_MS_MAX),
    gops: rate(gops),
  };
}

function wrong(measured: CalibratedMessage | VerifiedMessage | undefined): string {
  return measured === undefined
    ? "it ended while it was measured"
    : `it computes wrong results, so that nothing runs on it: ${measured.wrong}`;
}

function absence({ why, reason }: AbsentMessage, label = "GPU"): UnusedAccelerator {
  if (why === "package")
    return { label, reason: `the package webgpu is not installed, or does not load here: ${reason}` };
  if (why === "software") return { label: reason, reason: IMITATED };
  if (why === "device" || label !== "GPU") return { label, reason: `it does not start: ${reason}` };
  return { label, reason: `none was found: the drivers that are installed have none (${reason})` };
}
