/** What an estimate packet yields: the calls of kernels that a program is about to make, from outside the sandbox. Pure. */
import * as v from "valibot";
import { JobError, JobErrorCode } from "../../errors.ts";
import { KERNELS_MAX } from "../../limits.ts";
import type { KernelEstimate } from "../../contracts/kernels.ts";
import { kernelKey } from "./cost.ts";
import type { CallSize } from "./cost.ts";
import { callOperations, tensorBytes } from "./binding.ts";
import type { Kernel, KernelSpec } from "./kernel.ts";

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const estimates: v.GenericSchema<unknown, KernelEstimate[]> = v.pipe(
  v.array(
    v.strictObject({
      kernel: count,
      dimensions: v.record(v.string(), count),
      scalars: v.record(v.string(), count),
      inputs: v.array(v.picklist(["call", "range", "file"])),
    }),
  ),
  v.maxLength(KERNELS_MAX),
);

/** Throws PFS_INTERNAL for what says nothing of calls of these kernels: whoever ran the packet wrote it. */
export function parseEstimates(text: Uint8Array, kernels: readonly KernelSpec[]): KernelEstimate[] {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(text));
  } catch {
    throw invalid("it is not JSON");
  }
  const parsed = v.safeParse(estimates, value);
  if (!parsed.success) throw invalid(parsed.issues[0].message);
  for (const { kernel, inputs } of parsed.output) {
    if (kernels[kernel]?.inputs.length !== inputs.length) throw invalid("it is of no kernel of the program");
  }
  return parsed.output;
}

function invalid(reason: string): JobError {
  return new JobError(JobErrorCode.internal, `an estimate of kernels says nothing: ${reason}`, { reason });
}

/** Calls of one size that all splits of a job are expected to make. */
export interface ExpectedCalls {
  /** Index among the kernels of the program, and `kernelKey` of it. */
  readonly kernel: number;
  readonly key: string;
  readonly size: CallSize;
  readonly calls: number;
  /** Bytes of inputs that a GPU is sent once, because all calls have them. */
  readonly sharedBytes: number;
  /** Bytes of `size.uploadBytes` that are of the packet's range. */
  readonly rangeBytes: number;
}

/**
 * What `splits` splits call, if each does what one was found to do. Throws PFS_KERNEL_OVER_LIMIT or PFS_KERNEL_INVALID for
 * calls that no kernel takes.
 */
export function expectedCalls(
  found: readonly KernelEstimate[],
  kernels: readonly Kernel[],
  splits: number,
): ExpectedCalls[] {
  return found.map(({ kernel: index, dimensions, scalars, inputs }) => {
    const kernel = kernels[index]!;
    // What nobody says is taken for as much as it may be.
    const sizes = { ...kernel.maxTrip, ...scalars, ...dimensions };
    const bytes = kernel.inputs.map((tensor) => tensorBytes(tensor, sizes));
    const sum = (which: (input: number) => boolean): number =>
      bytes.reduce((total, each, input) => total + (which(input) ? each : 0), 0);
    return {
      kernel: index,
      key: kernelKey(kernel),
      size: {
        operations: callOperations(kernel, sizes),
        inputBytes: sum(() => true),
        uploadBytes: sum((input) => inputs[input] !== "file"),
        outputBytes: kernel.outputs.reduce((total, tensor) => total + tensorBytes(tensor, sizes), 0),
      },
      calls: splits,
      sharedBytes: sum((input) => inputs[input] === "file"),
      rangeBytes: sum((input) => inputs[input] === "range"),
    };
  });
}
