/**
 * What calls of kernels took: a moving average per kernel, class of engine and size. Pure: what it knows is data that somebody
 * may keep (runtime/kernel-history.ts).
 */
import {
  KERNEL_AVERAGES_MAX,
  KERNEL_AVERAGE_CALLS,
  KERNEL_BUCKETS_APART_MAX,
  KERNEL_CALL_MS_MAX,
  KERNEL_CALL_MS_MIN,
  KERNEL_RATE_WORK_MIN,
} from "../../limits.ts";
import { bucketOf } from "./cost.ts";

/** Calls of one kernel, of about one size, by one class of engine. */
export interface MeasuredCalls {
  /** `kernelKey` of it. */
  readonly kernel: string;
  /** The accelerator's class, or "cpu". */
  readonly engineClass: string;
  /** `bucketOf` their work. */
  readonly bucket: number;
  readonly calls: number;
  /** Of all of them together. */
  readonly milliseconds: number;
  /** Whether their work was counted by us, and not said by an author: then it says what other kernels take, too. */
  readonly isCounted: boolean;
  /** What one of them waited besides for the GPU's code of the kernel, where that was not there. */
  readonly compileMs?: number | undefined;
}

/** One average as it is kept: its value is milliseconds of a call, or of a rate work in a millisecond. */
export interface KeptAverage {
  /** Empty for a class's rate over all kernels, "compile" for what making the code of one takes there. */
  readonly kernel: string;
  readonly engineClass: string;
  /** 0 for these two. */
  readonly bucket: number;
  readonly value: number;
  readonly calls: number;
}

/** No kernel is called so: their keys are 32 hexadecimal digits. */
const COMPILE = "compile";
/** Of a bucket's calls, whose work is anything from it to twice as much. */
const MEAN_OF_BUCKET = Math.SQRT2;
/** What follows from what a call can take, and from calls that count for rates. */
const RATE_MIN = KERNEL_RATE_WORK_MIN / KERNEL_CALL_MS_MAX;
const RATE_MAX = (Number.MAX_SAFE_INTEGER * MEAN_OF_BUCKET) / KERNEL_CALL_MS_MIN;

export class KernelAverages {
  /** The one that was added to least recently first. */
  readonly #averages = new Map<string, KeptAverage>();
  /** Measurements that it was given. */
  additions = 0;

  /** Those that come later count as newer. What no measurement can have come to is left out. */
  constructor(kept: Iterable<KeptAverage> = []) {
    for (const average of kept) if (isPossible(average)) this.#set(average);
  }

  /** What is no measurement changes nothing: other machines say what calls took there, and one of them may lie. */
  add({ kernel, engineClass, bucket, calls, milliseconds, isCounted, compileMs = 0 }: MeasuredCalls): void {
    const callMs = milliseconds / calls;
    const measured = { kernel, engineClass, bucket, value: callMs, calls };
    if (kernel === "" || kernel === COMPILE || !isPossible(measured)) return;
    this.additions++;
    this.#average(measured);
    // Where inputs were is no matter of it.
    const [device = engineClass] = engineClass.split("+");
    const compiled = { kernel: COMPILE, engineClass: device, bucket: 0, value: compileMs, calls: 1 };
    if (compileMs > 0 && isPossible(compiled)) this.#average(compiled);
    if (!isCounted) return;
    // Small calls say what a call costs, not what a rate is.
    if (bucket < KERNEL_RATE_WORK_MIN || callMs < KERNEL_CALL_MS_MIN) return;
    this.#average({ kernel: "", engineClass, bucket: 0, value: (bucket * MEAN_OF_BUCKET) / callMs, calls });
  }

  /**
   * Milliseconds of a call with so much work: as measured for its bucket, or in proportion for one near it. Undefined where
   * nothing near was measured.
   */
  callMs(kernel: string, engineClass: string, work: number): number | undefined {
    const bucket = bucketOf(work);
    for (let apart = 0; apart <= KERNEL_BUCKETS_APART_MAX; apart++) {
      for (const factor of apart === 0 ? [1] : [2 ** apart, 2 ** -apart]) {
        const known = this.#averages.get(keyOf(kernel, engineClass, bucket * factor));
        if (known !== undefined) return known.value / factor;
      }
    }
    return undefined;
  }

  /** Work that calls of any kernel on the class got through in a millisecond. */
  workPerMs(engineClass: string): number | undefined {
    return this.#averages.get(keyOf("", engineClass, 0))?.value;
  }

  /** Milliseconds that a kernel's first call on the class waits for its code; 0 where that was never measured. */
  compileMs(engineClass: string): number {
    return this.#averages.get(keyOf(COMPILE, engineClass, 0))?.value ?? 0;
  }

  /** Everything that it knows, the oldest first. */
  kept(): KeptAverage[] {
    return [...this.#averages.values()];
  }

  /** What was known counts as KERNEL_AVERAGE_CALLS calls at most, so that what changes is believed. */
  #average(measured: KeptAverage): void {
    const { kernel, engineClass, bucket, value, calls } = measured;
    const known = this.#averages.get(keyOf(kernel, engineClass, bucket));
    if (known === undefined) return this.#set(measured);
    const before = Math.min(known.calls, KERNEL_AVERAGE_CALLS);
    const all = before + calls;
    this.#set({
      kernel,
      engineClass,
      bucket,
      value: (known.value * before + value * calls) / all,
      calls: Math.min(all, KERNEL_AVERAGE_CALLS),
    });
  }

  #set(average: KeptAverage): void {
    const key = keyOf(average.kernel, average.engineClass, average.bucket);
    this.#averages.delete(key);
    this.#averages.set(key, average);
    if (this.#averages.size <= KERNEL_AVERAGES_MAX) return;
    const [oldest = ""] = this.#averages.keys();
    this.#averages.delete(oldest);
  }
}

function isPossible({ kernel, bucket, value, calls }: KeptAverage): boolean {
  const most = Number.MAX_SAFE_INTEGER;
  if (!(calls >= 1 && calls <= most && bucket >= 0 && bucket <= most)) return false;
  return kernel === "" ? value >= RATE_MIN && value <= RATE_MAX : value >= 0 && value <= KERNEL_CALL_MS_MAX;
}

function keyOf(kernel: string, engineClass: string, bucket: number): string {
  return `${kernel} ${engineClass} ${bucket}`;
}
