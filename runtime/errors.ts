/** What goes wrong on one machine and is meant for the world: a class per part, each with its table of codes. */
import { PacketfsError } from "../packets/errors.ts";

/** The operating system's name of an error ("ENOENT"), or the empty text. */
export function systemCode(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}

/** What a system error means, for errors that say so in one sentence. */
export const SYSTEM_REASONS: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EPERM: "permission denied",
  EROFS: "the file system is read-only",
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  EISDIR: "it is a directory",
  ENOTDIR: "a part of the path is not a directory",
  EMFILE: "too many files are open",
  ENFILE: "too many files are open",
  ELOOP: "too many symbolic links",
  ENAMETOOLONG: "the name is too long",
  EILSEQ: "this file system cannot have a file of that name",
  EIO: "the disk reports an error",
  ENOENT: "no such file or directory",
};

/** A lane that cannot go on. */
export class LaneError extends PacketfsError<LaneErrorCode> {
  override readonly name: string = "LaneError";
}

export const LaneErrorCode = {
  /** More packets were sent to a lane than it takes; data: packets, max. */
  laneOverfull: "PFS_LANE_OVERFULL",
  /** The lane was closed while it was still being used. */
  laneClosed: "PFS_LANE_CLOSED",
  /** Every lane of the executor is taken; data: max. */
  lanesFull: "PFS_LANES_FULL",
  /** No executor process stays alive for the lane, or its results cannot be stored; data: reason. */
  laneBroken: "PFS_LANE_BROKEN",
} as const;
export type LaneErrorCode = (typeof LaneErrorCode)[keyof typeof LaneErrorCode];

/** A job that cannot be planned or run as it was asked for. */
export class JobError extends PacketfsError<JobErrorCode> {
  override readonly name: string = "JobError";
}

export const JobErrorCode = {
  /** The input is not what the reader takes; data: at (byte of the input), and file and line where they are known. */
  invalidRecord: "PFS_RECORD_INVALID",
  /** A manifest is not what it should be; data: reason. */
  invalidProgram: "PFS_PROGRAM_INVALID",
  /** More packets, jobs, or bytes of a result than a limit allows; data: max, and tasks, jobs, programs, frames or bytes. */
  overLimit: "PFS_JOB_OVER_LIMIT",
  /** Nothing can run the program: no executor came in time, or none could load it; data: reason, program. */
  noExecutor: "PFS_NO_EXECUTOR",
  /** A packet was given up because too many executors were lost with it; data: job, task, program. */
  nodeLost: "PFS_NODE_LOST",
  /** The job was cancelled by its user or what it ran on was closed; data: job. */
  cancelled: "PFS_CANCELLED",
  /** What a packet of the program failed with; data: job, task, node, program. */
  programThrew: "PFS_PROGRAM_THREW",
  timeLimit: "PFS_PROGRAM_TIME_LIMIT",
  memoryLimit: "PFS_PROGRAM_MEMORY_LIMIT",
  outputLimit: "PFS_PROGRAM_OUTPUT_LIMIT",
  quarantined: "PFS_PACKET_QUARANTINED",
  stalled: "PFS_PACKET_STALLED",
  inputMissing: "PFS_INPUT_MISSING",
  engineLost: "PFS_ENGINE_LOST",
  /** The result cannot have this name; data: reason. */
  invalidName: "PFS_NAME_INVALID",
  /** A defect of PacketFS. */
  internal: "PFS_INTERNAL",
} as const;
export type JobErrorCode = (typeof JobErrorCode)[keyof typeof JobErrorCode];

/** A program that does not load, or an executor process that is no longer there. */
export class SandboxError extends PacketfsError<SandboxErrorCode> {
  override readonly name: string = "SandboxError";
}

