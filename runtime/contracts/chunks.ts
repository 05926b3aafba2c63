/** The seams between chunks and everything that reads or writes them. */
import type { Codec } from "../../packets/codec.ts";
import type { Ref } from "../../packets/digest.ts";
import type { Binding, NameCondition, NameRecord } from "./catalog.ts";

/**
 * Where chunks are read from: a store, a peer, or a chain of both. A call whose signal is aborted rejects with the signal's
 * own reason.
 */
export interface ChunkSource {
  /**
   * The plain bytes of each chunk, in the order asked, every one verified against its ref.
   * Rejects with PFS_CHUNK_MISSING {ref} or PFS_CHUNK_DAMAGED {ref}; nothing is returned then.
   */
  read(refs: readonly Ref[], signal?: AbortSignal): Promise<Uint8Array[]>;
  /** As `read`, in memory that nobody else has: whoever asked may free it (`discardPlain`), and has to know of refs that it asked for twice. */
  readOwn?(refs: readonly Ref[], signal?: AbortSignal): Promise<Uint8Array[]>;
}

/** A chunk as it is kept, so that it need not be decompressed and compressed again on its way to another store. */
export interface StoredChunk {
  readonly codec: Codec;
  readonly plainBytes: number;
  /** What `codec` made of the chunk; its plain bytes where that did not make them fewer. */
  readonly bytes: Uint8Array;
}

/** Knows how long chunks are without reading them. */
export interface ChunkSizes {
  /** The plain bytes of each chunk, by its 32-byte ref; 0 where there is none here, or its bytes are damaged. */
  sizes(refs: Uint8Array): Promise<Float64Array>;
}

/** Where chunks are on this machine's disk, for whoever reads many of them without a copy. All lists have a row for each. */
export interface ChunkRanges {
  /** By their paths; or by their descriptors, which stay open as long as they are held. */
  readonly files: readonly (string | number)[];
  /** Which of the files, and where in it the chunk's bytes begin as they are kept. */
  readonly file: Uint32Array;
  readonly offset: Float64Array;
  readonly storedBytes: Uint32Array;
  readonly plainBytes: Uint32Array;
  /** A `Codec` each. */
  readonly codec: Uint8Array;
}

/** Those in a store. */
export interface StoredPlaces extends ChunkRanges {
  readonly files: readonly string[];
  /** One number for file and place: nothing else ever stands there. */
  readonly place: Float64Array;
}

export interface ChunkPlaces {
  /**
   * Where the chunks of these refs stand, n × 32 bytes; undefined where one of them is not here, or is damaged. What stands
   * there is not verified, and gc may move it: files keep their bytes as long as they are there.
   */
  places(refs: Uint8Array): Promise<StoredPlaces | undefined>;
}

export interface PlainPlaces {
  /**
   * Where the chunks of these refs lie as they are, in files that may have changed since; undefined where one of them has no such place.
   * What is read there is to be verified.
   */
  plainPlaces(refs: readonly Ref[]): ChunkRanges | undefined;
  /** Keeps the descriptors open that it names, also when whoever opened them lets go. Returns what ends that. */
  hold(): () => void;
}

/** Pieces of chunks and where they belong in a file: all lists have a row for each. */
export interface PlacedPieces {
  /** Which of the chunks, where in it the piece begins, and its bytes. */
  readonly chunk: readonly number[];
  readonly from: readonly number[];
  readonly bytes: readonly number[];
  /** Where it begins in the file. */
  readonly at: readonly number[];
}

export interface ChunkPlacer extends ChunkSource {
  /**
   * Writes pieces of chunks, verified before, to an open file, by its descriptor, which has to stay open until this is settled. False
   * where the caller has to read and write them: some may be written then. Rejects with the signal's reason alone.
   */
  place(refs: readonly Ref[], pieces: PlacedPieces, file: number, signal?: AbortSignal): Promise<boolean>;
}

/** Where chunks are kept: a store, or the store of a peer. */
export interface ChunkStore extends ChunkSource {
  /** One byte (0 or 1) per 32-byte ref: which chunks are there already, those with damaged bytes not counted. */
  has(refs: Uint8Array, signal?: AbortSignal): Promise<Uint8Array>;
  /** Begins to write. Rejects, or its writer does, with PFS_STORE_READ_ONLY, PFS_STORE_CLOSED or (a peer's) PFS_NOT_ALLOWED. */
  openWriter(options?: StoreWriterOptions): Promise<StoreWriter>;
}

