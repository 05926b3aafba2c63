/** A root on its way here, into a store: what of it is here, what is lacking, and what came. */
import { Codec, decompressAside } from "../../packets/codec.ts";
import { isRefOf, refAt, refKey } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { REF_BYTES, Op } from "../../packets/layout.ts";
import { CALL_DEPTH_MAX } from "../../packets/limits.ts";
import { atOf, fromAt, lengthAt, opAt, refOf } from "../../packets/packet.ts";
import { PatchKind } from "../../packets/patch.ts";
import { Stream } from "../../packets/stream-reader.ts";
import type { ChunkSource } from "../../runtime/contracts/chunks.ts";
import { PatchReceiver } from "../../runtime/stream/patch/receive-patches.ts";
import { TURN_STEP_PACKETS } from "../../runtime/limits.ts";
import { turnOver } from "../../runtime/turns.ts";
import { TRANSFER_COMPLAINTS_REFS_MAX, TRANSFER_LACKING_MAX } from "../limits.ts";
import { ByteRanges, invalidTransfer } from "./replication/byte-ranges.ts";
import { DataForm, decodeRows } from "./replication/messages.ts";
import type { DataHead, StoredRows } from "./replication/messages.ts";
import type { PlacedData } from "./replication/receiver.ts";
import { InOrder } from "./root-sink.ts";
import type { ReceiveContext, ReceivedBody, RootSink, SinkPresence } from "./root-sink.ts";

/** Where chunks come to. */
export interface ReceivingStore {
  /** Of bases, and of what was kept. */
  readonly source: ChunkSource;
  /** One byte (0 or 1) per 32-byte ref: which chunks are here, in their right bytes. */
  has(refs: Uint8Array): Promise<Uint8Array>;
  /** Keeps chunks that were verified: `source` has them when it resolves, and their bytes are given up. */
  keep(chunks: readonly { readonly ref: Ref; readonly bytes: Uint8Array }[]): Promise<void>;
  /**
   * Verifies and keeps chunks of data as they are stored, back to back in the body, which it may give away. One byte (0 or 1)
   * for each: which were what their refs say; the others were not kept. Without it they are verified before `keep`.
   */
  keepStored?(rows: StoredRows, body: Uint8Array<ArrayBuffer>): Promise<Uint8Array>;
}

/** A chunk or stream that is lacking: where its first byte would stand, and what of it is needed there. */
export interface Lacking {
  readonly ref: Ref;
  readonly isStream: boolean;
  readonly start: number;
  readonly from: number;
  readonly end: number;
}

/** Where the bytes of a stream stand, and what of them is needed. */
export type StreamPlace = Pick<Lacking, "start" | "from" | "end">;

/** What of a root is here. */
interface Presence {
  readonly ranges: ByteRanges;
  /** The first of what is not, in order. */
  readonly missing: readonly Lacking[];
}

/** Goes down what is here of a root. Rejects with PFS_PACKET_INVALID, PFS_STREAM_INVALID, and as reading its streams does. */
async function presenceOf(
  store: Pick<ReceivingStore, "source" | "has">,
  root: Ref,
  missingMax: number,
  signal: AbortSignal,
): Promise<Presence> {
  const ranges = new ByteRanges();
  const missing: Lacking[] = [];
  const met = new Set<string>();
  const visit = async (stream: Lacking, depth: number): Promise<void> => {
    if (met.has(refKey(stream.ref)) || missing.length >= missingMax) return;
    met.add(refKey(stream.ref));
    if ((await store.has(stream.ref))[0] !== 1) {
      missing.push(stream);
      return;
    }
    const [bytes] = await store.source.read([stream.ref], signal);
    const { frame, count } = Stream.parse(bytes!);
    const there = await chunksThere(frame, count, (refs) => store.has(refs));
    for (let index = 0; index < count && missing.length < missingMax; index++) {
      if (index % TURN_STEP_PACKETS === 0) {
        await turnOver();
        signal.throwIfAborted();
      }
      const op = opAt(frame, index);
      if (there[index] === 1) {
        const { from, end } = placeOf(frame, index, stream);
        ranges.add(from, end);
        continue;
      }
      const named = lackingOf(frame, index, stream);
      if (op === Op.CALL && depth < CALL_DEPTH_MAX) await visit(named, depth + 1);
      else if (op === Op.COPY && !met.has(refKey(named.ref))) {
        met.add(refKey(named.ref));
        missing.push(named);
      }
    }
  };
  await visit(rootOf(root), 0);
  return { ranges, missing };
}