export const SandboxErrorCode = {
  /** The program has a syntax error, throws when it is loaded, or declares what makes no sense; data: reason. */
  invalidProgram: "PFS_PROGRAM_INVALID",
  /** The executor process did not come up; data: reason. */
  startFailed: "PFS_EXECUTOR_START_FAILED",
  /** The executor process ended before it answered; data: reason (closed, memory, deadline, crash), detail. */
  ended: "PFS_EXECUTOR_ENDED",
  /** This very call used more CPU time than it may, and its executor process was killed for it; data: limitMs, cpuMs. */
  deadline: "PFS_EXECUTOR_DEADLINE",
  /** This very call did not end for very long, though it used little CPU time; data: ceilingMs, limitMs, cpuMs. */
  stalled: "PFS_EXECUTOR_STALLED",
  /** More calls wait than EXECUTOR_QUEUE_MAX; data: max. */
  busy: "PFS_EXECUTOR_BUSY",
  /** The memory that input bytes cross in cannot be made or written; data: reason. */
  sharedMemoryFailed: "PFS_SHARED_MEMORY_FAILED",
} as const;
export type SandboxErrorCode = (typeof SandboxErrorCode)[keyof typeof SandboxErrorCode];

/** A GPU that is not there for a call. */
export class AcceleratorError extends PacketfsError<AcceleratorErrorCode> {
  override readonly name: string = "AcceleratorError";
}

export const AcceleratorErrorCode = {
  /** Its process ended by no fault of the call's kernel, or did not answer for very long; data: reason. */
  lost: "PFS_ACCELERATOR_LOST",
} as const;
export type AcceleratorErrorCode = (typeof AcceleratorErrorCode)[keyof typeof AcceleratorErrorCode];

/** A call of a kernel that only a GPU may compute, and that has none. */
export class EngineError extends PacketfsError<EngineErrorCode> {
  override readonly name: string = "EngineError";
}

export const EngineErrorCode = {
  /** There is no GPU for it, or it does not run the call; data: reason. */
  engineLost: "PFS_ENGINE_LOST",
} as const;
export type EngineErrorCode = (typeof EngineErrorCode)[keyof typeof EngineErrorCode];

/** A kernel that is none, or that cannot be run. */
export class KernelError extends PacketfsError<KernelErrorCode> {
  override readonly name: string = "KernelError";
}

export const KernelErrorCode = {
  /** Its declaration, source, WGSL or layout is not what a kernel's must be; data: kernel, reason, line and column of the source. */
  invalid: "PFS_KERNEL_INVALID",
  /** A call's inputs or dimensions do not fit the kernel; data: kernel, reason. */
  invalidCall: "PFS_KERNEL_CALL_INVALID",
  /** A call needs more memory, elements or workgroups than there may be, or than a GPU has for it; data: kernel, reason, bytes, max. */
  overLimit: "PFS_KERNEL_OVER_LIMIT",
  /** It took more of a GPU's own time than its limit, and the GPU's process was killed; data: kernel, limitMs. */
  deadline: "PFS_KERNEL_DEADLINE",
  /** It was killed too often for that, and gets no calls on that GPU any more; data: kernel. */
  barred: "PFS_KERNEL_BARRED",
} as const;
export type KernelErrorCode = (typeof KernelErrorCode)[keyof typeof KernelErrorCode];

/** What a store cannot do: bytes that are gone or wrong, a directory that is no store, a disk that refuses. */
export class StoreError extends PacketfsError<StoreErrorCode> {
  override readonly name: string = "StoreError";
}

