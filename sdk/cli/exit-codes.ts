/** What the command line's exit status means, and which error gives which. */
import { PacketfsError } from "../../packets/errors.ts";

export const ExitCode = {
  ok: 0,
  /** Something failed that none of the others says. */
  failed: 1,
  /** The command was called wrongly. */
  usage: 2,
  /** A file, name, node, job or directory that was named is not there. */
  notFound: 3,
  /** Bytes that are stored or came over the wire are not what they should be. */
  integrity: 4,
  /** Nobody answers there, or not in time. */
  unreachable: 5,
  /** The program failed, or hit one of its limits. */
  program: 6,
  interrupted: 130,
  terminated: 143,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

const { failed, usage, notFound, integrity, unreachable, program } = ExitCode;

/** Every error code there is; a test keeps it so. */
export const EXIT_CODES: Readonly<Record<string, ExitCode>> = {
  PFS_ACCELERATOR_LOST: failed,
  PFS_ADDRESS_INVALID: usage,
  PFS_AUTHENTICATOR_LOST: failed,
  PFS_CANCELLED: failed,
  PFS_CHUNK_BATCH_INVALID: integrity,
  PFS_CHUNK_DAMAGED: integrity,
  PFS_CHUNK_MISSING: integrity,
  PFS_CODE_INVALID: usage,
  PFS_DEMO_FAILED: failed,
  PFS_DIGEST_WRONG: integrity,
  PFS_ENGINE_LOST: failed,
  PFS_ENVELOPE_INVALID: failed,
  PFS_EXECUTOR_BUSY: failed,
  PFS_EXECUTOR_DEADLINE: failed,
  PFS_EXECUTOR_STALLED: failed,
  PFS_EXECUTOR_ENDED: failed,
  PFS_EXECUTOR_START_FAILED: failed,
  PFS_FILE_FAILED: failed,
  PFS_FILE_NOT_FOUND: notFound,
  PFS_GRANT_ENDED: failed,
  PFS_GRANT_EXCEEDED: failed,
  PFS_GRANT_INVALID: failed,
  PFS_HELLO_REPLAYED: failed,
  PFS_IDENTITY_INVALID: failed,
  PFS_INPUT_CHANGED: failed,
  PFS_INPUT_INVALID: usage,
  PFS_INPUT_MISSING: integrity,
  PFS_INTERNAL: failed,
  PFS_JOB_OVER_LIMIT: program,
  PFS_KERNEL_BARRED: program,
  PFS_KERNEL_DEADLINE: program,
  PFS_KERNEL_CALL_INVALID: program,
  PFS_KERNEL_INVALID: program,
  PFS_KERNEL_OVER_LIMIT: program,
  PFS_LANES_FULL: failed,
  PFS_LANE_BROKEN: failed,
  PFS_LANE_CLOSED: failed,
  PFS_LANE_OVERFULL: failed,
  PFS_LINK_CLOSED: unreachable,
  PFS_MESSAGE_INVALID: failed,
  PFS_MESSAGE_TOO_LARGE: failed,
  PFS_MESSAGE_UNKNOWN: failed,
  PFS_META_INVALID: failed,
  PFS_NAME_CHANGED: failed,
  PFS_NAME_INVALID: usage,
  PFS_NODE_LOST: unreachable,
  PFS_NO_EXECUTOR: failed,
  PFS_NOT_ALLOWED: failed,
  PFS_NOT_A_TREE: usage,
  PFS_NOT_FOUND: notFound,
  PFS_PACKET_INVALID: integrity,
  PFS_PACKET_QUARANTINED: program,
  PFS_PACKET_STALLED: failed,
  PFS_PATTERN_INVALID: usage,
  PFS_PEER_BUSY: unreachable,
  PFS_PEER_OFFENDED: failed,
  PFS_PEER_QUOTA: failed,
  PFS_PEER_REFUSED: unreachable,
  PFS_PEER_SLOW: unreachable,
  PFS_PEER_UNREACHABLE: unreachable,
  PFS_PORT_UNAVAILABLE: failed,
  PFS_PROGRAM_INVALID: program,
  PFS_PROGRAM_MEMORY_LIMIT: program,
  PFS_PROGRAM_OUTPUT_LIMIT: program,
  PFS_PROGRAM_THREW: program,
  PFS_PROGRAM_TIME_LIMIT: program,
  PFS_PUT_LOST: unreachable,
  PFS_RANGE_INVALID: usage,
  PFS_RECORD_INVALID: program,
  PFS_REQUEST_TIMEOUT: unreachable,
  PFS_ALLOW_LIST_INVALID: failed,
  PFS_ROOT_AMBIGUOUS: usage,
  PFS_SESSION_UNKNOWN: unreachable,
  PFS_STORE_BUSY: failed,
  PFS_STORE_CLOSED: failed,
  PFS_STORE_FULL: failed,
  PFS_STORE_IO: failed,
  PFS_STORE_READ_ONLY: failed,
  PFS_STORE_UNREADABLE: failed,
  PFS_STREAM_INVALID: integrity,
  PFS_STREAM_NOT_PLAIN: failed,
  PFS_STREAM_OVER_LIMIT: failed,
  PFS_TARGET_BLOCKED: failed,
  PFS_TOKEN_INVALID: usage,
  PFS_TREE_INVALID: integrity,
  PFS_USAGE: usage,
  PFS_SHARED_MEMORY_FAILED: failed,
};

/** The exit status for an error, by its code. */
export function exitCodeOf(error: unknown): ExitCode {
  return error instanceof PacketfsError ? (EXIT_CODES[error.code] ?? failed) : failed;
}
