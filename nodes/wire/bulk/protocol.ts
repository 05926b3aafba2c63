/** What a thread that has bulk channels and the thread that uses them say to each other. Channels and messages have numbers. */
import type { MessagePort } from "node:worker_threads";
import type { ErrorJson } from "../../../packets/errors.ts";
import type { Agreement } from "./keys.ts";

/** A file by its path, or by its descriptor, which stays open until the answer is there. */
export type FileName = string | number;

/** Bytes of files, one range after the other: rows of the lists. */
export interface FileRanges {
  readonly files: readonly FileName[];
  /** Which of the files, where in it, and how many bytes. */
  readonly file: Uint32Array;
  readonly offset: Float64Array;
  readonly bytes: Uint32Array;
}

/**
 * What becomes of a body that is made of chunks, back to back. Each is verified by its ref, and what it yields is written
 * where it belongs. Lists of n rows have one for each chunk.
 */
export interface Placement {
  /** n × 32 bytes. */
  readonly refs: Uint8Array;
  /** Bytes of the body, those that they yield, and a `Codec` each. */
  readonly storedBytes: Uint32Array;
  readonly plainBytes: Uint32Array;
  readonly codec: Uint8Array;
  /** Where they are written: which chunk, to which of the files, and where in it. A chunk may be written to several places. */
  readonly files: readonly FileName[];
  readonly targets: {
    readonly chunk: Uint32Array;
    readonly file: Uint32Array;
    readonly offset: Float64Array;
  };
  /** Whether the plain bytes of those that are right are wanted here, back to back. */
  readonly wantsPlain?: boolean;
}

export interface Placed {
  /** A byte (0 or 1) for each chunk: whether its bytes are what its ref says. Those, and no others, were written. */
  readonly good: Uint8Array;
  readonly plain?: Uint8Array<ArrayBuffer>;
}

/** What a body is, where there is one. */
export type OutBody =
  | { readonly kind: "none" }
  | { readonly kind: "bytes"; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: "ranges"; readonly ranges: FileRanges; readonly bytes: number };

export type ToBulk =
  /** Whoever connects with this ticket gets the channel. At ports only. */
  | { readonly kind: "expect"; readonly channel: number; readonly agreement: Agreement }
  | {
      readonly kind: "dial";
      readonly channel: number;
      readonly host: string;
      readonly port: number;
      readonly agreement: Agreement;
    }
  | {
      readonly kind: "send";
      readonly channel: number;
      readonly id: number;
      readonly type: number;
      readonly head: Uint8Array;
      readonly body: OutBody;
      readonly hasClearBody: boolean;
      /** What cannot be read of its body is sent as zeros. */
      readonly fillsUnreadable: boolean;
      /** What the channel's offload is to know of it (offload.ts). */
      readonly held?: unknown;
    }
  /** To the channel's offload. */
  | { readonly kind: "offload"; readonly channel: number; readonly said: unknown }
  /** What becomes of a message's body, which is where it came until one of these. */
  | { readonly kind: "take"; readonly channel: number; readonly message: number }
  | {
      readonly kind: "place";
      readonly channel: number;
      readonly message: number;
      readonly placement: Placement;
    }
  | { readonly kind: "drop"; readonly channel: number; readonly message: number }
  /** After what was to be sent, or at once: then nobody is expected for it any more, either. */
  | { readonly kind: "close"; readonly channel: number }
  | { readonly kind: "cut"; readonly channel: number }
  | { readonly kind: "end" };

export type FromBulk =
  | { readonly kind: "opened"; readonly channel: number }
  /** The system has these, in their order. */
  | { readonly kind: "sent"; readonly channel: number; readonly ids: readonly number[] }
  /** What it is made of could not be read. */
  | { readonly kind: "not-sent"; readonly channel: number; readonly id: number; readonly error: ErrorJson }
  | {
      readonly kind: "message";
      readonly channel: number;
      readonly message: number;
      readonly type: number;
      readonly head: Uint8Array;
      readonly bodyBytes: number;
      readonly hasClearBody: boolean;
    }
  | {
      readonly kind: "taken";
      readonly channel: number;
      readonly message: number;
      readonly body: Uint8Array<ArrayBuffer>;
    }
  | { readonly kind: "placed"; readonly channel: number; readonly message: number; readonly placed: Placed }
  | {
      readonly kind: "not-placed";
      readonly channel: number;
      readonly message: number;
      readonly error: ErrorJson;
    }
  /** From the channel's offload, of what came before all that follows. */
  | { readonly kind: "offloaded"; readonly channel: number; readonly said: unknown }
  | { readonly kind: "closed"; readonly channel: number; readonly error: ErrorJson }
  /** Its connection is closed, and all that came over it was taken, placed or dropped: the last word about it. */
  | { readonly kind: "gone"; readonly channel: number };

export interface BulkThreadData {
  readonly bulk: MessagePort;
}
