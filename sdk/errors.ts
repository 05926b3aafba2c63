/** Errors of the SDK and the command line: what was asked for cannot be done as it was asked. */
import { PacketfsError } from "../packets/errors.ts";
import type { ErrorData } from "../packets/errors.ts";
import { SYSTEM_REASONS } from "../runtime/errors.ts";

export const SdkErrorCode = {
  /** The command or call is wrong in itself, whatever is stored. */
  usage: "PFS_USAGE",
  /** A path on this machine's file system leads nowhere; data: path. */
  fileNotFound: "PFS_FILE_NOT_FOUND",
  /** A file of this machine cannot be read or written; data: path, system. */
  fileFailed: "PFS_FILE_FAILED",
  /** No such job is running; data: job. */
  notFound: "PFS_NOT_FOUND",
  /** A text cannot name a file; data: reason. */
  nameInvalid: "PFS_NAME_INVALID",
  /** The program cannot be bundled; data: file, line and column where they are known. */
  programInvalid: "PFS_PROGRAM_INVALID",
  /** The demo got an answer that is not right. */
  demoFailed: "PFS_DEMO_FAILED",
  /** Ended because the caller or a signal said so. */
  cancelled: "PFS_CANCELLED",
} as const;
export type SdkErrorCode = (typeof SdkErrorCode)[keyof typeof SdkErrorCode];

export class SdkError extends PacketfsError<SdkErrorCode> {
  override readonly name: string = "SdkError";
}

/** The caller's mistake, in one sentence that says what would be right. */
export class UsageError extends SdkError {
  override readonly name: string = "UsageError";

  constructor(message: string, data: ErrorData = {}) {
    super(SdkErrorCode.usage, message, data);
  }
}

const REASONS: Readonly<Record<string, string>> = {
  ...SYSTEM_REASONS,
  EADDRINUSE: "something else listens there already",
  EADDRNOTAVAIL: "this machine has no such address",
  ENOTFOUND: "no such host",
};

/** The system error behind `error` ("ENOENT", "EADDRINUSE"), if there is one. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("syscall" in error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/** What went wrong with a file of this machine, as one sentence. Errors that no system call made come back as they are. */
export function fileError(error: unknown, action: "read" | "write", path: string): unknown {
  const system = systemCode(error);
  return system === undefined ? error : fileFailure(system, action, path, error);
}

/** The same, where it is known what the system said. */
export function fileFailure(
  system: string,
  action: "read" | "write",
  path: string,
  cause: unknown,
): SdkError {
  if (system === "ENOENT") {
    const message =
      action === "read" ? `no such file: ${path}` : `no such directory for ${path}; make it first`;
    return new SdkError(SdkErrorCode.fileNotFound, message, { path }, { cause });
  }
  const message = `cannot ${action} ${path}: ${REASONS[system] ?? system}`;
  return new SdkError(SdkErrorCode.fileFailed, message, { path, system }, { cause });
}

/** Any system error as one sentence, for those that nobody closer to the cause has put into words. */
export function systemError(error: unknown): unknown {
  const system = systemCode(error);
  if (system === undefined || !(error instanceof Error)) return error;
  const path = "path" in error && typeof error.path === "string" ? error.path : "the operating system says";
  const message = `${path}: ${REASONS[system] ?? error.message}`;
  return new SdkError(SdkErrorCode.fileFailed, message, { path, system }, { cause: error });
}
