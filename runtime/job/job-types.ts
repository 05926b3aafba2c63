/** What jobs are made of, and what they tell. */
import type { ErrorJson } from "../../packets/errors.ts";
import type { Ref } from "../../packets/digest.ts";
import type { ProgramDescription, Yields } from "../program/program.ts";
import type { JobInput } from "./splits.ts";

/** A program with its arguments. */
export interface ProgramSpec {
  /** The program's, for people. */
  readonly name: string;
  /** Root of the bundle's stream, which is stored already. */
  readonly code: Ref;
  readonly description: ProgramDescription;
  /** JSON text. */
  readonly args: string;
}

export interface JobSpec extends ProgramSpec {
  /** No other running job has it. */
  readonly id: string;
  readonly inputs: readonly JobInput[];
  /** Bytes of input per EXEC packet; the default follows from the input and the executors. */
  readonly splitBytes?: number;
  /** Stores the result under this name instead of returning it. */
  readonly out?: string;
}

export type JobEvent =
  | { readonly kind: "started"; readonly job: string; readonly tasks: number; readonly inputBytes: number }
  | {
      readonly kind: "progress";
      readonly job: string;
      readonly done: number;
      readonly tasks: number;
      readonly doneBytes: number;
      readonly inputBytes: number;
    }
  | {
      readonly kind: "log";
      readonly job: string;
      readonly at: number;
      readonly node: string;
      readonly text: string;
    }
  | { readonly kind: "note"; readonly job: string; readonly text: string };

export interface JobOutcome {
  readonly job: string;
  readonly yields: Yields;
  /** The value, or [key, value] pairs sorted by key; undefined when the result was stored as a file. */
  readonly value?: unknown;
  /** The file that holds the result; `root` is hexadecimal. */
  readonly file?: { readonly name?: string; readonly root: string; readonly length: number };
  readonly statistics: JobStatistics;
}

export interface JobStatistics {
  /** Splits of the input. Packets that scan, merge and finish are not counted. */
  readonly tasks: number;
  readonly inputBytes: number;
  readonly milliseconds: number;
  /** Packets that were placed again after an executor was lost, or could not do them. */
  readonly retries: number;
  /** Splits finished by each node, by its label. */
  readonly byNode: Readonly<Record<string, number>>;
  readonly notes: readonly string[];
}

export interface JobInfo {
  readonly job: string;
  readonly program: string;
  readonly state: "running" | "done" | "failed" | "cancelled";
  /** By the runner's own clock. */
  readonly startedAt: number;
  readonly milliseconds: number;
  readonly done: number;
  readonly tasks: number;
  readonly error?: ErrorJson;
}