/** A root itself, which stands for all of its bytes. */
export function rootOf(ref: Ref): Lacking {
  return { ref, isStream: true, start: 0, from: 0, end: Number.MAX_SAFE_INTEGER };
}

/** What is needed of what a packet of a stream yields: a CALL may be of a part of a stream, the rest of which stands nowhere. */
export function placeOf(
  frame: Uint8Array,
  index: number,
  stream: StreamPlace,
): { readonly from: number; readonly end: number } {
  const at = stream.start + atOf(frame, index);
  return { from: Math.max(at, stream.from), end: Math.min(at + lengthAt(frame, index), stream.end) };
}

/** What a COPY or CALL of a stream names. */
export function lackingOf(frame: Uint8Array, index: number, stream: StreamPlace): Lacking {
  return {
    ref: refOf(frame, index),
    isStream: opAt(frame, index) === Op.CALL,
    start: stream.start + atOf(frame, index) - fromAt(frame, index),
    ...placeOf(frame, index, stream),
  };
}

/** A byte (0 or 1) for each packet: whether the bytes that it yields are here. */
async function chunksThere(
  frame: Uint8Array,
  count: number,
  has: ReceivingStore["has"],
): Promise<Uint8Array> {
  const there = new Uint8Array(count);
  const copies: number[] = [];
  for (let index = 0; index < count; index++) {
    const op = opAt(frame, index);
    if (op === Op.COPY) copies.push(index);
    else if (op !== Op.CALL) there[index] = 1;
  }
  const refs = new Uint8Array(copies.length * REF_BYTES);
  copies.forEach((index, row) => refs.set(refOf(frame, index), row * REF_BYTES));
  const found = refs.byteLength === 0 ? refs : await has(refs);
  copies.forEach((index, row) => (there[index] = found[row]!));
  return there;
}

/** A chunk of a message; without bytes where they are not what its ref says. */
export interface MadeChunk {
  readonly ref: Ref;
  readonly bytes: Uint8Array | undefined;
  /** Whether bytes of a base were needed for it. */
  readonly isPatched: boolean;
}

/** The chunks of a message, verified. Rejects with PFS_PATCH_INVALID, and others, where nothing can be made of it. */
export async function* madeOf(
  { form, packets }: DataHead,
  body: Uint8Array,
  patches: PatchReceiver,
): AsyncGenerator<MadeChunk, void, undefined> {
  if (form !== DataForm.stored) {
    const kind = form === DataForm.streams ? PatchKind.streams : PatchKind.chunks;
    yield* patches.chunks({ kind, packets, body });
    return;
  }
  const { refs, storedBytes, plainBytes, codec } = decodeRows(packets, body.byteLength);
  let at = 0;
  for (const [row, stored] of storedBytes.entries()) {
    const ref = refAt(refs, row);
    const bytes = await decompressAside(body.subarray(at, at + stored), codec[row]!, plainBytes[row]!);
    at += stored;
    const isRight = bytes !== undefined && isRefOf(ref, bytes);
    yield { ref, bytes: isRight ? bytes : undefined, isPatched: false };
  }
}

export class ReceivedRoot implements RootSink {
  readonly #store: ReceivingStore;
  readonly #root: Ref;
  readonly #order = new InOrder();
  readonly #lacking = new Map<string, Lacking>();
  #context: ReceiveContext | undefined;
  #patches: PatchReceiver | undefined;
  #doneBytes = 0;

  constructor(store: ReceivingStore, root: Ref) {
    this.#store = store;
    this.#root = root;
    this.#lacking.set(refKey(root), rootOf(root));
  }

