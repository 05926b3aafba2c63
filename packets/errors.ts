/**
 * Every error that PacketFS means for the world. Asserts are for our bugs and throw plain `Error`.
 *
 * Errors cross threads, processes and machines, where `instanceof` does not survive: match them by `code`.
 */
export interface ErrorJson {
  readonly code: string;
  readonly message: string;
  readonly data: ErrorData;
  readonly cause?: ErrorJson;
}

/** What an error carries beside its sentence. Values are plain, so that they survive JSON and MessagePack. */
export type ErrorData = Readonly<Record<string, string | number | boolean>>;

/** A layer's or part's own errors extend it with its table of codes. */
export class PacketfsError<Code extends string = string> extends Error {
  override readonly name: string = "PacketfsError";
  readonly code: Code;
  readonly data: ErrorData;

  constructor(code: Code, message: string, data: ErrorData = {}, options?: { readonly cause?: unknown }) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.data = data;
  }

  toJSON(): ErrorJson {
    const json = { code: this.code, message: this.message, data: this.data };
    return this.cause instanceof Error ? { ...json, cause: errorToJson(this.cause) } : json;
  }

  static fromJSON(json: ErrorJson): PacketfsError {
    const cause = json.cause === undefined ? undefined : PacketfsError.fromJSON(json.cause);
    return new PacketfsError(json.code, json.message, json.data, { cause });
  }
}

/** Any thrown value as plain data; what is not one of ours gets the code `PFS_INTERNAL`. */
export function errorToJson(error: unknown): ErrorJson {
  if (error instanceof PacketfsError) return error.toJSON();
  const system =
    error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
  return { code: "PFS_INTERNAL", message: messageOf(error), data: system === "" ? {} : { system } };
}

/** The sentence of any thrown value. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Whether `error` is one of ours with this code. */
export function hasCode(error: unknown, code: string): error is PacketfsError {
  return error instanceof PacketfsError && error.code === code;
}

/** A packet, stream or envelope that is not what SPEC.md says. */
export class PacketError extends PacketfsError<PacketErrorCode> {
  override readonly name: string = "PacketError";
}

export const PacketErrorCode = {
  /** A single packet is malformed; data: reason, index. */
  invalidPacket: "PFS_PACKET_INVALID",
  /** Valid packets that do not make a stream: gaps, no HALT, sums that do not add up; data: reason. */
  invalidStream: "PFS_STREAM_INVALID",
  /** Valid, but more than the caller's limit allows; data: limit, actual, of ("bytes" or "depth"). */
  overLimit: "PFS_STREAM_OVER_LIMIT",
  /** A wire envelope is malformed; data: reason. */
  invalidEnvelope: "PFS_ENVELOPE_INVALID",
  /** A patch that does not say which chunks it makes of which bytes, or does not make them; data: reason. */
  invalidPatch: "PFS_PATCH_INVALID",
  /** The program's packets must be executed by a job, not by reading bytes; data: op. */
  notPlain: "PFS_STREAM_NOT_PLAIN",
  /** What a directory's stream begins with is no manifest, or does not go with its files; data: reason, entry. */
  invalidTree: "PFS_TREE_INVALID",
  /** 32 bytes, or the text of builders, that are no packet code; data: reason. */
  invalidCode: "PFS_CODE_INVALID",
} as const;
export type PacketErrorCode = (typeof PacketErrorCode)[keyof typeof PacketErrorCode];
