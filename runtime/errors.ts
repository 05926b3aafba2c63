/** What goes wrong on one machine and is meant for the world: a class per part, each with its table of codes. */
import { PacketfsError } from "../packets/errors.ts";
import type { ErrorData } from "../packets/errors.ts";

/** A lane that cannot go on. */
export class PoolError extends PacketfsError {
  override readonly name: string = "PoolError";

  constructor(
    code: PoolErrorCode,
    message: string,
    data: ErrorData = {},
    options?: { readonly cause?: unknown },
  ) {
    super(code, message, data, options);
  }
}

export const PoolErrorCode = {
  /** More packets were sent to a lane than it takes; data: packets, max. */
  laneOverfull: "PFS_LANE_OVERFULL",
  /** The lane was closed while it was still being used. */
  laneClosed: "PFS_LANE_CLOSED",
} as const;
export type PoolErrorCode = (typeof PoolErrorCode)[keyof typeof PoolErrorCode];

/** A job that cannot be planned or run as it was asked for. */
export class JobError extends PacketfsError {
  override readonly name: string = "JobError";

  constructor(
    code: JobErrorCode,
    message: string,
    data: ErrorData = {},
    options?: { readonly cause?: unknown },
  ) {
    super(code, message, data, options);
  }
}

export const JobErrorCode = {
  /** A record is longer than the limit, or a row is cut off; data: at (byte of the input). */
  invalidRecord: "PFS_RECORD_INVALID",
  /** A manifest is not what it should be; data: reason. */
  invalidProgram: "PFS_PROGRAM_INVALID",
} as const;
export type JobErrorCode = (typeof JobErrorCode)[keyof typeof JobErrorCode];