export const StoreErrorCode = {
  /** No such chunk here; data: ref. */
  chunkMissing: "PFS_CHUNK_MISSING",
  /** The chunk's bytes at rest are not those that its ref names, or cannot be read; data: ref. */
  chunkDamaged: "PFS_CHUNK_DAMAGED",
  /** The directory is not a store, or of a version that this program does not know; data: directory, reason. */
  unreadable: "PFS_STORE_UNREADABLE",
  /** Another process writes to the store; data: directory, pid (0 when it is not known). */
  busy: "PFS_STORE_BUSY",
  /** The disk or a quota is full; nothing was acknowledged; data: system. */
  full: "PFS_STORE_FULL",
  /** The operating system refused to read or write; nothing was acknowledged; data: system. */
  io: "PFS_STORE_IO",
  /** The store, or the writer, was closed before. */
  closed: "PFS_STORE_CLOSED",
  /** The store was opened for reading only, or can only be read; data: directory, reason where the system says it. */
  readOnly: "PFS_STORE_READ_ONLY",
  /** A name is empty, longer than its limit, or no Unicode text; data: reason. */
  invalidName: "PFS_NAME_INVALID",
  /** A name has another version than the caller expected, and is left as it is; data: name, expected, version (0 for none). */
  nameChanged: "PFS_NAME_CHANGED",
} as const;
export type StoreErrorCode = (typeof StoreErrorCode)[keyof typeof StoreErrorCode];

/** A name that was to have the version `expected` has another one, 0 for none. */
export function nameChanged(name: string, expected: number, version: number): StoreError {
  const now = version === 0 ? "there is none now" : `it has version ${version} now`;
  return new StoreError(
    StoreErrorCode.nameChanged,
    `${JSON.stringify(name)} was changed meanwhile: version ${expected} was expected, ${now}`,
    { name, expected, version },
  );
}

/** A stream that cannot be executed as it was asked for. */
export class StreamError extends PacketfsError<StreamErrorCode> {
  override readonly name: string = "StreamError";
}

export const StreamErrorCode = {
  /** The range does not lie inside the file; data: start, end, length. */
  invalidRange: "PFS_RANGE_INVALID",
  /** A file changed while it was read to be stored; data: path, reason. */
  inputChanged: "PFS_INPUT_CHANGED",
  /** What is to be stored is no bytes, nor anything that has some; data: reason. */
  invalidInput: "PFS_INPUT_INVALID",
  /** Every chunk was right, yet the whole is not what HALT's digest says; data: ref. */
  wrongDigest: "PFS_DIGEST_WRONG",
} as const;
export type StreamErrorCode = (typeof StreamErrorCode)[keyof typeof StreamErrorCode];

/** A text that stands for no stored file, or for several. */
export class FileError extends PacketfsError<FileErrorCode> {
  override readonly name: string = "FileError";
}

export const FileErrorCode = {
  /** Nothing is stored under that name or root; data: file. */
  notFound: "PFS_NOT_FOUND",
  /** The first digits of a root that several stored files' roots begin with; data: file, candidates. */
  rootAmbiguous: "PFS_ROOT_AMBIGUOUS",
} as const;
export type FileErrorCode = (typeof FileErrorCode)[keyof typeof FileErrorCode];

/** A directory that cannot be stored, read or written out as it was asked for. Paths are of the directory, UTF-8 where they are any. */
export class TreeError extends PacketfsError<TreeErrorCode> {
  override readonly name: string = "TreeError";
}

export const TreeErrorCode = {
  /** What is stored there is a file and no directory; data: file. */
  notTree: "PFS_NOT_A_TREE",
  /** Its stream and its manifest do not go together; data: reason, entry. */
  invalid: "PFS_TREE_INVALID",
  /** A path of a stored directory that is not in it, or is no file; data: file. */
  notFound: "PFS_NOT_FOUND",
  /** The operating system refused to read or write a file; data: path, system. */
  fileFailed: "PFS_FILE_FAILED",
  /** A file changed each time it was read; data: path, reason. */
  inputChanged: "PFS_INPUT_CHANGED",
  /** Something is in the way, or this system cannot have a file of that name; data: path, reason. */
  blocked: "PFS_TARGET_BLOCKED",
  /** A pattern of a filter is none; data: pattern, reason. */
  invalidPattern: "PFS_PATTERN_INVALID",
} as const;
export type TreeErrorCode = (typeof TreeErrorCode)[keyof typeof TreeErrorCode];
