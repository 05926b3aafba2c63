/**
 * What a call of a kernel can be expected to take before anything like it was measured: bytes that have to be moved, operations
 * and a launch, at the rates that a GPU's calibration or the calls of a CPU have shown. Pure.
 */
import { sha256 } from "../../../packets/digest.ts";
import { CPU_KERNEL_CALL_MS, CPU_KERNEL_WORK_PER_MS } from "../../limits.ts";
import type { Calibration, KernelCall, KernelTimes } from "../../contracts/kernels.ts";
import { boundSizes, callOperations, outputPlaces, paddedBytes } from "./binding.ts";
import { isCounted } from "./declaration.ts";
import type { KernelSpec } from "./kernel.ts";

/** How large a call is. */
export interface CallSize {
  readonly operations: number;
  /** Of all inputs, and of those the ones that a GPU has to be sent. */
  readonly inputBytes: number;
  readonly uploadBytes: number;
  readonly outputBytes: number;
}

/** As large as the call is where nothing of it is in a GPU's memory yet. */
export function sizeOf({ kernel, dimensions, inputs }: KernelCall): CallSize {
  const scalars = inputs.map((input) => ("bytes" in input ? input.bytes : undefined));
  const operations = callOperations(kernel, boundSizes(kernel, dimensions, scalars));
  const inputBytes = inputs.reduce(
    (sum, input) => sum + ("bytes" in input ? input.bytes.byteLength : input.length),
    0,
  );
  const last = outputPlaces(kernel, dimensions).at(-1);
  const outputBytes = last === undefined ? 0 : last.offset + paddedBytes(last.length);
  return { operations, inputBytes, uploadBytes: inputBytes, outputBytes };
}

/** What its time grows with on any engine: operations and bytes. */
export function workOf({ operations, inputBytes, outputBytes }: CallSize): number {
  return operations + inputBytes + outputBytes;
}

/** The power of two at or below so much work, 1 at least: calls of one bucket take about the same time. */
export function bucketOf(work: number): number {
  const bucket = 2 ** Math.max(0, Math.floor(Math.log2(Math.max(1, work))));
  // The logarithm of what is just below a power of two is rounded to it.
  return bucket > work && bucket > 1 ? bucket / 2 : bucket;
}

/** Milliseconds of a call on a GPU from being asked for to its outputs being there, with nothing beside it. */
export function gpuCallMs(size: CallSize, { uploadGBps, downloadGBps, launchMs, gops }: Calibration): number {
  return (
    launchMs +
    millionths(size.uploadBytes, uploadGBps) +
    millionths(size.operations, gops) +
    millionths(size.outputBytes, downloadGBps)
  );
}

/** What such a call took: neither what it waited for others is of it, nor what the next one does not take again. */
export function measuredGpuMs({ totalMs, waitMs, compileMs }: KernelTimes): number {
  return Math.max(0, totalMs - waitMs - compileMs);
}

/** Milliseconds of a call's CPU time. `workPerMs`: what calls of any kernel were seen to get through. */
export function cpuCallMs(size: CallSize, workPerMs: number = CPU_KERNEL_WORK_PER_MS): number {
  return CPU_KERNEL_CALL_MS + workOf(size) / workPerMs;
}

/** Milliseconds for so many at a rate of thousand millions a second: a million a millisecond. */
function millionths(count: number, rate: number): number {
  return rate > 0 ? count / (rate * 1e6) : Number.POSITIVE_INFINITY;
}

/** What kernels are told apart by where their times are remembered: 32 hexadecimal digits. */
export function kernelKey(kernel: KernelSpec): string {
  const known = keys.get(kernel);
  if (known !== undefined) return known;
  const { kind, inputs, outputs, source, maxTrip, workgroup, hasCpu } = kernel;
  const text = JSON.stringify([kind, inputs, outputs, source, maxTrip, workgroup ?? null, hasCpu]);
  const key = Buffer.from(sha256(Buffer.from(text))).toString("hex", 0, 16);
  keys.set(kernel, key);
  return key;
}

/** What is said of calls of a kernel with what they took, as MeasuredCalls have it. */
export function measuredOf(kernel: KernelSpec): { readonly kernel: string; readonly isCounted: boolean } {
  const known = measured.get(kernel);
  if (known !== undefined) return known;
  const of = { kernel: kernelKey(kernel), isCounted: isCounted(kernel) };
  measured.set(kernel, of);
  return of;
}

/** They are asked for at each call, and kernels live as long as their programs. */
const keys = new WeakMap<KernelSpec, string>();
const measured = new WeakMap<KernelSpec, ReturnType<typeof measuredOf>>();
