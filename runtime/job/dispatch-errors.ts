/** What the dispatcher tells jobs when nothing can run them. */
import { PacketfsError } from "../../packets/errors.ts";
import { JobError, JobErrorCode } from "../errors.ts";
import type { ProgramLink } from "./program-link.ts";

export function stuckError(program: ProgramLink, reason: "no executor" | "not loadable"): JobError {
  const why =
    reason === "no executor"
      ? "there is no executor"
      : `no executor can load it: ${asPacketfsError(program.loadError).message}`;
  return new JobError(
    JobErrorCode.noExecutor,
    `program "${program.name}" cannot run: ${why}`,
    { reason, program: program.name },
    program.loadError === undefined ? undefined : { cause: program.loadError },
  );
}

/** One of ours as it is; anything else as a defect. */
export function asPacketfsError(error: unknown): PacketfsError {
  if (error instanceof PacketfsError) return error;
  const text = error instanceof Error ? error.message : String(error);
  return new JobError(JobErrorCode.internal, text, {}, { cause: error });
}