  async begin(context: ReceiveContext): Promise<SinkPresence> {
    const { bases, signal } = context;
    const missingMax = 1 + TRANSFER_COMPLAINTS_REFS_MAX;
    const { ranges, missing } = await presenceOf(this.#store, this.#root, missingMax, signal);
    this.#context = context;
    this.#patches = new PatchReceiver(this.#store.source, this.#root, bases, signal);
    this.#doneBytes = ranges.bytes;
    return { ranges, isWhole: missing.length === 0 };
  }

  async place(data: DataHead, body: ReceivedBody): Promise<PlacedData> {
    const { inRoom, onDone } = this.#context!;
    const placed = await this.#order.run(async ({ letPass, alone }) => {
      const isStored = data.form === DataForm.stored && this.#store.keepStored !== undefined;
      const rows = isStored ? decodeRows(data.packets, body.bytes) : undefined;
      const lacking = rows === undefined ? undefined : this.#lackingData(rows);
      if (lacking !== undefined) {
        letPass();
        return await inRoom(async () => await this.#placeStored(rows!, lacking, await body.take()));
      }
      // Streams come before what they name.
      await alone();
      return await inRoom(async () => await this.#placeMade(data, await body.take()));
    });
    for (const { from, end } of placed.covered) this.#doneBytes += end - from;
    onDone(this.#doneBytes);
    return placed;
  }

  async check(signal: AbortSignal): Promise<readonly Ref[]> {
    const { missing } = await presenceOf(this.#store, this.#root, TRANSFER_COMPLAINTS_REFS_MAX, signal);
    // Also such as were here when what names them came.
    for (const lacking of missing) this.#lacking.set(refKey(lacking.ref), lacking);
    return missing.map(({ ref }) => ref);
  }

  async #placeMade(data: DataHead, body: Uint8Array): Promise<PlacedData> {
    const result = { chunks: 0, plainBytes: 0, patchedChunks: 0, compressedChunks: 0 };
    const wrong: Ref[] = [];
    const covered: { from: number; end: number }[] = [];
    const kept = new Map<string, { ref: Ref; bytes: Uint8Array }>();
    for await (const { ref, bytes, isPatched } of madeOf(data, body, this.#patches!)) {
      this.#context!.signal.throwIfAborted();
      const lacking = this.#lacking.get(refKey(ref));
      if (lacking === undefined || kept.has(refKey(ref))) continue;
      if (bytes === undefined) {
        wrong.push(ref);
        continue;
      }
      result.chunks++;
      result.plainBytes += bytes.byteLength;
      if (isPatched) result.patchedChunks++;
      kept.set(refKey(ref), { ref, bytes });
      // Refs that it names are needed longer than what it came with.
      if (lacking.isStream)
        covered.push(...(await this.#stream(Stream.parse(new Uint8Array(bytes)), lacking)));
      else covered.push({ from: lacking.from, end: lacking.end });
    }
    if (body.byteLength < result.plainBytes) result.compressedChunks = result.chunks - result.patchedChunks;
    await this.#store.keep([...kept.values()]);
    this.#patches!.discard();
    // Of a message that is not read to its end nothing is kept: it all comes again.
    for (const key of kept.keys()) this.#lacking.delete(key);
    return { ...result, wrong, covered };
  }

  /** What is lacking of the rows, where that is all of them, each once, and no stream is among them. */
  #lackingData({ refs, codec }: StoredRows): Lacking[] | undefined {
    const rows = new Set<Lacking>();
    for (let row = 0; row < codec.length; row++) {
      const lacking = this.#lacking.get(refKey(refAt(refs, row)));
      if (lacking === undefined || lacking.isStream || rows.has(lacking)) return undefined;
      rows.add(lacking);
    }
    return [...rows];
  }

  async #placeStored(
    rows: StoredRows,
    lacking: readonly Lacking[],
    body: Uint8Array<ArrayBuffer>,
  ): Promise<PlacedData> {
    const good = await this.#store.keepStored!(rows, body);
    const result = { chunks: 0, plainBytes: 0, patchedChunks: 0, compressedChunks: 0 };
    const wrong: Ref[] = [];
    const covered: { from: number; end: number }[] = [];
    for (const [row, { ref, from, end }] of lacking.entries()) {
      if (good[row] !== 1) {
        wrong.push(ref);
        continue;
      }
      result.chunks++;
      result.plainBytes += rows.plainBytes[row]!;
      if (rows.codec[row] !== Codec.plain) result.compressedChunks++;
      covered.push({ from, end });
      this.#lacking.delete(refKey(ref));
    }
    return { ...result, wrong, covered };
  }

  /** What it names is lacking from now on, unless it is here. Returns the bytes that are. */
  async #stream(
    { frame, count }: Stream,
    stream: Lacking,
  ): Promise<{ readonly from: number; readonly end: number }[]> {
    const there = await chunksThere(frame, count, (refs) => this.#store.has(refs));
    const covered: { readonly from: number; readonly end: number }[] = [];
    for (let index = 0; index < count; index++) {
      const op = opAt(frame, index);
      if (there[index] === 1) covered.push(placeOf(frame, index, stream));
      else if (op === Op.COPY || op === Op.CALL) {
        const key = refKey(refOf(frame, index));
        if (this.#lacking.has(key)) continue;
        if (this.#lacking.size >= TRANSFER_LACKING_MAX)
          throw invalidTransfer("too much is lacking at a time");
        this.#lacking.set(key, lackingOf(frame, index, stream));
      }
    }
    return covered;
  }
}
