/** What the thread that uses a store and the thread that writes it say to each other. */
import type { ErrorJson } from "../../../packets/errors.ts";
import type { NameRecord } from "../../contracts/catalog.ts";
import type { StoredForms, WholePut, WrittenChunks } from "../../contracts/chunks.ts";

export interface WriterData {
  readonly directory: string;
  readonly lockWaitMs: number;
}

/** One call. `id` comes back with its answer. */
export type WriterRequest =
  /** Whoever asks chooses the number, and need not wait: what is asked next comes behind it. */
  | { readonly kind: "open-writer"; readonly writer: number; readonly isTemporary: boolean }
  | { readonly kind: "close-writer"; readonly writer: number }
  | {
      readonly kind: "write";
      readonly writer: number;
      /** Its buffer is transferred. */
      readonly block: Uint8Array<ArrayBuffer>;
      readonly lengths: Uint32Array<ArrayBuffer>;
    }
  | {
      readonly kind: "write-stored";
      readonly writer: number;
      /** Its buffer is transferred. */
      readonly block: Uint8Array<ArrayBuffer>;
      readonly chunks: StoredForms;
    }
  | { readonly kind: "claim"; readonly writer: number; readonly refs: Uint8Array }
  | { readonly kind: "flush"; readonly writer: number }
  | {
      readonly kind: "bind";
      readonly writer: number;
      readonly name: string;
      readonly root: Uint8Array;
      readonly length: number;
      readonly expected: number | undefined;
    }
  | {
      readonly kind: "put-whole";
      /** Its buffer is transferred. */
      readonly block: Uint8Array<ArrayBuffer>;
      readonly lengths: Uint32Array<ArrayBuffer>;
      readonly name: string;
      readonly root: Uint8Array;
      readonly length: number;
      readonly expected: number | undefined;
    }
  | { readonly kind: "remove-name"; readonly name: string; readonly expected: number | undefined }
  /** These chunks were read at these places and their bytes are wrong: n × 32 bytes, n places. */
  | { readonly kind: "damaged"; readonly refs: Uint8Array; readonly places: Float64Array }
  | { readonly kind: "rewrite"; readonly segment: number }
  | { readonly kind: "gc-begin" }
  /** Chunks that are to be kept, n × 32 bytes. */
  | { readonly kind: "gc-mark"; readonly refs: Uint8Array }
  /** Answers with roots that were named since, n × 32 bytes: when there are any, nothing was swept, and they are to be marked. */
  | { readonly kind: "gc-sweep" }
  /** A running sweep answers soon. */
  | { readonly kind: "gc-stop" }
  | { readonly kind: "gc-end" }
  /**
   * Builds the index again if it is still the one of that generation. The caller blocks on `done`, a word of shared memory
   * that becomes 1 (built) or 2 (failed).
   */
  | { readonly kind: "repair"; readonly generation: number; readonly done: Int32Array<SharedArrayBuffer> }
  | { readonly kind: "close" };

export interface WriteAnswer extends WrittenChunks {
  readonly refs: Uint8Array<ArrayBuffer>;
  /** Chunks among the new ones that were there before with wrong bytes. */
  readonly mendedChunks: number;
  /** PLACE_NUMBERS for each chunk that was not there before. */
  readonly places: Float64Array<ArrayBuffer>;
}

/** Index of the chunk in the block, place, stored bytes, plain bytes, codec. */
export const PLACE_NUMBERS = 5;

export interface SweepAnswer {
  readonly roots: Uint8Array;
  readonly keptChunks: number;
  readonly freedChunks: number;
  readonly freedBytes: number;
  readonly unreadableSegments: number;
}

/** What each kind of call answers with. */
export interface WriterAnswers {
  readonly "open-writer": undefined;
  readonly "close-writer": undefined;
  readonly write: WriteAnswer;
  readonly "write-stored": WriteAnswer;
  readonly claim: Uint8Array<ArrayBuffer>;
  readonly flush: undefined;
  readonly bind: NameRecord;
  readonly "put-whole": WriteAnswer & WholePut;
  readonly "remove-name": boolean;
  readonly damaged: undefined;
  /** Whether the segment could be read. */
  readonly rewrite: boolean;
  readonly "gc-begin": undefined;
  readonly "gc-mark": undefined;
  readonly "gc-sweep": SweepAnswer;
  readonly "gc-stop": undefined;
  readonly "gc-end": undefined;
  readonly repair: undefined;
  readonly close: undefined;
}

export type ToWriter = { readonly id: number; readonly request: WriterRequest };

export type FromWriter =
  /** The store is open; `generation` as in `repaired`. */
  | { readonly kind: "opened"; readonly id: Uint8Array; readonly notes: readonly string[] }
  | { readonly kind: "not-opened"; readonly error: ErrorJson }
  | { readonly kind: "answer"; readonly id: number; readonly value: unknown }
  | { readonly kind: "failed"; readonly id: number; readonly error: ErrorJson }
  /** Every chunk written before this place is in the index. */
  | { readonly kind: "committed"; readonly place: number }
  /** For people: what was found wrong, or is right again. */
  | { readonly kind: "note"; readonly text: string }
  /** A segment's file was removed: its bytes are free when nobody has it open any more. */
  | { readonly kind: "dropped"; readonly segment: number }
  /** The index file was replaced: connections to the old one are to be opened again. */
  | { readonly kind: "repaired"; readonly generation: number; readonly note: string };
