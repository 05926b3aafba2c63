/** What goes into jobs and what comes out of them, the same whoever runs them: this machine, or a hub for its clients. */
import type { ErrorJson } from "../../packets/errors.ts";
import type { Ref } from "../../packets/digest.ts";
import type { ProgramKind, Tenant } from "./executor.ts";
import type { Engine, KernelReport } from "./kernels.ts";

/** What a job of a program gives: one value, a value per key, or bytes. */
export type Yields = "value" | "groups" | "bytes";

export interface JobInput {
  /** For people. */
  readonly name: string;
  readonly root: Ref;
  /** Bytes that the stream yields. */
  readonly length: number;
}

/** A program with its arguments. */
export interface StoredProgram {
  /** JavaScript, with or without kernels that it depends on, unless it says otherwise. */
  readonly kind?: ProgramKind | undefined;
  /** The program's, for people. */
  readonly name: string;
  /** Root of the bundle's stream, which is stored already; of packet code, its 32 bytes. */
  readonly code: Ref;
  /** JSON text. */
  readonly args: string;
  /** Whose it is; this machine's owner's unless it says otherwise. */
  readonly tenant?: Tenant | undefined;
  /** What shall compute its kernels; by default what is expected to be faster. */
  readonly engine?: Engine | undefined;
  /** Stored files that the program has beside what it reads, by the names that it knows them by: its `context.files`. */
  readonly files?: Readonly<Record<string, JobInput>> | undefined;
}

export interface JobRequest extends StoredProgram {
  /** No other running job has it; one is made up by default. */
  readonly id?: string | undefined;
  readonly inputs: readonly JobInput[];
  /** Bytes of input per EXEC packet; the default follows from the input. */
  readonly splitBytes?: number | undefined;
  /** Stores the result under this name instead of returning it; groups as CSV where it ends with ".csv". */
  readonly out?: string | undefined;
  /** The version that `out` must have when the result is stored, 0 for none: otherwise the job fails with PFS_NAME_CHANGED. */
  readonly expected?: number | undefined;
}

export interface JobOutcome<Value = unknown> {
  readonly job: string;
  readonly yields: Yields;
  /** The value, or [key, value] pairs sorted by key; undefined when the result was stored as a file. */
  readonly value?: Value;
  /**
   * The file that holds the result, when `out` was given, the program yields bytes, or groups are more than RESULT_BYTES_MAX;
   * `root` is hexadecimal.
   */
  readonly file?: { readonly name?: string; readonly root: string; readonly length: number };
  readonly statistics: JobStatistics;
}

export interface JobStatistics {
  /** Splits of the input. Packets that scan, merge and finish are not counted. */
  readonly tasks: number;
  readonly inputBytes: number;
  readonly milliseconds: number;
  /**
   * Packets that were placed again because an executor was lost while it had them, or with their results, or could not do
   * them: those that scan, merge and finish too, and each time.
   */
  readonly retries: number;
  /** Splits finished by each node whose results count, by its label: together as many as `tasks`. */
  readonly byNode: Readonly<Record<string, number>>;
  readonly notes: readonly string[];
  /**
   * What all its packets ran on: the engine of the language, our code around it, and the class of GPU where results depend on
   * that. Another one may give other bytes. Left out where nothing ran.
   */
  readonly edition?: string | undefined;
  /** What computed its kernels, and how long that took; left out where it has none. */
  readonly kernels?: readonly KernelReport[] | undefined;
}

export interface JobInfo {
  readonly job: string;
  readonly program: string;
  readonly state: "running" | "done" | "failed" | "cancelled";
  /** Milliseconds since 1970, by the clock of whoever runs it. */
  readonly startedAt: number;
  readonly milliseconds: number;
  /** Splits that are finished, of how many. */
  readonly done: number;
  readonly tasks: number;
  readonly error?: ErrorJson;
  /** What computed its kernels, and how long that took so far; left out where it has none. */
  readonly kernels?: readonly KernelReport[] | undefined;
}
