/**
 * What was measured of a machine's GPUs, and which drivers hang, kept beside its store: a command that takes a second need not measure for
 * another, nor wait for a driver that has not answered the one before. Whoever writes there has programs run where they are slow, or
 * not on a GPU, and no more: what a GPU computes is checked whenever one is found.
 */
import { readFile, stat } from "node:fs/promises";
import * as v from "valibot";
import type { Calibration } from "./contracts/kernels.ts";
import { replaceFile } from "./durable-file.ts";
import {
  ACCELERATOR_RATE_MAX,
  ACCELERATOR_RATE_MIN,
  ADAPTERS_LISTED_MAX,
  ADAPTER_NAME_CHARACTERS_MAX,
  GPU_CALIBRATIONS_MAX,
  GPU_CALIBRATION_MS_MAX,
  GPU_HANG_MS,
  GPU_HISTORY_BYTES_MAX,
  KERNEL_CALL_MS_MAX,
} from "./limits.ts";

/** Its name in a store's directory. Without it nothing is known. */
export const GPU_HISTORY_FILE = "gpus.json";

const digest = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));
/** In milliseconds since 1970. */
const time = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const rate = v.pipe(v.number(), v.minValue(ACCELERATOR_RATE_MIN), v.maxValue(ACCELERATOR_RATE_MAX));
const launchMs = v.pipe(v.number(), v.minValue(0), v.maxValue(KERNEL_CALL_MS_MAX));
const history = v.object({
  calibrations: v.pipe(
    v.array(v.object({ key: digest, at: time, uploadGBps: rate, downloadGBps: rate, launchMs, gops: rate })),
    v.maxLength(GPU_CALIBRATIONS_MAX),
  ),
  hangs: v.pipe(
    v.array(
      v.object({
        /** Its name; "" where the driver hangs before it names any. */
        adapter: v.pipe(v.string(), v.maxLength(ADAPTER_NAME_CHARACTERS_MAX)),
        drivers: digest,
        at: time,
      }),
    ),
    v.maxLength(ADAPTERS_LISTED_MAX),
  ),
});
type Known = v.InferOutput<typeof history>;

const NOTHING: Known = { calibrations: [], hangs: [] };

export class GpuHistory {
  readonly #file: string;
  #known: Known;
  #isChanged = false;

  private constructor(file: string, known: Known) {
    this.#file = file;
    this.#known = known;
  }

  /** Never rejects: without a file, or with one that is damaged or has what cannot be, nothing is known. */
  static async open(file: string): Promise<GpuHistory> {
    return new GpuHistory(file, await knownIn(file));
  }

  /** What was measured under this key, unless it is older than GPU_CALIBRATION_MS_MAX. */
  calibration(key: string): Calibration | undefined {
    const found = this.#known.calibrations.find((each) => each.key === key);
    if (found === undefined || !isWithin(found.at, GPU_CALIBRATION_MS_MAX)) return undefined;
    const { uploadGBps, downloadGBps, launchMs: launch, gops } = found;
    return { uploadGBps, downloadGBps, launchMs: launch, gops };
  }

  /** How many milliseconds ago these drivers hung with this adapter, unless it was longer ago than GPU_HANG_MS. */
  hungAgoMs(adapter: string, drivers: string): number | undefined {
    const found = this.#known.hangs.find((each) => each.adapter === adapter && each.drivers === drivers);
    return found !== undefined && isWithin(found.at, GPU_HANG_MS) ? Date.now() - found.at : undefined;
  }

  measured(key: string, calibration: Calibration): void {
    const { uploadGBps, downloadGBps, launchMs: launch, gops } = calibration;
    const added = { key, at: Date.now(), uploadGBps, downloadGBps, launchMs: launch, gops };
    const others = this.#known.calibrations.filter((each) => each.key !== key);
    const calibrations = [added, ...others].slice(0, GPU_CALIBRATIONS_MAX);
    this.#change({ ...this.#known, calibrations });
  }

  hung(adapter: string, drivers: string): void {
    const others = this.#known.hangs.filter((each) => each.adapter !== adapter);
    const hangs = [{ adapter, drivers, at: Date.now() }, ...others].slice(0, ADAPTERS_LISTED_MAX);
    this.#change({ ...this.#known, hangs });
  }

  answered(adapter: string): void {
    const hangs = this.#known.hangs.filter((each) => each.adapter !== adapter);
    if (hangs.length < this.#known.hangs.length) this.#change({ ...this.#known, hangs });
  }

  /** From now on it is as that file says, also where that has nothing to say. */
  async adopt(file: string): Promise<void> {
    const known = await knownIn(file);
    const isNothing = known.calibrations.length + known.hangs.length === 0;
    const wasNothing = this.#known.calibrations.length + this.#known.hangs.length === 0;
    if (!isNothing || !wasNothing) this.#change(known);
  }

  /** Resolves when what is known now is on the disk. A file that cannot be written costs the memory, and nothing else. */
  async keep(): Promise<void> {
    if (!this.#isChanged) return;
    this.#isChanged = false;
    await replaceFile(this.#file, `${JSON.stringify(this.#known)}\n`).catch(() => undefined);
  }

  #change(known: Known): void {
    this.#known = known;
    this.#isChanged = true;
  }
}

/** Clocks may be set: what is yet to come is no more believed than what is long gone. */
function isWithin(at: number, milliseconds: number): boolean {
  const ago = Date.now() - at;
  return ago >= 0 && ago < milliseconds;
}

async function knownIn(file: string): Promise<Known> {
  try {
    const about = await stat(file);
    if (!about.isFile() || about.size > GPU_HISTORY_BYTES_MAX) return NOTHING;
    return v.parse(history, JSON.parse(await readFile(file, "utf8")));
  } catch {
    return NOTHING;
  }
}
