/** The error codes that a FAULT packet carries in `from`, and the stable string that each has in errors and JSON. */
export const FaultCode = {
  /** The program threw; the message is its own text, bounded. */
  threw: 1,
  /** The packet ran longer than its program's time limit. */
  timeLimit: 2,
  /** The packet needed more memory than its program's limit. */
  memoryLimit: 3,
  /** The packet yielded more bytes than its program's limit. */
  outputLimit: 4,
  /** The packet ended its executor process twice, the second time while it ran alone. */
  quarantined: 5,
  /** Bytes of the input could not be read anywhere. */
  inputMissing: 6,
  /** A record is longer than the limit, or is not what the reader declares (bad JSON, bad CSV). */
  badRecord: 7,
  /** The program does not load: a syntax error, no default export, a declaration that makes no sense. */
  badProgram: 8,
  /** The job was cancelled before the packet ran. */
  cancelled: 9,
  /** A defect of PacketFS, not of the program. */
  internal: 10,
  /** The packet did not end for very long, twice, though it used little CPU time: its machine is stopped or overloaded. */
  stalled: 11,
  /** The input's stream is not what a stream must be. */
  invalidStream: 12,
  /** The input's stream calls deeper, or yields more, than a stream may. */
  streamOverLimit: 13,
  /** The input is a stream that has to be computed first. */
  notPlain: 14,
  /** The input does not yield what its stream's own digest says. */
  wrongDigest: 15,
  /** The packet reads beyond the end of its input. */
  invalidRange: 16,
  /** The GPU that the packet's kernels run on is gone, or does not run one of them any more. */
  engineLost: 17,
} as const;
export type FaultCode = (typeof FaultCode)[keyof typeof FaultCode];

/** Of an input, which is what it is wherever it is read. */
export const INVALID_INPUT_FAULTS: readonly FaultCode[] = [
  FaultCode.invalidStream,
  FaultCode.streamOverLimit,
  FaultCode.notPlain,
  FaultCode.wrongDigest,
  FaultCode.invalidRange,
];

const OWN_FAULTS: ReadonlySet<number> = new Set([
  FaultCode.threw,
  FaultCode.timeLimit,
  FaultCode.memoryLimit,
  FaultCode.outputLimit,
  FaultCode.quarantined,
  FaultCode.badRecord,
  ...INVALID_INPUT_FAULTS,
]);

/** Whether a fault follows from the program and its input, so that it would come everywhere. */
export function isOwnFault(code: number): boolean {
  return OWN_FAULTS.has(code);
}

const ERROR_CODES: Readonly<Record<FaultCode, string>> = {
  [FaultCode.threw]: "PFS_PROGRAM_THREW",
  [FaultCode.timeLimit]: "PFS_PROGRAM_TIME_LIMIT",
  [FaultCode.memoryLimit]: "PFS_PROGRAM_MEMORY_LIMIT",
  [FaultCode.outputLimit]: "PFS_PROGRAM_OUTPUT_LIMIT",
  [FaultCode.quarantined]: "PFS_PACKET_QUARANTINED",
  [FaultCode.inputMissing]: "PFS_INPUT_MISSING",
  [FaultCode.badRecord]: "PFS_RECORD_INVALID",
  [FaultCode.badProgram]: "PFS_PROGRAM_INVALID",
  [FaultCode.cancelled]: "PFS_CANCELLED",
  [FaultCode.internal]: "PFS_INTERNAL",
  [FaultCode.stalled]: "PFS_PACKET_STALLED",
  [FaultCode.invalidStream]: "PFS_STREAM_INVALID",
  [FaultCode.streamOverLimit]: "PFS_STREAM_OVER_LIMIT",
  [FaultCode.notPlain]: "PFS_STREAM_NOT_PLAIN",
  [FaultCode.wrongDigest]: "PFS_DIGEST_WRONG",
  [FaultCode.invalidRange]: "PFS_RANGE_INVALID",
  [FaultCode.engineLost]: "PFS_ENGINE_LOST",
};

/** The stable string for a FAULT's number; a number from a newer peer is an internal error. */
export function faultErrorCode(code: number): string {
  return ERROR_CODES[code as FaultCode] ?? ERROR_CODES[FaultCode.internal];
}
