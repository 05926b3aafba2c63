/** GPUs as machines tell each other of them: what a hub chooses by, and what people are shown. */
import * as v from "valibot";
import type { Accelerator, AcceleratorInfo, UnusedAccelerator } from "../runtime/contracts/kernels.ts";
import {
  ACCELERATOR_RATE_MAX,
  ACCELERATOR_RATE_MIN,
  ENGINE_CLASS_CHARACTERS_MAX,
  KERNEL_CALL_MS_MAX,
} from "../runtime/limits.ts";
import {
  LABEL_CHARACTERS_MAX,
  OFFERS_MAX,
  REASON_CHARACTERS_MAX,
  UNUSED_ACCELERATORS_MAX,
} from "./limits.ts";

const label = v.pipe(v.string(), v.maxLength(LABEL_CHARACTERS_MAX));
/** What a GPU can have: by what is beyond that, its jobs would take no time, or for ever. */
const rate = v.pipe(v.number(), v.minValue(ACCELERATOR_RATE_MIN), v.maxValue(ACCELERATOR_RATE_MAX));
const launchMs = v.pipe(v.number(), v.minValue(0), v.maxValue(KERNEL_CALL_MS_MAX));

export const acceleratorInfo: v.GenericSchema<unknown, AcceleratorInfo> = v.object({
  label,
  engineClass: v.pipe(v.string(), v.regex(/^[a-z0-9-]+$/), v.maxLength(ENGINE_CLASS_CHARACTERS_MAX)),
  isSoftware: v.boolean(),
  memoryBytes: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  calibration: v.object({
    uploadGBps: rate,
    downloadGBps: rate,
    launchMs,
    gops: rate,
  }),
});

/** Those of one machine. */
export const acceleratorInfos: v.GenericSchema<unknown, AcceleratorInfo[]> = v.pipe(
  v.array(acceleratorInfo),
  v.maxLength(OFFERS_MAX),
);
export const unusedAccelerators: v.GenericSchema<unknown, UnusedAccelerator[]> = v.pipe(
  v.array(v.object({ label, reason: v.pipe(v.string(), v.maxLength(REASON_CHARACTERS_MAX)) })),
  v.maxLength(UNUSED_ACCELERATORS_MAX),
);

/** What is signed of one in HELLO. */
export function acceleratorFields({
  label: name,
  engineClass,
  isSoftware,
  memoryBytes,
  calibration,
}: AcceleratorInfo): string[] {
  const { uploadGBps, downloadGBps, launchMs: launch, gops } = calibration;
  const numbers = [memoryBytes, uploadGBps, downloadGBps, launch, gops];
  return ["accelerator", name, engineClass, String(isSoftware), numbers.join(" ")];
}

/** What people who look after a machine are told when its GPUs are found. */
export function describeFound(accelerators: readonly Pick<Accelerator, "info">[]): string {
  return `kernels run on ${accelerators.map(({ info }) => info.label).join(", ")} here`;
}

/** What people who look after a machine are told when one of its GPUs runs no calls any more. */
export function describeWithdrawn({ label: name, reason }: UnusedAccelerator): string {
  return `no kernels run on ${name} here any more: ${reason}`;
}

/** As they travel: cut to what others take. */
export function cutUnused(unused: readonly UnusedAccelerator[]): UnusedAccelerator[] {
  return unused.slice(0, UNUSED_ACCELERATORS_MAX).map((each) => ({
    label: each.label.slice(0, LABEL_CHARACTERS_MAX),
    reason: each.reason.slice(0, REASON_CHARACTERS_MAX),
  }));
}
