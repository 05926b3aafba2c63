/** Writes what programs gave: chunks of any sizes, and streams of results that shall outlive their lane. */
import { refAt } from "../../packets/digest.ts";
import { PacketError, PacketErrorCode } from "../../packets/errors.ts";
import { Flag, INLINE_BYTES_MAX, Offset, Op, PACKET_BYTES } from "../../packets/layout.ts";
import { CHUNK_BYTES_MAX } from "../../packets/limits.ts";
import { flagsAt, lengthAt, opAt, packetCount, refOf, requirePacket } from "../../packets/packet.ts";
import { DATA_STREAM_BYTES_MAX, StreamWriter, dataStream } from "../../packets/stream-writer.ts";
import type { StreamSummary } from "../../packets/stream-writer.ts";
import { RESULT_BLOCK_BYTES, TURN_STEP_PACKETS } from "../limits.ts";
import type { ChunkSink } from "../contracts/chunks.ts";
import type { SpareMemory } from "../spare-memory.ts";
import { turnOver } from "../turns.ts";

/**
 * Writes the chunks (1 byte to CHUNK_BYTES_MAX each) and resolves with their refs, 32 bytes each, back to back. What is
 * written often is copied into `blocks`, of RESULT_BLOCK_BYTES each.
 */
export async function writeChunks(
  sink: ChunkSink,
  chunks: readonly Uint8Array[],
  blocks?: SpareMemory,
): Promise<Uint8Array> {
  const refs: Uint8Array[] = [];
  for (let first = 0; first < chunks.length;) {
    let end = first;
    let bytes = 0;
    while (end < chunks.length && (end === first || bytes + chunks[end]!.byteLength <= RESULT_BLOCK_BYTES)) {
      bytes += chunks[end++]!.byteLength;
    }
    const block = blocks?.take(bytes) ?? new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer);
    const lengths = new Uint32Array(end - first);
    let at = 0;
    for (let index = first; index < end; index++) {
      const chunk = chunks[index]!;
      block.set(chunk, at);
      at += chunk.byteLength;
      lengths[index - first] = chunk.byteLength;
    }
    const written = await sink.write(block, lengths);
    blocks?.giveBack(written.buffer);
    refs.push(written.refs);
    first = end;
  }
  return refs.length === 1 ? refs[0]! : Buffer.concat(refs);
}

/** Writes one stream of what `append` adds for each of `count` parts. Rejects with what it throws and the sink rejects with. */
export async function writeStream(
  sink: ChunkSink,
  count: number,
  append: (writer: StreamWriter, index: number) => void,
): Promise<StreamSummary> {
  let chunks: Uint8Array[] = [];
  let bytes = 0;
  const writer = new StreamWriter((_ref, chunk) => {
    chunks.push(chunk);
    bytes += chunk.byteLength;
  });
  const flush = async (): Promise<void> => {
    const full = chunks;
    chunks = [];
    bytes = 0;
    if (full.length > 0) await writeChunks(sink, full);
  };
  for (let index = 0; index < count; index++) {
    if (index % TURN_STEP_PACKETS === 0) await turnOver();
    append(writer, index);
    if (bytes > RESULT_BLOCK_BYTES) await flush();
  }
  const summary = writer.finish();
  await flush();
  return summary;
}

/**
 * Writes one stream of what the RETURN packets stand for, in their order. Rejects with PFS_PACKET_INVALID when `returns`
 * holds anything but RETURN packets, and with what the sink rejects with.
 */
export async function writeKeptStream(sink: ChunkSink, returns: Uint8Array): Promise<StreamSummary> {
  const count = packetCount(returns);
  if (returns.byteLength % PACKET_BYTES !== 0) throw notReturn(count, "shorter than 64 bytes");
  return await writeStream(sink, count, (writer, index) => appendResult(writer, returns, index));
}

/** A stream that was written. `length` are the bytes that it yields. */
export type KeptStream = Pick<StreamSummary, "root" | "length">;

/** The same for several streams of few results each, which were checked when they came and are written together. */
export async function writeKeptStreams(
  sink: ChunkSink,
  streams: readonly Uint8Array[],
): Promise<KeptStream[]> {
  const chunks: Uint8Array[] = [];
  /** Of each stream; the top is the last of its chunks. */
  const tops: { readonly chunk: number; readonly length: number }[] = [];
  for (const returns of streams) {
    await turnOver();
    const bytes = inlineBytes(returns);
    const isOne = bytes !== undefined && bytes.length <= DATA_STREAM_BYTES_MAX;
    if (isOne) chunks.push(dataStream(bytes));
    const length = isOne ? bytes.length : appendStream(chunks, returns);
    tops.push({ chunk: chunks.length - 1, length });
  }
  const refs = await writeChunks(sink, chunks);
  return tops.map(({ chunk, length }) => ({ root: refAt(refs, chunk), length }));
}

/** Adds the chunks of a stream of results, its top the last, and returns how many bytes it yields. */
function appendStream(chunks: Uint8Array[], returns: Uint8Array): number {
  const writer = new StreamWriter((_ref, chunk) => void chunks.push(chunk));
  for (let index = 0; index < packetCount(returns); index++) appendResult(writer, returns, index);
  return writer.finish().length;
}

/** What the RETURN packets yield together, where all of it stands in them. */
function inlineBytes(returns: Uint8Array): Uint8Array | undefined {
  const count = packetCount(returns);
  const bytes = new Uint8Array(count * INLINE_BYTES_MAX);
  let length = 0;
  for (let index = 0; index < count; index++) {
    if (opAt(returns, index) !== Op.RETURN || (flagsAt(returns, index) & Flag.INLINE) === 0) return undefined;
    const start = index * PACKET_BYTES + Offset.ref;
    const end = start + Math.min(lengthAt(returns, index), INLINE_BYTES_MAX);
    for (let at = start; at < end; at++) bytes[length++] = returns[at]!;
  }
  return bytes.subarray(0, length);
}

/** Adds what a RETURN packet stands for. Throws PFS_PACKET_INVALID when it is none. */
export function appendResult(writer: StreamWriter, returns: Uint8Array, index: number): void {
  requirePacket(returns, index);
  if (opAt(returns, index) !== Op.RETURN) throw notReturn(index, "not a RETURN");
  const flags = flagsAt(returns, index);
  const length = lengthAt(returns, index);
  const ref = refOf(returns, index);
  if (flags & Flag.INLINE) writer.data(ref.subarray(0, Math.min(length, INLINE_BYTES_MAX)));
  else if (flags & Flag.STREAM) writer.call(ref, 0, length);
  else if (length <= CHUNK_BYTES_MAX) writer.copy(ref, 0, length);
  else throw notReturn(index, "more bytes than a chunk holds");
}

function notReturn(index: number, reason: string): PacketError {
  return new PacketError(PacketErrorCode.invalidPacket, `packet ${index} is no result: ${reason}`, {
    index,
    reason,
  });
}
