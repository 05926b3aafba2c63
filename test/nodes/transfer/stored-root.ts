/** A sender for tests: chunks and streams as they are stored, many in a message, each stream before what it names. */
import { zstdCompressSync } from "node:zlib";
import { Chunker } from "../../../packets/chunker.ts";
import { Codec } from "../../../packets/codec.ts";
import { refKey } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { PacketfsError } from "../../../packets/errors.ts";
import { Op } from "../../../packets/layout.ts";
import { atOf, fromAt, lengthAt, opAt, refOf } from "../../../packets/packet.ts";
import { DataForm, encodeRows } from "../../../nodes/transfer/replication/messages.ts";
import type { FileRequest } from "../../../nodes/transfer/replication/messages.ts";
import type { DataUnit } from "../../../nodes/transfer/replication/sender.ts";
import { SentRoot } from "../../../nodes/transfer/sent-root.ts";
import type { TransferChannelOptions } from "../../../nodes/transfer/transfer-channel.ts";
import type { Shelf } from "../../packets/execute.ts";
import { ShelfSource } from "../../runtime/stream/shelf-source.ts";

const MESSAGE_BYTES = 256 * 1024;
const CHUNKER = new Chunker({ minBytes: 4_096, averageBytes: 16_384, maxBytes: 65_536 });

/** Keeps the bytes as a file's chunks and streams. */
export function putFile(shelf: Shelf, bytes: Uint8Array, chunker: Chunker = CHUNKER): Ref {
  return shelf.write((writer) => {
    for (let start = 0; start < bytes.byteLength;) {
      const end = chunker.cut(bytes, start, bytes.byteLength, true);
      writer.copy(shelf.put(bytes.slice(start, end)), 0, end - start);
      start = end;
    }
  }).root;
}

export type StoredUnit = DataUnit<Uint8Array>;

function shelfLength({ shelf }: ShelfSource, root: Ref): number {
  return shelf.stream(root).length;
}

export class StoredRoot extends SentRoot {
  readonly #units: Iterator<StoredUnit, undefined>;
  /** Called with each message before it is sent. */
  readonly #change: (unit: StoredUnit) => StoredUnit;

  constructor(
    source: ShelfSource,
    root: Ref,
    resume: FileRequest["resume"] | undefined,
    signal: AbortSignal,
    change: (unit: StoredUnit) => StoredUnit = (unit) => unit,
  ) {
    super(source, { root, length: shelfLength(source, root), signal });
    this.#units = units(source.shelf, root, resume);
    this.#change = change;
  }

  override next(): Promise<StoredUnit | undefined> {
    const { value } = this.#units.next();
    return Promise.resolve(value === undefined ? undefined : this.#change(value));
  }
}

/** Sends a root of a shelf in this form; `sent` hears of each message, and may change it. */
export function storedOpener(
  source: ShelfSource,
  length: number,
  sent: (unit: StoredUnit) => StoredUnit = (unit) => unit,
): TransferChannelOptions["open"] {
  return ({ root, resume, resumeRoot }, signal) => {
    if (root === undefined || !source.shelf.has(root))
      return Promise.reject(new PacketfsError("PFS_NOT_FOUND", "no such root"));
    const isResumed = resumeRoot !== undefined;
    const stored = new StoredRoot(source, root, isResumed ? resume : undefined, signal, sent);
    return Promise.resolve({ info: { root, length, isResumed }, sent: stored });
  };
}

function* units(
  shelf: Shelf,
  root: Ref,
  resume: FileRequest["resume"] | undefined,
): Generator<StoredUnit, undefined> {
  let row: Uint8Array[] = [];
  let bytes = 0;
  for (const chunk of chunksOf(shelf, root, resume, 0, new Set())) {
    row.push(chunk);
    bytes += chunk.byteLength;
    if (bytes < MESSAGE_BYTES) continue;
    yield unitOf(shelf, row);
    [row, bytes] = [[], 0];
  }
  if (row.length > 0) yield unitOf(shelf, row);
  return undefined;
}

function* chunksOf(
  shelf: Shelf,
  ref: Ref,
  resume: FileRequest["resume"] | undefined,
  start: number,
  met: Set<string>,
): Generator<Uint8Array> {
  if (met.has(refKey(ref))) return;
  met.add(refKey(ref));
  const { frame, count, length } = shelf.stream(ref);
  if (length > 0 && resume?.covers(start, start + length) === true) return;
  yield shelf.get(ref);
  for (let index = 0; index < count; index++) {
    const op = opAt(frame, index);
    const at = start + atOf(frame, index);
    const named = refOf(frame, index);
    if (op === Op.CALL) yield* chunksOf(shelf, named, resume, at - fromAt(frame, index), met);
    if (op !== Op.COPY || met.has(refKey(named))) continue;
    met.add(refKey(named));
    if (resume?.covers(at, at + lengthAt(frame, index)) !== true) yield shelf.get(named);
  }
}

/** One in three is compressed, as it may be in a store. */
function unitOf(shelf: Shelf, chunks: readonly Uint8Array[]): StoredUnit {
  const stored = chunks.map((plain, index) => (index % 3 === 0 ? zstdCompressSync(plain) : plain));
  const body = new Uint8Array(Buffer.concat(stored));
  const packets = encodeRows({
    refs: Buffer.concat(chunks.map((plain) => shelf.put(plain))),
    storedBytes: Uint32Array.from(stored, ({ byteLength }) => byteLength),
    plainBytes: Uint32Array.from(chunks, ({ byteLength }) => byteLength),
    codec: Uint8Array.from(chunks, (_, index) => (index % 3 === 0 ? Codec.zstd : Codec.plain)),
  });
  return {
    form: DataForm.stored,
    packets,
    body,
    bodyBytes: body.byteLength,
    chunks: chunks.length,
    plainBytes: chunks.reduce((sum, { byteLength }) => sum + byteLength, 0),
    patchedChunks: 0,
    compressedChunks: Math.ceil(chunks.length / 3),
  };
}