export interface StoreWriterOptions {
  /** What it writes is read soon and garbage then, so compressing it would cost more than the room it saves. */
  readonly isTemporary?: boolean;
}

/** A store that gives and takes chunks in the form in which it keeps them, too. */
export interface StoredFormStore extends ChunkStore {
  /** As `read`, but the chunks as they are kept. They are verified too: whoever passes on wrong bytes is taken for a liar. */
  readStored(refs: readonly Ref[], signal?: AbortSignal): Promise<StoredChunk[]>;
  openWriter(options?: StoreWriterOptions): Promise<StoredFormWriter>;
}

/** Where chunks are written to. */
export interface ChunkSink {
  /**
   * Takes chunks that stand back to back in `block`, `lengths[i]` bytes the i-th. The block's buffer is transferred:
   * the caller must not touch it again. Rejects with a RangeError for chunks that do not fill the block, of no bytes or more
   * than CHUNK_BYTES_MAX, and for more than WRITE_BLOCK_BYTES_MAX. Resolves with the chunks' refs, 32 bytes each, back to back. Calls may
   * overlap; how many is the caller's bound on memory.
   */
  write(block: Uint8Array<ArrayBuffer>, lengths: Uint32Array<ArrayBuffer>): Promise<WrittenChunks>;
}

export interface WrittenChunks {
  /** n × 32 bytes. */
  readonly refs: Uint8Array;
  /** Chunks that were not there before, their plain bytes, and the bytes they took at rest (or on the wire). */
  readonly newChunks: number;
  readonly newBytes: number;
  readonly storedBytes: number;
  /** One byte (0 or 1) per chunk: which were not there before, where the sink knows. */
  readonly isNew?: Uint8Array;
  /** The block's buffer, where the sink has no more use for it: fresh memory costs more than the copying it saves. */
  readonly buffer?: ArrayBuffer;
}

/** Protects chunks from gc until it is closed. */
export interface Lease extends AsyncDisposable {
  /**
   * One byte (0 or 1) per 32-byte ref: which chunks are there already. Those that are, are safe from gc from now on: so a
   * peer may leave out what it was told is there.
   */
  claim(refs: Uint8Array): Promise<Uint8Array>;
  /** What no name reaches and nothing else protects may be collected from now on. */
  close(): Promise<void>;
}

/**
 * Writes chunks, which are safe from gc until it is closed, and durable once flushed or named. One per put or lane; several
 * may be open at once.
 */
export interface StoreWriter extends ChunkSink, Lease {
  /** Everything written through this writer is durable when it resolves. */
  flush(): Promise<void>;
  /** Flushes, then binds the name as the store's catalog does: durable, and in that order. */
  bind(binding: Binding, condition?: NameCondition): Promise<NameRecord>;
}

/** Takes a small file and its name at once, where writing it and binding the name take longer than its bytes. */
export interface WholeFiles {
  /**
   * Writes the chunks of a file, its stream among them, as `ChunkSink.write` has them, PUT_WHOLE_BYTES_MAX at most, and binds the
   * name, as the catalog does: durable when it resolves. Rejects as these do; there is no name then.
   */
  putWhole(
    block: Uint8Array<ArrayBuffer>,
    lengths: Uint32Array<ArrayBuffer>,
    binding: Binding,
    condition?: NameCondition,
  ): Promise<WholePut>;
}

export interface WholePut extends WrittenChunks {
  readonly record: NameRecord;
}

/** A writer of a store that takes chunks as another one keeps them. */
export interface StoredFormWriter extends StoreWriter {
  /**
   * As `write`, of chunks in the form in which another store keeps them, back to back: they are decompressed to be verified,
   * and kept as they came. Rejects with PFS_CHUNK_DAMAGED {ref} for bytes that are not what `ref` says; nothing of the
   * block is kept then.
   */
  writeStored(block: Uint8Array<ArrayBuffer>, chunks: StoredForms): Promise<WrittenChunks>;
}

/** What the chunks of a block are, each a row of the lists. */
export interface StoredForms {
  /** n × 32 bytes. */
  readonly refs: Uint8Array;
  /** Bytes in the block, and those that they yield. */
  readonly lengths: Uint32Array<ArrayBuffer>;
  readonly plainLengths: Uint32Array<ArrayBuffer>;
  /** A `Codec` each. */
  readonly codecs: Uint8Array<ArrayBuffer>;
}
