/** What clients and hubs say about jobs and about a store's upkeep. */
import * as v from "valibot";
import type { JobEvent } from "../runtime/contracts/events.ts";
import type { JobInfo, JobOutcome } from "../runtime/contracts/jobs.ts";
import type { GcResult } from "../runtime/store/maintenance/collector.ts";
import type { StoreReport } from "../runtime/store/maintenance/verifier.ts";
import { JOB_FILES_MAX } from "./limits.ts";
import { count, id, label, milliseconds, name, ref } from "./messages.ts";

/** JOB `run` and `open`: chunks = the program's arguments as JSON. `code` is the root of its bundle's stream. */
const program = { program: label, code: ref };
export type JobMeta =
  | {
      op: "run";
      program: string;
      code: Uint8Array;
      files: string[];
      out?: string | undefined;
      splitBytes?: number | undefined;
    }
  | { op: "open"; program: string; code: Uint8Array }
  /** packets = EXEC, answered by RETURN and FAULT. */
  | { op: "exec"; session: string }
  | { op: "close"; session: string }
  | { op: "list" }
  | { op: "cancel"; job: string };
export const JobMeta: v.GenericSchema<unknown, JobMeta> = v.variant("op", [
  v.object({
    op: v.literal("run"),
    ...program,
    files: v.pipe(v.array(name), v.minLength(1), v.maxLength(JOB_FILES_MAX)),
    out: v.optional(name),
    splitBytes: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(1))),
  }),
  v.object({ op: v.literal("open"), ...program }),
  v.object({ op: v.literal("exec"), session: id }),
  v.object({ op: v.literal("close"), session: id }),
  v.object({ op: v.literal("list") }),
  v.object({ op: v.literal("cancel"), job: id }),
]);

/** The answer to `open`. */
export const JobOpenedMeta: v.GenericSchema<unknown, { session: string }> = v.object({ session: id });

/** JOB_EVENT, before the last answer to `run`. */
export const JobEventMeta: v.GenericSchema<unknown, JobEvent> = v.variant("kind", [
  v.object({ kind: v.literal("started"), job: id, tasks: count, inputBytes: count }),
  v.object({
    kind: v.literal("progress"),
    job: id,
    done: count,
    tasks: count,
    doneBytes: count,
    inputBytes: count,
  }),
  v.object({ kind: v.literal("log"), job: id, at: count, node: v.string(), text: v.string() }),
  v.object({ kind: v.literal("note"), job: id, text: v.string() }),
]);

/** The last answer to `run`, as JSON in chunks. The value itself came before it, in FILE_DATA messages. */
export type OutcomeJson = Omit<JobOutcome, "value"> & { readonly hasValue: boolean };
export const OutcomeJson: v.GenericSchema<unknown, OutcomeJson> = v.object({
  job: id,
  yields: v.picklist(["value", "groups", "bytes"]),
  file: v.exactOptional(v.object({ name: v.exactOptional(name), root: v.string(), length: count })),
  hasValue: v.boolean(),
  statistics: v.object({
    tasks: count,
    inputBytes: count,
    milliseconds,
    retries: count,
    byNode: v.record(v.string(), count),
    notes: v.array(v.string()),
  }),
});

const scalar = v.union([v.string(), v.number(), v.boolean()]);
/** The answer to `list`, as JSON in chunks. */
export const JobInfos: v.GenericSchema<unknown, JobInfo[]> = v.array(
  v.object({
    job: v.string(),
    program: v.string(),
    state: v.picklist(["running", "done", "failed", "cancelled"]),
    startedAt: v.number(),
    milliseconds,
    done: count,
    tasks: count,
    error: v.exactOptional(
      v.object({ code: v.string(), message: v.string(), data: v.record(v.string(), scalar) }),
    ),
  }),
);

/** UPKEEP: verify or gc of the store behind the link, and of those behind a hub; the answer is JSON in chunks. */
export const UpkeepMeta: v.GenericSchema<unknown, { op: "verify" | "gc" }> = v.object({
  op: v.picklist(["verify", "gc"]),
});
export const StoreReportJson: v.GenericSchema<unknown, StoreReport> = v.object({
  chunks: count,
  bytes: count,
  damaged: v.array(v.string()),
  incomplete: v.array(v.string()),
  lostRecords: count,
});
export const GcResultJson: v.GenericSchema<unknown, GcResult> = v.object({
  keptChunks: count,
  freedChunks: count,
  freedBytes: count,
});
