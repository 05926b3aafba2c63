/** What a reader of chunks and the threads that read for it say to each other. */

/** Numbers in `rows` for each chunk: where its body begins in the run, its bytes there, plain bytes, and codec. */
export const ROW_NUMBERS = 4;

/** A run of records to be read and verified. */
export interface RunToRead {
  readonly id: number;
  /** A descriptor of this process; it stays open until the run is answered. */
  readonly file: number;
  readonly offset: number;
  readonly length: number;
  /** n × 32 bytes. */
  readonly refs: Uint8Array<ArrayBuffer>;
  /** n × ROW_NUMBERS. */
  readonly rows: Uint32Array<ArrayBuffer>;
  /** Whether bodies as they are stored are wanted, which are verified all the same. */
  readonly keepsBodies: boolean;
  /** Where the chunks are to be written to, instead of being handed over. */
  readonly target?: { readonly file: number; readonly pieces: Float64Array<ArrayBuffer> } | undefined;
}

/** Numbers in a target's `pieces` for each piece: which of the run's chunks, where in it, its bytes, and where in the file they go. */
export const PIECE_NUMBERS = 4;

export interface ReadAnswer {
  readonly id: number;
  /** What was read, shorter at the end of the file; of no bytes where nobody needs it. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** One byte (0 or 1) for each chunk: whether its bytes are what its ref says. */
  readonly good: Uint8Array<ArrayBuffer>;
  /** Room for the plain bytes of each chunk that is stored compressed, back to back; of no bytes where nobody needs them. */
  readonly plain: Uint8Array<ArrayBuffer>;
}

/** The system refused to read or write; `code` is its own. */
export interface ReadFailure {
  readonly id: number;
  readonly code: string;
  readonly message: string;
}

export type FromReadThread = ReadAnswer | ReadFailure;
