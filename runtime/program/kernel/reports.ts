/** What is said of calls of kernels, where it comes from other machines or from a file: nothing of it is believed before this. */
import * as v from "valibot";
import {
  ENGINE_CLASS_CHARACTERS_MAX,
  ENGINE_LABEL_CHARACTERS_MAX,
  ENGINE_REASON_CHARACTERS_MAX,
  KERNELS_MAX,
  KERNEL_NAME_CHARACTERS_MAX,
  KERNEL_REPORTS_MAX,
  KERNEL_USES_MAX,
} from "../../limits.ts";
import type { Engine, KernelReport, KernelUse } from "../../contracts/kernels.ts";

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const milliseconds = v.pipe(v.number(), v.finite(), v.minValue(0));
const engineClass = v.pipe(
  v.string(),
  v.maxLength(ENGINE_CLASS_CHARACTERS_MAX),
  v.regex(/^[a-z0-9-]+$/, "a class of engine is made of a-z, 0-9 and -"),
);
const reason = v.pipe(v.string(), v.maxLength(ENGINE_REASON_CHARACTERS_MAX));

export const engineSchema: v.GenericSchema<unknown, Engine> = v.picklist(["gpu", "cpu"]);

export const kernelUsesSchema: v.GenericSchema<unknown, KernelUse[]> = v.pipe(
  v.array(
    v.object({
      kernel: v.pipe(count, v.maxValue(KERNELS_MAX - 1)),
      engine: engineSchema,
      engineClass,
      bucket: milliseconds,
      calls: count,
      milliseconds,
      compileMs: v.optional(milliseconds),
      predictedMs: v.optional(milliseconds),
      reason,
    }),
  ),
  v.maxLength(KERNEL_USES_MAX),
);

export const kernelReportsSchema: v.GenericSchema<unknown, KernelReport[]> = v.pipe(
  v.array(
    v.object({
      kernel: v.pipe(v.string(), v.maxLength(KERNEL_NAME_CHARACTERS_MAX)),
      engine: engineSchema,
      engineClass,
      label: v.exactOptional(v.pipe(v.string(), v.maxLength(ENGINE_LABEL_CHARACTERS_MAX))),
      calls: count,
      measuredMs: milliseconds,
      predictedMs: v.exactOptional(milliseconds),
      reason,
    }),
  ),
  v.maxLength(KERNEL_REPORTS_MAX),
);
